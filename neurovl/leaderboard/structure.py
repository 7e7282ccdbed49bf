"""Where things stand in a picture: masks that a linear probe of SceneNet reads, beside the true ones of drawn scenes.

True masks exist for simulated NSD alone, whose pictures are drawn from scene graphs. A reconstruction has none: its masks are an
estimate, which the same probe makes of every picture. How far it can be trusted says what it reads from the seen pictures.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import DataError
from neurovl.recordings import Recordings
from neurovl.smallworld import scenes

if TYPE_CHECKING:
    from PIL.Image import Image

    from neurovl.foundation.scenenet import MetricNetwork

SIDE = 32  # cells a side of a mask: SceneNet's finest stage
FITTED = 200  # training pictures that the probe learns from, at most
PENALTY = 1.0  # of the ridge; 200 pictures have 204,800 cells, so it weighs little
KINDS = tuple(scenes.CATEGORIES)
NONE = -1  # in the place of a category's number


@dataclass(frozen=True)
class Masks:
    """What stands where in n pictures.

    Attributes
    ----------
    foreground : bool array, shape (n, SIDE, SIDE)
        Rows are y.
    kinds : int array, shape (n, SIDE, SIDE)
        Number of the category in `KINDS`, `NONE` where none is seen.
    """

    foreground: np.ndarray
    kinds: np.ndarray

    def take(self, rows: Sequence[int] | np.ndarray) -> "Masks":
        """Those of some pictures."""
        return Masks(self.foreground[rows], self.kinds[rows])


def true_masks(recordings: Recordings, image_ids: Sequence[str]) -> Masks:
    """What is seen where in pictures of simulated NSD, by their scene graphs.

    Raises
    ------
    DataError
        The data are not simulated NSD, or a picture is not the one that is drawn from its number: a mask must belong to what
        was seen.
    """
    if recordings.name != "simulated-nsd":
        raise DataError(
            f"{recordings.name} has no true masks, expected simulated-nsd: its pictures alone are drawn from scene graphs"
        )
    kinds = np.full((len(image_ids), SIDE, SIDE), NONE)
    for own, image_id in zip(kinds, image_ids, strict=True):
        scene, seen = scenes.make_scene("nsd", int(image_id)), recordings.image(image_id)
        if not np.array_equal(np.asarray(scenes.render(scene, seen.size)), np.asarray(seen)):
            raise DataError(
                f"picture {image_id} is not what its scene graph draws, expected the same: the data are of another version, "
                "make them again with neurovl simulate"
            )
        for one, mask in zip(scene.objects, scenes.object_masks(scene, SIDE), strict=True):
            own[mask] = KINDS.index(one.category)
    return Masks(kinds != NONE, kinds)


class Probe:
    r"""Two ridge regressions on what SceneNet's four stages hold at each cell of a picture.

    .. math:: W = (X^T X + \lambda I)^{-1} X^T Y

    `X` has one row a cell, its features standardised. The first, of all cells, says what is foreground: as large a share of
    the training pictures' cells as truly is. The second, of foreground alone, says of which category, among those that SceneNet
    sees in the picture with a probability of at least .5. The penalty is 1; nothing is chosen.

    Parameters
    ----------
    network : MetricNetwork
        SceneNet.
    pictures : sequence of n PIL images
        Training pictures.
    masks : Masks
        Their true ones.
    """

    def __init__(self, network: "MetricNetwork", pictures: "Sequence[Image]", masks: Masks) -> None:
        self.network = network
        x = self._cells(pictures)
        x = x.reshape(-1, x.shape[-1])
        self.mean, self.scale = x.mean(0), np.maximum(x.std(0), 1e-6)
        there, kinds = masks.foreground.ravel(), masks.kinds.ravel()
        self.foreground = self._ridge(x, there[:, None].astype(np.float32))
        self.threshold = np.quantile(self._said(x, self.foreground), 1 - there.mean())
        one_hot = np.eye(len(KINDS), dtype=np.float32)
        self.kinds = self._ridge(x[there], one_hot[kinds[there]])

    def masks(self, pictures: "Sequence[Image]") -> Masks:
        """What is read in pictures."""
        x = self._cells(pictures)
        foreground = self._said(x, self.foreground)[..., 0] > self.threshold
        seen = (self.network.contents(pictures)["categories"] >= 0.5)[:, None, None]
        kinds = np.where(seen, self._said(x, self.kinds), -np.inf).argmax(-1)
        return Masks(foreground, np.where(foreground & seen.any(-1), kinds, NONE))

    def _with_constant(self, x: np.ndarray) -> np.ndarray:
        scaled = (x - self.mean) / self.scale
        return np.concatenate([scaled, np.ones((*x.shape[:-1], 1), x.dtype)], -1)

    def _ridge(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        a = self._with_constant(x)
        gram = (a.T @ a).astype(np.float64) + PENALTY * np.eye(a.shape[1])
        return np.linalg.solve(gram, (a.T @ y).astype(np.float64))

    def _said(self, x: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return self._with_constant(x) @ weights.astype(x.dtype)

    def _cells(self, pictures: "Sequence[Image]") -> np.ndarray:
        """Features of each cell, float32 (n, SIDE, SIDE, F)."""
        import torch
        from torch.nn.functional import interpolate

        from neurovl.foundation.pixels import SIZE, images_to_tensor

        x, stages = images_to_tensor(pictures, SIZE).to(self.network.device), []
        with torch.no_grad():
            for stage in self.network.net.stages:
                x = stage(x)
                stages.append(interpolate(x, (SIDE, SIDE), mode="bilinear", align_corners=False))
        return torch.cat(stages, 1).permute(0, 2, 3, 1).float().cpu().numpy()


def fit_probe(
    network: "MetricNetwork", recordings: Recordings, image_ids: Sequence[str], seed: int
) -> Probe:
    """The probe of a run, fitted to at most `FITTED` of its training pictures, drawn by the seed."""
    drawn = np.random.default_rng([seed, 17]).permutation(sorted(image_ids))[:FITTED].tolist()
    return Probe(network, [recordings.image(i) for i in drawn], true_masks(recordings, drawn))


def foreground_iou(read: Masks, true: Masks) -> np.ndarray:
    r"""Overlap of the foreground of n pairs of pictures, (n,).

    .. math:: \frac{|A \cap B|}{|A \cup B|}

    1 where neither has any.

    Examples
    --------
    >>> from neurovl.leaderboard.structure import Masks, foreground_iou
    >>> kinds = np.array([[[0, 0], [-1, 1]], [[0, -1], [-1, 2]]])
    >>> one, other = (Masks(k[None] >= 0, k[None]) for k in kinds)
    >>> foreground_iou(one, other).round(3).tolist()
    [0.667]
    """
    a, b = (x.foreground.reshape(len(x.foreground), -1) for x in (read, true))
    either = (a | b).sum(1)
    return np.where(either > 0, (a & b).sum(1) / np.maximum(either, 1), 1.0)


def category_iou(read: Masks, true: Masks) -> np.ndarray:
    """Overlap of each category's cells, the mean over the categories that are in either picture, (n,); 1 where there is none.

    Examples
    --------
    >>> from neurovl.leaderboard.structure import Masks, category_iou
    >>> kinds = np.array([[[0, 0], [-1, 1]], [[0, -1], [-1, 2]]])
    >>> one, other = (Masks(k[None] >= 0, k[None]) for k in kinds)
    >>> category_iou(one, other).round(3).tolist()
    [0.167]
    """
    found = []
    for a, b in zip(read.kinds, true.kinds, strict=True):
        kinds = np.setdiff1d(np.union1d(a, b), [NONE])
        overlaps = [((a == k) & (b == k)).sum() / ((a == k) | (b == k)).sum() for k in kinds]
        found.append(np.mean(overlaps) if overlaps else 1.0)
    return np.array(found)


STRUCTURE: dict[str, Callable[[Masks, Masks], np.ndarray]] = {
    "foreground_iou": foreground_iou,
    "category_iou": category_iou,
}


class StructureJudge:
    """`STRUCTURE` of pictures with the true masks of what was seen, a judge of `evaluation.picture_scores`."""

    def __init__(self, probe: Probe, recordings: Recordings, image_ids: Sequence[str]) -> None:
        self.probe, self.true = probe, true_masks(recordings, image_ids)
        self.row = {i: k for k, i in enumerate(image_ids)}

    def __call__(
        self, made: "list[Image]", ids: list[str], order: np.ndarray
    ) -> dict[str, tuple[np.ndarray, float]]:
        read, true = self.probe.masks(made), self.true.take([self.row[i] for i in ids])
        blind = read.take(order)
        return {
            name: (score(read, true), float(score(blind, true).mean()))
            for name, score in STRUCTURE.items()
        }
