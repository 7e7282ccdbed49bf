"""NSD in its own layout, made by hand: splits, versions, gaps, every file format, crops."""

import json
import tracemalloc

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from scipy.io import savemat

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.recordings.betas import hdf5_stream as hdf5
from neurovl.recordings.nsd import NSDRecordings, stimuli

GRID = (6, 5, 4)
B3, B2 = "betas_fithrf_GLMdenoise_RR", "betas_fithrf"
SESSIONS = {1: 40, 2: 40, 3: 32, 4: 30, 5: 40, 6: 32, 7: 40, 8: 30}
AFFINE = np.diag([1.8, 1.8, 1.8, 1])


def random_order(rng):
    """10,000 slots three times each; slots 1 to 18 in the last three sessions only, as 18 of NSD's."""
    late = 37 * 750 + rng.permutation(3 * 750)[: 3 * 18]
    while True:
        order = np.zeros(30_000, int)
        order[late] = np.tile(np.arange(1, 19), 3)
        order[order == 0] = rng.permutation(np.repeat(np.arange(19, 10_001), 3))
        if np.isin(np.arange(19, 1001), order[: 37 * 750]).all():
            return order


@pytest.fixture(scope="module")
def design():
    rng = np.random.default_rng(0)
    ids = rng.permutation(73_000)
    subjectim = np.hstack([np.tile(ids[:1000], (8, 1)), ids[1000:].reshape(8, 9000)]) + 1
    return random_order(rng), subjectim


@pytest.fixture
def root(tmp_path, design):
    """The experiment and the masks of all subjects; no betas."""
    folder = tmp_path / "nsddata/experiments/nsd"
    folder.mkdir(parents=True)
    savemat(
        folder / "nsd_expdesign.mat",
        {"masterordering": design[0][None].astype(float), "subjectim": design[1].astype(float)},
    )
    labels = np.full(GRID, -1, np.int16)
    labels[1:5, 1:4, 1:3] = 1
    labels[0, 0] = 0
    for subject in SESSIONS:
        path = tmp_path / f"nsddata/ppdata/subj{subject:02d}/func1pt8mm/roi/nsdgeneral.nii.gz"
        path.parent.mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(labels, AFFINE), path)
    return tmp_path


def betas_path(root, subject, session, version=B3, ending="nii.gz"):
    folder = root / f"nsddata_betas/ppdata/subj{subject:02d}/func1pt8mm/{version}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"betas_session{session:02d}.{ending}"


def empty(root, subject, sessions, version=B3):
    """Names of files; opening NSD reads none of them."""
    for session in sessions:
        betas_path(root, subject, session, version).touch()


def write(root, subject, session, ending="nii.gz", version=B3):
    values = np.random.default_rng([subject, session, len(version)]).normal(90, 300, (*GRID, 750))
    values = values.round().astype(np.int16)
    path = betas_path(root, subject, session, version, ending)
    if ending == "hdf5":
        with h5py.File(path, "w") as file:
            file.create_dataset("betas", data=values.T, chunks=(750, 1, 1, 1))
    else:
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
    return np.moveaxis(values, -1, 0)


# ---- the splits


def test_all_subjects_with_all_sessions(root, design):
    """Counted from the design by plain loops."""
    order, subjectim = design
    for subject, n in SESSIONS.items():
        empty(root, subject, range(1, n + 1))
    for split, withheld in (("shared1000", 0), ("shared982", 3)):
        data = NSDRecordings(root, split=split)
        assert data.subjects == [f"subj{s:02d}" for s in SESSIONS] and data.split_name == split
        for subject, n in SESSIONS.items():
            trials = data.subject_trials(subject)
            slots = order[: (n - withheld) * 750]
            assert trials.image_id.tolist() == [
                str(subjectim[subject - 1, m - 1] - 1) for m in slots
            ]
            assert ((trials.split == "test").to_numpy() == (slots <= 1000)).all()
            assert trials.session.tolist() == [t // 750 + 1 for t in range(len(slots))]
            assert trials["repeat"].max() == 2
            test = trials[trials.split == "test"]
            assert test.image_id.nunique() == len({m for m in slots if m <= 1000})
            if subject in (1, 2, 5, 7):
                assert test.image_id.nunique() == (1000 if not withheld else 982)
                assert len(trials) == (30_000 if not withheld else 27_750)
        shared = set.intersection(
            *(
                set(one.image_id)
                for _, one in data.trials[data.trials.split == "test"].groupby("subject")
            )
        )
        expected = {m for m in order[: (30 - withheld) * 750] if m <= 1000}
        assert shared == {str(subjectim[0, m - 1] - 1) for m in expected}


def test_sessions_with_gaps(root, design):
    order, subjectim = design
    empty(root, 3, (5, 1, 2))
    data = NSDRecordings(root, subjects=[3])
    trials = data.trials
    assert trials.session.unique().tolist() == [1, 2, 5] and len(trials) == 2250
    assert trials.trial.tolist() == list(range(2250))
    at = [*range(1500), *range(3000, 3750)]
    assert trials.image_id.tolist() == [str(subjectim[2, order[t] - 1] - 1) for t in at]
    # showings are counted in the whole experiment, as NSD's table of pictures does
    assert trials["repeat"].tolist() == [int((order[:t] == order[t]).sum()) for t in at]


def test_no_session_of_the_split(root):
    empty(root, 4, (29, 30))
    assert NSDRecordings(root).trials.session.unique().tolist() == [29, 30]
    with pytest.raises(MissingError, match="sessions 29, 30 of subj04 only.*ends with session 27"):
        NSDRecordings(root, split="shared982")


def test_splits_have_names(root):
    empty(root, 1, (1,))
    with pytest.raises(
        ConfigError, match="no split 'shared515': choose from shared1000, shared982"
    ):
        NSDRecordings(root, split="shared515")
    checksums = {NSDRecordings(root, split=one).checksum() for one in NSDRecordings.splits}
    assert len(checksums) == 2


@pytest.mark.parametrize(
    "change, message",
    [
        ({"masterordering": np.arange(30_000) % 10_000}, "masterordering from 0 to 9999"),
        ({"subjectim": np.full((8, 10_000), 73_001)}, "subjectim from 73001 to 73001, expected 1"),
        ({"subjectim": np.ones((10_000, 8))}, r"subjectim of \(10000, 8\), expected"),
        ({"masterordering": np.ones(750)}, "masterordering of 750 trials"),
    ],
)
def test_designs_out_of_range(root, design, change, message):
    empty(root, 1, (1,))
    content = {"masterordering": design[0], "subjectim": design[1], **change}
    savemat(root / "nsddata/experiments/nsd/nsd_expdesign.mat", content)
    with pytest.raises(DataError, match=message):
        NSDRecordings(root)


# ---- betas


def test_versions_of_the_betas(root):
    first, second = write(root, 1, 1), write(root, 1, 1, version=B2)
    assert (first != second).any()
    for version, values in ((B3, first), (B2, second)):
        data = NSDRecordings(root, betas=version)
        assert data.betas == version
        np.testing.assert_allclose(data.volumes(1, [5, 9]), values[[5, 9]] / 300, rtol=1e-6)
    empty(root, 2, (1,), B2)
    with pytest.raises(
        MissingError,
        match=f"no betas of subj02 .found: subj01; of the other version, {B2}: subj01, subj02.*{B3}",
    ):
        NSDRecordings(root, subjects=[2])
    with pytest.raises(ConfigError, match=f"'betas_assumehrf' cannot be read: .*{B3}, {B2}"):
        NSDRecordings(root, betas="betas_assumehrf")
    assert NSDRecordings(root).checksum() != NSDRecordings(root, [1], betas=B2).checksum()


def test_sessions_end_at_forty(root):
    empty(root, 1, (1, 41))
    with pytest.raises(DataError, match="is of session 41, expected 1 to 40"):
        NSDRecordings(root)


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "hdf5"])
def test_a_session_at_some_voxels(root, ending):
    """The file's own integers, in Fortran order of the grid."""
    values = write(root, 1, 2, ending)
    voxels = np.array([0, 7, 8, 13, 30, 31, 32, 64, 119])
    found = NSDRecordings(root).session_voxels("subj01", 2, voxels)
    assert found.dtype == np.int16 and found.flags.c_contiguous
    x, y, z = np.unravel_index(voxels, GRID, order="F")
    np.testing.assert_array_equal(found, values[:, x, y, z])


@pytest.mark.parametrize("ending", ["nii.gz", "nii", "hdf5"])
def test_volumes_of_sessions_with_gaps(root, ending):
    sessions = {session: write(root, 2, session, ending) for session in (1, 4, 6)}
    data = NSDRecordings(root)
    whole = np.concatenate(list(sessions.values())) / 300
    rows = [2000, 3, 751, 3, 750, 1499, 749]
    found = data.volumes(2, rows)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, whole[rows], rtol=1e-6)
    for session, where, volumes in data.iter_sessions(2):
        np.testing.assert_allclose(volumes, sessions[session] / 300, rtol=1e-6)
        assert where[0] == 750 * list(sessions).index(session)
    with pytest.raises(DataError, match=r"no session 2 of subj02 \(found: 1, 4, 6\)"):
        data.session_voxels(2, 2, np.array([5]))
    assert [path.name for path in data.session_files(2, 4)] == [f"betas_session04.{ending}"]


def test_silent_voxels_are_zero_in_any_row(root):
    values = write(root, 1, 1)
    values[:, 2, 2, 2] = 55
    nibabel.save(nibabel.Nifti1Image(np.moveaxis(values, 0, -1), AFFINE), betas_path(root, 1, 1))
    data = NSDRecordings(root)
    assert not data.volumes(1, [8])[0, 2, 2, 2] and data.volumes(1, [8])[0, 0, 0, 0]
    found = data.session_voxels(1, 1, np.arange(120))
    dead = np.ravel_multi_index((2, 2, 2), GRID, order="F")
    assert np.flatnonzero(~found.any(0)).tolist() == [dead]


def test_a_broken_end_is_found_whatever_is_read(root):
    write(root, 1, 1)
    path = betas_path(root, 1, 1)
    content = path.read_bytes()
    path.write_bytes(content[:-8] + b"\0\0\0\0" + content[-4:])
    for read in (
        lambda data: data.volumes(1, [0]),
        lambda data: data.session_voxels(1, 1, np.array([3])),
    ):
        with pytest.raises(
            DataError, match="betas_session01.nii.gz is damaged.*--subjects 1 --ver"
        ):
            read(NSDRecordings(root))


@pytest.mark.parametrize("ending", ["nii.gz", "hdf5"])
def test_few_rows_need_little_memory(root, ending, monkeypatch):
    monkeypatch.setattr(hdf5, "BOX", 4 << 20)
    grid = (30, 28, 26)
    values = np.random.default_rng(0).normal(0, 300, (*grid, 750)).astype(np.int16)
    labels = np.zeros(grid, np.int16)
    labels[10:20, 10:20, 10:20] = 1
    mask = root / "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels, AFFINE), mask)
    path = betas_path(root, 1, 1, ending=ending)
    if ending == "hdf5":
        with h5py.File(path, "w") as file:
            file.create_dataset("betas", data=values.T, chunks=(750, 26, 4, 4))
    else:
        nibabel.save(nibabel.Nifti1Image(values, AFFINE), path)
    data = NSDRecordings(root)
    data.affine(1)
    tracemalloc.start()
    found = data.volumes(1, [700, 2])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found, np.moveaxis(values, -1, 0)[[700, 2]] / 300, rtol=1e-6)
    assert values.nbytes > 32e6 and peak < 16e6


def test_ceiling_from_repeats_where_no_map_is(root, design):
    """Without ncsnr.nii.gz, by NSD's definition on all trials in memory."""
    sessions = [write(root, 1, session) for session in (1, 3)]
    data = NSDRecordings(root)
    z = np.concatenate([(one - one.mean(0)) / one.std(0, ddof=1) for one in sessions])
    slots = np.concatenate([design[0][:750], design[0][1500:2250]])
    noise = np.mean(
        [z[slots == m].var(0, ddof=1) for m in np.unique(slots) if (slots == m).sum() > 1], axis=0
    )
    power = np.maximum(1 - noise, 0) / noise
    inside = data.mask(1)
    found = data.noise_ceiling(1, [3, 1])
    np.testing.assert_allclose(found[inside], (power / (power + 2 / 3))[inside], atol=1e-4)
    nibabel.save(
        nibabel.Nifti1Image(np.full(GRID, 0.5, np.float32), AFFINE),
        betas_path(root, 1, 1).with_name("ncsnr.nii.gz"),
    )
    np.testing.assert_allclose(data.noise_ceiling(1, 3), 0.25 / (0.25 + 1 / 3), rtol=1e-6)


def test_masks_without_voxels(root):
    empty(root, 1, (1,))
    path = root / "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.full(GRID, -1, np.int16), AFFINE), path)
    with pytest.raises(DataError, match="0 voxels above 0, expected .*--subjects 1 --verify"):
        NSDRecordings(root).mask(1)


# ---- crops


@pytest.mark.parametrize(
    "box, size, crop, expected",
    [
        # 640 x 480, 80 pixels cut on either side: what is left is 480 x 480
        ([200, 120, 240, 120], (640, 480), (0, 0, 0.125, 0.125), (0.25, 0.25, 0.75, 0.5)),
        ([40, 120, 120, 240], (640, 480), (0, 0, 0.125, 0.125), (0, 0.25, 1 / 6, 0.75)),
        ([500, 0, 140, 48], (640, 480), (0, 0, 0.125, 0.125), (0.875, 0, 1, 0.1)),
        ([0, 0, 640, 480], (640, 480), (0, 0, 0.125, 0.125), (0, 0, 1, 1)),
        # 10 of 90 pixels are left, 8 of 88 are too few
        ([0, 0, 90, 480], (640, 480), (0, 0, 0.125, 0.125), (0, 0, 10 / 480, 1)),
        ([0, 0, 88, 480], (640, 480), (0, 0, 0.125, 0.125), None),
        ([0, 0, 80, 480], (640, 480), (0, 0, 0.125, 0.125), None),
        # upright: 80 pixels cut at the top and at the bottom
        ([0, 60, 480, 100], (480, 640), (0.125, 0.125, 0, 0), (0, 0, 1, 1 / 6)),
        # cut on one side only
        ([160, 0, 320, 240], (640, 480), (0, 0, 0, 0.25), (1 / 3, 0, 1, 0.5)),
        # corner: 40 % of the width and 20 % of the height are left, 8 % in all
        ([0, 0, 200, 100], (400, 400), (0.2, 0, 0.3, 0), None),
    ],
)
def test_boxes_in_the_crop_by_hand(box, size, crop, expected):
    found = stimuli.crop_box(box, size, crop)
    if expected is None:
        assert found is None
    else:
        np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.fixture
def annotated(root, design):
    """One picture of subject 1 with a box, as NSD's table and COCO's files have them."""
    empty(root, 1, (1,))
    nsd_id = int(design[1][0, design[0][0] - 1] - 1)
    table = pd.DataFrame(
        {
            "cocoId": [262145],
            "cocoSplit": ["train2017"],
            "cropBox": ["(0, 0, 0.1671875, 0.1671875)"],  # as NSD writes it, 640 x 426
            "nsdId": [nsd_id],
        }
    )
    path = root / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
    table.to_csv(path)
    folder = root / "nsddata_stimuli/stimuli/nsd/annotations"
    folder.mkdir(parents=True)
    content = {
        "images": [{"id": 262145, "width": 640, "height": 426}],
        "categories": [{"id": 18, "name": "dog", "supercategory": "animal"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 262145,
                "category_id": 18,
                "bbox": [107, 0, 213, 213.0],
                "segmentation": [[0, 0, 1, 1]],
            },
        ],
    }
    (folder / "instances_train2017.json").write_text(json.dumps(content))
    captions = {"annotations": [{"image_id": 262145, "caption": " A dog. "}]}
    (folder / "captions_train2017.json").write_text(json.dumps(captions))
    return root, nsd_id, path


def test_crop_box_as_nsd_writes_it(annotated):
    """0.1671875 of 640 are 107 pixels; 426 of 640 are left, a square of 426."""
    root, nsd_id, _ = annotated
    data = NSDRecordings(root)
    (found,) = data.objects(nsd_id)
    assert found["category"] == "dog" and found["supercategory"] == "animal"
    np.testing.assert_allclose(found["box"], (0, 0, 0.5, 0.5), atol=1e-12)
    assert data.captions(nsd_id) == ["A dog."]


@pytest.mark.parametrize("text", ["(0, 0, 0.5, 0.5)", "(0, 0, 0.1)", "none", "(-1, 0, 0, 0)", ""])
def test_broken_crop_boxes(annotated, text):
    root, nsd_id, path = annotated
    pd.read_csv(path, index_col=0).assign(cropBox=text).to_csv(path)
    with pytest.raises(DataError, match="cropBox .* expected fractions .top, bottom, left, right"):
        NSDRecordings(root).objects(nsd_id)


def test_pictures_that_the_table_lacks_or_repeats(annotated):
    root, nsd_id, path = annotated
    with pytest.raises(DataError, match=f"has no row of image {nsd_id + 1}"):
        NSDRecordings(root).objects(nsd_id + 1)
    table = pd.read_csv(path, index_col=0)
    pd.concat([table, table]).to_csv(path)
    with pytest.raises(DataError, match=f"several rows of image {nsd_id}"):
        NSDRecordings(root).captions(nsd_id)


def test_stimuli_that_are_no_hdf5(annotated):
    root, nsd_id, _ = annotated
    (root / "nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5").write_bytes(b"no")
    with pytest.raises(DataError, match="nsd_stimuli.hdf5 cannot be read.*imgBrick"):
        NSDRecordings(root).image(nsd_id)


def test_a_session_repaired_in_place_is_another_data_set(root):
    """The size of a file tells nothing about a byte that was wrong."""
    write(root, 1, 1, ending="hdf5")
    before = NSDRecordings(root)
    marks = before.checksum(), before.session_identity("subj01", 1)
    path = betas_path(root, 1, 1, ending="hdf5")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    after = NSDRecordings(root)
    assert after.checksum() != marks[0] and after.session_identity("subj01", 1) != marks[1]
