"""Figures of concepts in the brain: heatmaps on slices of the subject's own space, and by ROI.

Left out: locating them (`neurovl.localization.concept_maps`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neurovl.figures.inputs import levels_of
from neurovl.figures.theme import CYCLE, INK, WIDTH, bare, finish, theme

if TYPE_CHECKING:
    from nibabel import Nifti1Image
    from PIL.Image import Image


def heat_slices(heats: dict, mask: np.ndarray, n_slices: int = 5, source: str = "") -> Figure:
    """Heatmaps, one row a concept, on horizontal slices; the outline is the mask.

    Parameters
    ----------
    heats : dict of str to nibabel image
    mask : bool array, shape (x, y, z)
    n_slices : int

    Examples
    --------
    >>> heat = run.locate("person", subject=1)
    >>> figure = neurovl.figures.heat_slices({"person": heat.to_nifti()}, data.mask(1), n_slices=3)
    >>> figure.axes[0].get_ylabel()
    'person'
    """
    levels = levels_of(mask, n_slices)
    window = _window(mask)
    wide, high = mask[..., 0][window].shape
    cell = (WIDTH - 2.2) / len(levels)
    with theme():
        figure, axes = plt.subplots(
            len(heats),
            len(levels),
            figsize=(WIDTH, len(heats) * cell * high / wide + 0.5),
            squeeze=False,
            layout="constrained",
        )
        shown = None
        for number, (concept, image) in enumerate(heats.items()):
            values, affine, line = np.asarray(image.dataobj), image.affine, axes[number]
            for axis, level in zip(line, levels, strict=True):
                inside = mask[window + (level,)]
                shown = axis.imshow(
                    np.where(inside, values[window + (level,)], np.nan).T,
                    origin="lower",
                    cmap="inferno",
                    vmin=0,
                    vmax=1,
                )
                axis.contour(inside.T, [0.5], colors=INK, linewidths=0.8)
                bare(axis)
                if number == 0:
                    axis.set_title(f"z = {(affine @ [0, 0, level, 1])[2]:.0f} mm")
            line[0].set_ylabel(concept, rotation=0, ha="right", va="center", labelpad=6)
        figure.colorbar(shown, ax=axes, label="heat, 0 to 1", pad=0.02, shrink=0.8)
        return finish(figure, source)


def _window(mask: np.ndarray) -> tuple[slice, slice]:
    """The part of a horizontal slice that holds the mask, with a voxel around it."""
    xs, ys = (np.flatnonzero(mask.any(axis)) for axis in ((1, 2), (0, 2)))
    return slice(max(xs[0] - 1, 0), xs[-1] + 2), slice(max(ys[0] - 1, 0), ys[-1] + 2)


def hottest_slice(image: "Nifti1Image", mask: np.ndarray, size: int = 128) -> "Image":
    """The horizontal slice of a heatmap that holds its hottest voxel, as a square picture; grey is outside the mask.

    Parameters
    ----------
    mask : bool array, shape (x, y, z)
    size : int
        Side of the picture in pixels.
    """
    from PIL import Image, ImageOps

    values = np.where(mask, np.asarray(image.dataobj), 0)
    level = np.unravel_index(values.argmax(), values.shape)[2]
    window = _window(mask)
    shades = plt.get_cmap("inferno")(values[(*window, level)], bytes=True)[..., :3]
    shades[~mask[(*window, level)]] = 64
    upright = Image.fromarray(shades.transpose(1, 0, 2)[::-1].copy())  # the front above
    return ImageOps.pad(upright, (size, size), Image.Resampling.NEAREST, color=(64, 64, 64))


def roi_heat(rois: pd.DataFrame, regions: Iterable[str] | None = None, source: str = "") -> Figure:
    """Mean heat of each concept in each ROI, averaged over subjects.

    Parameters
    ----------
    rois : DataFrame
        Columns subject, concept, roi, mean.
    regions : iterable of str, optional
        The ROIs to show; those that all subjects have by default.
    """
    table = rois.pivot_table(index="concept", columns="roi", values="mean", aggfunc="mean")
    order = [r for r in regions or table.columns if r in table.columns]
    table = table[order] if regions else table.sort_index(axis=1)
    with theme():
        figure, axis = plt.subplots(figsize=(WIDTH, 1.3 + 0.32 * len(table)), layout="constrained")
        shown = axis.imshow(table, aspect="auto", cmap="viridis")
        axis.set_xticks(range(len(table.columns)), table.columns, rotation=45, ha="right")
        axis.set_yticks(range(len(table)), table.index)
        figure.colorbar(shown, ax=axis, label="mean heat", pad=0.02)
        return finish(figure, source)


def truth_and_zeroing(located: pd.DataFrame, source: str = "") -> Figure:
    """Two checks of the located voxels: agreement with the true maps, and what zeroing them takes away.

    Parameters
    ----------
    located : DataFrame
        Columns subject, concept, drop_located, drop_moved, drop_other, and in simulations auc, auc_other.
    """
    drops = {
        "drop_located": "located voxels zeroed",
        "drop_moved": "the same, moved elsewhere",
        "drop_other": "another concept's",
    }
    panels = [("what of the concept is lost", 0.0, drops)]
    if "auc" in located and located.auc.notna().any():
        names = {"auc": "map of the same concept", "auc_other": "map of another concept"}
        panels.insert(0, ("area under the ROC curve", 0.5, names))
    concepts = located.groupby("concept")[next(iter(panels[0][2]))].mean().sort_values().index
    with theme():
        figure, axes = plt.subplots(
            1,
            len(panels),
            figsize=(WIDTH, 1.9 + 0.28 * len(concepts)),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for axis, (label, chance, columns) in zip(axes.flat, panels, strict=True):
            axis.axvline(chance, color=INK, lw=1, ls="--")
            looks = ((CYCLE[0], "D"), (CYCLE[7], "o"), (CYCLE[1], "s"))
            for (column, title), (colour, mark) in zip(columns.items(), looks, strict=False):
                mean = located.groupby("concept")[column].mean().reindex(concepts)
                axis.plot(mean, range(len(mean)), mark, color=colour, ms=6.5, label=title)
            axis.set_xlabel(label)
            axis.set_yticks(range(len(concepts)), concepts)
            axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1))
        return finish(figure, source)
