"""Trilinear resize of volumes to chosen voxels of another grid: planned once a subject, applied to many volumes.

The resize is separable and fixed for a pair of grids. Wanted voxels that follow one another along the axis that is
contiguous in memory form a run; the plan holds, for each run, the four source lines around it and their weights, and
for each position along that axis the weights of four neighbours on the line. Applying it reads only these lines and
computes only the wanted voxels: 4 multiplications a source voxel of a line and 4 a wanted voxel.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np

from neurovl.errors import DataError

Grid = tuple[int, int, int]

TAPS = 4
COMPILED = ("int16", "uint8", "uint16", "float32", "float64")


@dataclass(frozen=True)
class _Runs:
    """Runs of wanted voxels; R runs, V voxels, lines of n_out voxels.

    Attributes
    ----------
    table : uint32 array (R, 8)
        First voxel in `order`, length, first position on the line, source voxels read, and where on the source the
        four lines begin.
    weights : float32 array (R, 4)
        Of the four lines.
    taps : float32 array (TAPS, n_out)
        Of a line's voxels, from the first one that a run reads at this position.
    order : int array (V,)
        The wanted voxels in the order of the runs.
    """

    table: np.ndarray
    weights: np.ndarray
    taps: np.ndarray
    order: np.ndarray


class Resizer:
    """Trilinear resize of volumes (x, y, z) to some voxels of another grid.

    Output voxel o of an axis with n_out voxels lies at the input coordinate (o + 1/2) n_in / n_out - 1/2, clamped to
    the grid, which is `scipy.ndimage.zoom(order=1, grid_mode=True, mode='nearest')`. Computed in float32.

    Parameters
    ----------
    shape, target : tuple of int
        Input and output grids (x, y, z).
    region : int array, shape (V,)
        Flat indices (C order) of the output voxels to compute.

    Examples
    --------
    >>> from neurovl.tokens.resize import Resizer
    >>> resizer = Resizer((4, 4, 4), (2, 2, 2), region=np.array([0, 7]))
    >>> resizer(np.ones((1, 4, 4, 4), np.float32)).tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, shape: Grid, target: Grid, region: np.ndarray) -> None:
        self.shape, self.target = tuple(map(int, shape)), tuple(map(int, target))
        self.region = np.asarray(region)

    @cached_property
    def _z_first(self) -> _Runs:
        return _plan_runs(self.shape, self.target, self.region, fast=2)

    @cached_property
    def _x_first(self) -> _Runs:
        return _plan_runs(self.shape, self.target, self.region, fast=0)

    @cached_property
    def inputs(self) -> np.ndarray:
        """Sorted flat indices, in Fortran order as in NIfTI files, of the input voxels that are read."""
        read = np.zeros(int(np.prod(self.shape)) + 1, np.int64)
        table = self._x_first.table.astype(np.int64)
        for line in range(4, 8):
            np.add.at(read, table[:, line], 1)
            np.add.at(read, table[:, line] + table[:, 3], -1)
        return np.flatnonzero(np.cumsum(read) > 0)

    @cached_property
    def _compact(self) -> np.ndarray:
        """The table of runs for volumes that hold the voxels of `inputs` alone."""
        table = self._x_first.table.copy()
        table[:, 4:] = np.searchsorted(self.inputs, table[:, 4:])
        return table

    def __call__(
        self,
        volumes: np.ndarray,
        out: np.ndarray | None = None,
        position: np.ndarray | None = None,
        n_jobs: int = 1,
    ) -> np.ndarray:
        """Resize whole volumes.

        Parameters
        ----------
        volumes : array, shape (n, x, y, z)
            Of any number type; read without a copy if x or z is contiguous and the type is a common one.
        out : float32 array, shape (n, T), optional
            Receives the values; by default a new array with T = V.
        position : int array, shape (V,), optional
            Column of `out` for every voxel of the region; 0 to V - 1 by default. Other columns are left alone.
        n_jobs : int
            Threads.

        Returns
        -------
        float32 array, shape (n, T)
        """
        if volumes.shape[1:] != self.shape:
            raise DataError(
                f"volumes have the grid {volumes.shape[1:]}, expected {self.shape} (x, y, z) as in the mask"
            )
        if volumes[:1].transpose(0, 3, 2, 1).flags.c_contiguous:
            runs, lines = self._x_first, volumes.transpose(0, 3, 2, 1)
        else:
            runs, lines = self._z_first, volumes
        lines = lines.reshape(len(volumes), -1)
        return self._apply(runs, runs.table, lines, out, position, n_jobs)

    def from_inputs(
        self,
        values: np.ndarray,
        scale: np.ndarray,
        shift: np.ndarray,
        out: np.ndarray | None = None,
        position: np.ndarray | None = None,
    ) -> np.ndarray:
        """Standardise the voxels of `inputs`, then resize: of values (n, n_inputs), (value - shift) * scale.

        Parameters
        ----------
        values : array, shape (n, n_inputs)
            In the order of `inputs`.
        scale, shift : array, shape (n_inputs,)
        out, position
            As for whole volumes.

        Returns
        -------
        float32 array, shape (n, V)
        """
        standard = np.subtract(values, shift, dtype=np.float32)
        standard *= scale
        return self._apply(self._x_first, self._compact, standard, out, position, 1)

    def _apply(
        self,
        runs: _Runs,
        table: np.ndarray,
        lines: np.ndarray,
        out: np.ndarray | None,
        position: np.ndarray | None,
        n_jobs: int,
    ) -> np.ndarray:
        if lines.dtype.newbyteorder("=").name not in COMPILED or not lines.flags.c_contiguous:
            lines = np.ascontiguousarray(lines, np.float32)
        elif not lines.dtype.isnative:
            lines = lines.astype(lines.dtype.newbyteorder("="))
        if out is None:
            out = np.empty((len(lines), len(self.region)), np.float32)
        position = runs.order if position is None else np.asarray(position)[runs.order]
        settings = (table, runs.weights, runs.taps, position.astype(np.uint32))
        if n_jobs == 1:
            _resize_runs(lines, out, *settings)
            return out
        parts = [slice(i, i + 8) for i in range(0, len(lines), 8)]
        with ThreadPoolExecutor(n_jobs) as pool:
            list(pool.map(lambda part: _resize_runs(lines[part], out[part], *settings), parts))
        return out


@numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def _resize_runs(
    source: np.ndarray,
    out: np.ndarray,
    table: np.ndarray,
    weights: np.ndarray,
    taps: np.ndarray,
    position: np.ndarray,
) -> None:
    """Apply a plan to volumes (n, n_source), one after the other; all indices unsigned, so none wraps around."""
    line = np.zeros(table[:, 3].max() + 4, np.float32)
    made = np.empty(table[:, 1].max(), np.float32)
    one, two, three = np.uint64(1), np.uint64(2), np.uint64(3)
    for v in range(len(source)):
        volume, row = source[v], out[v]
        for r in range(len(table)):
            first, length = np.uint64(table[r, 0]), np.uint64(table[r, 1])
            begin, width = np.uint64(table[r, 2]), np.uint64(table[r, 3])
            a = volume[np.uint64(table[r, 4]) : np.uint64(table[r, 4]) + width]
            b = volume[np.uint64(table[r, 5]) : np.uint64(table[r, 5]) + width]
            c = volume[np.uint64(table[r, 6]) : np.uint64(table[r, 6]) + width]
            d = volume[np.uint64(table[r, 7]) : np.uint64(table[r, 7]) + width]
            wa, wb, wc, wd = weights[r, 0], weights[r, 1], weights[r, 2], weights[r, 3]
            for k in range(width):
                line[k] = (
                    wa * np.float32(a[k])
                    + wb * np.float32(b[k])
                    + wc * np.float32(c[k])
                    + wd * np.float32(d[k])
                )
            line[width] = line[width + one] = line[width + two] = 0
            end = begin + length
            t0, t1, t2, t3 = (
                taps[0, begin:end],
                taps[1, begin:end],
                taps[2, begin:end],
                taps[3, begin:end],
            )
            for i in range(length):
                made[i] = (
                    t0[i] * line[i]
                    + t1[i] * line[i + one]
                    + t2[i] * line[i + two]
                    + t3[i] * line[i + three]
                )
            where = position[first : first + length]
            for i in range(length):
                row[where[i]] = made[i]


def _plan_runs(shape: Grid, target: Grid, region: np.ndarray, fast: int) -> _Runs:
    """Runs along the axis `fast` (0 or 2); the axes between lie as in an array that is contiguous along it."""
    slow = (0, 1) if fast == 2 else (2, 1)  # the slowest first
    axes = [_linear_axis(n_in, n_out) for n_in, n_out in zip(shape, target, strict=True)]
    at = np.unravel_index(region, target)
    order = np.lexsort((at[fast], at[slow[1]], at[slow[0]]))
    along, s1, s0 = (at[axis][order] for axis in (fast, slow[1], slow[0]))
    low, _, fraction = axes[fast]
    block, offset, taps = _taps(low, fraction)
    starts = np.ones(len(region), bool)
    starts[1:] = (np.diff(along) != 1) | (np.diff(block[along]) != 0)
    starts[1:] |= (np.diff(s1) != 0) | (np.diff(s0) != 0)
    first = np.flatnonzero(starts)
    length = np.diff(np.append(first, len(region)))
    begin = along[first]
    source = begin + offset[begin]
    width = np.minimum(length + TAPS - 1, shape[fast] - source)
    bases, weights = [], []
    for side0 in (0, 1):
        for side1 in (0, 1):
            lines, share = [], np.ones(len(first))
            for side, axis, part in ((side0, slow[0], s0[first]), (side1, slow[1], s1[first])):
                low, high, fraction = (x[part] for x in axes[axis])
                lines.append(high if side else low)
                share = share * (fraction if side else 1 - fraction)
            bases.append((lines[0] * shape[slow[1]] + lines[1]) * shape[fast] + source)
            weights.append(share)
    table = np.stack([first, length, begin, width, *bases], axis=1).astype(np.uint32)
    return _Runs(table, np.stack(weights, axis=1).astype(np.float32), taps, order)


def _taps(low: np.ndarray, fraction: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a line into blocks in which source and output drift apart by at most TAPS - 2 voxels.

    No block reads before the line's first voxel.

    Returns
    -------
    block, offset : int array, shape (n_out,)
        Block of each output voxel; distance from it to the first source voxel that its block reads there.
    taps : float32 array, shape (TAPS, n_out)
    """
    n_out = len(low)
    drift = low - np.arange(n_out)
    block, offset = np.zeros(n_out, int), np.zeros(n_out, int)
    begin = 0
    for end in range(1, n_out + 1):
        span = drift[begin : end + 1]
        if end == n_out or np.ptp(span) > TAPS - 2 or span.min() < -begin:
            block[begin:end], offset[begin:end] = begin, drift[begin:end].min()
            begin = end
    taps = np.zeros((TAPS, n_out), np.float32)
    here = np.arange(n_out)
    taps[drift - offset, here] = 1 - fraction
    between = np.flatnonzero(fraction)
    taps[(drift - offset)[between] + 1, between] = fraction[between]
    return block, offset, taps


def _linear_axis(n_in: int, n_out: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper source voxel of each output voxel, the same where it lies on one, and the upper one's share."""
    at = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    low = np.floor(at + 1e-9).astype(int)  # rounding must not put a voxel just below its own place
    fraction = np.maximum(at - low, 0)
    fraction[fraction < 1e-9] = 0
    return low, np.where(fraction > 0, low + 1, low), fraction


def resize_nearest(mask: np.ndarray, target: Grid) -> np.ndarray:
    """Nearest-voxel resize of a mask (x, y, z), aligned by voxel centres."""
    index = [
        np.minimum(((np.arange(o) + 0.5) * i / o).astype(int), i - 1)
        for i, o in zip(mask.shape, target, strict=True)
    ]
    return mask[np.ix_(*index)]


def resize_linear(volume: np.ndarray, target: Grid) -> np.ndarray:
    """Trilinear resize of one volume (x, y, z) to a grid, aligned by voxel centres; float32.

    Examples
    --------
    >>> from neurovl.tokens.resize import resize_linear
    >>> ramp = np.arange(4.0)[:, None, None] * np.ones((1, 2, 2))
    >>> resize_linear(ramp, (2, 2, 2))[:, 0, 0].tolist()
    [0.5, 2.5]
    """
    region = np.arange(int(np.prod(target)))
    return Resizer(volume.shape, tuple(target), region)(volume[None])[0].reshape(target)
