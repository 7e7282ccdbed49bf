"""Hidden states on the disk: the numbers of the encoder, whole or continued, never half."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.pipeline import hidden_states as module
from neurovl.pipeline.hidden_states import hidden_states
from neurovl.settings.sections import Compute


class Encoder(torch.nn.Module):
    """Doubles what it reads; it remembers how many trials that were, and fails where it is told to."""

    layout = None

    def __init__(self, ends_at=None):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(2.0))
        self.seen, self.ends_at = 0, ends_at

    @torch.no_grad()
    def forward(self, tokens):
        self.seen += len(tokens)
        if self.ends_at is not None and self.seen > self.ends_at:
            raise KeyboardInterrupt
        return BrainEmbedding(
            clip=tokens.sum((1, 2))[:, None], vae=None, hidden=self.weight * tokens
        )


VOXELS = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
ROWS = np.arange(3, 38)  # 35 trials


def run_of(encoder):
    store = SimpleNamespace(
        voxels_at=lambda rows: VOXELS[rows],
        cut=lambda voxels, layout: torch.as_tensor(voxels).unflatten(1, (3, 2)),
    )
    profile = SimpleNamespace(compute=Compute(device="cpu"))
    return SimpleNamespace(store=store, profile=profile, encoder=lambda name, device: encoder)


EXPECTED = (2 * VOXELS[ROWS].reshape(-1, 3, 2)).astype(np.float16)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 7)  # five blocks


def test_they_are_read_from_the_disk(tmp_path):
    encoder, file = Encoder(), tmp_path / "checkpoint" / "hidden.npy"
    found = hidden_states(run_of(encoder), ROWS, file)
    assert isinstance(found, np.memmap) and found.dtype == np.float16
    assert np.array_equal(found, EXPECTED) and np.array_equal(np.load(file), EXPECTED)
    assert [p.name for p in file.parent.iterdir()] == ["hidden.npy"]
    # A second process, or a second start, computes nothing.
    unused = Encoder(ends_at=0)
    assert np.array_equal(hidden_states(run_of(unused), ROWS, file), EXPECTED)


@pytest.mark.parametrize("whole", [0, 1, 3])
@pytest.mark.parametrize("torn", [0, 5])
def test_what_was_interrupted_continues_after_the_last_whole_block(tmp_path, whole, torn):
    file = tmp_path / "hidden.npy"
    with pytest.raises(KeyboardInterrupt):
        hidden_states(run_of(Encoder(ends_at=1 + 7 * whole)), ROWS, file)
    partial = tmp_path / "hidden.npy.partial"
    assert not file.exists() and partial.stat().st_size == 128 + whole * 7 * 12
    with open(partial, "ab") as out:  # a block that was being written
        out.write(b"\xff" * torn)
    again = Encoder()
    assert np.array_equal(hidden_states(run_of(again), ROWS, file), EXPECTED)
    assert again.seen == 1 + 35 - 7 * whole  # one to know the shape


def test_one_cut_short_within_its_header_begins_anew(tmp_path):
    (tmp_path / "hidden.npy.partial").write_bytes(b"\x93NUMPY")
    found = hidden_states(run_of(Encoder()), ROWS, tmp_path / "hidden.npy")
    assert np.array_equal(found, EXPECTED)
