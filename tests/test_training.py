"""The loop: batches by arithmetic, resume bit for bit, the schedule at its corners."""

import numpy as np
import pytest
import torch

from neurovl.training import Schedule, batch_rows, fit


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

    def loss_at(net, step):
        rows = batch_rows(64, 8, step, seed=1)
        return (net(x[rows]) - y[rows]).square().mean()

    return model, loss_at


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_an_interrupted_training_ends_with_the_same_weights(tmp_path, ema):
    schedule = Schedule(steps=40, lr=1e-2, precision="no", checkpoint_every=10, ema=ema)
    whole, loss_at = problem()
    fit(whole, loss_at, schedule, seed=5, device="cpu")

    broken, loss_at = problem()

    def killed(net, step):
        if step == 25:
            raise KeyboardInterrupt
        return loss_at(net, step)

    with pytest.raises(KeyboardInterrupt):
        fit(broken, killed, schedule, seed=5, checkpoint=tmp_path, device="cpu")
    resumed, loss_at = problem()
    fit(resumed, loss_at, schedule, seed=5, checkpoint=tmp_path, device="cpu")
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_it_learns_a_linear_map():
    torch.manual_seed(0)
    x, w = torch.randn(256, 5), torch.randn(5, 3)
    model = torch.nn.Linear(5, 3)
    curve = fit(
        model,
        lambda net, step: (net(x) - x @ w).square().mean(),
        Schedule(steps=300, lr=5e-2, weight_decay=0.0, precision="no"),
        seed=0,
        device="cpu",
    )
    torch.testing.assert_close(model.weight.T, w, atol=2e-2, rtol=0)
    assert curve[-1]["loss"] < 1e-3 < curve[0]["loss"]
