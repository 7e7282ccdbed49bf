"""Checks that all readers share: rows, splits, files, grids and values that cannot be what they should be."""

import logging
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage
    from numpy.typing import DTypeLike

logger = logging.getLogger(__name__)

MAX_CONSTANT = 0.2  # share of the mask's voxels that may be constant within a session
RAISE = ", or raise preprocessing.max_missing_voxels in the profile"
MAX_MISSING = (
    0.05  # share of them that may be not finite in some session, where no profile says another
)


def check_rows(rows: Sequence[int] | np.ndarray | None, n_trials: int, what: str) -> np.ndarray:
    """Rows as an int array, each one a trial that exists."""
    rows = np.arange(n_trials) if rows is None else np.atleast_1d(np.asarray(rows))
    if rows.dtype == bool:
        rows = np.flatnonzero(rows)
    rows = rows.astype(int)
    if rows.size and (rows.min() < 0 or rows.max() >= n_trials):
        bad = rows[(rows < 0) | (rows >= n_trials)][0]
        raise DataError(
            f"{what} has trials 0 to {n_trials - 1}, row {bad} was asked for: "
            "rows count this subject's trials in presentation order"
        )
    return rows


def require_split_by_image(trials: pd.DataFrame) -> None:
    """Refuse trials in which one picture is in the training and in the test set."""
    splits = trials.groupby("image_id").split.nunique()
    shared = splits.index[splits > 1]
    if len(shared):
        raise DataError(
            f"{len(shared)} pictures are in both train and test, the first is image {shared[0]!r}: "
            "the split must be by picture, so give all trials of a picture the same split"
        )


def load_nifti(path: Path, hint: str = "") -> "SpatialImage":
    """Open a NIfTI file; its data are read later, by `nifti_array`."""
    import nibabel

    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path} is missing{_next(hint)}")
    try:
        return nibabel.load(path)
    except (nibabel.filebasedimages.ImageFileError, EOFError, OSError, zlib.error) as problem:
        raise DataError(
            f"{path.name} is not a readable NIfTI file ({problem}); "
            f"it may be cut short or of another format{_next(hint)}"
        ) from problem


def nifti_array(
    image: "SpatialImage", path: Path, hint: str = "", dtype: "DTypeLike | None" = None
) -> np.ndarray:
    """The data of a NIfTI image, scaled as its header says."""
    try:
        return np.asarray(image.dataobj, dtype=dtype)
    except (EOFError, OSError, ValueError, zlib.error) as problem:
        raise DataError(
            f"{Path(path).name} ends early: its header promises {image.shape} voxels, "
            f"and reading them failed ({problem}); the file may be cut short{_next(hint)}"
        ) from problem


def as_region(values: np.ndarray, what: str) -> np.ndarray:
    """Which voxels a mask, or an atlas of whole labels, takes: those above 0.

    Values within a thousandth of a whole number are taken for it, so that a background of 1e-38 is 0; NaN is outside.

    Parameters
    ----------
    values : array
    what : str
        How messages name the file.

    Returns
    -------
    bool array

    Raises
    ------
    DataError
        For other values, as an interpolated mask or a map of probabilities has: where it ends is for its user to say.

    Examples
    --------
    >>> from neurovl.recordings.volume_checks import as_region
    >>> as_region(np.array([0.0, 1.0, 1e-38, np.nan]), "the mask").tolist()
    [False, True, False, False]
    """
    values = np.nan_to_num(values) if values.dtype.kind == "f" else values
    whole = np.rint(values)
    odd = values[np.abs(values - whole) > 1e-3]
    if odd.size:
        raise DataError(
            f"{what} holds {odd.size} values between whole numbers, such as {odd.flat[0]:.3g}, as an interpolated mask or a map "
            "of probabilities does, expected 0 and 1, or labels: cut it at a threshold of your choice and save it again"
        )
    return whole > 0


def clean_session(volumes: np.ndarray, mask: np.ndarray, what: str) -> np.ndarray:
    """`clean_voxels` for volumes (n_trials, x, y, z) and a mask (x, y, z), in place."""
    inside = clean_voxels(volumes[:, mask], np.ones(int(mask.sum()), bool), what)
    volumes[:, mask] = inside
    if volumes.dtype.kind == "f":
        np.nan_to_num(volumes, copy=False, nan=0.0, posinf=0.0, neginf=0.0)
    return volumes


def clean_voxels(
    values: np.ndarray, inside: np.ndarray, what: str, max_missing: float = 0.0
) -> np.ndarray:
    """Check one session's responses and silence the mask's missing and dead voxels, in place.

    Parameters
    ----------
    values : array of shape (n_trials, n_voxels)
    inside : bool array of shape (n_voxels,)
        Which voxels belong to the mask; values that are not finite are set to 0 elsewhere.
    what : str
        How messages name the file or session.
    max_missing : float
        Share of the mask's voxels that may hold values that are not finite; they are 0 in all trials of the session.

    Raises
    ------
    DataError
        For more voxels of the mask that are not finite, or for more than 20 % constant ones.

    Examples
    --------
    >>> from neurovl.recordings.volume_checks import clean_voxels
    >>> values = np.array([[1.0, np.nan], [2.0, 3.0]])
    >>> clean_voxels(values, np.array([True, False]), "session 1").tolist()
    [[1.0, 0.0], [2.0, 3.0]]
    """
    n_voxels, missing = int(inside.sum()), np.zeros(len(inside), bool)
    if values.dtype.kind == "f":
        bad = ~np.isfinite(values)
        missing = bad.any(0) & inside
        n_missing = int(missing.sum())
        if n_missing > max_missing * n_voxels:
            raise DataError(
                f"{what} holds {int(bad[:, inside].sum())} values inside the mask that are not finite (NaN or infinite), in "
                f"{n_missing} of {n_voxels} voxels ({n_missing / n_voxels:.1%}), expected numbers in all but "
                f"{max_missing:.1%} of them: shrink the mask{RAISE * bool(max_missing)}"
            )
        values[bad] = 0
        values[:, missing] = 0
    if len(values) < 2:
        return values
    dead = np.flatnonzero(inside & ~missing & (values.min(0) == values.max(0)))
    if len(dead) > MAX_CONSTANT * n_voxels:
        raise DataError(
            f"{what}: {len(dead)} of {n_voxels} voxels in the mask are constant within the session, "
            f"expected at most {MAX_CONSTANT:.0%}: the mask may not belong to these data "
            "(other grid, orientation or subject); look at both, name another mask, or leave this "
            "session out"
        )
    if len(dead):
        logger.warning("%s: %d of %d voxels constant, set to 0", what, len(dead), n_voxels)
        values[:, dead] = 0
    return values


def check_grid(shape: Sequence[int], mask: np.ndarray, what: str, hint: str = "") -> None:
    """Refuse volumes whose grid is not the mask's; `hint` is the next step, resampling by default."""
    if tuple(shape) != mask.shape:
        raise DataError(
            f"{what} has the grid {tuple(shape)}, expected {mask.shape} as in the mask: "
            f"{hint or 'bring the mask to the grid of the data with neurovl resample'}"
        )


def _next(hint: str) -> str:
    return f": {hint}" if hint else ""
