"""Masks and regions in NIfTI files: found by a pattern, held against the grid of the data, joined and written; never resampled."""

import glob
import os
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neurovl.errors import DataError, MissingError
from neurovl.recordings.betas.nifti_volumes import (
    Volumes,
    apart,
    lie_alike,
    open_volumes,
    same_voxels,
    unplaced,
)
from neurovl.recordings.volume_checks import as_region


def matching(pattern: str, subject: str, data: Path) -> list[Path]:
    """Files that a pattern with ``{subject}`` means, relative to the data or absolute."""
    text = os.path.join(glob.escape(str(data)), pattern.replace("{subject}", glob.escape(subject)))
    return [Path(path) for path in sorted(glob.glob(text, recursive=True), key=natural)]


def natural(text: str) -> list:
    """Sorting key that puts run-2 before run-10."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def open_here(path: Path, data: Path) -> Volumes:
    """`open_volumes`, with a hint for files whose content was never fetched."""
    name = os.path.relpath(path, data)
    if path.is_symlink() and not path.exists():
        raise MissingError(
            f"{name} is a link to content that is not on this disk: fetch it (datalad get {name})"
        )
    return open_volumes(path, name)


def on_grid(files: list[Volumes], like: Volumes, what: str) -> None:
    """Refuse files on another grid than the betas, with the command that brings them there."""
    for file in files:
        if not lie_alike(file, like):
            name = re.sub(r"(\.nii)?(\.gz)?$", "", Path(file.name).name)
            parts = ("--mask", file.name, "--like", like.name, "--out", f"{name}_resampled.nii.gz")
            how = unplaced(file, like) or (
                f"run in the data folder: neurovl resample {shlex.join(parts)}, and name the result instead"
            )
            raise DataError(
                f"{what}{_difference(file, like)}, expected the grid of the betas: {how}"
            )


def _difference(file: Volumes, like: Volumes) -> str:
    """Where a file lies, without its name, which the command that follows holds."""
    if file.grid == like.grid:
        return apart(file, like).replace(like.name, "the betas").replace("lies", " lies", 1)
    return f" has {file.describe()}, the betas have {like.describe()}"


def region_of(files: list[Volumes], like: Volumes, combine: Callable) -> np.ndarray:
    """Files of masks as one, bool (x, y, z) on the grid of the betas."""
    voxels = np.arange(like.n_voxels)
    for file in files:
        if file.shape[3] != 1:
            raise DataError(
                f"{file.name} has the shape {file.shape}, expected three axes (x, y, z) for a mask or a "
                "region: name a file with one volume"
            )
    parts = [
        as_region(file.read(same_voxels(file, like, voxels), [0])[0], file.name) for file in files
    ]
    joined = np.logical_and.reduce(parts) if combine is all else np.logical_or.reduce(parts)
    return joined.reshape(like.grid, order="F")


def write_region(
    table: Path, subject: str, name: str, files: list[Volumes], like: Volumes, combine: Callable
) -> str:
    """Write the voxels of all, or any, of some files as one mask; its path within the table."""
    import nibabel

    region = region_of(files, like, combine)
    if not region.any():
        names = ", ".join(file.name for file in files[:3])
        raise DataError(
            f"the {name} of {subject} ({names}) holds no voxel above 0, expected some: name another "
            "file"
        )
    path = table / "masks" / f"{subject}_{re.sub(r'[^A-Za-z0-9]+', '-', name)}.nii.gz"
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(region.astype(np.uint8), like.affine), path)
    return path.relative_to(table).as_posix()
