"""The one training loop: Accelerate, AdamW, warm-up and cosine, EMA, early stop, checkpoints that resume exactly.

It knows no model and no data: it asks `loss_at(model, step, part)` for the loss of a part of a step's batch. Batches are a function of
the seed and the step alone (`batch_rows`), so a run that was killed continues with the same batches.
"""

import contextlib
import functools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from neurovl.errors import ConfigError
from neurovl.training.devices import accelerator_for, agree, several
from neurovl.training.sharding import divide, unite
from neurovl.training.state import TrainingState

logger = logging.getLogger(__name__)

Rows = TypeVar("Rows", Sequence, np.ndarray)


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
        'bf16', 'no' (float32) or 'auto', see `devices.choose_precision`.
    checkpoint_every : int
        Steps between checkpoints, or a multiple of it, so that writing them takes at most a twentieth of the time.
    clip_norm : float
        Largest norm of the gradient.
    accumulate : int
        Parts at least that a batch is computed in; several processes share them, one process computes its own one after
        the other.
    compile : bool
        Use `torch.compile` on a CUDA device.
    """

    steps: int
    lr: float
    weight_decay: float = 1e-2
    warmup: float = 0.03
    ema: float = 0.0
    precision: str = "bf16"
    checkpoint_every: int = 200
    clip_norm: float = 1.0
    accumulate: int = 1
    compile: bool = False

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
        order = _order(n_rows, seed, epoch)
        take = order[offset : offset + batch_size - sum(len(r) for r in rows)]
        rows.append(take)
        start += len(take)
    return np.concatenate(rows)


@functools.lru_cache(maxsize=4)
def _order(n_rows: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(n_rows)


@dataclass(frozen=True)
class Part:
    """The part of each batch that one process, or one step of gradient accumulation, takes.

    Parameters
    ----------
    index, count : int
        Part `index` of `count` parts of equal size.
    """

    index: int = 0
    count: int = 1

    def of(self, rows: Rows) -> Rows:
        """This part of something with one entry for each trial of the batch.

        Raises
        ------
        ConfigError
            The batch cannot be divided so.
        """
        size, rest = divmod(len(rows), self.count)
        if rest:
            raise ConfigError(
                f"the batch size is {len(rows)}, expected a multiple of {self.count} (processes, or accumulate where that is more); "
                "change batch_size or accumulate in the profile"
            )
        return rows[self.index * size : (self.index + 1) * size]


WHOLE = Part()


def parts_of(accumulate: int, processes: int) -> int:
    """How many parts a batch is computed in: as many for each process, and `accumulate` at least."""
    return processes * math.ceil(accumulate / processes)


@dataclass(frozen=True)
class Validation:
    """A loss that is watched while training, and what follows from it.

    Parameters
    ----------
    loss : callable
        `loss(model)` returns a float; a function of the weights alone.
    every : int
        Steps between two looks.
    patience : int
        Looks without a smaller loss after which training ends; the weights of the best look are then kept, also where
        the last step came first. 0: looks change nothing.
    """

    loss: Callable[[torch.nn.Module], float]
    every: int
    patience: int = 0


def fit(
    model: torch.nn.Module,
    loss_at: Callable[[torch.nn.Module, int, Part], torch.Tensor | dict[str, torch.Tensor]],
    schedule: Schedule,
    *,
    seed: int,
    checkpoint: Path | None = None,
    device: str = "auto",
    describe: str = "training",
    validation: Validation | None = None,
    trackers: tuple[str, ...] = (),
    logs: Path | None = None,
    divided: bool = False,
) -> list[dict]:
    """Train the model's parameters that require a gradient; on return they hold the (averaged) result.

    In several processes (`accelerate launch`) each takes its part of every batch, and gradients are averaged.

    Parameters
    ----------
    model : torch.nn.Module
        Moved to the device; trained in place.
    loss_at : callable
        `loss_at(model, step, part)` returns the mean loss over a part of the step's batch, or a dict with the key 'loss'
        and parts to report.
    schedule : Schedule
        Steps, rates, precision.
    seed : int
        Seeds torch at every step with (seed, step), so dropout and noise are the same after a resume.
    checkpoint : Path, optional
        Folder of the checkpoint. A training that was interrupted continues from it, given the model that it began with:
        weights without a gradient are not kept in it.
    device : str
        'auto', 'cpu', 'cuda' or 'mps'.
    describe : str
        Name shown beside the progress bar.
    validation : Validation, optional
        A loss to look at, and to stop early by.
    trackers : tuple of str
        Trackers of Accelerate to send the curve to, which write into the folder `logs`.
    divided : bool
        Several processes divide weights, gradients and optimizer states among them (`sharding.divide`) instead of each
        holding them all. Each then keeps its own part of a checkpoint.

    Returns
    -------
    list of dict
        About 200 points of the curve, and one for each look at the validation: step, lr, the means of the losses since
        the point before, and 'validation' where there was a look.

    Raises
    ------
    ConfigError
        A tracker that is not there, or a batch that cannot be divided among processes.
    """
    from tqdm.auto import tqdm

    accelerator = accelerator_for(schedule.precision, device, trackers, logs)
    model.to(accelerator.device)
    divided = divided and several()
    trained = divide(model, accelerator.mixed_precision == "bf16") if divided else model
    if divided:
        logger.info("%s: weights divided among %d processes", describe, accelerator.num_processes)
    optimizer = _optimizer(trained, schedule, accelerator.device)
    compiled = schedule.compile and accelerator.device.type == "cuda"
    used = torch.compile(trained) if compiled else trained
    if divided:
        wrapped, optimizer = used, accelerator.prepare(optimizer)
    else:
        wrapped, optimizer = accelerator.prepare(used, optimizer)
    state = TrainingState(trained, optimizer, schedule.ema, divided)
    accelerator.wait_for_everyone()
    start = state.resume(checkpoint)
    if validation and 0 < validation.patience <= state.best["looks"]:
        start = schedule.steps
    if trackers:
        accelerator.init_trackers(describe.replace(" ", "-"))
    count = parts_of(schedule.accumulate, accelerator.num_processes)
    each = count // accelerator.num_processes
    parts = [Part(accelerator.process_index * each + k, count) for k in range(each)]
    every, look = max(1, schedule.steps // 200), validation.every if validation else 0
    wrapped.train()
    steps = range(start, schedule.steps)
    for step in tqdm(steps, describe, initial=start, total=schedule.steps, disable=None):
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr * schedule.rate(step)
        for part in parts:
            torch.manual_seed(((seed << 24) + step) * count + part.index)
            last = part is parts[-1]
            # Whole gradients of a divided model would not fit: each part's go to their owners at once.
            at_once = last or divided
            with contextlib.nullcontext() if at_once else accelerator.no_sync(wrapped):
                with accelerator.autocast():
                    losses = loss_at(wrapped, step, part)
                losses = losses if isinstance(losses, dict) else {"loss": losses}
                accelerator.backward(losses["loss"] / len(parts))
            state.add({name: value.detach() / len(parts) for name, value in losses.items()})
        accelerator.clip_grad_norm_(trained.parameters(), schedule.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        state.update()
        done = step + 1
        ends = done == schedule.steps
        looks = validation is not None and (done % look == 0 or ends)
        if done % every == 0 or ends or looks:
            means = {k: float(accelerator.reduce(v, "mean")) for k, v in state.means().items()}
            point = {"step": done, "lr": optimizer.param_groups[0]["lr"], **means}
            if looks:
                with state.averaged(), accelerator.autocast():
                    point["validation"] = agree(validation.loss(trained), device)
                wrapped.train()
                ends = state.judge(done, point["validation"], validation.patience) or ends
            state.curve.append(point)
            accelerator.log({k: v for k, v in point.items() if k != "step"}, step=done)
        saves = checkpoint and (divided or accelerator.is_main_process)
        if saves and (ends or (done % schedule.checkpoint_every == 0 and state.may_save())):
            state.save(checkpoint, done)
        if ends:
            break
    state.finish(keep_best=validation is not None and validation.patience > 0)
    for tracker in accelerator.trackers:
        tracker.finish()
    if divided:
        optimizer.state.clear()  # the whole weights need the room
        unite(trained, model)
    elif not compiled:  # Accelerate has put autocast around its forward
        accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
    model.eval()
    return state.curve


def _optimizer(
    model: torch.nn.Module, schedule: Schedule, device: torch.device
) -> torch.optim.AdamW:
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": schedule.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    fused = device.type in ("cpu", "cuda")
    return torch.optim.AdamW(groups, lr=schedule.lr, betas=(0.9, 0.99), fused=fused)
