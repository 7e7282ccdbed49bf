"""Stages by name: what each needs, made in this process, or by a command of its own as notebooks do it."""

import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from neurovl import evaluation
from neurovl.errors import ConfigError, NeurovlError
from neurovl.pipeline.starting import profile_for, start
from neurovl.pipeline.training import (
    embed_targets,
    train_encoder,
    train_encoders,
    train_language,
    write_tokens,
)
from neurovl.run import Run
from neurovl.settings.profile_files import load_profile
from neurovl.stages import NotUpToDate, look_only

logger = logging.getLogger(__name__)

STAGES: dict[str, Callable[[Run], object]] = {
    "tokens": write_tokens,
    "targets": embed_targets,
    "encoders": train_encoders,
    "llm": train_language,
    "captions": evaluation.answer,
    "reconstructions": evaluation.reconstruct,
    "localization": evaluation.localize,
    "importance": evaluation.measure_importance,
    "adaptation": evaluation.curve_of_profile,
    "results": evaluation.score,
}


def stages_of(run: Run) -> list[str]:
    """The stages that a run's data allow, in order; languages need captions, maps need objects, and so on."""
    left_out = set()
    if not run.has_captions:
        left_out |= {"llm", "captions", "reconstructions"}
    if not evaluation.concepts(run):
        left_out.add("localization")
    return [name for name in STAGES if name not in left_out]


def needs(run: Run, name: str) -> list[str]:
    """The stages that one reads directly."""
    trained = run.profile.alignment.variants
    direct = {
        "tokens": [],
        "targets": [],
        "encoders": ["tokens", "targets"],
        "llm": ["encoders/main"],
        "captions": ["llm"],
        "reconstructions": ["llm", *(["encoders/no-vae"] if "no-vae" in trained else [])],
        "localization": ["encoders/main", *(["encoders/patches"] if "patches" in trained else [])],
        "importance": ["encoders/main"],
        "adaptation": [
            "encoders/main",
            *(f"encoders/{v}" for v in ("common", "plain") if v in trained),
        ],
        "results": stages_of(run)[:-1] if name == "results" else [],
    }
    return direct[name.partition("/")[0]]


def make(run: Run, name: str) -> None:
    """Make a stage of every fold, and those that it reads, in this process; what is up to date is left alone.

    Parameters
    ----------
    name : str
        One of `STAGES`, or one encoder such as 'encoders/main'.

    Raises
    ------
    ConfigError
        There is no such stage, or the data do not allow it.

    Examples
    --------
    >>> neurovl.make(run, "encoders/main")
    >>> (run.folder / "encoders" / "main" / "config.json").is_file()
    True
    """
    _require_stage(run, name)
    for one in _in_order(run, name):
        _make_alone(run, one)


def up_to_date(run: Run, name: str) -> bool:
    """Whether a stage and those that it reads are made, and nothing that they rest on changed.

    Examples
    --------
    >>> from neurovl.pipeline import up_to_date
    >>> up_to_date(run, "tokens")
    True
    """
    _require_stage(run, name)
    try:
        with look_only():
            for one in _in_order(run, name):
                _make_alone(run, one)
    except NotUpToDate:
        return False
    return True


def ensure(run: Run, name: str) -> None:
    """Make a stage where it is not up to date, by `neurovl make` in a process of its own.

    So a notebook's kernel holds no network while another trains, and killing it loses nothing: the same call goes on
    from the last checkpoint. Progress is passed on line by line.

    Raises
    ------
    NeurovlError
        The command failed; the message is its last line.

    Examples
    --------
    >>> neurovl.ensure(run, "tokens")
    """
    if up_to_date(run, name):
        return
    command = [sys.executable, "-m", "neurovl", "make", name, "--run", str(run.root)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        last = ""
        for line in process.stdout:
            last = line.strip() or last
            logger.info("%s", last)
    if process.returncode:
        raise NeurovlError(last.removeprefix("neurovl: ") or f"neurovl make {name} failed")


def reproduce(
    data: Path | str | None = None,
    out: Path | str = "runs/demo",
    profile: str | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> Run:
    """Everything from data to results.csv and claims.csv; a second call does only what is not up to date.

    Parameters
    ----------
    data : path, optional
        NSD folder, Haxby folder or table; simulated NSD where none is given.
    out : path
        The run folder.
    profile : str, optional
        Name or YAML file; by default 'demo', and 'haxby' for that data set.
    seed, device : optional
        Instead of the profile's own.

    Examples
    --------
    >>> again = neurovl.reproduce(data.root, out=run.root, profile=tiny)
    >>> again.tables.results.columns.tolist()[:3]
    ['data', 'system', 'condition']
    """
    run = start(data, out, load_profile(profile_for(data, profile), seed=seed, device=device))
    make(run, "results")
    return run


def _make_alone(run: Run, name: str) -> None:
    stage, _, variant = name.partition("/")
    if stage == "results":
        evaluation.score(run.all_folds())
        return
    for fold in run.all_folds():
        if variant:
            for one in fold.variants_of(variant):
                train_encoder(fold, one)
        else:
            STAGES[stage](fold)


def _in_order(run: Run, name: str) -> list[str]:
    """A stage after all that it needs."""
    found: list[str] = []
    for one in needs(run, name):
        found += [x for x in _in_order(run, one) if x not in found]
    return [*found, name]


def _require_stage(run: Run, name: str) -> None:
    stage, _, variant = name.partition("/")
    if stage not in STAGES or (variant and stage != "encoders"):
        raise ConfigError(
            f"there is no stage {name!r}, expected one of {', '.join(STAGES)}, or one encoder such as encoders/main: "
            "choose one of them"
        )
    if stage in ("llm", "captions", "reconstructions", "localization") and stage not in stages_of(
        run
    ):
        raise ConfigError(
            f"stage {stage} cannot be made of {run.recordings.name}, expected pictures with "
            f"{'objects' if stage == 'localization' else 'captions'}: make another of {', '.join(stages_of(run))}"
        )
