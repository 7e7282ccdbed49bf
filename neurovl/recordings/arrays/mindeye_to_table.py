"""From the arrays that MindEye2 released to a table: NSD's betas within nsdgeneral, and which trial saw what.

Facts from MedARC-AI/MindEyeV2: ``betas_all_subj01_fp32_renorm.hdf5`` holds `betas` (trials, voxels), z-scored within each session,
its row the trial's number in the whole experiment from 0 (``src/Train.ipynb`` reads it by column 5 of ``behav``). The columns are
as ``src/dataset_creation.ipynb`` and the README's lookup table have them: 0 is the picture's number among NSD's 73,000 from 0, 1 the
subject, 2 the session from 1, 5 the trial, (session - 1) * 750 + its place in the session, 16 whether the picture is one of the
shared 1000. They lie as ``NAME.behav.npy`` in tar files ``wds/subj01/{train,new_test}/N.tar``; ``test`` holds the shared pictures
of NSD's first sessions only, and the data's README says to use ``new_test``. Voxels were taken with a flattened mask from
flattened volumes (x, y, z) of the NIfTI betas, both in numpy's C order. Pictures are `images` (73000, 3, 224, 224) from 0 to 1 in
``coco_images_224_float16.hdf5``.

Leaves out MindEye1's ``webdataset_avg_split``: what its ``trial.npy`` and ``num_uniques.npy`` mean, which session a sample comes
from and the order of its voxels are written down nowhere.
"""

import io
import logging
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from neurovl.errors import ConfigError, DataError, MissingError, NeurovlError
from neurovl.recordings.arrays.arrays_to_table import ArraysChoice, write_arrays
from neurovl.recordings.splits import Split

logger = logging.getLogger(__name__)

BETAS = "betas_all_{subject}_fp32_renorm.hdf5"
IMAGES = "coco_images_224_float16.hdf5"
PER_SESSION, N_IMAGES, N_COLUMNS = 750, 73000, 17
IMAGE, SUBJECT, SESSION, TRIAL, SHARED = 0, 1, 2, 5, 16  # columns of behav


def convert_mindeye(
    data: Path,
    out: Path,
    choice: ArraysChoice,
    subjects: Sequence[str | int] | None = None,
    zscore: str = "session",
) -> Path:
    """Write a table from MindEye2's released arrays; the shared 1000 are tested, as there.

    Parameters
    ----------
    data : Path
        Folder with ``betas_all_subj01_fp32_renorm.hdf5`` and ``wds/subj01``; pictures are taken where
        ``coco_images_224_float16.hdf5`` lies beside.
    out : Path
        New folder; it appears when it is whole.
    choice : ArraysChoice
        Its mask, NSD's ``nsdgeneral.nii.gz`` on the 1.8 mm grid, its regions and its atlas are taken; the rest is known.
    subjects : sequence of str or int, optional
        All that are there by default; ``1`` stands for ``'subj01'``.
    zscore : str
        'session' or 'subject', see `TableRecordings`.

    Raises
    ------
    MissingError, DataError, ConfigError
        One sentence for what is missing, or not as MindEye2 wrote it.
    """
    data = Path(data)
    found = sorted(path.name.split("_")[2] for path in data.glob(BETAS.format(subject="*")))
    names = [_subject(one) for one in (found if subjects is None else subjects)]
    missing = [name for name in names if name not in found]
    if missing or not names:
        raise MissingError(
            f"{data} has no {BETAS.format(subject=(missing or ['subj01'])[0])}, expected MindEye2's betas: give the folder that holds them"
        )
    trials = pd.concat([_trials(data, name) for name in names], ignore_index=True)
    units = "z-scores within a session"
    choice = replace(
        choice, betas=BETAS, units=units, axes="trials,voxels", order="C", variable="betas"
    )
    about = {
        "name": "nsd-mindeye2",
        "units": choice.units,
        "licence": "NSD Terms and Conditions",
        "terms": "access by agreement; neither betas nor pictures may be passed on",
    }
    put = partial(_put_pictures, data / IMAGES, trials.image_id.unique())
    return write_arrays(
        data, out, choice, trials, Split(where="split=test"), about, zscore, put, complete=False
    )


def _subject(name: str | int) -> str:
    text = str(name).strip()
    text = f"subj{int(text):02d}" if text.isdigit() else text
    if not text.removeprefix("subj").isdigit():
        raise ConfigError(
            f"the subject {name!r} was asked for, expected such as 1 or subj01: correct it"
        )
    return text


def _trials(data: Path, subject: str) -> pd.DataFrame:
    """A row for each trial in its order, with its place in the betas."""
    tables = []
    for part in ("train", "new_test"):
        files = sorted((data / "wds" / subject / part).glob("*.tar"))
        if not files:
            raise MissingError(
                f"{data} has no wds/{subject}/{part}/*.tar, expected MindEye2's trials (new_test, not test, which lacks sessions): copy "
                "them there"
            )
        rows = [
            row
            for path in tqdm(files, desc=f"trials of {subject}", leave=False)
            for row in _behav(path)
        ]
        table = np.array(rows).reshape(-1, N_COLUMNS)
        _check(table, subject, part)
        tables.append(table)
    table = np.concatenate(tables)[:, [IMAGE, SUBJECT, SESSION, TRIAL, SHARED]].astype(int)
    image, _, session, trial, shared = table[np.argsort(table[:, 3], kind="stable")].T
    twice = trial[1:][np.diff(trial) == 0]
    if len(twice):
        raise DataError(
            f"trial {twice[0]} of {subject} comes twice in wds/{subject}, expected every trial once: remove the copy"
        )
    numbers = np.bincount(session)[1:]
    if short := int(((numbers > 0) & (numbers < PER_SESSION)).sum()):
        logger.warning(
            "%d of %d sessions of %s have fewer than %d trials: were all files copied?",
            short,
            int((numbers > 0).sum()),
            subject,
            PER_SESSION,
        )
    return pd.DataFrame(
        {
            "subject": subject,
            "session": session.astype(str),
            "image_id": image.astype(str),
            "repeat": "",
            "split": np.where(shared == 1, "test", "train"),
            "file": BETAS.format(subject=subject),
            "position": trial,
        }
    )


def _behav(path: Path) -> Iterator[np.ndarray]:
    """The row of each sample in a tar file."""
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isfile() and Path(member.name).name.partition(".")[2] == "behav.npy":
                    stored = io.BytesIO(tar.extractfile(member).read())
                    values = np.lib.format.read_array(stored, allow_pickle=False)
                    if values.shape != (1, N_COLUMNS):
                        raise DataError(
                            f"{path.name} has {member.name} of the shape {values.shape}, expected (1, {N_COLUMNS}) as MindEye2 wrote it: take "
                            "its own files"
                        )
                    yield values[0]
    except (OSError, EOFError, tarfile.TarError, ValueError) as problem:
        if isinstance(problem, DataError):
            raise
        raise DataError(
            f"{path.name} is not a readable tar file of arrays ({problem}), expected MindEye2's: copy it again"
        ) from problem


def _check(table: np.ndarray, subject: str, part: str) -> None:
    """Refuse columns that cannot be what they should be."""
    image, who, session, trial, shared = table[:, [IMAGE, SUBJECT, SESSION, TRIAL, SHARED]].T
    checks = {
        f"column {IMAGE} from 0 to {N_IMAGES - 1}": (image == np.rint(image))
        & (image >= 0)
        & (image < N_IMAGES),
        f"column {SUBJECT} to be {int(subject[-2:])}": who == int(subject[-2:]),
        f"column {TRIAL} to lie in the session of column {SESSION}": (trial == np.rint(trial))
        & (trial >= 0)
        & (session == trial // PER_SESSION + 1),
        f"column {SHARED} to be {int(part != 'train')}": shared == (part != "train"),
    }
    for what, fine in checks.items():
        if not fine.all():
            bad = int((~fine).argmax())
            raise DataError(
                f"wds/{subject}/{part} has {int((~fine).sum())} trials that are not as MindEye2 wrote them, the first in row {bad}, "
                f"expected {what}: take its own files"
            )


def _put_pictures(path: Path, images: np.ndarray, folder: Path) -> None:
    """Fill a folder with the pictures of these numbers; where they are not there, with none."""
    import h5py
    from PIL import Image

    if not path.is_file():
        logger.info("no %s: add stimuli/ or captions.tsv to the table", path.name)
        return
    folder.mkdir()
    try:
        with h5py.File(path, "r") as file:
            stored = file["images"]
            for name in tqdm(sorted(images, key=int), desc="pictures", leave=False):
                values = np.asarray(stored[int(name)], np.float32)
                if (
                    values.ndim != 3
                    or len(values) != 3
                    or not 0 <= values.min() <= values.max() <= 1
                ):
                    raise DataError(
                        f"{path.name} has picture {name} of the shape {values.shape} with values from {values.min():g} to "
                        f"{values.max():g}, expected (3, y, x) and 0 to 1: copy it again"
                    )
                levels = np.rint(values * 255).astype(np.uint8).transpose(1, 2, 0)
                Image.fromarray(levels).save(folder / f"{name}.png")
    except (OSError, KeyError, IndexError, RuntimeError) as problem:
        if isinstance(problem, NeurovlError):
            raise
        raise DataError(
            f"{path.name} cannot be read ({problem}), expected MindEye2's pictures: copy it again"
        ) from problem
