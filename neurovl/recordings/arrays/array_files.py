"""Arrays of numbers in .npy, .mat and HDF5 files, opened by their headers and read some trials at a time.

Nothing is ever unpickled: GLMsingle for Python saves a dictionary as .npy by default (``np.save`` of a dict in
``glmsingle/glmsingle.py`` of cvnlab/GLMsingle), which is refused with the way out. MATLAB 7.3 files are HDF5 with the axes in
reverse, because MATLAB counts the first axis fastest and HDF5 the last; their first bytes say that they are such, and their axes
are given back in MATLAB's order. An HDF5 file that MATLAB wrote by other means does not say so.
"""

import contextlib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import DataError, MissingError, NeurovlError

if TYPE_CHECKING:
    import h5py

ENDINGS = (".npy", ".mat", ".hdf5", ".h5")
MATLAB_73 = b"MATLAB 7.3 MAT-file"
PIECE = 32 << 20  # bytes of an .npy file that are mapped at a time
GLMSINGLE = ("betasmd", "modelmd")  # its betas, as the Python and the MATLAB version name them


@dataclass(frozen=True)
class StoredArray:
    """An array on disk.

    Attributes
    ----------
    name : str
        As messages name the file.
    shape : tuple of int
    turned : bool
        Whether the file holds the axes in reverse.
    read : callable
        Values for an index in the file's order of axes.
    chunks : tuple of int or None
        Blocks that the file stores as a whole, in its own order of axes.
    """

    name: str
    shape: tuple[int, ...]
    turned: bool
    read: Callable[[tuple[slice, ...]], np.ndarray]
    chunks: tuple[int, ...] | None = None

    def block(self, axis: int, start: int, stop: int) -> np.ndarray:
        """Positions `start` to `stop` of one axis and all of the others, as float32."""
        index = [slice(None)] * len(self.shape)
        index[self._stored(axis)] = slice(start, stop)
        with _readable(self.name):
            values = self.read(tuple(index))
        with np.errstate(over="ignore"):  # readers find what became infinite
            values = np.asarray(values, np.float32)
        return values.T if self.turned else values

    def step(self, axis: int, n_bytes: int) -> int:
        """How many positions of an axis are read at a time to fill `n_bytes`: whole chunks where there are some."""
        row = 4 * int(np.prod(self.shape)) // self.shape[axis]
        step = max(1, n_bytes // max(row, 1))
        chunk = self.chunks[self._stored(axis)] if self.chunks else 1
        return max(step // chunk * chunk, min(chunk, step))

    def _stored(self, axis: int) -> int:
        return len(self.shape) - 1 - axis if self.turned else axis


@contextlib.contextmanager
def open_array(path: Path, name: str, variable: str | None = None) -> Iterator[StoredArray]:
    """Open one array of a file.

    Parameters
    ----------
    path : Path
    name : str
        How messages name the file.
    variable : str, optional
        Which array of a .mat or HDF5 file; by default GLMsingle's betas, or the only array with more than one axis.

    Raises
    ------
    MissingError, DataError
        No such file or array, several to choose from, Python objects, or numbers that are not real.
    """
    if not path.is_file():
        raise MissingError(f"{name} is missing: copy it there, or correct the pattern of --betas")
    if path.suffix not in ENDINGS:
        raise DataError(
            f"{name} has no name of an array, expected one that ends in {', '.join(ENDINGS)}: save it as one of these"
        )
    with contextlib.ExitStack() as files:
        with _readable(name):
            if path.suffix == ".npy":
                stored = _npy(path, name)
            elif path.suffix != ".mat" or _is_hdf5(path):
                stored = _hdf5(path, name, variable, files)
            else:
                stored = _old_mat(path, name, variable)
        yield stored


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """What the libraries say of a file that is broken, in one sentence."""
    from scipy.io.matlab import MatReadError

    kinds = (
        OSError,
        EOFError,
        RuntimeError,
        ValueError,
        TypeError,
        KeyError,
        zlib.error,
        MatReadError,
    )
    try:
        yield
    except NeurovlError:
        raise
    except kinds as problem:
        raise DataError(
            f"{name} cannot be read ({problem}), expected a whole file of numbers: copy it again"
        ) from problem


def _is_hdf5(path: Path) -> bool:
    import h5py

    return bool(h5py.is_hdf5(path))


def _npy(path: Path, name: str) -> StoredArray:
    mapped = np.lib.format.open_memmap
    try:
        array = mapped(path, mode="r")
    except ValueError as problem:
        if "Python objects" not in str(problem):
            raise
        raise DataError(
            f"{name} holds Python objects (a pickle), as GLMsingle saves its results by default, expected an array of numbers, because "
            "a pickle can run any program: run GLMsingle with wanthdf5=1, or, where you trust the file, load it yourself with pickles "
            "allowed and save the betas alone: np.save('betas.npy', results.item()['betasmd'])"
        ) from problem
    _real(array.dtype, name)
    if not (array.ndim and array.size):
        raise DataError(
            f"{name} has the shape {array.shape}, expected an array of betas: name another file"
        )
    shape, slowest = array.shape, 0 if array.flags.c_contiguous else array.ndim - 1
    step = max(1, PIECE // max(1, array.nbytes // shape[slowest]))

    def read(index: tuple[slice, ...]) -> np.ndarray:
        """Mapped anew for each piece of the file, so that pages that were read do not stay."""
        first, last, _ = index[slowest].indices(shape[slowest])
        pieces = []
        for start in range(first, last, step):
            piece = list(index)
            piece[slowest] = slice(start, min(start + step, last))
            pieces.append(np.array(mapped(path, mode="r")[tuple(piece)]))
        return np.concatenate(pieces, slowest)

    del array
    return StoredArray(name, shape, False, read)


def _hdf5(path: Path, name: str, variable: str | None, files: contextlib.ExitStack) -> StoredArray:
    import h5py

    with open(path, "rb") as file:
        turned = file.read(len(MATLAB_73)) == MATLAB_73
    if path.suffix == ".mat" and not turned:
        raise DataError(
            f"{name} is HDF5 and does not begin with {MATLAB_73.decode()!r}, so the order of its axes is not known, expected a .mat that "
            "MATLAB wrote: rename it to .hdf5 if its axes are in the order that h5py shows"
        )
    file, shapes = files.enter_context(h5py.File(path, "r")), {}

    def note(key: str, item: "h5py.Group | h5py.Dataset") -> None:
        if isinstance(item, h5py.Dataset) and item.shape and not key.startswith("#refs#"):
            shapes[key] = item.shape[::-1] if turned else item.shape

    file.visititems(note)
    key = _choose(shapes, name, variable)
    stored = file[key]
    _real(stored.dtype, name)
    return StoredArray(name, shapes[key], turned, stored.__getitem__, stored.chunks)


def _old_mat(path: Path, name: str, variable: str | None) -> StoredArray:
    """A .mat of version 4 to 7, which holds 2 GB at most and is read as a whole."""
    from scipy.io import loadmat, whosmat

    numbers = ("double", "single", "int", "uint")
    shapes = {key: shape for key, shape, kind in whosmat(path) if kind.startswith(numbers)}
    key = _choose(shapes, name, variable)
    values = loadmat(path, variable_names=[key])[key]
    _real(values.dtype, name)
    return StoredArray(name, values.shape, False, values.__getitem__)


def _choose(shapes: dict[str, tuple[int, ...]], name: str, variable: str | None) -> str:
    """The array that is meant."""
    if variable is not None:
        if variable.strip("/") in shapes:
            return variable.strip("/")
        raise MissingError(
            f"{name} has no array {variable!r}, only {_some(shapes)}: choose one with --variable"
        )
    for key in GLMSINGLE:
        if key in shapes:
            return key
    wide = {key: shape for key, shape in shapes.items() if sum(size > 1 for size in shape) > 1}
    if len(wide) != 1:
        raise DataError(
            f"{name} has {len(wide)} arrays of two axes or more ({_some(wide)}), expected one: choose with --variable"
        )
    return next(iter(wide))


def _some(shapes: dict[str, tuple[int, ...]]) -> str:
    words = [f"{key} {shape}" for key, shape in list(shapes.items())[:6]]
    return ", ".join(words) + (" and others" if len(shapes) > 6 else "") if words else "none"


def _real(dtype: np.dtype, name: str) -> None:
    if dtype.kind not in "iuf":
        raise DataError(
            f"{name} holds values of the type {dtype}, expected integers or real numbers: save the betas as such"
        )
