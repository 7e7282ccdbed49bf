"""NSD-Imagery and NSD-synthetic: read to the letter, refused where they are not, scored against what must fail."""

import shutil
from types import SimpleNamespace

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.io import loadmat, savemat
from typer.testing import CliRunner

import neurovl
from neurovl.cli.options import app
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.evaluation import further_sets
from neurovl.recordings.nsd import nsd_imagery, nsd_synthetic
from neurovl.recordings.nsd.imagery_pictures import TARGETS, nsd_number
from neurovl.recordings.nsd.nsd_imagery import ImageryRecordings
from neurovl.recordings.nsd.nsd_synthetic import SyntheticRecordings
from neurovl.smallworld.subjects import further_tests, simulate, simulation

PROFILE = """
simulation: {subjects: [1, 2], sessions: 1, scale: 5.0, tests: [imagery, synthetic]}
preprocessing: {subjects: [1, 2], patches: [5]}
encoder: {width: 32, layers: 1, heads: 2, head_hidden: 64, readout: 32}
alignment: {epochs: 2, precision: "no", variants: [main]}
evaluation: {bootstrap: 100, permutations: 10}
compute: {device: cpu, processes: 1}
"""
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/nsd{0}betas_fithrf_GLMdenoise_RR/betas_nsd{0}"


@pytest.fixture(scope="module")
def nsd(tmp_path_factory):
    """Simulated NSD with both further sessions. Read it, never write."""
    out, tests = tmp_path_factory.mktemp("further"), ["imagery", "synthetic"]
    return simulate(out, subjects=[1, 2], sessions=1, scale=5.0, tests=tests, n_jobs=2)


@pytest.fixture
def copied(nsd, tmp_path):
    """A copy to spoil, of the small files; the large ones are links."""
    return shutil.copytree(nsd, tmp_path / "nsd", copy_function=shutil.copy)


@pytest.fixture(scope="module")
def run(nsd, tmp_path_factory):
    profile = tmp_path_factory.mktemp("profile") / "further.yaml"
    profile.write_text(PROFILE)
    run = neurovl.start_run(tmp_path_factory.mktemp("run"), profile=str(profile), data=nsd)
    neurovl.make(run, "imagery")
    return run


@pytest.mark.parametrize("task", ["seen", "imagined"])
def test_each_trial_is_the_volume_that_nsd_says(nsd, task):
    data = ImageryRecordings(nsd, [1], task=task)
    volumes = nibabel.load(nsd / f"{BETAS.format('imagery')}.nii.gz").get_fdata() / 300
    starts = {"visA": 0, "visB": 192, "imgA_1": 144, "imgB_1": 336, "imgA_2": 576, "imgB_2": 624}
    mask = data.mask(1)
    own = data.subject_trials(1)
    for run in own.session.unique():
        rows = own.trial[own.session == run].to_numpy()
        for k in (0, 17, 47):
            read, stored = data.volumes(1, [rows[k]])[0], volumes[..., starts[run] + k]
            np.testing.assert_allclose(read[mask], stored[mask], atol=1e-5)
            assert not np.allclose(read[mask], volumes[..., starts[run] + k - 1][mask], atol=0.1)
        cues = pd.read_csv(nsd / f"nsddata/bdata/nsdimagery/nsdimagery_subj01_{run}.tsv", sep="\t")
        of = {c: p for targets in TARGETS.values() for c, p in targets.items()}
        assert own.image_id[own.session == run].tolist() == [of[c] for c in cues.CONDITION]
    assert set(own.split) == {"test"}
    repeats = {"seen": 8, "imagined": 16}[task]
    assert (own.groupby("image_id").size() == repeats).all() and own.image_id.nunique() == 12


def test_what_is_imagined_is_weaker_and_does_not_reach_early_areas(tmp_path):
    seen = np.random.default_rng(0).normal(size=(12, 5))
    early = np.array([True, False, False, True, False])
    voxels = SimpleNamespace(
        gain=np.ones(5), tuning=SimpleNamespace(early=early), responses=lambda *shown: seen
    )
    signal = further_tests._imagery(tmp_path, 1, voxels, (0, 0), np.random.default_rng(1))
    cues = [cue for targets in TARGETS.values() for cue in targets]
    silent = np.ones(720, bool)
    for run in ("visA", "visB", "imgA_1", "imgB_1", "imgA_2", "imgB_2"):
        order = nsd_imagery.read_cues(tmp_path, "subj01", run)
        rows = slice(start := nsd_imagery.first_beta(run), start + 48)
        expected = seen[[cues.index(cue) for cue in order]]
        if run.startswith("img"):
            expected = 0.4 * expected * ~early
        np.testing.assert_allclose(signal[rows], expected)
        silent[rows] = False
    assert not signal[silent].any() and silent.sum() == 432
    orders = [tuple(nsd_imagery.read_cues(tmp_path, "subj01", r)) for r in ("imgA_1", "imgA_2")]
    assert orders[0] != orders[1]


def test_synthetic_pictures_follow_the_design(nsd):
    data = SyntheticRecordings(nsd)
    order = loadmat(nsd / nsd_synthetic.DESIGN)["masterordering"].ravel().astype(int)
    for subject in ("subj01", "subj02"):
        ids = data.subject_trials(subject).image_id
        shared = [i for i in ids if i.isdigit()]
        assert shared == [str(k - 1) for k in order if k <= 220]
        assert all(i.endswith(subject) for i in ids if not i.isdigit()) and len(ids) == 744
    volumes = nibabel.load(nsd / f"{BETAS.format('synthetic')}.nii.gz").get_fdata() / 300
    mask = data.mask(1)
    read = data.volumes(1, [0, 400, 743])[:, mask]
    np.testing.assert_allclose(read, volumes[mask][:, [0, 400, 743]].T, atol=1e-5)


def test_stored_light_is_shown_as_grey_levels_of_the_middle_square(nsd, copied):
    path = copied / nsd_synthetic.STIMULI / "nsdsynthetic_stimuli.hdf5"
    with h5py.File(path, "r+") as file:
        light = np.zeros((714, 1360, 3), np.uint8)
        light[:, 323 : 323 + 714] = 64
        file["imgBrick"][5] = light
    picture = np.asarray(SyntheticRecordings(copied).image("5"))
    assert picture.shape == (425, 425, 3) and (picture == round((64 / 255) ** 0.5 * 255)).all()
    coloured = np.asarray(SyntheticRecordings(nsd).image("220-subj01"), float)
    assert np.ptp(coloured.mean((0, 1))) > 0 and np.abs(np.diff(coloured, axis=-1)).max() > 20


def _spoil_cue(root):
    path = root / "nsddata/bdata/nsdimagery/nsdimagery_subj01_imgA_1.tsv"
    path.write_text(path.read_text().replace("\tH\n", "\tQ\n"))


def _fewer_cues(root):
    path = root / "nsddata/bdata/nsdimagery/nsdimagery_subj01_imgA_1.tsv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def _other_column(root):
    path = root / "nsddata/bdata/nsdimagery/nsdimagery_subj01_imgA_1.tsv"
    path.write_text(path.read_text().replace("CONDITION", "CUE"))


def _fewer_volumes(root):
    path = root / f"{BETAS.format('imagery')}.nii.gz"
    image = nibabel.load(path)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj)[..., :-1], image.affine), path)


@pytest.mark.parametrize(
    ("spoil", "match"),
    [
        (_spoil_cue, "holds 48 trials and the cue 'Q', expected each of H, R, V, L, P, E 8 times"),
        (_fewer_cues, "holds 47 trials, expected each of"),
        (_other_column, "expected a table with the column CONDITION"),
        (_fewer_volumes, "holds 719 volumes, expected 720"),
    ],
)
def test_imagery_that_is_not_as_nsd_has_it_is_refused(copied, spoil, match):
    spoil(copied)
    with pytest.raises(DataError, match=match):
        ImageryRecordings(copied, [1]).volumes(1, [0])


def test_designs_and_pictures_that_are_not_as_nsd_has_them_are_refused(copied):
    savemat(copied / nsd_synthetic.DESIGN, {"masterordering": np.full((1, 744), 285)})
    with pytest.raises(DataError, match="744 trials from 285 to 285, expected 744 from 1 to 284"):
        SyntheticRecordings(copied)
    (copied / nsd_synthetic.DESIGN).unlink()
    with pytest.raises(MissingError, match="nsdsynthetic_expdesign.mat is missing"):
        SyntheticRecordings(copied)
    imagery = ImageryRecordings(copied, [1])
    (copied / nsd_imagery.PICTURES / "setB/shared0413_nsd30857.png").unlink()
    with pytest.raises(MissingError, match="shared0413_nsd30857.png is missing"):
        imagery.image("shared0413_nsd30857")
    for data in (imagery, SyntheticRecordings(nsd_with_design(copied))):
        with pytest.raises(DataError, match="has no picture '9999'"):
            data.image("9999")
    with pytest.raises(ConfigError, match="no task 'dreamt'"):
        ImageryRecordings(copied, [1], task="dreamt")
    with pytest.raises(ConfigError, match="no further test 'dreams'"):
        simulate(copied / "other", subjects=[1], tests=["dreams"])


def nsd_with_design(root):
    savemat(root / nsd_synthetic.DESIGN, {"masterordering": np.arange(744)[None] % 284 + 1})
    return root


def test_the_core_experiment_does_not_depend_on_further_sessions(nsd, tmp_path):
    alone = simulate(tmp_path / "alone", subjects=[1], sessions=1, scale=5.0)
    name = f"nsddata_betas/ppdata/subj01/func1pt8mm/{simulation.BETAS}/betas_session01.nii.gz"
    both = [np.asarray(nibabel.load(root / name).dataobj) for root in (nsd, alone)]
    np.testing.assert_array_equal(*both)
    assert neurovl.open_recordings(nsd).trials.session.unique().tolist() == [1]


def test_seen_photographs_are_identified_and_shuffled_brains_are_not(run):
    table = pd.read_csv(run.folder / "imagery" / "results.csv")
    assert set(table.task) == {"imagery"} and table.note.str.contains("transductive").all()
    own = table[(table.subject == "all") & (table.protocol == "average")]
    own = own[(own.metric == "two_way_clip") & (own.condition == "task=seen set=complex")]
    own = own.set_index("system").value
    assert own["neurovl"] > 0.75 > own["shuffled"] + 0.1
    assert {"neurovl", "ridge", "linear-readout", "shuffled"} == set(own.index)
    assert set(table.data) == {"simulated-nsd-imagery"}


def test_photographs_that_the_run_trained_on_are_left_out(run, monkeypatch):
    assert nsd_number("shared0385_nsd28752") == "28752"
    assert nsd_number("bar_000.0deg_450L_43W") is nsd_number("shared0000_nsd00000") is None
    (one, _) = further_sets.open_sets(run, "imagery")
    ids = sorted(one.recordings.trials.image_id.unique())
    before = {kind: len(rows) for kind, rows in one.parts(ids)}
    assert before == {"task=seen set=simple": 6, "task=seen set=complex": 6}
    trials = run.store.trials
    known = trials.image_id[trials.split == "train"].iloc[0]
    trained = trials.assign(image_id=trials.image_id.replace(known, "28752"))
    monkeypatch.setattr(run.store, "trials", trained)
    monkeypatch.setattr(further_sets, "ridge_of", lambda run, subject: Blind())
    targets = further_sets.embed_sets(run, "imagery", one.recordings)
    table = further_sets.Table("x", "", 0, 10)
    further_sets._score(run, "imagery", one, targets, table)
    counts = {(r.condition, r.n) for r in table.rows if r.metric == "two_way_clip"}
    assert counts == {("task=seen set=simple", 6), ("task=seen set=complex", 5)}


class Blind:
    def predict(self, voxels):
        return np.random.default_rng(0).normal(size=(len(voxels), 64 + 4 * 16 * 16))


def test_a_run_says_which_sets_it_lacks(run, tiny_nsd, tmp_path):
    assert further_sets.available_sets(run) == ["imagery", "synthetic"]
    profile = tmp_path / "plain.yaml"
    profile.write_text(PROFILE.replace(", tests: [imagery, synthetic]", ""))
    other = neurovl.start_run(tmp_path / "run", profile=str(profile), data=tiny_nsd)
    assert further_sets.available_sets(other) == []
    with pytest.raises(ConfigError, match="expected the session of NSD-imagery of every subject"):
        neurovl.make(other, "imagery")
    said = CliRunner().invoke(app, ["evaluate", "--run", str(run.root), "--on", "dreams"])
    assert isinstance(said.exception, ConfigError) and "imagery or synthetic" in str(said.exception)
