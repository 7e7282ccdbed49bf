"""Bringing a mask or an atlas to the grid of the data: nearest voxel in millimetres, labels kept."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import DataError
from neurovl.files import replacing
from neurovl.recordings.betas.nifti_volumes import lie_alike, open_volumes, unplaced

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage

logger = logging.getLogger(__name__)


def resample_mask(mask: Path, like: Path, out: Path) -> tuple[int, int]:
    """Write a mask on the grid of other data.

    Each voxel of the new grid takes the value of the mask's nearest voxel, 0 outside the mask's grid.

    Parameters
    ----------
    mask : Path
        NIfTI file with one volume.
    like : Path
        NIfTI file with the grid wanted, 3-D or 4-D.
    out : Path
        .nii or .nii.gz; written beside and renamed when whole.

    Returns
    -------
    n_before, n_after : int
        Voxels above 0 on either grid.

    Raises
    ------
    DataError
        For files that cannot be read, say no position, or lie apart, so that nothing of the mask is left.

    Examples
    --------
    >>> import nibabel
    >>> from neurovl.recordings.resampling import resample_mask
    >>> fine = nibabel.Nifti1Image(np.ones((8, 8, 8), np.uint8), np.diag([1.5, 1.5, 1.5, 1]))
    >>> coarse = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.diag([3.0, 3, 3, 1]))
    >>> nibabel.save(fine, folder / "mask.nii.gz")
    >>> nibabel.save(coarse, folder / "betas.nii.gz")
    >>> resample_mask(folder / "mask.nii.gz", folder / "betas.nii.gz", folder / "out.nii.gz")
    (512, 64)
    """
    import nibabel
    from nilearn.image import resample_img

    mask, like, out = Path(mask), Path(like), Path(out)
    if not out.name.endswith((".nii.gz", ".nii")):
        raise DataError(f"--out is {out.name}, expected a name that ends in .nii or .nii.gz")
    source, grid = open_volumes(mask, str(mask)), open_volumes(like, str(like))
    if source.shape[3] != 1:
        raise DataError(
            f"{mask} holds {source.shape[3]} volumes, expected one mask or atlas: name a 3-D file"
        )
    for file in (source, grid):
        if not file.placed:
            raise DataError(
                f"the header of {file.name} does not say where it lies (sform and qform codes are 0), "
                "expected a position in millimetres: set it, or name another file"
            )
    if not lie_alike(source, grid) and (why := unplaced(source, grid)):
        raise DataError(why)
    if out.exists() and any(out.samefile(one) for one in (mask, like)):
        raise DataError(f"--out is {out}, which is read from, expected another name: choose one")
    values = source.read(np.arange(source.n_voxels), [0])[0].reshape(source.grid, order="F")
    before = int((values > 0).sum())
    flat = nibabel.Nifti1Image(_plain(values), source.affine)
    moved = resample_img(
        flat, grid.affine, grid.grid, interpolation="nearest", force_resample=True, copy_header=True
    )
    after = int((np.asarray(moved.dataobj) > 0).sum())
    if not after:
        raise DataError(
            f"nothing of the {before} voxels of {mask} lies in the grid of {like} ({grid.describe()}), "
            "expected an overlap in millimetres: compare the two in a viewer, one of their affines "
            "may be wrong"
        )
    lost = set(np.unique(values[values > 0])) - set(np.unique(np.asarray(moved.dataobj)))
    if lost:
        names = ", ".join(f"{label:g}" for label in sorted(lost)[:5])
        logger.warning("%d labels have no voxel on the new grid, such as %s", len(lost), names)
    _save(moved, out)
    return before, after


def _plain(values: np.ndarray) -> np.ndarray:
    """Whole numbers as integers that every program reads; NaN as 0."""
    values = np.nan_to_num(values)
    whole = np.array_equal(values, np.rint(values)) and np.abs(values).max(initial=0) < 2**31
    if values.dtype.kind == "f" and whole:
        return values.astype(np.int32)
    return values


def _save(image: "SpatialImage", out: Path) -> None:
    import nibabel

    try:
        with replacing(out) as part:
            nibabel.save(image, part)
    except OSError as problem:
        raise DataError(f"{out} could not be written ({problem}): name another place") from problem
