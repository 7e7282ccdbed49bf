"""HDF5 files of volumes, read box by box along their chunks, so that no chunk is read twice."""

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import DataError
from neurovl.recordings.betas.stream import Betas, next_step

if TYPE_CHECKING:
    import h5py

BOX = 64 << 20  # bytes read at a time


class Hdf5Betas(Betas):
    """Volumes of an HDF5 dataset that h5py shows as (n_volumes, z, y, x)."""

    def __init__(self, path: Path, hint: str = "", dataset: str = "betas") -> None:
        super().__init__(path, hint)
        self.dataset = dataset
        with self._open() as stored:
            shape = getattr(stored, "shape", None)  # a group has none
            if shape is None or len(shape) != 4 or 0 in shape:
                found = "no array" if shape is None else f"an array of shape {shape}"
                raise DataError(
                    f"{path.name} has {found} named {dataset}, "
                    f"expected (volumes, z, y, x){next_step(hint)}"
                )
            if stored.dtype.kind not in "iuf":
                raise DataError(
                    f"{path.name} holds numbers of type {stored.dtype}, expected integers or real "
                    f"numbers{next_step(hint)}"
                )
            self.shape = tuple(int(size) for size in stored.shape[::-1])
            self.stored, self.dtype = stored.dtype, stored.dtype.newbyteorder("=")
            self._chunks = stored.chunks or (1, *stored.shape[1:])

    @contextlib.contextmanager
    def _open(self) -> Iterator["h5py.Dataset"]:
        import h5py

        try:
            with h5py.File(self.path, "r") as file:
                yield file[self.dataset]
        except (OSError, KeyError, RuntimeError) as problem:
            raise DataError(
                f"{self.path.name} cannot be read ({problem}), expected an HDF5 file with the "
                f"dataset {self.dataset}; the file may be cut short{next_step(self.hint)}"
            ) from problem

    def _gather(self, voxels: np.ndarray, positions: np.ndarray, out: np.ndarray) -> None:
        columns_first = np.empty(out.shape[::-1], out.dtype)  # as the chunks lie
        x, y, _ = self.shape[:3]
        at = np.stack([voxels // (x * y), voxels // x % y, voxels % x])
        with self._open() as stored:
            for columns in self._groups(at):
                here = at[:, columns]
                low, high = here.min(1), here.max(1) + 1
                z0, y0, x0 = here - low[:, None]
                for rows, block in self._boxes(stored, positions, low, high):
                    values = block[:, z0, y0, x0].T
                    if isinstance(rows, slice):
                        columns_first[columns, rows] = values
                    else:
                        columns_first[columns[:, None], rows] = values
        out[:] = columns_first.T

    def _copy(
        self, positions: np.ndarray, out: np.ndarray, rows: Sequence[int] | np.ndarray
    ) -> None:
        x, y, z = self.shape[:3]
        n, dz, dy, _ = self._chunks
        rest = n * min(dz, z) * min(dy, y) * x * self.stored.itemsize
        dy *= max(1, BOX // rest)
        with self._open() as stored:
            for z0, y0 in itertools.product(range(0, z, dz), range(0, y, dy)):
                z1, y1 = min(z0 + dz, z), min(y0 + dy, y)
                low, high = np.array([z0, y0, 0]), np.array([z1, y1, x])
                for found, block in self._boxes(stored, positions, low, high):
                    for row, part in zip(rows[found], block, strict=True):
                        out[row, :, y0:y1, z0:z1] = part.T

    def _groups(self, at: np.ndarray) -> Iterator[np.ndarray]:
        """Columns of `at` (z, y, x) in groups whose bounding boxes share no chunk and waste little.

        A group lies in one row of chunks along x, without a gap between its chunks.
        """
        if not at.shape[1]:
            return
        cell = at // np.array(self._chunks[1:])[:, None]
        order = np.lexsort(cell[::-1])
        z, y, x = cell[:, order]
        breaks = (np.diff(z) != 0) | (np.diff(y) != 0) | (np.diff(x) > 1)
        yield from np.split(order, np.flatnonzero(breaks) + 1)

    def _boxes(
        self, stored: "h5py.Dataset", positions: np.ndarray, low: np.ndarray, high: np.ndarray
    ) -> Iterator[tuple[np.ndarray | slice, np.ndarray]]:
        """Yield ``(rows, values (n, z, y, x))`` of one box, chunk after chunk of volumes."""
        order = np.argsort(positions, kind="stable")
        ranked = positions[order]
        chunk = self._chunks[0]
        volume = int(np.prod(high - low)) * self.stored.itemsize
        step = max(1, BOX // (chunk * volume)) * chunk
        (z0, y0, x0), (z1, y1, x1) = low, high
        for first in range(0, self.shape[3], step):
            start, stop = np.searchsorted(ranked, [first, first + step])
            if start == stop:
                continue
            begin, end = int(ranked[start]), int(ranked[stop - 1]) + 1
            block = stored[begin:end, z0:z1, y0:y1, x0:x1]
            chosen, rows = ranked[start:stop] - begin, order[start:stop]
            if not (len(block) == len(chosen) and (np.diff(chosen) == 1).all()):
                block = block[chosen]
            if (np.diff(rows) == 1).all():
                rows = slice(int(rows[0]), int(rows[-1]) + 1)
            yield rows, block
