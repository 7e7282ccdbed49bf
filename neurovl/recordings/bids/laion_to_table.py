"""LAION-fMRI as it is published, to a table: where its betas, masks, pictures, captions and splits are.

Layout, as its documentation (laion-fmri.hebartlab.com, pages on GLMsingle betas, stimuli and splits) and ``_paths.py`` of its
package (github.com/ViCCo-Group/LAION-fMRI) have it in 2026::

    derivatives/glmsingle-tedana/sub-01/sub-01_task-images_space-T1w_desc-meanR2gt15mask_mask.nii.gz
    derivatives/glmsingle-tedana/sub-01/ses-01/func/
        sub-01_ses-01_task-images_space-T1w_stat-effect_desc-SingletrialBetas_statmap.nii.gz
        sub-01_ses-01_task-images_desc-SingletrialBetas_trials.tsv      session run beta_index label
    stimuli/task-images_stimuli.h5, task-images_metadata.csv, task-images_desc-captions.csv

``beta_index`` counts a session's volumes from 0, ``label`` is the picture's file name. The pictures lie in the HDF5 dataset
``images``, a JPEG file an entry, in the order of the column ``image_name`` of the metadata (Brain-Score's reader of it says
so). Captions of people are taken, those of a language model (``source`` ai) are not. Splits come with the package, as
``laion_fmri/splits/data/POOL/NAME.json``. Some voxels at the mask's edge are NaN: preprocessing leaves them out.
"""

import importlib.util
import json
import logging
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError, NeurovlError
from neurovl.recordings.bids.bids_to_table import BidsChoice, convert_bids
from neurovl.recordings.splits import Partition, Split
from neurovl.recordings.table.table_files import read_table

logger = logging.getLogger(__name__)

DERIVATIVE = "glmsingle-tedana"
MASK = (
    f"derivatives/{DERIVATIVE}/{{subject}}/{{subject}}_task-images_space-T1w_"
    "desc-meanR2gt15mask_mask.nii.gz"
)
ABOUT = {
    "name": "LAION-fMRI",
    "licence": "CC0-1.0; the pictures: LAION-fMRI Data Use Agreement",
    "terms": "the pictures may not be passed on, used commercially, or train general-purpose models",
}
PACKAGE = "laion-fmri @ git+https://github.com/ViCCo-Group/LAION-fMRI.git"


def convert_laion(
    data: Path, out: Path, split: str, mask: str | None = None, rois: dict[str, str] | None = None
) -> Path:
    """Write a table from LAION-fMRI's single-trial betas.

    Parameters
    ----------
    data : Path
        The folder that ``laion-fmri download`` fills.
    out : Path
        New folder; it appears when it is whole.
    split : str
        One of the package's splits as POOL/NAME, such as 'shared/tau', 'shared/cluster_k5_0' or 'sub-01/ood', or the path of
        its file. Pictures that it does not name are left out; of a subject's pool, that subject's trials alone are taken.
    mask, rois
        As for `BidsChoice`; by default the data set's own mask and no regions.

    Raises
    ------
    MissingError, DataError
        One sentence for what is missing or does not fit together.
    """
    data, out = Path(data), Path(out)
    partition, subject = read_partition(split)
    names = partition.train | partition.test
    folder = Path(os.path.abspath(out))
    folder = folder.with_name(f".{folder.name}.pictures")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        choice = BidsChoice(
            derivative=DERIVATIVE,
            suffix="statmap",
            table="trials",
            select={"desc": "SingletrialBetas"} | ({"sub": subject} if subject else {}),
            stimulus="label",
            mask=mask or MASK,
            rois=rois or {},
            stimuli=unpack_pictures(data / "stimuli", names & _shown(data), folder),
            captions=read_sentences(data / "stimuli/task-images_desc-captions.csv"),
            about=ABOUT,
        )
        return convert_bids(data, out, Split(partition=partition), choice)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_partition(text: str) -> tuple[Partition, str | None]:
    """A split of the package, by POOL/NAME or by the path of its file; and the subject whose pool it is.

    Raises
    ------
    MissingError
        There is no such file, and no such split in an installed ``laion_fmri``.
    DataError
        It does not hold the one partition that such a file has.
    """
    path, found = Path(text), importlib.util.find_spec("laion_fmri")
    if not path.is_file() and found and found.submodule_search_locations:
        path = Path(found.submodule_search_locations[0]) / "splits/data" / f"{text}.json"
    if not path.is_file():
        raise MissingError(
            f"--split {text} is no file{'' if found else ', and the package laion-fmri is not installed'}, expected a split of that "
            f"package such as shared/tau, shared/cluster_k5_0, shared/ood or sub-01/tau, or the path of its .json file: "
            f"pip install '{PACKAGE}', or copy the file from there"
        )
    try:
        (variant,) = json.loads(path.read_text(encoding="utf-8"))["variants"]
        train, test = (frozenset(map(str, variant[key])) for key in ("train_ids", "test_ids"))
    except (ValueError, KeyError, TypeError, OSError) as problem:
        raise DataError(
            f"{path.name} is no split of LAION-fMRI ({type(problem).__name__}: {problem}), expected JSON with one of 'variants' "
            "that has 'train_ids' and 'test_ids': copy it again from the package laion-fmri"
        ) from problem
    pool = re.fullmatch(r"sub-([A-Za-z0-9]+)", path.resolve().parent.name)
    name = f"{path.resolve().parent.name}/{path.stem}"
    return Partition(name, train, test), pool and pool[1]


def _shown(data: Path) -> set[str]:
    """The pictures of all tables of trials."""
    tables = (data / "derivatives" / DERIVATIVE).rglob("sub-*_trials.tsv")
    return {name for path in tables for name in read_table(path, ["label"]).label}


def unpack_pictures(stimuli: Path, names: Iterable[str], folder: Path) -> Path | None:
    """Write the files of some pictures; None where the archive is not there, as its terms must be agreed to first.

    Parameters
    ----------
    stimuli : Path
        With task-images_stimuli.h5 and task-images_metadata.csv.
    names : iterable of str
    folder : Path
        New.

    Raises
    ------
    DataError
        Archive and metadata do not fit together, or lack a picture.
    """
    import h5py

    archive = stimuli / "task-images_stimuli.h5"
    if not archive.is_file():
        logger.info("no %s: text targets alone can be trained", archive.name)
        return None
    rows = _read_csv(stimuli / "task-images_metadata.csv", ["image_name"]).image_name
    folder.mkdir(parents=True)
    try:
        with h5py.File(archive, "r") as file:
            images = file["images"]
            if len(images) != len(rows) or rows.duplicated().any():
                raise DataError(
                    f"{archive.name} holds {len(images)} pictures and task-images_metadata.csv names {rows.nunique()} in "
                    f"{len(rows)} rows, expected one row a picture: fetch both again with laion-fmri download-stimuli"
                )
            place = pd.Series(np.arange(len(rows)), rows)
            for name in sorted(names):
                if name not in place or Path(name).name != name:
                    raise DataError(
                        f"task-images_metadata.csv has no picture {name!r}, which a table of trials names, expected all: fetch "
                        "it again with laion-fmri download-stimuli"
                    )
                (folder / name).write_bytes(np.asarray(images[place[name]], np.uint8).tobytes())
    except NeurovlError:
        raise
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as problem:
        raise DataError(
            f"{archive.name} cannot be read ({problem}), expected the HDF5 dataset images with a JPEG file an entry: fetch it "
            "again with laion-fmri download-stimuli"
        ) from problem
    return folder


def read_sentences(path: Path) -> dict[str, list[str]]:
    """People's captions by the name of the picture; none where there is no such file."""
    if not path.is_file():
        return {}
    table = _read_csv(path, ["image_name", "source", "caption"])
    if odd := set(table.source) - {"human", "ai"}:
        raise DataError(
            f"{path.name} has captions of the source {min(odd)!r}, expected human or ai: fetch it again with laion-fmri "
            "download-captions"
        )
    human = table[table.source == "human"]
    return human.groupby("image_name").caption.apply(list).to_dict()


def _read_csv(path: Path, columns: list[str]) -> pd.DataFrame:
    """A table with commas, all cells as text."""
    if not path.is_file():
        raise MissingError(
            f"{path} is missing, expected it beside the pictures: laion-fmri download-stimuli"
        )
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as problem:
        raise DataError(
            f"{path.name} is no table in UTF-8 with commas ({problem}), expected one: fetch it again with laion-fmri download"
        ) from problem
    if missing := [column for column in columns if column not in table]:
        raise DataError(
            f"{path.name} has the columns {', '.join(table.columns)}, expected also {', '.join(missing)}: fetch it again with "
            "laion-fmri download"
        )
    return table
