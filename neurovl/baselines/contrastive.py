"""Contrast of brains with pictures: MixCo, BiMixCo and SoftCLIP, which MindEye, DREAM and MindBridge learn by.

Everything is computed in float32, whatever the precision of the training: a cosine is divided by a temperature of some
thousandths.
"""

import math
from typing import NamedTuple

import torch
from torch.nn import functional

BETA = 0.15  # both parameters of the distribution of the shares
MIXED = 0.5  # of a batch


class Mixture(NamedTuple):
    """A batch of which some rows are mixed with others.

    Attributes
    ----------
    voxels : tensor, shape (n, V)
        :math:`s_i x_i + (1 - s_i) x_{j(i)}`.
    partner : int tensor, shape (n,)
        :math:`j(i)`.
    share : tensor, shape (n,)
        :math:`s_i`, 1 for a row that is left as it was.
    """

    voxels: torch.Tensor
    partner: torch.Tensor
    share: torch.Tensor


def mixco(voxels: torch.Tensor, beta: float = BETA, mixed: float = MIXED) -> Mixture:
    """Mix each row with another one with the probability `mixed`, its share drawn from Beta(`beta`, `beta`).

    Parameters
    ----------
    voxels : tensor, shape (n, V)
    beta, mixed : float

    Returns
    -------
    Mixture
        Drawn from torch's own random numbers of the CPU, so the same on every device.

    References
    ----------
    Kim et al. 2020 (MixCo); the numbers are MindEye's (Scotti et al. 2023).

    Examples
    --------
    >>> from neurovl.baselines.contrastive import mixco
    >>> _ = torch.manual_seed(0)
    >>> batch = torch.eye(3)
    >>> mixture = mixco(batch, mixed=0.0)
    >>> torch.equal(mixture.voxels, batch), mixture.share.tolist()
    (True, [1.0, 1.0, 1.0])
    """
    n = len(voxels)
    partner = torch.randperm(n)
    share = torch.distributions.Beta(beta, beta).sample((n,))
    share = torch.where(torch.rand(n) < mixed, share, 1.0)
    partner, share = partner.to(voxels.device), share.to(voxels.device)
    weight = share.to(voxels.dtype)[:, None]
    return Mixture(weight * voxels + (1 - weight) * voxels[partner], partner, share)


def bimixco_loss(
    said: torch.Tensor,
    true: torch.Tensor,
    temperature: float,
    mixture: Mixture | None = None,
) -> torch.Tensor:
    r"""Cross entropy of brains with pictures, in both directions, where a mixed brain belongs to both its pictures.

    .. math:: L = -\frac{1}{2n} \sum_{ij} P_{ij} \left[ \log\operatorname{softmax}_j(S_{ij})
        + \log\operatorname{softmax}_i(S_{ij}) \right], \quad
        P_{ij} = s_i \delta_{ij} + (1 - s_i) \delta_{j\,j(i)}

    where :math:`S_{ij}` is the cosine of brain i and picture j divided by the temperature.

    Parameters
    ----------
    said, true : tensor, shape (n, ...)
        Further axes are flattened; lengths are of no meaning.
    temperature : float
    mixture : Mixture, optional
        How the brains were mixed; without it each belongs to its own picture alone.

    References
    ----------
    Scotti et al. 2023 (MindEye).
    """
    with torch.autocast(said.device.type, enabled=False):
        logits = _unit(said) @ _unit(true).T / temperature
        belongs = torch.eye(len(logits), device=logits.device)
        if mixture is not None:
            rows = torch.arange(len(logits), device=logits.device)
            belongs = belongs * mixture.share[:, None]
            belongs[rows, mixture.partner] += 1 - mixture.share
        return _both_ways(logits, belongs, belongs)


def softclip_loss(said: torch.Tensor, true: torch.Tensor, temperature: float) -> torch.Tensor:
    r"""Cross entropy of brains with pictures, in both directions, where pictures that are alike belong together.

    .. math:: L = -\frac{1}{2n} \sum_{ij} Q_{ij} \left[ \log\operatorname{softmax}_j(S_{ij})
        + \log\operatorname{softmax}_j(S_{ji}) \right], \quad Q = \operatorname{softmax}_j(T_{ij})

    where S holds the cosines of brains and pictures, T those of pictures and pictures, both divided by the temperature.

    Parameters
    ----------
    said, true : tensor, shape (n, ...)
        Further axes are flattened; lengths are of no meaning.
    temperature : float

    References
    ----------
    Scotti et al. 2023 (MindEye).
    """
    with torch.autocast(said.device.type, enabled=False):
        true = _unit(true)
        alike = (true @ true.T / temperature).softmax(1)
        return _both_ways(_unit(said) @ true.T / temperature, alike, alike.T)


def _both_ways(logits: torch.Tensor, brains: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Both weights are laid out as the logits are: brains down, pictures across."""
    to_pictures = (logits.log_softmax(1) * brains).sum()
    to_brains = (logits.log_softmax(0) * pictures).sum()
    return -(to_pictures + to_brains) / (2 * len(logits))


def _unit(values: torch.Tensor) -> torch.Tensor:
    return functional.normalize(values.float().flatten(1), dim=1)


def risen(begin: float, end: float, done: float) -> float:
    """Half a cosine from one number to another; `done` is the share of the way, from 0 to 1.

    Examples
    --------
    >>> from neurovl.baselines.contrastive import risen
    >>> risen(0.004, 0.0075, 0.0), risen(0.004, 0.0075, 1.0)
    (0.004, 0.0075)
    """
    return end + (begin - end) * (1 + math.cos(math.pi * done)) / 2
