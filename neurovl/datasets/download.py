"""Fetch real recordings: NSD from its public bucket, Haxby et al. 2001 through nilearn.

NSD's files are what `NSDRecordings` reads and no more: 1.8-mm betas of one version, regions, design,
pictures, and COCO's annotations. A file is fetched beside and renamed when whole; a broken transfer
goes on where it stopped. NSD may be used by those who accepted its terms only: see
naturalscenesdataset.org.
"""

import logging
import os
import zipfile
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from neurovl.datasets.anatomy import ATLASES
from neurovl.datasets.base import subject_label
from neurovl.datasets.nsd import BETAS, EXPERIMENT, STIMULI
from neurovl.errors import ConfigError, DataError, MissingError

logger = logging.getLogger(__name__)

BUCKET = "https://natural-scenes-dataset.s3.amazonaws.com"
COCO = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
SESSIONS = {1: 40, 2: 40, 3: 32, 4: 30, 5: 40, 6: 32, 7: 40, 8: 30}
BLOCK = 1 << 20


def download_haxby(to, subjects=(1,)) -> Path:
    """Fetch subjects of Haxby et al. 2001 (about 300 MB each) into ``to/haxby2001``.

    Parameters
    ----------
    to : str or Path
    subjects : sequence of int
        From 1 to 6.

    Returns
    -------
    Path that `open_recordings` takes
    """
    from nilearn.datasets import fetch_haxby

    numbers = _numbers(subjects, 6)
    try:
        fetch_haxby(data_dir=str(to), subjects=numbers, fetch_stimuli=False)
    except (URLError, OSError, ValueError) as problem:
        raise MissingError(
            f"Haxby et al. 2001 could not be fetched ({problem}): check the connection and run the "
            "same command again, it goes on where it stopped"
        ) from problem
    return Path(to)


def nsd_files(subjects, sessions: int | None = None) -> dict[Path, bool]:
    """Paths of NSD that the reader uses, each with whether it is indispensable.

    Parameters
    ----------
    subjects : sequence of int or str
    sessions : int, optional
        The first so many; all by default.
    """
    files = {EXPERIMENT / name: True for name in ("nsd_expdesign.mat", "nsd_stim_info_merged.csv")}
    files[STIMULI / "nsd_stimuli.hdf5"] = True
    for number in _numbers(subjects, 8):
        name = f"subj{number:02d}"
        functional = Path("nsddata/ppdata") / name / "func1pt8mm"
        files[functional / "brainmask.nii.gz"] = False
        files[functional.parent / "behav/responses.tsv"] = False
        for atlas in ATLASES:
            files[functional / "roi" / f"{atlas}.nii.gz"] = atlas == "nsdgeneral"
        betas = Path("nsddata_betas/ppdata") / name / "func1pt8mm" / BETAS
        files[betas / "ncsnr.nii.gz"] = False
        last = SESSIONS[number] if sessions is None else min(sessions, SESSIONS[number])
        for session in range(1, last + 1):
            files[betas / f"betas_session{session:02d}.nii.gz"] = True
    return files


def download_nsd(
    to, subjects=(1, 2, 5, 7), sessions: int | None = None, *, verify: bool = False,
    annotations: bool = True, bucket: str = BUCKET,
) -> Path:  # fmt: skip
    """Fetch what the reader needs of NSD; files that are there already are kept.

    Parameters
    ----------
    to : str or Path
    subjects, sessions
        As in `nsd_files`; a subject with 40 sessions takes about 40 GB, the pictures 40 GB.
    verify : bool
        Compare the size of every file that is there with the bucket's, and fetch it again if they
        differ.
    annotations : bool
        Also fetch COCO's captions and boxes.
    bucket : str
        Address of the bucket or of a mirror of it.

    Raises
    ------
    MissingError
        If an indispensable file cannot be fetched.
    """
    from tqdm.auto import tqdm

    root = Path(to).expanduser()
    for path, needed in tqdm(nsd_files(subjects, sessions).items(), "NSD", disable=None):
        try:
            _fetch(f"{bucket}/{path.as_posix()}", root / path, verify)
        except MissingError as problem:
            if needed:
                raise
            logger.warning("%s is left out: %s", path, problem)
    if annotations:
        _fetch_annotations(root / STIMULI / "annotations")
    return root


def _fetch_annotations(folder: Path) -> None:
    names = [f"{kind}_{split}2017.json" for kind in ("captions", "instances")
             for split in ("train", "val")]  # fmt: skip
    if all((folder / name).is_file() for name in names):
        return
    archive = folder / "annotations_trainval2017.zip"
    _fetch(COCO, archive, verify=False)
    with zipfile.ZipFile(archive) as content:
        for name in names:
            part = folder / f".part-{name}"
            part.write_bytes(content.read(f"annotations/{name}"))
            os.replace(part, folder / name)
    archive.unlink()


def _fetch(url: str, path: Path, verify: bool) -> None:
    """Fetch one file; what an earlier, broken transfer left is completed."""
    if path.is_file() and not verify:
        return
    try:
        with urlopen(Request(url, method="HEAD"), timeout=60) as answer:
            size = int(answer.headers["Content-Length"])
        if path.is_file() and path.stat().st_size == size:
            return
        if path.is_file():
            logger.warning("%s has %d bytes of %d, fetched again", path, path.stat().st_size, size)
        part = path.with_name(f".part-{path.name}")
        part.parent.mkdir(parents=True, exist_ok=True)
        have = part.stat().st_size if part.is_file() else 0
        request = Request(url, headers={"Range": f"bytes={have}-"} if 0 < have < size else {})
        with urlopen(request, timeout=60) as answer:
            resumed = answer.status == 206
            with open(part, "ab" if resumed else "wb") as file:
                while block := answer.read(BLOCK):
                    file.write(block)
    except (URLError, HTTPError, TimeoutError, ConnectionError, TypeError) as problem:
        raise MissingError(
            f"{path.name} could not be fetched from {url} ({problem}): check the connection and "
            "run the same command again, it goes on where it stopped"
        ) from problem
    if part.stat().st_size != size:
        raise DataError(
            f"{path.name} came with {part.stat().st_size} bytes, expected {size}: run the same "
            "command again, it goes on where it stopped"
        )
    os.replace(part, path)


def _numbers(subjects, last: int) -> list[int]:
    labels = [subject_label(one) for one in subjects]
    allowed = {f"subj{number:02d}": number for number in range(1, last + 1)}
    for one in labels:
        if one not in allowed:
            raise ConfigError(f"subject {one!r} was asked for, this data set has 1 to {last}")
    return [allowed[one] for one in labels]
