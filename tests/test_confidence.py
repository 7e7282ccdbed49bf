"""Confidence: calibrated where it is fitted, of no worth where answers have nothing to do with it, silent without a picture."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from neurovl.encoder.signal import Signal
from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.errors import DataError
from neurovl.evaluation.confidence_scores import (
    accuracy_over_coverage,
    calibration_error,
    resampled,
    surer_half,
)
from neurovl.evaluation.rightness import is_right
from neurovl.evaluation.uninformed import UNINFORMED, uninformed
from neurovl.language.confidence import FALSE_ALARMS, Confidence, Evidence, Scale


def drawn(n, seed, law=lambda e: expit(2 + 3 * e.weakest + 2 * e.signal)):
    """Short and long answers, right with a probability that a law gives; a third of brains without information."""
    rng = np.random.default_rng(seed)
    informed = np.arange(n) % 3 > 0
    answers = [
        Evidence(-2 * rng.random(), rng.normal(1.0 if known else -1.5), rng.normal(), int(length))
        for known, length in zip(informed, rng.choice([2, 20], n), strict=True)
    ]
    return answers, rng.random(n) < [law(one) for one in answers], informed


def calibrated(n, seed):
    answers, right, informed = drawn(n, seed)
    return Confidence.fit(answers, right, ~informed)


def test_confidence_is_the_probability_that_answers_are_right():
    """The law that answers were drawn by is found again: on new answers confidence is within a few hundredths of it."""
    sure = calibrated(6000, 0)
    answers, right, _ = drawn(6000, 1)
    law = np.array([expit(2 + 3 * one.weakest + 2 * one.signal) for one in answers])
    said = np.array([sure.of(one) for one in answers])
    assert np.abs(said - law).mean() < 0.03
    order = np.argsort(-said)
    assert calibration_error(said[order], right[order], np.ones(len(said))) < 0.03


def test_without_a_law_there_is_nothing_to_be_sure_of():
    """Right and wrong shuffled: confidence is the share of right answers for all; and the surer half is no better then."""
    answers, right, informed = drawn(6000, 0)
    shuffled = np.random.default_rng(2).permutation(right).astype(float)
    sure = Confidence.fit(answers, shuffled, ~informed)
    said = np.array([sure.of(one) for one in answers])
    assert said.std() < 0.03 and said.mean() == pytest.approx(right.mean(), abs=0.02)
    lawful = Confidence.fit(answers, right, ~informed)
    of_law = np.array([lawful.of(one) for one in answers[:2000]])
    order = np.argsort(-of_law)
    half = surer_half(of_law[order], shuffled[order], np.ones(2000))
    assert half == pytest.approx(right.mean(), abs=0.05)


def test_brains_without_information_are_silent():
    sure = calibrated(6000, 0)
    answers, _, informed = drawn(6000, 1)
    spoken = np.array([sure.speaks(one) for one in answers])
    assert spoken[~informed].mean() == pytest.approx(FALSE_ALARMS, abs=0.03)
    assert spoken[informed].mean() > 0.4


def test_what_is_faint_is_not_spoken_of():
    """Answers are right where a brain is strong: with as much signal, but little strength, as of what was imagined, silence."""
    answers, right, informed = drawn(6000, 0, lambda e: expit(2 + 3 * e.weakest + 2 * e.strength))
    sure = Confidence.fit(answers, right, ~informed)
    seen, faint = (Evidence(-0.1, 1.0, strength, 2) for strength in (1.0, -3.0))
    assert sure.speaks(seen) and not sure.speaks(faint)


def test_what_cannot_be_calibrated_is_refused():
    answers, right, informed = drawn(60, 0)
    for wrong in ((answers, right | True, ~informed), (answers, right, informed & False)):
        with pytest.raises(DataError, match="cannot be calibrated"):
            Confidence.fit(*wrong)


def test_saved_and_read_again(tmp_path):
    sure = calibrated(300, 0)
    sure.save(tmp_path / "confidence.json")
    assert Confidence.load(tmp_path / "confidence.json") == sure
    older = Scale(sure.short.weights[:3], 0.0, 0.5)
    Confidence(older, older).save(tmp_path / "confidence.json")
    with pytest.raises(DataError, match="3 weights, expected 4"):
        Confidence.load(tmp_path / "confidence.json")


def test_signal_tells_pictures_from_noise_at_any_scale(tmp_path):
    """Targets of a few strong and many weak components: what a decoder says of brains against what it says of noise."""
    rng = torch.Generator().manual_seed(0)
    spread = torch.logspace(1, -1, 40)
    rotation = torch.linalg.qr(torch.randn(40, 40, generator=rng))[0]
    targets = (torch.randn(500, 40, generator=rng) * spread) @ rotation
    known = SimpleNamespace(
        clip=targets, flat=lambda: targets, rows=lambda ids: torch.tensor(ids), vae=None
    )
    settings = SimpleNamespace(reduction="sum", alpha=1.0)
    signal = Signal.fit(known, list(range(400)), settings)
    shrunk = (targets[400:] @ rotation.T) * (spread / (spread + 1)) @ rotation
    noise = torch.randn(100, 40, generator=rng) @ rotation

    def of(clip):
        return signal.of(BrainEmbedding(clip, None, torch.zeros(len(clip), 1, 1)))

    assert of(shrunk)[:, 0].min() > of(noise)[:, 0].median()
    mean = targets[:400].mean(0)
    signal_of, strength_of = (of(3 * (noise - mean) + mean) - of(noise)).T
    torch.testing.assert_close(signal_of, torch.zeros(100), atol=1e-5, rtol=0)
    torch.testing.assert_close(strength_of, torch.full((100,), 3.0).log())
    signal.save(tmp_path / "signal.safetensors")
    again = Signal.load(tmp_path / "signal.safetensors")
    noisy = BrainEmbedding(noise, None, torch.zeros(100, 1, 1))
    torch.testing.assert_close(again.of(noisy), signal.of(noisy))


def test_scores_by_hand():
    """Five pairs of answers of confidence .9 to .5, the third and the fifth pair wrong."""
    confidence = np.repeat([0.9, 0.8, 0.7, 0.6, 0.5], 2)
    right = np.repeat([1.0, 1.0, 0.0, 1.0, 0.0], 2)
    error = calibration_error(confidence, right, np.ones(10))
    assert error == pytest.approx((0.1 + 0.2 + 0.7 + 0.4 + 0.5) / 5)
    assert surer_half(confidence, right, np.ones(10)) == pytest.approx(4 / 5)
    table = pd.DataFrame({"confidence": confidence, "right": right, "image_id": list("aabbccddee")})
    curve = accuracy_over_coverage(table.sample(frac=1, random_state=0), [0.4, 0.6, 1.0])
    assert curve.tolist() == pytest.approx([1.0, 4 / 6, 0.6])
    images, scores = resampled(table, surer_half)
    # Picture c alone, twice: both answers wrong; a and c: the surer half is a's.
    drawn = np.array([[0, 0, 2, 0, 0], [1, 0, 1, 0, 0]])
    assert images == list("abcde") and scores(drawn).tolist() == [0.0, 1.0]


def test_uninformed_volumes_keep_their_size_and_nothing_else():
    rng = np.random.default_rng(0)
    measured = rng.random(300) < 0.7
    voxels = rng.standard_normal((4, 300)).astype(np.float32) * measured
    for kind in UNINFORMED:
        found = uninformed(kind, voxels, measured, seed=3)
        assert not found[:, ~measured].any()
        assert found[:, measured].std() == pytest.approx(voxels[:, measured].std(), rel=0.1)
        like = [
            np.corrcoef(a[measured], b[measured])[0, 1] for a, b in zip(found, voxels, strict=True)
        ]
        assert np.abs(like).max() < 0.25
    scrambled = uninformed("scrambled", voxels, measured, seed=3)
    np.testing.assert_array_equal(np.sort(scrambled, 1), np.sort(voxels, 1))


def test_what_is_right():
    """Closed answers word for word; a description is right if it names something and nothing that is not there."""
    bus = {"category": "bus", "supercategory": "vehicle", "box": (0.1, 0.2, 0.6, 0.9)}
    dog = {"category": "dog", "supercategory": "animal", "box": (0.1, 0.2, 0.6, 0.9)}
    data = SimpleNamespace(
        captions=lambda image: [f"A {image} on a street."],
        objects=lambda image: [bus if image == "bus" else dog],
    )
    rows = [
        ("yes/no", "Yes.", "yes", True, 1.0),
        ("yes/no", "no", "yes", True, 0.0),
        ("brief", "A bus on a street.", "A bus.", False, 1.0),
        ("brief", "A bus and a dog.", "A bus.", False, 0.0),
        ("brief", "A street.", "A bus.", False, 0.0),
        ("reasoning", "Because of the rain.", "It rains.", False, np.nan),
    ]
    names = ["type", "answer", "truth", "closed", "expected"]
    table = pd.DataFrame(rows, columns=names).assign(image_id="bus", turn=0)
    other = table.iloc[:1].assign(image_id="dog")
    table = pd.concat([table, other], ignore_index=True)
    found = is_right(SimpleNamespace(recordings=data), table)
    np.testing.assert_array_equal(found, table.expected)
