"""MindBridge's network: an embedder and a builder for each subject, a translator and heads that all share; its losses."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from neurovl.baselines.contrastive import softclip_loss
from neurovl.baselines.residual_mlp import Residual, ResidualBlocks, layer


def pooled(voxels: torch.Tensor, length: int) -> torch.Tensor:
    r"""Voxels of any subject at one length, by their order alone: tensor (n, V) to (n, L).

    .. math:: p_k = \max_{\lfloor k V / L \rfloor \le v < \lceil (k + 1) V / L \rceil} x_v

    References
    ----------
    Wang et al. 2024 (MindBridge).

    Examples
    --------
    >>> from neurovl.baselines.subject_bridge import pooled
    >>> pooled(torch.tensor([[1.0, 5.0, 2.0, 3.0]]), 2).tolist()
    [[5.0, 3.0]]
    """
    return functional.adaptive_max_pool1d(voxels, length)


def _adapter(width: int, narrow: int) -> nn.Module:
    return Residual(nn.Sequential(nn.Linear(width, narrow), nn.ReLU(), nn.Linear(narrow, width)))


class BridgeModel(nn.Module):
    """Embedders and builders of the subjects, and what they share.

    Parameters
    ----------
    subjects : sequence of str
    shapes : dict of str to tuple
        Of what is read, for one picture, by name.
    settings : dict
        MindBridge's.
    """

    def __init__(
        self,
        subjects: Sequence[str],
        shapes: dict[str, tuple[int, ...]],
        settings: Mapping[str, Any],
    ) -> None:
        super().__init__()
        width, self.shapes, self.settings = settings["width"], shapes, settings
        self.embedders, self.builders = nn.ModuleDict(), nn.ModuleDict()
        self.translator = ResidualBlocks(width, settings["blocks"], settings["block_dropout"])
        self.heads = nn.ModuleDict(
            {name: nn.Linear(width, int(np.prod(shape))) for name, shape in shapes.items()}
        )
        for subject in subjects:
            self.add(subject)

    def add(self, subject: str) -> None:
        """Give a subject an embedder and a builder, new ones where it has some."""
        length, width, narrow, dropout = (
            self.settings[name] for name in ("length", "width", "adapter", "dropout")
        )
        self.embedders[subject] = nn.Sequential(
            _adapter(length, narrow), layer(length, width, dropout)
        )
        self.builders[subject] = nn.Sequential(layer(width, length, 0.0), _adapter(length, narrow))

    def read(self, embedded: torch.Tensor) -> dict[str, torch.Tensor]:
        """Targets (n, ...) by name from what an embedder gives, (n, width)."""
        shared = self.translator(embedded)
        return {name: self.heads[name](shared).unflatten(1, s) for name, s in self.shapes.items()}

    def forward(
        self, voxels: dict[str, torch.Tensor], bridge: tuple[str, str]
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        """What is read of all rows, in order of subjects; squared errors of rebuilt voxels, and of the cycle.

        Parameters
        ----------
        voxels : dict of str to tensor, shape (n, L)
        bridge : tuple of str
            From which subject to which other the cycle goes; the first is among `voxels`.
        """
        embedded = {subject: self.embedders[subject](x) for subject, x in voxels.items()}
        rebuilt = [
            functional.mse_loss(self.builders[subject](embedded[subject]).float(), x)
            for subject, x in voxels.items()
        ]
        begin, other = bridge
        returned = self.embedders[other](self.builders[other](embedded[begin]))
        cycle = functional.mse_loss(returned.float(), embedded[begin].float())
        said = self.read(torch.cat(list(embedded.values())))
        return said, torch.stack(rebuilt).mean(), cycle


def reading_loss(
    said: dict[str, torch.Tensor], true: dict[str, torch.Tensor], temperature: float, weight: float
) -> torch.Tensor:
    r"""Sum over the targets of a contrast and a squared error of directions.

    .. math:: L = \sum_t L_\mathrm{SoftCLIP}(\hat y_t, y_t)
        + \frac{w}{n D_t} \left\| \frac{\hat y_t}{\|\hat y_t\|} - \frac{y_t}{\|y_t\|} \right\|^2

    Parameters
    ----------
    said, true : dict of str to tensor, shape (n, ...)
        Flattened to (n, D_t).
    temperature, weight : float

    References
    ----------
    Wang et al. 2024 (MindBridge).
    """
    losses = []
    for name, one in said.items():
        a, b = (functional.normalize(v.float().flatten(1), dim=1) for v in (one, true[name]))
        losses += [softclip_loss(a, b, temperature), weight * functional.mse_loss(a, b)]
    return torch.stack(losses).sum()
