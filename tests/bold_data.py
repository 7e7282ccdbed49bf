"""A small study as BIDS has it: raw events, and preprocessed BOLD with responses of known size."""

import json

import nibabel
import numpy as np
import pandas as pd
from nilearn.glm.first_level import glover_hrf
from own_data import write_nifti

TR, N_VOLUMES, GRID, SECONDS = 2.0, 150, (4, 3, 3), 3.0
AFFINE = np.diag([3.0, 3, 3, 1])
RUNS = (1, 2)
N_TRIALS = 18
FINE = 0.05  # seconds
STEM = "sub-01_ses-a_task-see"


def response(onset, times, seconds=SECONDS):
    """The response to one picture, 1 at its peak, by a convolution that shares nothing with the package."""
    kernel = glover_hrf(FINE, oversampling=1, time_length=32)
    shape = np.convolve(np.ones(round(seconds / FINE)), kernel)
    at = np.arange(len(shape)) * FINE
    return np.interp(times - onset, at, shape / shape.max(), left=0, right=0)


def pictures(run):
    """Two of each run's are shown in every run."""
    own = [f"p/own{run}{n:02d}.png" for n in range(N_TRIALS - 2)]
    return [*own[:5], "p/both1.png", *own[5:], "p/both2.png"]


def write_study(root, noise=0.0, seed=0, times_in_tr=0.5, seconds=SECONDS):
    """Write the study; amplitudes in percent (n_trials, x, y, z) of each run."""
    rng = np.random.default_rng(seed)
    mean = rng.uniform(400, 1200, GRID)
    times = (np.arange(N_VOLUMES) + times_in_tr) * TR
    truth = {}
    for run in RUNS:
        onsets = 4 + 15.0 * np.arange(N_TRIALS) + rng.uniform(0, 4, N_TRIALS).round(2)
        truth[run] = rng.normal(1, 1, (N_TRIALS, *GRID))
        shapes = np.array([response(onset, times, seconds) for onset in onsets])
        percent = np.tensordot(truth[run], shapes, (0, 0)) + noise * rng.normal(
            size=(*GRID, N_VOLUMES)
        )
        bold = (mean[..., None] * (1 + percent / 100)).astype(np.float32)
        write_run(root, run, bold)
        events = pd.DataFrame({"onset": onsets, "duration": seconds, "stim_file": pictures(run)})
        events["trial_type"] = ["test" if "both" in p else "see" for p in events.stim_file]
        path = root / f"sub-01/ses-a/func/{STEM}_run-{run}_events.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        events.to_csv(path, sep="\t", index=False)
    (root / "dataset_description.json").write_text(json.dumps({"Name": "seen"}))
    return truth


def preprocessed(root, run, ending, space="_space-T1w"):
    folder = root / "derivatives/fmriprep/sub-01/ses-a/func"
    return folder / f"{STEM}_run-{run}{space}_{ending}"


def write_run(root, run, bold):
    path = preprocessed(root, run, "desc-preproc_bold.nii.gz")
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti1Image(bold, AFFINE)
    image.header.set_zooms((3, 3, 3, TR))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)
    mask = np.ones(GRID, np.uint8)
    mask[0, 0] = 0
    mask[0, 1, run] = 0  # each run has lost another voxel
    write_nifti(preprocessed(root, run, "desc-brain_mask.nii.gz"), mask, AFFINE)
    about = {"RepetitionTime": TR, "StartTime": TR / 2}
    preprocessed(root, run, "desc-preproc_bold.json").write_text(json.dumps(about))
    rng = np.random.default_rng(run)
    moved = pd.DataFrame(rng.normal(size=(bold.shape[3], 3)), columns=["trans_x", "rot_x", "csf"])
    moved["trans_x_derivative1"] = ["n/a", *np.diff(moved.trans_x)]
    table = preprocessed(root, run, "desc-confounds_timeseries.tsv", space="")
    moved.to_csv(table, sep="\t", index=False)
