"""Figures show what the tables hold: positions of marks against the numbers that were put in."""

import json
import re
from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from neurovl import figures
from neurovl.errors import MissingError
from neurovl.recordings.opening import open_recordings
from neurovl.results import Claim, Row, write_claims, write_results
from neurovl.run import RunTables, write_record
from neurovl.settings.profile_files import Profile
from neurovl.smallworld.subjects import truth
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import write_store

PLAIN = {"data": "simulated-nsd", "task": "alignment", "protocol": "average", "subject": "all"}


def table(*rows: dict) -> pd.DataFrame:
    rows = [asdict(Row(**{**PLAIN, "metric": "two_way_clip", **row})) for row in rows]
    frame = pd.DataFrame(rows)
    numbers = ["value", "ci_low", "ci_high", "chance", "ceiling"]
    return frame.assign(**{column: pd.to_numeric(frame[column]) for column in numbers})


@pytest.fixture(scope="module")
def recordings(tiny_nsd):
    return open_recordings(tiny_nsd)


@pytest.fixture(scope="module")
def store(recordings, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    write_store(recordings, folder, patches=[4, 3], off_mask="zero")
    return TokenStore(folder)


@pytest.fixture
def run(tmp_path):
    """A run folder with two rows and a claim."""
    facts = {"data": "simulated-nsd", "simulated": True, "folds": 1}
    write_record(tmp_path, Profile("smoke"), "../data", facts)
    (tmp_path / "results").mkdir()
    rows = [
        Row(**PLAIN, system=s, metric="two_way_clip", value=v, ci_low=v - 0.1, ci_high=v + 0.1, n=9)
        for s, v in (("neurovl", 0.8), ("shuffled", 0.5))
    ]
    write_results(rows, tmp_path / "results" / "results.csv")
    claim = Claim("a beats b", "simulated-nsd", "m: a - b", 0.2, 0.1, 0.4, 9, 0, "holds")
    write_claims([claim], tmp_path / "results" / "claims.csv")
    return tmp_path


def test_scores_stand_where_the_table_says():
    rows = table(
        {"system": "neurovl", "value": 0.8, "ci_low": 0.7, "ci_high": 0.9, "chance": 0.5},
        {"system": "ridge", "value": 0.6, "ci_low": 0.5, "ci_high": 0.65},
        {"system": "flat", "note": "not computed"},
    )
    axis = figures.scores(rows, {"two_way_clip": "two-way"}).axes[0]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["ridge", "neurovl"]
    marks = [line.get_xdata()[0] for line in axis.lines if line.get_marker() == "o"]
    assert marks == [0.6, 0.8]
    bars = [tuple(line.get_xdata()) for line in axis.lines if line.get_linestyle() == "-"]
    assert (0.7, 0.9) in bars and (0.5, 0.65) in bars


def test_a_metric_without_values_is_not_drawn():
    rows = table(
        {"system": "neurovl", "value": 0.8}, {"system": "neurovl", "metric": "x", "note": "no jar"}
    )
    drawn = [
        a for a in figures.scores(rows, {"two_way_clip": "A", "x": "B"}).axes if a.get_visible()
    ]
    assert [axis.get_title() for axis in drawn] == ["A"]


def test_beta_is_read_from_the_condition():
    rows = table(
        {"system": "neurovl", "condition": "beta=1", "value": 0.5},
        {"system": "neurovl", "condition": "beta=0.6", "value": 0.4},
        {"system": "neurovl", "value": 0.3},
    )
    beta = figures.beta_rows(rows)
    assert list(zip(beta.system, beta.beta, beta.value, strict=True)) == [
        ("neurovl", 0.6, 0.4),
        ("neurovl", 1.0, 0.5),
    ]
    assert figures.beta_rows(rows.tail(1)).empty
    line = next(x for x in figures.beta_curves(beta, {"two_way_clip": "A"}).axes[0].lines)
    assert line.get_xdata().tolist() == [0.6, 1.0] and line.get_ydata().tolist() == [0.4, 0.5]


def test_the_curves_of_both_stages_stand_one_after_the_other():
    """Points may be means of several steps, so places come from the column `step`."""
    stages = {"stage": [1, 1, 2, 2], "step": [2, 4, 8, 16], "loss": [4.0, 3.0, 2.0, 1.0]}
    first, _, second, _ = figures.language_curve(pd.DataFrame(stages)).axes[0].lines
    assert first.get_xdata().tolist() == [2, 4] and second.get_xdata().tolist() == [12, 20]
    assert second.get_ydata().tolist() == [2.0, 1.0]


def test_claims_without_a_number_are_left_to_the_table(run):
    claims = RunTables(run).claims
    empty = claims.assign(
        claim="c", value=np.nan, ci_low=np.nan, ci_high=np.nan, verdict="undecided"
    )
    axis = figures.claims(pd.concat([claims, empty])).axes[0]
    assert len(axis.get_yticks()) == 1
    assert [x for x in axis.lines if x.get_marker() == "o"][0].get_xdata()[0] == pytest.approx(0.5)


def test_run_tables_read_the_run_and_name_it(run):
    tables = RunTables(run)
    assert tables.source == "data: simulated-nsd · profile: smoke · seed 0"
    assert tables.results.value.tolist() == [0.8, 0.5]
    with pytest.raises(MissingError, match="run.json"):
        RunTables(run / "results")


def test_provenance_has_one_row_a_stage(run):
    for number, stage in enumerate(("tokens", "encoders/main")):
        (run / stage).mkdir(parents=True)
        about = {"seconds": 2.0 + number, "finished": f"2026-01-0{number + 1}", "version": "0.1.0"}
        (run / stage / "provenance.json").write_text(json.dumps(about))
    table = RunTables(run).provenance
    assert table.stage.tolist() == ["tokens", "encoders/main"] and table.seconds.tolist() == [2, 3]


def test_real_brains_are_never_simulated_ones(run):
    assert figures.real_brains(run) is None
    assert figures.real_brains(run / "nowhere") is None


def test_absent_systems_are_named():
    rows = table({"system": "neurovl", "value": 0.8})
    assert figures.absent(rows, ["neurovl", "flat"]) == "Not part of this run: flat."
    assert figures.absent(rows, ["neurovl"]) == "Nothing is left out."


def test_tables_leave_missing_values_empty():
    frame = pd.DataFrame({"n": pd.array([3, None], "Int64"), "value": [0.12345, np.nan]})
    text = figures.show_table(frame, "A & B").data
    assert "0.123" in text and "<NA>" not in text and "nan" not in text.lower()
    assert "<figcaption>A &amp; B</figcaption>" in text


def test_notes_stand_once_below_their_table():
    notes = ["none & so on", None, "", "another", "none & so on"]
    text = figures.show_table(pd.DataFrame({"row": list("abcde"), "note": notes}), "A").data
    assert re.findall("<li>(.*?)</li>", text) == ["none &amp; so on", "another"]
    cells = re.findall("<td>(.*?)</td>", text)
    assert cells == ["a", "1", "b", "", "c", "", "d", "2", "e", "1"]
    assert "<ol" not in figures.show_table(pd.DataFrame({"note": [""]}), "A").data


def test_a_long_table_is_scrolled_below_its_head():
    short, long = (figures.show_table(pd.DataFrame({"n": range(n)}), "A").data for n in (15, 16))
    assert "max-height" not in short and "sticky" not in short
    assert "max-height" in long and long.count("position:sticky") == 1
    assert "<figcaption>A 16 rows, to be scrolled.</figcaption>" in long


def test_the_hottest_slice_shows_heat_within_the_mask():
    import nibabel

    values = np.zeros((9, 3, 4), np.float32)
    values[1, 2, 3], values[4, 0, 0] = 1, 2  # the hotter voxel lies outside the mask
    mask = np.zeros(values.shape, bool)
    mask[:4] = True  # with the voxel around it, 5 x 3 voxels are shown
    picture = figures.hottest_slice(nibabel.Nifti1Image(values, np.eye(4)), mask, 50)
    pixels = np.asarray(picture)  # voxels of 10 pixels, y upwards, a border above and below
    assert pixels.shape == (50, 50, 3)
    grey = (pixels == 64).all(-1)
    assert grey[:10].all() and grey[40:].all() and grey[10:40, 40:].all()
    assert not grey[10:40, :40].any()
    hot = pixels.sum(-1) > 600
    assert hot[10:20, 10:20].all() and hot.sum() == 100


def test_splits_count_trials_and_pictures(recordings):
    rows = figures.splits(recordings)
    own = recordings.trials[recordings.trials.split == "test"]
    assert rows[rows.split == "test"].trials.sum() == len(own)
    assert rows.pictures.max() <= recordings.trials.image_id.nunique()


def test_contact_sheet_draws_every_box(recordings):
    ids = sorted(recordings.trials.image_id.unique())[:3]
    drawn = figures.contact_sheet(recordings, ids).axes
    for axis, image_id in zip(drawn, ids, strict=True):
        assert [t.get_text() for t in axis.texts] == [
            o["category"] for o in recordings.objects(image_id)
        ]


def test_histogram_of_ceilings_sums_to_one(recordings):
    axis = figures.ceiling_histogram(recordings).axes[0]
    for outline in axis.patches:
        heights = outline.get_xy()[1:-1:2, 1]
        assert heights.sum() == pytest.approx(1)


def test_figures_of_the_brain_are_drawn(recordings, store):
    subject, mask = "subj01", recordings.mask("subj01")
    made = [
        figures.session(recordings, subject, n_trials=30),
        figures.resize(recordings, store, store.subjects),
        figures.patches(store, "p3"),
        figures.tokens(store, subject, store.trials.image_id[:2]),
    ]
    import nibabel

    maps = list(truth(recordings.root, subject).items())[:2]
    heats = {c: nibabel.Nifti1Image(v, recordings.affine(subject)) for c, v in maps}
    made.append(figures.heat_slices(heats, mask))
    assert all(figure.get_facecolor()[3] == 0 for figure in made)  # transparent


def test_patches_are_those_of_the_plan(store):
    axes = figures.patches(store, "p4", n_slices=3).axes
    plan = store.plans["p4"]
    top = np.stack(np.unravel_index(plan.kept, plan.candidates), -1)[:, 2] * 4
    for axis in axes:
        level = int(axis.get_title().split("= ")[1])
        assert len(axis.patches) == ((top <= level) & (level < top + 4)).sum()


def test_a_cut_volume_shows_each_token_of_its_layer(recordings, store):
    plan = store.plans["p4"]
    cubes = store.batch("subj01", [0])[0].numpy()
    volume = np.zeros(store.target)
    figure = figures.cut(volume, plan, cubes)
    whole, *small = figure.axes
    drawn = [axis for axis in small if axis.images]
    assert len(whole.patches) == len(drawn) > 0
    edges = np.unravel_index(plan.kept, plan.candidates)
    for axis, box in zip(drawn, whole.patches, strict=True):
        token = int(axis.get_title().removeprefix("token "))
        assert box.get_xy() == (4 * edges[0][token] - 0.5, 4 * edges[1][token] - 0.5)
        middle = cubes[token].reshape(4, 4, 4)[:, :, 2].T
        assert np.array_equal(axis.images[0].get_array(), middle)


def test_truth_is_drawn_only_where_it_is_known():
    located = pd.DataFrame(
        {
            "subject": "subj01",
            "concept": ["dog", "cat"],
            "drop_located": [0.2, 0.1],
            "drop_moved": 0.0,
            "drop_other": 0.05,
        }
    )
    (axis,) = figures.truth_and_zeroing(located).axes
    shown = {line.get_label(): list(line.get_xdata()) for line in axis.lines[1:]}
    assert shown == {
        "located voxels zeroed": [0.1, 0.2],
        "the same, moved elsewhere": [0.0, 0.0],
        "another concept's": [0.05, 0.05],
    }
    assert len(figures.truth_and_zeroing(located.assign(auc=0.7, auc_other=0.5)).axes) == 2
