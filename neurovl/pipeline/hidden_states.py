"""What the language model reads of each trial, computed once by its encoder and kept on the disk while it is trained."""

import functools
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from neurovl.encoder.alignment import predict
from neurovl.encoder.vit3d import BrainEmbedding, BrainEncoder
from neurovl.language import PredictionTokens
from neurovl.run import Run

BLOCK = 1024  # trials, about


def hidden_states(
    run: Run,
    rows: np.ndarray,
    file: Path,
    variant: str = "main",
    reading: PredictionTokens | None = None,
) -> np.ndarray:
    """What the language model reads of rows of the store, float16 array (n, N + 1, D) that is read from `file`.

    The encoder's penultimate layer, or with `reading` what that makes of its predictions. It is written block by block; what
    an interrupted call has written is not computed again.
    """
    load = _loaded_once(run, variant)

    def compute(block: np.ndarray) -> np.ndarray:
        z = _read(run, load(), block)
        return (z.hidden if reading is None else reading(z)).half().numpy()

    return _kept(rows, file, compute)


def fit_reading(run: Run, rows: np.ndarray, variant: str = "main") -> PredictionTokens:
    """What makes brain tokens of an encoder's predictions, standardised over about `BLOCK` of these training trials."""
    some = rows[:: max(1, len(rows) // BLOCK)]
    return PredictionTokens.fit(_read(run, _loaded_once(run, variant)(), some))


def _loaded_once(run: Run, variant: str) -> Callable[[], BrainEncoder]:
    return functools.cache(lambda: run.encoder(variant, run.profile.compute.device))


def _read(run: Run, encoder: BrainEncoder, rows: np.ndarray) -> BrainEmbedding:
    return predict(encoder, run.store.cut(run.store.voxels_at(rows), encoder.layout))


def picture_states(run: Run, image_ids: Sequence[str], file: Path) -> np.ndarray:
    """CLIP's patch tokens of pictures in the place of hidden states, float16 array (n, P, W) that is read from `file`."""
    return _kept(np.array(image_ids), file, lambda block: run.picture_tokens(block).half().numpy())


def _kept(rows: np.ndarray, file: Path, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    if not file.exists():
        _write(rows, file, compute)
    return np.load(file, mmap_mode="r")


def _write(rows: np.ndarray, file: Path, compute: Callable[[np.ndarray], np.ndarray]) -> None:
    blocks = np.array_split(rows, max(1, len(rows) // BLOCK))
    one = compute(rows[:1])
    header = _header((len(rows), *one.shape[1:]))
    ends = len(header) + one.nbytes * np.cumsum([len(block) for block in blocks])
    partial = file.with_name(f"{file.name}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.touch()
    done = int((ends <= partial.stat().st_size).sum())
    with open(partial, "r+b") as out:
        out.write(header)
        out.truncate(out.seek(ends[done - 1] if done else len(header)))
        for block in blocks[done:]:
            out.write(compute(block).tobytes())
    os.replace(partial, file)


def _header(shape: tuple[int, ...]) -> bytes:
    """The beginning of a npy file of float16."""
    out = io.BytesIO()
    about = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "shape": shape}
    np.lib.format.write_array_header_1_0(out, about | {"fortran_order": False})
    return out.getvalue()
