"""Stages by name: what each needs, made in this process, or by a command of its own as notebooks do it."""

from collections.abc import Callable
from pathlib import Path

from neurovl import evaluation, leaderboard
from neurovl.encoder.targets import texts_of
from neurovl.encoder.variants import ONE_EACH
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.language.llm_variants import language_variant
from neurovl.pipeline.compared_stages import (
    COMPARED,
    OF_A_SYSTEM,
    can_be_compared,
    needs_of_compared,
    require_system,
    systems_of,
)
from neurovl.pipeline.scheduling import Task, side_by_side
from neurovl.pipeline.starting import profile_for, start
from neurovl.pipeline.together import SHARED, in_own_process, launch, processes_for
from neurovl.pipeline.training import (
    embed_targets,
    train_encoder,
    train_language,
    write_tokens,
)
from neurovl.run import Run
from neurovl.settings.profile_files import load_profile
from neurovl.stages import look_only
from neurovl.training.devices import places, several
from neurovl.training.validation import HELD_OUT

# In the order in which they begin where several are ready: what takes longest, and is waited for most, first.
STAGES: dict[str, Callable] = {
    "tokens": write_tokens,
    "targets": embed_targets,
    "llm": train_language,
    "llms": train_language,
    "encoders": train_encoder,
    "calibration": evaluation.calibrate,
    "captions": evaluation.answer,
    "reconstructions": evaluation.reconstruct,
    "localization": evaluation.localize,
    "importance": evaluation.measure_importance,
    "adaptation": evaluation.curve_of_profile,
    "adaptation-words": evaluation.answer_new_subject,
    "imagery": evaluation.evaluate_imagery,
    "synthetic": evaluation.evaluate_synthetic,
    **COMPARED,
    "results": evaluation.score,
}


FURTHER = ("imagery", "synthetic")  # test sets beyond the run's own
SPOKEN = {
    "llm",
    "llms",
    "calibration",
    "captions",
    "adaptation-words",
    "reconstructions",
}  # of pictures with captions


def is_possible(run: Run, stage: str) -> bool:
    """Whether a run's data allow a stage: languages need captions, maps objects, further test sets their sessions."""
    if stage == "calibration" and HELD_OUT not in run.profile.language.variants:
        return False
    if stage in SPOKEN:
        return run.has_captions
    if stage in FURTHER:
        return stage in evaluation.available_sets(run)
    if stage in COMPARED:
        return can_be_compared(run, stage)
    return stage != "localization" or bool(evaluation.concepts(run))


def stages_of(run: Run) -> list[str]:
    """The stages that a run's data allow, in order."""
    return [name for name in STAGES if is_possible(run, name)]


def needs(run: Run, name: str) -> list[str]:
    """The stages that one reads directly."""
    trained = (*run.profile.alignment.variants, HELD_OUT)
    asked = [f"llms/{name}" for name in _others(run) if language_variant(name).asked]

    def encoders(*variants: str) -> list[str]:
        return [f"encoders/{v}" for v in variants if v in trained]

    stage, _, one = name.partition("/")
    if stage == "results":
        return [one for one in stages_of(run) if one not in ("results", *COMPARED)]
    if stage in COMPARED:
        return needs_of_compared(run, stage, one)

    def read_by(names: list[str]) -> list[str]:
        read = [language_variant(name).encoder for name in names]
        return [*encoders(*read), *(() if all(read) else ("tokens", "targets"))]

    direct = {
        "encoders": ["tokens", "targets"],
        "llm": encoders("main"),
        "llms": read_by([one] if one else _others(run)),
        "calibration": ["tokens", "targets", *encoders(HELD_OUT), f"llms/{HELD_OUT}"],
        "captions": ["llm", *asked, *evaluation.calibration_of(run.profile)],
        "reconstructions": ["llm", *asked, *encoders("no-vae", "patches", *ONE_EACH)],
        "localization": encoders("main", "patches"),
        "importance": encoders("main"),
        "adaptation": encoders("main", "common", "plain"),
        "adaptation-words": ["llm"],
        **dict.fromkeys(FURTHER, ["encoders"]),
    }
    return direct.get(stage, [])


def _others(run: Run) -> list[str]:
    """The language models beside the main one."""
    return [name for name in run.profile.language.variants if name != "main"]


def make(run: Run, *wanted: str, fold: int | None = None) -> None:
    """Make stages of every fold, and those that they read; what is up to date is left alone.

    Stages that do not read one another are made side by side, see `pipeline.scheduling`; language models are trained and
    pictures painted by all GPUs together, see `pipeline.together`.

    Parameters
    ----------
    *wanted : str
        Of `STAGES`, or one encoder such as 'encoders/main', one language model such as 'llms/flat', or what one system of
        the comparison takes, such as 'samples/mindeye'.
    fold : int, optional
        Of this fold alone, in each of several processes.

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
    for name in wanted:
        _require_stage(run, name)
    if several():
        for name in wanted:
            _share(run, name, fold)
        return
    names = list(dict.fromkeys(one for name in wanted for one in _in_order(run, name)))
    if "targets" in names:
        _require_something_to_learn(run)
    for first in ("tokens", "targets"):  # they tell which encoders there are, and use all cores
        if first in names:
            names.remove(first)
            _make_alone(run, first)
    tasks = _pending(run, _tasks(run, names))
    n = min(places(run.profile.compute), len(tasks))
    if n > 1:
        inner = {task: _needs_of(run, task, tasks) for task in tasks}
        wide = {task for task in tasks if processes_for(run.profile, task[1]) > 1}
        side_by_side(run, tasks, inner, make_or_launch, n, wide)
    elif tasks:
        for k, one in _sorted_by_needs(run, tasks):
            make_or_launch(run.all_folds()[k], one)


def _require_something_to_learn(run: Run) -> None:
    data = run.recordings
    if not data.has_images and not texts_of(data, data.trials.image_id.iloc[0]):
        raise DataError(
            f"{data.name} has neither pictures nor captions, expected one of them for the encoder to learn from: add the folder "
            "stimuli or captions.tsv"
        )


def make_or_launch(run: Run, name: str) -> None:
    """Make one stage of a fold, by as many processes as it has."""
    n = processes_for(run.profile, name)
    if n > 1:
        launch(run, name, n)
    else:
        make_one(run, name)


def _share(run: Run, name: str, fold: int | None) -> None:
    """A stage of one fold, or of all, by several processes; what it reads must be made."""
    if name.partition("/")[0] not in SHARED:
        raise ConfigError(
            f"neurovl make {name} was started in several processes, expected one: of the stages only llm, llms and "
            "reconstructions share their work among processes"
        )
    missing = [one for one in needs(run, name) if not up_to_date(run, one)]
    if missing:
        raise ConfigError(
            f"neurovl make {name} was started in several processes, expected {missing[0]} to be up to date: make it "
            f"first in one process, neurovl make {missing[0]} --run RUN"
        )
    for k, one in _tasks(run, [name]):
        if fold in (None, k):
            make_one(run.all_folds()[k], one)


def make_one(run: Run, name: str) -> None:
    """Make one stage of a fold, all that it reads being there; 'results' is of all folds."""
    stage, _, variant = name.partition("/")
    if stage == "results":
        evaluation.score(run.all_folds(), leaderboard.new_subject_curves(run))
    elif stage == "encoders":
        train_encoder(run, variant)
    elif stage == "llms":
        train_language(run, variant)
    elif stage in OF_A_SYSTEM:
        STAGES[stage](run, variant)
    else:
        STAGES[stage](run)


def up_to_date(run: Run, name: str) -> bool:
    """Whether a stage and those that it reads are made, and nothing that they rest on changed.

    Examples
    --------
    >>> from neurovl.pipeline import up_to_date
    >>> up_to_date(run, "tokens")
    True
    """
    _require_stage(run, name)
    names = _in_order(run, name)
    firsts = [(k, one) for one in ("tokens", "targets") if one in names for k in range(run.folds)]
    if not all(_is_done(run, task) for task in firsts):
        return False  # the encoders cannot be told without tokens
    rest = [one for one in names if one not in ("tokens", "targets")]
    return all(_is_done(run, task) for task in _tasks(run, rest))


def _is_done(run: Run, task: Task) -> bool:
    fold, name = task
    try:
        with look_only():
            make_one(run.all_folds()[fold], name)
    except MissingError:
        return False
    return True


def _pending(run: Run, tasks: list[Task]) -> list[Task]:
    """The tasks that are to be done: what is not up to date, and what reads something that will be done again."""
    again: set[Task] = set()
    for task in _sorted_by_needs(run, tasks):
        if again.intersection(_needs_of(run, task, tasks)) or not _is_done(run, task):
            again.add(task)
    return [task for task in tasks if task in again]


def _tasks(run: Run, names: list[str]) -> list[Task]:
    """Stages as tasks, one a fold, encoder and language model, those of `STAGES` that stand first before the others."""
    found: list[Task] = []
    for k, fold in enumerate(run.all_folds()):
        for name in sorted(names, key=lambda one: _rank(one)):
            stage, _, variant = name.partition("/")
            if stage == "results":
                found += [(0, name)] if k == 0 else []
            elif stage == "encoders":
                variants = fold.variants_of(variant) if variant else fold.variants()
                found += [(k, f"encoders/{one}") for one in variants]
            elif stage in ("llms", *OF_A_SYSTEM) and not variant:
                every = _others(run) if stage == "llms" else systems_of(run, stage)
                found += [(k, f"{stage}/{one}") for one in every]
            else:
                found.append((k, name))
    return list(dict.fromkeys(found))


def _rank(name: str) -> int:
    return list(STAGES).index(name.partition("/")[0])


def _needs_of(run: Run, task: Task, tasks: list[Task]) -> list[Task]:
    """The tasks among those given that one waits for."""
    fold, name = task
    if name == "results":
        return [
            other for other in tasks if other[1].partition("/")[0] not in ("results", *COMPARED)
        ]
    wanted = set(_tasks(run, needs(run, name)))
    return [other for other in tasks if other in wanted and other[0] == fold]


def _sorted_by_needs(run: Run, tasks: list[Task]) -> list[Task]:
    """Tasks in an order in which each comes after those that it waits for."""
    found: list[Task] = []
    while left := [task for task in tasks if task not in found]:
        waits = {task: set(_needs_of(run, task, tasks)) - set(found) for task in left}
        found.append(next(task for task in left if not waits[task]))
    return found


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
    if not up_to_date(run, name):
        in_own_process(run, name)


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
    make(run, *reproduced(run))
    return run


def reproduced(run: Run) -> list[str]:
    """The stages that `neurovl reproduce` ends with: the results, and the comparison where the data allow it."""
    return ["results", *(one for one in ("board",) if is_possible(run, one))]


def _make_alone(run: Run, name: str) -> None:
    for fold in run.all_folds():
        make_one(fold, name)


def _in_order(run: Run, name: str) -> list[str]:
    """A stage after all that it needs."""
    found: list[str] = []
    for one in needs(run, name):
        found += [x for x in _in_order(run, one) if x not in found]
    return [*found, name]


def _require_stage(run: Run, name: str) -> None:
    stage, _, variant = name.partition("/")
    if stage not in STAGES or (variant and stage not in ("encoders", "llms", *OF_A_SYSTEM)):
        raise ConfigError(
            f"there is no stage {name!r}, expected one of {', '.join(STAGES)}, or one encoder such as encoders/main, or one "
            "language model such as llms/flat: choose one of them"
        )
    if variant and stage in OF_A_SYSTEM:
        require_system(run, variant, stage)
    if variant and stage == "llms" and variant not in _others(run):
        raise ConfigError(
            f"there is no language model {variant!r} beside the main one, expected one of "
            f"{', '.join(_others(run)) or '(none)'}: add it to language.variants of the profile"
        )
    if not is_possible(run, stage):
        lacking = {"localization": "pictures with objects"} | {
            one: f"the session of NSD-{one} of every subject" for one in FURTHER
        }
        lacking["calibration"] = "captions, and held-out in language.variants of the profile"
        lacking |= dict.fromkeys(COMPARED, "pictures and one partition of them")
        raise ConfigError(
            f"stage {stage} cannot be made of {run.recordings.name}, expected "
            f"{lacking.get(stage, 'pictures with captions')}: make another of {', '.join(stages_of(run))}"
        )
