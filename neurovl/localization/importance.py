"""Which voxels each head of the encoder reads: integrated gradients, zeroing, and regions moved at random as a null.

The two heads share all layers but their own, so that the same pass through the network answers for both.
"""

import logging
from collections.abc import Sequence

import numpy as np
import torch

from neurovl.encoder.alignment import predict
from neurovl.encoder.vit3d import BrainEmbedding, BrainEncoder
from neurovl.localization.zeroing import SILENT, balls, nearest
from neurovl.tokens.store import TokenStore

logger = logging.getLogger(__name__)

NODES = 16  # of the Gauss-Legendre rule
GAP = 0.02  # of the gain that the integral may miss without a warning


def by_head(z: BrainEmbedding) -> dict[str, torch.Tensor]:
    """What each head says, flat (B, T): 'clip-head' and, where there is one, 'vae-head'."""
    said = {"clip-head": z.clip}
    return said if z.vae is None else said | {"vae-head": z.vae.flatten(1)}


def attributions(
    encoder: BrainEncoder,
    store: TokenStore,
    voxels: np.ndarray,
    deviations: dict,
    batch_size: int = 32,
) -> dict[str, np.ndarray]:
    r"""How much each voxel brings the prediction of a head towards the right picture, by integrated gradients.

    .. math::

        A_{iv} = x_{iv} \int_0^1 \frac{\partial g_i(a x_i)}{\partial x_{iv}} da, \qquad
        g_i(x) = \frac{\langle f(x), t_i - m \rangle}{\|t_i - m\|^2}

    g is the gain of the head f along the deviation of the picture's embedding t_i from the mean m: 0 for the mean, 1 for
    the embedding itself. The path begins at z-scores of 0, the mean response. Summed over all voxels A_i is g_i(x_i) - g_i(0) (completeness), so that
    shares of sets of voxels add up; for a linear head, A summed over a set is what the gain loses when the set is zeroed.

    Parameters
    ----------
    voxels : array, shape (n, V)
        Stored voxels of n pictures.
    deviations : dict of str to tensor, shape (n, T)
        By head (see `by_head`), t - m.

    Returns
    -------
    dict of str to float32 array, shape (n, V)

    References
    ----------
    Sundararajan et al. 2017, Axiomatic attribution for deep networks, ICML.

    Examples
    --------
    >>> from neurovl.localization.importance import attributions
    >>> voxels = run.store.voxels(subject=1, rows=[0, 1])
    >>> ids = run.store.trials.image_id[:2]
    >>> clip = run.targets.clip
    >>> deviations = {"clip-head": clip[run.targets.rows(ids)] - clip.mean(0)}
    >>> found = attributions(run.encoder(), run.store, voxels, deviations)
    >>> found["clip-head"].shape == voxels.shape
    True
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    place = next(encoder.parameters()).device
    x = torch.as_tensor(voxels, dtype=torch.float32)
    along = {h: d / d.square().sum(1, keepdim=True).clamp(min=1e-12) for h, d in deviations.items()}
    out = {head: torch.zeros_like(x) for head in along}
    for rows in torch.arange(len(x)).split(batch_size):
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            with torch.enable_grad():
                point = (float(node) * x[rows]).requires_grad_(True)
                said = by_head(encoder(store.cut(point, encoder.layout).to(place)))
                for head, direction in along.items():
                    gain = (said[head].float() * direction[rows].to(place)).sum()
                    (slope,) = torch.autograd.grad(gain, point, retain_graph=True)
                    out[head][rows] += float(weight) * slope
    ends = [by_head(predict(encoder, store.cut(s * x, encoder.layout))) for s in (1.0, SILENT)]
    for head, direction in along.items():
        out[head] *= x
        gained = float(((ends[0][head] - ends[1][head]) * direction).sum(1).mean())
        summed = float(out[head].sum(1).mean())
        if abs(summed - gained) > GAP * abs(gained):
            logger.warning(
                "integrated gradients of the %s sum to %.3g, the gain is %.3g: %d nodes do not follow this encoder well",
                head,
                summed,
                gained,
                NODES,
            )
    return {head: values.numpy() for head, values in out.items()}


def agreement(
    encoder: BrainEncoder, store: TokenStore, voxels: np.ndarray, deviations: dict, means: dict
) -> dict[str, np.ndarray]:
    """Cosine of f(x_i) - m with t_i - m, by head, shape (n,): how well a head tells one picture from the mean.

    Parameters
    ----------
    means : dict of str to tensor, shape (T,)
        m, the mean embedding of the training pictures.
    """
    said = by_head(predict(encoder, store.cut(voxels, encoder.layout)))
    return {
        head: torch.nn.functional.cosine_similarity(said[head] - means[head], d, dim=1).numpy()
        for head, d in deviations.items()
    }


def places(where: np.ndarray, share: float, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Pairs of places to move two regions to: any voxel, and one outside the ball around it that holds `share` of them.

    Parameters
    ----------
    where : array, shape (V, 3)
        Voxels of any subject's mask in the common space, in mm. All subjects' regions are moved to the same places: what
        their maps have in common would else seem to be found in each of them anew.

    Returns
    -------
    array, shape (draws, 2, 3)
    """
    out = np.empty((draws, 2, 3))
    for pair in out:
        pair[0] = where[rng.integers(len(where))]
        outside = nearest(where, pair[0])[min(round(share * len(where)), len(where) - 1) :]
        pair[1] = where[rng.choice(outside)]
    return out


def moved_regions(
    values: np.ndarray, where: np.ndarray, sizes: Sequence[int], to: np.ndarray
) -> np.ndarray:
    """The sums of `values` over regions of the same sizes elsewhere, for a null that keeps regions in one piece.

    A moved region is a ball, the voxels nearest to a place. The null assumes that a map of importance has nothing to do
    with the place of the region, but is as smooth as it is; exchanging single voxels would take neighbours for independent
    and so make p too small. Regions in two hemispheres are less compact than a ball, whose sums vary more, and balls take
    the middle of the mask more often than its edge: chance is the mean of the null, not size / V.

    Parameters
    ----------
    values : array, shape (H, V)
        Maps over the voxels of a subject's own mask.
    where : array, shape (V, 3)
        Their places in mm.
    sizes : sequence of int, length R
        In voxels, 1 to V.
    to : array, shape (draws, 3)

    Returns
    -------
    array, shape (draws, H, R)
    """
    last = np.asarray(sizes) - 1
    return np.stack([values[:, nearest(where, place)].cumsum(1)[:, last] for place in to])


def moved_pairs(
    values: np.ndarray, where: np.ndarray, first: int, second: int, to: np.ndarray
) -> np.ndarray:
    """Like `moved_regions` for two that share no voxel: the first one's sum minus the second one's, (draws, H).

    Parameters
    ----------
    to : array, shape (draws, 2, 3)
    """
    out = np.empty((len(to), len(values)))
    for draw, pair in enumerate(to):
        here, there = balls(where, (first, second), pair)
        out[draw] = values[:, here].sum(1) - values[:, there].sum(1)
    return out


def p_value(null: np.ndarray, observed: float) -> float:
    """Two-sided p of an observation: twice the share of draws at least as far out on its side, itself counted."""
    tails = [1 + int((null >= observed).sum()), 1 + int((null <= observed).sum())]
    return min(1.0, 2 * min(tails) / (len(null) + 1))
