"""Anatomy of a simulated subject: a warped MNI brain on NSD's grids, with visual regions.

The template is the MNI152 brain that nilearn ships. Every subject sees it through its own rotation,
scaling and smooth random warp. Regions are grey matter around coordinates from the literature; early
visual areas lie in layers around the calcarine sulcus, with eccentricity growing from the occipital
pole forwards and the polar angle reversing at each border, as in the brain. Distances run through
space, not along the cortical sheet, which is laid into it by ``cortical_sheet.py``.

Coordinates (MNI, mm): FFA, OFA, EBA, PPA, OPA, RSC, LO: Julian et al. 2012, NeuroImage 60:2357; OPA:
Dilks et al. 2013, J. Neurosci. 33:1331; FBA: Peelen & Downing 2005, J. Neurophysiol. 93:603; VWFA:
Cohen et al. 2002, Brain 125:1054; tools: Chao et al. 1999, Nat. Neurosci. 2:913; food: Jain et al.
2023, Commun. Biol. 6:396; hV4 and IPS0: Wang et al. 2015, Cereb. Cortex 25:3911.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurovl.recordings.nsd.atlases import ATLASES, NSDGENERAL, VOXEL_MM, WIDER_ATLASES, grid

if TYPE_CHECKING:
    from nibabel import Nifti1Image

CENTRE = (0.0, -17.0, 5.0)  # MNI mm; the middle of NSD's field of view

# right-hemisphere centre (mirrored for the left) and radius, mm
PATCHES = {
    "hV4": ((27, -77, -13), 11),
    "OFA": ((40, -78, -10), 9),
    "FFA": ((41, -53, -19), 9),
    "EBA": ((48, -70, 3), 11),
    "FBA": ((43, -44, -18), 8),
    "PPA": ((27, -48, -9), 10),
    "OPA": ((33, -80, 21), 10),
    "RSC": ((17, -57, 12), 9),
    "VWFA": ((44, -57, -12), 9),
    "LO": ((43, -79, -3), 10),
    "food": ((33, -61, -15), 9),
    "animals": ((38, -63, -14), 9),
    "tools": ((48, -60, -5), 9),
    "IPS0": ((24, -79, 31), 11),
}
POLE, ANTERIOR = np.array([11.0, -101.0, -5.0]), np.array([11.0, -64.0, 6.0])  # calcarine sulcus
LAYERS = {"V1": (0.0, 7.5), "V2": (7.5, 10.5), "V3": (10.5, 13.0)}  # mm from the sulcus
FOVEA, PERIPHERY = 0.25, 5.5  # degrees at the two ends of the sulcus; the picture's radius is 4.2
PRF_SIZE = {"V1": (0.17, 0.3), "V2": (0.2, 0.45), "V3": (0.26, 0.6), "hV4": (0.45, 0.9)}

_AREAS_OF = {  # which patch carries which label of a functional localizer
    "floc-faces": {"OFA": "OFA", "FFA-1": "FFA"},
    "floc-bodies": {"EBA": "EBA", "FBA-1": "FBA"},
    "floc-places": {"OPA": "OPA", "PPA": "PPA", "RSC": "RSC"},
    "floc-words": {"VWFA-1": "VWFA"},
}
# parcels of Glasser et al. 2016 about where the patches are; RSC, the place area, is not their RSC
_GLASSER = {"FFC": "FFA", "PIT": "OFA", "PHA3": "PPA", "POS1": "RSC", "V7": "IPS0", "LO2": "LO"}


@dataclass(frozen=True)
class Anatomy:
    """One simulated subject's head.

    Attributes
    ----------
    affine : array, shape (4, 4)
        Voxel to mm in the subject's own space.
    mni : float32 array, shape (x, y, z, 3)
        The MNI coordinate in mm that each voxel has.
    mean : float32 array, shape (x, y, z)
        Intensity of a mean functional volume.
    brain, grey, nsdgeneral : bool array, shape (x, y, z)
    atlases : dict of str to int16 array, shape (x, y, z)
        By name of the atlas; -1 outside cortex, 0 unlabelled.
    area : str array, shape (n_voxels,)
        V1, V2, V3, hV4 or '' for every voxel of nsdgeneral.
    prf : float32 array, shape (n_voxels, 3)
        x and y (degrees, up is positive) and size of the receptive field.
    affinity : dict of str to float32 array, shape (n_voxels,)
        By patch: 1 at its centre, falling off as a Gaussian.
    reach : float
        How far nsdgeneral goes from the visual areas, as `visual_distance` measures.
    """

    affine: np.ndarray
    mni: np.ndarray
    mean: np.ndarray
    brain: np.ndarray
    grey: np.ndarray
    nsdgeneral: np.ndarray
    atlases: dict
    area: np.ndarray
    prf: np.ndarray
    affinity: dict
    reach: float


def make_anatomy(subject: int, scale: float, seed: int) -> Anatomy:
    """Draw the head of one subject (1 to 8) on NSD's grid divided by `scale`."""
    from nilearn import datasets

    rng = np.random.default_rng([seed, subject, 1])
    shape, voxel = grid(subject, scale), VOXEL_MM * scale
    affine = np.diag([voxel, voxel, voxel, 1.0])
    affine[:3, 3] = -voxel * (np.array(shape) - 1) / 2
    mni = _warp(shape, affine, rng)
    grey = _sample(datasets.load_mni152_gm_template(resolution=2), mni, voxel)
    brain = _sample(datasets.load_mni152_brain_mask(resolution=2), mni, voxel) > 0.5
    mean = _sample(datasets.load_mni152_template(resolution=2), mni, voxel)
    grey = brain & (grey > 0.45 * grey.max())
    nsdgeneral = np.zeros(shape, bool)
    score = np.where(grey, visual_distance(mni), np.inf)
    n_voxels = min(round(NSDGENERAL[subject] / scale**3), int(np.isfinite(score).sum()))
    nsdgeneral.flat[np.argsort(score, axis=None, kind="stable")[:n_voxels]] = True
    where = mni[nsdgeneral]
    area, prf = retinotopy(where, rng)
    affinity = {
        name: np.exp(-0.5 * (_patch_distance(where, name) * 1.2) ** 2).astype(np.float32)
        for name in PATCHES
    }
    atlases = _atlases(mni, grey, nsdgeneral, area, prf)
    reach = float(score[nsdgeneral].max())
    return Anatomy(affine, mni, mean, brain, grey, nsdgeneral, atlases, area, prf, affinity, reach)


def _warp(shape: tuple[int, int, int], affine: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """MNI coordinate of every voxel: rotation, scaling and a smooth random displacement."""
    from scipy.ndimage import zoom
    from scipy.spatial.transform import Rotation

    indices = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    own = indices @ affine[:3, :3].T + affine[:3, 3]
    rotation = Rotation.from_euler("xyz", rng.normal(0, 2, 3), degrees=True).as_matrix()
    mni = (own * rng.normal(1, 0.02, 3)) @ rotation.T + CENTRE + rng.normal(0, 1, 3)
    knots = rng.normal(0, 3.0, (6, 7, 6, 3))
    for axis in range(3):
        factors = [size / n for size, n in zip(shape, knots.shape[:3], strict=True)]
        mni[..., axis] += zoom(knots[..., axis], factors, order=3, grid_mode=True, mode="nearest")
    return mni.astype(np.float32)


def _sample(image: "Nifti1Image", mni: np.ndarray, voxel: float) -> np.ndarray:
    """A template image, averaged over about one voxel, at MNI coordinates."""
    from scipy.ndimage import gaussian_filter, map_coordinates

    data = np.asarray(image.dataobj, np.float32)
    step = abs(image.affine[0, 0])
    data = gaussian_filter(data, max(0.0, voxel / step / 2.5 - 0.3))
    inverse = np.linalg.inv(image.affine)
    indices = mni @ inverse[:3, :3].T + inverse[:3, 3]
    return map_coordinates(data, np.moveaxis(indices, -1, 0), order=1).astype(np.float32)


def _patch_distance(where: np.ndarray, name: str) -> np.ndarray:
    """Distance to the nearer of a patch's two centres, in radii."""
    (x, y, z), radius = PATCHES[name]
    folded = np.concatenate([np.abs(where[..., :1]), where[..., 1:]], -1)
    return np.linalg.norm(folded - np.array([x, y, z], np.float32), axis=-1) / radius


def _calcarine(where: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Position along the sulcus (0 pole, 1 anterior end), distance from it (mm), whether above it."""
    folded = np.concatenate([np.abs(where[..., :1]), where[..., 1:]], -1) - POLE
    axis = (ANTERIOR - POLE) / np.linalg.norm(ANTERIOR - POLE)
    along = folded @ axis
    across = folded - np.clip(along, 0, np.linalg.norm(ANTERIOR - POLE))[..., None] * axis
    return (
        along / np.linalg.norm(ANTERIOR - POLE),
        np.linalg.norm(across, axis=-1),
        across[..., 2] > 0,
    )


def visual_distance(where: np.ndarray) -> np.ndarray:
    """How far a voxel is from visual cortex, in radii of the nearest area."""
    early = _calcarine(where)[1] / (1.3 * LAYERS["V3"][1])
    return np.minimum(early, np.min([_patch_distance(where, name) for name in PATCHES], axis=0))


def retinotopy(where: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Early area and receptive field of voxels at MNI coordinates `where` (n_voxels, 3)."""
    along, depth, dorsal = _calcarine(where)
    n = len(where)
    area = np.full(n, "", "U3")
    near = along < 1.15
    polar = rng.uniform(-90, 90, n)  # degrees from the horizontal meridian, up is positive
    for name, (inner, outer) in LAYERS.items():
        here = near & (depth >= inner) & (depth < outer)
        rise = (depth[here] - inner) / (outer - inner)
        # V1 starts at the horizontal meridian; the map mirrors at each border
        angle = 90 * (1 - rise if name == "V2" else rise)
        area[here] = name
        polar[here] = np.where(dorsal[here], -angle, angle)
    here = (area == "") & (_patch_distance(where, "hV4") < 1)
    area[here] = "hV4"
    along = np.where(here, np.clip((where[:, 1] + 86) / 18, 0, 1), along)
    eccentricity = FOVEA * (PERIPHERY / FOVEA) ** np.clip(along, 0, 1)
    eccentricity = np.where(area == "", rng.uniform(0.3, 2.5, n), eccentricity)
    eccentricity = eccentricity * np.exp(rng.normal(0, 0.12, n))
    polar = np.radians(np.clip(polar + rng.normal(0, 8, n), -90, 90))
    side = np.where(where[:, 0] < 0, 1.0, -1.0)  # the left hemisphere sees the right half
    slope, base = np.array([PRF_SIZE.get(name, (0.5, 2.2)) for name in area]).reshape(-1, 2).T
    size = (slope * eccentricity + base) * np.exp(rng.normal(0, 0.15, n))
    x, y = side * eccentricity * np.cos(polar), eccentricity * np.sin(polar)
    return area, np.stack([x, y, size], 1).astype(np.float32)


def _atlases(
    mni: np.ndarray, grey: np.ndarray, nsdgeneral: np.ndarray, area: np.ndarray, prf: np.ndarray
) -> dict[str, np.ndarray]:
    """NSD's region files: -1 outside cortex, 0 unlabelled, from 1 the labels of `ATLASES`."""
    out = {}
    for name, codes in labels_at(mni[nsdgeneral], area, prf).items():
        out[name] = np.where(grey, 0, -1).astype(np.int16)
        out[name][nsdgeneral] = codes
    return out


def labels_at(where: np.ndarray, area: np.ndarray, prf: np.ndarray) -> dict[str, np.ndarray]:
    """Labels of points in nsdgeneral, whether centres of voxels or vertices of the surface.

    Of the wider atlases those regions are labelled that the simulation has: in Kastner2015 V1v to hV4, IPS0 and LO (all of it as
    LO1), in HCP_MMP1 V1 to V4 and `_GLASSER`.

    Parameters
    ----------
    where : array, shape (n_points, 3)
        MNI coordinates in mm.
    area : str array, shape (n_points,)
    prf : array, shape (n_points, 3)

    Returns
    -------
    dict of str to int16 array, shape (n_points,)
        By atlas; 0 unlabelled, from 1 the labels of `ATLASES` and `WIDER_ATLASES`.
    """
    n = len(where)
    out = {"nsdgeneral": np.ones(n, np.int16)}
    dorsal = _calcarine(where)[2]
    near = {patch: (_patch_distance(where, patch) < 1) & (area == "") for patch in PATCHES}
    codes = np.zeros(n, np.int16)
    for number, label in enumerate(ATLASES["prf-visualrois"], 1):
        bank = {"v": ~dorsal, "d": dorsal}.get(label[-1], True)
        codes[(area == label.rstrip("vd")) & bank] = number
    out["prf-visualrois"] = codes
    eccentricity = np.hypot(prf[:, 0], prf[:, 1])
    out["prf-eccrois"] = np.where(codes, np.digitize(eccentricity, [0.5, 1, 2, 4]) + 1, 0)
    for atlas, patches in _AREAS_OF.items():
        out[atlas] = np.zeros(n, np.int16)
        for label, patch in patches.items():
            out[atlas][near[patch]] = ATLASES[atlas].index(label) + 1
    early = np.isin(area, ("V1", "V2", "V3"))
    ventral, parietal = where[:, 2] < -6, where[:, 2] > 15
    stream = np.where(ventral, 5, np.where(parietal, 7, 6)) - np.where(where[:, 1] < -74, 3, 0)
    out["streams"] = np.where(early, 1, stream)
    out["Kastner2015"] = codes.copy()  # its first seven labels are those of prf-visualrois
    for label, patch in {"IPS0": "IPS0", "LO1": "LO"}.items():
        out["Kastner2015"][near[patch]] = WIDER_ATLASES["Kastner2015"].index(label) + 1
    glasser = WIDER_ATLASES["HCP_MMP1"]
    out["HCP_MMP1"] = np.zeros(n, np.int16)
    for label in ("V1", "V2", "V3", "V4"):
        out["HCP_MMP1"][area == label.replace("V4", "hV4")] = glasser.index(label) + 1
    for label, patch in _GLASSER.items():
        out["HCP_MMP1"][near[patch]] = glasser.index(label) + 1
    return out
