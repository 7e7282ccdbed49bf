"""Healthy data sets, as small as they can be; each case is one of them with one defect.

A world is a folder with `data/`, `settings.yaml` and, where a command needs one, a finished `run/`.
"""

import json
import os
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
from bold_data import write_study
from PIL import Image

from bad_input.judge import neurovl

SETTINGS = """\
simulation: null
preprocessing: {patches: [4]}
encoder: {width: 32, layers: 2, heads: 2, head_hidden: 32}
alignment: {epochs: 1, batch_size: 64, variants: [main]}
language: {steps: [1, 1], batch_size: [4, 4], max_new_tokens: 8}
"""
PREPROCESS = "preprocess --data data --out run --profile settings.yaml --jobs 1"
BETAS = "nsddata_betas/ppdata/subj01/func1pt8mm/betas_fithrf_GLMdenoise_RR/betas_session01"
ROI = "nsddata/ppdata/subj01/func1pt8mm/roi"
EXPERIMENT = "nsddata/experiments/nsd"
STIMULI = "nsddata_stimuli/stimuli/nsd"
COLUMNS = "subject session volume index image_id repeat split".split()


def save(path: Path, data, affine) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, affine), path)


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    os.link(source, target)


def nsd(data: Path, simulated: Path, betas: str = ".nii.gz") -> None:
    """Subject 1 of the simulated NSD, the betas in one format."""
    names = [f"{BETAS}{betas}", f"{Path(BETAS).parent}/ncsnr.nii.gz", "SIMULATED.json"]
    names += [f"{ROI}/{name}.nii.gz" for name in ("nsdgeneral", "prf-visualrois", "floc-faces")]
    names += [f"{EXPERIMENT}/nsd_expdesign.mat", f"{EXPERIMENT}/nsd_stim_info_merged.csv"]
    names += ["nsddata/freesurfer/subj01/label/prf-visualrois.mgz.ctab"]
    names += [f"{STIMULI}/nsd_stimuli.hdf5"]
    for kind in ("captions", "instances"):
        names += [f"{STIMULI}/annotations/{kind}_{split}2017.json" for split in ("train", "val")]
    for name in names:
        link(simulated / name, data / name)


def table(data: Path) -> None:
    """Two subjects on two grids: one 4-D scaled int16 file, one with a 3-D file for each trial."""
    rng = np.random.default_rng(0)
    affine = np.diag([3.0, 3, 3, 1])
    rows = []
    for subject, shape in (("sub-01", (5, 6, 4)), ("sub-02", (7, 5, 3))):
        betas = rng.normal(0, 2, (*shape, 6)).astype(np.float32)
        mask = np.zeros(shape, np.uint8)
        mask[1:4, 1:4, 1:3] = 1
        save(data / f"{subject}_mask.nii", mask, affine)
        mask[2:] = 0
        save(data / f"{subject}_ffa.nii", mask, affine)
        if subject == "sub-01":
            image = nibabel.Nifti1Image(betas, affine)
            image.set_data_dtype(np.int16)  # nibabel chooses slope and intercept
            nibabel.save(image, data / "all.nii.gz")
        for trial in range(6):
            name, index = "all.nii.gz", trial
            if subject == "sub-02":
                name, index = f"trial{trial}.nii.gz", ""
                save(data / name, betas[..., trial], affine)
            picture = f"pic{trial // 2}"
            split = "test" if picture == "pic2" else "train"
            rows.append([subject, 1 + trial // 3, name, index, picture, trial % 2 + 1, split])
    write_table(data / "trials.tsv", rows, COLUMNS)
    masks = [[one, f"{one}_mask.nii", f"{one}_ffa.nii"] for one in ("sub-01", "sub-02")]
    write_table(data / "subjects.tsv", masks, ["subject", "mask", "FFA"])
    sentences = [
        ["pic0", "a dog."],
        ["pic0", "a dog on grass."],
        ["pic1", "a cat."],
        ["pic2", "a cow."],
    ]
    write_table(data / "captions.tsv", sentences, ["image_id", "caption"])
    (data / "stimuli").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(data / f"stimuli/pic{number}.png")
    about = {"name": "mine", "units": "percent signal change", "licence": "CC0", "terms": "none"}
    (data / "dataset.json").write_text(json.dumps(about))


def write_table(path: Path, rows, columns) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows, columns=columns).to_csv(path, sep="\t", index=False)


def haxby(data: Path) -> None:
    """One subject with 4 runs of 3 categories, in Haxby's layout."""
    folder = data / "haxby2001/subj1"
    labels = [
        (name, run)
        for run in range(4)
        for name in ("rest", "face", "house", "cat")
        for _ in range(6)
    ]
    affine = np.diag([3.5, 3.75, 3.75, 1])
    bold = np.random.default_rng(3).normal(500, 20, (6, 5, 4, len(labels))).astype(np.int16)
    save(folder / "bold.nii.gz", bold, affine)
    lines = ["labels chunks", *(f"{name} {run}" for name, run in labels)]
    (folder / "labels.txt").write_text("\n".join(lines) + "\n")
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[1:5, 1:4, 1:3] = 1
    save(folder / "mask.nii.gz", mask, affine)
    save(folder / "mask4_vt.nii.gz", mask, affine)


def bids(data: Path) -> None:
    """One subject: two runs of raw events, and betas of the whole session in a derivative."""
    pictures = {
        1: ["a/1.jpg", "n/a", "a/2.jpg", "b/1.jpg"],
        2: ["a/1.jpg", "b/3.jpg", "a/4.jpg"],
    }
    for run, names in pictures.items():
        rows = [[i, name, "test" if name == "a/1.jpg" else "exp"] for i, name in enumerate(names)]
        path = data / f"sub-01/ses-1/func/sub-01_ses-1_task-see_run-{run}_events.tsv"
        write_table(path, rows, ["onset", "stim_file", "trial_type"])
        for name in set(names) - {"n/a"}:
            (data / "stimuli" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(data / "stimuli" / name)
    folder, affine = data / "derivatives/glmsingle/sub-01/ses-1/func", np.diag([2.0, 2, 2, 1])
    betas = np.random.default_rng(1).normal(0, 1, (5, 5, 4, 6)).astype(np.float32)
    save(folder / "sub-01_ses-1_task-see_space-T1w_betas.nii.gz", betas, affine)
    mask = np.ones((5, 5, 4), np.uint8)
    mask[0] = 0
    save(folder / "sub-01_ses-1_task-see_space-T1w_desc-brain_mask.nii.gz", mask, affine)
    (data / "dataset_description.json").write_text(json.dumps({"Name": "seen"}))


class Worlds:
    """Healthy worlds, each built once and copied by hard links."""

    def __init__(self, place: Path, simulated: Path):
        self.place, self.simulated = place, simulated

    def __call__(self, name: str) -> Path:
        """The folder of a healthy world; never written again."""
        folder = self.place / name
        if folder.exists():
            return folder
        kind, _, state = name.partition(" ")
        if state in ("preprocessed", "trained"):
            self.copy(kind, folder)
            commands = [PREPROCESS]
            if state == "trained":
                commands += ["train encoder --run run --variant main", "train llm --run run"]
            for command in commands:
                done = neurovl(command, folder)
                assert done.code == 0, done
            return folder
        folder.mkdir()
        (folder / "settings.yaml").write_text(SETTINGS)
        if kind == "nsd":
            nsd(folder / "data", self.simulated, ".hdf5" if state == "hdf5" else ".nii.gz")
        else:
            (folder / "data").mkdir()
            {"table": table, "haxby": haxby, "bids": bids, "bold": write_study}[kind](
                folder / "data"
            )
        return folder

    def copy(self, name: str, folder: Path) -> None:
        shutil.copytree(self(name), folder, copy_function=os.link, symlinks=True)
