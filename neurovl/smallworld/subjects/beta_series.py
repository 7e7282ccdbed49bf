"""From responses to betas as NSD stores them: noise, drifts between sessions, and the two files of a series."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurovl.files import replacing
from neurovl.smallworld.subjects import voxel_model
from neurovl.smallworld.subjects.anatomy import Anatomy

UNIT = 300  # int16 counts of one percent signal change
SMOOTH, GLOBAL = (
    (0.7, 3.0),
    0.2,
)  # noise: weights of its white and smooth parts; share of whole-brain


@dataclass(frozen=True)
class Voxels:
    """How a subject's voxels answer, in percent signal change.

    Attributes
    ----------
    anatomy : Anatomy
    tuning : voxel_model.Tuning
    mean : array, shape (n_voxels,)
        Mean response to the pictures of the core experiment, in arbitrary units; n_voxels of nsdgeneral.
    gain : array, shape (n_voxels,)
        Percent signal change of one unit.
    noise_sd, level : array, shape (z, y, x)
        Standard deviation of the noise of a trial, and the mean of betas.
    """

    anatomy: Anatomy
    tuning: voxel_model.Tuning
    mean: np.ndarray
    gain: np.ndarray
    noise_sd: np.ndarray
    level: np.ndarray

    def responses(self, pictures: np.ndarray, maps: np.ndarray) -> np.ndarray:
        """Noiseless responses beyond the mean of the core experiment's pictures, in percent: (n_images, n_voxels).

        Parameters
        ----------
        pictures : uint8 array, shape (n_images, 64, 64, 3)
        maps : array, shape (n_images, n_concepts, 8, 8)
            As `voxel_model.scene_features` gives.
        """
        features = voxel_model.image_features(pictures)
        response = voxel_model.respond(self.tuning, self.anatomy.prf, features, maps)
        return (response - self.mean) * self.gain

    def betas(self, signal: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Betas of one session as NSD's HDF5 has them, int16 array, shape (n_trials, z, y, x), 300 a percent.

        Parameters
        ----------
        signal : array, shape (n_trials, n_voxels)
            Noiseless responses in percent.
        """
        brain = self.anatomy.brain.T
        x, y, z = np.nonzero(self.anatomy.nsdgeneral)
        gain = np.float32(np.exp(rng.normal(0, 0.08)))
        level = (self.level + rng.normal(0, 0.25, brain.shape)).astype(np.float32)
        out = np.empty((len(signal), *brain.shape), np.int16)
        limits = np.iinfo(np.int16)
        for start in range(0, len(signal), 50):  # NSD's own grid would not fit into memory at once
            part = signal[start : start + 50]
            betas = _noise((len(part), *brain.shape), rng) * self.noise_sd.astype(np.float32)
            betas[:, z, y, x] += part
            betas = (gain * betas + level) * (UNIT * brain).astype(np.float32)
            out[start : start + 50] = np.clip(np.rint(betas), limits.min, limits.max)
        return out


def write_series(stem: Path, betas: np.ndarray, affine: np.ndarray) -> None:
    """Write betas (n_trials, z, y, x) to ``stem.nii.gz`` and ``stem.hdf5``."""
    import h5py

    save_nifti(stem.with_name(f"{stem.name}.nii.gz"), betas.T, affine)
    path = stem.with_name(f"{stem.name}.hdf5")
    with replacing(path) as part, h5py.File(part, "w") as file:
        # as NSD: all trials of one voxel lie together. By slices: HDF5 keeps a list of all chunks that it writes at once.
        stored = file.create_dataset(
            "betas", betas.shape, betas.dtype, chunks=(len(betas), 1, 1, 1)
        )
        for z in range(betas.shape[1]):
            stored[:, z] = betas[:, z]


def _noise(shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Noise of unit variance, shape (n_trials, z, y, x): white, smooth in space, and whole-brain."""
    white = rng.standard_normal(shape, np.float32)
    smooth = white
    for axis in (1, 2, 3):  # binomial kernel [1 2 1] / 4, around the edges of the grid
        smooth = smooth / 2 + (np.roll(smooth, 1, axis) + np.roll(smooth, -1, axis)) / 4
    own, wide = SMOOTH
    # variance of own * delta + wide * kernel: the kernel's squares and centre, 3/8 and 1/2 per axis
    total = own**2 + wide**2 * (3 / 8) ** 3 + 2 * own * wide * (1 / 2) ** 3
    local = (own * white + wide * smooth) / np.float32(np.sqrt(total))
    common = rng.standard_normal((shape[0], 1, 1, 1), np.float32)
    return np.float32(np.sqrt(1 - GLOBAL)) * local + np.float32(np.sqrt(GLOBAL)) * common


def save_nifti(path: Path, data: np.ndarray, affine: np.ndarray) -> None:
    """Write a volume, or volumes on the fourth axis, in millimetres."""
    import nibabel

    image = nibabel.Nifti1Image(data, affine)
    image.header.set_xyzt_units("mm")
    with replacing(path) as part:
        nibabel.save(image, part)
