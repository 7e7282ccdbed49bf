"""Pictures outside the small world's statistics, as NSD-synthetic's are outside NSD's: noise, gratings, and scenes made strange.

220 are the same for all subjects, 64 have colours drawn for one. NSD-synthetic's own kinds are followed where they can be drawn here;
its words, its chess boards and its modulations of phase are left out, and their places filled with more of the others.
"""

from dataclasses import dataclass

import numpy as np

from neurovl.smallworld import scenes
from neurovl.smallworld.subjects import voxel_model

SIDE = 714
COUNTS = {  # of the 220
    "white noise": 8,
    "pink noise": 8,
    "scene": 16,
    "upside down": 16,
    "two tones": 16,
    "outlines": 16,
    "contrast": 40,
    "spiral grating": 100,
}
CONTRASTS = (0.05, 0.1, 0.2, 0.4, 0.7)
SEEN = {
    "two tones": 0.5,
    "outlines": 0.6,
}  # how strongly things are seen in what is left of a scene
COLOURED = 64
HUES = 8


@dataclass(frozen=True)
class Shown:
    """A picture: grey levels, uint8 (714, 714, 3), and where its things are, (n_concepts, 8, 8)."""

    picture: np.ndarray
    things: np.ndarray


def shared_picture(number: int) -> Shown:
    """One of the 220 that all subjects see, by its number from 0."""
    kind, k = _kind(number)
    rng = np.random.default_rng([220, number])
    nothing = np.zeros(_nothing(), np.float32)
    if kind == "white noise":
        return Shown(_grey(_blown_up(rng.uniform(0, 1, (119, 119)))), nothing)
    if kind == "pink noise":
        return Shown(_grey(_pink(rng)), nothing)
    if kind == "spiral grating":
        return Shown(_grey(_spiral(k)), nothing)
    scene = scenes.make_scene("nsd-synthetic", k % 8 if kind == "contrast" else k)
    picture = np.asarray(scenes.render(scene, SIDE)).astype(np.float32) / 255
    things = voxel_model.scene_features(scene)
    if kind == "upside down":
        return Shown(_levels(picture[::-1]), things[:, ::-1])
    if kind == "contrast":
        contrast = CONTRASTS[k // 8]
        return Shown(_levels(0.5 + contrast * (picture - 0.5)), things * contrast)
    if kind == "two tones":
        picture = _two_tones(picture.mean(-1))
    elif kind == "outlines":
        picture = _outlines(picture.mean(-1))
    things = things * SEEN.get(kind, 1.0)
    return Shown(_levels(picture) if picture.ndim == 3 else _grey(picture), things)


def coloured_picture(number: int, subject: int) -> Shown:
    """One of a subject's 64 in colour, by its number from 0: eight hues of eight patterns."""
    pattern, hue = divmod(number, HUES)
    rng = np.random.default_rng([64, pattern])
    shift = np.random.default_rng([64, 100 + subject]).uniform(0, 1 / HUES)
    angle = 2 * np.pi * (hue / HUES + shift)
    phases = angle + np.array([0, -2 * np.pi / 3, 2 * np.pi / 3])
    picture = 0.5 + 0.35 * (_pink(rng)[..., None] - 0.5) * 2 * np.cos(phases)
    return Shown(_levels(picture), np.zeros(_nothing(), np.float32))


def as_light(picture: np.ndarray) -> np.ndarray:
    """A picture as NSD-synthetic stores it: light, the square of the grey level, in the middle of (714, 1360, 3)."""
    light = np.rint((np.arange(256) / 255) ** 2 * 255).astype(np.uint8)
    wide = np.full((SIDE, 1360, 3), light[127], np.uint8)
    left = (1360 - SIDE) // 2
    wide[:, left : left + SIDE] = light[picture]
    return wide


def _kind(number: int) -> tuple[str, int]:
    for kind, count in COUNTS.items():
        if number < count:
            return kind, number
        number -= count
    raise IndexError(number)


def _nothing() -> tuple[int, int, int]:
    return len(voxel_model.concept_names()), voxel_model.CELLS, voxel_model.CELLS


def _levels(picture: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _grey(plane: np.ndarray) -> np.ndarray:
    return np.repeat(_levels(plane)[..., None], 3, axis=-1)


def _blown_up(small: np.ndarray) -> np.ndarray:
    return np.kron(small, np.ones((SIDE // len(small),) * 2))


def _pink(rng: np.random.Generator) -> np.ndarray:
    """Noise whose amplitude falls with frequency, from 0 to 1."""
    n = 119
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(n), np.fft.fftfreq(n)))
    spectrum = np.fft.fft2(rng.normal(size=(n, n))) / np.where(frequency > 0, frequency, np.inf)
    plane = np.fft.ifft2(spectrum).real
    return _blown_up(np.clip(0.5 + plane / (6 * plane.std()), 0, 1))


def _spiral(number: int) -> np.ndarray:
    """A grating in rings, spokes or spirals: 20 pairs of angular and radial frequency, five phases."""
    pair, phase = divmod(number, 5)
    direction, octave = divmod(pair, 5)
    cycles = 4 * 2**octave
    angle = direction * np.pi / 4
    at = (np.arange(SIDE) + 0.5) / SIDE - 0.5
    x, y = np.meshgrid(at, at)
    turn, out = np.arctan2(y, x), np.log(np.hypot(x, y))
    wave = np.round(cycles * np.cos(angle)) * turn + cycles * np.sin(angle) * out
    return 0.5 + 0.5 * np.cos(wave + 2 * np.pi * phase / 5)


def _two_tones(plane: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    coarse = gaussian_filter(plane[3::6, 3::6], 2)
    return _blown_up(coarse > np.median(coarse)).astype(np.float32)


def _outlines(plane: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_gradient_magnitude

    edges = gaussian_gradient_magnitude(plane, 2)
    return 1 - (edges > 0.02)
