"""Opening data sets: bad input is named, one's own table is read on any grid."""

import json
import os
import shutil

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurovl.errors import ConfigError, DataError, MissingError, NeurovlError
from neurovl.recordings import open_recordings

BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR"
FIRST = f"{BETAS}/betas_session01.nii.gz"
MASK = "nsddata/ppdata/subj01/func1pt8mm/roi/nsdgeneral.nii.gz"


@pytest.fixture
def nsd(tiny_nsd, tmp_path):
    """A copy of the simulated folder whose files may be replaced (linked: never write into one)."""
    return shutil.copytree(tiny_nsd, tmp_path / "nsd", copy_function=os.link)


def replace(path, change, dtype=None):
    """Write a changed copy of a NIfTI file in its place."""
    image = nibabel.load(path)
    data = change(np.asarray(image.dataobj).astype(dtype or image.get_data_dtype()))
    path.unlink()
    nibabel.save(nibabel.Nifti1Image(data, image.affine), path)


def nans(betas, mask):
    betas[(*np.argwhere(mask)[3], 20)] = np.nan
    return betas


def silent(betas, mask, share):
    voxels = np.argwhere(mask)[: int(np.ceil(share * mask.sum()))]
    betas[tuple(voxels.T)] = 77
    return betas


def read_all(root):
    data = open_recordings(root, subjects=[1])
    return data, data.volumes(1)


def test_cut_short_gzip(nsd):
    content = (nsd / FIRST).read_bytes()
    (nsd / FIRST).unlink()
    (nsd / FIRST).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="betas_session01.nii.gz ends early.*cut short.*--verify"):
        read_all(nsd)


def test_cut_short_hdf5(nsd):
    (nsd / FIRST).unlink()
    path = nsd / FIRST.replace("nii.gz", "hdf5")
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="betas_session01.hdf5 cannot be read.*--verify"):
        read_all(nsd)


def test_no_nifti_at_all(nsd):
    (nsd / FIRST).unlink()
    (nsd / FIRST).write_bytes(b"this is no gzip file")
    with pytest.raises(DataError, match="betas_session01.nii.gz"):
        read_all(nsd)


def test_749_volumes(nsd):
    replace(nsd / FIRST, lambda betas: betas[..., :749])
    message = (
        r"betas_session01.nii.gz holds 749 volumes, expected 750 \(nsd_expdesign.mat\); the file "
        "may be cut short: neurovl download nsd --subjects 1 --verify"
    )
    with pytest.raises(DataError, match=message):
        read_all(nsd)


def test_grid_of_the_mask(nsd):
    replace(nsd / FIRST, lambda betas: betas[1:])
    with pytest.raises(DataError, match=r"grid \(13, 17, 14\), expected \(14, 17, 14\)"):
        read_all(nsd)


def test_not_finite(nsd):
    mask = nibabel.load(nsd / MASK).get_fdata() > 0
    replace(nsd / FIRST, lambda betas: nans(betas, mask), np.float32)
    with pytest.raises(DataError, match="1 values inside the mask that are not finite"):
        read_all(nsd)


def test_not_finite_outside_is_fine(nsd):
    mask = nibabel.load(nsd / MASK).get_fdata() > 0
    replace(nsd / FIRST, lambda betas: nans(betas, ~mask), np.float32)
    assert np.isfinite(read_all(nsd)[1]).all()


def test_few_constant_voxels_are_silenced(nsd, caplog):
    mask = nibabel.load(nsd / MASK).get_fdata() > 0
    replace(nsd / FIRST, lambda betas: silent(betas, mask, 0.1))
    data, betas = read_all(nsd)
    inside = betas[:, data.mask(1)]
    expected = int(np.ceil(0.1 * mask.sum()))
    assert (~inside.any(0)).sum() == expected
    assert f"{expected} of {mask.sum()} voxels constant" in caplog.text


def test_many_constant_voxels_are_refused(nsd):
    mask = nibabel.load(nsd / MASK).get_fdata() > 0
    replace(nsd / FIRST, lambda betas: silent(betas, mask, 0.3))
    with pytest.raises(DataError, match="constant within the session, expected at most 20%"):
        read_all(nsd)


@pytest.mark.parametrize(
    "name, action, message",
    [
        ("nsddata/experiments/nsd/nsd_expdesign.mat", None, "nsd_expdesign.mat is missing"),
        ("nsddata/experiments/nsd/nsd_expdesign.mat", b"no", "nsd_expdesign.mat cannot be read"),
        (MASK, None, "nsdgeneral.nii.gz is missing: neurovl download nsd --subjects 1"),
        ("nsddata_betas", None, "holds no betas of subj01 .found: none"),
        (
            "nsddata_stimuli/stimuli/nsd/annotations/captions_train2017.json",
            b'{"annotations": [',
            "no COCO annotation file.*cut short",
        ),
        (
            "nsddata_stimuli/stimuli/nsd/annotations/captions_train2017.json",
            None,
            "captions_train2017.json is missing",
        ),
        ("nsddata_stimuli/stimuli/nsd/nsd_stimuli.hdf5", None, "no picture of image"),
        ("nsddata/experiments/nsd/nsd_stim_info_merged.csv", None, "merged.csv is missing"),
        ("nsddata/experiments/nsd/nsd_stim_info_merged.csv", b"a,b\n1,2\n", "not the columns"),
    ],
)
def test_broken_nsd(nsd, name, action, message):
    path = nsd / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if action is not None:
        path.write_bytes(action)
    with pytest.raises(NeurovlError, match=message):
        data, _ = read_all(nsd)
        for image_id in data.trials.image_id.iloc[:40]:
            data.captions(image_id)
            data.image(image_id)


def test_both_files_give_the_same_volumes(nsd):
    _, from_nifti = read_all(nsd)
    (nsd / FIRST).unlink()
    np.testing.assert_array_equal(read_all(nsd)[1], from_nifti)


def test_an_interrupted_simulation_is_refused(nsd):
    mark = json.loads((nsd / "SIMULATED.json").read_text())
    (nsd / "SIMULATED.json").unlink()
    (nsd / "SIMULATED.json").write_text(json.dumps({**mark, "complete": False}))
    with pytest.raises(DataError, match="interrupted.*goes on where it stopped"):
        open_recordings(nsd)


def test_without_the_mark_it_is_nsd(nsd):
    (nsd / "SIMULATED.json").unlink()
    data = open_recordings(nsd)
    assert data.name == "nsd" and not data.simulated and not data.publish_images


def test_the_crop_applies_to_boxes(nsd):
    """A picture that lost a quarter on the left; boxes by hand."""
    table_path = nsd / "nsddata/experiments/nsd/nsd_stim_info_merged.csv"
    table = pd.read_csv(table_path, index_col=0)
    nsd_id = next(
        int(i) for i in open_recordings(nsd).trials.image_id if table.cocoSplit[i] == "train2017"
    )
    table.loc[nsd_id, "cropBox"] = "(0, 0, 0.25, 0)"
    table_path.unlink()
    table.to_csv(table_path)
    path = nsd / "nsddata_stimuli/stimuli/nsd/annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    one = {"image_id": int(table.cocoId[nsd_id]), "category_id": 18, "iscrowd": 0}
    content["annotations"] = [
        {**one, "id": 1, "bbox": [400, 120, 80, 240]},
        {**one, "id": 2, "bbox": [100, 0, 120, 480]},  # half of it is left
        {**one, "id": 3, "bbox": [0, 0, 150, 480]},  # cut away
    ]
    path.unlink()
    path.write_text(json.dumps(content))
    found = open_recordings(nsd).objects(nsd_id)
    assert [entry["category"] for entry in found] == ["dog", "dog"]
    np.testing.assert_allclose(found[0]["box"], [0.5, 0.25, 2 / 3, 0.75])
    np.testing.assert_allclose(found[1]["box"], [0, 0, 0.125, 1])


def test_subjects_rows_and_folds(tiny_nsd):
    data = open_recordings(tiny_nsd, subjects="2")
    assert data.subjects == ["subj02"] and set(data.trials.subject) == {"subj02"}
    assert data.subject_name(2) == data.subject_name("2") == data.subject_name("subj02") == "subj02"
    with pytest.raises(DataError, match="no subject 1 .*choose from subj02"):
        data.volumes(1)
    with pytest.raises(DataError, match="row 750 was asked for"):
        data.volumes(2, [750])
    with pytest.raises(MissingError, match="no betas of subj05.*download nsd --subjects 5"):
        open_recordings(tiny_nsd, subjects=[5])
    with pytest.raises(ConfigError, match="fold 1"):
        open_recordings(tiny_nsd, fold=1)
    (session, rows, volumes), *rest = data.iter_sessions(2)
    assert session == 1 and not rest and rows.tolist() == list(range(750))
    np.testing.assert_array_equal(volumes[[4, 9]], data.volumes(2, [4, 9]))
    for image_id in ("dog", -1, 73000):
        with pytest.raises(DataError, match="no nsdId"):
            data.image(image_id)


def test_checksum_follows_the_data(nsd):
    before = open_recordings(nsd).checksum()
    assert before == open_recordings(nsd).checksum()
    assert before != open_recordings(nsd, subjects=[1]).checksum()


def test_no_data_set(tmp_path):
    with pytest.raises(MissingError, match="expected nsddata/ .*trials.tsv"):
        open_recordings(tmp_path)
    with pytest.raises(MissingError, match="does not exist.*neurovl simulate"):
        open_recordings(tmp_path / "nowhere")


# ---- one's own table


@pytest.fixture
def own(tmp_path):
    """Two subjects on two grids: one 4-D scaled int16 file, one with a 3-D file per trial."""
    rng = np.random.default_rng(0)
    root = tmp_path / "own"
    (root / "stimuli").mkdir(parents=True)
    rows, truth = [], {}
    for subject, shape in (("sub-01", (5, 6, 4)), ("sub-02", (7, 5, 3))):
        affine = np.diag([3.0, 3, 3, 1])
        data = rng.normal(0, 2, (6, *shape)).astype(np.float32)
        mask = np.zeros(shape, np.uint8)
        mask[1:4, 1:4, 1:3] = 1
        nibabel.save(nibabel.Nifti1Image(mask, affine), root / f"{subject}_mask.nii")
        region = np.zeros(shape, np.uint8)
        region[2, 2, 2] = 1
        nibabel.save(nibabel.Nifti1Image(region, affine), root / f"{subject}_ffa.nii")
        if subject == "sub-01":
            image = nibabel.Nifti1Image(np.moveaxis(data, 0, -1), affine)
            image.set_data_dtype(np.int16)  # nibabel chooses slope and intercept
            nibabel.save(image, root / "all.nii.gz")
            data = np.moveaxis(nibabel.load(root / "all.nii.gz").get_fdata(), -1, 0)
        for trial in range(6):
            name, index = "all.nii.gz", trial
            if subject == "sub-02":
                name, index = f"trial{trial}.nii.gz", ""
                nibabel.save(nibabel.Nifti1Image(data[trial], affine), root / name)
            picture = f"pic{trial // 2}"
            split = "test" if picture == "pic2" else "train"
            rows.append([subject, 1 + trial // 3, name, index, picture, trial % 2 + 1, split])
        truth[subject] = data
    columns = "subject session volume index image_id repeat split".split()
    pd.DataFrame(rows, columns=columns).to_csv(root / "trials.tsv", sep="\t", index=False)
    masks = [[s, f"{s}_mask.nii", f"{s}_ffa.nii"] for s in truth]
    pd.DataFrame(masks, columns=["subject", "mask", "FFA"]).to_csv(
        root / "subjects.tsv", sep="\t", index=False
    )
    pd.DataFrame(
        [["pic0", "a dog."], ["pic0", "a dog on grass."], ["pic1", "a cat."]],
        columns=["image_id", "caption"],
    ).to_csv(root / "captions.tsv", sep="\t", index=False)
    for number in range(3):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(root / f"stimuli/pic{number}.png")
    about = {"name": "mine", "units": "percent signal change", "licence": "CC0", "terms": "none"}
    (root / "dataset.json").write_text(json.dumps(about))
    return root, truth


def test_table(own):
    root, truth = own
    data = open_recordings(root)
    assert data.name == "mine" and data.licence == "CC0" and not data.simulated
    assert data.subjects == ["sub-01", "sub-02"] and data.subject_name(2) == "sub-02"
    for subject, expected in truth.items():
        np.testing.assert_allclose(data.volumes(subject), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(data.volumes(subject, [4, 0]), expected[[4, 0]], rtol=1e-5)
        assert data.mask(subject).sum() == 18 and data.rois(subject)["FFA"].sum() == 1
        assert data.affine(subject)[0, 0] == 3
        assert data.noise_ceiling(subject) is None
    trials = data.subject_trials(1)
    assert trials["repeat"].tolist() == [0, 1] * 3 and trials.session.tolist() == [1] * 3 + [2] * 3
    assert trials.split.tolist() == ["train"] * 4 + ["test"] * 2
    assert data.captions("pic0") == ["a dog.", "a dog on grass."] and data.captions("pic2") == []
    assert data.image("pic2").getpixel((0, 0)) == (80, 0, 0)


def test_table_in_another_orientation(own):
    """A file stored right to left holds the same brain."""
    root, truth = own
    data = nibabel.load(root / "all.nii.gz").get_fdata()  # (x, y, z, trials), 3 mm, from the left
    # stored as (z, x from the right, y), big-endian NIfTI-2
    affine = np.array([[0, -3, 0, 12], [0, 0, 3, 0], [3, 0, 0, 0], [0, 0, 0, 1.0]])
    swapped = nibabel.Nifti2Image(data[::-1].transpose(2, 0, 1, 3).astype(">f4"), affine)
    nibabel.save(swapped, root / "all.nii.gz")
    np.testing.assert_allclose(open_recordings(root).volumes(1), truth["sub-01"], atol=1e-4)


def edit(column, value, row=0, table="trials.tsv"):
    def change(root):
        frame = pd.read_csv(root / table, sep="\t", dtype=str, keep_default_na=False)
        frame.loc[row, column] = value
        frame.to_csv(root / table, sep="\t", index=False)

    return change


def shifted(root):
    image = nibabel.load(root / "all.nii.gz")
    affine = image.affine.copy()
    affine[0, 3] += 30
    nibabel.save(nibabel.Nifti1Image(image.get_fdata(), affine), root / "all.nii.gz")


def outside_link(root):
    (root.parent / "secret.nii").write_bytes(b"x")
    (root / "link.nii").symlink_to(root.parent / "secret.nii")
    edit("volume", "link.nii")(root)


def cut(root):
    content = (root / "all.nii.gz").read_bytes()
    (root / "all.nii.gz").write_bytes(content[: len(content) // 2])


def no_column(root):
    frame = pd.read_csv(root / "trials.tsv", sep="\t").drop(columns="split")
    frame.to_csv(root / "trials.tsv", sep="\t", index=False)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (edit("volume", "nothing.nii.gz"), "names 'nothing.nii.gz', which is missing"),
        (edit("volume", "../out.nii.gz"), "lies outside the data folder"),
        (edit("volume", "/etc/passwd"), "lies outside the data folder"),
        (edit("mask", "../mask.nii", table="subjects.tsv"), "lies outside the data folder"),
        (outside_link, "lies outside the data folder"),
        (edit("index", "6"), "index 6 was expected on its fourth axis"),
        (edit("index", "-1"), "expected a whole number from 0"),
        (edit("index", ""), "holds 6 volumes and trials.tsv gives no index"),
        (edit("split", "validation"), "split validation, expected train or test"),
        (edit("split", "test"), "both train and test, the first is image 'pic0'"),
        (edit("image_id", "pic9"), "image 'pic9' has no picture: expected stimuli/pic9.png"),
        (edit("image_id", "../pic0"), "has no picture"),
        (edit("image_id", ""), "no image_id in row 2"),
        (edit("volume", "sub-02_ffa.nii"), r"grid \(7, 5, 3\), expected \(5, 6, 4\)"),
        (edit("mask", "", table="subjects.tsv"), "no mask for sub-01"),
        (edit("subject", "sub-09", table="subjects.tsv"), "no mask for sub-01"),
        (shifted, "lies 30.0 mm away"),
        (cut, "all.nii.gz.*cut short"),
        (no_column, "expected also split"),
        (lambda root: (root / "subjects.tsv").unlink(), "subjects.tsv is missing"),
        (lambda root: (root / "dataset.json").write_text("{"), "dataset.json is not valid JSON"),
        (lambda root: (root / "trials.tsv").write_text(""), "no table"),
        (lambda root: (root / "stimuli/pic0.png").write_text("x"), "not a readable picture"),
    ],
)
def test_broken_table(own, spoil, message):
    root, _ = own
    spoil(root)
    with pytest.raises(NeurovlError, match=message):
        data = open_recordings(root)
        data.volumes("sub-01")
        for image_id in data.trials.image_id.unique():
            data.image(image_id)


def test_table_without_pictures(own):
    root, _ = own
    shutil.rmtree(root / "stimuli")
    data = open_recordings(root)
    assert not data.has_images and data.captions("pic1") == ["a cat."]
    with pytest.raises(MissingError, match="no pictures"):
        data.image("pic1")


def test_headers_that_break_readers(shared_data, tmp_path):
    """Real files: big-endian, NIfTI-2, sform only; each is volume and (thresholded) mask."""
    names = ("anatomical.nii", "example_nifti2.nii.gz", "functional.nii", "someones_epi.nii.gz")
    trials, subjects = [], []
    for number, name in enumerate(names, 1):
        image = nibabel.load(shared_data / "nifti" / name)
        shutil.copy(shared_data / "nifti" / name, tmp_path / name)
        data = image.get_fdata().reshape(*image.shape[:3], -1)
        mask = (data[..., 0] > np.percentile(data[..., 0], 70)).astype(np.uint8)
        nibabel.save(nibabel.Nifti1Image(mask, image.affine), tmp_path / f"mask{number}.nii")
        index = "0" if image.ndim == 4 else ""
        trials.append([f"subj{number:02d}", 1, name, index, f"pic{number}", 0, "train"])
        subjects.append([f"subj{number:02d}", f"mask{number}.nii"])
    columns = "subject session volume index image_id repeat split".split()
    pd.DataFrame(trials, columns=columns).to_csv(tmp_path / "trials.tsv", sep="\t", index=False)
    pd.DataFrame(subjects, columns=["subject", "mask"]).to_csv(
        tmp_path / "subjects.tsv", sep="\t", index=False
    )
    data = open_recordings(tmp_path)
    for number, name in enumerate(names, 1):
        image = nibabel.load(tmp_path / name)
        expected = image.get_fdata().reshape(*image.shape[:3], -1)[..., 0]
        volumes = data.volumes(number)
        assert volumes.dtype == np.float32
        np.testing.assert_allclose(volumes[0], expected, rtol=1e-5)


def test_hdf5_is_float_free(tiny_nsd):
    """Volumes are float32 percent signal change although files hold int16 times 300."""
    data = open_recordings(tiny_nsd)
    with h5py.File(tiny_nsd / FIRST.replace("nii.gz", "hdf5")) as file:
        whole = file["betas"][10].T
    volume = data.volumes(1, [10])[0]
    assert volume.dtype == np.float32
    np.testing.assert_array_equal(np.rint(volume * 300).astype(int), whole)
