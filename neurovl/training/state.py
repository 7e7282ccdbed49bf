"""What a training is at a step, kept in a checkpoint: weights, moving average, optimizer, curve, the best look so far."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from neurovl.files import replacing

logger = logging.getLogger(__name__)


class TrainingState:
    """The state of one training; `resume` and `save` are the only way in and out.

    The average is w <- d w + (1 - d) w_new with d = min(decay, (1 + n) / (10 + n)) at update n.
    """

    def __init__(
        self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, decay: float
    ) -> None:
        self.model, self.optimizer, self.decay = model, optimizer, decay
        self.count, self.curve = 0, []
        self.sums, self.steps = {}, 0  # losses since the last point of the curve
        self.saved, self.seconds = 0.0, 0.0  # when, and how long it took
        self.average = self._copy() if decay else {}
        self.best = {"loss": float("inf"), "looks": 0, "weights": {}}

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        return {n: p for n, p in self.model.named_parameters() if p.requires_grad}

    def _copy(self) -> dict[str, torch.Tensor]:
        return {n: p.detach().clone() for n, p in self._trained().items()}

    @torch.no_grad()
    def _place(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, p in self._trained().items():
            p.copy_(weights[name])

    @torch.no_grad()
    def update(self) -> None:
        """A step is done: take the weights into the average."""
        self.steps += 1
        if self.average:
            self.count += 1
            decay = min(self.decay, (1 + self.count) / (10 + self.count))
            now = self._trained()
            torch._foreach_lerp_(
                list(self.average.values()), [now[n] for n in self.average], 1 - decay
            )

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """The model holds the averaged weights within the body, and is in evaluation mode."""
        now = self._copy() if self.average else {}
        if self.average:
            self._place(self.average)
        self.model.eval()
        try:
            yield
        finally:
            if now:
                self._place(now)

    def add(self, losses: dict[str, torch.Tensor]) -> None:
        """Take a loss into the next point of the curve."""
        for name, value in losses.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value

    def means(self) -> dict[str, torch.Tensor]:
        """Mean losses over the steps since the last call."""
        found = {name: value / self.steps for name, value in self.sums.items()}
        self.sums, self.steps = {}, 0
        return found

    def judge(self, step: int, loss: float, patience: int) -> bool:
        """Remember the weights of the smallest validation loss; whether training should end."""
        self.best["looks"] += 1
        if patience and loss < self.best["loss"]:
            weights = {n: w.clone() for n, w in (self.average or self._copy()).items()}
            self.best = {"loss": loss, "looks": 0, "weights": weights}
        ends = bool(patience) and self.best["looks"] >= patience
        if ends:
            logger.info(
                "no smaller validation loss for %d looks: training ends at step %d", patience, step
            )
        return ends

    def finish(self, keep_best: bool) -> None:
        """The model holds the result: the best weights, or the average, or the last."""
        weights = self.best["weights"] if keep_best else self.average
        if weights:
            self._place(weights)

    def may_save(self) -> bool:
        """Whether 20 times as much time has gone by since the last checkpoint as it took to write."""
        return time.monotonic() - self.saved >= 20 * self.seconds

    def _changing(self) -> dict[str, torch.Tensor]:
        """Weights that are trained, and buffers; a frozen language model would be most of a checkpoint."""
        named = self.model.named_parameters(remove_duplicate=False)
        kept = {name for name, p in named if p.requires_grad}
        kept |= {name for name, _ in self.model.named_buffers()}
        return {n: value for n, value in self.model.state_dict().items() if n in kept}

    def save(self, folder: Path, step: int) -> None:
        """Write a checkpoint, which takes the place of the one before when it is whole."""
        start = time.monotonic()
        content = {
            "model": self._changing(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "count": self.count,
            "best": self.best,
            "curve": json.dumps(self.curve),
            "sums": self.sums,
            "steps": self.steps,
            "step": step,
        }
        with replacing(folder / "checkpoint.pt") as part:
            torch.save(content, part)
        self.saved = time.monotonic()
        self.seconds = self.saved - start

    def resume(self, folder: Path | None) -> int:
        """Continue from a checkpoint, where there is one; the step to go on with."""
        if folder is None or not (folder / "checkpoint.pt").exists():
            return 0
        device = next(self.model.parameters()).device
        state = torch.load(folder / "checkpoint.pt", weights_only=True, map_location="cpu")
        # Not strict: what is frozen is not in it, and in 4 bits it could not even be written over itself.
        self.model.load_state_dict(state["model"], strict=False)
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = {n: w.to(device) for n, w in state["average"].items()}
        weights = {n: w.to(device) for n, w in state["best"]["weights"].items()}
        self.count, self.best = state["count"], state["best"] | {"weights": weights}
        self.sums = {n: value.to(device) for n, value in state["sums"].items()}
        self.curve, self.steps = json.loads(state["curve"]), state["steps"]
        logger.info("continuing %s from step %d", folder.name, state["step"])
        return state["step"]
