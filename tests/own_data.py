"""Small data of one's own, as fixtures: a table, and THINGS-fMRI's layout, with what they hold."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

COLUMNS = "subject session volume index image_id repeat split".split()
GRIDS = {"sub-01": (6, 7, 5), "sub-02": (8, 6, 6)}
TEST = ["cat/cat_01.jpg", "dog/dog_01.jpg"]  # shown in every run
N_RUNS, N_TRIALS = 2, 14


def write_nifti(path, data, affine):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)


def affine_of(subject):
    return np.diag([2.0 + (subject == "sub-02"), 2, 2, 1])


def pictures_of(subject, session, run):
    """Two test pictures, a catch trial and eleven pictures of this run alone, in a fixed order."""
    number = 100 * (session - 1) + 50 * (run - 1)
    own = [f"thing{number + i}/thing{number + i}_01.jpg" for i in range(N_TRIALS - 3)]
    return [own[0], TEST[0], "catch007.jpg", *own[1:], TEST[1]]


@pytest.fixture
def things(tmp_path):
    """Two subjects in the layout of THINGS-fMRI's volumes: a beta file and its conditions for each run."""
    root, truth = tmp_path / "things", {}
    rng = np.random.default_rng(0)
    for subject, grid in GRIDS.items():
        mask = np.zeros(grid, np.uint8)
        mask[1:-1, 1:-1, 1:-1] = 1
        write_nifti(
            root / f"derivatives/brainmasks/{subject}_space-T1w_brainmask.nii.gz",
            mask,
            affine_of(subject),
        )
        face = np.zeros(grid, np.uint8)
        face[2, 2:4, 2] = 1
        write_nifti(
            root / f"derivatives/rois/{subject}/{subject}_lFFA_mask.nii.gz",
            face,
            affine_of(subject),
        )
        for session in (1, 2):
            for run in range(1, N_RUNS + 1):
                place_ = root / f"derivatives/betas_vol/{subject}/ses-things{session:02d}"
                stem = f"{subject}_ses-things{session:02d}_run-{run:02d}"
                betas = rng.normal(0, 1, (*grid, N_TRIALS)).astype(np.float32)
                write_nifti(place_ / f"{stem}_betas.nii.gz", betas, affine_of(subject))
                names = pictures_of(subject, session, run)
                pd.DataFrame({"image_filename": names}).to_csv(
                    place_ / f"{stem}_conditions.tsv", sep="\t"
                )
                truth[subject, session, run] = betas
    about = {"Name": "THINGS / small", "License": "CC0", "BIDSVersion": "1.6.0"}
    (root / "dataset_description.json").write_text(json.dumps(about))
    return root, truth


def contents(root):
    return {
        p: (p.stat().st_mtime_ns, p.read_bytes()) for p in sorted(root.rglob("*")) if p.is_file()
    }


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
    columns = COLUMNS
    pd.DataFrame(rows, columns=columns).to_csv(root / "trials.tsv", sep="\t", index=False)
    masks = [[s, f"{s}_mask.nii", f"{s}_ffa.nii"] for s in truth]
    pd.DataFrame(masks, columns=["subject", "mask", "FFA"]).to_csv(
        root / "subjects.tsv", sep="\t", index=False
    )
    pd.DataFrame(
        [["pic0", "a dog."], ["pic0", "a dog on grass."], ["pic1", "a cat."], ["pic2", "a cow."]],
        columns=["image_id", "caption"],
    ).to_csv(root / "captions.tsv", sep="\t", index=False)
    for number in range(3):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(root / f"stimuli/pic{number}.png")
    about = {"name": "mine", "units": "percent signal change", "licence": "CC0", "terms": "none"}
    (root / "dataset.json").write_text(json.dumps(about))
    return root, truth
