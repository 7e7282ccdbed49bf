"""What a decoder reads: the z-scored responses of one subject at the voxels of its own mask, on its own grid."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike

from neurovl.errors import DataError

AT_A_TIME = 1024  # trials that are read from the disk together


@dataclass(frozen=True)
class SubjectVoxels:
    """Trials of one subject, or means over trials.

    Attributes
    ----------
    subject : str
    values : array, shape (n, V)
        z-scores by the training trials of each session; may be float16, and lie on the disk.
    image_ids : array of str, shape (n,)
        The picture of each row.
    repeats : array of int, shape (n,)
        Which presentation of the picture, from 0.
    mask : bool array, shape (x, y, z)
        Where the V voxels lie, in C order.
    rois : dict of str to bool array, shape (V,)
        Regions of the data set among the voxels; none where it has none.
    n_averaged : array of int, shape (n,)
        Trials whose mean each row is; 1 where nothing is said. `averaged` counts them.

    Examples
    --------
    >>> from neurovl.baselines.subject_voxels import SubjectVoxels
    >>> values = np.arange(12.0).reshape(4, 3)
    >>> seen, mask = np.array(["a", "b", "a", "b"]), np.ones((3, 1, 1), bool)
    >>> voxels = SubjectVoxels("subj01", values, seen, np.array([0, 0, 1, 1]), mask, {})
    >>> voxels.averaged().read().tolist()
    [[3.0, 4.0, 5.0], [6.0, 7.0, 8.0]]
    >>> voxels.averaged().n_averaged.tolist()
    [2, 2]
    >>> voxels.first().image_ids.tolist()
    ['a', 'b']
    """

    subject: str
    values: np.ndarray = field(repr=False)
    image_ids: np.ndarray = field(repr=False)
    repeats: np.ndarray = field(repr=False)
    mask: np.ndarray = field(repr=False)
    rois: dict[str, np.ndarray] = field(repr=False)
    n_averaged: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.n_averaged is None:
            object.__setattr__(self, "n_averaged", np.ones(len(self), int))
        n, found = int(np.sum(self.mask)), np.shape(self.values)
        if (
            len(found) != 2
            or found[1] != n
            or {found[0], len(self.repeats), len(self.n_averaged)} != {len(self)}
        ):
            raise DataError(
                f"the voxels of {self.subject} have shape {found} for {len(self)} pictures, {len(self.repeats)} repeats, "
                f"{len(self.n_averaged)} numbers of trials and a mask of {n} voxels, expected (n, {n}) and n of each"
            )

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def n_voxels(self) -> int:
        """V."""
        return self.values.shape[1]

    def read(self, rows: ArrayLike | None = None) -> np.ndarray:
        """z-scores of some rows, or of all, float32 (n, V)."""
        values = self.values if rows is None else self.values[np.asarray(rows)]
        return np.asarray(values, np.float32)

    def take(self, rows: ArrayLike) -> "SubjectVoxels":
        """Some rows alone, by number or as a bool array."""
        rows = np.asarray(rows)
        return self.with_values(
            self.values[rows], self.image_ids[rows], self.repeats[rows], self.n_averaged[rows]
        )

    def only(self, image_ids: Iterable[str]) -> "SubjectVoxels":
        """The trials of some pictures alone."""
        return self.take(np.flatnonzero(np.isin(self.image_ids, list(image_ids))))

    def with_values(
        self,
        values: np.ndarray,
        image_ids: np.ndarray | None = None,
        repeats: np.ndarray | None = None,
        n_averaged: np.ndarray | None = None,
    ) -> "SubjectVoxels":
        """The same subject with other responses."""
        return replace(
            self,
            values=values,
            image_ids=self.image_ids if image_ids is None else image_ids,
            repeats=self.repeats if repeats is None else repeats,
            n_averaged=self.n_averaged if n_averaged is None else n_averaged,
        )

    def averaged(self) -> "SubjectVoxels":
        """One row a picture, in order of name: the mean over its repeats."""
        pictures, group = np.unique(self.image_ids, return_inverse=True)
        sums = np.zeros((len(pictures), self.n_voxels), np.float32)
        for start in range(0, len(self), AT_A_TIME):
            part = slice(start, start + AT_A_TIME)
            np.add.at(sums, group[part], np.asarray(self.values[part], np.float32))
        means = sums / np.bincount(group)[:, None].astype(np.float32)
        trials = np.bincount(group, weights=self.n_averaged).astype(int)
        return self.with_values(means, pictures, np.zeros(len(pictures), int), trials)

    def first(self) -> "SubjectVoxels":
        """One row a picture, in order of name: its first repeat."""
        order = np.lexsort((self.repeats, self.image_ids))
        _, where = np.unique(self.image_ids[order], return_index=True)
        return self.take(order[where])

    def region(self, *names: str) -> np.ndarray:
        """Voxels that lie in any of some regions, bool (V,).

        Raises
        ------
        DataError
            The data set has none of them, or none of their voxels is in the mask.
        """
        known = [self.rois[name] for name in names if name in self.rois]
        found = np.any(known, axis=0) if known else np.zeros(self.n_voxels, bool)
        if not found.any():
            raise DataError(
                f"{self.subject} has no voxel in {', '.join(names)}, expected one of these regions at least (it has "
                f"{', '.join(self.rois) or 'none'}): add them to the data, or leave out the systems that read them"
            )
        return found

    def volumes(self, rows: ArrayLike | None = None) -> np.ndarray:
        """The rows on the subject's grid, float32 (n, x, y, z), 0 outside the mask."""
        values = self.read(rows)
        out = np.zeros((len(values), *self.mask.shape), np.float32)
        out[:, self.mask] = values
        return out
