"""Published systems on a subject outside the run: what they read, what they are scored by, and what is kept of it."""

import inspect
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import neurovl
from neurovl import figures, leaderboard, pipeline
from neurovl.adaptation.new_subject import choose_pictures, open_subject, read_own_mask
from neurovl.baselines import registry
from neurovl.baselines.decoder import Decoder
from neurovl.baselines.own_masks import read_voxels, write_voxels
from neurovl.baselines.umbrae import Umbrae
from neurovl.encoder.alignment import held_out_voxels
from neurovl.errors import ConfigError, MissingError
from neurovl.evaluation import scoring
from neurovl.leaderboard import system_adaptation
from neurovl.leaderboard.system_adaptation import adapt_system, adapting_systems, new_subject_curves
from neurovl.pipeline import comparing
from neurovl.recordings.opening import open_recordings
from neurovl.results import read_results
from neurovl.run import Run, RunTables
from neurovl.settings.leaderboard import Leaderboard
from neurovl.settings.sections import (
    Adaptation,
    Alignment,
    Compute,
    EncoderShape,
    Evaluation,
    Preprocessing,
    Profile,
)

SETTINGS = {
    "mindbridge": {
        **{"length": 128, "width": 64, "adapter": 16, "blocks": 1, "lr": 4e-3, "precision": "no"},
        **{"epochs": 10, "new_subject_epochs": 10},
    },
    "umbrae": {
        **{"tokens": 4, "width": 32, "layers": 1, "heads": 2, "head_width": 16, "lr": 5e-3},
        **{"batch_size": 64, "epochs": 40, "new_epochs": 40, "precision": "no"},
    },
}
PROFILE = Profile(
    "small",
    compute=Compute(device="cpu", processes=1),
    preprocessing=Preprocessing(subjects=(1,), patches=(4,), off_mask="zero"),
    encoder=EncoderShape(width=16, layers=1, heads=2, head_hidden=16, readout=24),
    alignment=Alignment(epochs=1, batch_size=64, precision="no", variants=("main",)),
    evaluation=Evaluation(bootstrap=200, permutations=20),
    adaptation=Adaptation(subject=2, shares=(0.0, 0.001, 0.25, 1.0)),
    leaderboard=Leaderboard(captioner_steps=(1, 1), settings=SETTINGS),
)
SYSTEMS = ("mindbridge", "umbrae")
SUBJECT = "subj02"


@pytest.fixture(scope="module")
def run(tiny_nsd, tmp_path_factory) -> Run:
    """A run on subject 1 with both systems fitted to subject 2, which is left out."""
    started = pipeline.start(tiny_nsd, tmp_path_factory.mktemp("adapted") / "run", PROFILE)
    neurovl.make(started, *(f"new-subject/{name}" for name in SYSTEMS))
    return started


@pytest.fixture(scope="module")
def curve(run) -> pd.DataFrame:
    return RunTables(run.folder).adaptation


@pytest.fixture
def other(run, tmp_path):
    """Gives a run of other settings on the same inputs, without the systems."""

    def made(**settings) -> Run:
        (tmp_path / "leaderboard").mkdir()
        for name in ("run.json", "tokens", "targets", f"targets-{SUBJECT}"):
            (tmp_path / name).symlink_to(run.folder / name)
        for name in ("voxels", "features"):
            (tmp_path / "leaderboard" / name).symlink_to(run.folder / "leaderboard" / name)
        return replace(run, root=tmp_path, profile=replace(PROFILE, **settings), _found={})

    return made


def value(rows: pd.DataFrame, **wanted) -> pd.Series:
    for column, one in ({"metric": "two_way_clip", "protocol": "average"} | wanted).items():
        rows = rows[rows[column] == one]
    assert len(rows) == 1
    return rows.iloc[0]


@pytest.mark.parametrize("system", SYSTEMS)
def test_each_share_has_a_row_and_shares_differ(curve, system):
    own = curve[curve.system == system]
    assert set(own.metric) == {"two_way_clip"} and len(own) == 8  # no latent is predicted
    assert set(own.task) == {"adaptation"} and set(own.subject) == {SUBJECT}
    quarter, full = (value(own, share=share) for share in (0.25, 1))
    assert (quarter.pictures, quarter.trials, quarter.n) == (50, 150, 50)
    assert (full.pictures, full.trials, full.condition) == (200, 600, "share=1")
    assert len({quarter.value, full.value, value(own, share=1, protocol="single").value}) == 3
    assert quarter.ci_low < quarter.value < quarter.ci_high
    none, few = value(own, share=0), value(own, share=0.001)
    assert np.isnan(none.value) and f"{system} has no part" in none.note and none.trials == 0
    assert np.isnan(few.value) and "2 or more" in few.note


def test_the_table_of_all_curves_can_be_picked_from(curve):
    assert curve.index.is_unique and list(dict.fromkeys(curve.system)) == list(SYSTEMS)


def test_a_subject_is_learned_and_shuffled_pictures_fall_to_chance(curve, other, monkeypatch):
    right = value(curve, system="umbrae", share=1)
    assert right.ci_low > right.chance + 0.1
    learn = Umbrae.fit_new_subject

    def blind(self, voxels, targets, parts):
        dealt = np.random.default_rng(0).permutation(np.unique(voxels.image_ids))
        _, which = np.unique(voxels.image_ids, return_inverse=True)
        return learn(self, voxels.with_values(voxels.values, dealt[which]), targets, parts)

    monkeypatch.setattr(Umbrae, "fit_new_subject", blind)
    again = other(adaptation=Adaptation(subject=2, shares=(1.0,)))
    adapt_system(again, "umbrae")
    wrong = value(RunTables(again.folder).adaptation, system="umbrae")
    assert abs(wrong.value - 0.5) < 0.15 and wrong.value < right.ci_low


class Spy(Decoder):
    """Says of a brain what it is told, and remembers what it was given."""

    name, card = "spy", None
    fitted, learned, said = [], [], []
    stops_at = None

    def fit(self, voxels, targets, parts):
        self.fitted.append((voxels, parts.checkpoint))
        return self

    def fit_new_subject(self, voxels, targets, parts):
        if len(self.learned) == self.stops_at:
            type(self).stops_at = None
            raise KeyboardInterrupt
        self.learned.append((voxels, targets, parts.checkpoint))
        return self

    def predict(self, voxels):
        self.said.append(voxels)
        n = len(voxels)
        spread = np.random.default_rng(n).normal(size=(n, 64 + 4 * 16 * 16)).astype(np.float32)
        return {"clip_image": spread[:, :64], "vae": spread[:, 64:].reshape(n, 4, 16, 16)}


@pytest.fixture
def spy(monkeypatch):
    monkeypatch.setattr(system_adaptation, "find", lambda name: Spy)
    for kept in (Spy.fitted, Spy.learned, Spy.said):
        kept.clear()
    return Spy


def test_what_is_learned_from_are_the_chosen_training_trials_alone(run, other, spy):
    again = other()
    adapt_system(again, "spy")
    name, recordings = open_subject(run, 2)
    own = recordings.subject_trials(name)
    test = set(own.image_id[own.split == "test"])
    ((base, _),) = spy.fitted
    assert set(base) == {"subj01"}
    assert len(spy.learned) == 2
    for (voxels, targets, _), share in zip(spy.learned, (0.25, 1.0), strict=True):
        chosen = choose_pictures(recordings, name, 0, share)
        assert sorted(set(voxels.image_ids)) == chosen and voxels.subject == name
        assert len(voxels) == own.image_id.isin(chosen).sum()
        assert not test & set(targets.image_ids) and set(chosen) <= set(targets.image_ids)
        with pytest.raises(MissingError, match="has no features"):
            targets.of("clip_image", sorted(test)[:1])
    for voxels in spy.said:
        assert set(voxels.image_ids) == test
    rows = RunTables(again.folder).adaptation
    assert set(rows.metric) == {"two_way_clip", "two_way_vae"} and len(rows) == 16
    known = rows[rows.value.notna()]
    assert set(known.share) == {0.25, 1} and ((known.value - 0.5).abs() < 0.2).all()


def test_what_was_interrupted_goes_on_with_its_share(other, spy):
    again, spy.stops_at = other(), 1
    with pytest.raises(KeyboardInterrupt):
        adapt_system(again, "spy")
    assert not (again.folder / "leaderboard" / "new-subject" / "spy").exists()
    adapt_system(again, "spy")
    assert [len(voxels) for voxels, *_ in spy.learned] == [150, 600]
    folders = {place for *_, place in (*spy.fitted, *spy.learned)}
    assert len(folders) == 3  # of the fit, both times, and of each share
    made = again.folder / "leaderboard" / "new-subject" / "spy"
    assert sorted(file.name for file in made.iterdir()) == ["curve.csv", "provenance.json"]
    adapt_system(again, "spy")
    assert len(spy.fitted) == 2


def test_all_trials_are_read_as_those_of_a_subject_of_the_run(run, tiny_nsd, tmp_path):
    name, recordings = open_subject(run, 2)
    mask, (one,) = read_own_mask(recordings, name, [choose_pictures(recordings, name, 0, 1.0)])
    write_voxels(open_recordings(tiny_nsd), tmp_path)
    for split in ("train", "test"):
        expected = read_voxels(tmp_path, name, split)
        rows = np.flatnonzero(one.trials.split == split)
        np.testing.assert_array_equal(one.stored[rows], expected.values)
        np.testing.assert_array_equal(one.trials.image_id[rows], expected.image_ids)
        np.testing.assert_array_equal(mask, expected.mask)
    ids, voxels = held_out_voxels(one, name, "average")  # the averages of the curve
    average = read_voxels(tmp_path, name, "test").averaged()
    assert average.image_ids.tolist() == ids
    np.testing.assert_allclose(average.read(), voxels, atol=1e-5)
    single = read_voxels(tmp_path, name, "test").first()
    np.testing.assert_array_equal(single.read(), held_out_voxels(one, name, "single")[1])


def test_other_trials_standardise_nothing(run, monkeypatch):
    name, recordings = open_subject(run, 2)
    chosen = choose_pictures(recordings, name, 0, trials=90)
    _, (before,) = read_own_mask(recordings, name, [chosen])
    training = recordings.subject_trials(name).image_id.isin(chosen).to_numpy()
    read = recordings.session_voxels

    def louder(*arguments):
        values = np.array(read(*arguments), np.float32)
        values[~training] *= -5
        return values

    monkeypatch.setattr(recordings, "session_voxels", louder)
    _, (after,) = read_own_mask(recordings, name, [chosen])
    rows = before.training
    assert len(rows) == 90 and not np.array_equal(before.stored, after.stored)
    np.testing.assert_array_equal(before.stored[rows], after.stored[rows])


def test_results_take_the_curves_in_while_they_are_up_to_date(run, curve, monkeypatch, caplog):
    neurovl.make(run, "encoders/main")
    monkeypatch.setattr(Run, "has_captions", False)
    monkeypatch.setattr(scoring, "curve_of_profile", lambda run: None)
    for others in ("concepts", "regions"):
        monkeypatch.setattr(scoring, others, lambda run: {})
    made = new_subject_curves(run)
    assert [folder.name for folder in made] == list(SYSTEMS)
    scoring.score([run], made)
    found = read_results(run.folder / "results" / "results.csv")
    rows = found[found.task == "adaptation"]
    assert len(rows) == len(curve) == 16 and set(rows.system) == set(SYSTEMS)
    one = value(rows, system="umbrae", condition="share=0.25")
    assert one.value == value(curve, system="umbrae", share=0.25).value
    assert one.note == "split shared1000; 50 training pictures, 150 trials"
    monkeypatch.setattr(system_adaptation, "system_code", lambda kind: "another")
    assert new_subject_curves(run) == [] and "umbrae on the new subject is left out" in caplog.text
    scoring.score([run], [])
    assert "adaptation" not in set(read_results(run.folder / "results" / "results.csv").task)


@pytest.mark.parametrize("subject", [None, 1, 7])  # none, one of the run, one that is not there
def test_without_a_subject_outside_the_run_nothing_is_made(other, subject, caplog):
    again = other(adaptation=Adaptation(subject=subject))
    for name in SYSTEMS:
        adapt_system(again, name)
    assert not (again.folder / "leaderboard" / "new-subject").exists()
    assert ("adaptation.subject of the profile is left out" in caplog.text) == (subject is not None)
    assert new_subject_curves(again) == []


def test_systems_with_a_recipe_are_known_and_others_refused(run):
    assert adapting_systems(run, ["neurovl", *registry.names()]) == list(SYSTEMS)
    for name in SYSTEMS:
        declared, own = (
            list(inspect.signature(kind.fit_new_subject).parameters)
            for kind in (Decoder, registry.find(name))
        )
        assert own == declared
    with pytest.raises(ConfigError, match="takagi has no recipe for a new subject"):
        registry.find("takagi")().fit_new_subject(None, None, None)
    for name in ("takagi", "neurovl"):
        with pytest.raises(ConfigError, match=f"{name} has no .* expected one of mindbridge, umb"):
            neurovl.make(run, f"new-subject/{name}")


@pytest.mark.parametrize("scored", [True, False])
def test_compare_makes_them_where_it_trains_again(other, monkeypatch, scored):
    made = []
    monkeypatch.setattr(comparing, "make", lambda run, *wanted: made.extend(wanted))
    for name in ("rank_systems", "run_controls"):
        monkeypatch.setattr(leaderboard, name, lambda *given: None)
    monkeypatch.setattr(leaderboard, "embedding_systems", lambda run, names: names)
    run = other()
    monkeypatch.setattr(leaderboard, "new_subject_curves", lambda run: ["umbrae"])
    if scored:
        (run.root / "results").mkdir()
        (run.root / "results" / "provenance.json").touch()
    comparing.compare(run, ["umbrae", "takagi"])
    assert not any(one.startswith("new-subject") for one in made)
    comparing.compare(run, ["umbrae", "takagi"], controls=True)
    assert [one for one in made if one.startswith("new-subject")] == ["new-subject/umbrae"]
    assert (made[-1] == "results") == scored


def test_the_figure_tells_systems_apart(curve):
    ours = curve[curve.system == "umbrae"]
    every = [ours.assign(system=name) for name in ("neurovl", "fine-tuned", "ridge")]
    drawn = figures.adaptation_curve(pd.concat([*every, curve]), {"two_way_clip": "CLIP"})
    lines = drawn.axes[0].lines
    shades = {line.get_label().split(",")[0]: line.get_color() for line in lines}
    assert set(shades) == {"neurovl", "fine-tuned", "ridge", *SYSTEMS, "chance"}
    assert len(set(shades.values())) == 6
    one = next(line for line in lines if line.get_label() == "umbrae, mean of repeats")
    assert one.get_ydata().tolist() == [value(ours, share=s).value for s in (0.25, 1)]
