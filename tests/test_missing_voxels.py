"""Voxels without a number in some session: left out of the subject's own in all, counted, refused above a threshold."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from neurovl.adaptation.new_subject import read_trials
from neurovl.doctor.data_files import _subjects
from neurovl.errors import ConfigError, DataError
from neurovl.recordings.missing_voxels import usable_mask
from neurovl.recordings.opening import open_recordings
from neurovl.settings.profile_files import load_profile
from neurovl.settings.sections import Preprocessing
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import write_store

GRID, N, PLACES = (5, 5, 4), 24, [(0, 0, 0), (3, 2, 1)]  # 100 voxels; 24 trials a session


@pytest.fixture
def holed(tmp_path):
    """A table of two sessions; two voxels hold NaN or infinity in one trial of the second."""
    rng, root = np.random.default_rng(0), tmp_path / "holed"
    root.mkdir()
    betas = rng.normal(0, 1, (2, *GRID, N)).astype(np.float32)
    betas[(1, *PLACES[0], 5)], betas[(1, *PLACES[1], 7)] = np.nan, np.inf
    affine = np.diag([2.0, 2, 2, 1])
    for k in (0, 1):
        nibabel.save(nibabel.Nifti1Image(betas[k], affine), root / f"run{k}.nii")
    nibabel.save(nibabel.Nifti1Image(np.ones(GRID, np.uint8), affine), root / "mask.nii")
    (root / "subjects.tsv").write_text("subject\tmask\nanna\tmask.nii\n")
    rows = [
        ("anna", k, f"run{k}.nii", t, f"p{k}-{t}", "", "test" if t == 0 else "train")
        for k in (0, 1)
        for t in range(N)
    ]
    columns = "subject session volume index image_id repeat split".split()
    pd.DataFrame(rows, columns=columns).to_csv(root / "trials.tsv", sep="\t", index=False)
    return root, betas


def scores(betas):
    """z-scores by the training trials, all but the first."""
    with np.errstate(invalid="ignore"):
        train = betas[..., 1:]
        return (betas - train.mean(-1, keepdims=True)) / train.std(-1, keepdims=True)


def stored(root, folder, **settings):
    folder.mkdir()
    write_store(open_recordings(root, **settings), folder, patches=[2], n_jobs=2)
    return TokenStore(folder)


def test_missing_voxels_are_no_longer_the_subject_s_in_any_session(holed, tmp_path, caplog):
    root, betas = holed
    store = stored(root, tmp_path / "tokens")
    lost = np.zeros(GRID, bool)
    lost[tuple(np.transpose(PLACES))] = True
    measured = store.measured("anna")
    assert measured.sum() == 98 and not np.isin(store.region[measured], np.flatnonzero(lost)).any()
    voxels = store.voxels("anna")
    assert np.isfinite(voxels).all() and not voxels[:, ~measured].any()
    z = scores(betas)
    for k in (0, 1):  # all other voxels are as they were
        expected = z[k].reshape(-1, N)[store.region[measured]].T
        np.testing.assert_allclose(voxels[k * N : (k + 1) * N, measured], expected, atol=5e-3)
    counted = {"voxels": 2, "of": 100, "sessions": {"1": 2}}
    assert store.missing_voxels == {"anna": counted}
    assert json.loads((tmp_path / "tokens/plan.json").read_text())["missing_voxels"]
    assert "2 of 100 voxels of the mask of anna are not finite in some session" in caplog.text


def test_their_values_reach_no_neighbour(holed, tmp_path):
    """On a finer common grid values are interpolated: a missing voxel counts 0 in both sessions, as scipy has it."""
    root, betas = holed
    folder, target = tmp_path / "fine", (8, 7, 9)
    folder.mkdir()
    write_store(open_recordings(root), folder, patches=[2], target=target, off_mask="keep")
    store, z = TokenStore(folder), scores(betas)
    for x, y, w in PLACES:
        z[:, x, y, w] = 0
    factors = np.divide(target, GRID)
    for k, trial in ((0, 3), (1, 11)):
        zoomed = ndimage.zoom(z[k, ..., trial], factors, order=1, grid_mode=True, mode="nearest")
        found = store.voxels("anna", [k * N + trial])[0]
        np.testing.assert_allclose(found, zoomed.ravel()[store.region], atol=5e-3)


def test_more_than_the_threshold_are_refused(holed, tmp_path):
    root, _ = holed
    words = (
        r"2 values .* in 2 of 100 voxels \(2.0%\), .*all but 1.0%.*preprocessing.max_missing_voxels"
    )
    data = open_recordings(root, max_missing_voxels=0.01)
    with pytest.raises(DataError, match=r"session 1 of anna \(run1.nii\) holds " + words):
        data.volumes("anna")
    words = r"2 of 100 voxels of the mask of anna \(2.0%\) .*\(run1.nii\), expected numbers in all but 1.0%.*max_missing_voxels"
    with pytest.raises(DataError, match=words):
        stored(root, tmp_path / "tokens", max_missing_voxels=0.01)
    assert not list(tmp_path.glob("tokens/*"))


def test_sessions_add_up(holed):
    """1.5 % may be missing: 1 % in each of two sessions are 2 % in all."""
    root, betas = holed
    for k, place in enumerate(PLACES):
        one = np.nan_to_num(betas[k], nan=0, posinf=0)
        one[(*place, 3)] = np.nan
        nibabel.save(nibabel.Nifti1Image(one, np.diag([2.0, 2, 2, 1])), root / f"run{k}.nii")
    data = open_recordings(root, max_missing_voxels=0.015)
    assert data.volumes("anna").shape == (2 * N, *GRID)
    with pytest.raises(DataError, match=r"2 of 100 voxels .* all but 1.5%"):
        usable_mask(data, "anna")
    data.max_missing_voxels = 0.02
    assert usable_mask(data, "anna").sessions == {"0": 1, "1": 1}


def test_a_new_subject_is_read_like_the_store(holed, tmp_path):
    root, _ = holed
    store, data = stored(root, tmp_path / "tokens"), open_recordings(root)
    pictures = list(data.trials.image_id[data.trials.split == "train"])
    (found,) = read_trials(data, "anna", store, [pictures])
    np.testing.assert_array_equal(found.stored.astype(np.float32), store.voxels("anna"))
    np.testing.assert_array_equal(found.measured, store.measured("anna"))


def test_the_doctor_counts_them(holed):
    root, betas = holed
    nibabel.save(nibabel.Nifti1Image(betas[1], np.diag([2.0, 2, 2, 1])), root / "run0.nii")
    _, found = _subjects(open_recordings(root))
    assert found.ok and "2 of them (2.0%) are not finite in session 0" in found.what
    assert not _subjects(open_recordings(root, max_missing_voxels=0.01))[1].ok


def test_the_threshold_is_a_setting(tmp_path):
    assert load_profile("paper").preprocessing.max_missing_voxels == 0.05
    assert load_profile("rehearsal").preprocessing.max_missing_voxels == 0.05
    with pytest.raises(ConfigError, match="max_missing_voxels is 1.0, expected a share"):
        Preprocessing(max_missing_voxels=1.0)
