"""LAION-fMRI in its published layout, as a table in one command."""

import io
import json
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from own_data import contents, write_nifti
from PIL import Image
from typer.testing import CliRunner

from neurovl.cli.options import app
from neurovl.errors import DataError, MissingError, NeurovlError
from neurovl.recordings.bids import convert_laion
from neurovl.recordings.bids.laion_to_table import read_partition
from neurovl.recordings.opening import open_recordings
from neurovl.tokens.store import TokenStore

GRID, AFFINE = (6, 6, 5), np.diag([1.778, 1.778, 1.778, 1])
SHARED = [f"shared_12rep_LAION_cluster_{k}_i0.jpg" for k in range(6)]
OOD = ["shared_4rep_OOD_shape_cat.png"]
HOLE = (2, 3, 2)  # a voxel of sub-01 that is NaN in session 2


def unique(subject):
    return [f"unique_LAION_{subject}_{k}.jpg" for k in range(4)]


def grey(name):
    """The grey level of a picture."""
    return 20 * (SHARED + OOD + unique("sub-01") + unique("sub-03")).index(name) + 10


@pytest.fixture
def laion(tmp_path, monkeypatch):
    """Two subjects, two sessions; and a package beside that has two splits. Returns the folder and all betas."""
    root, truth, rng = tmp_path / "laion", {}, np.random.default_rng(0)
    for subject in ("sub-01", "sub-03"):
        place = root / "derivatives/glmsingle-tedana" / subject
        mask = np.zeros(GRID, np.uint8)
        mask[1:5, 1:5, 1:4] = 1
        stem = f"{subject}_task-images_space-T1w"
        write_nifti(place / f"{stem}_desc-meanR2gt15mask_mask.nii.gz", mask, AFFINE)
        write_nifti(place / f"{stem}_desc-Noiseceiling4rep_statmap.nii.gz", mask, AFFINE)
        area = np.zeros(GRID, np.uint8)
        area[2, 2] = 1
        name = f"{subject}_space-T1w_res-1pt8_label-hV4_mask.nii.gz"
        write_nifti(root / "derivatives/rois" / subject / "retinotopy" / name, area, AFFINE)
        for session in ("ses-01", "ses-02"):
            labels = rng.permutation([*SHARED, *OOD, *unique(subject)]).tolist()
            betas = rng.normal(0, 1, (*GRID, len(labels))).astype(np.float32)
            if (subject, session) == ("sub-01", "ses-02"):
                betas[HOLE] = np.nan
            stem = f"{subject}_{session}_task-images"
            for kind, volume in (
                ("stat-effect_desc-SingletrialBetas", betas),
                ("stat-rsquare_desc-R2", betas[..., 0]),
                ("desc-Noiseceiling", betas[..., 0]),
            ):
                write_nifti(
                    place / session / f"func/{stem}_space-T1w_{kind}_statmap.nii.gz", volume, AFFINE
                )
            table = pd.DataFrame({"session": session, "run": 1, "beta_index": range(len(labels))})
            table["label"] = labels
            table = table.sample(frac=1, random_state=1)  # the column says the order
            table.to_csv(
                place / session / f"func/{stem}_desc-SingletrialBetas_trials.tsv",
                sep="\t",
                index=False,
            )
            truth[subject, session] = dict(zip(labels, np.moveaxis(betas, -1, 0), strict=True))
    names = [*SHARED, *OOD, *unique("sub-01"), *unique("sub-03")]
    (root / "stimuli").mkdir()
    pd.DataFrame({"image_name": names, "dataset": "LAION-natural"}).to_csv(
        root / "stimuli/task-images_metadata.csv", index=False
    )
    with h5py.File(root / "stimuli/task-images_stimuli.h5", "w") as file:
        images = file.create_dataset("images", len(names), h5py.vlen_dtype(np.uint8))
        for k, name in enumerate(names):
            content = io.BytesIO()
            Image.new("RGB", (8, 8), (grey(name),) * 3).save(content, "jpeg")
            images[k] = np.frombuffer(content.getvalue(), np.uint8)
    captions = [(n, k, "human", f"{n}, {k}") for n in names for k in (1, 2)]
    captions += [(n, 0, "ai", "written by a machine") for n in SHARED]
    pd.DataFrame(captions, columns=["image_name", "caption_idx", "source", "caption"]).to_csv(
        root / "stimuli/task-images_desc-captions.csv", index=False
    )
    package = tmp_path / "site/laion_fmri"
    partitions = {
        "shared/tau": (SHARED[:4], SHARED[4:]),
        "shared/ood": (SHARED, OOD),
        "sub-03/tau": ([*SHARED[:3], *unique("sub-03")[1:]], [*SHARED[3:], unique("sub-03")[0]]),
    }
    for name, (train, test) in partitions.items():
        path = package / f"splits/data/{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        variant = {"variant_id": 0, "train_ids": train, "test_ids": test}
        path.write_text(json.dumps({"name": path.stem, "variants": [variant]}))
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    return root, truth


def run(*words):
    done = CliRunner().invoke(app, [*map(str, words)])
    assert done.exit_code == 0, done.output + repr(done.exception)


def test_one_command_from_the_published_folder_to_tokens(laion, tmp_path, caplog):
    root, truth = laion
    before, table = contents(root), tmp_path / "table"
    rois = "hV4=derivatives/rois/{subject}/retinotopy/*_label-hV4_mask.nii.gz"
    with caplog.at_level("INFO", "neurovl"):
        run(
            "convert",
            "laion",
            "--data",
            root,
            "--out",
            table,
            "--split",
            "shared/tau",
            "--roi",
            rois,
        )
    assert contents(root) == before and not list(tmp_path.glob(".table*"))
    assert "20 trials of pictures that it does not name are left out" in caplog.text
    data = open_recordings(table)
    assert data.subjects == ["sub-01", "sub-03"] and data.name == "LAION-fMRI"
    assert not data.publish_images and data.rois(1)["hV4"].sum() == 5
    test = {name.removesuffix(".jpg") for name in SHARED[4:]}
    assert set(data.trials.image_id[data.trials.split == "test"]) == test
    for subject in data.subjects:
        own, volumes = data.subject_trials(subject), data.volumes(subject)
        assert len(own) == 12 and data.mask(subject).sum() == 48
        for row, volume in zip(own.itertuples(), volumes, strict=True):
            expected = truth[subject, f"ses-{row.session:02d}"][f"{row.image_id}.jpg"]
            np.testing.assert_array_equal(volume, np.nan_to_num(expected))
    for name in SHARED:
        image_id = name.removesuffix(".jpg")
        assert abs(data.image(image_id).getpixel((4, 4))[0] - grey(name)) <= 2
        assert data.captions(image_id) == [f"{name}, 1", f"{name}, 2"]
    (tmp_path / "own.yaml").write_text("preprocessing: {patches: [3]}\n")
    run(
        "preprocess", "--data", table, "--out", tmp_path / "run", "--profile", tmp_path / "own.yaml"
    )
    store = TokenStore(tmp_path / "run/tokens")
    assert store.missing_voxels == {"sub-01": {"voxels": 1, "of": 48, "sessions": {"2": 1}}}
    hole = np.ravel_multi_index(HOLE, GRID)
    assert hole in store.region and not store.measured(1)[store.region == hole].any()


def test_a_subject_s_pool_takes_that_subject_alone(laion, tmp_path):
    root, _ = laion
    data = open_recordings(convert_laion(root, tmp_path / "table", "sub-03/tau"))
    assert data.subjects == ["sub-03"] and data.trials.image_id.nunique() == 10
    test = {name.removesuffix(".jpg") for name in [*SHARED[3:], unique("sub-03")[0]]}
    assert set(data.trials.image_id[data.trials.split == "test"]) == test


def test_pictures_out_of_distribution_and_the_path_of_a_split(laion, tmp_path):
    root, _ = laion
    path = tmp_path / "site/laion_fmri/splits/data/shared/ood.json"
    data = open_recordings(convert_laion(root, tmp_path / "table", str(path)))
    name = OOD[0].removesuffix(".png")
    assert set(data.trials.image_id[data.trials.split == "test"]) == {name}
    assert abs(data.image(name).getpixel((4, 4))[0] - grey(OOD[0])) <= 2  # JPEG under the name .png


def test_without_the_archive_of_pictures(laion, tmp_path):
    root, _ = laion
    (root / "stimuli/task-images_stimuli.h5").unlink()
    data = open_recordings(convert_laion(root, tmp_path / "table", "shared/tau"))
    assert not data.has_images and len(data.captions(SHARED[0].removesuffix(".jpg"))) == 2


def test_a_split_that_is_nowhere(laion, tmp_path, monkeypatch):
    with pytest.raises(MissingError, match="--split shared/tau9 is no file, expected a split"):
        read_partition("shared/tau9")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        MissingError, match="laion-fmri is not installed.*pip install 'laion-fmri @"
    ):
        read_partition("shared/tau")


def spoiled(path, change):
    table = pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", dtype=str)
    change(table).to_csv(path, sep="\t" if path.suffix == ".tsv" else ",", index=False)


TRIALS = "derivatives/glmsingle-tedana/sub-01/ses-01/func/sub-01_ses-01_task-images_desc-SingletrialBetas_trials.tsv"


@pytest.mark.parametrize(
    "name, change, message",
    [
        (TRIALS, lambda t: t.rename(columns={"label": "picture"}), "expected also label"),
        (TRIALS, lambda t: t[1:], "'beta_index', expected the position"),
        (TRIALS, lambda t: t.assign(beta_index="0"), "'beta_index', expected the position"),
        (
            "stimuli/task-images_metadata.csv",
            lambda t: t[1:],
            "^task-images_stimuli.h5 holds 15 pictures and .* names 14 in 14 rows",
        ),
        (
            "stimuli/task-images_metadata.csv",
            lambda t: t.replace(SHARED[0], "other.jpg"),
            f"^task-images_metadata.csv has no picture '{SHARED[0]}'",
        ),
        (
            "stimuli/task-images_desc-captions.csv",
            lambda t: t.replace("ai", "gpt"),
            "the source 'gpt', expected human or ai",
        ),
    ],
)
def test_what_does_not_fit_is_refused(laion, tmp_path, name, change, message):
    root, _ = laion
    spoiled(root / name, change)
    with pytest.raises(DataError, match=message):
        convert_laion(root, tmp_path / "table", "shared/tau")
    assert not list(tmp_path.glob("*table*"))


def test_broken_archives_and_splits_are_refused(laion, tmp_path):
    root, _ = laion
    (root / "stimuli/task-images_stimuli.h5").write_bytes(b"no HDF5")
    with pytest.raises(DataError, match="task-images_stimuli.h5 cannot be read"):
        convert_laion(root, tmp_path / "table", "shared/tau")
    path = tmp_path / "shared.json"
    for text in ("{}", "[", '{"variants": [{"train_ids": ["a"]}]}', '{"variants": []}'):
        path.write_text(text)
        with pytest.raises(DataError, match="no split of LAION-fMRI"):
            read_partition(str(path))
    path.write_text('{"variants": [{"train_ids": ["a", "b"], "test_ids": ["b"]}]}')
    with pytest.raises(
        DataError, match="1 pictures for training and for testing, the first is 'b'"
    ):
        read_partition(str(path))


def test_a_mask_that_is_not_there(laion, tmp_path):
    root, _ = laion
    for path in root.rglob("*meanR2gt15mask_mask.nii.gz"):
        path.unlink()
    with pytest.raises(NeurovlError, match="names no file of sub-01"):
        convert_laion(root, tmp_path / "table", "shared/tau")
    shutil.rmtree(root / "derivatives/glmsingle-tedana")
    with pytest.raises(MissingError, match="no derivative 'glmsingle-tedana'"):
        convert_laion(root, tmp_path / "table", "shared/tau")
    assert not list(tmp_path.glob("*table*"))
