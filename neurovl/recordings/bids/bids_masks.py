"""Masks and regions of a BIDS data set, brought together on the grid of the betas; never resampled."""

import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from neurovl.errors import DataError, MissingError
from neurovl.recordings.betas.nifti_volumes import Volumes, apart, lie_alike, same_voxels, unplaced
from neurovl.recordings.bids.bids_files import BidsFile, brain_masks, matching, open_here
from neurovl.recordings.volume_checks import as_region


def masks_of(
    subject: str, like: Volumes, files: Sequence[BidsFile], data: Path, pattern: str | None
) -> list[Volumes]:
    """The headers of a subject's masks, all on the betas' grid."""
    if pattern is not None:
        found = [open_here(path, data) for path in matching(pattern, subject, data)]
        if not found:
            raise MissingError(
                f"--mask {pattern} names no file of {subject} in {data}: correct the pattern, it may "
                "hold {subject} and *"
            )
        on_grid(found, like, f"the mask of {subject}")
        return found
    found = [open_here(file.path, data) for file in brain_masks(subject, files)]
    if not found:
        raise MissingError(
            f"{subject} has no brain mask (such as {subject}_desc-brain_mask.nii.gz): name one with "
            "--mask 'masks/{subject}_mask.nii.gz'"
        )
    fitting = [mask for mask in found if lie_alike(mask, like)]
    if not fitting:
        on_grid(found, like, f"the mask of {subject}")
    values = [region_of([mask], like, all) for mask in fitting]
    if any(not np.array_equal(one, values[0]) for one in values[1:]):
        names = ", ".join(mask.name for mask in fitting[:3])
        raise DataError(
            f"{subject} has {len(fitting)} masks that differ ({names}), expected one: name it with "
            "--mask; a pattern with * takes the voxels that all of its files share"
        )
    return fitting[:1]


def on_grid(files: list[Volumes], like: Volumes, what: str) -> None:
    """Refuse files on another grid than the betas, with the command that brings them there."""
    for file in files:
        if not lie_alike(file, like):
            name = re.sub(r"(\.nii)?(\.gz)?$", "", Path(file.name).name)
            parts = ("--mask", file.name, "--like", like.name, "--out", f"{name}_resampled.nii.gz")
            how = unplaced(file, like) or (
                f"run in the data folder: neurovl resample {shlex.join(parts)}, and name the result with --mask or --roi"
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
