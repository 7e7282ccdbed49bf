"""Simulated subjects seeing rendered scenes, in NSD's own folder layout and file formats.

`simulate` writes what a program for NSD opens: the experiment (``experiment.py``), each
subject's anatomy and regions (``anatomy.py``), the way to the cortical surface (``cortical_sheet.py``), and betas of ``betas_fithrf_GLMdenoise_RR`` computed by
an encoding model (``voxel_model.py``) with spatially correlated noise and drifts between sessions.
``SIMULATED.json`` at the root says so. Leaves out meshes, time series and other versions of betas.
"""

import functools
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurovl.errors import ConfigError, MissingError
from neurovl.files import replacing
from neurovl.recordings.base import subject_label
from neurovl.recordings.nsd.atlases import ATLASES, WIDER_ATLASES
from neurovl.recordings.nsd.imagery_pictures import imagined_images
from neurovl.smallworld import scenes
from neurovl.smallworld.subjects import cortical_sheet, experiment, further_tests, voxel_model
from neurovl.smallworld.subjects.anatomy import Anatomy, make_anatomy
from neurovl.smallworld.subjects.beta_series import UNIT, Voxels, save_nifti, write_series
from neurovl.smallworld.subjects.surface_betas import require_space, write_surface_betas

logger = logging.getLogger(__name__)

GENERATOR = 3  # raise when the same settings give other data
MARK = "SIMULATED.json"
BETAS = "betas_fithrf_GLMdenoise_RR"
NOISE_SD = 1.3  # percent signal change, median over voxels


def simulate(
    out: Path | str,
    *,
    subjects: Sequence[int | str] = (1, 2, 5, 7),
    sessions: int = 2,
    scale: float = 3.0,
    tests: Sequence[str] = (),
    seed: int = 0,
    n_jobs: int = 1,
    surfaces: bool = False,
) -> Path:
    """Write a simulated NSD folder; what is there already and whole is kept.

    Parameters
    ----------
    out : str or Path
    subjects : sequence of int or str
        From 1 to 8.
    sessions : int
        750 trials each, from 1 to 40: 250 pictures a session, three trials each, a fifth of the
        pictures (at most 1,000) shared by all subjects, which is the test set.
    scale : float
        NSD's grids are divided by it; a voxel has 1.8 * scale mm.
    tests : sequence of str
        Further sessions: 'imagery' and 'synthetic', laid out as NSD-Imagery and NSD-synthetic, see ``further_tests.py``.
    seed : int
    n_jobs : int
        Processes; the data do not depend on it.
    surfaces : bool
        Write the betas on fsaverage besides, half a gigabyte a hemisphere and session; also to a folder that is whole.

    Returns
    -------
    Path of the folder

    Raises
    ------
    ConfigError
        For settings out of range, or a folder that holds other data.
    MissingError
        The disk has no space for the betas on fsaverage.

    Examples
    --------
    >>> made = neurovl.simulate(folder / "nsd", subjects=[1], sessions=1, scale=8.0)
    >>> neurovl.open_recordings(made)
    NSDRecordings('simulated-nsd', subjects=['subj01'], 750 trials of 250 images)
    """
    root = Path(out).expanduser()
    numbers = _subject_numbers(subjects)
    if not 1 <= sessions <= experiment.SESSIONS:
        raise ConfigError(f"sessions is {sessions}, expected 1 to {experiment.SESSIONS} as in NSD")
    if not 1 <= scale <= 8:
        raise ConfigError(f"scale is {scale}, expected 1 (NSD's own grid) to 8 (14.4 mm voxels)")
    tests = further_tests.known(tests)
    settings = {
        "subjects": numbers,
        "sessions": sessions,
        "scale": float(scale),
        "tests": tests,
        "seed": seed,
        "generator": GENERATOR,
    }
    whole = _claim(root, settings)
    if surfaces:
        require_space(root, numbers, sessions, BETAS)
    if whole:
        logger.info("%s is whole already", root)
    else:
        _write_all(root, settings, n_jobs)
    if surfaces:
        write_surface_betas(root, numbers, sessions, BETAS)
    return root


def _write_all(root: Path, settings: dict, n_jobs: int) -> None:
    from joblib import Parallel, delayed

    numbers, sessions = settings["subjects"], settings["sessions"]
    scale, seed = settings["scale"], settings["seed"]
    design = experiment.make_design(sessions, seed)
    experiment.write_experiment(root, design)
    ids = np.unique([experiment.seen_images(design, s, sessions) for s in numbers])
    experiment.write_stimuli(root, ids, n_jobs)
    experiment.write_annotations(root, np.union1d(ids, [int(one) for one in imagined_images()]))
    for name, labels in (ATLASES | WIDER_ATLASES).items():
        lines = [f"{number} {label}" for number, label in enumerate(("Unknown", *labels))]
        for folder in ("fsaverage", *(f"subj{s:02d}" for s in numbers)):
            with replacing(root / f"nsddata/freesurfer/{folder}/label/{name}.mgz.ctab") as part:
                part.write_text("\n".join(lines) + "\n")
    cortical_sheet.write_group_labels(root, seed)
    shown = {test: further_tests.write_experiment(root, test, seed) for test in settings["tests"]}
    Parallel(n_jobs)(
        delayed(_write_alone)(root, design, s, sessions, scale, seed, shown) for s in numbers
    )
    _mark(root, settings, complete=True)


@functools.lru_cache(maxsize=8)
def truth(data_root: Path | str, subject: int | str) -> dict[str, np.ndarray]:
    """What each voxel of a simulated subject is tuned to; for scoring localization only.

    Parameters
    ----------
    data_root : str or Path
        A simulated NSD folder.
    subject : int or str

    Returns
    -------
    dict of str to float32 array, shape (x, y, z)
        By concept: percent signal change for an object (or place) of that kind filling the receptive field.
    """
    path = Path(data_root) / "truth" / f"{subject_label(subject)}_concepts.npz"
    if not path.is_file():
        raise MissingError(
            f"{path} is missing: true concept maps exist for simulated subjects only, "
            "made by neurovl simulate"
        )
    with np.load(path) as maps:
        return {name: maps[name] for name in maps.files}


def voxel_reliability(betas: np.ndarray, sessions: np.ndarray, image_ids: np.ndarray) -> np.ndarray:
    """NSD's ncsnr: ratio of the standard deviations of signal and noise.

    Betas are z-scored per voxel within each session. Noise variance is the variance over the trials
    of one picture (n - 1 in the denominator), averaged over pictures seen more than once. Signal
    variance is the rest of the total of 1, not below 0.   ncsnr = sqrt(1 - noise) / sqrt(noise)

    Allen et al. 2022, Nat. Neurosci. 25:116, Methods, 'Noise ceiling estimation'.

    Parameters
    ----------
    betas : array, shape (n_trials, n_voxels), any unit
    sessions, image_ids : arrays, shape (n_trials,)

    Returns
    -------
    float32 array, shape (n_voxels,); 0 for voxels that are constant
    """
    _, image = np.unique(np.asarray(image_ids), return_inverse=True)
    count = np.bincount(image)
    if count.max(initial=0) < 2:
        raise ConfigError("no picture has two trials, so noise cannot be told from signal")
    repeated = (count > 1)[image]
    order = np.argsort(image[repeated], kind="stable")
    starts = np.flatnonzero(np.diff(image[repeated][order], prepend=-1))
    n = np.diff(np.append(starts, len(order)))
    out = np.zeros(betas.shape[1], np.float32)
    for start in range(0, betas.shape[1], 2048):
        z = np.asarray(betas[:, start : start + 2048], np.float32).copy()
        for session in np.unique(sessions):
            rows = np.flatnonzero(np.asarray(sessions) == session)
            part = z[rows] - z[rows].mean(0)
            spread = part.std(0)
            z[rows] = part / np.where(spread > 0, spread, 1)
        alive = z.any(0)
        z = z[repeated][order]
        deviation = z - np.repeat(np.add.reduceat(z, starts) / n[:, None], n, axis=0)
        variance = np.add.reduceat(deviation**2, starts) / (n - 1)[:, None]
        noise = variance.mean(0)
        signal = np.maximum(1 - noise, 0)
        out[start : start + 2048] = np.where(alive, np.sqrt(signal / np.maximum(noise, 1e-6)), 0)
    return out


def _subject_numbers(subjects: int | str | Sequence[int | str]) -> list[int]:
    labels = [subject_label(one) for one in ([subjects] if np.isscalar(subjects) else subjects)]
    allowed = [f"subj{number:02d}" for number in range(1, experiment.N_SUBJECTS + 1)]
    for one in labels:
        if one not in allowed:
            raise ConfigError(f"subject {one!r} was asked for, NSD's grids are known for 1 to 8")
    return sorted({int(one[4:]) for one in labels})


def _claim(root: Path, settings: dict) -> bool:
    """Take the folder for these settings; True if it is whole already."""
    mark = root / MARK
    if mark.is_file():
        found = json.loads(mark.read_text())
        if found.get("settings") != settings:
            raise ConfigError(
                f"{root} holds simulated data with other settings ({found.get('settings')}, "
                f"asked for {settings}): choose another folder or delete it"
            )
        return bool(found.get("complete"))
    if (root / "nsddata").exists():
        raise ConfigError(
            f"{root} holds NSD data without {MARK}, so they may be real: choose another folder"
        )
    _mark(root, settings, complete=False)
    return False


def _mark(root: Path, settings: dict, complete: bool) -> None:
    content = {
        "simulated": True,
        "what": "Simulated subjects seeing rendered scenes, in the layout of the Natural Scenes "
        "Dataset. No brain was scanned.",
        "made_by": "neurovl simulate",
        "licence": "CC0-1.0",
        "settings": settings,
        "complete": complete,
    }
    with replacing(root / MARK) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def _write_alone(*arguments: object) -> None:
    """`_write_subject` with one thread: sums over several round otherwise, and rounding shows in integers."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        _write_subject(*arguments)


def _write_subject(
    root: Path,
    design: dict[str, np.ndarray],
    subject: int,
    sessions: int,
    scale: float,
    seed: int,
    shown: dict[str, further_tests.Pictures],
) -> None:
    """Write anatomy, regions, behaviour, betas and truth of one subject; ncsnr.nii.gz comes last."""
    name = f"subj{subject:02d}"
    betas_folder = root / f"nsddata_betas/ppdata/{name}/func1pt8mm/{BETAS}"
    if (betas_folder / "ncsnr.nii.gz").is_file():
        return
    anatomy = make_anatomy(subject, scale, seed)
    _write_anatomy(root / f"nsddata/ppdata/{name}/func1pt8mm", anatomy)
    experiment.write_behaviour(root, design, subject, sessions, seed)

    trials = experiment.seen_images(design, subject, sessions)
    ids, image = np.unique(trials, return_inverse=True)
    tuning = voxel_model.make_tuning(anatomy, subject, seed)
    surface = cortical_sheet.make_surface(anatomy, subject, seed)
    cortical_sheet.write_surface(root, subject, anatomy, surface, seed)
    cortical_sheet.write_receptive_fields(
        root,
        subject,
        anatomy,
        surface,
        tuning.exponent,
        tuning.ncsnr**2 / (tuning.ncsnr**2 + 1),
        functools.partial(save_nifti, affine=anatomy.affine),
    )
    response = _image_responses(root, ids, tuning, anatomy)
    rng = np.random.default_rng([seed, subject, 4])
    n_voxels = np.count_nonzero(anatomy.nsdgeneral)
    noise_sd = NOISE_SD * np.exp(rng.normal(0, 0.25, anatomy.brain.T.shape))
    spread = response.std(0)
    gain = tuning.ncsnr * noise_sd.T[anatomy.nsdgeneral] / np.where(spread > 0, spread, np.inf)
    level = rng.normal(0, 0.3, anatomy.brain.T.shape)
    level.T[anatomy.nsdgeneral] += np.abs(rng.normal(0.9, 0.5, n_voxels))
    voxels = Voxels(anatomy, tuning, response.mean(0), gain, noise_sd, level)
    for test, pictures in shown.items():
        further_tests.write_session(root, test, subject, voxels, seed, pictures)
    response = (response - response.mean(0)) * gain

    concepts = {}
    for column, concept in enumerate(voxel_model.concept_names()):
        concepts[concept] = np.zeros(anatomy.brain.shape, np.float32)
        concepts[concept][anatomy.nsdgeneral] = tuning.concepts[:, column] * gain
    with replacing(root / "truth" / f"{name}_concepts.npz") as part:
        np.savez_compressed(part, **concepts)

    brain = anatomy.brain.T
    kept = np.empty((len(trials), np.count_nonzero(brain)), np.int16)
    at = np.arange(sessions * experiment.TRIALS).reshape(sessions, -1)
    for session, rows in enumerate(at, 1):
        rng = np.random.default_rng([seed, subject, 5, session])
        betas = voxels.betas(response[image[rows]], rng)
        kept[rows] = betas[:, brain]
        write_series(betas_folder / f"betas_session{session:02d}", betas, anatomy.affine)
    mean = np.zeros(brain.shape, np.float32)
    mean[brain] = kept.mean(0) / UNIT
    save_nifti(betas_folder / "meanbeta.nii.gz", mean.T, anatomy.affine)
    ncsnr = np.zeros(brain.shape, np.float32)
    ncsnr[brain] = voxel_reliability(kept, np.repeat(np.arange(sessions), experiment.TRIALS), image)
    save_nifti(betas_folder / "ncsnr.nii.gz", ncsnr.T, anatomy.affine)


def _image_responses(
    root: Path, ids: np.ndarray, tuning: voxel_model.Tuning, anatomy: Anatomy
) -> np.ndarray:
    """Noiseless responses, shape (n_images, n_voxels), to the pictures in imgBrick."""
    import h5py
    from PIL import Image

    size = voxel_model.PIXELS
    parts = []
    with h5py.File(root / experiment.STIMULI / "nsd_stimuli.hdf5", "r") as file:
        brick = file["imgBrick"]
        for some in np.array_split(ids, max(1, len(ids) // 250)):
            small = [
                np.asarray(
                    Image.fromarray(brick[int(i)]).resize((size, size), Image.Resampling.BOX)
                )
                for i in some
            ]
            maps = [voxel_model.scene_features(scenes.make_scene("nsd", int(i))) for i in some]
            features = voxel_model.image_features(np.stack(small))
            parts.append(voxel_model.respond(tuning, anatomy.prf, features, np.stack(maps)))
    return np.concatenate(parts)


def _write_anatomy(folder: Path, anatomy: Anatomy) -> None:
    """Write the brain mask, the mean volume and the regions, whole and by hemisphere."""
    save_nifti(folder / "brainmask.nii.gz", anatomy.brain.astype(np.int16), anatomy.affine)
    save_nifti(folder / "mean.nii.gz", anatomy.mean, anatomy.affine)
    left = anatomy.mni[..., 0] < 0
    for name, labels in anatomy.atlases.items():
        for prefix, kept in (("", True), ("lh.", left), ("rh.", ~left)):
            values = np.where(kept, labels, -1).astype(np.int16)
            save_nifti(folder / "roi" / f"{prefix}{name}.nii.gz", values, anatomy.affine)
