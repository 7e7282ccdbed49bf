"""The one training loop: Accelerate, AdamW, warm-up and cosine, EMA, checkpoints that resume exactly.

It knows no model and no data: it asks `loss_at(model, step)` for the loss of a step. Batches are a function of
the seed and the step alone (`batch_rows`), so a run that was killed continues with the same batches.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train.

    Parameters
    ----------
    steps : int
        Optimizer steps.
    lr : float
        Peak learning rate, reached after `warmup` of the steps, then cosine to zero.
    weight_decay : float
        Decoupled weight decay of matrices; biases, norms and embeddings of one dimension have none.
    warmup : float
        Fraction of the steps.
    ema : float
        Decay of the exponential moving average of the weights; 0 keeps the last weights.
    precision : str
        'bf16' or 'no' (float32), as Accelerate names them.
    checkpoint_every : int
        Steps between checkpoints.
    clip_norm : float
        Largest norm of the gradient.
    """

    steps: int
    lr: float
    weight_decay: float = 1e-2
    warmup: float = 0.03
    ema: float = 0.0
    precision: str = "bf16"
    checkpoint_every: int = 200
    clip_norm: float = 1.0

    def rate(self, step: int) -> float:
        """Learning rate at a step, as a fraction of the peak."""
        warm = max(1, round(self.warmup * self.steps))
        if step < warm:
            return (step + 1) / warm
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, self.steps - warm)))


def batch_rows(n_rows: int, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Rows of a training batch: every row once an epoch, each epoch in an order of its own.

    Parameters
    ----------
    n_rows, batch_size, step, seed : int
        The result depends on nothing else, which makes training resumable.

    Returns
    -------
    array of int, shape (batch_size,)
        A batch that reaches over the end of an epoch is completed from the next one.
    """
    rows: list[np.ndarray] = []
    start = step * batch_size
    while sum(len(r) for r in rows) < batch_size:
        epoch, offset = divmod(start, n_rows)
        order = np.random.default_rng([seed, epoch]).permutation(n_rows)
        take = order[offset : offset + batch_size - sum(len(r) for r in rows)]
        rows.append(take)
        start += len(take)
    return np.concatenate(rows)


def accelerator_for(precision: str, device: str = "auto"):
    """An Accelerator on the device asked for ('auto', 'cpu', 'cuda', 'mps'); it says in the log what was chosen."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    # Accelerate keeps one precision a process; stages differ in theirs.
    AcceleratorState._reset_state(reset_partial_state=False)
    accelerator = Accelerator(mixed_precision=precision, cpu=device == "cpu")
    log.info("device %s, precision %s", accelerator.device, precision)
    return accelerator


def choose_device(device: str = "auto") -> str:
    """Name of the device to compute on: 'cuda' where there is one, else 'mps', else 'cpu'."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def fit(
    model: torch.nn.Module,
    loss_at: Callable[[torch.nn.Module, int], torch.Tensor | dict[str, torch.Tensor]],
    schedule: Schedule,
    *,
    seed: int,
    checkpoint: Path | None = None,
    device: str = "auto",
    describe: str = "training",
) -> list[dict]:
    """Train the model's parameters that require a gradient; on return they hold the (averaged) result.

    Parameters
    ----------
    model : torch.nn.Module
        Moved to the device; trained in place.
    loss_at : callable
        `loss_at(model, step)` returns a loss, or a dict with the key 'loss' and parts to report.
    schedule : Schedule
        Steps, rates, precision.
    seed : int
        Seeds torch at every step with (seed, step), so dropout and noise are the same after a resume.
    checkpoint : Path, optional
        Folder of the checkpoint. A training that was interrupted continues from it.
    device : str
        'auto', 'cpu', 'cuda' or 'mps'.
    describe : str
        Name shown beside the progress bar.

    Returns
    -------
    list of dict
        About 200 points of the curve: step, lr and the means of the losses since the point before.
    """
    from tqdm.auto import tqdm

    accelerator = accelerator_for(schedule.precision, device)
    decayed = [p for p in model.parameters() if p.requires_grad and p.ndim > 1]
    plain = [p for p in model.parameters() if p.requires_grad and p.ndim <= 1]
    groups = [
        {"params": decayed, "weight_decay": schedule.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=schedule.lr, betas=(0.9, 0.99)
    )
    wrapped, optimizer = accelerator.prepare(model, optimizer)
    average = _Average(model, schedule.ema) if schedule.ema else None
    curve, start = _resume(checkpoint, model, optimizer, average)
    every = max(1, schedule.steps // 200)
    sums: dict[str, float] = {}
    wrapped.train()
    for step in tqdm(
        range(start, schedule.steps),
        desc=describe,
        initial=start,
        total=schedule.steps,
        disable=None,
    ):
        torch.manual_seed((seed << 24) + step)
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * schedule.rate(step)
        with accelerator.autocast():
            losses = loss_at(wrapped, step)
        losses = losses if isinstance(losses, dict) else {"loss": losses}
        accelerator.backward(losses["loss"])
        accelerator.clip_grad_norm_(decayed + plain, schedule.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if average:
            average.update(model)
        for name, value in losses.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if (step + 1) % every == 0 or step + 1 == schedule.steps:
            n = (step % every) + 1
            curve.append(
                {
                    "step": step + 1,
                    "lr": optimizer.param_groups[0]["lr"],
                    **{k: v / n for k, v in sums.items()},
                }
            )
            sums = {}
        if checkpoint and (
            (step + 1) % schedule.checkpoint_every == 0 or step + 1 == schedule.steps
        ):
            _save(checkpoint, model, optimizer, average, curve, step + 1)
    if average:
        average.copy_to(model)
    model.eval()
    return curve


class _Average:
    """Exponential moving average of the trained weights, w <- decay w + (1 - decay) w_new, with a warm start."""

    def __init__(self, model, decay: float):
        self.decay, self.count = decay, 0
        self.weights = {
            n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad
        }

    def update(self, model):
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name in self.weights:
                    self.weights[name].lerp_(p.detach(), 1 - decay)

    def copy_to(self, model):
        with torch.no_grad():
            for name, p in model.named_parameters():
                if name in self.weights:
                    p.copy_(self.weights[name])


def _save(folder: Path, model, optimizer, average, curve, step: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average and {"weights": average.weights, "count": average.count},
        "curve": json.dumps(curve),
        "step": step,
        "time": time.time(),
    }
    torch.save(state, folder / "checkpoint.pt.partial")
    os.replace(folder / "checkpoint.pt.partial", folder / "checkpoint.pt")


def _resume(folder: Path | None, model, optimizer, average) -> tuple[list[dict], int]:
    if folder is None or not (folder / "checkpoint.pt").exists():
        return [], 0
    state = torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    if average:
        device = next(iter(average.weights.values())).device
        average.weights = {k: v.to(device) for k, v in state["average"]["weights"].items()}
        average.count = state["average"]["count"]
    log.info("continuing %s from step %d", folder.name, state["step"])
    return json.loads(state["curve"]), state["step"]
