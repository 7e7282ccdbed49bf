"""Claims against differences taken by hand."""

import numpy as np
import pandas as pd
import pytest

from neurovl.evaluation.claims import claims
from neurovl.evaluation.score_table import PER_IMAGE
from neurovl.results import condition

IDS = [f"image{i}" for i in range(6)]


def scores(system, metric, values, varied="", protocol="average", task="reconstruction", **other):
    place = {"data": "d", "system": system, "condition": varied, "task": task}
    place |= {"protocol": protocol, "subject": "subj01", "metric": metric} | other
    frame = pd.DataFrame({**place, "image_id": IDS[: len(values)], "value": values})
    return frame[PER_IMAGE]


def judged(*frames) -> dict:
    seen = scores("neurovl", "two_way_clip", [1.0] * 6, task="alignment")
    return {c.statistic: c for c in claims(pd.concat([seen, *frames]), "d", 0, 200)}


def test_a_difference_is_paired_by_image_and_averaged_over_subjects_first():
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(1, 0.1, (2, 6)), rng.normal(0, 0.1, (2, 6))
    found = judged(
        *(scores("neurovl", "pixcorr", v, subject=f"subj0{k}") for k, v in enumerate(ours)),
        *(scores("no-vae", "pixcorr", v[:5], subject=f"subj0{k}") for k, v in enumerate(theirs)),
    )
    claim = found["pixcorr: neurovl - no-vae"]
    difference = (ours - theirs)[:, :5].mean(0)
    assert claim.value == pytest.approx(difference.mean()) and claim.n == 5
    assert claim.ci_low > 0 and claim.verdict == "holds"


def test_conditions_are_compared_with_each_other_and_never_mixed_into_their_system():
    betas = {0.5: 0.1, 0.8: 0.4, 0.9: 0.6, 1.0: 0.2}
    found = judged(
        scores("neurovl", "pixcorr", [0.3] * 6),
        *(scores("neurovl", "pixcorr", [v] * 6, condition(beta=b)) for b, v in betas.items()),
    )
    assert found["pixcorr: neurovl - neurovl beta=1"].value == pytest.approx(0.1)
    middle = "pixcorr: neurovl beta=0.8 + neurovl beta=0.9"
    assert found[f"{middle} - neurovl beta=0.5"].value == pytest.approx(0.4)
    assert found[f"{middle} - neurovl beta=1"].value == pytest.approx(0.3)
    assert found["two_way_inception: neurovl beta=1 - neurovl beta=0.5"].value is None


def test_a_single_trial_is_named_and_told_apart_from_the_average():
    found = judged(
        scores("neurovl", "two_way_clip", [0.6] * 6, protocol="single", task="alignment"),
        scores("ridge", "two_way_clip", [0.9] * 6, protocol="single", task="alignment"),
    )
    claim = found["two_way_clip: neurovl (single) - ridge (single)"]
    assert claim.value == pytest.approx(-0.3) and claim.verdict == "fails"
    assert found["two_way_clip: neurovl - neurovl (single)"].value == pytest.approx(0.4)


def test_what_was_not_run_is_undecided_and_betas_are_claimed_where_there_are_some():
    found = judged()
    assert {c.verdict for c in found.values()} == {"undecided"}
    assert not any("beta=" in statistic for statistic in found)
    two = judged(*(scores("neurovl", "pixcorr", [b] * 6, condition(beta=b)) for b in (0.5, 0.9)))
    assert not any("beta=" in statistic for statistic in two)


def test_a_peers_number_is_beaten_or_not_only_on_its_own_data_and_pool():
    seen = scores("neurovl", "two_way_clip", [1.0] * 6, task="alignment")
    high = scores("neurovl", "image_top1", [0.99] * 6, condition(pool=300), task="retrieval")
    low = scores("neurovl", "brain_top1", [0.1] * 6, condition(pool=300), task="retrieval")
    table = pd.concat([seen, high, low])

    def verdicts(table, as_published) -> dict:
        found = claims(table, "nsd", 0, 200, as_published)
        return {c.statistic.split(":")[0]: c for c in found if "MindEye" in c.claim}

    found = verdicts(table, True)
    assert found["image_top1"].value == pytest.approx(0.99 - 0.936)
    assert (found["image_top1"].verdict, found["brain_top1"].verdict) == ("holds", "fails")
    smaller = table.assign(condition=table.condition.replace("pool=300", "pool=200"))
    for other in (verdicts(table, False), verdicts(smaller, True)):
        assert {c.verdict for c in other.values()} == {"undecided"}
        assert all(c.value is None for c in other.values()) and len(other) == 2


def test_retrieval_is_compared_within_its_pool():
    found = judged(
        scores("neurovl", "image_top1", [0.5] * 6, condition(pool=6), task="retrieval"),
        scores("ridge", "image_top1", [0.2] * 6, condition(pool=6), task="retrieval"),
    )
    assert found["image_top1: neurovl pool=6 - ridge pool=6"].value == pytest.approx(0.3)
