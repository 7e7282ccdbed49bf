"""Haxby et al. 2001: blocks, folds by run, and a decoder that must work."""

import shutil

import nibabel
import numpy as np
import pytest
from scipy.signal import detrend

from neurovl.errors import DataError, MissingError
from neurovl.recordings.opening import open_recordings


@pytest.fixture(scope="module")
def root(shared_data):
    return shared_data / "haxby"


def test_blocks(root):
    data = open_recordings(root)
    assert data.name == "haxby" and data.subjects == ["subj01"] and len(data.trials) == 96
    assert data.trials.image_id.is_unique and data.trials.session.nunique() == 12
    names = {data.label(one) for one in data.trials.image_id}
    assert names == set("face house cat bottle scissors shoe chair scrambled".split())
    assert not data.has_images and data.n_folds == 4 and data.noise_ceiling(1) is None
    assert data.captions("run03-face") == ["a photo of a face."]
    assert all(len(data.captions(one)) == 1 for one in data.trials.image_id)
    with pytest.raises(MissingError, match="no pictures"):
        data.image("run03-face")
    with pytest.raises(DataError, match="no block"):
        data.label("run03-dog")


def test_a_block_by_hand(root):
    """Detrended, scaled by the run's standard deviation, mean over nine volumes."""
    folder = root / "haxby2001/subj1"
    lines = [line.split() for line in (folder / "labels.txt").read_text().splitlines()[1:]]
    series = nibabel.load(folder / "bold.nii.gz").get_fdata()
    mask = nibabel.load(folder / "mask.nii.gz").get_fdata() > 0
    run = np.array([chunk == "2" for _, chunk in lines])
    face = np.array([name == "face" for name, chunk in lines if chunk == "2"])
    voxels = detrend(series[mask].T[run], axis=0)
    expected = (voxels / voxels.std(0))[face].mean(0)
    data = open_recordings(root)
    row = data.trials.image_id.tolist().index("run03-face")
    np.testing.assert_allclose(data.volumes(1, [row])[0][mask], expected, rtol=1e-3, atol=1e-4)
    assert not data.volumes(1, [row])[0][~mask].any()


def test_every_run_is_tested_once(root):
    tested = []
    for fold in range(4):
        trials = open_recordings(root, fold=fold).trials
        held_out = set(trials.session[trials.split == "test"])
        assert len(held_out) == 3 and not held_out & set(trials.session[trials.split == "train"])
        tested += sorted(held_out)
    assert tested == list(range(1, 13))


def test_ridge_decodes_the_category(root):
    from sklearn.linear_model import RidgeClassifier

    hits = []
    for fold in range(4):
        data = open_recordings(root, fold=fold)
        voxels = data.volumes(1)[:, data.mask(1)]
        labels = np.array([data.label(one) for one in data.trials.image_id])
        test = (data.trials.split == "test").to_numpy()
        voxels = (voxels - voxels[~test].mean(0)) / voxels[~test].std(0)
        model = RidgeClassifier(alpha=100).fit(voxels[~test], labels[~test])
        hits += (model.predict(voxels[test]) == labels[test]).tolist()
    assert len(hits) == 96 and np.mean(hits) >= 0.7


def test_volumes_and_labels_must_agree(root, tmp_path):
    shutil.copytree(root / "haxby2001", tmp_path / "haxby2001")
    path = tmp_path / "haxby2001/subj1/labels.txt"
    path.chmod(0o644)
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(DataError, match="1452.*expected 1451 volumes as in labels.txt"):
        open_recordings(tmp_path).volumes(1)


def test_cut_short(root, tmp_path):
    shutil.copytree(root / "haxby2001/subj1", tmp_path / "subj1")
    path = tmp_path / "subj1/bold.nii.gz"
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="cut short.*download haxby"):
        open_recordings(tmp_path).volumes(1)


def test_absent_subject(root):
    with pytest.raises(MissingError, match="no subj04, only subj01.*download haxby"):
        open_recordings(root, subjects=[4])
