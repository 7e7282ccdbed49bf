"""The token store: statistics from training trials, the same voxels as a plain computation, patches gathered right."""

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from neurovl.errors import DataError
from neurovl.recordings.opening import open_recordings
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import MIN_TRAINING_TRIALS, session_name, write_store


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


def test_own_leaves_voxels_outside_a_subject_s_mask_at_zero(data, store, tmp_path):
    write_store(data, tmp_path, patches=[5, 4], off_mask="own")
    own = TokenStore(tmp_path)
    np.testing.assert_array_equal(own.region, store.region)
    for subject in store.subjects:
        mask = data.mask(subject)
        # The voxel of the mask that holds the centre of each voxel of the common grid.
        at = [
            ((np.arange(t) + 0.5) * n // t).astype(int)
            for t, n in zip(own.target, mask.shape, strict=True)
        ]
        inside = mask[np.ix_(*at)].ravel()[own.region]
        assert 0 < inside.sum() < len(inside)
        got, all_of_it = own.voxels(subject, range(30)), store.voxels(subject, range(30))
        np.testing.assert_array_equal(got[:, inside], all_of_it[:, inside])
        assert (got[:, ~inside] == 0).all()


def test_test_trials_do_not_enter_the_statistics(data, store, tmp_path):
    """Changing every test trial leaves the training trials' tokens as they were."""

    class Spoiled(type(data)):
        def session_voxels(self, subject, session, voxels):
            out = super().session_voxels(subject, session, voxels).astype(np.float32)
            own = self.subject_trials(subject)
            is_test = (own.split[own.session == session] == "test").to_numpy()
            out[is_test] = out[is_test] * 5 + 7
            return out

    spoiled = open_recordings(data.root)
    spoiled.__class__ = Spoiled
    write_store(spoiled, tmp_path, patches=[5], off_mask="zero")
    train = np.flatnonzero(store.trials[store.trials.subject == "subj01"].split == "train")[:50]
    again = TokenStore(tmp_path)
    np.testing.assert_array_equal(again.voxels("subj01", train), store.voxels("subj01", train))
    test = np.flatnonzero(store.trials[store.trials.subject == "subj01"].split == "test")[:5]
    assert not np.allclose(again.voxels("subj01", test), store.voxels("subj01", test), atol=0.5)


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
    parts = [store.voxels_at([i])[0] for i in index]
    np.testing.assert_array_equal(store.voxels_at(index), np.stack(parts))


def test_a_session_with_few_training_trials_uses_its_own_statistics(data, tmp_path):
    few = open_recordings(data.root, subjects=[1])
    train = few.trials.index[few.trials.split == "train"][MIN_TRAINING_TRIALS - 1 :]
    few.trials.loc[train, "split"] = "test"
    write_store(few, tmp_path, patches=[5], off_mask="zero")
    assert TokenStore(tmp_path).transductive == {"subj01": ["1"]}


def contents(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_two_workers_write_the_same_bytes_as_one(data, store, tmp_path):
    write_store(data, tmp_path, patches=[5, 4], off_mask="zero", n_jobs=2)
    assert contents(tmp_path) == contents(store.folder)


class Counted:
    """A reader that notes which sessions are read."""

    def session_voxels(self, subject, session, voxels):
        self.read.append((subject, session))
        return super().session_voxels(subject, session, voxels)


def counted(data):
    again = open_recordings(data.root, subjects=data.subjects)
    again.__class__ = type("Counted", (Counted, type(data)), {})
    again.read = []
    return again


def test_only_what_is_missing_is_made_again(data, store, tmp_path):
    for name, content in contents(store.folder).items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    lost = tmp_path / "subj02" / "session01.json"
    lost.unlink()
    (tmp_path / "subj01" / ".part-123-session01.npy").write_bytes(b"half")
    again = counted(data)
    write_store(again, tmp_path, patches=[5, 4], off_mask="zero")
    assert again.read == [("subj02", 1)]
    assert contents(tmp_path) == contents(store.folder)


def test_sessions_of_an_older_store_are_taken_over_unless_they_are_damaged(data, store, tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    write_store(data, old, patches=[5, 4], off_mask="zero")
    voxels = np.load(old / "subj01" / "session01.npy", mmap_mode="r+")
    voxels[3, 4] += 1
    voxels.flush()
    assert TokenStore(old).damaged() == ["subj01/session01.npy"]
    again = counted(data)
    write_store(again, new, patches=[5, 4], off_mask="zero", previous=old)
    assert again.read == [("subj01", 1)]
    assert contents(new) == contents(store.folder)


def test_another_region_takes_nothing_over(data, store, tmp_path):
    again = counted(data)
    write_store(again, tmp_path, patches=[5, 4], off_mask="keep", previous=store.folder)
    assert sorted(again.read) == [("subj01", 1), ("subj02", 1)]


def test_a_store_with_a_cut_session_names_the_file(data, tmp_path):
    write_store(data, tmp_path, patches=[5], off_mask="zero")
    file = tmp_path / "subj01" / "session01.npy"
    file.write_bytes(file.read_bytes()[:200])
    with pytest.raises(DataError, match="subj01/session01.npy .* neurovl preprocess"):
        TokenStore(tmp_path).voxels(1, [0])


def test_a_trial_that_float16_cannot_hold_is_named(data, tmp_path):
    class Exploding(type(data)):
        def session_voxels(self, subject, session, voxels):
            out = super().session_voxels(subject, session, voxels).astype(np.float32)
            is_test = (self.subject_trials(subject).split == "test").to_numpy()
            out[np.flatnonzero(is_test)[0]] *= 1e8
            return out

    wild = open_recordings(data.root, subjects=[1])
    wild.__class__ = Exploding
    with pytest.raises(DataError, match="session 1 of subj01: trial"):
        write_store(wild, tmp_path, patches=[5], off_mask="zero")
    assert not list(tmp_path.glob("subj01/session*"))


@pytest.mark.parametrize(
    ("session", "name"), [(7, "session07"), ("41", "session41"), ("ses-a", "session-ses-a")]
)
def test_session_names(session, name):
    assert session_name(session) == name


def test_a_session_name_never_leads_out_of_the_store():
    names = [session_name(s) for s in ("../x", "--/x", "a b", "a/b")]
    assert len(set(names)) == 4 and all(Path(n).name == n and "." not in n for n in names)


def test_unknown_images_subjects_and_layouts_are_named(store):
    with pytest.raises(DataError, match="did not see image 99999"):
        store.tokens(1, 99999)
    with pytest.raises(DataError, match="subj01, subj02"):
        store.batch(7, [0])
    with pytest.raises(DataError, match="p5, p4, flat"):
        store.batch(1, [0], patch=9)
