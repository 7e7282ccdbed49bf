"""A table planned from a BIDS data set before any volume is read, so that what is missing is said at once; and its writing."""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.betas.nifti_volumes import Volumes
from neurovl.recordings.bids.stimulus_files import find_pictures, image_ids, write_picture
from neurovl.recordings.region_files import matching, on_grid, open_here, write_region
from neurovl.recordings.splits import Split
from neurovl.recordings.table.table_files import read_about
from neurovl.recordings.table.table_writer import new_table, place, write_tables

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TablePlan:
    """What a table will hold.

    Attributes
    ----------
    trials : DataFrame
        ``subject``, ``session``, ``volume``, ``index``, ``stimulus``, ``image_id``, ``split``.
    split : str
        How the test pictures were chosen.
    pictures : dict
        The file of each picture.
    likes : dict
        For each subject a header with the grid of its volumes.
    masks : dict
        For each subject the files whose common voxels are its mask.
    rois : dict
        For each subject and region the files whose voxels are united.
    """

    trials: pd.DataFrame
    split: str
    pictures: dict[str, Path]
    likes: Mapping[str, Volumes]
    masks: Mapping[str, list[Volumes]]
    rois: Mapping[str, Mapping[str, list[Volumes]]]

    def write(
        self,
        out: Path,
        volumes: Mapping[str, Path],
        about: dict,
        captions: Sequence[tuple[str, str]] = (),
        more: Callable[[Path], object] | None = None,
    ) -> None:
        """Write the table with its volumes linked.

        Parameters
        ----------
        out : Path
            New folder; it appears when it is whole.
        volumes : dict
            Path within the table to the file.
        about : dict
            Content of dataset.json besides the split.
        captions : list of (image_id, caption)
        more : callable, optional
            Adds to the folder of the table, before it gets its name.
        """
        with new_table(out) as table:
            subjects = []
            for subject in self.trials.subject.unique():
                like = self.likes[subject]
                mask = write_region(table, subject, "mask", self.masks[subject], like, all)
                row = {"subject": subject, "mask": mask}
                for name, files in self.rois[subject].items():
                    row[name] = (
                        write_region(table, subject, name, files, like, any) if files else ""
                    )
                subjects.append(row)
            for name, path in volumes.items():
                place(path, table / name)
            for image_id, path in self.pictures.items():
                write_picture(path, table / "stimuli", image_id)
            rows = self.trials.assign(repeat="").to_dict("records")
            write_tables(table, rows, subjects, {**about, "split": self.split}, captions)
            if more is not None:
                more(table)


def plan_table(
    trials: pd.DataFrame,
    data: Path,
    split: Split,
    likes: Mapping[str, Volumes],
    masks: Mapping[str, list[Volumes]],
    rois: Mapping[str, str],
    stimuli: Path | None,
) -> TablePlan:
    """Choose the test pictures, and find pictures and regions.

    Parameters
    ----------
    trials : DataFrame
        A row for each trial: ``subject``, ``session``, ``volume``, ``index``, ``stimulus`` and what else the events say.
    data : Path
        Root of the data set.
    split : Split
    likes, masks : dict
        See `TablePlan`.
    rois : dict
        Name of a region to a pattern with ``{subject}``.
    stimuli : Path, optional
        Folder of the pictures; by default ``stimuli/`` of the data set.
    """
    trials = image_ids(trials)
    test, how = split.choose(trials)
    logger.info("split: %s", how)
    trials = trials.assign(split=np.where(trials.image_id.isin(test), "test", "train"))
    regions: dict[str, dict[str, list[Volumes]]] = {one: {} for one in trials.subject.unique()}
    for name, pattern in rois.items():
        for subject, own in regions.items():
            own[name] = [open_here(path, data) for path in matching(pattern, subject, data)]
            on_grid(own[name], likes[subject], f"the region {name} of {subject}")
        if not any(own[name] for own in regions.values()):
            raise MissingError(
                f"--roi {name}={pattern} names no file of any subject in {data}, expected some: "
                "correct the pattern, it may hold {subject} and *"
            )
    return TablePlan(trials, how, find_pictures(trials, data, stimuli), likes, masks, regions)


def describe(data: Path, folder: Path) -> dict:
    """Name, licence and terms from dataset_description.json, of the data set first."""
    texts: dict = {}
    for place_ in dict.fromkeys((folder, data)):
        texts |= _description(place_ / "dataset_description.json")
    name = re.sub(r"[/\\\s]+", " ", str(texts.get("Name") or data.resolve().name)).strip()
    terms = str(texts.get("HowToAcknowledge") or texts.get("DatasetDOI") or "")
    return {
        "name": name,
        "licence": str(texts.get("License") or "not stated (dataset_description.json)"),
        "terms": " ".join(terms.split()) or "not stated (dataset_description.json)",
        "publish_images": False,
    }


def _description(path: Path) -> dict:
    try:
        return {key: value for key, value in read_about(path).items() if isinstance(value, str)}
    except DataError as problem:
        raise DataError(str(problem).replace("dataset.json", path.name)) from problem
