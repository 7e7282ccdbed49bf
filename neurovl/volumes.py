"""From a subject's volumes to patches on one grid: trilinear resize, padding, cubes, selection (paper section 3.1).

The resize is linear and fixed for a subject, so it is planned once as a sparse matrix that computes only the voxels
that are kept and reads only the voxels that they need. Normalisation and storage are in `tokens`.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from .errors import DataError

Grid = tuple[int, int, int]


@dataclass(frozen=True)
class PatchPlan:
    """Which cubes of the common grid are tokens, the same for every subject.

    Attributes
    ----------
    target : tuple of int
        Common grid (x, y, z) that every volume is resized to.
    patch : tuple of int
        Edge lengths (x, y, z) of a patch in voxels of the common grid.
    kept : int array, shape (N,)
        Flat indices of the kept patches in the grid of candidates.
    region : int array, shape (V,)
        Flat indices in the common grid of the voxels that carry values; all others are 0 in the tokens.
    off_mask : str
        'keep': every voxel of a kept patch has its value. 'zero': voxels outside the union of masks are 0.
    """

    target: Grid
    patch: Grid
    kept: np.ndarray
    region: np.ndarray
    off_mask: str
    _resizers: dict = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def fit(
        cls,
        masks: dict[str, np.ndarray],
        target: Grid | None = None,
        patch: int | Grid = 14,
        off_mask: str = "keep",
    ) -> "PatchPlan":
        """Plan the patches from the subjects' masks.

        Each mask is resized to the common grid (nearest voxel), the union is padded with zeros after the last voxel
        to a multiple of the patch, and patches with at least one voxel of the union are kept.

        Parameters
        ----------
        masks : dict
            Subject to bool array of shape (x, y, z), each on the subject's own grid.
        target : tuple of int, optional
            Common grid; by default the grid of the first subject (the paper takes subj01).
        patch : int or tuple of int
            Edge length of a patch, one number or (x, y, z).
        off_mask : str
            'keep' or 'zero', see the class. The paper does not say which.

        Raises
        ------
        DataError
            No mask, an empty mask, or a patch that is not positive.
        """
        if not masks:
            raise DataError(
                "no mask was given, expected one bool array (x, y, z) for each subject; pass {subject: mask}"
            )
        for subject, mask in masks.items():
            if np.ndim(mask) != 3 or not np.any(mask):
                raise DataError(
                    f"the mask of {subject} has shape {np.shape(mask)} and {int(np.sum(mask))} voxels, "
                    "expected three axes and at least one voxel; choose another ROI"
                )
        if off_mask not in ("keep", "zero"):
            raise DataError(
                f"off_mask is {off_mask!r}, expected 'keep' or 'zero'; choose one of them"
            )
        target = tuple(int(n) for n in (target or next(iter(masks.values())).shape))
        patch = (int(patch),) * 3 if np.ndim(patch) == 0 else tuple(int(p) for p in patch)
        if len(patch) != 3 or min(patch) < 1:
            raise DataError(
                f"patch is {patch}, expected a positive edge length or three of them (x, y, z) in voxels"
            )
        union = np.zeros(target, bool)
        for mask in masks.values():
            union |= resize_nearest(np.asarray(mask, bool), target)
        cubes = _cubes(_pad(union, patch), patch)
        kept = np.flatnonzero(cubes.any(axis=1))
        if off_mask == "zero":
            region = np.flatnonzero(union)
        else:
            inside = _pad(np.arange(union.size).reshape(target), patch, fill=-1)
            region = _cubes(inside, patch)[kept].ravel()
            region = np.sort(region[region >= 0])
        return cls(target, patch, kept, region, off_mask)

    @property
    def n_tokens(self) -> int:
        """N, the number of patches kept."""
        return len(self.kept)

    @property
    def candidates(self) -> Grid:
        """Number of patches along x, y, z before the selection."""
        return tuple(-(-n // p) for n, p in zip(self.target, self.patch, strict=True))

    @cached_property
    def gather(self) -> np.ndarray:
        """Column of `region` for every voxel of every token, shape (N, patch volume); V where the voxel is 0."""
        return self.columns(self.region)

    def columns(self, region: np.ndarray) -> np.ndarray:
        """Like `gather`, for values stored for another, larger `region` (sorted flat indices of the common grid)."""
        flat = _pad(np.arange(np.prod(self.target)).reshape(self.target), self.patch, fill=-1)
        flat = _cubes(flat, self.patch)[self.kept]
        own = np.isin(flat, self.region)
        where = np.searchsorted(region, flat)
        where = np.where(where < len(region), where, 0)
        found = own & (region[where] == flat)
        if not np.array_equal(found, own):
            raise DataError(
                "the stored region lacks voxels of this patch plan; run neurovl preprocess with this patch size"
            )
        return np.where(found, where, len(region))

    def resizer(self, shape: Grid) -> "Resizer":
        """The planned resize from a subject's grid to `region`."""
        shape = tuple(int(n) for n in shape)
        if shape not in self._resizers:
            self._resizers[shape] = Resizer(shape, self.target, self.region)
        return self._resizers[shape]

    def tokens(self, volumes: np.ndarray) -> np.ndarray:
        """Patches of volumes on any grid.

        Parameters
        ----------
        volumes : array, shape (n, x, y, z)
            Volumes on one subject's grid, any unit.

        Returns
        -------
        float32 array, shape (n, N, patch volume)
            Trilinear interpolation aligned by voxel centres, edges repeated, zeros after the last voxel.
        """
        volumes = np.asarray(volumes)
        if volumes.ndim != 4:
            raise DataError(
                f"volumes have shape {volumes.shape}, expected (n, x, y, z); add the axis of trials"
            )
        values = self.resizer(volumes.shape[1:])(volumes)
        padded = np.concatenate([values, np.zeros((len(values), 1), np.float32)], axis=1)
        return padded[:, self.gather]


class Resizer:
    """Trilinear resize of whole volumes to some voxels of another grid.

    Output voxel o of an axis with n_out voxels lies at the input coordinate (o + 1/2) n_in / n_out - 1/2, clamped to
    the grid, which is `scipy.ndimage.zoom(order=1, grid_mode=True, mode='nearest')`.

    Parameters
    ----------
    shape, target : tuple of int
        Input and output grids (x, y, z).
    region : int array, shape (V,)
        Flat indices of the output voxels to compute.
    """

    def __init__(self, shape: Grid, target: Grid, region: np.ndarray):
        from scipy import sparse

        self.shape = shape
        parts = np.unravel_index(region, target)
        axes = [_linear_axis(n_in, n_out) for n_in, n_out in zip(shape, target, strict=True)]
        rows, columns, weights = [], [], []
        for corner in np.ndindex(2, 2, 2):
            index, weight = [], np.ones(len(region), np.float32)
            for axis, side, part in zip(axes, corner, parts, strict=True):
                low, high, fraction = axis
                index.append((high if side else low)[part])
                weight = weight * (fraction if side else 1 - fraction)[part]
            rows.append(np.arange(len(region)))
            columns.append(np.ravel_multi_index(index, shape))
            weights.append(weight.astype(np.float32))
        rows, columns, weights = (np.concatenate(x) for x in (rows, columns, weights))
        used = weights > 0
        self.inputs, compact = np.unique(columns[used], return_inverse=True)
        size = (len(region), len(self.inputs))
        self.matrix = sparse.csr_matrix((weights[used], (rows[used], compact)), shape=size)

    def __call__(self, volumes: np.ndarray) -> np.ndarray:
        """Values at the region, float32 (n, V), of volumes (n, x, y, z)."""
        if volumes.shape[1:] != self.shape:
            raise DataError(
                f"volumes have the grid {volumes.shape[1:]}, expected {self.shape} (x, y, z) as in the mask"
            )
        flat = volumes.reshape(len(volumes), -1)[:, self.inputs].astype(np.float32, copy=False)
        return np.ascontiguousarray((self.matrix @ flat.T).T)


def resize_nearest(mask: np.ndarray, target: Grid) -> np.ndarray:
    """Nearest-voxel resize of a mask (x, y, z), aligned by voxel centres."""
    index = [
        np.minimum(((np.arange(o) + 0.5) * i / o).astype(int), i - 1)
        for i, o in zip(mask.shape, target, strict=True)
    ]
    return mask[np.ix_(*index)]


def resize_linear(volume: np.ndarray, target: Grid) -> np.ndarray:
    """Trilinear resize of one volume (x, y, z) to a grid, aligned by voxel centres; float32."""
    region = np.arange(int(np.prod(target)))
    return Resizer(volume.shape, tuple(target), region)(volume[None])[0].reshape(target)


def _linear_axis(n_in: int, n_out: int):
    at = np.clip((np.arange(n_out) + 0.5) * n_in / n_out - 0.5, 0, n_in - 1)
    low = np.minimum(at.astype(int), max(n_in - 2, 0))
    return low, np.minimum(low + 1, n_in - 1), (at - low).astype(np.float32)


def _pad(volume: np.ndarray, patch: Grid, fill=0) -> np.ndarray:
    after = [(0, -n % p) for n, p in zip(volume.shape, patch, strict=True)]
    return np.pad(volume, after, constant_values=fill)


def _cubes(volume: np.ndarray, patch: Grid) -> np.ndarray:
    """Cut a padded volume in patches, array (n_candidates, patch volume), both in C order of (x, y, z)."""
    (a, b, c), (i, j, k) = (n // p for n, p in zip(volume.shape, patch, strict=True)), patch
    return (
        volume.reshape(a, i, b, j, c, k).transpose(0, 2, 4, 1, 3, 5).reshape(a * b * c, i * j * k)
    )
