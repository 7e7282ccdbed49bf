"""Single-trial betas of one session, read as a stream: only what is asked for stays in memory.

`open_betas` opens a series of volumes, in a NIfTI file (``nifti.py``) or an HDF5 file
(``hdf5.py``), and reads some voxels of all volumes, or some volumes.
Leaves out pairs of .hdr and .img.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurovl.errors import DataError, MissingError


def open_betas(path: str | Path, hint: str = "", dataset: str = "betas") -> "Betas":
    """Open a file of volumes; nothing but its header is read.

    Parameters
    ----------
    path : str or Path
        ``.nii``, ``.nii.gz`` (told apart by content), ``.hdf5`` or ``.h5``.
    hint : str
        The next step that messages name, such as a command.
    dataset : str
        Name of the dataset of an HDF5 file, which h5py shows as (n_volumes, z, y, x).

    Returns
    -------
    Betas

    Raises
    ------
    MissingError
        If there is no such file.
    DataError
        If its header cannot be read or promises what cannot be: no or more than one series of
        volumes, numbers that are not real.

    Examples
    --------
    >>> from neurovl.recordings.betas.stream import open_betas
    >>> open_betas(data.session_files("subj01", 1)[0])
    NiftiBetas('betas_session01.nii.gz', shape=(14, 17, 14, 750), dtype=int16)
    """
    from neurovl.recordings.betas.hdf5_stream import Hdf5Betas
    from neurovl.recordings.betas.nifti_stream import NiftiBetas

    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{path} is missing{next_step(hint)}")
    if path.suffix in (".hdf5", ".h5"):
        return Hdf5Betas(path, hint, dataset)
    return NiftiBetas(path, hint)


class Betas:
    """A series of volumes on disk.

    Attributes
    ----------
    path : Path
    shape : tuple of int
        (x, y, z, n_volumes).
    stored : dtype
        The file's own number type, with its byte order.
    dtype : dtype
        What is returned: the file's type, or float32 where the header scales the values.
    affine : array of shape (4, 4) or None
        Voxel indices to millimetres, where the file says so.

    Examples
    --------
    >>> from neurovl.recordings.betas.stream import open_betas
    >>> betas = open_betas(data.session_files("subj01", 1)[0])
    >>> betas.read_voxels(np.array([0, 1]), positions=[5]).shape
    (1, 2)
    """

    shape: tuple[int, int, int, int]
    stored: np.dtype
    dtype: np.dtype
    affine = None

    def __init__(self, path: Path, hint: str) -> None:
        self.path, self.hint = path, hint

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.path.name!r}, shape={self.shape}, dtype={self.dtype})"

    def read_voxels(
        self, voxels: np.ndarray, positions: Sequence[int] | np.ndarray | None = None
    ) -> np.ndarray:
        """Values of some voxels.

        Parameters
        ----------
        voxels : int array of shape (n_voxels,)
            Flat indices of the grid in Fortran order (x runs fastest).
        positions : int array of shape (n,), optional
            Volumes, counted from 0, in any order; all by default. Only if the last one is read, the
            end of the file is checked too.

        Returns
        -------
        array of shape (n, n_voxels)

        Raises
        ------
        DataError
            If the file is cut short or damaged, or holds more than its header promises.
        """
        voxels, positions = self._wanted(voxels, positions)
        out = np.empty((len(positions), len(voxels)), self.dtype)
        self._gather(voxels, positions, out)
        return out

    def read_volumes(
        self,
        positions: Sequence[int] | np.ndarray | None = None,
        out: np.ndarray | None = None,
        rows: Sequence[int] | np.ndarray | None = None,
    ) -> np.ndarray:
        """Whole volumes, in one pass whatever their order.

        Parameters
        ----------
        positions : int array of shape (n,), optional
            As in `read_voxels`.
        out : array of shape (n_rows, x, y, z), optional
            Filled in place and converted to its type; by default a new array of the file's type.
        rows : int array of shape (n,), optional
            Where in `out` each volume goes; one after the other by default.

        Returns
        -------
        array of shape (n_rows, x, y, z), `out` where it is given

        Raises
        ------
        DataError
            As `read_voxels`.
        """
        _, positions = self._wanted([], positions)
        if out is None:
            out = np.empty((len(positions), *self.shape[:3]), self.dtype)
        self._copy(positions, out, np.arange(len(positions)) if rows is None else np.asarray(rows))
        return out

    def _gather(self, voxels: np.ndarray, positions: np.ndarray, out: np.ndarray) -> None:
        raise NotImplementedError

    def _copy(
        self, positions: np.ndarray, out: np.ndarray, rows: Sequence[int] | np.ndarray
    ) -> None:
        raise NotImplementedError

    def _wanted(
        self, voxels: np.ndarray, positions: Sequence[int] | np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        n_voxels, n_volumes = int(np.prod(self.shape[:3])), self.shape[3]
        positions = np.arange(n_volumes) if positions is None else positions
        checked = []
        for name, numbers, end in (
            ("voxel", voxels, n_voxels),
            ("volume", positions, n_volumes),
        ):
            numbers = np.asarray(numbers, np.intp)
            bad = numbers[(numbers < 0) | (numbers >= end)]
            if len(bad):
                raise DataError(
                    f"{self.path.name} has {name}s 0 to {end - 1}, {name} {bad[0]} was asked for: "
                    "they are counted from 0"
                )
            checked.append(numbers)
        return checked[0], checked[1]

    def _broken(self, problem: object) -> DataError:
        what = f"ends early: its header promises {self.shape} voxels, and reading them failed"
        if not isinstance(problem, EOFError):
            what = f"is damaged: reading the {self.shape} voxels of its header failed"
        return DataError(
            f"{self.path.name} {what} ({problem}); the file may be cut short{next_step(self.hint)}"
        )


def next_step(hint: str) -> str:
    """The end of a message: the hint, if there is one."""
    return f": {hint}" if hint else ""
