"""Scores and ranks of the leaderboard against formulas written out, scikit-learn and scipy."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.stats import rankdata
from sklearn.metrics import f1_score, precision_score

import neurovl
from neurovl.errors import DataError, MissingError
from neurovl.evaluation.score_table import PER_IMAGE, Table
from neurovl.foundation.scenenet import load_scenenet
from neurovl.leaderboard import ranks
from neurovl.leaderboard.caption_board import score_gallery_captions
from neurovl.leaderboard.gallery_tables import Gallery, read_gallery, together, write_gallery
from neurovl.leaderboard.picture_board import NAMED, ObjectsJudge, score_gallery_pictures
from neurovl.leaderboard.ranks import Standing, compared, standings
from neurovl.leaderboard.structure import (
    KINDS,
    NONE,
    SIDE,
    Masks,
    Probe,
    StructureJudge,
    category_iou,
    fit_probe,
    foreground_iou,
    true_masks,
)
from neurovl.metrics import bootstrap
from neurovl.results import Row
from neurovl.run import Run
from neurovl.smallworld import scenes

PLACE = {"system": "mine", "condition": "", "protocol": "average", "subject": "subj01"}
N = 40


def table_of(scores: dict, subjects=("subj01", "subj02"), metric="pixcorr", condition="") -> Table:
    """Per-image scores (subjects, images) of systems as a table has them."""
    table = Table("toy", "", 0, 500)
    for system, values in scores.items():
        for subject, own in zip(subjects, np.atleast_2d(values), strict=False):
            ids = [f"i{k:02d}" for k in range(len(own))]
            varied = condition if system != "neurovl" else ""
            about = (system, "reconstruction", "average", subject, metric, ids, own)
            table.add(*about, condition=varied)
    table.add_all_subjects()
    return table


def judged(table: Table, n=500, **more) -> dict:
    found = standings(table.rows, table.frame(), {}, 0, n, **more)
    return {(s.system, s.subject): s for s in found}


@pytest.fixture
def scores():
    rng = np.random.default_rng(3)
    ours = rng.uniform(0.3, 0.7, (2, N))
    return {
        "neurovl": ours,
        "same": ours.copy(),
        "near": ours + rng.normal(0, 0.02, (2, N)),
        "wild": ours + rng.normal(0, 0.3, (2, N)),
        "low": ours - rng.uniform(0.05, 0.15, (2, N)),
        "high": ours + rng.uniform(0.05, 0.15, (2, N)),
    }


def test_differences_are_bootstrapped_by_picture_after_the_mean_over_subjects(scores):
    found = judged(table_of(scores))
    difference = scores["low"].mean(0) - scores["neurovl"].mean(0)
    value, low, high = bootstrap(difference, 0, 500)
    one = found["low", "all"]
    assert one.difference == pytest.approx(value) and one.verdict == "worse"
    assert (one.difference_low, one.difference_high) == pytest.approx((low, high))
    # The same drawn by hand, without the package's resamples: the ends agree as far as 500 draws tell.
    rng = np.random.default_rng(9)
    means = [difference[rng.integers(N, size=N)].mean() for _ in range(4000)]
    assert (low, high) == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=3e-3)
    single = scores["low"][1] - scores["neurovl"][1]
    assert found["low", "subj02"].difference == pytest.approx(single.mean())


def test_verdicts_follow_the_interval(scores):
    found = judged(table_of(scores))
    verdicts = {system: found[system, "all"].verdict for system in scores}
    assert verdicts == {
        "neurovl": "tied",
        "same": "tied",
        "near": "tied",
        "wild": "undecided",
        "low": "worse",
        "high": "better",
    }
    assert (found["same", "all"].difference, found["same", "all"].difference_high) == (0, 0)


def test_shuffled_scores_of_a_good_system_are_worse():
    rng = np.random.default_rng(0)
    true, noise = rng.normal(size=(N, 30)), 0.3 * rng.normal(size=(N, 30))
    ours = [np.corrcoef(a, b)[0, 1] for a, b in zip(true + noise, true, strict=True)]
    dealt = np.roll(true + noise, 1, axis=0)
    other = [np.corrcoef(a, b)[0, 1] for a, b in zip(dealt, true, strict=True)]
    found = judged(table_of({"neurovl": [ours], "dealt": [other]}, ["subj01"]))
    assert found["dealt", "all"].verdict == "worse" and found["dealt", "all"].rank == 2


def test_signs_flip_where_two_systems_change_places(scores):
    two = {"neurovl": scores["neurovl"], "b": scores["wild"]}
    swapped = {"neurovl": scores["wild"], "b": scores["neurovl"]}
    one, other = (judged(table_of(s))["b", "all"] for s in (two, swapped))
    assert one.difference == pytest.approx(-other.difference)
    assert one.difference_low == pytest.approx(-other.difference_high)
    assert one.difference_high == pytest.approx(-other.difference_low)


def test_of_a_distance_the_smaller_is_better(scores):
    found = judged(table_of(scores, metric="distance_swav"))
    assert found["low", "all"].verdict == "better" and found["low", "all"].difference < 0
    assert found["low", "all"].rank == 1 and found["high", "all"].rank == 6
    assert compared(0.01, 0.03, "pixcorr") == "better" and compared(float("nan"), 0) == "undecided"


def test_ranks_and_their_intervals_are_those_of_resampled_means(scores):
    found, names = judged(table_of(scores), n=300), list(scores)
    means = np.stack([scores[name].mean(0) for name in names])
    first = rankdata(-means.mean(1).round(10), method="min")
    assert [found[name, "all"].rank for name in names] == first.tolist()
    rng = np.random.default_rng(0)
    drawn = np.concatenate([rng.integers(N, size=(100, N)) for _ in range(3)])
    every = np.array([rankdata(-means[:, d].mean(1).round(10), method="min") for d in drawn])
    for k, name in enumerate(names):
        low, high = np.sort(every[:, k])[[7, 292]]  # 2.5 and 97.5 % of 300
        assert (found[name, "all"].rank_low, found[name, "all"].rank_high) == (low, high)
    same, ours = found["same", "all"], found["neurovl", "all"]
    assert (same.rank, same.rank_low, same.rank_high) == (ours.rank, ours.rank_low, ours.rank_high)
    assert found["wild", "all"].rank_high > found["wild", "all"].rank_low


def test_a_row_as_published_is_compared_with_ours_as_it_is(scores):
    two = {"neurovl": scores["neurovl"], "low": scores["low"]}
    table = table_of(two, condition="as published")
    one = judged(table)["low", "all"]
    assert one.condition == "as published" and one.verdict == "worse" and one.rank == 2


def test_what_was_scored_on_other_pictures_is_not_compared(scores):
    table = table_of({"neurovl": scores["neurovl"]})
    few = [f"i{k:02d}" for k in range(10)]
    table.add("few", "reconstruction", "average", "subj01", "pixcorr", few, np.full(10, 0.9))
    place = table.place("few", "reconstruction", "average", "all", "pixcorr")
    table.rows.append(Row(**place, value=0.9))
    found = judged(table)
    for subject in ("subj01", "all"):
        one = found["few", subject]
        assert one.difference is None and one.rank is None and one.verdict == ""
        assert "not compared: scored on 10 pictures" in one.note
    assert found["neurovl", "all"].rank == 1


def test_normalised_is_the_share_of_the_ceiling(scores):
    table = table_of({"neurovl": scores["neurovl"]})
    top = ("true-embedding", "reconstruction", "average", "all", "pixcorr", ["i00"], [0.8])
    table.add(*top)
    found = judged(table)
    one = found["neurovl", "all"]
    assert one.ceiling == 0.8 and one.normalised == pytest.approx(one.value / 0.8)
    assert found["true-embedding", "all"].rank is None


def test_the_leaderboard_is_read_back_as_written(scores, tmp_path):
    table = table_of({"neurovl": scores["neurovl"], "low": scores["low"]})
    table.add("true-embedding", "reconstruction", "average", "all", "pixcorr", ["i00"], [0.8])
    found = standings(table.rows, table.frame(), {}, 0, 100)
    read = ranks.read_leaderboard(ranks.write_leaderboard(found, tmp_path / "leaderboard.csv"))
    assert read.verdict.tolist() == [one.verdict for one in found]
    assert read["rank"].isna().sum() == 1
    assert read["rank"].dropna().tolist() == [one.rank for one in found if one.rank]
    low = [one.difference_low for one in found if one.rank]
    assert read.difference_low.dropna().tolist() == pytest.approx(low, rel=1e-5)
    with pytest.raises(DataError, match="expected one of better"):
        Standing(**table.place("a", "caption", "average", "all", "x"), value=1.0, verdict="best")
    with pytest.raises(MissingError, match="neurovl compare"):
        ranks.read_leaderboard(tmp_path / "none.csv")


def captions_of(said: dict) -> pd.DataFrame:
    rows = [
        PLACE | {"system": system, "subject": subject, "image_id": f"i{k}", "caption": text}
        for system, texts in said.items()
        for subject in ("subj01", "subj02")
        for k, text in enumerate(texts)
    ]
    return pd.DataFrame(rows)


def test_captions_are_compared_as_whole_corpora():
    things = "dog cat horse bus train boat bird cow sheep zebra".split()
    true = {f"i{k}": [f"a {t} on the grass", f"one {t} stands"] for k, t in enumerate(things)}
    right = [f"a {t} on the grass" for t in things]
    half = [t if k % 2 else "a car in the street" for k, t in enumerate(right)]
    captions = captions_of({"neurovl": half, "same": half, "right": right, "dealt": right[::-1]})
    profile = SimpleNamespace(
        models=SimpleNamespace(metric="tiny"), compute=SimpleNamespace(device="cpu")
    )
    table = Table("toy", "", 0, 200)
    corpora = score_gallery_captions(table, None, captions, profile, {"caption": true})
    table.add_all_subjects()
    found = {
        (s.system, s.metric): s
        for s in standings(table.rows, table.frame(), corpora, 0, 200)
        if s.subject == "all"
    }
    bleu = {name: found[name, "bleu4"] for name in ("neurovl", "same", "right", "dealt")}
    scored = neurovl.metrics.captions(half, [true[f"i{k}"] for k in range(10)])["bleu4"]
    assert bleu["neurovl"].value == pytest.approx(scored.value)
    assert bleu["right"].value == pytest.approx(1, abs=1e-6) and bleu["right"].verdict == "better"
    assert bleu["same"].difference == 0 and bleu["same"].verdict == "tied"
    assert [bleu[n].rank for n in bleu] == [2, 2, 1, 4]
    # Paired: both corpora are pooled over the same drawn pictures.
    drawn = np.concatenate(list(neurovl.metrics.protocol.resamples(10, 0, 200)))
    whole = neurovl.metrics.captions(right, [true[f"i{k}"] for k in range(10)])["bleu4"]
    ends = np.quantile(whole.resampled(drawn) - scored.resampled(drawn), [0.025, 0.975])
    right_row = bleu["right"]
    assert (right_row.difference_low, right_row.difference_high) == pytest.approx(tuple(ends))
    assert found["right", "cider"].chance < 0.5 * found["right", "cider"].value
    assert not any(metric.endswith("_sentence") for _, metric in found)


# Pictures


@pytest.fixture(scope="module")
def world(tiny_nsd):
    data = neurovl.open_recordings(tiny_nsd)
    trials = data.trials
    train = sorted(trials.image_id[trials.split == "train"].unique())
    test = sorted(trials.image_id[trials.split == "test"].unique())[:12]
    return SimpleNamespace(data=data, train=train, test=test, net=load_scenenet("tiny", "cpu"))


def test_objects_are_counted_as_scikit_learn_does(world):
    judge = ObjectsJudge(world.net, world.data, world.test)
    made = [world.data.image(i) for i in world.test[1:] + world.test[:1]]
    order = np.roll(np.arange(12), 1)  # undoes the turn: chance is then the score of the truth
    found = judge(made, world.test, order)
    named = [KINDS[k] for k in NAMED]
    assert "person" in named and "face" not in named
    seen = world.net.contents(made)["categories"][:, NAMED] >= 0.5
    held = [{o["category"] for o in world.data.objects(i)} for i in world.test]
    true = np.array([[name in own for name in named] for own in held])
    for k in range(12):
        about = {"zero_division": 0.0}
        assert found["objects_precision"][0][k] == precision_score(true[k], seen[k], **about)
        assert found["objects_f1"][0][k] == pytest.approx(f1_score(true[k], seen[k], **about))
    own = judge([world.data.image(i) for i in world.test], world.test, order)
    for name in ("objects_precision", "objects_f1"):
        assert found[name][1] == pytest.approx(own[name][0].mean())
    assert own["objects_precision"][0].mean() > 0.8 > 0.4 > found["objects_precision"][0].mean()


def test_a_picture_without_anything_seen_or_there_scores_0(world):
    gray = Image.new("RGB", (64, 64), (128, 128, 128))
    data = SimpleNamespace(objects=lambda i: [])
    found = ObjectsJudge(world.net, data, ["a", "b"])([gray, gray], ["a", "b"], np.array([1, 0]))
    assert found["objects_f1"][0].tolist() == [0, 0]


def test_true_masks_are_what_the_scene_shows_and_belong_to_the_picture(world):
    ids = world.test[:4]
    masks = true_masks(world.data, ids)
    for own, there, image_id in zip(masks.kinds, masks.foreground, ids, strict=True):
        scene = scenes.make_scene("nsd", int(image_id))
        assert {KINDS[k] for k in np.unique(own) if k != NONE} <= {
            o.category for o in scene.objects
        }
        assert np.array_equal(there, scenes.object_masks(scene, SIDE).any(0))
    other = SimpleNamespace(name="simulated-nsd", image=lambda i: world.data.image(world.test[0]))
    with pytest.raises(DataError, match="is not what its scene graph draws"):
        true_masks(other, ids[:2])
    with pytest.raises(DataError, match="nsd has no true masks"):
        true_masks(SimpleNamespace(name="nsd"), ids)


def test_overlaps_are_counts_of_cells():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-1, most, (5, SIDE, SIDE)) for most in (2, 3))  # the third is in one alone
    one, other = Masks(a != NONE, a), Masks(b != NONE, b)
    for k in range(5):
        inside = [(x[k].ravel() != NONE) for x in (a, b)]
        share = np.sum(inside[0] & inside[1]) / np.sum(inside[0] | inside[1])
        assert foreground_iou(one, other)[k] == pytest.approx(share)
        parts = []
        for kind in range(3):
            cells = [set(np.flatnonzero(x[k].ravel() == kind)) for x in (a, b)]
            parts.append(len(cells[0] & cells[1]) / len(cells[0] | cells[1]))
        assert category_iou(one, other)[k] == pytest.approx(np.mean(parts))
    nothing = Masks(np.zeros((1, SIDE, SIDE), bool), np.full((1, SIDE, SIDE), NONE))
    assert foreground_iou(nothing, nothing)[0] == category_iou(nothing, nothing)[0] == 1


def test_the_probe_sees_where_things_stand_and_other_pictures_fall_to_chance(world):
    probe = fit_probe(world.net, world.data, world.train, seed=0)
    judge = StructureJudge(probe, world.data, world.test)
    pictures = [world.data.image(i) for i in world.test]
    found = judge(pictures, world.test, np.roll(np.arange(12), 1))
    for name, least in (("foreground_iou", 0.1), ("category_iou", 0.2)):
        values, chance = found[name]
        assert values.mean() > chance + least
    blank = [Image.new("RGB", p.size, (128, 128, 128)) for p in pictures]
    gray = judge(blank, world.test, np.roll(np.arange(12), 1))
    assert gray["category_iou"][0].mean() < 0.05


def made_gallery(world, folder, systems) -> Gallery:
    rows = []
    for system, pictures in systems.items():
        for k, (i, picture) in enumerate(zip(world.test, pictures, strict=True)):
            picture.save(folder / f"{system}-{k}.png")
            rows.append(PLACE | {"system": system, "image_id": i, "file": f"{system}-{k}.png"})
    return write_gallery(folder, rows)


def run_on(data, metric="tiny"):
    profile = SimpleNamespace(
        seed=0,
        models=SimpleNamespace(metric=metric),
        compute=SimpleNamespace(device="cpu"),
        evaluation=SimpleNamespace(permutations=5),
    )
    return Run(Path(), profile, Path()).on_data(data)


def test_pictures_of_a_gallery_are_scored_and_what_cannot_be_read_has_its_reason(
    world, tmp_path, monkeypatch
):
    monkeypatch.setattr("neurovl.leaderboard.structure.FITTED", 60)
    true = [world.data.image(i) for i in world.test]
    systems = {"truth": true, "dealt": true[1:] + true[:1]}
    gallery = made_gallery(world, tmp_path, systems)
    table = Table("simulated-nsd", "", 0, 100)
    score_gallery_pictures(table, run_on(world.data), gallery)
    found = {(r.system, r.metric): r for r in table.rows}
    assert found["truth", "pixcorr"].value == pytest.approx(1)
    assert found["dealt", "pixcorr"].value < 0.5
    for metric in ("objects_precision", "objects_f1", "foreground_iou", "category_iou"):
        seen, truth = found["seen-picture", metric].value, found["truth", metric].value
        assert seen == pytest.approx(truth) and found["dealt", metric].value < truth - 0.1
    empty = Table("other", "", 0, 10)
    other = SimpleNamespace(
        name="other",
        image=world.data.image,
        objects=world.data.objects,
        trials=world.data.trials,
    )
    score_gallery_pictures(empty, run_on(other), gallery)
    found = {(r.system, r.metric): r for r in empty.rows}
    assert found["truth", "category_iou"].value is None
    assert "no true masks" in found["truth", "category_iou"].note
    assert found["truth", "objects_f1"].value is not None


def test_one_probe_reads_all_galleries_of_a_run_as_one_of_its_own_does(
    world, tmp_path, monkeypatch
):
    monkeypatch.setattr("neurovl.leaderboard.structure.FITTED", 60)
    fitted = []
    first = Probe.__init__

    def fit(self, *about):
        fitted.append(self)
        first(self, *about)

    monkeypatch.setattr(Probe, "__init__", fit)
    true = [world.data.image(i) for i in world.test]
    galleries = []
    for name, turned in (("one", 1), ("other", 2)):
        (tmp_path / name).mkdir()
        dealt = true[turned:] + true[:turned]
        galleries.append(made_gallery(world, tmp_path / name, {name: dealt}))

    def scored(run, gallery):
        table = Table("simulated-nsd", "", 0, 100)
        score_gallery_pictures(table, run, gallery)
        return table.rows

    run = run_on(world.data)
    together = [scored(run, gallery) for gallery in galleries]
    assert len(fitted) == 1
    assert together == [scored(run_on(world.data), gallery) for gallery in galleries]
    assert len(fitted) == 3 and together[0] != together[1]


def test_without_scenenet_the_rows_say_why(world, tmp_path, monkeypatch):
    monkeypatch.setattr("neurovl.foundation.metric.metric_family", lambda spec, device: [])
    true = [world.data.image(i) for i in world.test]
    gallery = made_gallery(world, tmp_path, {"truth": true})
    table = Table("simulated-nsd", "", 0, 10)
    score_gallery_pictures(table, run_on(world.data, "paper"), gallery)
    notes = {r.metric: r.note for r in table.rows if r.value is None}
    assert set(notes) == {"objects_precision", "objects_f1", "foreground_iou", "category_iou"}
    assert all("SceneNet" in note for note in notes.values())


# Galleries


def row(**other):
    return PLACE | {"image_id": "7"} | other


def test_a_gallery_is_read_back_as_written(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    said = 'NA, he said: "a dog"\rand left'
    rows = [row(system="007", caption=said), row(image_id="NA", caption="")]
    write_gallery(tmp_path, [row(file="a.png", more=1)], rows)
    gallery = read_gallery(tmp_path)
    assert gallery.captions.caption.tolist() == [said, ""]
    assert gallery.captions.system.tolist() == ["007", "mine"]
    assert gallery.captions.image_id.tolist() == ["7", "NA"]
    assert gallery.samples.columns.tolist()[-1] == "file"
    whole = together([gallery])
    assert whole.samples.file.tolist() == [(tmp_path / "a.png").as_posix()]
    with pytest.raises(DataError, match="two rows for mine, average, subj01, 7"):
        together([gallery, gallery])


@pytest.mark.parametrize(
    ("samples", "captions", "error", "match"),
    [
        ([row(file="b.png")], [], MissingError, "b.png, which is not there"),
        ([row(file="../a.png")], [], DataError, "expected one below"),
        ([], [row(caption="a"), row(caption="b")], DataError, "two rows for mine"),
        ([], [row(caption="a", protocol="mean")], DataError, "protocol 'mean', expected one of"),
        ([], [row(caption="a", subject="")], DataError, "a row without subject"),
        ([], [], MissingError, "neither samples.csv nor captions.csv"),
    ],
)
def test_a_gallery_that_is_not_whole_is_refused(tmp_path, samples, captions, error, match):
    (tmp_path / "own").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(error, match=match):
        write_gallery(tmp_path / "own", samples, captions)
    assert not list((tmp_path / "own").iterdir())


def test_a_gallery_with_other_columns_is_refused(tmp_path):
    (tmp_path / "samples.csv").write_text("system,file\nmine,a.png\n")
    with pytest.raises(DataError, match="has columns system, file, expected system, condition"):
        read_gallery(tmp_path)


def test_per_image_scores_have_the_columns_that_ranks_read(scores):
    assert table_of(scores).frame().columns.tolist() == PER_IMAGE
