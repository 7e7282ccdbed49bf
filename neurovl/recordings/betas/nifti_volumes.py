"""NIfTI files of any orientation, scaling and number type, read at the voxels of another file's grid.

A file that holds the same voxels in another order (axes swapped or turned round) is read through a
permutation of the voxels' indices; its volumes are never copied to be turned. A file on another grid is
told apart, by shape and in millimetres. Reading itself is done by ``stream.py``: only the wanted voxels of
the wanted volumes are kept.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurovl.errors import DataError
from neurovl.recordings.betas.stream import Betas, open_betas

FIT = 0.1  # share of a voxel's edge by which two grids may differ: headers are rounded
EDGES = 0.05, 50  # millimetres that a voxel's edge may have
TURN = 0.7  # cosine of the angle by which sform and qform may turn an axis apart
DEFLATE = 1032  # the most that gzip can shrink anything
SMALL = ("int8", "uint8", "int16", "uint16", "float32")  # number types that stay as they are


@dataclass(frozen=True, eq=False)
class Frame:
    """Where voxels lie.

    Attributes
    ----------
    name : str
        As messages and commands name the file.
    grid : tuple of int
        (x, y, z).
    affine : array of shape (4, 4)
        Voxel indices to millimetres.
    placed : bool
        Whether the header says where the volume lies.
    """

    name: str
    grid: tuple[int, int, int]
    affine: np.ndarray
    placed: bool

    @property
    def n_voxels(self) -> int:
        return int(np.prod(self.grid))

    @property
    def made_up(self) -> bool:
        """Whether the affine is the identity, as arrays get it that are saved without one: it states no place."""
        return np.array_equal(self.affine, np.eye(4))

    def describe(self) -> str:
        """'the grid (5, 6, 4) of 3 x 3 x 3 mm'."""
        edges = " x ".join(f"{edge:.3g}" for edge in np.linalg.norm(self.affine[:3, :3], axis=0))
        return f"the grid {self.grid} of {edges} mm"

    def turned(self, like: "Frame") -> "Frame":
        """The same voxels with the axes in the order and the directions of `like`."""
        from nibabel import orientations

        if not (self.placed and like.placed):
            return Frame(self.name, self.grid, self.affine, self.placed)
        turn = orientations.ornt_transform(
            orientations.io_orientation(self.affine), orientations.io_orientation(like.affine)
        )
        grid = tuple(self.grid[int(axis)] for axis in np.argsort(turn[:, 0]))
        affine = self.affine @ orientations.inv_ornt_aff(turn, self.grid)
        return Frame(self.name, grid, affine, True)


@dataclass(frozen=True, eq=False)
class Volumes(Frame):
    """A NIfTI file, and where its voxels lie.

    Attributes
    ----------
    betas : Betas
    """

    betas: Betas

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(x, y, z, n_volumes); 1 volume for a 3-D file."""
        return self.betas.shape

    def read(self, voxels: np.ndarray, positions: Sequence[int] | np.ndarray) -> np.ndarray:
        """Values (n, n_voxels) of some voxels of some volumes, in `number_type`."""
        with _named(self.betas.path, self.name):
            return _small(self.betas.read_voxels(voxels, positions))


def open_volumes(path: Path, name: str | None = None) -> Volumes:
    """Read a NIfTI file's header and check that its data can be there.

    Raises
    ------
    MissingError
        If there is no such file.
    DataError
        For files that are no NIfTI volumes, headers that cannot be, and files shorter than promised.
    """
    path, name = Path(path), name or Path(path).name
    if not path.name.endswith((".nii", ".nii.gz")):
        raise DataError(
            f"{name} has no name of a NIfTI file, expected one that ends in .nii or .nii.gz: convert it"
        )
    with _named(path, name):
        try:
            betas = open_betas(path, "export or copy it again")
        except DataError as problem:
            if "has the shape" in str(problem) and path.name.endswith(
                (".dscalar.nii", ".dtseries.nii")
            ):
                raise DataError(
                    f"{name} holds surface data (CIFTI), expected volumes (x, y, z): export the "
                    "responses in the volume"
                ) from problem
            raise
        except (ValueError, OverflowError, KeyError) as problem:  # headers that nibabel cannot read
            raise DataError(
                f"{name} has a header that cannot be read ({problem}): export it again as NIfTI"
            ) from problem
    affine = np.asarray(betas.affine, np.float64)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise DataError(
            f"{name} has an affine that leads nowhere ({np.round(affine, 3).tolist()}), "
            "expected one from voxels to millimetres: correct sform and qform in its header"
        )
    _require_one_place(betas, name)
    promised = int(np.prod(betas.shape, dtype=np.float64)) * betas.stored.itemsize
    there = path.stat().st_size
    if promised > there * (DEFLATE if betas.compressed else 1):
        raise DataError(
            f"{name} ends early: its header promises the shape {betas.shape}, {promised:,} bytes, and "
            f"the file has {there:,}{' (compressed)' if betas.compressed else ''}; it may be cut "
            "short: copy it again"
        )
    placed = bool(betas.header["sform_code"] or betas.header["qform_code"])
    return Volumes(name, betas.shape[:3], affine, placed, betas)


def _require_one_place(betas: Betas, name: str) -> None:
    """Refuse lengths that are not millimetres, and headers whose two affines turn the axes differently.

    Both affines are one where programs write both; small differences, as after alignment, go by the sform, as in nibabel.
    """
    edges = np.linalg.norm(betas.affine[:3, :3], axis=0)
    unit = {1: "metres", 3: "micrometres"}.get(int(betas.header["xyzt_units"]) & 7)
    if unit or edges.min() < EDGES[0] or edges.max() > EDGES[1]:
        raise DataError(
            f"{name} has voxels of {' x '.join(f'{edge:.3g}' for edge in edges)}{f' {unit}' if unit else ''}, expected "
            f"{EDGES[0]} to {EDGES[1]} millimetres: correct affine and units in its header"
        )
    if not (betas.header["sform_code"] and betas.header["qform_code"]):
        return
    sform, qform = betas.header.get_sform()[:3, :3], betas.header.get_qform()[:3, :3]
    cosines = (sform * qform).sum(0) / np.linalg.norm(sform, axis=0) / np.linalg.norm(qform, axis=0)
    if cosines.min() < TURN:
        raise DataError(
            f"{name} has a sform and a qform that disagree on where the axes point, so left and right are not known, expected "
            "both the same: find out which is right and set the other to it (in nibabel: image.set_qform(affine, code))"
        )


@contextlib.contextmanager
def _named(path: Path, name: str) -> Iterator[None]:
    """Messages name the file as its table does."""
    try:
        yield
    except DataError as problem:
        text = str(problem)
        if text.startswith(path.name) and path.name != name:
            raise DataError(name + text.removeprefix(path.name)) from problem
        raise


def lie_alike(volumes: Frame, like: Frame) -> bool:
    """Whether both hold the same voxels in space, in any order of the axes."""
    _, grid, shift = _compare(volumes, like)
    edge = np.linalg.norm(like.affine[:3, :3], axis=0).min()
    return grid == like.grid and shift <= FIT * edge


def apart(volumes: Frame, like: Frame) -> str:
    """Words for how the grids of two files differ."""
    _, grid, shift = _compare(volumes, like)
    if grid == like.grid:
        return f"lies {shift:.1f} mm away from {like.name} although both have the grid {grid}"
    return f"has {volumes.describe()}, {like.name} has {like.describe()}"


def unplaced(*files: Frame) -> str:
    """What to do where one of some files that lie apart has no true affine; empty where all have."""
    for file in files:
        if file.made_up:
            return (
                f"the affine of {file.name} is the identity, as of an array that was saved without one, so it cannot be brought "
                "to the other's place by millimetres: save it again with the affine of the file that it was made from"
            )
    return ""


def same_voxels(volumes: Frame, like: Frame, voxels: np.ndarray) -> np.ndarray:
    """Where a file holds given voxels of another file's grid.

    Parameters
    ----------
    volumes, like : Frame
        For which `lie_alike` holds.
    voxels : int array of shape (n_voxels,)
        Flat indices of the grid of `like`, in Fortran order (x runs fastest).

    Returns
    -------
    int array of shape (n_voxels,)
        Flat indices of the grid of `volumes`, in Fortran order.
    """
    turn, _, _ = _compare(volumes, like)
    at = np.unravel_index(voxels, like.grid, order="F")
    here = []
    for size, (axis, direction) in zip(volumes.grid, turn, strict=True):
        index = at[int(axis)]
        here.append(index if direction > 0 else size - 1 - index)
    return np.ravel_multi_index(here, volumes.grid, order="F")


def _compare(volumes: Frame, like: Frame) -> tuple[np.ndarray, tuple[int, ...], float]:
    """How `volumes` lies when its axes are turned to those of `like`.

    Returns the axis of `like` and the direction for each axis of `volumes`, the grid after turning, and
    the largest distance of a corner from its place in `like` (mm). A header that says no position is
    taken to mean that of `like`.
    """
    from nibabel import orientations

    if not (volumes.placed and like.placed):
        return np.array([[0, 1], [1, 1], [2, 1]]), volumes.grid, 0.0
    turn = orientations.ornt_transform(
        orientations.io_orientation(volumes.affine), orientations.io_orientation(like.affine)
    )
    moved = volumes.turned(like)
    last = np.append(np.array(like.grid) - 1, 1)
    corners = np.array([[*corner, 1] for corner in np.ndindex(2, 2, 2)]) * last
    return turn, moved.grid, float(np.abs(corners @ (moved.affine - like.affine)[:3].T).max())


def number_type(files: list[Volumes]) -> np.dtype:
    """The files' own number type where they share a small one without scaling, else float32."""
    kinds = {file.betas.dtype.name for file in files}
    return np.dtype(kinds.pop() if len(kinds) == 1 and kinds <= set(SMALL) else np.float32)


def _small(values: np.ndarray) -> np.ndarray:
    if values.dtype.name in SMALL:
        return values
    with np.errstate(over="ignore"):  # clean_voxels finds what became infinite
        return values.astype(np.float32)
