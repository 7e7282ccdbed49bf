"""A map of one concept in one subject's own space, with what is known of its chance."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurovl.tokens.resize import resize_linear
from neurovl.tokens.store import TokenStore

if TYPE_CHECKING:
    import pandas as pd
    from nibabel import Nifti1Image

LEVEL = 0.05  # of the false discovery rate, and of p over the family of all voxels


@dataclass(frozen=True)
class Heat:
    """Where a concept is, in one subject's space.

    Attributes
    ----------
    concept, subject : str
    values : float32 array, shape (x, y, z)
        0 to 1 within the subject's mask, 0 elsewhere.
    affine : array, shape (4, 4)
        Voxel to mm.
    p, p_family : float32 array, shape (x, y, z), or None
        Chance of as much heat without any relation between pictures and brain, in this voxel and in any voxel at all; 1 outside
        the mask. Not every method has it, see `map_tests.chance`.

    Examples
    --------
    >>> heat = run.locate("person", subject=1)
    >>> heat.roi_table(data.rois(1)).columns.tolist()
    ['roi', 'voxels', 'mean', 'peak', 'share']
    >>> heat.to_nifti().shape == data.mask(1).shape
    True
    """

    concept: str
    subject: str
    values: np.ndarray
    affine: np.ndarray
    p: np.ndarray | None = None
    p_family: np.ndarray | None = None

    def to_nifti(self) -> "Nifti1Image":
        """The heatmap as a nibabel NIfTI image."""
        import nibabel

        return nibabel.Nifti1Image(self.values, self.affine)

    def significant(self, mask: np.ndarray) -> np.ndarray:
        """The voxels of the mask that are hot at a false discovery rate of 5 %, bool (x, y, z); none where p is not known.

        Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57:289.

        Parameters
        ----------
        mask : bool array, shape (x, y, z)
            The voxels that were tested.
        """
        found = np.zeros(self.values.shape, bool)
        if self.p is not None:
            found[mask] = discoveries(self.p[mask])
        return found

    def roi_table(self, rois: dict[str, np.ndarray]) -> "pd.DataFrame":
        """Mean heat, peak and share of the total heat for each ROI, hottest first.

        Parameters
        ----------
        rois : dict of str to bool array (x, y, z)
        """
        import pandas as pd

        total = float(self.values.sum()) or 1.0
        rows = [
            {
                "roi": name,
                "voxels": int(roi.sum()),
                "mean": float(self.values[roi].mean()),
                "peak": float(self.values[roi].max()),
                "share": float(self.values[roi].sum()) / total,
            }
            for name, roi in rois.items()
            if roi.any()
        ]
        return pd.DataFrame(rows).sort_values("mean", ascending=False, ignore_index=True)


def discoveries(p: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """Which tests are rejected so that of these a share of `level` at most is expected to be false, bool (n,).

    Examples
    --------
    >>> from neurovl.localization.heat import discoveries
    >>> discoveries(np.array([0.01, 0.5, 0.02])).tolist()
    [True, False, True]
    """
    order = np.argsort(p, kind="stable")
    passed = np.flatnonzero(p[order] <= level * np.arange(1, len(p) + 1) / len(p))
    found = np.zeros(len(p), bool)
    if len(passed):
        found[order[: passed[-1] + 1]] = True
    return found


def in_own_space(
    concept: str,
    store: TokenStore,
    subject: str | int,
    grid: np.ndarray,
    p: np.ndarray | None = None,
    p_family: np.ndarray | None = None,
) -> Heat:
    """A map on the common grid as a heatmap in the subject's mask, scaled from 0 to 1.

    Parameters
    ----------
    grid : array, shape `store.target`
    p, p_family : array, shape `store.target`, optional
    """
    image = store.mask(subject)
    mask = np.asarray(image.dataobj) > 0
    own = resize_linear(grid, mask.shape) * mask
    inside = own[mask]
    span = float(inside.max() - inside.min()) or 1.0

    def chance(values: np.ndarray | None) -> np.ndarray | None:
        if values is None:
            return None
        return np.where(mask, resize_linear(values, mask.shape), 1).astype(np.float32)

    return Heat(
        concept,
        store.subject_name(subject),
        np.where(mask, (own - inside.min()) / span, 0).astype(np.float32),
        image.affine,
        chance(p),
        chance(p_family),
    )


def on_grid(store: TokenStore, values: np.ndarray, outside: float = 0.0) -> np.ndarray:
    """Values of the stored voxels (V,) on the common grid, with `outside` where none is stored."""
    grid = np.full(int(np.prod(store.target)), outside, np.float32)
    grid[store.region] = values
    return grid.reshape(store.target)
