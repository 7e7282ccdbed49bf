"""Masks for a trial without data: of the data where they are given, of the simulated subjects, or drawn as a stand-in."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import ConfigError, NeurovlError
from neurovl.recordings.nsd.atlases import GRIDS, NSDGENERAL, VOXEL_MM, grid
from neurovl.settings.sections import Profile
from neurovl.tokens.patch_plan import PatchPlan, layout_name
from neurovl.tokens.writing import patch_in_voxels

if TYPE_CHECKING:
    from neurovl.recordings.base import Recordings


def masks_for(
    profile: Profile, recordings: "Recordings | None" = None
) -> tuple[dict, float | np.ndarray, str]:
    """Masks by subject, the edges of a voxel in mm, and where the masks come from.

    Parameters
    ----------
    profile : Profile
    recordings : Recordings, optional
        Their own masks are taken.
    """
    if recordings is not None:
        masks = {s: recordings.mask(s) for s in recordings.subjects}
        edges = np.linalg.norm(recordings.affine(recordings.subjects[0])[:3, :3], axis=0)
        return masks, edges, f"masks of {recordings.name}"
    world = profile.simulation
    if world is None and profile.preprocessing.subjects is None:
        raise ConfigError(
            f"profile {profile.name} names neither simulated data nor subjects, so its grid is that of the data: give them "
            "with --data DIR"
        )
    subjects = world.subjects if world is not None else profile.preprocessing.subjects
    numbers = [str(s).removeprefix("subj") for s in subjects]
    if not all(n.isdigit() and int(n) in GRIDS for n in numbers):
        raise ConfigError(
            f"preprocessing.subjects of the profile are {', '.join(map(str, subjects))}, expected NSD's numbers from 1 to 8 "
            "where no data are given: give the data with --data DIR"
        )
    scale = world.scale if world is not None else 1.0
    masks = {f"subj{int(n):02d}": stand_in(int(n), scale) for n in numbers}
    return masks, np.full(3, VOXEL_MM * scale), "stand-in masks of NSD's sizes"


def stand_in(subject: int, scale: float = 1.0) -> np.ndarray:
    """A mask on an NSD subject's grid: the lower back of an ellipsoid's shell, as many voxels as its nsdgeneral has.

    It is drawn in milliseconds and needs about as many patches as real heads (49 of 288 for four subjects at NSD's grid
    and patches of 14 voxels, the simulated anatomy 57); it stands for no brain.

    Parameters
    ----------
    subject : int
        1 to 8.
    scale : float
        NSD's grid is divided by this.
    """
    shape = grid(subject, scale)
    axes = [(np.arange(n) - (n - 1) / 2) / (0.45 * n) for n in shape]
    x, y, z = np.meshgrid(*axes, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2)
    shell = (radius > 0.88) & (radius < 1) & (z < 0.2)
    order = np.argsort(np.where(shell, y, np.inf), axis=None, kind="stable")
    n_voxels = min(round(NSDGENERAL[subject] / scale**3), int(shell.sum()))
    mask = np.zeros(shape, bool)
    mask.flat[order[: max(1, n_voxels)]] = True
    return mask


def plans_for(profile: Profile, masks: dict, edges: float | np.ndarray) -> dict[str, PatchPlan]:
    """The patch plan of every patch size of the profile, as preprocessing makes them."""
    wanted = profile.preprocessing
    first = next(iter(masks.values())).shape
    target = tuple(wanted.target or first)
    edges = np.asarray(edges) * first / target
    plans = {}
    for patch in wanted.patches:
        size = patch_in_voxels(patch, edges)
        plans[layout_name(size)] = PatchPlan.fit(masks, target, size, wanted.off_mask)
    return plans


def union_region(plans: dict[str, PatchPlan]) -> np.ndarray:
    """The voxels that the token store keeps for these plans."""
    return np.unique(np.concatenate([plan.region for plan in plans.values()]))


def open_for(profile: Profile, data: str | Path | None) -> "Recordings | None":
    """The recordings of a data folder, None where none was given or it cannot be read."""
    from neurovl.recordings.opening import open_recordings

    wanted = profile.preprocessing
    try:
        return data and open_recordings(data, wanted.subjects, 0, wanted.split, wanted.betas)
    except NeurovlError:
        return None
