"""Pictures a second: the paper's unCLIP at its true size with random weights, or the tiny family's.

    python benchmarks/reconstruction.py                   the tiny unCLIP on the CPU: about a minute on 2 cores
    python benchmarks/reconstruction.py --device cuda     982 pictures of 512 x 512, 20 steps, Stable unCLIP's own shape
    python benchmarks/reconstruction.py --small           a few pictures, to see that it works; the figures mean nothing

What is timed is `neurovl.Reconstructor.batch`, from embeddings to pictures, after a first batch that is not counted. The time does
not depend on the weights. Results go to reconstruction.csv; rows of other devices stay.
"""

from dataclasses import dataclass

import numpy as np
import torch
from measuring import Clock, describe_machine, keep, parse, short, yes

from neurovl import Reconstructor
from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.foundation.skeleton import unclip_skeleton
from neurovl.training.devices import choose_precision

UNCLIP = "sd2-community/stable-diffusion-2-1-unclip-small"
SEED, MINUTES = 0, 4  # wanted: 982 pictures of 512 x 512 in so many


@dataclass(frozen=True)
class Size:
    """What is painted: by which unCLIP, how many pictures of how many pixels, in how many steps and at a time."""

    spec: str
    pictures: int
    pixels: int
    steps: int
    batches: tuple[int, ...]


PAPER = Size(UNCLIP, 982, 512, 20, (64,))
TINY = Size("tiny", 128, 64, 20, (16, 64))
SMALL = Size("tiny", 4, 64, 2, (4,))


def painter(size: Size, device: str, precision: str) -> Reconstructor:
    """A reconstructor with random weights in float32, as the package holds them."""
    pipeline = unclip_skeleton(size.spec)
    torch.manual_seed(SEED)
    parts = [part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)]
    for part in parts:
        part.to_empty(device=device)
        for parameter in part.parameters():
            torch.nn.init.normal_(parameter, std=0.02)
        for buffer in part.buffers():
            if not buffer.is_floating_point():  # positions of words
                buffer.copy_(torch.arange(buffer.numel()).view(buffer.shape))
    return Reconstructor(pipeline, steps=size.steps, image_size=size.pixels, precision=precision)


def rate(size: Size, batch: int, device: str, precision: str) -> dict:
    draw = painter(size, device, precision)
    rng = torch.Generator().manual_seed(SEED)
    width = draw.pipeline.unet.config.projection_class_embeddings_input_dim // 2

    def embeddings(n: int) -> BrainEmbedding:
        return BrainEmbedding(
            torch.randn(n, width, generator=rng),
            torch.randn(n, *draw.latent_shape, generator=rng),
            torch.zeros(n, 1, 1),
        )

    def paint(n: int) -> None:
        draw.batch(embeddings(n), ["a dog on the grass"] * n, batch_size=batch)

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    paint(min(batch, size.pictures))
    clock = Clock(device)
    clock.tick()
    paint(size.pictures)
    clock.tick()
    (seconds,) = np.diff(clock.moments)
    row = {
        "what": f"{size.spec.rpartition('/')[2]}, {size.pixels} x {size.pixels}, {size.steps} steps",
        "computed in": "bf16" if precision == "bf16" else "float32",
        "batch": batch,
        "pictures": size.pictures,
        "seconds": short(seconds),
        "a second": short(size.pictures / seconds),
    }
    if device == "cuda":
        row["memory, GB"] = short(torch.cuda.max_memory_allocated() / 1e9)
    if size == PAPER:
        row |= {"target": f"≤ {MINUTES} min", "met": yes(seconds <= 60 * MINUTES)}
    return row


def main(arguments: list[str] | None = None) -> None:
    chosen = parse(__doc__, arguments)
    device = chosen.device
    size = SMALL if chosen.small else PAPER if device == "cuda" else TINY
    machine = describe_machine(device)[0]
    precisions = dict.fromkeys(("no", choose_precision("auto", device)))
    rows = [rate(size, batch, device, one) for batch in size.batches for one in precisions]
    keep(rows, {k: machine[k] for k in ("date", "device")}, chosen.out, "reconstruction.csv")


if __name__ == "__main__":
    main()
