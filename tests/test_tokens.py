"""The token store: statistics from training trials, the same voxels as a plain computation, patches gathered right."""

import numpy as np
import pytest
from scipy import ndimage

from neurovl.errors import DataError
from neurovl.recordings import open_recordings
from neurovl.tokens import MIN_TRAINING_TRIALS, TokenStore, layout_name, write_store


@pytest.fixture(scope="module")
def data(tiny_nsd):
    return open_recordings(tiny_nsd)


@pytest.fixture(scope="module")
def store(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokens")
    write_store(data, folder, patches=[5, 4], off_mask="zero")
    return TokenStore(folder)


def plain_voxels(data, subject, target):
    """z-score on training trials of the session, then resize with scipy: the definition, written out."""
    trials = data.subject_trials(subject).reset_index(drop=True)
    volumes = data.volumes(subject).astype(np.float64)
    train = (trials.split == "train").to_numpy()
    mean, sd = volumes[train].mean(0), volumes[train].std(0)
    z = np.divide(volumes - mean, sd, out=np.zeros_like(volumes), where=sd > 1e-6)[:20]
    factors = [t / s for t, s in zip(target, z.shape[1:], strict=True)]
    return np.stack([ndimage.zoom(v, factors, order=1, grid_mode=True, mode="nearest") for v in z])


@pytest.mark.parametrize("subject", ["subj01", "subj02"])
def test_stored_voxels_are_standardised_on_training_trials_and_resized(data, store, subject):
    expected = plain_voxels(data, subject, store.target).reshape(20, -1)[:, store.region]
    np.testing.assert_allclose(store.voxels(subject, np.arange(20)), expected, atol=2e-2, rtol=2e-3)


def test_test_trials_do_not_enter_the_statistics(data, store, tmp_path):
    """Changing every test trial leaves the training trials' tokens as they were."""

    class Spoiled(type(data)):
        def volumes(self, subject, rows=None):
            out = super().volumes(subject, rows)
            split = self.subject_trials(subject).split.to_numpy()
            chosen = split if rows is None else split[np.asarray(rows)]
            out[chosen == "test"] = out[chosen == "test"] * 5 + 7
            return out

    spoiled = open_recordings(data.root)
    spoiled.__class__ = Spoiled
    write_store(spoiled, tmp_path, patches=[5])
    train = np.flatnonzero(store.trials[store.trials.subject == "subj01"].split == "train")[:50]
    again = TokenStore(tmp_path).voxels("subj01", train)
    np.testing.assert_array_equal(again, store.voxels("subj01", train))


def test_layouts_hold_the_same_voxels(store):
    voxels = store.voxels("subj01", [0, 3])
    for layout in store.layouts:
        tokens = store.cut(voxels, layout).numpy()
        assert tokens.shape[1:] == store.shape(layout)
        np.testing.assert_allclose(np.sort(tokens[tokens != 0]), np.sort(voxels[voxels != 0]))


def test_every_subject_has_the_same_tokens(store):
    assert store.batch("subj01", [0]).shape == store.batch(2, [0]).shape


def test_tokens_of_an_image_are_the_mean_over_its_repeats(store):
    own = store.trials[store.trials.subject == "subj02"].reset_index(drop=True)
    image = own.image_id[own.split == "test"].iloc[0]
    rows = np.flatnonzero(own.image_id == image)
    expected = store.batch("subj02", rows).mean(0, keepdim=True)
    np.testing.assert_allclose(store.tokens(2, image), expected, atol=1e-5)
    np.testing.assert_allclose(store.tokens(2, image, repeat=1), store.batch(2, rows[1:2]))


def test_rows_over_subjects_come_in_the_order_asked_for(store):
    n = len(store.trials)
    index = np.array([n - 1, 0, n // 2, 1])
    parts = [store.rows([i])[0] for i in index]
    np.testing.assert_array_equal(store.rows(index), np.stack(parts))


def test_a_session_with_few_training_trials_uses_its_own_statistics(data, tmp_path):
    few = open_recordings(data.root, subjects=[1])
    train = few.trials.index[few.trials.split == "train"][MIN_TRAINING_TRIALS - 1 :]
    few.trials.loc[train, "split"] = "test"
    write_store(few, tmp_path, patches=[5])
    assert TokenStore(tmp_path).transductive == {"subj01": ["1"]}


def test_unknown_images_subjects_and_layouts_are_named(store):
    with pytest.raises(DataError, match="did not see image 99999"):
        store.tokens(1, 99999)
    with pytest.raises(DataError, match="subj01, subj02"):
        store.batch(7, [0])
    with pytest.raises(DataError, match="p5, p4, flat"):
        store.batch(1, [0], patch=9)


def test_layout_names():
    assert [layout_name(p) for p in (5, (5, 5, 5), (5, 5, 1))] == ["p5", "p5", "p5x5x1"]
