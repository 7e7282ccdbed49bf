"""Rows on retrieval against medians and means taken by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neurovl.evaluation.retrieving import Retrieval
from neurovl.evaluation.score_table import Table, resampled_median
from neurovl.metrics import retrieval, retrieval_rank


@pytest.fixture
def found() -> tuple:
    """Two subjects, the second of whom saw fewer pictures."""
    rng = np.random.default_rng(3)
    pictures = rng.normal(size=(320, 6))
    targets = SimpleNamespace(clip=torch.tensor(pictures), rows=lambda ids: [int(i) for i in ids])
    table = Table("mine", "", 0, 200)
    rows = Retrieval(table, targets)
    said = {}
    for subject, n in (("a", 320), ("b", 41)):
        said[subject] = pictures[:n] + rng.normal(0, 0.8, (n, 6))
        rows.add(
            {"neurovl": {"clip": said[subject]}}, "average", subject, [str(i) for i in range(n)]
        )
    rows.finish()
    table.add_all_subjects()
    return {(r.subject, r.metric, r.condition): r for r in table.rows}, said, pictures


def test_the_pool_is_300_or_all_there_are_and_is_part_of_the_row(found):
    rows, said, pictures = found
    for subject, n, pool in (("a", 320, 300), ("b", 41, 41)):
        row = rows[subject, "brain_top5", f"pool={pool}"]
        expected = retrieval(pictures[:n], said[subject], 5, pool).mean()
        assert (row.value, row.n, row.chance) == (pytest.approx(expected), n, 5 / pool)
        assert row.ci_low < row.value < row.ci_high and row.ceiling == 1
    assert ("all", "brain_top5", "pool=300") in rows and ("all", "brain_top5", "pool=41") in rows


def test_ranks_are_among_all_pictures_and_all_is_the_mean_of_medians(found):
    rows, said, pictures = found
    medians = {s: np.median(retrieval_rank(x, pictures[: len(x)])) for s, x in said.items()}
    for subject, median in medians.items():
        row = rows[subject, "image_median_rank", ""]
        assert (row.value, row.chance) == (median, (len(said[subject]) + 1) / 2)
        assert row.ci_low <= median <= row.ci_high
    everyone = rows["all", "image_median_rank", ""]
    assert everyone.value == np.mean(list(medians.values()))
    assert everyone.chance == np.mean([321 / 2, 42 / 2])


def test_a_resampled_median_is_that_of_the_repeated_values():
    rng = np.random.default_rng(0)
    values, drawn = rng.integers(0, 9, 12), rng.integers(0, 4, (30, 12)).astype(float)
    expected = [np.median(np.repeat(values, d.astype(int))) for d in drawn]
    np.testing.assert_array_equal(resampled_median(values)(drawn), expected)
