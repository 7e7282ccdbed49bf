"""From NSD's functional volumes to the cortical surface, through each subject's own transforms.

The 1.8-mm volumes and the surfaces share no millimetres: a volume's origin is the middle of its slab, and the warp from there
to the anatomy is not linear. ``ppdata/subj0X/transforms`` holds, for each vertex of the subject's own surface, where in the
volume it lies at 25, 50 and 75 % of the cortex's depth (``func1pt8-to-layerB1``, ``B2``, ``B3``; voxels counted from 1, 9999
where there are no data), and for each vertex of fsaverage the nearest vertex of the subject's own surface
(``white-to-fsaverage``, counted from 1; ``fsaverage-to-white`` is the way back). A map is interpolated linearly at each depth and averaged
over the three, as NSD's own surface betas were made.

Allen et al. 2022, Nat. Neurosci. 25:116; NSD Data Manual, cvnlab.slite.page; what the files hold is also told by nsdcode
(github.com/cvnlab/nsdcode), whose ``nsd_mapdata`` reads the same ones. Leaves out the anatomical volumes and the way back.
"""

from pathlib import Path

import numpy as np

from neurovl.errors import DataError, MissingError
from neurovl.recordings.base import subject_label

HEMISPHERES = ("lh", "rh")
DEPTHS = ("layerB1", "layerB2", "layerB3")
NOWHERE = 9999
FSAVERAGE = (
    163_842  # vertices of a hemisphere; those of coarser meshes come first: 10,242 are fsaverage5
)
LEAST_INSIDE = 0.5  # share of the vertices that lie in a volume the transforms belong to


class Surface:
    """One subject's cortex, and where its vertices lie in the functional volume.

    Parameters
    ----------
    places : dict of str to float array, shape (3 depths, n_vertices, 3)
        By hemisphere, in voxels counted from 0; not a number where there are no data.
    nearest : dict of str to int array, shape (163842,)
        By hemisphere: the vertex of the own surface that is nearest to one of fsaverage, counted from 0.
    grid : tuple of int
        Shape of the functional volume.

    Examples
    --------
    >>> surface = data.surface(1)
    >>> {hemi: len(values) for hemi, values in surface.sample(data.mask(1)).items()}
    {'lh': 163842, 'rh': 163842}
    >>> fsaverage5 = surface.sample(data.mask(1))["lh"][:10242]
    """

    def __init__(self, places: dict, nearest: dict, grid: tuple[int, ...]) -> None:
        self.places, self.nearest, self.grid = places, nearest, tuple(grid)

    def sample_own(self, volume: np.ndarray) -> dict[str, np.ndarray]:
        """A map at the vertices of the subject's own surface, averaged over the three depths.

        Parameters
        ----------
        volume : array, shape (x, y, z)

        Returns
        -------
        dict of str to float32 array, shape (n_vertices,)
            By hemisphere; not a number where a depth lies outside the volume.

        Raises
        ------
        DataError
            The map is not on the subject's grid.
        """
        from scipy.ndimage import map_coordinates

        volume = np.asarray(volume, np.float64)
        if volume.shape != self.grid:
            raise DataError(
                f"the map has the shape {volume.shape}, expected {self.grid}, the grid that the transforms belong to: give "
                "a map in the subject's own functional space"
            )
        last = np.array(self.grid) - 1
        found = {}
        for hemi, places in self.places.items():
            inside = ((places >= 0) & (places <= last)).all(-1).all(0)
            values = np.full(places.shape[1], np.nan, np.float32)
            at = np.moveaxis(places[:, inside], -1, 0)
            values[inside] = map_coordinates(volume, at, order=1).mean(0)
            found[hemi] = values
        return found

    def sample(self, volume: np.ndarray) -> dict[str, np.ndarray]:
        """As `sample_own`, brought to fsaverage by the nearest vertex: float32 arrays of shape (163842,)."""
        return {hemi: own[self.nearest[hemi]] for hemi, own in self.sample_own(volume).items()}


def surface_files(subject: str | int) -> list[Path]:
    """The transforms that `read_surface` reads, relative to the NSD folder."""
    folder = Path("nsddata/ppdata") / subject_label(subject) / "transforms"
    names = (*(f"func1pt8-to-{depth}" for depth in DEPTHS), "white-to-fsaverage")
    return [folder / f"{hemi}.{name}.mgz" for hemi in HEMISPHERES for name in names]


def read_surface(root: Path, subject: str, grid: tuple[int, ...], fetch: str) -> Surface | None:
    """A subject's transforms; None where the folder has none of them.

    Parameters
    ----------
    root : Path
        The NSD folder.
    subject : str
    grid : tuple of int
        Shape of the subject's functional volumes.
    fetch : str
        The command that fetches the files.

    Raises
    ------
    MissingError
        Some of the files are there and others are not.
    DataError
        A file cannot be read, or does not fit the others or the grid.
    """
    files = surface_files(subject)
    missing = [path for path in files if not (root / path).is_file()]
    if len(missing) == len(files):
        return None
    if missing:
        raise MissingError(
            f"{missing[0]} is missing, expected all {len(files)} transforms of {subject} to the surface or none: {fetch}"
        )
    places, nearest = {}, {}
    for hemi, start in zip(HEMISPHERES, (0, len(DEPTHS) + 1), strict=True):
        *layers, index = files[start : start + len(DEPTHS) + 1]
        depths = [_read_places(root / path, grid, fetch) for path in layers]
        sizes = {len(one) for one in depths}
        if len(sizes) > 1:
            raise DataError(
                f"the transforms of {hemi} of {subject} hold {', '.join(map(str, sorted(sizes)))} vertices at different "
                f"depths, expected as many at each: {fetch}"
            )
        places[hemi] = np.stack(depths)
        nearest[hemi] = _read_nearest(root / index, len(depths[0]), fetch)
    return Surface(places, nearest, grid)


def _read_places(path: Path, grid: tuple[int, ...], fetch: str) -> np.ndarray:
    """Voxels of each vertex counted from 0, shape (n_vertices, 3); not a number where there are no data."""
    values = _read(path, fetch)
    if values.ndim != 2 or values.shape[1] != 3:
        raise DataError(
            f"{path.name} holds an array of shape {values.shape}, expected (vertices, 3): {fetch}"
        )
    values[(values == NOWHERE).any(1)] = np.nan
    values -= 1
    inside = ((values >= 0) & (values <= np.array(grid) - 1)).all(1).mean()
    if inside < LEAST_INSIDE:
        raise DataError(
            f"{path.name} puts {inside:.0%} of its vertices into a volume of {grid}, expected half of them at least: it "
            f"belongs to other volumes; {fetch}"
        )
    return values


def _read_nearest(path: Path, n_vertices: int, fetch: str) -> np.ndarray:
    """Own vertex of each vertex of fsaverage, counted from 0."""
    values = _read(path, fetch)
    whole = values.astype(np.int64)
    if values.shape != (FSAVERAGE, 1) or whole.min() < 1 or whole.max() > n_vertices:
        raise DataError(
            f"{path.name} holds {len(values)} indices from {whole.min()} to {whole.max()}, expected {FSAVERAGE} from 1 to "
            f"{n_vertices}, the vertices of the subject's surface: {fetch}"
        )
    return whole[:, 0] - 1


def _read(path: Path, fetch: str) -> np.ndarray:
    """An .mgz file as float64 array of shape (n, values of each)."""
    import nibabel

    try:
        data = np.asarray(nibabel.load(path).dataobj, np.float64)
        return data.reshape(len(data), -1, order="F")
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError) as problem:
        raise DataError(
            f"{path.name} cannot be read ({problem}), expected an .mgz file; it may be cut short: {fetch}"
        ) from problem
