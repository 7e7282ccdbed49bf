"""The encoder's speed: ours against the plain way and against PyTorch's own layers, at the paper's and the demo's size.

    python benchmarks/encoder.py                   both sizes on the CPU: about 7 minutes on 2 cores
    python benchmarks/encoder.py --device cuda     the same on a GPU, and the paper's training at the GPU's limit
    python benchmarks/encoder.py --small           every part in seconds, to see that it works; the figures mean nothing

Training steps on the same trials in turns (a, b, c, a, b, c, ...), the first step of each not counted:

- the plain way: float32 volumes read from the disk, all patches of the padded grid, attention written out, full last
  layer, `torch.optim.AdamW` as it comes, nothing else (`encoder_models.PlainViT`);
- PyTorch's layers: the package's own training with `torch.nn.TransformerEncoder` for the blocks, on the kept patches;
- ours: `neurovl.encoder.alignment.fit_encoder` as it is: token store, MixUp, loss, clipping, schedule, average of weights.

The second and third are timed from one request for a loss to the next. Inference is `neurovl.encoder.alignment.predict` on tokens
in memory, in float32. Masks are simulated nsdgeneral masks with the real numbers of voxels, volumes are random numbers.
On the CPU a batch of the paper's size is 8 trials instead of 32.

Results go to encoder.csv and, what the machine is and can do, to machines.csv; rows of other devices stay. `samples/s` is
a median, `from` and `to` the extremes; `ours is` says how many times as fast the comparison's last row is. `of peak` is the
matrix products' share of the matrix peak: the operations of a sample, forward and backward (`encoder_models.flops`), times
samples/s, over the maker's figure for the GPUs of `measuring.PEAKS`, elsewhere over the best large product in the same run. On a GPU,
`schedule, min` is the paper's training, 99,920 trials 30 times, projected from a minute at batch 256, bf16, compiled.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from encoder_inputs import SEED, Size, World
from encoder_models import LibraryEncoder, PlainViT
from measuring import (
    PRECISION,
    Clock,
    Enough,
    describe_machine,
    keep,
    parse,
    record,
    short,
    yes,
)

from neurovl.encoder import alignment
from neurovl.encoder.variants import Variant
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.settings.sections import Compute
from neurovl.training.devices import choose_precision

SCHEDULE = 99_920 * 30  # samples
TARGETS = {"plain": 4.0, "library": 1.0}  # ours is at least so many times as fast
PEAK_SHARE, MINUTES = 0.45, 20  # of the matrix peak; for the paper's training


PAPER = Size("paper", 32, 8, 3, 2, 768, (4, 64, 64), {1: 20, 32: 8, 256: 3})
SIZES = {
    "cpu": [PAPER, Size("demo", 256, 64, 5, 10)],
    "cuda": [replace(PAPER, batch=32, steps=10), Size("demo", 256, 64, 5, 10)],
}
SMALL = [Size("smoke", 64, 16, 2, 2, 8, (2, 4, 4), {1: 2, 32: 2})]


def package_steps(
    world: World,
    system: Variant,
    device: str,
    steps: int,
    encoder=BrainEncoder,
    warm: int = 1,
    block: int = 1,
    seconds: float = 0.0,
    compute: Compute | None = None,
) -> np.ndarray:
    """Seconds of each step of the package's own training: at least so many steps, for at least so many seconds.

    Parameters
    ----------
    encoder : class
        Stands for BrainEncoder.
    warm : int
        Steps before the clock starts.
    block : int
        Steps between two looks at the clock, for which a GPU's queue is emptied.
    compute : Compute, optional
        The device alone by default.
    """
    compute = compute or Compute(device=device)
    clock, fit, asked = Clock(device), alignment.fit, 0
    system = replace(system, settings=replace(system.settings, epochs=10_000))  # no end

    def timed_fit(model, loss_at, schedule, **settings):
        def timed_loss(*arguments):
            nonlocal asked
            if asked >= warm and (asked - warm) % block == 0:
                clock.tick()
                over = clock.moments[-1] - clock.moments[0]
                if asked - warm >= steps and over >= seconds:
                    raise Enough
            asked += 1
            return loss_at(*arguments)

        return fit(model, timed_loss, schedule, **settings)

    patched = mock.patch.multiple(alignment, fit=timed_fit, BrainEncoder=encoder)
    with patched, contextlib.suppress(Enough):
        alignment.fit_encoder(world.store, world.targets, system, seed=SEED, compute=compute)
    return np.diff(clock.moments) / block


class PlainTraining:
    """The plain way's training; each call does a turn of steps and returns their seconds."""

    def __init__(self, world: World, device: str):
        size, store = world.size, world.store
        self.device, self.targets, self.settings = device, world.targets, world.profile.alignment
        self.grid, self.step = world.volumes.grid, 0
        trials = store.trials[store.trials.split == "train"]
        self.data = alignment.TrainingTrials(
            world.volumes, trials, world.targets, size.batch, mixup=True, synthetic=0.0, seed=SEED
        )
        torch.manual_seed(SEED)
        self.model = PlainViT(
            self.grid, world.volumes.patch, size.clip_width, size.vae_shape, world.paper_way.shape
        ).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.settings.lr)

    def __call__(self, steps: int) -> np.ndarray:
        clock, warm = Clock(self.device), int(self.step == 0)
        for _ in range(warm + steps):
            clock.tick()
            voxels, pictures = self.data.batch(self.step)
            predicted = self.model(voxels.to(self.device).unflatten(1, self.grid))
            clip, vae = (t[pictures].to(self.device) for t in (self.targets.clip, self.targets.vae))
            alignment.alignment_loss(predicted, clip, vae, self.settings)["loss"].backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.step += 1
        clock.tick()
        return np.diff(clock.moments)[warm:]


@dataclass(frozen=True)
class Arm:
    """One of the things compared: `turn()` returns seconds a batch; `target` is how many times as fast ours shall be."""

    what: str
    precision: str
    turn: Callable[[], np.ndarray]
    flops: int | None = None
    target: float | None = None


def measure(task: str, profile: str, batch: int, turns: int, arms: list[Arm], peaks) -> list[dict]:
    """Rows of a comparison; the last arm is ours."""
    seconds = [[] for _ in arms]
    for _ in range(turns):
        for arm, taken in zip(arms, seconds, strict=True):
            taken.append(arm.turn())
    seconds = [np.concatenate(taken) for taken in seconds]
    ours = np.median(seconds[-1])
    rows = []
    for arm, taken in zip(arms, seconds, strict=True):
        rate = batch / np.array([np.median(taken), taken.max(), taken.min()])
        ratio = np.median(taken) / ours
        precision = PRECISION[arm.precision][0]
        row = {"size": profile, "task": task, "what": f"{arm.what}, {precision}"}
        row |= {"batch": batch, "n": len(taken)}
        row |= dict(zip(("samples/s", "from", "to"), map(short, rate), strict=True))
        if arm is not arms[-1]:
            row["ours is"] = short(ratio)
        if arm.target:
            row |= {"target": f"≥ {arm.target:g}", "met": yes(ratio >= arm.target)}
        if arm.flops:
            row["of peak"] = short(arm.flops * rate[0] / peaks[precision])
        rows.append(row)
    return rows


def compare_training(world: World, device: str, peaks) -> list[dict]:
    size, paper_way = world.size, world.paper_way
    own = choose_precision(paper_way.settings.precision, device)
    in_float32 = replace(paper_way, settings=replace(paper_way.settings, precision="no"))
    kept, ours = sum(world.flops()), f"ours, {world.n_tokens} tokens"
    run = partial(package_steps, world, device=device, steps=size.steps)
    arms = [
        Arm(
            f"plain way, {world.n_patches} tokens",
            "no",
            partial(PlainTraining(world, device), size.steps),
            sum(world.flops(every_patch=True, last_layer="all tokens")),
            TARGETS["plain"],
        ),
        Arm(
            f"TransformerEncoder, {world.n_tokens} tokens",
            own,
            partial(run, paper_way, encoder=LibraryEncoder),
            sum(world.flops(last_layer="all tokens")),
            TARGETS["library"],
        ),
    ]
    if own != "no":
        arms.append(Arm(ours, "no", partial(run, in_float32), kept))
    if world.main.shape != paper_way.shape:
        arms.append(Arm(f"{ours}, with readout", own, partial(run, world.main)))
    arms.append(Arm(ours, own, partial(run, paper_way), kept))
    return measure("training", size.profile, size.batch, size.turns, arms, peaks)


def compare_inference(world: World, device: str, peaks) -> list[dict]:
    """Trials per second of `alignment.predict`, tokens in memory; a single trial is a batch of 1."""
    rows = []
    library, ours = (
        world.encoder(kind).to(device).eval() for kind in (LibraryEncoder, BrainEncoder)
    )
    for batch, turns in world.size.inference.items():
        tokens = world.store.cut(world.store.voxels_at(np.arange(batch) % len(world.store.trials)))

        def turn(encoder, tokens=tokens):
            clock = Clock(device)
            clock.tick()
            alignment.predict(encoder, tokens)
            clock.tick()
            return np.diff(clock.moments)

        if batch < 256:
            turn(library), turn(ours)
        count = [world.flops(last_layer=last)[0] for last in ("all tokens", "class token")]
        arms = [
            Arm("TransformerEncoder", "no", partial(turn, library), count[0], TARGETS["library"]),
            Arm("ours", "no", partial(turn, ours), count[1]),
        ]
        rows += measure("inference", world.size.profile, batch, turns, arms, peaks)
    return rows


def measure_limit(world: World, device: str, peaks, batch: int, seconds: float) -> list[dict]:
    """The paper's training as fast as the device can: large batches, bf16, compiled (on a GPU)."""
    settings = replace(world.paper_way.settings, batch_size=batch, precision="bf16")
    compute = Compute(device=device, compile=True, workers=min(8, os.cpu_count() or 1))
    system = replace(world.paper_way, settings=settings)
    taken = package_steps(
        world,
        system,
        device,
        compute=compute,
        steps=20,
        warm=20 if device == "cuda" else 1,
        block=10 if device == "cuda" else 1,
        seconds=seconds,
    )
    what = f"ours, {world.n_tokens} tokens" + (", compiled" if device == "cuda" else "")
    arm = Arm(what, "bf16", lambda: taken, sum(world.flops()))
    (row,) = measure("training", world.size.profile, batch, 1, [arm], peaks)
    minutes = SCHEDULE / row["samples/s"] / 60
    met = row["of peak"] >= PEAK_SHARE and minutes <= MINUTES
    wanted = f"≥ {PEAK_SHARE:g} of peak, ≤ {MINUTES} min"
    return [row | {"schedule, min": short(minutes), "target": wanted, "met": yes(met)}]


def main(arguments: list[str] | None = None) -> None:
    settings = parse(__doc__, arguments)
    device = settings.device
    machine, peaks = describe_machine(device)
    rows = []
    for size in SMALL if settings.small else SIZES[device]:
        with tempfile.TemporaryDirectory() as folder:
            world = World(size, Path(folder))
            rows += compare_training(world, device, peaks)
            rows += compare_inference(world, device, peaks)
            if settings.small or (device == "cuda" and size.profile == "paper"):
                batch, seconds = (32, 0.0) if settings.small else (256, 60.0)
                rows += measure_limit(world, device, peaks, batch, seconds)
    print(pd.DataFrame([machine]).T.to_string(header=False))
    keep(rows, {"device": machine["device"]}, settings.out, "encoder.csv")
    if settings.out:
        record(settings.out / "machines.csv", [machine])


if __name__ == "__main__":
    main()
