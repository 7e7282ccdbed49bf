"""What a training is at a step, kept in a checkpoint: weights, moving average, optimizer, curve, the best look so far.

A divided model's processes each keep their own share: the leader's file is written last, and says which step's the others are.
"""

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from neurovl.errors import ConfigError
from neurovl.files import replacing
from neurovl.training.devices import agree, share, wait_for_all
from neurovl.training.sharding import as_share, own

logger = logging.getLogger(__name__)


class TrainingState:
    """The state of one training; `resume` and `save` are the only way in and out.

    The average is w <- d w + (1 - d) w_new with d = min(decay, (1 + n) / (10 + n)) at update n.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        decay: float,
        divided: bool = False,
    ) -> None:
        self.model, self.optimizer, self.decay = model, optimizer, decay
        self.index, self.shares = share() if divided else (0, 1)
        self.count, self.curve = 0, []
        self.sums, self.steps = {}, 0  # losses since the last point of the curve
        self.saved, self.seconds = 0.0, 0.0  # when, and how long it took
        self.average = self._copy() if decay else {}
        self.best = {"loss": float("inf"), "looks": 0, "weights": {}}

    def _trained(self) -> dict[str, torch.Tensor]:
        """This process's share of the weights that are trained."""
        named = self.model.named_parameters()
        return {n: own(p.detach()) for n, p in named if p.requires_grad}

    def _copy(self) -> dict[str, torch.Tensor]:
        return {n: w.clone() for n, w in self._trained().items()}

    @torch.no_grad()
    def _place(self, weights: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self._trained().items():
            weight.copy_(weights[name])

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
        may = time.monotonic() - self.saved >= 20 * self.seconds
        return agree(may, self._device().type) if self.shares > 1 else may

    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _changing(self) -> dict[str, torch.Tensor]:
        """Weights that are trained, and buffers; a frozen language model would be most of a checkpoint."""
        named = self.model.named_parameters(remove_duplicate=False)
        kept = {name for name, p in named if p.requires_grad}
        kept |= {name for name, _ in self.model.named_buffers()}
        return {n: own(value) for n, value in self.model.state_dict().items() if n in kept}

    def save(self, folder: Path, step: int) -> None:
        """Write a checkpoint, which takes the place of the one before when it is whole."""
        start = time.monotonic()
        optimizer = self.optimizer.state_dict()
        optimizer["state"] = {
            k: {name: own(value) for name, value in values.items()}
            for k, values in optimizer["state"].items()
        }
        content = {
            "model": self._changing(),
            "optimizer": optimizer,
            "average": self.average,
            "count": self.count,
            "best": self.best,
            "curve": json.dumps(self.curve),
            "sums": self.sums,
            "steps": self.steps,
            "step": step,
            "shares": self.shares,
        }
        if self.shares == 1:
            _write(content, folder / "checkpoint.pt")
        else:
            self._save_shares(content, folder, step)
        self.saved = time.monotonic()
        self.seconds = self.saved - start

    def _save_shares(self, content: dict, folder: Path, step: int) -> None:
        """The others' shares first, then the leader's, which makes them count; then those before are dropped."""
        own_file, device = self._share_file(folder, step), self._device().type
        if self.index:
            _write(content, own_file)
        wait_for_all(device)
        if not self.index:
            _write(content, folder / "checkpoint.pt")
        wait_for_all(device)
        for old in folder.glob(self._share_file(folder, "*").name):
            if old != own_file:
                old.unlink()

    def _share_file(self, folder: Path, step: int | str) -> Path:
        return folder / f"share-{self.index}-of-{self.shares}-step-{step}.pt"

    def resume(self, folder: Path | None) -> int:
        """Continue from a checkpoint, where there is one; the step to go on with.

        Raises
        ------
        ConfigError
            Another number of processes divides the weights than when it was written.
        """
        file = folder and folder / "checkpoint.pt"
        if file is None or not file.exists():
            return 0
        state = torch.load(file, weights_only=True, map_location="cpu", mmap=self.index > 0)
        if state["shares"] != self.shares:
            raise ConfigError(
                f"the checkpoint {file} was written by {state['shares']} processes that divide the weights, expected "
                f"{self.shares}; start as many (accelerate launch --num_processes {state['shares']}), or remove it to begin again"
            )
        if self.index:
            own_file = self._share_file(folder, state["step"])
            state = torch.load(own_file, weights_only=True, map_location="cpu")
        device = self._device()
        with torch.no_grad():
            for name, value in self._changing().items():
                value.copy_(state["model"][name])
        self._load_optimizer(state["optimizer"])
        self.average = {n: w.to(device) for n, w in state["average"].items()}
        weights = {n: w.to(device) for n, w in state["best"]["weights"].items()}
        self.count, self.best = state["count"], state["best"] | {"weights": weights}
        self.sums = {n: value.to(device) for n, value in state["sums"].items()}
        self.curve, self.steps = json.loads(state["curve"]), state["steps"]
        logger.info("continuing %s from step %d", folder.name, state["step"])
        return state["step"]

    def _load_optimizer(self, state: dict) -> None:
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for k, values in state["state"].items():
            for name, value in values.items():
                if name != "step":
                    values[name] = as_share(value.to(parameters[k].device), parameters[k])
        self.optimizer.load_state_dict(state)


def _write(content: dict, file: Path) -> None:
    with replacing(file) as part:
        torch.save(content, part)
