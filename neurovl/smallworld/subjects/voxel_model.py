"""Responses of simulated voxels to a picture: early vision from pixels, the rest from the scene.

V1 to hV4: r = (sum_k w_k g . E_k)^n, with Gabor energy and opponent colour E_k of the picture, a
Gaussian receptive field g and a compressive exponent n (CSS; Kay et al. 2013, J. Neurophysiol.
110:481). Ventral, lateral and parietal voxels: r = sum_c w_c (g . O_c)^1/2 over the categories c and
the place of the scene, O_c being where in the picture objects of that category lie.

Each voxel's signal-to-noise ratio is drawn from one distribution whose median (0.45) and tail (1.2)
follow NSD's ncsnr of betas_fithrf_GLMdenoise_RR in nsdgeneral: a noise ceiling of about 36 % of the
variance for three trials (Allen et al. 2022, Nat. Neurosci. 25:116). These constants are frozen; they
were set before any decoding result and are not tuned to one. The model shares nothing with the
networks that decode. Leaves out attention, memory, eye movements and the haemodynamics.
"""

from dataclasses import dataclass

import numpy as np

from neurovl.smallworld import scenes
from neurovl.smallworld.subjects.anatomy import Anatomy

PIXELS, FIELD = 64, 8.4  # pictures are seen at 64 x 64 and span 8.4 degrees, as in NSD
POOL = 32  # resolution at which receptive fields are laid over the feature maps
CELLS = 8  # resolution of the maps of where objects are
FREQUENCIES = (0.6, 1.2, 2.4)  # cycles per degree
N_ORIENTATIONS = 4
N_CHANNELS = len(FREQUENCIES) * N_ORIENTATIONS + 6
EXPONENT = {"V1": 0.6, "V2": 0.5, "V3": 0.45, "hV4": 0.4}

NCSNR_MEDIAN, NCSNR_SHAPE, NCSNR_MAX = 0.45, 4.5, 1.3  # of a gamma distribution
EARLY_ADVANTAGE = 0.8  # how far early visual voxels rank before the others, in standard deviations
SUBJECT_QUALITY = {1: 1.07, 2: 1.03, 3: 0.88, 4: 0.88, 5: 1.1, 6: 0.95, 7: 0.9, 8: 0.75}

# how strongly the cells of a patch answer to supercategories (s:), categories and places
PROFILES = {
    "OFA": {"s:person": 1.0, "s:animal": 0.3},
    "FFA": {"s:person": 1.0, "s:animal": 0.4, "teddy bear": 0.4},
    "EBA": {"s:person": 1.0, "s:animal": 0.6},
    "FBA": {"s:person": 0.8, "s:animal": 0.7, "teddy bear": 0.4},
    "PPA": {"places": 1.0, "s:furniture": 0.4, "s:appliance": 0.4, "train": 0.3},
    "OPA": {"places": 0.9, "s:furniture": 0.3, "s:vehicle": 0.2},
    "RSC": {"places": 1.0},
    "VWFA": {
        "stop sign": 1.0,
        "clock": 0.9,
        "traffic light": 0.6,
        "laptop": 0.6,
        "tv": 0.5,
        "bus": 0.4,
        "bottle": 0.3,
    },
    "LO": {"things": 0.6},
    "food": {"s:food": 1.0, "s:kitchen": 0.6, "dining table": 0.5, "kitchen": 0.5, "table": 0.4},
    "animals": {"s:animal": 1.0, "teddy bear": 0.5},
    "tools": {
        "s:vehicle": 0.9,
        "s:sports": 0.8,
        "scissors": 1.0,
        "umbrella": 0.7,
        "s:outdoor": 0.5,
        "s:electronic": 0.5,
        "s:kitchen": 0.4,
    },
    "IPS0": {"things": 0.4},
}


@dataclass(frozen=True)
class Tuning:
    """What the voxels of a subject's nsdgeneral answer to.

    Attributes
    ----------
    early : bool array, shape (n_voxels,)
        Whether a voxel sees pixels (V1 to hV4).
    channels : float32 array, shape (n_voxels, n_channels)
        Weights of Gabor energy and colour.
    exponent : float32 array, shape (n_voxels,)
    concepts : float32 array, shape (n_voxels, n_concepts)
        Weights of categories and places.
    ncsnr : float32 array, shape (n_voxels,)
        Signal-to-noise ratio that the voxel has.
    """

    early: np.ndarray
    channels: np.ndarray
    exponent: np.ndarray
    concepts: np.ndarray
    ncsnr: np.ndarray


def concept_names() -> list[str]:
    """The concepts that voxels may be tuned to: COCO categories, then places."""
    things = [name for name, one in scenes.CATEGORIES.items() if one.coco_id is not None]
    return things + [place for place in scenes.BACKGROUNDS if place != "studio"]


def make_tuning(anatomy: Anatomy, subject: int, seed: int) -> Tuning:
    """Draw what each voxel of a subject's nsdgeneral answers to, and how reliably."""
    rng = np.random.default_rng([seed, subject, 2])
    where = anatomy.mni[anatomy.nsdgeneral].astype(np.float32)
    n, early = len(where), anatomy.area != ""
    orientation = rng.uniform(0, np.pi, n)
    preferred = rng.normal(np.log2(1.2), 0.8, n)  # octaves
    angles = np.pi * np.arange(N_ORIENTATIONS) / N_ORIENTATIONS
    tuned = 0.35 + np.exp(1.5 * (np.cos(2 * (orientation[:, None] - angles)) - 1))
    octaves = np.exp(-0.5 * ((preferred[:, None] - np.log2(FREQUENCIES)) / 1.0) ** 2)
    gabor = (octaves[:, :, None] * tuned[:, None]).reshape(n, -1)
    gabor /= gabor.sum(1, keepdims=True)
    colour = rng.gamma(0.7, 1.0, (n, 6))
    colour /= colour.sum(1, keepdims=True)
    share = np.clip(rng.normal(np.where(anatomy.area == "hV4", 0.7, 0.4), 0.2, n), 0.05, 0.95)
    channels = np.concatenate([gabor * (1 - share)[:, None], colour * share[:, None]], 1)
    exponent = np.array([EXPONENT.get(name, 0.5) for name in anatomy.area])
    concepts = _concept_weights(anatomy, where, rng)
    concepts[early] = 0
    channels[~early] = 0
    ranks = 0.6 * _smooth_field(where, rng, 1)[:, 0] + rng.normal(0, 0.7, n)
    ranks += EARLY_ADVANTAGE * early
    return Tuning(
        early,
        channels.astype(np.float32),
        exponent.astype(np.float32),
        concepts.astype(np.float32),
        _ncsnr(ranks, subject),
    )


def _concept_weights(anatomy: Anatomy, where: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Weights (n_voxels, n_concepts): nearby patches' profiles, each voxel its own mixture."""
    names = concept_names()
    weights = np.zeros((len(where), len(names)))
    for patch, profile in PROFILES.items():
        # words are read on the left
        side = np.where(where[:, 0] < 0, 1.0, 0.3) if patch == "VWFA" else 1.0
        weights += np.outer(anatomy.affinity[patch] * side, [_strength(profile, c) for c in names])
    own = np.exp(0.6 * _smooth_field(where, rng, len(names)) + rng.normal(0, 0.5, weights.shape))
    scattered = 0.35 * np.maximum(_smooth_field(where, rng, len(names)) - 0.7, 0)
    return weights * own + scattered


def _strength(profile: dict, concept: str) -> float:
    category = scenes.CATEGORIES.get(concept)
    if category is None:
        return profile.get(concept, profile.get("places", 0.0))
    common = profile.get(f"s:{category.supercategory}", profile.get("things", 0.0))
    return profile.get(concept, common)


def _smooth_field(
    where: np.ndarray, rng: np.random.Generator, n_fields: int, length: float = 14.0
) -> np.ndarray:
    """Random functions of position, unit variance, varying over `length` mm: (n_voxels, n_fields)."""
    waves = rng.normal(0, 1 / length, (3, 64))  # random Fourier features of a Gaussian kernel
    phases = rng.uniform(0, 2 * np.pi, 64)
    basis = np.sqrt(2 / 64) * np.cos(where @ waves + phases)
    return basis @ rng.normal(size=(64, n_fields))


def _ncsnr(ranks: np.ndarray, subject: int) -> np.ndarray:
    """Give the frozen distribution's quantiles to voxels in the order of `ranks`."""
    from scipy.stats import gamma

    order = np.argsort(np.argsort(ranks, kind="stable"))
    quantiles = gamma.ppf((order + 0.5) / len(ranks), NCSNR_SHAPE)
    values = quantiles / gamma.ppf(0.5, NCSNR_SHAPE) * NCSNR_MEDIAN * SUBJECT_QUALITY[subject]
    return np.minimum(values, NCSNR_MAX).astype(np.float32)


def image_features(pictures: np.ndarray) -> np.ndarray:
    """Gabor energy and opponent colour of pictures.

    Parameters
    ----------
    pictures : uint8 array, shape (n_images, 64, 64, 3)

    Returns
    -------
    float32 array, shape (n_images, n_channels, 32, 32)
    """
    rgb = pictures.astype(np.float32) / 255
    grey = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    spectrum = np.fft.fft2(grey - grey.mean((1, 2), keepdims=True)).astype(np.complex64)
    v, u = np.meshgrid(*2 * [np.fft.fftfreq(PIXELS, FIELD / PIXELS)], indexing="ij")
    maps = []
    for frequency in FREQUENCIES:
        for angle in np.pi * np.arange(N_ORIENTATIONS) / N_ORIENTATIONS:
            du, dv = u - frequency * np.cos(angle), v - frequency * np.sin(angle)
            passband = np.exp(-0.5 * (du**2 + dv**2) / (0.4 * frequency) ** 2).astype(np.float32)
            maps.append(3 * np.abs(np.fft.ifft2(spectrum * passband)))  # a quadrature pair's norm
    red, green, blue = np.moveaxis(rgb, -1, 0)
    red_green, blue_yellow = red - green, blue - (red + green) / 2
    for signal in (red_green, blue_yellow, grey - 0.5):
        maps += [np.maximum(signal, 0), np.maximum(-signal, 0)]
    maps = np.stack(maps, 1).astype(np.float32)
    step = PIXELS // POOL
    return maps.reshape(len(maps), -1, POOL, step, POOL, step).mean((3, 5))


def scene_features(scene: scenes.Scene) -> np.ndarray:
    """Where in a scene each concept is, float32 array, shape (n_concepts, 8, 8): the share of each cell covered.

    A place covers what no object covers, at half strength.
    """
    names = concept_names()
    maps = np.zeros((len(names), CELLS, CELLS), np.float32)
    edges = np.arange(CELLS + 1) / CELLS
    for one in scene.objects:
        if one.category in names:
            x0, y0, x1, y1 = one.box
            across = np.clip(np.minimum(x1, edges[1:]) - np.maximum(x0, edges[:-1]), 0, None)
            down = np.clip(np.minimum(y1, edges[1:]) - np.maximum(y0, edges[:-1]), 0, None)
            cover = np.outer(down, across) * CELLS**2
            index = names.index(one.category)
            maps[index] = np.maximum(maps[index], cover)
    if scene.background in names:
        maps[names.index(scene.background)] = 0.5 * (1 - maps.max(0))
    return maps


def receptive_fields(prf: np.ndarray, cells: int) -> np.ndarray:
    """Gaussian receptive fields over the picture: (cells * cells, n_voxels), unit sum in the plane."""
    at = ((np.arange(cells) + 0.5) / cells - 0.5) * FIELD
    x, y = at[None, :, None], -at[:, None, None]  # rows run downwards
    distance = (x - prf[:, 0]) ** 2 + (y - prf[:, 1]) ** 2
    size = np.maximum(prf[:, 2], FIELD / cells / 2)
    field = np.exp(-0.5 * distance / size**2) * (FIELD / cells) ** 2 / (2 * np.pi * size**2)
    return field.reshape(cells * cells, -1).astype(np.float32)


def respond(tuning: Tuning, prf: np.ndarray, features: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """Noiseless responses in arbitrary units.

    Parameters
    ----------
    tuning : Tuning
    prf : array, shape (n_voxels, 3)
    features : array, shape (n_images, n_channels, 32, 32), from `image_features`
    maps : array, shape (n_images, n_concepts, 8, 8), from `scene_features`

    Returns
    -------
    float32 array, shape (n_images, n_voxels)
    """
    n = len(features)
    early = tuning.early
    out = np.empty((n, len(early)), np.float32)
    fine, coarse = receptive_fields(prf[early], POOL), receptive_fields(prf[~early], CELLS)
    for start in range(0, n, 256):
        rows = slice(start, start + 256)
        seen = features[rows].reshape(-1, POOL * POOL) @ fine
        seen = seen.reshape(-1, features.shape[1], fine.shape[1])
        drive = np.einsum("nkv,vk->nv", seen, tuning.channels[early], optimize=True)
        out[rows, early] = np.maximum(drive, 0) ** tuning.exponent[early]
        held = np.sqrt(maps[rows].reshape(-1, CELLS * CELLS) @ coarse)
        held = held.reshape(-1, maps.shape[1], coarse.shape[1])
        out[rows, ~early] = np.einsum("ncv,vc->nv", held, tuning.concepts[~early], optimize=True)
    return out
