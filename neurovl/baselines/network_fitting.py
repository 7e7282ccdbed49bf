"""What the systems that are networks share: training on the one loop, reading in batches, directions of embeddings."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from neurovl.baselines.decoder import FrozenParts
from neurovl.training.devices import choose_device
from neurovl.training.loop import Part, Schedule, batch_rows, fit

READ_TOGETHER = 256  # rows that a network reads at once

# The loss of a network on some rows, at a step.
LossOfRows = Callable[[nn.Module, np.ndarray, int], Tensor]


def n_numbers(network: nn.Module) -> int:
    """Numbers that training sets."""
    return sum(p.numel() for p in network.parameters() if p.requires_grad)


def n_steps(n_rows: int, epochs: float, batch_size: int) -> int:
    """Optimizer steps in which every row is read `epochs` times; one at least."""
    return max(1, math.ceil(epochs * n_rows / batch_size))


def train(
    network: nn.Module,
    loss: LossOfRows,
    n_rows: int,
    settings: Mapping[str, Any],
    parts: FrozenParts,
    place: tuple[str, ...],
) -> None:
    """Train a network in place on `n_rows` rows.

    Parameters
    ----------
    network : nn.Module
    loss : callable
        `loss(network, rows, step)`: mean loss of some rows.
    n_rows : int
    settings : mapping
        `lr`, `weight_decay`, `epochs`, `batch_size` and `precision`.
    parts : FrozenParts
        Seed, device, and the folder that a training which was interrupted goes on from.
    place : tuple of str
        Which network it is, such as ('subj01', 'image'): its folder below that one.
    """
    batch_size = min(settings["batch_size"], n_rows)
    schedule = Schedule(
        steps=n_steps(n_rows, settings["epochs"], batch_size),
        lr=settings["lr"],
        weight_decay=settings["weight_decay"],
        precision=settings["precision"],
    )

    def loss_at(model: nn.Module, step: int, part: Part) -> Tensor:
        return loss(model, part.of(batch_rows(n_rows, batch_size, step, parts.seed)), step)

    fit(
        network,
        loss_at,
        schedule,
        seed=parts.seed,
        checkpoint=None if parts.checkpoint is None else parts.checkpoint.joinpath(*place),
        device=parts.device,
        describe=" ".join(place),
    )


def place_of(network: nn.Module) -> torch.device:
    """Where a network's weights are."""
    return next(network.parameters()).device


def on(network: nn.Module, values: np.ndarray) -> Tensor:
    """An array as a tensor beside a network's weights."""
    return torch.as_tensor(values).to(place_of(network))


@torch.inference_mode()
def outputs(
    network: nn.Module, read: Callable[[np.ndarray], tuple[np.ndarray, ...]], n: int, device: str
) -> np.ndarray:
    """What a network gives for n rows that are read some at a time, float32 (n, ...); of several things the first.

    Parameters
    ----------
    read : callable
        `read(rows)`: what the network is given of some rows.
    device : str
        'auto', 'cpu', 'cuda' or 'mps'.
    """
    network, found = network.to(choose_device(device)).eval(), []
    for rows in np.array_split(np.arange(n), math.ceil(n / READ_TOGETHER)):
        said = network(*(on(network, values) for values in read(rows)))
        found.append((said[0] if isinstance(said, tuple) else said).float().cpu())
    return torch.cat(found).numpy()


def directions(embeddings: np.ndarray) -> np.ndarray:
    """Embeddings (..., E) divided by their length; one of length 0 stays 0.

    Examples
    --------
    >>> from neurovl.baselines.network_fitting import directions
    >>> directions(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """
    length = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    return embeddings / np.where(length > 0, length, 1)


def mean_length(embeddings: np.ndarray) -> float:
    """Mean length of embeddings (n, E).

    Examples
    --------
    >>> from neurovl.baselines.network_fitting import mean_length
    >>> mean_length(np.array([[3.0, 4.0], [0.0, 1.0]]))
    3.0
    """
    return float(np.linalg.norm(embeddings, axis=-1).mean())
