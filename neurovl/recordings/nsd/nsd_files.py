"""Where NSD's files of a subject lie: betas of each session, names of regions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.recordings.base import subject_label
from neurovl.recordings.betas.stream import Betas, open_betas
from neurovl.recordings.nsd.design import TRIALS
from neurovl.recordings.volume_checks import check_grid

BETAS = "betas_fithrf_GLMdenoise_RR"
VERSIONS = (BETAS, "betas_fithrf")


def find_betas(root: Path, version: str = BETAS) -> dict[str, dict[int, Path]]:
    """Beta files on disk, by subject and session; .nii.gz is preferred to .nii and .hdf5."""
    if version not in VERSIONS:
        raise ConfigError(
            f"NSD's betas {version!r} cannot be read: choose from {', '.join(VERSIONS)}"
        )
    found: dict[str, dict[int, Path]] = {}
    for suffix in (".hdf5", ".nii", ".nii.gz"):
        pattern = f"subj0[1-8]/func1pt8mm/{version}/betas_session[0-9][0-9]{suffix}"
        for path in sorted((root / "nsddata_betas/ppdata").glob(pattern)):
            session = int(path.name.removesuffix(suffix)[-2:])
            if not 1 <= session <= 40:
                raise DataError(
                    f"{path} is of session {session}, expected 1 to 40 (nsd_expdesign.mat): "
                    "remove it"
                )
            if not path.is_file():
                raise DataError(
                    f"{path} is a folder, or a link to content that is not on this disk, expected "
                    f"a file of betas: remove it, then {fetch_command(path.parents[2].name)}"
                )
            found.setdefault(path.parents[2].name, {})[session] = path
    return {subject: dict(sorted(files.items())) for subject, files in sorted(found.items())}


def require_betas(
    root: Path, subjects: Sequence[str | int] | None, version: str
) -> dict[str, dict[int, Path]]:
    """`find_betas` for the subjects asked for, all by default; says what there is otherwise."""
    available = find_betas(root, version)
    wanted = list(available) if subjects is None else [subject_label(one) for one in subjects]
    missing = [one for one in wanted if one not in available]
    if not missing and wanted:
        return {one: available[one] for one in wanted}
    (other,) = set(VERSIONS) - {version}
    elsewhere = ", ".join(find_betas(root, other)) or "none"
    first = (missing or ["subj01"])[0]
    raise MissingError(
        f"{root} holds no betas of {', '.join(missing) or 'any subject'} "
        f"(found: {', '.join(available) or 'none'}; of the other version, {other}: {elsewhere}), "
        f"expected nsddata_betas/ppdata/{first}/func1pt8mm/{version}/"
        f"betas_session01.nii.gz: {fetch_command(first)}"
    )


def open_session(path: Path, subject: str, mask: np.ndarray) -> Betas:
    """A session's betas, 300 times percent signal change, on the grid of the subject's mask."""
    fetch = fetch_command(subject, verify=True)
    betas = open_betas(path, fetch)
    if betas.shape[3] != TRIALS:
        raise DataError(
            f"{path.name} holds {betas.shape[3]} volumes, expected {TRIALS} (nsd_expdesign.mat); "
            f"the file may be cut short: {fetch}"
        )
    check_grid(betas.shape[:3], mask, f"{path.name} of {subject}", fetch)
    return betas


def label_names(root: Path, subject: str, atlas: str, default: Sequence[str]) -> dict[int, str]:
    """Names of an atlas's labels, from its .ctab file where there is one."""
    for folder in (subject, "fsaverage"):
        path = root / "nsddata/freesurfer" / folder / "label" / f"{atlas}.mgz.ctab"
        if not path.is_file():
            continue
        try:
            rows = [line.split() for line in path.read_text().splitlines() if line.strip()]
            return {int(row[0]): row[1] for row in rows if int(row[0]) > 0}
        except (ValueError, IndexError) as problem:
            raise DataError(
                f"{path.name} cannot be read ({problem}), expected a number and a name in each "
                f"line: {fetch_command(subject, verify=True)}"
            ) from problem
    return dict(enumerate(default, 1))


def fetch_command(subject: str | int, verify: bool = False) -> str:
    """The command that fetches a subject's files."""
    number = int(subject_label(subject)[-2:])
    return f"neurovl download nsd --subjects {number}" + " --verify" * verify + " --to DIR"
