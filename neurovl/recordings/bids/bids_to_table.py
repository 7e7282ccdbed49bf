"""From BIDS derivatives with single-trial betas to a table.

A beta file (x, y, z, trials) of a run or a session and the table of its trials give rows of trials.tsv;
subjects, sessions and runs come from the entities in the names. Files are linked, not changed. Leaves out
betas on the surface and estimating betas.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import DataError
from neurovl.recordings.atlas_regions import add_regions, check_atlas
from neurovl.recordings.betas.nifti_volumes import Volumes, apart, lie_alike
from neurovl.recordings.bids.bids_files import (
    NIFTI,
    BidsFile,
    derivative_folder,
    find_betas,
    find_trials,
    named_by,
    picture_column,
    scan,
)
from neurovl.recordings.bids.bids_masks import masks_of
from neurovl.recordings.bids.table_plan import describe, plan_table
from neurovl.recordings.region_files import open_here
from neurovl.recordings.splits import Split

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BidsChoice:
    """What to take of a BIDS data set, where it leaves a choice.

    Attributes
    ----------
    derivative : str, optional
        Folder below ``derivatives/`` (or below the data) that holds the betas.
    suffix, table : str, optional
        How the names of the betas and of their tables end, such as 'betas' and 'conditions'.
    select : dict
        Entities that the betas' names must have, such as ``{'task': 'things', 'space': 'T1w'}``.
    stimulus : str, optional
        Column of the tables that names the picture.
    drop : tuple of str
        Patterns (``catch*``) of pictures or trial types to leave out.
    mask : str, optional
        Pattern of the masks' paths with ``{subject}``; several files of a subject are intersected.
    rois : dict
        Name of a region to such a pattern; several files of a subject are united.
    atlas, labels : str, optional
        See `add_regions`.
    stimuli : Path, optional
        Folder of the pictures; by default ``stimuli/`` of the data set.
    order : str, optional
        Order of the volumes where the tables leave it open: 'onset' of their rows, or 'rows' as they are.
    captions : mapping
        Sentences by the picture's name in the tables.
    about : mapping
        Entries of dataset.json that are known better than dataset_description.json says.
    """

    derivative: str | None = None
    suffix: str | None = None
    table: str | None = None
    select: dict[str, str] = field(default_factory=dict)
    stimulus: str | None = None
    drop: tuple[str, ...] = ()
    mask: str | None = None
    rois: dict[str, str] = field(default_factory=dict)
    atlas: str | None = None
    labels: str | None = None
    stimuli: Path | None = None
    order: str | None = None
    captions: Mapping[str, list[str]] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)


def convert_bids(
    data: Path,
    out: Path,
    split: Split | None = None,
    choice: BidsChoice | None = None,
    zscore: str = "session",
) -> Path:
    """Write a table from a BIDS data set's single-trial betas.

    Parameters
    ----------
    data : Path
        Root of the data set, or of a derivative alone.
    out : Path
        New folder; it appears when it is whole.
    split : Split
        Which pictures are tested; by default those that the tables of trials mark as test.
    choice : BidsChoice
    zscore : str
        'session' or 'subject', see `TableRecordings`.

    Raises
    ------
    MissingError, DataError, ConfigError
        One sentence for what is missing, ambiguous or does not fit together.
    """
    data, split, choice = Path(data), split or Split(), choice or BidsChoice()
    check_atlas(choice.atlas, choice.labels, data)
    folder = derivative_folder(data, choice.derivative)
    betas = find_betas(folder, choice.suffix, choice.select)
    headers = _one_grid_a_subject(betas, data)
    trials = split.keep(_trials(betas, headers, folder, data, choice))
    images = scan(data, NIFTI) if choice.mask is None else []
    likes: dict[str, Volumes] = {}
    for file, header in headers.items():
        likes.setdefault(f"sub-{file['sub']}", header)
    masks = {
        subject: masks_of(subject, likes[subject], images, data, choice.mask)
        for subject in trials.subject.unique()
    }
    plan = plan_table(trials, data, split, likes, masks, choice.rois, choice.stimuli)
    named = plan.trials.drop_duplicates("image_id")
    captions = [
        (image_id, text)
        for image_id, name in zip(named.image_id, named.stimulus, strict=True)
        for text in choice.captions.get(name, ())
    ]
    units = {"units": "as in the derivative"}
    plan.write(
        out,
        {_inside(file, folder): file.path for file in betas},
        {**describe(data, folder), **units, **choice.about, "zscore": zscore},
        captions,
        partial(add_regions, pattern=choice.atlas, labels=choice.labels, data=data)
        if choice.atlas
        else None,
    )
    return Path(out)


def _inside(file: BidsFile, folder: Path) -> str:
    return f"betas/{file.path.relative_to(folder).as_posix()}"


def _one_grid_a_subject(betas: list[BidsFile], data: Path) -> dict[BidsFile, Volumes]:
    headers: dict[BidsFile, Volumes] = {}
    first: dict[str, Volumes] = {}
    for file in betas:
        header = open_here(file.path, data)
        like = first.setdefault(file["sub"], header)
        if not lie_alike(header, like):
            raise DataError(
                f"{header.name} {apart(header, like)}, expected one grid for all betas of "
                f"sub-{file['sub']}: take betas of one space (--select space=T1w)"
            )
        headers[file] = header
    return headers


def _trials(
    betas: list[BidsFile],
    headers: Mapping[BidsFile, Volumes],
    folder: Path,
    data: Path,
    choice: BidsChoice,
) -> pd.DataFrame:
    """A row for each trial kept: subject, session, volume, index, stimulus and the tables' columns."""
    tables = [*scan(folder, (".tsv",))]
    tables += [] if folder == data else scan(data, (".tsv",))
    tables = list({table.path: table for table in tables}.values())
    parts, n_empty, n_dropped = [], 0, 0
    for file in betas:
        rows, name = find_trials(file, data, tables, choice.table, choice.select, choice.order)
        stimulus = picture_column(rows, name, choice.stimulus)
        rows = _fit_rows(rows, stimulus, headers[file], name).reset_index(drop=True)
        own = {"subject", "session", "volume", "index", "image_id", "repeat", "trial", "stimulus"}
        part = rows.drop(columns=[column for column in rows if column in own])
        part = part.assign(
            stimulus=rows[stimulus],
            subject=f"sub-{file['sub']}",
            session=file["ses"] or "1",
            volume=_inside(file, folder),
            index=np.arange(len(rows)),
        )
        shown = (part.stimulus != "").to_numpy()
        kept = shown & ~named_by(part, choice.drop)
        n_empty, n_dropped = n_empty + int((~shown).sum()), n_dropped + int((shown & ~kept).sum())
        parts.append(part[kept])
    trials = pd.concat(parts, ignore_index=True).fillna("")
    logger.info(
        "%d trials of %d beta files; %d without a picture and %d dropped",
        len(trials),
        len(betas),
        n_empty,
        n_dropped,
    )
    if trials.empty:
        raise DataError("no trial is left, expected some with a picture: drop fewer (--drop)")
    return trials


def _fit_rows(rows: pd.DataFrame, stimulus: str, header: Volumes, name: str) -> pd.DataFrame:
    """As many rows as volumes: all of the table, or those that name a picture."""
    shown = rows[rows[stimulus] != ""]
    n_volumes = header.shape[3]
    for candidate in (rows, shown):
        if len(candidate) == n_volumes:
            return candidate
    raise DataError(
        f"{header.name} holds {n_volumes} volumes and {Path(name).name} has {len(rows)} trials, {len(shown)} of "
        f"them with a picture ({stimulus}), expected as many: give the table that belongs to the "
        "betas (--table), or the column that names the pictures (--stimulus)"
    )
