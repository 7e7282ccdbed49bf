"""The loop: batches by arithmetic, resume bit for bit, the schedule at its corners."""

import numpy as np
import pytest
import torch

from neurovl.errors import ConfigError
from neurovl.settings.sections import Alignment, Language, Reconstruction
from neurovl.training.devices import choose_precision
from neurovl.training.loop import Part, Schedule, Validation, batch_rows, fit
from neurovl.training.state import TrainingState


def test_every_row_comes_once_an_epoch():
    rows = np.concatenate([batch_rows(10, 4, step, seed=3) for step in range(5)])
    assert sorted(rows[:10]) == list(range(10)) and sorted(rows[10:]) == list(range(10))
    assert not np.array_equal(rows[:10], rows[10:])


def test_a_batch_may_be_larger_than_the_data():
    assert np.bincount(batch_rows(3, 9, 0, seed=0)).tolist() == [3, 3, 3]


def test_rate_warms_up_and_ends_at_zero():
    schedule = Schedule(steps=100, lr=1.0, warmup=0.1)
    assert schedule.rate(0) == pytest.approx(0.1)
    assert schedule.rate(9) == pytest.approx(1.0)
    assert schedule.rate(55) == pytest.approx(0.5)
    assert schedule.rate(100) == pytest.approx(0.0)


def problem():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(6, 16), torch.nn.Dropout(0.2), torch.nn.Linear(16, 2)
    )
    x, y = torch.randn(64, 6), torch.randn(64, 2)

    def loss_at(net, step, part):
        rows = part.of(batch_rows(64, 8, step, seed=1))
        return (net(x[rows]) - y[rows]).square().mean()

    return model, loss_at


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, ema, monkeypatch):
    # A point of the curve is the mean of 3 steps, so the checkpoint at 20 x 31 lies within one.
    schedule = Schedule(steps=640, lr=1e-2, precision="no", checkpoint_every=31, ema=ema)
    monkeypatch.setattr(TrainingState, "may_save", lambda self: True)
    whole, loss_at = problem()
    curve = fit(whole, loss_at, schedule, seed=5, device="cpu")

    broken, loss_at = problem()

    def killed(net, step, part):
        if step == 625:
            raise KeyboardInterrupt
        return loss_at(net, step, part)

    with pytest.raises(KeyboardInterrupt):
        fit(broken, killed, schedule, seed=5, checkpoint=tmp_path, device="cpu")
    resumed, loss_at = problem()
    again = fit(resumed, loss_at, schedule, seed=5, checkpoint=tmp_path, device="cpu")
    assert again == curve
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_model_trained_in_bf16_computes_in_float32_again():
    model, loss_at = problem()
    curve = fit(model, loss_at, Schedule(steps=3, lr=1e-2, precision="bf16"), seed=0, device="cpu")
    x = torch.randn(5, 6)
    first, _, last = model
    expected = (x @ first.weight.T + first.bias) @ last.weight.T + last.bias
    torch.testing.assert_close(model(x), expected)
    assert len(curve) == 3


@pytest.mark.parametrize(
    "device, able, expected",
    [
        ("cpu", {"avx512_bf16": True}, "bf16"),
        ("cpu", {"amx_bf16": True, "avx512_bf16": False}, "bf16"),
        ("cpu", {"avx2": True, "avx512_bf16": False}, "no"),
        ("cpu", {}, "no"),
        ("mps", {"avx512_bf16": True}, "no"),
        ("cuda", {"avx512_bf16": False}, "bf16"),
    ],
)
def test_auto_is_bfloat16_where_the_device_multiplies_in_it(monkeypatch, device, able, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: able, raising=False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    assert choose_precision("auto", device) == expected
    assert choose_precision("no", device) == "no" and choose_precision("bf16", device) == "bf16"


def test_a_torch_that_cannot_say_what_the_processor_has_trains_in_float32(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert choose_precision("auto", "cpu") == "no"


def test_an_unknown_precision_is_refused():
    for section in (Alignment, Language, Reconstruction):
        with pytest.raises(ConfigError, match="precision is 'fp16', expected"):
            section(precision="fp16")


def test_a_checkpoint_holds_what_trains_and_no_more(tmp_path):
    model, loss_at = problem()
    model[0].requires_grad_(False)
    schedule = Schedule(steps=3, lr=1e-2, precision="no")
    fit(model, loss_at, schedule, seed=0, checkpoint=tmp_path, device="cpu")
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"]
    assert set(kept) == {"2.weight", "2.bias"}
    again, loss_at = problem()
    again[0].requires_grad_(False)
    fit(again, loss_at, schedule, seed=0, checkpoint=tmp_path, device="cpu")
    assert all(map(torch.equal, model.state_dict().values(), again.state_dict().values()))


def test_it_learns_a_linear_map():
    torch.manual_seed(0)
    x, w = torch.randn(256, 5), torch.randn(5, 3)
    model = torch.nn.Linear(5, 3)
    curve = fit(
        model,
        lambda net, step, part: (net(x) - x @ w).square().mean(),
        Schedule(steps=300, lr=5e-2, weight_decay=0.0, precision="no"),
        seed=0,
        device="cpu",
    )
    torch.testing.assert_close(model.weight.T, w, atol=2e-2, rtol=0)
    assert curve[-1]["loss"] < 1e-3 < curve[0]["loss"]


def line(steps=30, **settings):
    """A linear map learned from batches of 8."""
    torch.manual_seed(0)
    x, w, model = torch.randn(64, 5), torch.randn(5, 3), torch.nn.Linear(5, 3)

    def loss_at(net, step, part):
        rows = part.of(batch_rows(64, 8, step, seed=1))
        return {
            "loss": (net(x[rows]) - x[rows] @ w).square().mean(),
            "rows": torch.tensor(float(len(rows))),
        }

    return model, loss_at, Schedule(steps, lr=5e-2, precision="no", **settings)


def test_accumulated_parts_are_the_whole_batch():
    whole, loss_at, schedule = line()
    curve = fit(whole, loss_at, schedule, seed=0, device="cpu")
    pieces, loss_at, schedule = line(accumulate=4)
    again = fit(pieces, loss_at, schedule, seed=0, device="cpu")
    torch.testing.assert_close(whole.weight, pieces.weight)
    assert [p["loss"] for p in again] == pytest.approx([p["loss"] for p in curve], rel=1e-4)
    assert {p["rows"] for p in again} == {2.0} and {p["rows"] for p in curve} == {8.0}


def test_a_batch_that_cannot_be_divided_is_refused():
    assert [Part(k, 3).of(range(6)) for k in range(3)] == [range(0, 2), range(2, 4), range(4, 6)]
    model, loss_at, schedule = line(accumulate=3)
    with pytest.raises(ConfigError, match="batch size is 8, expected a multiple of 3"):
        fit(model, loss_at, schedule, seed=0, device="cpu")


class Watched:
    """A validation loss that is given, look by look; it remembers the weights it was asked about."""

    def __init__(self, losses):
        self.losses, self.seen = list(losses), []

    def __call__(self, model):
        assert not model.training
        self.seen.append(model.weight.detach().clone())
        return self.losses[len(self.seen) - 1]


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_training_ends_early_and_keeps_the_best_weights(ema):
    model, loss_at, schedule = line(steps=30, ema=ema)
    watched = Watched([5.0, 3.0, 4.0, 3.5, 9.0, 9.0])
    curve = fit(
        model, loss_at, schedule, seed=0, device="cpu", validation=Validation(watched, 5, 2)
    )
    assert len(watched.seen) == 4 and curve[-1]["step"] == 20
    assert [p["validation"] for p in curve if "validation" in p] == [5.0, 3.0, 4.0, 3.5]
    assert torch.equal(model.weight, watched.seen[1])


def test_without_patience_looks_change_nothing():
    plain, loss_at, schedule = line(ema=0.9)
    fit(plain, loss_at, schedule, seed=0, device="cpu")
    looked, loss_at, schedule = line(ema=0.9)
    fit(
        looked,
        loss_at,
        schedule,
        seed=0,
        device="cpu",
        validation=Validation(Watched([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), 5),
    )
    assert torch.equal(plain.weight, looked.weight)


@pytest.mark.parametrize("killed_at", [12, 22])
def test_an_early_stop_survives_a_kill(tmp_path, monkeypatch, killed_at):
    monkeypatch.setattr(TrainingState, "may_save", lambda self: True)
    losses = [5.0, 3.0, 4.0, 3.5]
    model, loss_at, schedule = line(checkpoint_every=5)
    fit(
        model, loss_at, schedule, seed=0, device="cpu", validation=Validation(Watched(losses), 5, 2)
    )
    broken, loss_at, schedule = line(checkpoint_every=5)

    def killed(net, step, part):
        if step == killed_at:
            raise KeyboardInterrupt
        return loss_at(net, step, part)

    watched = Watched(losses)
    try:
        fit(
            broken,
            killed,
            schedule,
            seed=0,
            checkpoint=tmp_path,
            device="cpu",
            validation=Validation(watched, 5, 2),
        )
    except KeyboardInterrupt:
        assert killed_at == 12
    rest = Watched(losses[len(watched.seen) :])
    again, loss_at, schedule = line(checkpoint_every=5)
    curve = fit(
        again,
        loss_at,
        schedule,
        seed=0,
        checkpoint=tmp_path,
        device="cpu",
        validation=Validation(rest, 5, 2),
    )
    assert torch.equal(model.weight, again.weight) and curve[-1]["step"] == 20


def test_the_curve_goes_to_a_tracker(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    model, loss_at, schedule = line()
    curve = fit(
        model,
        loss_at,
        schedule,
        seed=0,
        device="cpu",
        describe="encoder main",
        trackers=("tensorboard",),
        logs=tmp_path,
    )
    read = events.EventAccumulator(str(tmp_path / "encoder-main"))
    read.Reload()
    logged = {e.step: e.value for e in read.Scalars("loss")}
    assert logged == pytest.approx({p["step"]: p["loss"] for p in curve}, rel=1e-5)


def test_writing_checkpoints_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    now, written = [100.0], []
    monkeypatch.setattr("neurovl.training.state.time.monotonic", lambda: now[0])
    save = torch.save

    def slow(content, path):
        now[0] += 3.0
        written.append(content["step"])
        save(content, path)

    monkeypatch.setattr("neurovl.training.state.torch.save", slow)
    model, loss_at, schedule = line(steps=300, checkpoint_every=10)

    def second(net, step, part):
        now[0] += 1.0
        return loss_at(net, step, part)

    fit(model, second, schedule, seed=0, checkpoint=tmp_path, device="cpu")
    assert written == [10, 70, 130, 190, 250, 300]  # 60 s between two of 3 s, and the last step
