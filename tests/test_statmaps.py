"""Maps for other programs: BIDS names, the JSON beside each, whole data sets or none."""

import json
from types import SimpleNamespace

import nibabel
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from neurovl.cli import app
from neurovl.errors import DataError, MissingError
from neurovl.hub.statmaps import export_maps, sidecar, statmap_name
from neurovl.localization.heat import Heat

AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (
            ("subj01", "dog", "gradcam", "func1pt8"),
            "sub-01_space-func1pt8_contrast-dog_stat-gradcam",
        ),
        (("sub-07", "stop sign", "pattern"), "sub-07_contrast-stopSign_stat-pattern"),
        (("s-b", "a dog, asleep", "gradcam"), "sub-sB_contrast-aDogAsleep_stat-gradcam"),
        (("subject3", "x", "t", "", "raw"), "sub-subject3_contrast-x_stat-t_desc-raw"),
    ],
)
def test_names(arguments, name):
    assert statmap_name(*arguments) == f"{name}_statmap.nii.gz"


def test_a_concept_that_no_bids_name_can_hold():
    with pytest.raises(DataError, match="'犬' has no letters from a to z"):
        statmap_name("subj01", "犬", "gradcam")


@pytest.fixture
def run(tmp_path):
    """What an export and `neurovl locate` need of a run: two subjects, a concept each, and one subject's importance."""
    folder = tmp_path / "run"

    def save(name, value):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(np.full((3, 4, 5), value, np.float32), AFFINE), path)

    save("localization/subj01_stop-sign.nii.gz", 1)
    save("localization/subj02_dog.nii.gz", 2)
    save("localization/pattern/subj02_dog.nii.gz", 3)
    save("importance/subj02_vae-head_tokens.nii.gz", 4)
    for place, rows in (
        ("localization", [("subj01", "stop sign"), ("subj02", "dog")]),
        ("localization/pattern", [("subj02", "dog")]),
    ):
        table = pd.DataFrame(rows, columns=["subject", "concept"])
        table.to_csv(folder / place / "scores.csv", index=False)
    rois = {"all": np.ones((3, 4, 5), bool)}
    recordings = SimpleNamespace(
        name="simulated-nsd",
        licence="CC0-1.0",
        simulated=True,
        space="func1pt8",
        subjects=["subj01", "subj02"],
        rois=lambda subject: rois,
    )
    values = np.linspace(0, 1, 60, dtype=np.float32).reshape(3, 4, 5)
    return SimpleNamespace(
        folder=folder,
        recordings=recordings,
        patch_variants=lambda: ["main", "p4"],
        store=SimpleNamespace(subject_name=lambda subject: f"subj{int(subject):02d}"),
        locate=lambda concept, subject, image_id, method: Heat(concept, "subj02", values, AFFINE),
        encode=lambda subject, image_id: None,
        word_for=lambda request, z: request,
    )


def test_a_run_is_exported_whole(run, tmp_path):
    out = tmp_path / "maps"
    files = export_maps(run, out)
    stem = "sub-02/func/sub-02_space-func1pt8_contrast"
    expected = {
        "sub-01/func/sub-01_space-func1pt8_contrast-stopSign_stat-gradcam_statmap.nii.gz": 1,
        f"{stem}-dog_stat-gradcam_statmap.nii.gz": 2,
        f"{stem}-dog_stat-pattern_statmap.nii.gz": 3,
        f"{stem}-vaeHead_stat-importance_desc-tokens_statmap.nii.gz": 4,
    }
    assert {path.as_posix() for path in files} == set(expected)
    for name, value in expected.items():
        assert (nibabel.load(out / name).get_fdata() == value).all()
        about = json.loads(sidecar(out / name).read_text())
        assert about["SimulatedData"] is True and about["SpatialReference"] == "orig"
        assert ("encoders/p4" in str(about["Sources"])) == ("gradcam" in name)
    whole = json.loads((out / "dataset_description.json").read_text())
    assert whole["DatasetType"] == "derivative" and whole["DatasetLinks"] == {"run": "../run"}
    assert not list(tmp_path.glob(".part*"))


def test_an_export_never_mixes_with_what_is_there(run, tmp_path):
    out = tmp_path / "maps"
    out.mkdir()
    (out / "notes.txt").touch()
    with pytest.raises(DataError, match="maps is there and not empty"):
        export_maps(run, out)
    (run.folder / "localization/subj02_dog.nii.gz").unlink()
    with pytest.raises(MissingError, match="subj02_dog.nii.gz is missing in localization/"):
        export_maps(run, tmp_path / "other")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["maps", "run"]


def test_two_maps_of_one_name_and_none(run, tmp_path):
    table = pd.DataFrame({"subject": ["subj01"] * 2, "concept": ["stop sign", "stop-sign"]})
    table.to_csv(run.folder / "localization/scores.csv", index=False)
    with pytest.raises(
        DataError, match="would both be named sub-01_space-func1pt8_contrast-stopSign"
    ):
        export_maps(run, tmp_path / "maps")
    run.folder = tmp_path / "empty"
    with pytest.raises(MissingError, match="empty has no maps"):
        export_maps(run, tmp_path / "maps")


@pytest.mark.parametrize("out", ["", "mine.nii.gz"])
def test_locate_names_its_map_and_says_what_it_is(run, tmp_path, monkeypatch, out):
    monkeypatch.setattr("neurovl.run.open_run", lambda folder: run)
    command = "locate --run run --subject 2 --image-id 17 --concept".split() + ["stop sign"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / out)])
    assert done.exit_code == 0, done.output
    name = out or "sub-02_space-func1pt8_contrast-stopSign_stat-gradcam_statmap.nii.gz"
    assert nibabel.load(tmp_path / name).get_fdata().max() == 1
    about = json.loads((tmp_path / name.replace(".nii.gz", ".json")).read_text())
    assert about["Picture"] == "17" and about["Subject"] == "subj02"
    assert about["Sources"] == ["bids:run:tokens", "bids:run:encoders/main", "bids:run:encoders/p4"]
