"""Maps of a subject's brain as a whole: on the inflated cortex with outlines of regions, or seen through from three sides.

On the cortex where the data set knows the way from its volumes to the surface; elsewhere the map is projected along the axes of
its own space, where a template's glass brain would say of places what nobody measured. Drawn on fsaverage5, which nilearn ships and whose
vertices are the first 10,242 of fsaverage's. Left out: slices (``slices.py``) and what can be turned (``brain_views.py``).
"""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurovl.figures.theme import CYCLE, INK, WIDTH, bare, finish, theme
from neurovl.recordings import Recordings

if TYPE_CHECKING:
    from nibabel import Nifti1Image

SIDES = {"lh": "left", "rh": "right"}
COARSE = 10_242  # vertices of fsaverage5, a hemisphere
LEAST = 0.25  # how much of the voxels around a vertex the mask must hold
VIEWS = {  # from behind to the side: elevation and azimuth in degrees, for the left and the right hemisphere
    "lateral": {"lh": (0, 215), "rh": (0, 325)},
    "medial": {"lh": (0, 325), "rh": (0, 215)},
    "ventral": {"lh": (300, 240), "rh": (300, 300)},
}
NONE = 1e-6  # what is not above it is not drawn
GROUPS = {  # what is outlined, and how
    "early areas": (("V1", "V2", "V3", "hV4"), CYCLE[4]),
    "faces": (("OFA", "FFA-1", "FFA-2"), CYCLE[0]),
    "bodies": (("EBA", "FBA-1", "FBA-2"), CYCLE[2]),
    "places": (("OPA", "PPA", "RSC"), CYCLE[3]),
}


def cortex(
    maps: "dict[str, Nifti1Image]",
    recordings: Recordings,
    subject: str | int,
    limits: tuple[float, float] = (0, 1),
    label: str = "heat, 0 to 1",
    colours: str | Colormap = "inferno",
    source: str = "",
) -> Figure:
    """Maps on the inflated cortex, two rows each; where the data set has no surface, projections in the subject's own space.

    Parameters
    ----------
    maps : dict of str to nibabel image
        In the subject's own functional space.
    recordings : Recordings
    subject : str or int
    limits : tuple of float
        Values of the two ends of the colour scale.
    label : str
        What the colours say.
    colours : str or matplotlib colormap
    source : str

    Examples
    --------
    >>> heat = run.locate("person", subject=1)
    >>> figure = neurovl.figures.cortex({"person": heat.to_nifti()}, data, subject=1)
    >>> [axis.get_title() for axis in figure.axes[:3]]
    ['person: left, lateral', 'person: left, medial', 'person: left, ventral']
    """
    if recordings.surface(subject) is None:
        return _projections(maps, recordings.mask(subject), limits, label, colours, source)
    from nilearn import datasets, plotting

    fsaverage = datasets.fetch_surf_fsaverage("fsaverage5")
    volumes = {name: np.asarray(image.dataobj) for name, image in maps.items()}
    values = on_cortex(volumes, recordings, subject)
    outlines, names = outlined(recordings, subject)
    rows = [(name, hemi) for name in maps for hemi in SIDES]
    with theme():
        figure, axes = plt.subplots(
            len(rows),
            len(VIEWS),
            figsize=(WIDTH, 2.0 * len(rows) + 0.4),
            squeeze=False,
            subplot_kw={"projection": "3d"},
            layout="constrained",
        )
        for line, (name, hemi) in zip(axes, rows, strict=True):
            mesh, side = fsaverage[f"infl_{SIDES[hemi]}"], SIDES[hemi]
            here = [n for n in range(1, len(names) + 1) if (outlines[hemi] == n).any()]
            for axis, (view, from_where) in zip(line, VIEWS.items(), strict=True):
                where = {"hemi": side, "axes": axis, "figure": figure}
                plotting.plot_surf_stat_map(
                    mesh,
                    _visible(values[name][hemi]),
                    bg_map=fsaverage[f"sulc_{side}"],
                    view=from_where[hemi],
                    threshold=NONE,
                    cmap=colours,
                    vmin=limits[0],
                    vmax=limits[1],
                    symmetric_cbar=False,
                    colorbar=False,
                    **where,
                )
                if here:
                    shades = [GROUPS[names[n - 1]][1] for n in here]
                    plotting.plot_surf_contours(
                        mesh, outlines[hemi], levels=here, colors=shades, **where
                    )
                axis.set_title(f"{name}: {side}, {view}", fontsize=9.5, y=1)
                axis.set_box_aspect(None, zoom=1.6)
        _scale(figure, axes, limits, label, colours)
        lines = [Line2D([], [], color=GROUPS[n][1], lw=2, label=n) for n in names]
        figure.legend(handles=lines, loc="outside upper center", ncols=max(1, len(lines)))
        return finish(figure, source)


def _visible(values: np.ndarray) -> np.ndarray:
    """Values with 0 for those that shall not be drawn; a 0 that shall is moved a little."""
    return np.where(np.isnan(values), 0, np.where(np.abs(values) <= NONE, 2 * NONE, values))


def on_cortex(
    maps: dict[str, np.ndarray], recordings: Recordings, subject: str | int
) -> dict[str, dict[str, np.ndarray]]:
    """By map and hemisphere the values at fsaverage5's vertices, not a number away from the subject's mask.

    What the mask leaves out does not dim its edge: both map and mask are sampled, and the first divided by the second.

    Parameters
    ----------
    maps : dict of str to array, shape (x, y, z)

    Returns
    -------
    dict of str to dict of str to float32 array, shape (10242,)
    """
    surface, mask = recordings.surface(subject), recordings.mask(subject)
    weight = surface.sample(mask)
    found: dict = {name: {} for name in maps}
    for name, values in maps.items():
        for hemi, sampled in surface.sample(np.where(mask, values, 0)).items():
            share = weight[hemi][:COARSE]
            share = np.where(share >= LEAST, share, np.nan)
            found[name][hemi] = (sampled[:COARSE] / share).astype(np.float32)
    return found


def outlined(recordings: Recordings, subject: str | int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Groups of regions on fsaverage5: by hemisphere the number of a vertex's group from 1, and the groups' names."""
    rois = recordings.rois(subject)
    known = {
        name: np.any([rois[area] for area in areas if area in rois], axis=0)
        for name, (areas, _) in GROUPS.items()
        if any(area in rois for area in areas)
    }
    numbers = {hemi: np.zeros(COARSE, int) for hemi in SIDES}
    for number, both in enumerate(on_cortex(known, recordings, subject).values(), 1):
        for hemi, share in both.items():
            numbers[hemi][share >= 0.5] = number
    return numbers, list(known)


def _projections(
    maps: dict,
    mask: np.ndarray,
    limits: tuple[float, float],
    label: str,
    colours: str | Colormap,
    source: str,
) -> Figure:
    """The value farthest from 0 along each axis of the space that the images' affine gives; the outline is the mask's shadow."""
    import nibabel

    def upright(data: np.ndarray, affine: np.ndarray) -> np.ndarray:
        turned = nibabel.as_closest_canonical(nibabel.Nifti1Image(data.astype(np.float32), affine))
        return np.asarray(turned.dataobj)

    sides = [("from the right", 0), ("from behind", 1), ("from above", 2)]
    with theme():
        figure, axes = plt.subplots(
            len(maps),
            len(sides),
            figsize=(WIDTH, 2.2 * len(maps) + 0.5),
            squeeze=False,
            layout="constrained",
        )
        for line, (name, image) in zip(axes, maps.items(), strict=True):
            inside = upright(mask, image.affine) > 0.5
            window = tuple(slice(max(at.min() - 1, 0), at.max() + 2) for at in np.nonzero(inside))
            inside = inside[window]
            values = np.where(inside, upright(np.asarray(image.dataobj), image.affine)[window], 0)
            for axis, (title, along) in zip(line, sides, strict=True):
                shadow = inside.any(along)
                low, high = values.min(along), values.max(along)
                farthest = np.where(-low > high, low, high)
                axis.imshow(
                    np.where(shadow, farthest, np.nan).T,
                    origin="lower",
                    cmap=colours,
                    vmin=limits[0],
                    vmax=limits[1],
                )
                axis.contour(shadow.T, [0.5], colors=INK, linewidths=0.8)
                bare(axis)
                if name == next(iter(maps)):
                    axis.set_title(title)
                for place, text, edge in ((0, "L", "left"), (1, "R", "right")) if along else ():
                    axis.text(place, -0.03, text, transform=axis.transAxes, ha=edge, va="top")
            line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=6)
        _scale(figure, axes, limits, label, colours)
        return finish(figure, " · ".join(filter(None, ("own space, no template", source))))


def _scale(
    figure: Figure,
    axes: np.ndarray,
    limits: tuple[float, float],
    label: str,
    colours: str | Colormap,
) -> None:
    values = ScalarMappable(Normalize(*limits), colours)
    figure.colorbar(values, ax=axes, pad=0.02, shrink=0.8, aspect=25, label=label)
