"""One subject's mean responses to the pictures it was trained on, and what these hold: what maps over many pictures rest on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neurovl.encoder.targets import Targets
from neurovl.errors import DataError
from neurovl.tokens.store import TokenStore

FEWEST = 4  # pictures that hold a concept, and that do not


@dataclass(frozen=True)
class PictureResponses:
    """Mean responses to n training pictures and what these hold.

    Attributes
    ----------
    subject : str
    image_ids : list of str, length n
    names : list of str, length C
        Concepts that `FEWEST` of the pictures hold at least, and that as many do not.
    sizes : float32 array, shape (n, C)
        Square root of the share of the picture that the largest box of the concept covers; 0 where there is none.
    voxels : float32 array, shape (n, V)
        Responses averaged over repeats, mean 0 and variance 1 over pictures; 0 where a voxel is constant.
    clip : float32 array, shape (n, E)
        CLIP embeddings of the pictures.
    latents : float32 array, shape (n, c, h, w), or None
        Their VAE latents, where the run has them.
    """

    subject: str
    image_ids: list[str]
    names: list[str]
    sizes: np.ndarray
    voxels: np.ndarray
    clip: np.ndarray
    latents: np.ndarray | None

    @classmethod
    def of(
        cls,
        store: TokenStore,
        targets: Targets,
        subject: str,
        objects: Callable[[str], list[dict]],
    ) -> "PictureResponses":
        """Those of a subject; test pictures are left out.

        Parameters
        ----------
        objects : callable
            What a picture holds: a list with ``category`` and ``box`` (x0, y0, x1, y1), in 0..1.

        Raises
        ------
        DataError
            The subject has no training trials.
        """
        trials = store.trials
        trials = trials[(trials.subject == subject) & (trials.split == "train")]
        if trials.empty:
            raise DataError(
                f"{subject} has no training trials, expected some: maps over many pictures rest on them; see the splits of the run"
            )
        rows = store.voxels_at(trials.index.to_numpy())
        means = pd.DataFrame(rows).groupby(trials.image_id.to_numpy()).mean()
        ids = list(means.index)
        held = [sizes_of(objects(image)) for image in ids]
        count = pd.Series([name for one in held for name in one], dtype=object).value_counts()
        names = sorted(count.index[(count >= FEWEST) & (count <= len(ids) - FEWEST)])
        sizes = [[one.get(name, 0.0) for name in names] for one in held]
        at = targets.rows(ids)
        return cls(
            subject,
            ids,
            names,
            np.asarray(sizes, np.float32).reshape(len(ids), len(names)),
            standard(means.to_numpy(np.float32)),
            targets.clip[at].float().numpy(),
            None if targets.vae is None else targets.vae[at].float().numpy(),
        )

    def take(self, rows: np.ndarray) -> "PictureResponses":
        """Some of the pictures, of which each concept may be in fewer."""
        return PictureResponses(
            self.subject,
            [self.image_ids[k] for k in rows],
            self.names,
            self.sizes[rows],
            standard(self.voxels[rows]),
            self.clip[rows],
            None if self.latents is None else self.latents[rows],
        )

    @property
    def holds(self) -> np.ndarray:
        """Which pictures hold which concept, bool (n, C)."""
        return self.sizes > 0


def standard(values: np.ndarray) -> np.ndarray:
    """Columns with mean 0 and variance 1; 0 where a column is constant.

    Examples
    --------
    >>> from neurovl.localization.picture_responses import standard
    >>> standard(np.array([[1.0, 5.0], [3.0, 5.0]])).tolist()
    [[-1.0, 0.0], [1.0, 0.0]]
    """
    away, spread = values - values.mean(0), values.std(0)
    return np.divide(away, spread, out=np.zeros_like(away), where=spread > 1e-6)


def sizes_of(objects: list[dict]) -> dict[str, float]:
    """Square root of the share of the picture that the largest box of each category covers."""
    found: dict[str, float] = {}
    for one in objects:
        x0, y0, x1, y1 = one["box"]
        area = max(x1 - x0, 0.0) * max(y1 - y0, 0.0)
        found[one["category"]] = max(found.get(one["category"], 0.0), area**0.5)
    return {name: size for name, size in found.items() if size > 0}
