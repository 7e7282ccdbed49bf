"""Writing volumes to a compressed NIfTI file as they come, so that no more than a few are in memory."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

MOST = 32767  # that an axis of NIfTI-1 can hold


@contextlib.contextmanager
def new_volumes(
    path: Path, grid: tuple[int, int, int], n_volumes: int, affine: np.ndarray
) -> Iterator[Callable[[np.ndarray], None]]:
    """Begin a file and take volumes float32 (n, x * y * z), in Fortran order, until all are there.

    Parameters
    ----------
    path : Path
        Ends in .nii.gz.
    grid : tuple of int
        (x, y, z).
    n_volumes : int
    affine : array of shape (4, 4)
        Voxel indices to millimetres.
    """
    import nibabel
    from isal import igzip

    kind = nibabel.Nifti1Image if max(*grid, n_volumes) <= MOST else nibabel.Nifti2Image
    empty = np.broadcast_to(np.float32(0), (*grid, n_volumes))
    header = kind(empty, affine).header
    header.set_data_offset(header.single_vox_offset)
    path.parent.mkdir(parents=True, exist_ok=True)
    with igzip.open(path, "wb", compresslevel=1) as file:
        file.write(header.binaryblock.ljust(header.single_vox_offset, b"\0"))
        yield lambda volumes: file.write(np.ascontiguousarray(volumes, "<f4").data)
