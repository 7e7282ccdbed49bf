"""Fetch real recordings: NSD from its public bucket, Haxby et al. 2001 through nilearn.

NSD's files are what `NSDRecordings` reads and no more: 1.8-mm betas of one version, regions, transforms to the
surface, design, pictures, and COCO's annotations. How they come is `transfer`'s affair. NSD may be used by those who
accepted its terms only: see naturalscenesdataset.org.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

from neurovl.download.checksums import Manifest
from neurovl.download.engine import (
    Item,
    Transfer,
    free_bytes,
    readable,
    require_space,
    sole_writer,
    survey,
    work_off,
)
from neurovl.download.servers import Bucket, Refused, Remote, Settings, insist
from neurovl.errors import ConfigError, MissingError
from neurovl.recordings.base import subject_label
from neurovl.recordings.nsd.atlases import ATLASES
from neurovl.recordings.nsd.coco import COCO, UNPACKED, coco_items, unpack_coco
from neurovl.recordings.nsd.design import EXPERIMENT, SESSIONS
from neurovl.recordings.nsd.further_sessions import session_file
from neurovl.recordings.nsd.nsd_files import BETAS, VERSIONS
from neurovl.recordings.nsd.nsd_imagery import imagery_files
from neurovl.recordings.nsd.nsd_synthetic import synthetic_files
from neurovl.recordings.nsd.stimuli import STIMULI
from neurovl.recordings.nsd.surfaces import surface_files

logger = logging.getLogger(__name__)

BUCKET, REGION = "natural-scenes-dataset", "us-east-2"
FORMATS = ("nii.gz", "hdf5")
FURTHER = {"imagery": imagery_files, "synthetic": synthetic_files}  # files beside their betas
TERMS = """\
NSD is open to those who accepted its terms (facts in our words; the text on the site is what binds):
  - fill in the NSD Data Access Agreement, the form on https://naturalscenesdataset.org
  - do not pass the data on; others get them from NSD itself
  - cite Allen et al. 2022, Nature Neuroscience 25:116 (doi:10.1038/s41593-021-00962-x)
  - the pictures come from COCO and stay under the licences that they have there (https://cocodataset.org)"""


def download_haxby(to: str | Path, subjects: Sequence[int] = (1,)) -> Path:
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


@dataclass(frozen=True)
class File:
    """One of NSD's files: its path in the bucket, and whether the reader can do without."""

    path: Path
    kind: str
    needed: bool


def nsd_files(
    subjects: Sequence[int | str],
    sessions: int | Sequence[int] | None = None,
    betas: str = BETAS,
    form: str = "nii.gz",
    tests: Sequence[str] = (),
) -> list[File]:
    """Files of NSD that the reader uses.

    Parameters
    ----------
    subjects : sequence of int or str
    sessions : int or sequence of int, optional
        The first so many, or just these; all by default. A subject's files are those of the sessions
        that it has: 40, 40, 32, 30, 40, 32, 40, 30.
    betas : str
        ``betas_fithrf_GLMdenoise_RR`` (version 3) or ``betas_fithrf`` (version 2).
    form : str
        ``nii.gz`` or ``hdf5``.
    tests : sequence of str
        Further sessions: ``imagery``, ``synthetic``.

    Raises
    ------
    ConfigError
    """
    for test in tests:
        if test not in FURTHER:
            raise ConfigError(f"the test is {test!r}, expected one of {', '.join(FURTHER)}")
    for what, came, known in (("betas", betas, VERSIONS), ("format", form, FORMATS)):
        if came not in known:
            raise ConfigError(f"the {what} are {came!r}, expected one of {', '.join(known)}")
    files = [
        File(EXPERIMENT / name, "design", True)
        for name in ("nsd_expdesign.mat", "nsd_stim_info_merged.csv")
    ]
    numbers = _numbers(subjects, 8)
    labels = Path("nsddata/freesurfer")
    tables = [labels / "fsaverage"]
    for number in numbers:
        name = f"subj{number:02d}"
        functional = Path("nsddata/ppdata") / name / "func1pt8mm"
        files.append(File(functional / "brainmask.nii.gz", "regions", False))
        files.append(File(functional.parent / "behav/responses.tsv", "design", False))
        for atlas in ATLASES:
            path = functional / "roi" / f"{atlas}.nii.gz"
            files.append(File(path, "regions", atlas == "nsdgeneral"))
        files += [File(path, "surfaces", False) for path in surface_files(name)]
        tables.append(labels / name)
        folder = Path("nsddata_betas/ppdata") / name / "func1pt8mm" / betas
        files.append(File(folder / "ncsnr.nii.gz", "betas", False))
        for session in _sessions(number, sessions):
            files.append(File(folder / f"betas_session{session:02d}.{form}", "betas", True))
    files += [
        File(table / "label" / f"{atlas}.mgz.ctab", "regions", False)
        for table in tables
        for atlas in ATLASES
    ]
    for test in tests:
        names = [f"subj{number:02d}" for number in numbers]
        files += [File(path, test, True) for path in FURTHER[test](names)]
        files += [
            File(Path(session_file(test, name, betas, f".{form}")), test, True) for name in names
        ]
    return [*files, File(STIMULI / "nsd_stimuli.hdf5", "pictures", True)]


@dataclass(frozen=True)
class Plan:
    """What a download will do.

    Attributes
    ----------
    root : Path
    items : list of Item
        Every file, and what is to do about it.
    source : str
    verify : bool
    settings : Settings
    """

    root: Path
    items: list[Item]
    source: str
    verify: bool
    settings: Settings

    def __str__(self) -> str:
        """A table: kind, files, bytes, what is there, what is to check, what is to fetch."""
        rows = [("", "files", "size", "there", "to check", "to fetch")]
        kinds = list(dict.fromkeys(item.kind for item in self.items))
        for kind in [*kinds, "all"]:
            some = [item for item in self.items if kind in (item.kind, "all")]
            parts = {
                state: sum(i.missing for i in some if i.state == state)
                for state in ("check", "fetch")
            }
            size = sum(item.remote.size for item in some)
            sizes = (size, size - sum(parts.values()), *parts.values())
            rows.append((kind, str(len(some)), *(readable(number) for number in sizes)))
        lines = [f"from {self.source} to {self.root}"]
        lines += ["  ".join(f"{cell:>10}" for cell in row).rstrip() for row in rows]
        return "\n".join([*lines, f"free on the disk: {readable(free_bytes(self.root))}"])

    def unpacking(self) -> int:
        """Bytes needed, at most, to unpack COCO's annotations."""
        return sum(UNPACKED * item.remote.size for item in self.items if item.kind == "COCO")


def plan_nsd(
    to: str | Path,
    subjects: Sequence[int | str] = (1, 2, 5, 7),
    sessions: int | Sequence[int] | None = None,
    *,
    betas: str = BETAS,
    form: str = "nii.gz",
    verify: bool = False,
    annotations: bool = True,
    tests: Sequence[str] = (),
    endpoint: str | None = None,
    coco: str = COCO,
    settings: Settings | None = None,
) -> Plan:
    """Ask the servers what there is, and compare it with what is in the folder; writes nothing.

    Parameters
    ----------
    to : str or Path
    subjects, sessions, betas, form
        As in `nsd_files`; a subject with 40 sessions takes about 40 GB, the pictures 40 GB.
    verify : bool
        Read again what is there, and fetch what is broken.
    annotations : bool
        Also fetch COCO's captions and boxes.
    tests : sequence of str
        As in `nsd_files`.
    endpoint : str, optional
        Address of a mirror of the bucket that speaks S3.
    coco : str
        Address of COCO's archive of annotations.
    settings : Settings, optional

    Raises
    ------
    ConfigError
        If the folder is a simulation.
    MissingError
        If the server does not have an indispensable file, or does not answer.
    """
    root, settings = Path(to).expanduser(), settings or Settings()
    if (root / "SIMULATED.json").exists():
        raise ConfigError(
            f"{root} holds simulated recordings (SIMULATED.json), real ones must not be mixed with "
            "them: name another folder with --to"
        )
    files = nsd_files(subjects, sessions, betas, form, tests)
    bucket = Bucket(BUCKET, REGION, endpoint, settings)
    listed = _list(bucket, {file.path.parent.as_posix() for file in files}, settings)
    absent = [file for file in files if file.path.as_posix() not in listed]
    if needed := [file.path.as_posix() for file in absent if file.needed]:
        more = f" and {len(needed) - 1} more indispensable files" if len(needed) > 1 else ""
        raise MissingError(
            f"{bucket} does not have {needed[0]}{more}: ask for other subjects, sessions, betas or "
            "another format"
        )
    if absent:
        names = ", ".join(file.path.as_posix() for file in absent)
        logger.warning("%s does not have these optional files: %s", bucket, names)
    items = [
        Item(bucket, listed[file.path.as_posix()], file.path.as_posix(), file.kind)
        for file in files
        if file not in absent
    ]
    manifest = Manifest(root)
    if annotations:
        items += coco_items(coco, root, manifest, verify, settings)
    items = survey(items, root, manifest, verify)
    for item in items:
        path = root / item.name
        if item.state == "fetch" and path.exists():
            logger.warning(
                "%s has %d bytes, expected %d (%s): it is fetched again",
                path,
                path.stat().st_size,
                item.remote.size,
                bucket,
            )
    return Plan(root, items, str(bucket), verify, settings)


def fetch_plan(plan: Plan) -> Path:
    """Do what a plan says.

    Raises
    ------
    MissingError
        If the disk is too small, or the server gives nothing any more.
    DataError
        If a file comes broken again and again.
    """
    require_space(plan.root, plan.items, plan.unpacking())
    with sole_writer(plan.root):
        manifest = Manifest(plan.root)
        transfer = Transfer(plan.root, manifest, plan.settings)
        # another download may have ended since the plan was made
        items = transfer.check(survey(plan.items, plan.root, manifest, plan.verify))
        require_space(plan.root, items, plan.unpacking())
        transfer.fetch(items)
        archives = [item for item in items if item.kind == "COCO"]
        for item in archives:
            unpack_coco(item, plan.root, manifest)
    unchecked = set(transfer.unchecked) - {item.name for item in archives}  # those have CRCs
    if unchecked:
        logger.warning(
            "the checksums of these files could not be compared with the server's, only their "
            "sizes: %s",
            ", ".join(sorted(unchecked)),
        )
    return plan.root


def download_nsd(
    to: str | Path,
    subjects: Sequence[int | str] = (1, 2, 5, 7),
    sessions: int | Sequence[int] | None = None,
    **options: Any,
) -> Path:
    """Fetch what the reader needs of NSD; parameters and errors are those of `plan_nsd`.

    Only for those who have accepted NSD's terms (`TERMS`).
    """
    return fetch_plan(plan_nsd(to, subjects, sessions, **options))


def _list(bucket: Bucket, folders: set[str], settings: Settings) -> dict[str, Remote]:
    listed: dict[str, Remote] = {}
    stop = threading.Event()

    def one(folder: str) -> None:
        what = f"the list of {bucket}/{folder}"
        try:
            listed.update(insist(partial(bucket.list, f"{folder}/"), what, settings, stop))
        except Refused as problem:
            raise MissingError(
                f"{what} could not be fetched ({problem}): see naturalscenesdataset.org whether "
                "the bucket has moved"
            ) from problem

    work_off([partial(one, folder) for folder in sorted(folders)], settings.jobs, stop)
    return listed


def _sessions(number: int, wanted: int | Sequence[int] | None) -> list[int]:
    """Numbers of the sessions of a subject that are wanted and that it has."""
    last = SESSIONS[number]
    asked = range(1, 41) if wanted is None else wanted
    first = isinstance(asked, int)
    asked = range(1, asked + 1) if first else sorted(set(asked))
    if not asked or asked[0] < 1 or asked[-1] > 40:
        raise ConfigError(
            f"sessions are {wanted!r}, expected a number from 1 to 40 (the first so many) or "
            "numbers from 1 to 40"
        )
    had = [session for session in asked if session <= last]
    if not had:
        raise ConfigError(
            f"subj{number:02d} has {last} sessions, and none of those asked for "
            f"({', '.join(map(str, asked))}): leave the subject out or ask for others"
        )
    if wanted is not None and not first and len(had) < len(asked):
        logger.warning(
            "subj%02d has %d sessions, so %s are left out",
            number,
            last,
            ", ".join(str(one) for one in asked if one > last),
        )
    return had


def _numbers(subjects: Sequence[int | str], last: int) -> list[int]:
    labels = [subject_label(one) for one in subjects]
    allowed = {f"subj{number:02d}": number for number in range(1, last + 1)}
    for one in labels:
        if one not in allowed:
            raise ConfigError(f"subject {one!r} was asked for, this data set has 1 to {last}")
    if not labels:
        raise ConfigError(f"no subject was asked for, this data set has 1 to {last}")
    return list(dict.fromkeys(allowed[one] for one in labels))
