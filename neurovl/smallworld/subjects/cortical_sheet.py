"""The cortical surface of a simulated subject: NSD's transforms, labels and maps of receptive fields.

The sheet is fsaverage5, which nilearn ships: 10,242 vertices a hemisphere with the white and the pial surface, from MNI305 to the
MNI152 of the template by FreeSurfer's matrix. A subject's own surface has these vertices in an order of its own, and the warp of
its anatomy is inverted to find where in the functional volume each of them lies. What is true in NSD and not here: a subject's own
folding (all are folded like fsaverage, around a template that is not), the number of its vertices (about 225,000), and the
registration by folding. fsaverage has its 163,842 vertices, of which the first 10,242 are exactly those of fsaverage5; the others,
made by halving edges twice as FreeSurfer's icosahedron is, stand for one end of their edge, and their order may differ from
FreeSurfer's.

MNI305 to MNI152: FreeSurfer wiki, CoordinateSystems, use case 8a. Order of vertices: Winkler, brainder.org, 2016-05-31.
"""

import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np

from neurovl.files import replacing
from neurovl.recordings.nsd.surfaces import (
    DEPTHS,
    FSAVERAGE,
    HEMISPHERES,
    NOWHERE,
    Surface,
    surface_files,
)
from neurovl.smallworld.subjects.anatomy import Anatomy, labels_at, retinotopy, visual_distance

FROM_PIAL = (0.25, 0.5, 0.75)  # share of the way from the pial to the white surface of each depth
TO_MNI152 = np.array(
    [
        [0.9975, -0.0073, 0.0176, -0.0429],
        [0.0146, 1.0009, -0.0024, 1.5496],
        [-0.0130, -0.0093, 0.9971, 1.1840],
    ]
)
GROUP_ATLASES = ("nsdgeneral", "streams", "Kastner2015", "HCP_MMP1")  # NSD has them on fsaverage


def make_surface(anatomy: Anatomy, subject: int, seed: int) -> Surface:
    """Lay the sheet into a subject's functional volume.

    Returns
    -------
    Surface
        Its own vertices are those of fsaverage5 in an order drawn for the subject.
    """
    places, nearest = {}, {}
    for number, hemi in enumerate(HEMISPHERES):
        order = np.random.default_rng([seed, subject, 6, number]).permutation(len(sheet(hemi)[0]))
        rank = np.argsort(order)
        found = _voxels_at(np.stack(sheet(hemi)), anatomy.mni)
        places[hemi] = found[:, order]
        nearest[hemi] = rank[coarse_vertex(hemi)]
    return Surface(places, nearest, anatomy.brain.shape)


@functools.cache
def sheet(hemi: str) -> tuple[np.ndarray, ...]:
    """MNI152 coordinates in mm of the vertices at each of the three depths, arrays of shape (10242, 3)."""
    pial, white = (_mesh(hemi, kind)[0] for kind in ("pial", "white"))
    at = [pial + share * (white - pial) for share in FROM_PIAL]
    return tuple(one @ TO_MNI152[:, :3].T + TO_MNI152[:, 3] for one in at)


@functools.cache
def coarse_vertex(hemi: str) -> np.ndarray:
    """The vertex of fsaverage5 that stands for each of fsaverage: int array, shape (163842,)."""
    points, faces = _mesh(hemi, "white")
    stands = np.arange(len(points))
    while len(stands) < FSAVERAGE:
        pairs = faces[:, [0, 2, 2, 1, 1, 0]].reshape(
            -1, 2
        )  # a new vertex on each edge of each face
        edges, first, edge = np.unique(
            np.sort(pairs, 1), axis=0, return_index=True, return_inverse=True
        )
        number = np.empty(len(edges), int)
        number[np.argsort(first)] = len(stands) + np.arange(len(edges))
        new = number[edge.ravel()].reshape(-1, 3)  # on the edges 0-2, 2-1 and 1-0
        ends = edges[np.argsort(number)]
        a, b, c = faces.T
        ca, bc, ab = new.T
        corners = [(a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca)]
        faces = np.concatenate([np.stack(one, 1) for one in corners])
        stands = np.append(stands, stands[ends[:, 0]])
    return stands


@functools.cache
def _mesh(hemi: str, kind: str) -> tuple[np.ndarray, np.ndarray]:
    from nilearn import datasets, surface

    side = {"lh": "left", "rh": "right"}[hemi]
    mesh = surface.load_surf_mesh(datasets.fetch_surf_fsaverage("fsaverage5")[f"{kind}_{side}"])
    return np.asarray(mesh.coordinates, np.float64), np.asarray(mesh.faces)


def _voxels_at(points: np.ndarray, mni: np.ndarray, steps: int = 12) -> np.ndarray:
    """Where in a volume MNI points lie: the inverse of `Anatomy.mni`, in voxels counted from 0.

    Begins with the best affine map, then takes off what is left of the way, as seen through the affine map, until it is gone.

    Parameters
    ----------
    points : array, shape (..., 3)
    mni : array, shape (x, y, z, 3)

    Returns
    -------
    float32 array, shape (..., 3)
        Not a number for points outside the volume.
    """
    from scipy.ndimage import map_coordinates

    shape = mni.shape[:3]
    grid = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    affine = np.linalg.lstsq(np.c_[grid, np.ones(len(grid))], mni.reshape(-1, 3), rcond=None)[0]
    back = np.linalg.inv(affine[:3])
    flat = points.reshape(-1, 3)
    found = (flat - affine[3]) @ back
    last = np.array(shape) - 1
    for _ in range(steps):
        held = np.clip(found, 0, last)
        here = [map_coordinates(mni[..., k], held.T, order=1) for k in range(3)]
        left = flat - np.stack(here, 1) - (found - held) @ affine[:3]
        found = found + left @ back
    found[(np.abs(left) > 0.1).any(1) | (found < 0).any(1) | (found > last).any(1)] = np.nan
    return found.reshape(points.shape).astype(np.float32)


def write_surface(root: Path, subject: int, anatomy: Anatomy, surface: Surface, seed: int) -> None:
    """Write a subject's transforms and the labels on its own surface."""
    files = iter(surface_files(subject))
    for hemi in HEMISPHERES:
        for depth in range(len(DEPTHS)):
            counted = np.nan_to_num(surface.places[hemi][depth] + 1, nan=NOWHERE)
            _save(root / next(files), counted.astype(np.float32))
        path = root / next(files)
        _save(path, (surface.nearest[hemi] + 1).astype(np.int32))
        rank = surface.nearest[hemi][: len(sheet(hemi)[0])]
        back = path.with_name(f"{hemi}.fsaverage-to-white.mgz")
        _save(back, (np.argsort(rank) + 1).astype(np.int32))
        folder = root / f"nsddata/freesurfer/subj{subject:02d}/label"
        for name, codes in _labels(hemi, anatomy.reach, [seed, subject, 7]).items():
            _save(folder / f"{hemi}.{name}.mgz", codes[np.argsort(rank)])


def write_group_labels(root: Path, seed: int) -> None:
    """Write the atlases that NSD has on fsaverage itself."""
    for hemi in HEMISPHERES:
        labels = _labels(hemi, 1.0, [seed, 0, 7])
        for name in GROUP_ATLASES:
            path = root / f"nsddata/freesurfer/fsaverage/label/{hemi}.{name}.mgz"
            _save(path, labels[name][coarse_vertex(hemi)])


def _labels(hemi: str, reach: float, seed: list[int]) -> dict[str, np.ndarray]:
    """By atlas the labels of fsaverage5's vertices, from where they lie at the middle depth."""
    where = sheet(hemi)[1].astype(np.float32)
    inside = visual_distance(where) <= reach
    area, prf = retinotopy(where[inside], np.random.default_rng(seed))
    out = {}
    for name, codes in labels_at(where[inside], area, prf).items():
        out[name] = np.zeros(len(where), np.int16)
        out[name][inside] = codes
    return out


def write_receptive_fields(
    root: Path,
    subject: int,
    anatomy: Anatomy,
    surface: Surface,
    exponent: np.ndarray,
    explained: np.ndarray,
    save_volume: Callable[[Path, np.ndarray], None],
) -> None:
    """Write NSD's maps of population receptive fields, as the voxel model has them; no such experiment was simulated.

    Angle (degrees, 0 to the right, 90 up), eccentricity, size (sigma over the root of the exponent, as NSD has it), exponent,
    R2 (in per cent) and mean volume; gains are left out, as they hold for NSD's own bars. Not a number outside nsdgeneral. A vertex of
    the surface takes the voxel that it lies in at the middle depth: angles do not interpolate.

    Parameters
    ----------
    exponent, explained : array, shape (n_voxels,)
        Of the voxels of nsdgeneral: the compressive exponent, and the share of a trial's variance that the picture explains,
        which stands for R2.
    save_volume : callable
        Writes an array (x, y, z) to a path.
    """
    x, y, sigma = anatomy.prf.T
    values = {
        "angle": np.degrees(np.arctan2(y, x)) % 360,
        "eccentricity": np.hypot(x, y),
        "size": sigma / np.sqrt(exponent),
        "exponent": exponent,
        "R2": 100 * explained,
        "meanvol": anatomy.mean[anatomy.nsdgeneral],
    }
    for name, column in values.items():
        volume = np.full(anatomy.brain.shape, np.nan, np.float32)
        volume[anatomy.nsdgeneral] = column
        save_volume(root / f"nsddata/ppdata/subj{subject:02d}/func1pt8mm/prf_{name}.nii.gz", volume)
        for hemi, places in surface.places.items():
            known = np.isfinite(places[1]).all(1)
            at = np.rint(places[1][known]).astype(int)
            own = np.full(len(known), np.nan, np.float32)
            own[known] = volume[tuple(at.T)]
            _save(root / f"nsddata/freesurfer/subj{subject:02d}/label/{hemi}.prf{name}.mgz", own)


def _save(path: Path, values: np.ndarray) -> None:
    """An .mgz file of shape (vertices, 1, 1), or (vertices, 1, 1, values of each), as NSD stores them."""
    import nibabel

    values = values.astype(np.int32) if values.dtype.kind == "i" else values
    shaped = values.reshape(len(values), 1, 1, *values.shape[1:])
    with replacing(path) as part:
        nibabel.save(nibabel.MGHImage(shaped, np.eye(4)), part)
