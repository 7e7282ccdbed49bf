"""What the plan says of the comparison: arithmetic by hand, regressions counted as they run, and where the lines stand."""

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from neurovl.baselines.linear_maps import FOLDS, Ridge, TrainingRows
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.registry import BUILT_IN
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.doctor import comparison, operations, plan, system_fits
from neurovl.doctor.comparison import COMPARE, CONTROLS
from neurovl.doctor.sizes import sizes_for
from neurovl.doctor.system_fits import Seen, fit_of, ridge_operations
from neurovl.settings.profile_files import load_profile

# Two subjects who saw 10 pictures three times each, through 12 voxels.
SEEN = Seen(2, 12, 30.0, 10.0, 9, np.ones((2, 2, 3), bool))


def with_settings(name, **own):
    profile = load_profile("demo")
    return replace(profile, leaderboard=replace(profile.leaderboard, settings={name: own}))


def test_a_regression_multiplies_what_one_counts_by_hand():
    # n = 10 rows, V = 6: Gram matrix, rows times voxels, inverse, answers.
    one = ridge_operations(10, 6, 4, 7, penalties=1, asked=5)
    assert one == 2 * 10 * 6 * 6 + 2 * 5 * 10 * 6 + 6**3 / 3 + 2 * 5 * 6 * 6 + 2 * 5 * 4 * 7
    wide = ridge_operations(6, 10, 4, 7, penalties=1, asked=0)
    assert wide == 2 * 6 * 10 * 6 + 6**3 / 3
    few = ridge_operations(10, 6, 4, 7, penalties=3, asked=0)
    folds = FOLDS * (2 * 2 * 10 * 6 + 3 * (6**3 / 3 + 2 * 2 * 6 * 6))
    assert few == pytest.approx(720 + 3 * 72 + folds + 3 * 2 * 10 * 4 * 7)


def counted_ridge(n, v, alphas, asked, values=50):
    rng = np.random.default_rng(0)
    seen = np.array([f"i{k // 2:03d}" for k in range(n)])
    mask = np.ones((v, 1, 1), bool)
    voxels = SubjectVoxels(
        "s", rng.normal(size=(n, v)).astype(np.float32), seen, np.arange(n) % 2, mask, {}
    )
    names = sorted(set(seen))
    targets = PictureFeatures(names, {"vae": rng.normal(size=(len(names), values))})
    with FlopCounterMode(display=False) as counter:
        ridge = Ridge(TrainingRows(voxels), targets, ("vae",), alphas)
        ridge.predict(voxels.take(range(asked)))
    return counter.get_total_flops()


def test_a_regression_multiplies_what_it_does_as_it_runs():
    """The counter sees products, not the solving of triangles: k^3 / 3 and 2 m k^2 of each penalty."""
    n, v, asked = 40, 90, 7
    formula = ridge_operations(n, v, n / 2, 50, 1, asked)
    unseen = n**3 / 3 + 2 * asked * n**2
    assert counted_ridge(n, v, (1.0,), asked) == pytest.approx(formula - unseen)
    # With several penalties each fold leaves a fifth of the rows out, which the formula does not.
    formula = ridge_operations(n, v, n / 2, 50, 3, asked)
    unseen = 3 * (1 + FOLDS) * n**3 / 3 + 3 * 2 * (asked + n) * n**2
    assert counted_ridge(n, v, (1.0, 2.0, 3.0), asked) == pytest.approx(formula - unseen, rel=0.1)


def test_dream_multiplies_each_weight_six_times_a_row():
    own = {"width": 8, "blocks": 2, "projector": 5, "epochs": 7}
    profile = with_settings("dream", **own)
    shapes = system_fits.feature_shapes(profile)
    (e,), latent = shapes["clip_text"], prod(shapes["vae"])
    weights = 12 * 8 + 2 * 8 * 8 + 8 * e + e * 5 + 5 * 5 + 5 * e
    n, v, t = 10, 12, latent + 48
    colours = 6 * (2 * n * v * n + n**3 / 3 + 2 * n * n * t + 2 * n * v * t)
    expected = 6 * weights * 2 * 10 * 7 + 2 * colours
    found = fit_of("dream", profile, SEEN)
    assert found.operations == pytest.approx(expected)
    # Weights, biases, two numbers a norm; 16 bytes of each.
    norms, biases = 3 * 2 * 8 + 2 * e + 2 * 5 + 2 * 5, 3 * 8 + e + 5 + 5 + e
    assert found.held == 16 * (weights + norms + biases)


def test_umbrae_s_weights_count_for_each_token_that_they_read():
    own = {"tokens": 6, "width": 16, "layers": 2, "heads": 4, "head_width": 5, "epochs": 3}
    profile = with_settings("umbrae", **own)
    patches, width = system_fits.feature_shapes(profile)["patch_tokens"]
    read, inner = patches + 6, 20
    layer = 16 * inner * patches + 16 * 2 * inner * read + inner * 16 * patches
    layer += 2 * 16 * 64 * patches + 2 * patches * read * inner  # MLP; both products of attention
    row = 12 * 16 + 2 * layer + 16 * width * patches
    # Two subjects a step, each with a batch of its 30 trials.
    assert fit_of("umbrae", profile, SEEN).operations == pytest.approx(6 * row * 2 * 30 * 3)


def test_what_is_kept_for_the_way_back_is_counted_without_weights_and_without_maps_of_attention():
    with torch.device("meta"):
        network = nn.Sequential(nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2))
        rows = torch.empty(7, 3)
    made, kept = system_fits.one_pass(network, rows)
    assert made == 2 * 7 * (3 * 5 + 5 * 2)
    # What goes into the first layer, the GELU and the last layer.
    assert kept == 4 * 7 * (3 + 5 + 5)

    class Attention(nn.Module):
        def forward(self, q, k, v):
            return nn.functional.scaled_dot_product_attention(q, k, v)

    few, many = (
        system_fits.one_pass(
            Attention(), *torch.empty(3, 2, 4, n, 8, device="meta", requires_grad=True)
        )
        for n in (32, 64)
    )
    assert many[1] == pytest.approx(2 * few[1], rel=0.01) and many[0] == pytest.approx(4 * few[0])


def test_every_built_in_system_is_counted():
    """More epochs cost more, or for a regression more rows; each is in the comparison."""
    profile = load_profile("smoke")
    more = replace(SEEN, trials=60.0, pictures=20.0)
    for name in BUILT_IN:
        one, twice = (fit_of(name, profile, seen).operations for seen in (SEEN, more))
        assert 1.2 * one < twice
        if name in system_fits.NETWORKS and name != "dream":
            assert twice == pytest.approx(2 * one)
    made = comparison.Comparison(profile, sizes_for(profile))
    assert [one.name for one in made.systems] == ["neurovl", "plain", *BUILT_IN]


def compared(name, **leaderboard):
    profile = load_profile(name)
    profile = replace(profile, leaderboard=replace(profile.leaderboard, **leaderboard))
    sizes = sizes_for(profile)
    return profile, sizes, comparison.comparison(profile, sizes)


def total(made, stage):
    return sum(one.operations for one in made.works() if one.stage == stage)


def test_pictures_cost_their_steps_for_each_system_protocol_and_sample():
    profile, sizes, few = compared("demo", images=10)
    *_, more = compared("demo", images=30)
    unclip = operations.unclip_operations(profile)
    # Ten steps with guidance and the decoder; systems that begin at a latent do the last share of the steps.
    whole = 10 * 2 * unclip["unet"] + unclip["decoder"]
    shares = {
        **{"neurovl": (2, 7), "plain": (2, 9), "mind-reader": (2, 10), "takagi": (3, 5)},
        **{"brain-diffuser": (3, 7), "gu": (2, 5), "mindeye": (18, 5), "unibrain": (3, 7)},
        **{"braincap": (3, 2), "dream": (3, 7), "mindbridge": (10, 10), "umbrae": (2, 10)},
    }
    picture = sum(n * (k * 2 * unclip["unet"] + unclip["decoder"]) for n, k in shares.values())
    captions = {"takagi": 3, "unibrain": 3, "braincap": 3, "umbrae": 2}
    asked = operations.spoken("", profile, profile.models.llm, 1, 64).operations
    expected = 4 * 20 * (picture + sum(captions.values()) * asked)
    assert total(more, COMPARE) - total(few, COMPARE) == pytest.approx(expected)
    # A control paints eight pictures of a mean brain, however many are scored.
    assert total(more, CONTROLS) == pytest.approx(total(few, CONTROLS))
    *_, fewest = compared("demo", images=2)
    mean_brains = sum(k * 2 * unclip["unet"] + unclip["decoder"] for _, k in shares.values())
    gone = total(few, CONTROLS) - total(fewest, CONTROLS)
    assert gone == pytest.approx(4 * 6 * mean_brains) and gone < 4 * 6 * whole * len(shares)


def test_the_captioner_costs_its_steps_on_one_card():
    _, sizes, made = compared("paper", captioner_steps=(0, 0))
    *_, trained = compared("paper", captioner_steps=(1000, 4000), captioner_batch_size=32)
    row = operations.llm_operations(
        operations.configurations("meta-llama/Meta-Llama-3-8B-Instruct", "llm")["llm"],
        8_030_261_248,
        256 + operations.TEXT,
    )
    gone = [sum(w.operations for w in one.works() if not w.shared) for one in (trained, made)]
    assert gone[0] - gone[1] == pytest.approx((2 * 1000 + 3 * 4000) * 32 * row)
    device = trained.needs(half=True)[0].device
    assert device > 18 * 8.03e9  # weights, gradients, moments, and a copy in 16 bits


def test_the_paper_s_comparison_takes_orders_of_magnitude_more_than_the_demo_s():
    (*_, small), (*_, large) = compared("demo"), compared("paper")
    for stage in (COMPARE, CONTROLS):
        assert total(large, stage) > 1e4 * total(small, stage) > 1e12
    for few, many in zip(small.needs(True), large.needs(True), strict=True):
        assert many.device > 50 * few.device > 0 and many.disk > 100 * few.disk > 0
        assert few.device < 1e9
    # Features of all pictures in 16 bits are most of what the comparison writes, beside what systems say.
    assert large.needs(True)[0].disk > 2 * large.sizes.pictures * sum(large.values.values())


def test_the_controls_train_each_system_that_predicts_an_embedding_three_times_again():
    _, _, made = compared("demo")
    speaks_alone = {"takagi", "braincap", "onellm"}
    assert {one.name for one in made.systems if not one.embeds} == speaks_alone
    again = sum(3 * one.fit.operations for one in made.systems if one.embeds)
    painted = total(made, CONTROLS) - again
    assert 0 < painted < 0.1 * again


def test_a_data_set_s_own_trials_and_pictures_are_taken(tiny_nsd):
    import neurovl

    data = neurovl.open_recordings(tiny_nsd)
    profile = load_profile("smoke")
    made = comparison.comparison(profile, sizes_for(profile, data), data)
    train = data.trials[data.trials.split == "train"]
    assert made.seen.subjects == 2 and made.seen.trials == len(train) / 2
    pictures = [own.image_id.nunique() for _, own in train.groupby("subject")]
    assert made.seen.pictures == np.mean(pictures)
    voxels = np.mean([data.mask(s).sum() for s in data.subjects])
    assert made.seen.voxels == pytest.approx(voxels, abs=1)


def test_without_pictures_or_tokens_of_them_nothing_is_compared(monkeypatch):
    profile = load_profile("smoke")
    sizes = sizes_for(profile)
    assert comparison.comparison(profile, replace(sizes, has_images=False)) is None
    resnet = {"clip": {"embed_dim": 64, "vision_cfg": {"image_size": 64, "layers": [3, 4, 6, 3]}}}
    monkeypatch.setattr(comparison, "configurations", lambda spec, part: resnet)
    assert comparison.comparison(profile, sizes) is None


def test_the_plan_has_both_lines_below_what_a_run_takes(monkeypatch):
    monkeypatch.setattr(plan, "_seconds", lambda function, device: 0.01)
    lines = plan.plan(load_profile("paper"))
    where = [k for k, line in enumerate(lines) if line.startswith("---")][1]
    names = [line.split("  ")[0] for line in lines[where + 1 : where + 4]]
    assert names == ["all", COMPARE, CONTROLS] and lines[where + 4] == ""
    assert lines[where + 2].count("too much") == 4 and "captioner" in "\n".join(lines)
    # 'all' is what a run takes, without the comparison.
    monkeypatch.setattr(plan, "comparison", lambda *about: None)
    alone = plan.plan(load_profile("paper"))
    assert alone[where + 1].split() == lines[where + 1].split() and alone[where + 2] == ""
