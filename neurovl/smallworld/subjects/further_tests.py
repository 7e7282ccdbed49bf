"""NSD's further sessions, simulated: pictures seen and imagined (NSD-Imagery), pictures that are no scenes (NSD-synthetic).

What is imagined drives the voxels as what is seen does, but weaker, and not at all in V1 to hV4. Words, and the runs of attending, are
noise alone. In the files of behaviour the column CONDITION is NSD's; NSD's others are left out.
"""

import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from neurovl.errors import ConfigError
from neurovl.files import replacing
from neurovl.recordings.nsd import nsd_imagery, nsd_synthetic
from neurovl.recordings.nsd.imagery_pictures import TARGETS, nsd_number
from neurovl.smallworld import scenes
from neurovl.smallworld.subjects import synthetic_pictures, voxel_model
from neurovl.smallworld.subjects.beta_series import Voxels, write_series
from neurovl.smallworld.subjects.experiment import SIZE

TESTS = ("imagery", "synthetic")
BETAS = "betas_fithrf_GLMdenoise_RR"
IMAGINED = 0.4  # strength of what is imagined, of what is seen
BARS = 0.45, 43 / 425  # half length and width of a bar, in sides of the picture
OUTSIDE = 73_000  # scene that stands for the picture that is not one of NSD's


class Pictures(NamedTuple):
    """What voxels see of pictures: uint8 (n, 64, 64, 3), and where things are, (n, n_concepts, 8, 8)."""

    small: np.ndarray
    things: np.ndarray


def known(tests: Sequence[str]) -> list[str]:
    """The tests asked for, in order; a ConfigError names one that there is not."""
    other = [one for one in tests if one not in TESTS]
    if other:
        raise ConfigError(f"there is no further test {other[0]!r}: choose from {', '.join(TESTS)}")
    return [one for one in TESTS if one in tests]


def write_experiment(root: Path, test: str, seed: int) -> Pictures:
    """Pictures and design of a test, for all subjects; what the voxels see of the pictures."""
    if test == "imagery":
        stems = [stem for targets in TARGETS.values() for stem in targets.values()]
        for kind, letter in {kind: letter for letter, kind in nsd_imagery.SETS.items()}.items():
            for stem in TARGETS[kind].values():
                path = root / nsd_imagery.PICTURES / f"set{letter}" / f"{stem}.png"
                with replacing(path) as part:
                    _target(stem).save(part, "PNG")
        pictures = [np.asarray(_target(stem)) for stem in stems]
        return Pictures(
            np.stack([_small(one) for one in pictures]), np.stack([_things(stem) for stem in stems])
        )
    from scipy.io import savemat

    rng = np.random.default_rng([seed, 0, 8])
    n = nsd_synthetic.SHARED + nsd_synthetic.COLOURED
    trials = nsd_synthetic.SyntheticRecordings.n_volumes
    order = np.concatenate([rng.permutation(n), rng.permutation(n), rng.permutation(n)])[:trials]
    with replacing(root / nsd_synthetic.DESIGN) as part:
        savemat(part, {"masterordering": order[None] + 1.0}, appendmat=False, do_compression=True)
    path = root / nsd_synthetic.STIMULI / "nsdsynthetic_stimuli.hdf5"
    return _write_brick(path, synthetic_pictures.shared_picture, nsd_synthetic.SHARED)


def write_session(
    root: Path, test: str, subject: int, voxels: Voxels, seed: int, pictures: Pictures
) -> None:
    """A subject's part of a test: behaviour or pictures of its own, and the betas."""
    stem = (
        root / f"nsddata_betas/ppdata/subj{subject:02d}/func1pt8mm/nsd{test}{BETAS}/betas_nsd{test}"
    )
    if test == "imagery":
        rng = np.random.default_rng([seed, subject, 8])
        signal = _imagery(root, subject, voxels, pictures, rng)
    else:
        signal = _synthetic(root, subject, voxels, pictures)
    rng = np.random.default_rng([seed, subject, 9, TESTS.index(test)])
    write_series(stem, voxels.betas(signal, rng), voxels.anatomy.affine)


def _imagery(
    root: Path, subject: int, voxels: Voxels, pictures: Pictures, rng: np.random.Generator
) -> np.ndarray:
    """Writes the cues of each run; responses to what was seen and imagined, (720, n_voxels)."""
    cues = [cue for targets in TARGETS.values() for cue in targets]
    seen = dict(zip(cues, voxels.responses(*pictures), strict=True))
    signal = np.zeros((nsd_imagery.ImageryRecordings.n_volumes, len(voxels.gain)))
    for run in nsd_imagery.ORDER:
        if run.startswith("att"):
            continue
        kind = nsd_imagery.SETS.get(run[3])
        letters = tuple(TARGETS[kind]) if kind else nsd_imagery.WORDS
        order = rng.permutation(np.repeat(letters, nsd_imagery.REPEATS))
        table = pd.DataFrame({"TRIAL": np.arange(1, len(order) + 1), "CONDITION": order})
        name = f"nsdimagery_subj{subject:02d}_{run}.tsv"
        with replacing(root / nsd_imagery.BEHAVIOUR / name) as part:
            table.to_csv(part, sep="\t", index=False)
        if kind:
            rows = nsd_imagery.first_beta(run) + np.arange(len(order))
            signal[rows] = np.stack([seen[cue] for cue in order])
            if run.startswith("img"):
                signal[rows] *= np.where(voxels.tuning.early, 0, IMAGINED)
    return signal


def _synthetic(root: Path, subject: int, voxels: Voxels, pictures: Pictures) -> np.ndarray:
    """Writes the subject's coloured pictures; responses to what was seen, (744, n_voxels)."""

    def coloured(number: int) -> synthetic_pictures.Shown:
        return synthetic_pictures.coloured_picture(number, subject)

    name = f"nsdsynthetic_colorstimuli_subj{subject:02d}.hdf5"
    own = _write_brick(root / nsd_synthetic.STIMULI / name, coloured, nsd_synthetic.COLOURED)
    both = [np.concatenate(part) for part in zip(pictures, own, strict=True)]
    return voxels.responses(*both)[nsd_synthetic.read_order(root)]


def _write_brick(
    path: Path, picture: Callable[[int], synthetic_pictures.Shown], count: int
) -> Pictures:
    """Pictures as NSD-synthetic stores them, each a chunk of its own; what the voxels see of them."""
    import h5py

    small, things = [], []
    shape = (nsd_synthetic.HEIGHT, nsd_synthetic.WIDTH, 3)
    with replacing(path) as part, h5py.File(part, "w") as file:
        brick = file.create_dataset(
            "imgBrick",
            (count, *shape),
            np.uint8,
            chunks=(1, *shape),
            compression="gzip",
            compression_opts=1,
        )
        for k in range(count):
            shown = picture(k)
            small.append(_small(shown.picture))
            things.append(shown.things)
            light = synthetic_pictures.as_light(shown.picture)
            brick.id.write_direct_chunk((k, 0, 0, 0), zlib.compress(light.tobytes(), 1))
    return Pictures(np.stack(small), np.stack(things))


def _small(picture: np.ndarray) -> np.ndarray:
    size = voxel_model.PIXELS
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.BOX))


def _target(stem: str) -> Image.Image:
    """The picture of a cue: bars and crosses on grey, or the scene of NSD's number."""
    if stem.startswith("shared"):
        return scenes.render(_scene(stem), SIZE)
    kind, angle = stem.split("_")[0], float(stem.split("_")[1].removesuffix("deg"))
    picture = Image.new("RGB", (SIZE, SIZE), (127, 127, 127))
    pen = ImageDraw.Draw(picture)
    for turn in (angle, angle + 90) if kind == "crs" else (angle,):
        along = np.array([np.cos(np.radians(turn)), -np.sin(np.radians(turn))])
        across = np.array([-along[1], along[0]])
        half, width = BARS
        corners = [
            (0.5 + a * half * along + b * width / 2 * across) * SIZE
            for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))
        ]
        pen.polygon([tuple(corner) for corner in corners], fill=(255, 255, 255))
    return picture


def _scene(stem: str) -> scenes.Scene:
    number = nsd_number(stem)
    return scenes.make_scene("nsd", OUTSIDE if number is None else int(number))


def _things(stem: str) -> np.ndarray:
    if stem.startswith("shared"):
        return voxel_model.scene_features(_scene(stem))
    shape = (len(voxel_model.concept_names()), voxel_model.CELLS, voxel_model.CELLS)
    return np.zeros(shape, np.float32)
