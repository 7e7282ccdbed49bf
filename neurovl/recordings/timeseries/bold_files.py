"""Finding preprocessed BOLD in BIDS derivatives, and the files that go with each run: sidecars, events, confounds, masks.

Names as fMRIPrep writes them: ``..._space-T1w_desc-preproc_bold.nii.gz`` with ``..._desc-brain_mask.nii.gz`` and
``..._desc-confounds_timeseries.tsv`` in a derivative, ``..._events.tsv`` in the raw data. A sidecar or a table of
events may also lie further up and hold for many runs (the inheritance principle of the BIDS specification).
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from neurovl.errors import DataError, MissingError
from neurovl.recordings.bids.bids_files import (
    NIFTI,
    SURFACE,
    BidsFile,
    brain_masks,
    fits,
    one_file_a_run,
    parse_name,
    same_label,
    scan,
)
from neurovl.recordings.region_files import natural


def find_bold(folder: Path, select: Mapping[str, str]) -> list[BidsFile]:
    """The preprocessed BOLD, one file a run, in order of subject, session and run.

    Raises
    ------
    MissingError
        If there is none; says so where it is on the surface or not preprocessed.
    DataError
        If two files hold the same run, as in two spaces, or there are several tasks.
    """
    wanted = {"desc": "preproc", **select}
    bold = [file for file in scan(folder, NIFTI) if file.suffix == "bold"]
    files = [file for file in bold if fits(file, wanted)]
    if files:
        return one_file_a_run(files, folder)
    surface = [n for _, _, names in os.walk(folder) for n in names if SURFACE.search(n)]
    labels = " ".join(f"{entity}-{label}" for entity, label in wanted.items())
    if bold:
        raise MissingError(
            f"{folder} has no BOLD with {labels}, expected such files beside {bold[0].path.name}: choose what is there with "
            "--select, such as space=T1w or desc=NAME; raw BOLD needs preprocessing first (fMRIPrep)"
        )
    if surface:
        raise MissingError(
            f"{folder} has data on the surface only, such as {min(surface)}, expected volumes (NIfTI): let fMRIPrep write the "
            "BOLD in a volume too (--output-spaces T1w)"
        )
    raise MissingError(
        f"{folder} has no BOLD, expected files such as sub-01_task-see_run-1_space-T1w_desc-preproc_bold.nii.gz: give the "
        "folder with --data or --derivative"
    )


def stem(file: BidsFile) -> str:
    """The name of a file of BOLD without what follows its entities, desc left out."""
    name = file.path.name
    name = name[: name.rindex("_bold.nii")]
    return "_".join(part for part in name.split("_") if not part.startswith("desc-"))


def going_with(
    run: BidsFile,
    suffixes: Sequence[str],
    ending: str,
    roots: Sequence[Path],
    descs: Sequence[str] = ("",),
) -> list[Path]:
    """Files that hold for a run by their names, those that hold for the most runs first.

    Parameters
    ----------
    run : BidsFile
    suffixes : sequence of str
        Such as 'events'.
    ending : str
        Such as '.tsv'.
    roots : sequence of Path
        Roots of the raw data and of the derivative.
    descs : sequence of str
        What the entity desc may be; '' where there is none.
    """
    found: dict[Path, None] = {}
    for root in dict.fromkeys(path.resolve() for path in roots):
        folders = [root, *(p for p in (root / f"sub-{run['sub']}",) if p.is_dir())]
        folders += [p for p in folders[-1].glob("ses-*") if same_label(p.name[4:], run["ses"])]
        places = [place for folder in folders for place in (folder, folder / "func")]
        for place in dict.fromkeys([*places, run.path.parent.resolve()]):
            for path in sorted(place.glob(f"*{ending}")) if place.is_dir() else ():
                entities, suffix = parse_name(Path(), path.name.removesuffix(ending))
                if (
                    suffix in suffixes
                    and entities.pop("desc", "") in descs
                    and _holds_for(entities, run)
                ):
                    found[path] = None
    return sorted(found, key=lambda path: path.name.count("_"))


def _holds_for(entities: Mapping[str, str], run: BidsFile) -> bool:
    return all(same_label(run[entity], label) for entity, label in entities.items())


def the_closest(paths: Sequence[Path], run: BidsFile, what: str, name: str, otherwise: str) -> Path:
    """The table that holds for a run alone, or else for the fewest; refused where two that differ do.

    Parameters
    ----------
    paths : sequence of Path
        As `going_with` gives them.
    run : BidsFile
    what, name, otherwise : str
        Of what it is a table, the end of its name, and what else can be done, for messages.

    Raises
    ------
    MissingError, DataError
    """
    if not paths:
        raise MissingError(
            f"{run.path.name} has no table of its {what}, expected one that ends in {name}: add it, or {otherwise}"
        )
    *_, last = paths
    rivals = [path for path in paths if path.name.count("_") == last.name.count("_")]
    if len({path.read_bytes() for path in rivals}) > 1:
        raise DataError(
            f"{run.path.name} has {len(rivals)} tables of its {what} that differ ({rivals[0].name} and {last.name} in other folders), "
            "expected one: remove the others"
        )
    return last


def sidecar(run: BidsFile, roots: Sequence[Path]) -> dict:
    """What the JSON files of a run say, the closest last."""
    said: dict = {}
    for path in going_with(run, ("bold",), ".json", roots, ("", run["desc"])):
        try:
            content = json.loads(path.read_text(encoding="utf-8-sig"))
        except (ValueError, OSError) as problem:
            raise DataError(
                f"{path.name} is not valid JSON ({problem}), expected text such as "
                '{"RepetitionTime": 2.5}: correct it'
            ) from problem
        if not isinstance(content, dict):
            raise DataError(
                f'{path.name} holds no object, expected text such as {{"RepetitionTime": 2.5}}: correct it'
            )
        said |= content
    return said


def run_masks(runs: Sequence[BidsFile], images: list[BidsFile]) -> list[BidsFile]:
    """The brain masks that were made for a subject's runs, each run's closest; empty where there are none."""
    found = []
    for run in runs:
        own = [
            mask
            for kind in brain_masks(f"sub-{run['sub']}", images)[:1]
            for mask in kind
            if _holds_for({**mask.entities, "desc": run["desc"]}, run)
        ]
        if not own:
            return []
        found.append(max(own, key=lambda mask: (len(mask.entities), natural(str(mask.path)))))
    return list({mask.path: mask for mask in found}.values())
