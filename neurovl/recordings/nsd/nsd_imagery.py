"""NSD-Imagery: pictures seen, attended to and imagined in one further session of NSD, as a test set.

720 betas in the order of twelve runs. In a run of seeing or imagining each of six cues, a letter, comes eight times; which cue stands
in the column ``CONDITION`` of ``nsddata/bdata/nsdimagery/nsdimagery_subj0X_RUN.tsv``, a row for each trial. Set A are bars and crosses,
set B photographs, set C words without a picture, which are left out, as are the runs of attending. The pictures lie in
``nsddata/experiments/nsdimagery/rawtargetimages``. Voxels are z-scored within each run, without labels, as the benchmark does it.

Kneeland et al. 2025, CVPR (NSD-Imagery, arXiv 2506.06898); order of the runs, cues and names of the pictures after the public code
that reads the data set (MedARC-AI/MindEye_Imagery and others).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.recordings.base import subject_label
from neurovl.recordings.nsd.further_sessions import FurtherSession
from neurovl.recordings.nsd.imagery_pictures import TARGETS
from neurovl.recordings.nsd.nsd_files import BETAS
from neurovl.recordings.pictures import read_picture

if TYPE_CHECKING:
    from PIL.Image import Image

BEHAVIOUR = Path("nsddata/bdata/nsdimagery")
PICTURES = Path("nsddata/experiments/nsdimagery/rawtargetimages")
ORDER = (
    "visA attA imgA_1 visB attB imgB_1 visC attC imgC_1 imgA_2 imgB_2 imgC_2".split()
)  # of the runs in the file of betas
TRIALS, ATTENDED = 48, 96  # betas of a run of seeing or imagining, and of attending
REPEATS = 8  # of a cue in a run
WORDS = tuple("SZMYNF")  # cues of set C
SETS = {"A": "simple", "B": "complex"}
TASKS = {
    "seen": ("visA", "visB"),
    "imagined": ("imgA_1", "imgB_1", "imgA_2", "imgB_2"),
}


class ImageryRecordings(FurtherSession):
    """Pictures seen, or imagined, in the session of NSD-Imagery.

    Parameters
    ----------
    root, subjects, betas
        See `FurtherSession`.
    task : {'imagined', 'seen'}

    Raises
    ------
    ConfigError
        For another task.
    MissingError, DataError
        Files are missing, or are not as NSD has them.
    """

    session_name, n_volumes = "imagery", 720

    def __init__(
        self,
        root: str | Path,
        subjects: Sequence[str | int] | None = None,
        betas: str = BETAS,
        task: str = "imagined",
    ) -> None:
        if task not in TASKS:
            raise ConfigError(f"NSD-Imagery has no task {task!r}: choose from {', '.join(TASKS)}")
        self.task = task
        super().__init__(root, subjects, betas)

    def _trials_of(self, root: Path, subject: str) -> pd.DataFrame:
        parts = []
        for run in TASKS[self.task]:
            cues = read_cues(root, subject, run)
            targets = TARGETS[SETS[run[3]]]
            parts.append(
                pd.DataFrame(
                    {
                        "session": run,
                        "image_id": [targets[cue] for cue in cues],
                        "place": first_beta(run) + np.arange(TRIALS),
                    }
                )
            )
        table = pd.concat(parts, ignore_index=True)
        table["subject"], table["trial"], table["split"] = subject, range(len(table)), "test"
        table["repeat"] = table.groupby("image_id").cumcount()
        return table

    def image(self, image_id: str | int) -> "Image":
        """The picture that was seen or imagined."""
        stem = str(image_id)
        kind = next((kind for kind, cues in TARGETS.items() if stem in cues.values()), None)
        if kind is None:
            raise DataError(
                f"NSD-Imagery has no picture {image_id!r}: choose an image_id from trials"
            )
        letter = next(letter for letter, name in SETS.items() if name == kind)
        path = self.root / PICTURES / f"set{letter}" / f"{stem}.png"
        if not path.is_file():
            raise MissingError(
                f"{path} is missing, expected the picture of NSD-Imagery: neurovl download nsd --tests imagery --to DIR"
            )
        return read_picture(path, path.name)


def picture_set(image_id: str) -> str:
    """'simple' or 'complex', the set that a picture belongs to."""
    return next(kind for kind, cues in TARGETS.items() if image_id in cues.values())


def first_beta(run: str) -> int:
    """Position of a run's first trial among the 720 betas."""
    before = ORDER[: ORDER.index(run)]
    return sum(ATTENDED if name.startswith("att") else TRIALS for name in before)


def read_cues(root: Path, subject: str, run: str) -> list[str]:
    """The cue of each trial of a run of seeing or imagining, in order.

    Raises
    ------
    MissingError
        There is no such file.
    DataError
        It has no column CONDITION, or not each of the set's six cues eight times.
    """
    path = root / BEHAVIOUR / f"nsdimagery_{subject_label(subject)}_{run}.tsv"
    fetch = "neurovl download nsd --tests imagery --to DIR"
    if not path.is_file():
        raise MissingError(f"{path} is missing: {fetch}")
    try:
        cues = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)["CONDITION"].tolist()
    except (KeyError, ValueError) as problem:
        raise DataError(
            f"{path.name} cannot be read ({problem}), expected a table with the column CONDITION: {fetch} --verify"
        ) from problem
    known = TARGETS[SETS[run[3]]] if run[3] in SETS else WORDS
    if sorted(cues) != sorted([*known] * REPEATS):
        other = sorted(set(cues) - set(known))
        raise DataError(
            f"{path.name} holds {len(cues)} trials{f' and the cue {other[0]!r}' if other else ''}, expected each of "
            f"{', '.join(known)} {REPEATS} times: {fetch} --verify"
        )
    return cues


def imagery_files(subjects: Sequence[str]) -> list[Path]:
    """The files beside the betas that `ImageryRecordings` reads, relative to the NSD folder."""
    letters = {kind: letter for letter, kind in SETS.items()}
    pictures = [
        PICTURES / f"set{letters[kind]}" / f"{stem}.png"
        for kind, cues in TARGETS.items()
        for stem in cues.values()
    ]
    runs = [run for runs in TASKS.values() for run in runs]
    return pictures + [BEHAVIOUR / f"nsdimagery_{s}_{run}.tsv" for s in subjects for run in runs]
