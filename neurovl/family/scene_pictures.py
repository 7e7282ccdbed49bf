"""Rendered scenes as training data for the tiny family: pictures, captions and attributes from a stream of their own.

The streams 'foundation' and 'foundation-heldout' share no scene with the pictures that simulated subjects see.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurovl.files import replacing
from neurovl.foundation.pixels import SIZE, pixels_to_tensor
from neurovl.smallworld import scenes

if TYPE_CHECKING:
    import torch

_CHUNK = 500


class Pictures:
    """`n` scenes of a stream at 64 x 64, rendered once and kept on disk.

    Attributes
    ----------
    pixels : uint8 array, shape (n, 64, 64, 3)
        Memory-mapped.
    captions : list of list of str
        Five a picture.
    """

    def __init__(
        self, folder: Path | str, n: int, stream: str = "foundation", n_jobs: int = 1
    ) -> None:
        self.stream, self.n = stream, n
        self.path = Path(folder) / f"{stream}-{n}.npy"
        if not self.path.exists():
            self._render(n_jobs)
        self.pixels = np.load(self.path, mmap_mode="r")

    def _render(self, n_jobs: int) -> None:
        from joblib import Parallel, delayed
        from tqdm.auto import tqdm

        starts = range(0, self.n, _CHUNK)
        work = Parallel(n_jobs=n_jobs, return_as="generator")(
            delayed(_render_range)(self.stream, s, min(s + _CHUNK, self.n)) for s in starts
        )
        blocks = tqdm(work, total=len(starts), desc="rendering", disable=None)
        with replacing(self.path) as part:
            out = np.lib.format.open_memmap(
                part, mode="w+", dtype=np.uint8, shape=(self.n, SIZE, SIZE, 3)
            )
            for s, block in zip(starts, blocks, strict=True):
                out[s : s + len(block)] = block
            out.flush()

    @cached_property
    def scenes(self) -> list[scenes.Scene]:
        return [scenes.make_scene(self.stream, i) for i in range(self.n)]

    @cached_property
    def captions(self) -> list[list[str]]:
        cache = self.path.with_suffix(".captions.json")
        if not cache.exists():
            cache.write_text(json.dumps([scenes.captions(s) for s in self.scenes]))
        return json.loads(cache.read_text())

    def images(self, rows: "Sequence[int] | np.ndarray") -> "torch.Tensor":
        """Pictures in [-1, 1], float32 tensor, shape (n, 3, 64, 64)."""
        return pixels_to_tensor(np.ascontiguousarray(self.pixels[np.asarray(rows)]))


def _render_range(stream: str, start: int, stop: int) -> np.ndarray:
    return np.stack(
        [
            np.asarray(scenes.render(scenes.make_scene(stream, i), size=SIZE))
            for i in range(start, stop)
        ]
    )
