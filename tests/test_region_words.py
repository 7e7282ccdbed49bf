"""What regions say: against voxels made to answer to a word, a correlation by hand, and exchanged pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from neurovl.evaluation import region_words
from neurovl.evaluation.score_table import Table
from neurovl.localization.concept_maps import SubjectPictures
from neurovl.localization.picture_responses import PictureResponses, standard

NAMES, N = ["dog", "cat", "car", "cup"], 300
PREFERRED = {"A": "dog", "B": "cat", "C": "car"}


def made(order=None, seed=0):
    """Three regions of 30 voxels, each answering to its word, and one of as many that answer to nothing."""
    rng = np.random.default_rng(seed)
    sizes = rng.uniform(0.2, 0.8, (N, 4)) * (rng.random((N, 4)) < 0.3)
    clip = rng.normal(size=(4, 16))
    voxels = rng.normal(size=(N, 120))
    for k in range(3):
        voxels[:, 30 * k : 30 * k + 30] += standard(sizes)[:, [k]]
    voxels = standard(voxels if order is None else voxels[order])
    pictures = sizes @ clip + 0.05 * rng.normal(size=(N, 16))
    ids = [f"p{k}" for k in range(N)]
    f = np.float32
    responses = PictureResponses(
        "s", ids, NAMES, sizes.astype(f), voxels.astype(f), pictures.astype(f), None
    )
    return responses, torch.as_tensor(clip, dtype=torch.float32)


@pytest.fixture
def say(monkeypatch):
    """The words of the regions, and what the run gives of pictures."""

    def words(order=None):
        responses, texts = made(order)
        regions = {name: np.arange(120) // 30 == k for k, name in enumerate("ABC_")}
        mask = np.ones((1, 1, 120), bool)
        true = {c: np.zeros((1, 1, 120)) for c in NAMES}
        for k, (roi, c) in enumerate(PREFERRED.items()):
            true[c][..., regions[roi]] = 1 + k
        store = SimpleNamespace(measured=lambda subject: np.ones(120, bool))
        recordings = SimpleNamespace(
            rois=lambda subject: {name: r[None, None] for name, r in regions.items()},
            mask=lambda subject: mask,
            objects=lambda image: [{"category": image, "box": (0, 0, 0.5, 0.5)}],
        )
        run = SimpleNamespace(
            store=store,
            recordings=recordings,
            texts=texts,
            test_images=lambda s: NAMES,
            once=lambda name, make: make(),
        )
        monkeypatch.setattr(region_words, "training_responses", lambda *_: responses)
        monkeypatch.setattr(region_words, "stored_regions", lambda *_: regions)
        monkeypatch.setattr(region_words, "true_maps", lambda *_: true)
        holds = np.ones((1, 4), bool)
        pictures = SubjectPictures(
            store, "s", NAMES, texts, [], np.zeros((1, 120)), holds, lambda: responses
        )
        return region_words.words_of_regions(run, pictures), run

    return words


def test_regions_name_what_they_answer_to(say):
    words, run = say()
    assert set(words.method) == set(region_words.WAYS)
    for method in region_words.WAYS:
        own = words[words.method == method]
        for roi, preferred in PREFERRED.items():
            assert own[own.roi == roi].nlargest(1, "value").concept.item() == preferred
    expected, drive = region_words.pictures_of_region(run, "s", "B")
    assert expected.index[0] == "cat"
    cosine = torch.cosine_similarity(torch.as_tensor(drive)[None].float(), run.texts)
    assert int(cosine.argmax()) == NAMES.index("cat")


def test_scores_are_correlations_with_the_truth(say):
    words, _ = say()
    table = Table("toy", "", 0, 200)
    region_words.score_regions(table, words)
    rows = {row.system: row for row in table.rows}
    for method in region_words.WAYS:
        own = words[words.method == method].pivot(index="roi", columns="concept")
        by_hand = [np.corrcoef(own.value.loc[r], own.truth.loc[r])[0, 1] for r in PREFERRED]
        assert rows[method].value == pytest.approx(np.mean(by_hand))
        assert rows[method].n == 3  # the fourth region answers to nothing
    assert rows["tuning"].value > 0.8 > 0.1 > rows["tuning"].chance


def test_exchanged_pictures_fall_to_chance(say):
    values = []
    for seed in range(8):
        words, _ = say(np.random.default_rng(seed).permutation(N))
        table = Table("toy", "", 0, 50)
        region_words.score_regions(table, words)
        values += [row.value for row in table.rows if row.system == "tuning"]
    assert abs(np.mean(values)) < 0.3


def test_without_truth_there_is_no_score(say):
    words, _ = say()
    table = Table("toy", "", 0, 50)
    region_words.score_regions(table, words.assign(truth=np.nan))
    assert table.rows == []
