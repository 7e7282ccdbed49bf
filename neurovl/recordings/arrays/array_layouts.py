"""Which axis of an array is what: taken from its sizes where these leave one reading, else stated by its user."""

from dataclasses import dataclass

import numpy as np

from neurovl.errors import ConfigError, DataError

FLAT = ("trials,voxels", "voxels,trials")
FULL = ("x,y,z,trials", "trials,x,y,z", "z,y,x,trials", "trials,z,y,x")
ORDERS = ("C", "F")


@dataclass(frozen=True, eq=False)
class Layout:
    """How volumes are taken from blocks of an array.

    Attributes
    ----------
    axes : str
        One of `FLAT` or `FULL`.
    trials : int
        The axis of the trials, of the array as it is stored.
    n_trials : int
    grid : tuple of int
        (x, y, z).
    places : int array of shape (n_voxels,) or None
        Where the columns of a flat array lie in the grid: flat indices in Fortran order.
    """

    axes: str
    trials: int
    n_trials: int
    grid: tuple[int, int, int]
    places: np.ndarray | None

    def volumes(self, block: np.ndarray) -> np.ndarray:
        """A block of trials as volumes (n, x * y * z) in Fortran order; 0 where a flat array has no voxel."""
        if self.places is None:
            here = self.axes.split(",")
            turned = block.transpose([here.index(axis) for axis in ("trials", "z", "y", "x")])
            return np.ascontiguousarray(turned).reshape(len(turned), -1)
        rows = block.reshape(len(block), -1)  # without the axes of length 1
        rows = rows if self.axes == FLAT[0] else rows.T
        out = np.zeros((len(rows), int(np.prod(self.grid))), np.float32)
        out[:, self.places] = rows
        return out


def find_layout(
    shape: tuple[int, ...],
    name: str,
    n_trials: int | None,
    mask: np.ndarray,
    axes: str | None = None,
    order: str | None = None,
) -> Layout:
    """The only layout that fits an array's shape, or the one that is stated.

    A flat array with two axes of length 1 between its own, as GLMsingle saves the betas of data without a grid, is taken as flat.

    Parameters
    ----------
    shape : tuple of int
    name : str
        How messages name the array.
    n_trials : int or None
        How many trials the array must have; None where any number will do and `axes` is stated.
    mask : bool array of shape (x, y, z)
        The voxels of a flat array; the grid of a full one.
    axes : str, optional
        One of `FLAT` or `FULL`.
    order : str, optional
        'C' or 'F': how the voxels of a flat array were numbered within the mask.

    Raises
    ------
    DataError
        If nothing fits, or more than one layout does and none is stated.
    ConfigError
        For axes or an order that do not exist, and a flat array without an order.

    Examples
    --------
    >>> from neurovl.recordings.arrays.array_layouts import find_layout
    >>> mask = np.ones((2, 3, 2), bool)
    >>> find_layout((40, 12), "betas.npy", 40, mask, order="C").axes
    'trials,voxels'
    """
    plain = shape[::3] if len(shape) == 4 and shape[1:3] == (1, 1) else shape
    choices = {2: FLAT, 4: FULL}.get(len(plain))
    if choices is None:
        raise DataError(
            f"{name} has the shape {shape}, expected two axes (trials and voxels) or four (x, y, z and trials): save it so"
        )
    if axes is not None and axes not in choices:
        raise ConfigError(
            f"--axes is {axes!r} and {name} has the shape {shape}, expected one of {' or '.join(choices)}: state one of these"
        )
    sizes = {"trials": n_trials, "voxels": int(mask.sum())}
    sizes |= dict(zip("xyz", mask.shape, strict=True))
    fitting = [
        one
        for one in choices
        if all(sizes[a] in (None, n) for a, n in zip(one.split(","), plain, strict=True))
    ]
    if not fitting or (axes is not None and axes not in fitting):
        of = f"{sizes['voxels']} voxels (above 0 in the mask)"
        of = of if len(plain) == 2 else f"the mask's grid {mask.shape}"
        of += f" and {n_trials} trials" if n_trials is not None else ""
        raise DataError(
            f"{name} has the shape {shape}{f' and --axes is {axes}' if axes else ''}, expected axes of {of}: name the mask and the "
            "trials that belong to it"
        )
    if axes is None and len(fitting) > 1:
        raise DataError(
            f"{name} has the shape {shape}, which can be read as {' or '.join(fitting)}, expected one reading: state it with --axes"
        )
    chosen = axes or fitting[0]
    trials = 0 if chosen.startswith("trials") else len(shape) - 1
    places = _places(mask, order, name, shape) if len(plain) == 2 else None
    return Layout(chosen, trials, shape[trials], mask.shape, places)


def _places(mask: np.ndarray, order: str | None, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if order is None:
        raise ConfigError(
            f"{name} has the shape {shape} and does not say which column is which voxel of the mask, expected --voxel-order C (the "
            "last axis runs fastest: data[mask] in numpy, nilearn) or F (the first axis runs fastest: find(mask) in MATLAB): state it, "
            "because a wrong order gives volumes that look plausible"
        )
    if order not in ORDERS:
        raise ConfigError(f"--voxel-order is {order!r}, expected C or F: choose one")
    if order == "F":
        return np.flatnonzero(mask.ravel(order="F"))
    return np.ravel_multi_index(np.nonzero(mask), mask.shape, order="F")
