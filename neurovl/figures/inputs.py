"""Figures of the recordings: pictures with their objects, one session, noise ceilings, resize and patches.

Left out: everything that a trained network produced (`scores.py`, `pictures.py`, `brains.py`).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from neurovl.figures.theme import CYCLE, INK, WIDTH, bare, finish, theme, wrap
from neurovl.recordings import Recordings
from neurovl.tokens.patch_plan import PatchPlan
from neurovl.tokens.resize import resize_linear, resize_nearest
from neurovl.tokens.store import TokenStore

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from PIL.Image import Image

NO_CEILING = "no picture was shown twice, so no ceiling is known"


def contact_sheet(recordings: Recordings, image_ids: Iterable[str], columns: int = 4) -> Figure:
    """Pictures with their objects in boxes, and one caption below each.

    Parameters
    ----------
    recordings : Recordings
    image_ids : iterable of str
    columns : int

    Examples
    --------
    >>> figure = neurovl.figures.contact_sheet(data, data.trials.image_id[:4])
    >>> len(figure.axes)
    4
    """
    image_ids = list(image_ids)
    columns = min(columns, len(image_ids))
    rows = -(-len(image_ids) // columns)
    with theme():
        figure, axes = plt.subplots(
            rows, columns, figsize=(WIDTH, rows * (WIDTH / columns + 0.75)), squeeze=False
        )
        for axis in axes.flat:
            bare(axis)
        for axis, image_id in zip(axes.flat, image_ids, strict=False):
            (picture,) = seen(recordings, [image_id])
            axis.imshow(picture.convert("RGB").resize((256, 256)))
            for number, thing in enumerate(recordings.objects(image_id)):
                _box(axis, thing, CYCLE[number % 3], 256)
            caption = next(iter(recordings.captions(image_id)), "")
            axis.set_xlabel(wrap(caption, round(104 / columns)), fontsize=9, loc="left")
        return finish(figure, f"data: {recordings.name}")


def seen(recordings: Recordings, ids: Iterable[str]) -> "list[Image]":
    """The pictures that were seen, by their ids; where the data come without, grey tiles that say so."""
    return [recordings.image(i) if recordings.has_images else _no_picture(str(i)) for i in ids]


def _no_picture(name: str) -> "Image":
    from PIL import Image, ImageDraw

    tile = Image.new("RGB", (256, 256), "#d8d8d8")
    ImageDraw.Draw(tile).text(
        (128, 128), f"{name}\n(no picture)", "#555555", anchor="mm", align="center", font_size=20
    )
    return tile


def _box(axis: "Axes", thing: dict, colour: str, size: int) -> None:
    x0, y0, x1, y1 = (size * v for v in thing["box"])
    axis.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, color=colour, lw=1.8))
    place = {"x": min(max(x0 + 3, 2), size * 0.7), "y": max(y0 + 4, 4), "va": "top"}
    back = {"facecolor": colour, "edgecolor": "none", "pad": 1.2, "alpha": 0.9}
    axis.text(s=thing["category"], color="white", fontsize=8, bbox=back, clip_on=True, **place)


def splits(recordings: Recordings) -> pd.DataFrame:
    """Sessions, trials and pictures of each subject in the training and in the test set."""
    groups = recordings.trials.groupby(["subject", "split"])
    table = groups.agg(
        sessions=("session", "nunique"), trials=("trial", "size"), pictures=("image_id", "nunique")
    ).reset_index()
    return table.assign(trials_per_picture=table.trials / table.pictures)


def session(
    recordings: Recordings, subject: str | int, n_trials: int = 120, n_voxels: int = 60
) -> Figure:
    """The beginning of a subject's first session: which showing each trial is, and the best voxels' responses.

    Parameters
    ----------
    recordings : Recordings
    subject : str
    n_trials : int
        Trials to show.
    n_voxels : int
        Voxels to show: those with the highest noise ceiling, or the first of the mask where none is known.
    """
    trials = recordings.subject_trials(subject).head(n_trials)
    volumes = recordings.volumes(subject, np.arange(len(trials)))
    mask, ceiling = recordings.mask(subject), recordings.noise_ceiling(subject)
    voxels = volumes[:, mask]
    if ceiling is not None:
        voxels = voxels[:, np.argsort(-ceiling[mask], kind="stable")]
    voxels = voxels[:, :n_voxels]
    limit = np.quantile(np.abs(voxels), 0.98)
    with theme():
        figure, (above, below) = plt.subplots(
            2, 1, figsize=(WIDTH, 4.2), sharex=True, height_ratios=(1, 2.4), layout="constrained"
        )
        for split, colour in (("train", CYCLE[0]), ("test", CYCLE[1])):
            own = (trials.split == split).to_numpy()
            place, repeat = np.flatnonzero(own), trials.repeat.to_numpy()[own] + 1
            above.scatter(place, repeat, s=14, color=colour, label=split)
        above.set(ylabel="showing", yticks=sorted(set(trials.repeat + 1)))
        above.legend(ncols=2, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0)
        shown = below.imshow(voxels.T, aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
        below.set(xlabel="trial", ylabel="voxel")
        figure.colorbar(shown, ax=below, label=recordings.units, pad=0.02)
        return finish(figure, f"data: {recordings.name} · {recordings.subject_name(subject)}")


def ceiling_histogram(recordings: Recordings, n_repeats: int = 3) -> Figure:
    """Noise ceilings within each subject's mask, as a share of the variance of the mean of `n_repeats` trials."""
    with theme():
        figure, axis = plt.subplots(figsize=(WIDTH, 3.2))
        for number, subject in enumerate(recordings.subjects):
            ceiling = recordings.noise_ceiling(subject, n_repeats)
            if ceiling is None:
                continue
            values = ceiling[recordings.mask(subject)]
            label = f"{subject}: median {np.median(values):.2f}"
            bins = np.linspace(0, 1, 41)
            weights = np.full(len(values), 1 / len(values))
            axis.hist(
                values,
                bins,
                weights=weights,
                histtype="step",
                lw=1.8,
                color=CYCLE[number % len(CYCLE)],
                label=label,
            )
        axis.set(xlabel="noise ceiling (share of variance)", ylabel="share of voxels", xlim=(0, 1))
        if axis.patches:
            axis.legend()
        else:
            axis.text(0.5, 0.5, NO_CEILING, ha="center", transform=axis.transAxes)
        return finish(figure, f"data: {recordings.name}")


def ceiling_map(
    recordings: Recordings, subject: str | int, n_slices: int = 6, n_repeats: int = 3
) -> Figure:
    """Noise ceilings on horizontal slices of a subject's own brain, drawn by nilearn."""
    import nibabel
    from nilearn import plotting

    mask, affine = recordings.mask(subject), recordings.affine(subject)
    some = np.arange(min(30, len(recordings.subject_trials(subject))))
    spread = recordings.volumes(subject, some).std(0)
    brain = np.pad(spread > 0, 2).astype(np.float32)  # room for the outline at the grid's edge
    moved = affine.copy()
    moved[:3, 3] = (affine @ [-2, -2, -2, 1])[:3]
    ceiling = recordings.noise_ceiling(subject, n_repeats)
    values = np.where(mask, 0 if ceiling is None else ceiling, 0)
    levels = levels_of(mask, n_slices)
    cuts = [float((affine @ [0, 0, k, 1])[2]) for k in levels]
    with theme():
        figure = plt.figure(figsize=(WIDTH, 2.2))
        display = plotting.plot_stat_map(
            nibabel.Nifti1Image(values.astype(np.float32), affine),
            bg_img=None,
            display_mode="z",
            cut_coords=cuts,
            cmap="viridis",
            vmin=0,
            vmax=1,
            threshold=1e-6,
            black_bg=False,
            annotate=False,
            figure=figure,
        )
        display.add_contours(
            nibabel.Nifti1Image(brain, moved), levels=[0.5], colors=[INK], linewidths=1
        )
        display.annotate(left_right=False, positions=True, size=9, color=INK)
        plt.close(figure)
        return figure


def levels_of(mask: np.ndarray, n: int) -> list[int]:
    """Levels along z such that about as many voxels of the mask lie between neighbours."""
    heights = np.nonzero(mask)[2]
    return sorted({int(k) for k in np.quantile(heights, (np.arange(n) + 0.5) / n).round()})


def resize(recordings: Recordings, store: TokenStore, subjects: Iterable[str]) -> Figure:
    """One response volume of each subject on its own grid and on the common one, at the middle level of the mask."""
    subjects = list(subjects)
    with theme():
        figure, axes = plt.subplots(
            2,
            len(subjects),
            figsize=(min(WIDTH, 2.7 * len(subjects)), 5.2),
            squeeze=False,
            layout="constrained",
        )
        for column, subject in enumerate(subjects):
            volume = recordings.volumes(subject, [0])[0]
            mask = recordings.mask(subject)
            common = resize_linear(volume, store.target), resize_nearest(mask, store.target)
            for axis, (data, inside), title in zip(
                axes[:, column],
                ((volume, mask), common),
                (f"{subject}: own grid", "common grid"),
                strict=True,
            ):
                level = levels_of(inside, 3)[1]
                limit = np.quantile(np.abs(volume[mask]), 0.95)
                axis.imshow(
                    data[:, :, level].T, origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit
                )
                axis.contour(inside[:, :, level].T, [0.5], colors=CYCLE[1], linewidths=1.2)
                axis.set_title(f"{title}\n{' × '.join(map(str, data.shape))} voxels")
                bare(axis)
        return finish(figure, f"data: {recordings.name}")


def patches(store: TokenStore, layout: str | None = None, n_slices: int = 4) -> Figure:
    """The region and the kept patches on one slice through each layer of patches, `n_slices` at most.

    Examples
    --------
    >>> figure = neurovl.figures.patches(run.store, n_slices=3)
    >>> type(figure).__name__
    'Figure'
    """
    layout = layout or store.layouts[0]
    plan = store.plans[layout]
    region = np.zeros(int(np.prod(store.target)), bool)
    region[store.region] = True
    region = region.reshape(store.target)
    edge = np.array(plan.patch)
    corners = np.stack(np.unravel_index(plan.kept, plan.candidates), -1) * edge
    layers = np.unique(corners[:, 2])
    chosen = layers[np.linspace(0, len(layers) - 1, min(n_slices, len(layers))).round().astype(int)]
    levels = [int(min(z + edge[2] // 2, store.target[2] - 1)) for z in chosen]
    with theme():
        figure, axes = plt.subplots(
            1, len(levels), figsize=(WIDTH, 2.6), squeeze=False, layout="constrained"
        )
        for axis, level in zip(axes.flat, levels, strict=True):
            axis.imshow(
                np.where(region[:, :, level].T, 1.0, np.nan),
                origin="lower",
                cmap="Greys",
                vmin=0,
                vmax=2,
            )
            for number, (x, y, z) in enumerate(corners):
                if z <= level < z + edge[2]:
                    shade = CYCLE[number % 7]
                    box = Rectangle((x - 0.5, y - 0.5), edge[0], edge[1], lw=1.2)
                    box.set(facecolor=shade + "55", edgecolor=shade)
                    axis.add_patch(box)
            bare(axis)
            low, high = corners.min(0) - 1.5, (corners + edge).max(0) + 0.5
            axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]))
            axis.set_title(f"level z = {level}")
        size = " × ".join(map(str, plan.patch))
        return finish(
            figure,
            f"{plan.n_tokens} patches of {size} voxels are kept, of {np.prod(plan.candidates)}",
        )


def cut(volume: np.ndarray, plan: PatchPlan, cubes: np.ndarray, source: str = "") -> Figure:
    """One volume with the patches of one layer drawn on it, and beside it the same patches, each by itself.

    The layer is the one with the most patches; of each patch the middle slice is drawn.

    Parameters
    ----------
    volume : array, shape (x, y, z)
        On the common grid; it is padded here, so that the last patches are whole.
    plan : PatchPlan
    cubes : array, shape (N, patch volume)
        The tokens of the volume.
    """
    edge = np.array(plan.patch)
    volume = np.pad(volume, [(0, -n % p) for n, p in zip(plan.target, plan.patch, strict=True)])
    corners = np.stack(np.unravel_index(plan.kept, plan.candidates), -1) * edge
    heights, counts = np.unique(corners[:, 2], return_counts=True)
    height = heights[counts.argmax()]
    middle = edge[2] // 2
    level = height + middle
    shown = np.flatnonzero(corners[:, 2] == height)
    limit = np.quantile(np.abs(cubes[cubes != 0]), 0.98)
    look = {"origin": "lower", "cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    columns = int(np.ceil(np.sqrt(len(shown))))
    with theme():
        figure = plt.figure(figsize=(WIDTH, 4), layout="constrained")
        left, right = figure.subfigures(1, 2)
        axis = left.subplots()
        axis.imshow(volume[:, :, level].T, **look)
        axis.set_title(f"level z = {level}")
        bare(axis)
        small = right.subplots(-(-len(shown) // columns), columns, squeeze=False)
        for panel in small.flat:
            bare(panel)
        for number, (token, panel) in enumerate(zip(shown, small.flat, strict=False)):
            shade, (x, y, _) = CYCLE[number % 7], corners[token]
            frame = Rectangle((x - 0.5, y - 0.5), edge[0], edge[1], fill=False, ec=shade, lw=1.8)
            axis.add_patch(frame)
            back = {"facecolor": shade, "edgecolor": "none", "pad": 1}
            axis.text(x, y, str(token), color="white", fontsize=7.5, bbox=back)
            panel.imshow(cubes[token].reshape(edge)[:, :, middle].T, **look)
            panel.set_title(f"token {token}", fontsize=8.5, pad=3)
            panel.spines[:].set(visible=True, color=shade, linewidth=2)
        return finish(figure, source)


def tokens(store: TokenStore, subject: str | int, image_ids: Iterable[str]) -> Figure:
    """Token matrices of pictures, each the mean over its repeats: one row a patch, one column a voxel of it."""
    image_ids = list(image_ids)
    with theme():
        figure, axes = plt.subplots(
            1,
            len(image_ids),
            figsize=(WIDTH, 3.4),
            squeeze=False,
            sharey=True,
            layout="constrained",
        )
        for axis, image_id in zip(axes.flat, image_ids, strict=True):
            matrix = store.tokens(subject, image_id)[0].numpy()
            shown = axis.imshow(matrix, aspect="auto", cmap="RdBu_r", vmin=-2, vmax=2)
            axis.set(title=f"image {image_id}", xlabel="voxel within the patch")
        axes[0, 0].set_ylabel("patch")
        bar = figure.colorbar(shown, ax=axes, pad=0.02)
        bar.set_label("z-score", color=INK)
        return finish(figure, store.subject_name(subject))
