"""A subject left out of a run: read like the store reads, decoded after adaptation, refused where that cannot be."""

import hashlib
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import zoom
from typer.testing import CliRunner

from neurovl import figures, pipeline
from neurovl.adaptation import adapting as adaptation
from neurovl.adaptation.adapting import add_subject, basis_of, fine_tune, pooled_noise
from neurovl.adaptation.new_subject import choose_pictures, open_subject, read_trials
from neurovl.cli import app
from neurovl.encoder.alignment import held_out_voxels, loss_weights, predict
from neurovl.encoder.encoding_models import PRIOR, SHRINKAGE, ResponseModel, TargetBasis
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.evaluation import new_subject_curve as adapted
from neurovl.evaluation import scoring as scores
from neurovl.evaluation.score_table import Table
from neurovl.metrics import protocol
from neurovl.recordings.opening import open_recordings
from neurovl.results import read_results, write_results
from neurovl.run import Run, RunTables, open_run
from neurovl.settings.sections import (
    Adaptation,
    Alignment,
    Compute,
    EncoderShape,
    Evaluation,
    Preprocessing,
    Profile,
    Simulation,
)
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import write_store

NETWORK = EncoderShape(width=16, layers=2, heads=2, head_hidden=16, readout=24)
ALIGNMENT = Alignment(epochs=1, batch_size=64, synthetic=0.5, precision="no", variants=("main",))
PROFILE = Profile(
    "small",
    compute=Compute(device="cpu"),
    preprocessing=Preprocessing(subjects=(1,), patches=(4,), off_mask="zero"),
    encoder=NETWORK,
    alignment=ALIGNMENT,
    evaluation=Evaluation(bootstrap=200),
    adaptation=Adaptation(subject=2, shares=(0.0, 0.001, 0.25, 1.0)),
)


def train(folder, data, profile):
    run = pipeline.start(data, folder, profile)
    pipeline.write_tokens(run)
    pipeline.embed_targets(run)
    pipeline.train_encoder(run, "main")
    return run


def contents(folder) -> dict[str, str]:
    files = [
        p for name in ("tokens", "targets", "encoders/main") for p in (folder / name).rglob("*")
    ]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files if p.is_file()}


@pytest.fixture(scope="module")
def run(tiny_nsd, tmp_path_factory):
    """A run on subject 1; subject 2 is left out."""
    return train(tmp_path_factory.mktemp("adaptation") / "run", tiny_nsd, PROFILE)


@pytest.fixture(scope="module")
def new(run):
    return open_subject(run, 2)


@pytest.fixture(scope="module")
def before(run):
    return contents(run.folder)


@pytest.fixture(scope="module")
def curve(run, before):
    return adapted.curve_of_profile(run)


@pytest.fixture(scope="module")
def everything(run, new):
    """All trials of subject 2."""
    name, recordings = new
    return read_trials(recordings, name, run.store, [choose_pictures(recordings, name, 0, 1.0)])[0]


@pytest.fixture(scope="module")
def targets(run, new, curve):
    from neurovl.encoder.targets import Targets

    return Targets.load(run.folder / f"targets-{new[0]}")


def value(rows, **wanted):
    wanted = {"metric": "two_way_clip", "protocol": "average"} | wanted
    for column, one in wanted.items():
        rows = rows[rows[column] == one]
    assert len(rows) == 1
    return rows.iloc[0]


def two_way(run, network, trials, targets) -> np.ndarray:
    ids, voxels = held_out_voxels(trials, "subj02", "average")
    z = predict(network, run.store.cut(voxels, network.layout))
    return protocol.two_way(z.clip.numpy(), targets.clip[targets.rows(ids)].numpy())


def test_all_trials_are_read_as_the_store_of_both_subjects_has_them(
    run, everything, tiny_nsd, tmp_path
):
    write_store(
        open_recordings(tiny_nsd), tmp_path, patches=[4], target=run.store.target, off_mask="zero"
    )
    both = TokenStore(tmp_path)
    shared = np.searchsorted(both.region, run.store.region)
    np.testing.assert_array_equal(both.region[shared], run.store.region)
    np.testing.assert_array_equal(everything.voxels("", np.arange(750)), both.voxels(2)[:, shared])
    own = both.trials[both.trials.subject == "subj02"].reset_index(drop=True)
    pd.testing.assert_frame_equal(everything.trials, own)
    assert everything.transductive == []


@pytest.mark.parametrize("n", [60, 12])  # by their own mean and deviation, and by those of the set
def test_few_trials_are_standardised_and_resized_as_scipy_would(run, new, n):
    name, recordings = new
    chosen = choose_pictures(recordings, name, 0, trials=n)
    found = read_trials(recordings, name, run.store, [chosen])[0]
    table = recordings.subject_trials(name).reset_index(drop=True)
    own = (table.split == "train") & table.image_id.isin(chosen)
    used = np.flatnonzero(own | (table.split == "test"))
    assert own.sum() == n and found.transductive == ([] if n >= 20 else ["1"])
    np.testing.assert_array_equal(found.trials.trial, table.trial[used])
    volumes = recordings.volumes(name).astype(float)
    basis = volumes[own] if n >= 20 else volumes[used]
    sd = basis.std(0)
    z = (volumes[used[:5]] - basis.mean(0)) / np.where(sd > 1e-4, sd, np.inf)
    factor = np.array(run.store.target) / z.shape[1:]
    for row, one in zip(found.stored, z, strict=False):
        expected = zoom(one, factor, order=1, grid_mode=True, mode="nearest").ravel()
        np.testing.assert_allclose(row, expected[run.store.region], atol=5e-3)


def test_other_trials_choose_nothing(run, new, monkeypatch):
    name, recordings = new
    chosen = choose_pictures(recordings, name, 0, trials=90)
    before = read_trials(recordings, name, run.store, [chosen])[0]
    table = recordings.subject_trials(name)
    training = table.image_id.isin(chosen).to_numpy()
    read = recordings.session_voxels

    def louder(*arguments):
        values = np.array(read(*arguments), np.float32)
        values[~training] *= -5
        return values

    monkeypatch.setattr(recordings, "session_voxels", louder)
    after = read_trials(recordings, name, run.store, [chosen])[0]
    rows = before.training
    assert len(rows) == 90 and not np.array_equal(before.stored, after.stored)
    np.testing.assert_array_equal(before.stored[rows], after.stored[rows])


def test_pictures_are_nested_and_whole_and_from_the_training_split(new):
    name, recordings = new
    own = recordings.subject_trials(name)
    sets = [choose_pictures(recordings, name, 3, share) for share in (0.05, 0.25, 1)]
    assert set(sets[0]) < set(sets[1]) < set(sets[2])
    assert set(sets[2]) == set(own.image_id[own.split == "train"])
    few = choose_pictures(recordings, name, 3, trials=20)
    assert own.image_id.isin(few).sum() == 18  # three repeats a picture
    assert few != choose_pictures(recordings, name, 4, trials=20)


def test_the_adapted_encoder_beats_zero_shot_and_chance(curve):
    none, full = value(curve, system="neurovl", share=0.0), value(curve, system="neurovl", share=1)
    assert full.ci_low > none.value and full.ci_low > full.chance
    assert (full.pictures, full.trials, full.n) == (200, 600, 50)
    assert (none.pictures, none.trials) == (0, 0) and "transductive: 1 of 1" in none.note
    ridge = value(curve, system="ridge", share=1)
    assert full.value > ridge.ci_low and ridge.trials == 600
    single = value(curve, system="neurovl", share=1, protocol="single")
    assert single.value < full.value
    tuned = value(curve, system="fine-tuned", share=1)
    assert tuned.ci_low > tuned.chance and tuned.trials == 600 and tuned.value != full.value
    assert not ((curve.system == "fine-tuned") & (curve.share == 0)).any()


def test_what_cannot_be_computed_is_empty_with_the_reason(curve):
    assert "no trials" in value(curve, system="ridge", share=0.0).note
    empty = value(curve, system="neurovl", share=0.001)
    assert np.isnan(empty.value) and "2 or more" in empty.note


def test_the_run_stays_as_it_was(run, new, before, curve):
    name, table = adapted.adapt(run, *new, trials=150)
    assert name == "adapted-subj02-150-trials"
    assert contents(run.folder) == before
    assert value(table, system="neurovl", trials=150).pictures == 50
    # The same seed took the same pictures, so both ways to ask give one answer.
    quarter = value(curve, system="neurovl", share=0.25)
    assert quarter.value == value(table, system="neurovl", trials=150).value
    loaded = run.encoder(name)
    assert loaded.readout.offset.shape == (1, 24)  # the masks are the same but for some voxels


def test_shuffled_pictures_fall_to_chance(run, everything, targets):
    encoder, scores = run.encoder("main"), []
    train = (everything.trials.split == "train").to_numpy()
    ids = sorted(set(everything.trials.image_id[train]))
    for seed in range(6):
        other = dict(zip(ids, np.random.default_rng(seed).permutation(ids), strict=True))
        trials = everything.trials.assign(image_id=everything.trials.image_id.replace(other))
        wrong = replace(everything, trials=trials)
        scores.append(
            two_way(run, add_subject(run, encoder, wrong, targets, None), wrong, targets).mean()
        )
    assert abs(np.mean(scores) - 0.5) < 0.08
    right = add_subject(run, encoder, everything, targets, None)
    assert two_way(run, right, everything, targets).mean() > max(scores)


def test_readout_is_appended_where_a_volume_says_whose_it_is(run, everything, targets, monkeypatch):
    encoder = run.encoder("main")
    alone = add_subject(run, encoder, everything, targets, None)
    monkeypatch.setattr(adaptation, "APART", 1)
    both = add_subject(run, encoder, everything, targets, None)
    assert len(both.readout.offset) == 2 and len(alone.readout.offset) == 1
    old = run.store.batch(1, np.arange(20))
    torch.testing.assert_close(predict(both, old).clip, predict(encoder, old).clip)
    fresh = run.store.cut(everything.voxels("", np.arange(20)))
    torch.testing.assert_close(predict(both, fresh).clip, predict(alone, fresh).clip)


def test_the_basis_is_that_of_the_training(run):
    flat, n_clip = run.targets.flat(), run.targets.clip.shape[1]
    train = run.store.trials.image_id[run.store.trials.split == "train"].unique()
    pool = torch.sort(run.targets.rows(train)).values
    fitted = TargetBasis.fit(flat[pool], 24, loss_weights(n_clip, flat.shape[1], ALIGNMENT))
    torch.testing.assert_close(
        basis_of(run, run.encoder("main")).features(flat), fitted.features(flat), atol=2e-3, rtol=0
    )


def test_noise_of_others_counts_like_some_trials():
    rng = np.random.default_rng(0)
    x, f = rng.normal(size=(40, 8)), rng.normal(size=(40, 3))
    x[:, 2] = 0
    root = rng.normal(size=(8, 8))
    plain, model = ResponseModel(x, f), ResponseModel(x, f, root @ root.T)
    e, b, live = plain.residuals.astype(float), plain.weights.astype(float), np.arange(8) != 2
    noise = (e.T @ e + PRIOR * (root @ root.T)[live][:, live]) / (40 + PRIOR)
    noise = (1 - SHRINKAGE) * noise + SHRINKAGE * np.diag(np.diag(noise))
    expected = np.linalg.inv(b.T @ b + noise) @ b.T
    np.testing.assert_allclose(model.decoder()[0][live], expected, rtol=1e-3, atol=1e-6)


def test_pooled_noise_is_a_covariance_and_unknown_voxels_are_alone(run):
    noise = pooled_noise(run, run.encoder("main"))
    train = run.store.trials.index[run.store.trials.split == "train"]
    silent = run.store.voxels_at(train.to_numpy()).std(0) < 1e-6
    assert np.linalg.eigvalsh(noise).min() > -1e-9
    np.testing.assert_array_equal(noise[silent], np.eye(len(noise))[silent])
    # z-scores have variance 1, of which pictures explain a part.
    assert 0.3 < np.diag(noise)[~silent].mean() < 1


@pytest.mark.parametrize(
    ("subject", "kind", "words"),
    [("1", ConfigError, "store already"), ("7", MissingError, "subj07")],
)
def test_subjects_that_cannot_be_added_are_named(run, subject, kind, words):
    with pytest.raises(kind, match=words):
        open_subject(run, subject)


def test_an_encoder_without_readout_is_refused(run, new, monkeypatch):
    common = replace(run.profile, encoder=replace(NETWORK, readout_of="all"))
    with pytest.raises(ConfigError, match="encoder.readout_of to subject"):
        adapted.adapt(replace(run, profile=common), *new)
    plain = BrainEncoder(*run.store.shape(), 64, None, "p4", 16, 2, 2)
    monkeypatch.setattr(Run, "encoder", lambda *_: plain)
    with pytest.raises(ConfigError, match="encoder.readout to 128"):
        adapted.adapt(run, *new)


def test_an_encoder_without_readout_is_shown_as_it_is_and_fine_tuned(run, new, curve, tmp_path):
    (tmp_path / "encoders").mkdir()
    for name in ("tokens", "targets", "targets-subj02"):
        (tmp_path / name).symlink_to(run.folder / name)
    plain = replace(
        PROFILE, encoder=replace(NETWORK, readout=0), alignment=replace(ALIGNMENT, synthetic=0.0)
    )
    other = replace(run, root=tmp_path, profile=plain, _found={})
    pipeline.train_encoder(other, "main")
    pipeline.train_encoder(other, "plain")
    rows = adapted.curve(other, *new, shares=(0.0, 1.0))
    none = value(rows, system="neurovl", share=0)
    empty, tuned = value(rows, system="neurovl", share=1), value(rows, system="fine-tuned", share=1)
    assert np.isnan(empty.value) and "no linear readout" in empty.note and empty.trials == 600
    assert tuned.n == 50 and tuned.value != none.value
    same = value(rows, system="plain", share=0)  # of the same seed
    assert same.value == none.value and not ((rows.system == "plain") & (rows.share > 0)).any()
    ridge = value(rows, system="ridge", share=1)
    assert ridge.value == value(curve, system="ridge", share=1).value


def test_fine_tuning_sees_chosen_trials_alone_and_leaves_the_encoder(run, everything, targets):
    before = run.encoder("main")
    encoder = add_subject(run, before, everything, targets, None)
    start = {name: one.clone() for name, one in encoder.state_dict().items()}
    test = np.setdiff1d(np.arange(len(everything.trials)), everything.training)
    stored, seen = everything.stored.copy(), targets.clip.clone()
    stored[test] = np.nan
    seen[targets.rows(everything.trials.image_id[test])] = np.nan
    poisoned = replace(targets, clip=seen)
    tuned = fine_tune(run, encoder, replace(everything, stored=stored), poisoned)
    after = tuned.state_dict()
    assert all(bool(one.isfinite().all()) for one in after.values())
    assert all(torch.equal(encoder.state_dict()[name], one) for name, one in start.items())
    same = {name for name, one in start.items() if torch.equal(after[name], one)}
    assert same == {name for name in start if name.startswith("readout.")}


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"trials": 5}, "5 trials hold 1 of the 200"),
        ({"share": 0.002}, "share of 0.002 holds 0 of"),
        ({"share": 1.5}, "at most 1"),
    ],
)
def test_too_few_pictures_are_refused(new, wanted, words):
    with pytest.raises(ConfigError, match=words):
        choose_pictures(new[1], new[0], 0, **wanted)


def test_axes_that_run_otherwise_are_refused(run, new, monkeypatch):
    recordings = open_recordings(run.recordings.root, [2])
    monkeypatch.setattr(type(recordings), "affine", lambda *_: np.diag([1, -1, 1, 1.0]))
    with pytest.raises(DataError, match="RPS"):
        open_subject(run, 2)


def test_pictures_of_the_run_s_training_are_no_test(run, monkeypatch):
    monkeypatch.setattr(run.store, "trials", run.store.trials.assign(split="train"))
    with pytest.raises(DataError, match="50 test pictures of subj02 are training pictures"):
        open_subject(run, 2)


def test_categories_are_refused(run, new, monkeypatch):
    monkeypatch.setattr(type(new[1]), "label", lambda *_: "face")
    with pytest.raises(ConfigError, match="stand for categories"):
        open_subject(run, 2)


def test_the_verb_says_what_it_wrote_and_how_good_it_is(run, new, curve):
    _, table = adapted.adapt(run, *new, share=0.25)
    own = value(table, system="neurovl", trials=150)
    done = CliRunner().invoke(
        app, ["adapt", "--run", str(run.folder), "--subject", "2", "--share", ".25"]
    )
    line = done.output.splitlines()[-1]
    assert done.exit_code == 0 and line.startswith("wrote ") and "adapted-subj02-25: " in line
    assert f"50 test pictures {own.value:.3f} ({own.ci_low:.3f} to {own.ci_high:.3f})" in line
    assert f"ridge on the same trials {value(table, system='ridge', trials=150).value:.3f}" in line
    assert f"without any {value(table, system='neurovl', trials=0).value:.3f}" in line
    both = CliRunner().invoke(
        app, ["adapt", "--run", str(run.folder), "--subject", "2", "--trials", "9", "--curve"]
    )
    assert isinstance(both.exception, ConfigError) and "--curve" in str(both.exception)


def test_the_curve_is_drawn_where_the_table_says(curve):
    axis = figures.adaptation_curve(curve, {"two_way_clip": "CLIP"}).axes[0]
    assert [t.get_text().split(" ")[0] for t in axis.get_xticklabels()] == ["0", "25", "100"]
    line = next(x for x in axis.lines if x.get_label() == "neurovl, mean of repeats")
    expected = [value(curve, system="neurovl", share=s).value for s in (0, 0.25, 1)]
    assert line.get_xdata().tolist() == [0, 1, 2] and line.get_ydata().tolist() == expected
    more = pd.concat(
        [curve, curve[(curve.share == 0) & (curve.system == "neurovl")].assign(system="plain")]
    )
    drawn = figures.adaptation_curve(more, {"two_way_clip": "CLIP"}).axes[0]
    assert len(drawn.lines) == len(axis.lines)


def test_results_have_the_curve_of_the_profile_s_subject_alone(run, curve, monkeypatch):
    monkeypatch.setattr(Run, "has_captions", False)
    for others in ("concepts", "regions"):
        monkeypatch.setattr(scores, others, lambda _: {})
    scores.score([run])
    found = read_results(run.folder / "results" / "results.csv")
    rows = found[found.task == "adaptation"]
    assert set(rows.subject) == {"subj02"} and "subj02" not in set(
        found.subject[found.task == "alignment"]
    )
    assert len(rows) == len(curve) and set(rows.data) == {"simulated-nsd"}
    quarter = value(rows, system="ridge", condition="share=0.25")
    own = value(curve, system="ridge", share=0.25)
    assert (quarter.value, quarter.ci_low, quarter.n) == (own.value, own.ci_low, 50)
    assert quarter.note == "split shared1000; 50 training pictures, 150 trials"
    empty = value(rows, system="neurovl", condition="share=0.001")
    assert np.isnan(empty.value) and "2 or more" in empty.note
    table = RunTables(run.folder).adaptation
    pd.testing.assert_frame_equal(table, curve)


def test_each_subject_has_a_curve_of_its_own(run, new, curve, tmp_path):
    assert (run.folder / "adaptation" / "subj02" / "curve.csv").is_file()
    rows = adapted.rows_of(curve.assign(subject="subj08"))
    write_results([*adapted.rows_of(curve), *rows], tmp_path / "results.csv")
    assert set(read_results(tmp_path / "results.csv").subject) == {"subj02", "subj08"}


def test_a_subject_that_is_not_outside_the_run_has_no_curve(run, caplog):
    def asked(subject):
        adaptation = Adaptation(subject=subject)
        return adapted.curve_of_profile(
            replace(run, profile=replace(PROFILE, adaptation=adaptation))
        )

    assert asked(None) is None and not caplog.text
    assert asked(1) is None and "subj01 is in this run" in caplog.text
    assert asked(7) is None and "holds no betas of subj07" in caplog.text


def test_the_new_subject_is_simulated_and_kept_out(tiny_nsd, tmp_path, monkeypatch):
    made = {}
    monkeypatch.setattr(
        "neurovl.smallworld.subjects.simulate",
        lambda folder, **how: made.update(how, folder=folder) or folder,
    )
    world = Simulation(subjects=(1, 5), sessions=1, scale=6.0)
    profile = Profile("small", simulation=world, adaptation=Adaptation(subject=2))
    assert pipeline.simulate_for(profile, tmp_path).name == "simulated-nsd-1-5-2-s1-x6-seed0"
    assert made["subjects"] == (1, 5, 2) and made["seed"] == 0
    monkeypatch.setattr("neurovl.pipeline.starting.simulate_for", lambda *_: tiny_nsd)
    one = replace(profile, simulation=replace(world, subjects=(1,)))
    run = pipeline.start(None, tmp_path / "run", one)
    assert run.recordings.subjects == ["subj01"]
    assert open_run(tmp_path / "run").recordings.subjects == ["subj01"]
    assert open_subject_of(run) == "subj02"
    given = pipeline.start(tiny_nsd, tmp_path / "given", one)
    assert given.recordings.subjects == ["subj01", "subj02"]


def test_a_profile_that_simulates_nothing_needs_data(tmp_path):
    with pytest.raises(ConfigError, match="profile small simulates none"):
        pipeline.start(None, tmp_path / "run", Profile("small", simulation=None))


def open_subject_of(run) -> str:
    pipeline.write_tokens(run)
    return open_subject(run, run.profile.adaptation.subject)[0]


def test_embeddings_are_scored_as_counting_does():
    rng = np.random.default_rng(0)
    clip, vae = (
        torch.from_numpy(rng.normal(size=(7, 5))),
        torch.from_numpy(rng.normal(size=(7, 2, 3, 3))),
    )
    targets = SimpleNamespace(
        clip=clip, vae=vae, rows=lambda ids: torch.tensor([int(i) for i in ids])
    )
    ids = ["6", "0", "3", "4"]
    said = rng.normal(size=(4, 2, 3, 3))
    table = Table("small", "", seed=0, resamples=50)
    table.add_embeddings(
        {"a": {"clip": None, "vae": said}}, "adaptation", "single", "s", ids, targets, 5
    )
    flat, true = said.reshape(4, -1), vae.flatten(1)[[6, 0, 3, 4]].numpy()
    r = np.corrcoef(flat, true)[:4, 4:]
    expected = [np.mean([r[i, i] > r[i, j] for j in range(4) if j != i]) for i in range(4)]
    frame = table.frame()
    assert set(frame.metric) == {"two_way_vae"} and frame.image_id.tolist() == ids
    np.testing.assert_allclose(frame.value, expected)
