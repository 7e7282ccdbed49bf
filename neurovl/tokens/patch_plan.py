"""From a subject's volumes to patches on one grid: trilinear resize, padding, cubes, selection (paper section 3.1).

Only voxels of kept patches are computed (see `resize`). Standardisation and storage are in `preprocessing`.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from neurovl.errors import DataError
from neurovl.tokens.resize import Grid, Resizer, resize_nearest


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
        'keep': every voxel of a kept patch has its value. 'zero': voxels outside the union of masks are 0. 'own': so are, in
        a token store, the voxels outside a subject's own mask.

    Examples
    --------
    >>> masks = {subject: data.mask(subject) for subject in data.subjects}
    >>> plan = neurovl.PatchPlan.fit(masks, target=data.mask(1).shape, patch=5)
    >>> tokens = plan.tokens(data.volumes(2, rows=[0]))
    >>> tokens.shape == (1, plan.n_tokens, 5**3)
    True
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
        off_mask: str = "own",
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
            'keep', 'zero' or 'own', see the class. The paper does not say which.

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
        if off_mask not in ("keep", "zero", "own"):
            raise DataError(
                f"off_mask is {off_mask!r}, expected 'keep', 'zero' or 'own'; choose one of them"
            )
        target = tuple(int(n) for n in (target or next(iter(masks.values())).shape))
        if len(target) != 3 or min(target) < 1:
            raise DataError(
                f"target is {target}, expected three sizes (x, y, z) in voxels; correct preprocessing.target of the profile"
            )
        patch = (int(patch),) * 3 if np.ndim(patch) == 0 else tuple(int(p) for p in patch)
        if len(patch) != 3 or min(patch) < 1:
            raise DataError(
                f"patch is {patch}, expected a positive edge length or three of them (x, y, z) in voxels; choose another "
                "with --patch or in preprocessing.patches of the profile"
            )
        if all(p > n for p, n in zip(patch, target, strict=True)):
            raise DataError(
                f"patch is {patch}, the common grid has {target} voxels, expected a smaller patch; choose one with "
                "--patch or in preprocessing.patches of the profile"
            )
        union = np.zeros(target, bool)
        for mask in masks.values():
            union |= resize_nearest(np.asarray(mask, bool), target)
        cubes = _cubes(_pad(union, patch), patch)
        kept = np.flatnonzero(cubes.any(axis=1))
        if off_mask != "keep":
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

    @cached_property
    def position(self) -> np.ndarray:
        """Place of every voxel of `region` in a row of tokens, shape (V,), from 0 to N * patch volume - 1."""
        column = self.gather.ravel()
        filled = np.flatnonzero(column < len(self.region))
        position = np.empty(len(self.region), np.int64)
        position[column[filled]] = filled
        return position

    @cached_property
    def blank(self) -> np.ndarray:
        """Places in a row of tokens that no voxel of `region` fills."""
        return np.flatnonzero(self.gather.ravel() == len(self.region))

    def tokens(
        self, volumes: np.ndarray, out: np.ndarray | None = None, n_jobs: int | None = None
    ) -> np.ndarray:
        """Patches of volumes on any grid.

        Parameters
        ----------
        volumes : array, shape (n, x, y, z)
            Volumes on one subject's grid, any unit and number type, finite. No copy is made of int16, uint8, uint16,
            float32 or float64 with x (as NIfTI files have it) or z contiguous.
        out : float32 array, shape (n, N, patch volume), optional
            Receives the tokens, to spare the system new memory for each block of volumes.
        n_jobs : int, optional
            Threads; all cores by default. The result is the same for any number.

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
        shape = (len(volumes), self.n_tokens, int(np.prod(self.patch)))
        if out is None:
            out = np.zeros(shape, np.float32)
        elif out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous:
            raise DataError(
                f"out is {out.dtype} of shape {out.shape}, expected a contiguous float32 array of shape {shape}"
            )
        else:
            out.reshape(len(out), -1)[:, self.blank] = 0
        resizer = self.resizer(volumes.shape[1:])
        resizer(volumes, out.reshape(len(out), -1), self.position, n_jobs or os.cpu_count() or 1)
        return out


def require_millimetres(patches: Sequence, affine: np.ndarray, subject: str) -> None:
    """Refuse patch sizes in millimetres where the affine is the identity, as of arrays saved without one: it states no size."""
    lengths = [patch for patch in patches if isinstance(patch, str)]
    if lengths and np.array_equal(affine, np.eye(4)):
        raise DataError(
            f"preprocessing.patches has {lengths[0]!r}, and the affine of the mask of {subject} is the identity, as of an array "
            "that was saved without one, expected the size of its voxels: save mask and volumes with their affine, or give "
            "the patch sizes in voxels, such as 5"
        )


def layout_name(patch: int | Sequence[int]) -> str:
    """Name of a patch size: 5 -> 'p5', (5, 5, 1) -> 'p5x5x1'."""
    edges = (patch,) * 3 if np.ndim(patch) == 0 else tuple(patch)
    return f"p{edges[0]}" if len(set(edges)) == 1 else "p" + "x".join(map(str, edges))


def _pad(volume: np.ndarray, patch: Grid, fill: float = 0) -> np.ndarray:
    after = [(0, -n % p) for n, p in zip(volume.shape, patch, strict=True)]
    return np.pad(volume, after, constant_values=fill)


def _cubes(volume: np.ndarray, patch: Grid) -> np.ndarray:
    """Cut a padded volume in patches, array (n_candidates, patch volume), both in C order of (x, y, z)."""
    (a, b, c), (i, j, k) = (n // p for n, p in zip(volume.shape, patch, strict=True)), patch
    return (
        volume.reshape(a, i, b, j, c, k).transpose(0, 2, 4, 1, 3, 5).reshape(a * b * c, i * j * k)
    )
