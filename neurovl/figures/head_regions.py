"""Figures of what each head reads: shares of regions beside moved regions, and maps of voxels on slices.

Left out: computing them (`neurovl.localization.importance`).
"""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator, PercentFormatter

from neurovl.figures.brain_views import brain_view
from neurovl.figures.cortex import cortex
from neurovl.figures.inputs import levels_of
from neurovl.figures.page_tables import Html
from neurovl.figures.theme import CYCLE, INK, WIDTH, bare, finish, theme
from neurovl.recordings import Recordings

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HEADS = {"clip-head": ("CLIP head: content", CYCLE[0]), "vae-head": ("VAE head: layout", CYCLE[5])}
BETWEEN = LinearSegmentedColormap.from_list(
    "heads", [HEADS["clip-head"][1], "#f4f4f4", HEADS["vae-head"][1]]
)
GROUPS = {
    "share_early": "early areas",
    "share_ventral": "category areas",
    "early_minus_ventral": "early − category",
}


def region_importance(table: pd.DataFrame, subject: str = "all", source: str = "") -> Figure:
    """Share of each region in what each head reads, and the VAE head's share minus the CLIP head's.

    Marks have 95 % intervals over pictures, strokes are the other subjects; pale bars are the 95 % range of regions of the
    same size that lie elsewhere.

    Parameters
    ----------
    table : DataFrame
        RUN/importance/regions.csv.
    subject : str
    """
    own = table[table.subject == subject]
    known = list(dict.fromkeys(own.metric))
    groups = [m for m in GROUPS if m in known]
    rois = [m for m in known if m.startswith("share_") and m not in (*GROUPS, "share_own")]
    early = len({"share_V1", "share_V2", "share_V3", "share_hV4"} & set(rois))
    with theme():
        figure, axes = plt.subplots(
            2,
            2,
            figsize=(WIDTH, 2.2 + 0.34 * (len(groups) + len(rois))),
            height_ratios=(len(groups), len(rois)),
            layout="constrained",
        )
        for line, metrics in zip(axes, (groups, rois), strict=True):
            names = [GROUPS.get(m, m.removeprefix("share_")) for m in metrics]
            _marks(
                line[0], table, subject, metrics, {h: colour for h, (_, colour) in HEADS.items()}
            )
            _marks(line[1], table, subject, metrics, {"vae-minus-clip": INK})
            for axis, labels in zip(line, (names, [""] * len(names)), strict=True):
                if metrics is rois:
                    axis.axhline(early - 0.5, color=INK, lw=0.6, ls=":")
                axis.axvline(0, color=INK, lw=0.8)
                axis.set_yticks(range(len(labels)), labels)
                axis.set_ylim(len(labels) - 0.4, -0.6)
                axis.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
                axis.xaxis.set_major_formatter(PercentFormatter(1, 0, " %"))
                axis.tick_params(axis="y", length=0)
        axes[1, 0].set_xlabel("share of the head's gain")
        axes[1, 1].set_xlabel("CLIP reads more  ←      → VAE reads more")
        axes[0, 0].set_title("by head", loc="left")
        axes[0, 1].set_title("VAE head − CLIP head", loc="left")
        entries = [
            Line2D([], [], color=colour, marker="o", lw=2, label=label)
            for label, colour in HEADS.values()
        ]
        entries.append(Line2D([], [], color=INK, marker="|", lw=0, label="one subject"))
        entries.append(Patch(color=INK, alpha=0.22, lw=0, label="regions moved elsewhere"))
        figure.legend(handles=entries, loc="outside upper center", ncols=4, columnspacing=1.2)
        return finish(figure, source)


def _marks(
    axis: "Axes", table: pd.DataFrame, subject: str, metrics: list[str], colours: dict
) -> None:
    """A line for each metric from the top, the systems side by side in it."""
    axis.use_sticky_edges = False
    step = 0.36 if len(colours) > 1 else 0
    for number, (system, colour) in enumerate(colours.items()):
        own = table[table.system == system].set_index("metric")
        rows = own[own.subject == subject].reindex(metrics)
        for place, row in enumerate(rows.itertuples()):
            at = place + step * (number - (len(colours) - 1) / 2)
            axis.barh(
                at,
                row.null_high - row.null_low,
                left=row.null_low,
                height=0.3,
                color=colour,
                alpha=0.22,
                lw=0,
            )
            axis.plot([row.ci_low, row.ci_high], [at, at], color=colour, lw=2)
            each = own.value[(own.index == row.Index) & ~own.subject.isin(["all", subject])]
            axis.plot(each, [at] * len(each), "|", color=colour, ms=7, mew=1, alpha=0.8)
            axis.plot(row.value, at, "o", color=colour, ms=5.5)


def importance_slices(
    maps: dict, mask: np.ndarray, rois: dict, n_slices: int = 5, source: str = ""
) -> Figure:
    """Importance of voxels for each head, and which head a voxel weighs more for, on horizontal slices.

    Parameters
    ----------
    maps : dict of str to nibabel image
        By head, 1 where a voxel weighs as much as on average in the mask.
    mask : bool array, shape (x, y, z)
    rois : dict of str to bool array
        The subject's, of which the early and the category-selective areas are outlined.
    n_slices : int
    """
    from neurovl.evaluation.region_importance import EARLY, VENTRAL

    groups = {"early areas": (EARLY, CYCLE[2]), "category areas": (VENTRAL, CYCLE[3])}
    outlines = {
        name: (np.any([rois[r] for r in areas if r in rois], axis=0) & mask, colour)
        for name, (areas, colour) in groups.items()
    }
    levels = levels_of(mask, n_slices)
    xs, ys = (np.flatnonzero(mask.any(axis)) for axis in ((1, 2), (0, 2)))
    window = (slice(max(xs[0] - 1, 0), xs[-1] + 2), slice(max(ys[0] - 1, 0), ys[-1] + 2))
    values = {head: np.asarray(image.dataobj) for head, image in maps.items()}
    difference = values["vae-head"] - values["clip-head"]
    affine = maps["clip-head"].affine
    top, wide = _scales(values, mask)
    rows = [
        (HEADS[head][0].replace(": ", "\n"), values[head], "inferno", (0, top)) for head in HEADS
    ]
    rows.append(("VAE − CLIP", difference, BETWEEN, (-wide, wide)))
    tall = (ys[-1] - ys[0] + 3) / (xs[-1] - xs[0] + 3)
    cell = (WIDTH - 2.4) / len(levels)
    with theme():
        figure, axes = plt.subplots(
            3, len(levels), figsize=(WIDTH, 3 * cell * tall + 1.2), layout="constrained"
        )
        for line, (label, volume, colours, (low, high)) in zip(axes, rows, strict=True):
            for axis, level in zip(line, levels, strict=True):
                at = window + (level,)
                axis.imshow(
                    np.where(mask[at], volume[at], np.nan).T,
                    origin="lower",
                    cmap=colours,
                    vmin=low,
                    vmax=high,
                )
                axis.contour(mask[at].T, [0.5], colors=INK, linewidths=0.8)
                for area, colour in outlines.values():
                    if area[at].any():
                        axis.contour(area[at].T, [0.5], colors=colour, linewidths=1.3)
                bare(axis)
            line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
        for lines, words in ((axes[:2], "times an even spread"), (axes[2], "difference")):
            figure.colorbar(lines.flat[-1].images[0], ax=lines, pad=0.02, aspect=14, label=words)
        for axis, level in zip(axes[0], levels, strict=True):
            axis.set_title(f"z = {(affine @ [0, 0, level, 1])[2]:.0f} mm")
        entries = [
            Line2D([], [], color=colour, lw=2, label=k) for k, (_, colour) in outlines.items()
        ]
        figure.legend(handles=entries, loc="outside upper center", ncols=2)
        figure.get_layout_engine().set(w_pad=0.01, wspace=0, h_pad=0.02, hspace=0)
        return finish(figure, source)


def _scales(values: dict, mask: np.ndarray) -> tuple[float, float]:
    """Where the colour scales end: of the heads' importance, and of the difference between them."""
    top = np.quantile(np.concatenate([v[mask] for v in values.values()]), 0.99)
    wide = np.quantile(np.abs((values["vae-head"] - values["clip-head"])[mask]), 0.99)
    return float(top), float(wide)


def importance_cortex(
    maps: dict, recordings: Recordings, subject: str | int, source: str = ""
) -> Figure:
    """Which head a voxel weighs more for, as `cortex` draws maps.

    Parameters
    ----------
    maps : dict of str to nibabel image
        As `importance_slices` takes them.
    recordings : Recordings
    subject : str or int
    """
    import nibabel

    values = {head: np.asarray(image.dataobj) for head, image in maps.items()}
    wide = _scales(values, recordings.mask(subject))[1]
    difference = values["vae-head"] - values["clip-head"]
    image = nibabel.Nifti1Image(difference, maps["clip-head"].affine)
    about = {"limits": (-wide, wide), "label": "VAE − CLIP", "colours": BETWEEN}
    return cortex({"VAE − CLIP": image}, recordings, subject, **about, source=source)


def importance_view(
    maps: dict, recordings: Recordings, subject: str | int, source: str = ""
) -> Html:
    """Importance for each head, as `brain_view` shows maps; arguments as those of `importance_cortex`."""
    values = {head: np.asarray(image.dataobj) for head, image in maps.items()}
    top = _scales(values, recordings.mask(subject))[0]
    named = {HEADS[head][0]: maps[head] for head in HEADS}
    about = {"limits": (0, top), "label": "times an even spread", "source": source}
    return brain_view(named, recordings, subject, **about)
