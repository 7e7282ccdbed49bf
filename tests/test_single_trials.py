"""`neurovl betas`: the single-trial model against nilearn's own fits, known responses, and real recordings."""

import json
import logging
import shutil
import sys
import types

import nibabel
import numpy as np
import pandas as pd
import pytest
from bold_data import (
    AFFINE,
    GRID,
    N_TRIALS,
    RUNS,
    SECONDS,
    STEM,
    TR,
    pictures,
    preprocessed,
    response,
    write_study,
)
from nilearn.glm import OLSModel
from nilearn.glm.first_level import make_first_level_design_matrix
from own_data import contents, write_nifti
from scipy.signal import detrend
from sklearn.linear_model import RidgeClassifier
from typer.testing import CliRunner

from neurovl.cli.options import app
from neurovl.errors import DataError, MissingError
from neurovl.recordings.betas.nifti_volumes import open_volumes
from neurovl.recordings.opening import open_recordings
from neurovl.recordings.splits import Split
from neurovl.recordings.timeseries import BetasChoice, bold_to_table, estimate_betas
from neurovl.recordings.timeseries.bold_runs import repetition_time
from neurovl.recordings.timeseries.trial_model import beta_weights, drift_columns, trial_columns


@pytest.mark.parametrize("hrf", ["glover", "spm"])
def test_betas_are_those_of_nilearn_trial_by_trial(hrf):
    """Its ordinary least squares, a fit for each trial; with our regressors to the digit, with its own closely."""
    rng = np.random.default_rng(0)
    times = 1.5 * (np.arange(80) + 0.5)
    onsets = np.sort(rng.uniform(2, 105, 14))
    durations = rng.uniform(1, 4, 14)
    confounds = rng.normal(size=(80, 3)) * [1e-4, 1, 1e3]
    series = rng.normal(500, 10, (80, 7))
    columns, peaks = trial_columns(onsets, durations, times, hrf)
    nuisance = np.hstack([drift_columns(times, 0.02), confounds, confounds[:, :1]])
    names = [f"t{n:02d}" for n in range(14)]
    events = pd.DataFrame({"onset": onsets, "duration": durations, "trial_type": names})
    design = make_first_level_design_matrix(
        times, events, hrf, high_pass=0.02, add_regs=confounds, oversampling=300
    )
    trials, rest = design[names].to_numpy(), design.drop(columns=names).to_numpy()
    np.testing.assert_allclose(columns, trials, atol=0.005 * peaks.max())
    assert rest.shape[1] == 3 + 4 + 1 and nuisance.shape[1] == 9  # one confound comes twice
    for method in ("lss", "lsa"):
        ours = beta_weights(columns, nuisance, method) @ series
        theirs = beta_weights(trials, nuisance, method) @ series
        for mine, regressors in ((ours, columns), (theirs, trials)):
            for trial in range(14):
                others = np.delete(regressors, trial, axis=1)
                others = others if method == "lsa" else others.sum(1, keepdims=True)
                fit = OLSModel(np.column_stack([regressors[:, trial], others, rest])).fit(series)
                np.testing.assert_allclose(mine[trial], fit.theta[0], rtol=1e-4)
        assert np.abs(ours - theirs).max() < 0.02 * np.abs(theirs).max()


def test_a_single_trial_and_trials_that_cannot_be_told():
    times = TR * np.arange(60)
    columns, _ = trial_columns([10.0, 10.0], [2.0, 2.0], times)
    constant = np.ones((60, 1))
    alone = beta_weights(columns[:, :1], constant) @ (3 * columns[:, 0] + 7)
    np.testing.assert_allclose(alone, 3)
    for method in ("lss", "lsa"):
        with pytest.raises(DataError, match="cannot tell trial [12] of 2"):
            beta_weights(columns, constant, method)
        with pytest.raises(DataError, match="cannot tell trial 1 of 1"):
            beta_weights(columns[:, :1], np.hstack([constant, columns[:, :1]]), method)
        with pytest.raises(DataError, match="60 volumes for 60 columns"):
            beta_weights(columns, np.eye(60), method)


@pytest.mark.parametrize("seconds", [0.5, 3.0, 22.5])
def test_a_regressor_is_measured_by_its_peak(seconds):
    times = TR * np.arange(60)
    columns, peaks = trial_columns([7.3], [seconds], times)
    expected = response(7.3, times, seconds)
    np.testing.assert_allclose(columns[:, 0] / peaks, expected, atol=0.01)
    late, same = trial_columns([117.0], [seconds], times)  # cut off by the end
    assert same == peaks and late.max() < 0.8 * peaks[0]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Read it, never write; copies are made by `copy`."""
    root = tmp_path_factory.mktemp("study") / "seen"
    return root, write_study(root)


@pytest.fixture
def copy(study, tmp_path):
    return shutil.copytree(study[0], tmp_path / "seen")


def amplitudes(truth):
    return np.concatenate([truth[run] for run in RUNS])


def by_trial(out):
    data = open_recordings(out)
    return data, data.volumes(1), data.mask(1)


def test_known_responses_come_back_in_percent(study, tmp_path, caplog):
    root, truth = study
    before = contents(root)
    with caplog.at_level(logging.INFO):
        out = estimate_betas(
            root, tmp_path / "table", choice=BetasChoice(method="lsa", high_pass=0)
        )
    assert contents(root) == before and sorted(p.name for p in tmp_path.iterdir()) == ["table"]
    data, betas, mask = by_trial(out)
    np.testing.assert_allclose(betas[:, mask], amplitudes(truth)[:, mask], atol=0.05)
    expected = np.ones(GRID, bool)
    expected[0, 0] = expected[0, 1, 1] = expected[0, 1, 2] = False
    assert (mask == expected).all() and not betas[:, ~mask].any()
    np.testing.assert_array_equal(data.affine(1), AFFINE)
    trials = data.trials
    names = [p[2:-4] for run in RUNS for p in pictures(run)]
    assert trials.image_id.tolist() == names and set(trials.session) == {"a"}
    assert set(trials.image_id[trials.split == "test"]) == {"both1", "both2"}
    about = json.loads((out / "dataset.json").read_text())
    assert about["units"] == "percent signal change" and about["zscore"] == "session"
    notes = about["betas"]
    assert notes["TR"] == "2 s (JSON and header)" and notes["trials"] == 2 * N_TRIALS
    assert notes["times of volumes"] == "1 s after its begin (StartTime in JSON)"
    assert notes["drift"] == "none, and the mean" and notes["confounds"] == "none"
    assert "glover" in notes["haemodynamic response"] and "Rissman" in notes["method"]
    for key, value in notes.items():
        assert f"{key}: {value}" in caplog.text


def likeness(out, truth):
    _, betas, mask = by_trial(out)
    return np.corrcoef(betas[:, mask].ravel(), amplitudes(truth)[:, mask].ravel())[0, 1]


def test_events_of_other_trials_give_other_betas(study, copy, tmp_path):
    _, truth = study
    assert likeness(estimate_betas(copy, tmp_path / "right"), truth) > 0.9
    rng = np.random.default_rng(1)
    for run in RUNS:
        path = copy / f"sub-01/ses-a/func/{STEM}_run-{run}_events.tsv"
        table = pd.read_csv(path, sep="\t")
        table["onset"] = rng.permutation(table.onset)  # the pictures go to other times
        table.to_csv(path, sep="\t", index=False)
    out = estimate_betas(copy, tmp_path / "wrong")
    data, betas, mask = by_trial(out)
    order = {name: n for n, name in enumerate(p[2:-4] for p in pictures(1))}
    first = data.trials.image_id[:N_TRIALS].map(order)
    r = np.corrcoef(betas[:N_TRIALS, mask].ravel(), truth[1][first][:, mask].ravel())[0, 1]
    assert abs(r) < 0.3


def test_half_a_tr_matters(study, tmp_path):
    """Responses come back too small where volumes are taken for earlier than they are."""
    root, truth = study
    mask = slice(None), slice(1, None)
    errors = []
    for ref in (None, 0.0):
        choice = BetasChoice(method="lsa", high_pass=0, slice_time_ref=ref)
        _, betas, _ = by_trial(estimate_betas(root, tmp_path / str(ref), choice=choice))
        errors.append(np.abs(betas - amplitudes(truth))[mask].mean())
    assert errors[0] < 0.01 and errors[1] > 0.1


@pytest.mark.parametrize(
    "zoom, unit, said, stated, expected",
    [
        (2.0, "sec", {"RepetitionTime": 2.0}, None, (2.0, "JSON and header")),
        (2000.0, "msec", {"RepetitionTime": 2.0}, None, (2.0, "JSON and header")),
        (1.0, "unknown", {"RepetitionTime": 0.8}, None, (0.8, "JSON; the header does not say it")),
        (2000.0, "sec", {"RepetitionTime": 2.0}, None, "2000 s between volumes in its header"),
        (1500.0, "msec", {"RepetitionTime": 2.0}, None, "1500 ms between volumes in its header"),
        (1500.0, "msec", {"RepetitionTime": 2.0}, 1.5, (1.5, "stated, as the header says")),
        (1.0, "sec", {}, 1.5, (1.5, "stated, against 1 s in the header")),
        (2.0, "sec", {}, None, "no RepetitionTime .*its header 2 s"),
        (2.0, "sec", {"RepetitionTime": "2"}, None, "repetition time '2'"),
    ],
)
def test_seconds_between_volumes(tmp_path, zoom, unit, said, stated, expected):
    image = nibabel.Nifti1Image(np.ones((2, 2, 2, 5), np.float32), AFFINE)
    image.header.set_zooms((3, 3, 3, zoom))
    image.header.set_xyzt_units("mm", unit)
    nibabel.save(image, tmp_path / "bold.nii")
    bold = open_volumes(tmp_path / "bold.nii")
    if isinstance(expected, tuple):
        assert repetition_time(bold, said, stated) == expected
    else:
        with pytest.raises(DataError, match=expected):
            repetition_time(bold, said, stated)


def edit(root, run, change):
    path = root / f"sub-01/ses-a/func/{STEM}_run-{run}_events.tsv"
    table = change(pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False))
    table.to_csv(path, sep="\t", index=False)


def test_dropped_events_are_modelled_and_ignored_ones_are_not(study, copy, tmp_path):
    """A catch trial evokes a large response right after a picture."""
    _, truth = study
    voxels = slice(None), slice(1, None)
    for run in RUNS:
        path = preprocessed(copy, run, "desc-preproc_bold.nii.gz")
        image = nibabel.load(path)
        bold, times = image.get_fdata(), (np.arange(image.shape[3]) + 0.5) * TR
        onset = float(
            pd.read_csv(copy / f"sub-01/ses-a/func/{STEM}_run-{run}_events.tsv", sep="\t").onset[3]
        )
        bold *= 1 + 0.05 * response(onset + 4, times)
        nibabel.save(nibabel.Nifti1Image(bold.astype(np.float32), AFFINE, image.header), path)
        edit(
            copy,
            run,
            lambda t, onset=onset: pd.concat(
                [
                    t,
                    pd.DataFrame(
                        [
                            {
                                "onset": onset + 4,
                                "duration": SECONDS,
                                "stim_file": "n/a",
                                "trial_type": "catch",
                            },
                            {"onset": 0, "duration": 280, "stim_file": "n/a", "trial_type": "rest"},
                        ]
                    ),
                ]
            ),
        )
    with pytest.raises(DataError, match="2 events without a picture .*line 20 .catch.*--drop"):
        estimate_betas(copy, tmp_path / "none")
    errors = {}
    for name, drop, ignore in (("drop", ["catch"], ["rest"]), ("ignore", [], ["rest", "catch"])):
        choice = BetasChoice(method="lsa", high_pass=0, drop=tuple(drop), ignore=tuple(ignore))
        out = estimate_betas(copy, tmp_path / name, choice=choice)
        _, betas, _ = by_trial(out)
        assert len(betas) == 2 * N_TRIALS
        errors[name] = np.abs(betas - amplitudes(truth))[voxels].max()
        notes = json.loads((out / "dataset.json").read_text())["betas"]
        assert (notes["dropped"], notes["ignored"]) == ((2, 2) if name == "drop" else (0, 4))
    assert errors["drop"] < 0.1 and errors["ignore"] > 1


def test_a_trial_at_the_end_is_left_out_and_counted(copy, tmp_path):
    edit(copy, 2, lambda t: t.assign(onset=[*t.onset[:-1], "298"]))
    out = estimate_betas(copy, tmp_path / "table")
    notes = json.loads((out / "dataset.json").read_text())["betas"]
    assert (notes["trials"], notes["cut off by the end of their run"]) == (2 * N_TRIALS - 1, 1)
    assert len(open_recordings(out).trials) == 2 * N_TRIALS - 1


def test_confounds_take_their_share(study, copy, tmp_path):
    _, truth = study
    for run in RUNS:
        path = preprocessed(copy, run, "desc-preproc_bold.nii.gz")
        image = nibabel.load(path)
        table = preprocessed(copy, run, "desc-confounds_timeseries.tsv", space="")
        moved = pd.read_csv(table, sep="\t").trans_x.to_numpy()
        bold = image.get_fdata() * (1 + 0.05 * moved)
        nibabel.save(nibabel.Nifti1Image(bold.astype(np.float32), AFFINE, image.header), path)
    errors = []
    for confounds in ((), ("trans_*", "csf")):
        choice = BetasChoice(method="lsa", high_pass=0, confounds=confounds)
        out = estimate_betas(copy, tmp_path / f"n{len(confounds)}", choice=choice)
        _, betas, _ = by_trial(out)
        errors.append(np.abs(betas - amplitudes(truth))[:, 1:].mean())
    notes = json.loads((out / "dataset.json").read_text())["betas"]
    assert notes["confounds"] == "trans_x, trans_x_derivative1, csf"
    assert errors[1] < 0.2 < errors[0]


def test_an_interrupted_call_goes_on_with_the_next_run(study, copy, tmp_path, monkeypatch):
    out, done = tmp_path / "table", []
    true = bold_to_table.estimate_run

    def noted(run, *others):
        if len(done) == 1 and done[0] != "again":
            raise KeyboardInterrupt
        done.append(run.file["run"])
        return true(run, *others)

    monkeypatch.setattr(bold_to_table, "estimate_run", noted)
    with pytest.raises(KeyboardInterrupt):
        estimate_betas(copy, out)
    assert not out.exists() and done == ["1"]
    done[:] = ["again"]
    estimate_betas(copy, out)
    assert done == ["again", "2"]
    _, whole, _ = by_trial(estimate_betas(study[0], tmp_path / "at once"))
    np.testing.assert_array_equal(by_trial(out)[1], whole)
    # with other events nothing that was done counts
    done.clear()
    with pytest.raises(KeyboardInterrupt):
        estimate_betas(copy, tmp_path / "next")
    edit(copy, 1, lambda t: t.assign(duration="1"))
    done[:] = ["again"]
    estimate_betas(copy, tmp_path / "next")
    assert done == ["again", "1", "2"]


def test_files_further_up_hold_for_all_runs(study, copy, tmp_path):
    """Events and TR at the root of the data set, by the inheritance principle; the derivative elsewhere."""
    events = copy / f"sub-01/ses-a/func/{STEM}_run-1_events.tsv"
    shutil.copy(events, copy / "task-see_events.tsv")
    for run in RUNS:
        (copy / f"sub-01/ses-a/func/{STEM}_run-{run}_events.tsv").unlink()
        preprocessed(copy, run, "desc-preproc_bold.json").unlink()
    (copy / "task-see_bold.json").write_text(json.dumps({"RepetitionTime": TR}))
    (copy / "task-other_bold.json").write_text(json.dumps({"RepetitionTime": 9}))
    elsewhere = tmp_path / "prepared"
    shutil.move(copy / "derivatives/fmriprep", elsewhere)
    out = estimate_betas(copy, tmp_path / "table", choice=BetasChoice(derivative=str(elsewhere)))
    notes = json.loads((out / "dataset.json").read_text())["betas"]
    assert notes["times of volumes"] == "the middle of the TR (assumed; no StartTime in JSON)"
    trials = open_recordings(out).trials
    assert trials.image_id[:N_TRIALS].tolist() == trials.image_id[N_TRIALS:].tolist()


def test_what_lies_closer_counts(study, copy, tmp_path):
    (copy / "task-see_bold.json").write_text(json.dumps({"RepetitionTime": 9, "StartTime": 9}))
    (copy / "sub-01/sub-01_task-see_events.tsv").write_text("onset\tduration\tstim_file\n0\t1\ta\n")
    _, betas, _ = by_trial(estimate_betas(copy, tmp_path / "table"))
    _, alone, _ = by_trial(estimate_betas(study[0], tmp_path / "alone"))
    np.testing.assert_array_equal(betas, alone)


def test_a_run_without_its_mean_needs_units(copy, tmp_path):
    for run in RUNS:
        path = preprocessed(copy, run, "desc-preproc_bold.nii.gz")
        image = nibabel.load(path)
        bold = image.get_fdata()
        z = (bold - bold.mean(-1, keepdims=True)) / bold.std(-1, keepdims=True)
        nibabel.save(nibabel.Nifti1Image(z.astype(np.float32), AFFINE, image.header), path)
    with pytest.raises(DataError, match="not above its standard deviation.*--units series"):
        estimate_betas(copy, tmp_path / "table")
    out = estimate_betas(copy, tmp_path / "table", choice=BetasChoice(units="series"))
    assert json.loads((out / "dataset.json").read_text())["units"] == "as the time series"
    assert 0.1 < np.abs(by_trial(out)[1][:, 1:]).mean() < 3


def test_another_orientation_of_one_run(study, copy, tmp_path):
    """Stored with x turned round; the same voxels get the same betas."""
    path = preprocessed(copy, 2, "desc-preproc_bold.nii.gz")
    image = nibabel.load(path)
    affine = AFFINE @ np.diag([-1, 1, 1, 1])
    affine[0, 3] = 3 * (GRID[0] - 1)
    nibabel.save(
        nibabel.Nifti1Image(image.get_fdata(dtype=np.float32)[::-1], affine, image.header), path
    )
    _, betas, _ = by_trial(estimate_betas(copy, tmp_path / "turned"))
    _, straight, _ = by_trial(estimate_betas(study[0], tmp_path / "straight"))
    np.testing.assert_allclose(betas, straight, atol=1e-4)


class StandIn:
    """What glmsingle's docstrings promise, without its model: it answers with each trial's condition and run."""

    asked: dict = {}

    def __init__(self, params):
        assert set(params) <= {
            *("wantfileoutputs", "wantmemoryoutputs", "wantpercentbold", "extra_regressors")
        }
        self.params = params

    def fit(self, design, data, stimdur, tr, outputdir=None, figuredir=None):
        assert outputdir and figuredir  # without them it writes into the working directory
        assert len(design) == len(data) and len({one.shape[1] for one in design}) == 1
        betas = []
        for run, (own, series) in enumerate(zip(design, data, strict=True)):
            assert (
                series.ndim == 4 and series.shape[3] == len(own) and set(np.unique(own)) == {0, 1}
            )
            assert np.isfinite(series).all() and (own.sum(1) <= 1).all()
            betas += [100 * run + condition for _, condition in np.argwhere(own)]
        StandIn.asked = {"stimdur": stimdur, "tr": tr, "params": self.params, "design": design}
        shape = data[0].shape[:3]
        return {"typed": {"betasmd": np.broadcast_to(np.array(betas, float), (*shape, len(betas)))}}


def test_glmsingle_is_asked_in_its_own_terms(copy, tmp_path, monkeypatch):
    choice = BetasChoice(method="glmsingle", confounds=("rot_x",))
    monkeypatch.setitem(sys.modules, "glmsingle", None)
    with pytest.raises(MissingError, match="needs the package glmsingle.*pip install"):
        estimate_betas(copy, tmp_path / "table", choice=choice)
    monkeypatch.setitem(sys.modules, "glmsingle", types.ModuleType("glmsingle"))
    module = types.ModuleType("glmsingle.glmsingle")
    module.GLM_single = StandIn
    monkeypatch.setitem(sys.modules, "glmsingle.glmsingle", module)
    with pytest.raises(DataError, match="begin with a volume.*--method lss"):
        estimate_betas(copy, tmp_path / "table", choice=choice)
    for run in RUNS:
        edit(copy, run, lambda t: t.assign(onset=[str(4 + 16 * n) for n in range(N_TRIALS)]))
    edit(copy, 2, lambda t: t.iloc[::-1])  # rows in any order are taken in order of onset
    _, betas, mask = by_trial(estimate_betas(copy, tmp_path / "table", choice=choice))
    names = list(dict.fromkeys(p for run in RUNS for p in pictures(run)))
    expected = [100 * (run - 1) + names.index(p) for run in RUNS for p in pictures(run)]
    np.testing.assert_array_equal(betas[:, mask], np.tile(expected, (mask.sum(), 1)).T)
    asked = StandIn.asked
    assert (asked["stimdur"], asked["tr"]) == (SECONDS, TR)
    assert asked["params"]["wantpercentbold"] == 1
    assert [one.shape for one in asked["params"]["extra_regressors"]] == [(150, 1), (150, 1)]
    volumes, conditions = np.nonzero(asked["design"][1])
    assert volumes.tolist() == [2 + 8 * n for n in range(N_TRIALS)]
    assert [names[c] for c in conditions] == pictures(2)
    for run in RUNS:
        edit(copy, run, lambda t, run=run: t.assign(stim_file=[f"{run}{p}" for p in t.stim_file]))
    with pytest.raises(DataError, match="no picture twice"):
        estimate_betas(copy, tmp_path / "alone", Split(fraction=0.2), choice)


LAG = 5.0  # seconds: labels.txt marks the volumes that respond, not when pictures were shown


@pytest.fixture(scope="module")
def haxby(shared_data, tmp_path_factory):
    """The slice of Haxby et al. 2001 as BIDS: a file and eight events for each run."""
    source, root = shared_data / "haxby/haxby2001/subj1", tmp_path_factory.mktemp("haxby")
    labels = pd.read_csv(source / "labels.txt", sep=" ")
    bold, mask = nibabel.load(source / "bold.nii.gz"), nibabel.load(source / "mask.nii.gz")
    folder = root / "sub-1/func"
    write_nifti(
        folder / "sub-1_desc-brain_mask.nii.gz", mask.get_fdata().astype(np.uint8), mask.affine
    )
    (root / "task-objects_bold.json").write_text(json.dumps({"RepetitionTime": 2.5}))
    series, blocks = bold.get_fdata()[mask.get_fdata() > 0].T, []
    for chunk, rows in labels.groupby("chunks").indices.items():
        stem = folder / f"sub-1_task-objects_run-{chunk + 1:02d}"
        volumes = np.asarray(bold.dataobj)[..., rows]
        nibabel.save(
            nibabel.Nifti1Image(volumes, bold.affine, bold.header),
            f"{stem}_desc-preproc_bold.nii.gz",
        )
        names = labels.labels.to_numpy()[rows]
        starts = [
            n for n in range(1, len(names)) if names[n] != names[n - 1] and names[n] != "rest"
        ]
        events = pd.DataFrame({"onset": [2.5 * n - LAG for n in starts], "duration": 22.5})
        events["stim_file"] = [f"run{chunk + 1:02d}-{names[n]}" for n in starts]
        events.to_csv(f"{stem}_events.tsv", sep="\t", index=False)
        blocks += [(chunk, names[n], rows[n : n + 9], rows) for n in starts]
    return root, series, blocks


def accuracy(voxels, names, runs):
    """Ridge on eleven runs, tested on the twelfth."""
    hits = []
    for run in np.unique(runs):
        test = runs == run
        scaled = (voxels - voxels[~test].mean(0)) / voxels[~test].std(0)
        model = RidgeClassifier(alpha=100).fit(scaled[~test], names[~test])
        hits += (model.predict(scaled[test]) == names[test]).tolist()
    return np.mean(hits)


def test_haxby_s_labels_lag_behind_the_pictures(haxby):
    """Which delay of the labels' onsets fits best, categories left aside."""
    _, series, blocks = haxby
    times, fits = 2.5 * (np.arange(121) + 0.5), {}
    for lag in (0.0, 2.5, 5.0, 7.5):
        fits[lag] = 0.0
        for run in range(12):
            own = [b for b in blocks if b[0] == run]
            onsets = [2.5 * (b[2][0] - b[3][0]) - lag for b in own]
            columns, _ = trial_columns(onsets, [22.5] * 8, times)
            drift = np.linalg.qr(drift_columns(times, 0.01))[0]
            y, x = (v - drift @ (drift.T @ v) for v in (series[own[0][3]], columns.sum(1)))
            fits[lag] += np.mean((x @ y) ** 2 / (x @ x) / (y**2).sum(0)) / 12
    assert max(fits, key=fits.get) == LAG and fits[LAG] > 1.5 * fits[0.0]


@pytest.mark.parametrize("drift", [{"drift_order": 1}, {"high_pass": 0.01}])
def test_haxby_as_well_as_block_means(haxby, tmp_path, drift):
    """Cosines take a part of what differs between categories, of which each run has one block: from means and betas alike."""
    root, series, blocks = haxby
    runs, names = (np.array([block[n] for block in blocks]) for n in (0, 1))
    out = estimate_betas(root, tmp_path / "table", Split(fraction=0.25), BetasChoice(**drift))
    data = open_recordings(out)
    assert [i[6:] for i in data.trials.image_id] == names.tolist()
    betas = accuracy(data.volumes(1)[:, data.mask(1)], names, runs)

    def means(clean):
        parts = [clean(series[rows])[own - rows[0]].mean(0) for _, _, own, rows in blocks]
        return accuracy(np.array(parts), names, runs)

    slow = drift_columns(2.5 * np.arange(121), drift.get("high_pass", 0), drift.get("drift_order"))
    slow = np.linalg.qr(slow)[0]
    assert betas >= means(lambda y: 100 * (y - slow @ (slow.T @ y)) / y.mean(0))
    if "drift_order" in drift:
        best = means(lambda y: detrend(y, axis=0) / detrend(y, axis=0).std(0))
        assert best == pytest.approx(0.854, abs=1e-3)  # 82 of 96 blocks
        assert betas >= best - 3 / 96  # here 81


def test_haxby_s_whole_brain_from_the_command_line(shared_data, tmp_path):
    root, source = tmp_path / "bids", shared_data / "haxby/sub001_25mm"
    folder = root / "sub-001/func"
    folder.mkdir(parents=True)
    for run in range(1, 13):
        stem = folder / f"sub-001_task-objects_run-{run:02d}"
        own = source / f"run-{run:02d}"
        shutil.copy(own / "bold_25mm.nii.gz", f"{stem}_desc-preproc_bold.nii.gz")
        events = pd.read_csv(own / "bold_events.tsv", sep="\t")
        events["onset"] -= LAG
        events.to_csv(f"{stem}_events.tsv", sep="\t", index=False)
    shutil.copy(source / "masks/25mm/brain.nii.gz", folder / "sub-001_desc-brain_mask.nii.gz")
    (root / "task-objects_bold.json").write_text(json.dumps({"RepetitionTime": 2.5}))
    command = (
        f"betas --data {root} --out {tmp_path / 'table'} --stimulus trial_type --test-fraction 0.25"
    )
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.output + repr(done.exception)
    data = open_recordings(tmp_path / "table")
    assert len(data.trials) == 96 and data.mask(1).sum() == 129
    assert data.trials.groupby("image_id").size().eq(12).all()
    runs = np.repeat(np.arange(12), 8)
    found = accuracy(data.volumes(1)[:, data.mask(1)], data.trials.image_id.to_numpy(), runs)
    assert found > 0.25  # chance is .125, block means scaled to unit variance get .365
