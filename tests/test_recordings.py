"""Opening data sets: bad input is named, one's own table is read on any grid."""

import json
import os
import shutil

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest

from neurovl.errors import ConfigError, DataError, MissingError, NeurovlError
from neurovl.recordings.opening import open_recordings

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
    data = open_recordings(nsd, subjects=[1], max_missing_voxels=0)
    with pytest.raises(DataError, match="1 values inside the mask that are not finite"):
        data.volumes(1, [0])


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
        i
        for i in map(int, open_recordings(nsd).trials.image_id)
        if table.cocoSplit[i] == "train2017"
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


def test_hdf5_is_float_free(tiny_nsd):
    """Volumes are float32 percent signal change although files hold int16 times 300."""
    data = open_recordings(tiny_nsd)
    with h5py.File(tiny_nsd / FIRST.replace("nii.gz", "hdf5")) as file:
        whole = file["betas"][10].T
    volume = data.volumes(1, [10])[0]
    assert volume.dtype == np.float32
    np.testing.assert_array_equal(np.rint(volume * 300).astype(int), whole)
