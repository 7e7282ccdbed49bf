"""Figures of numbers: training curves, scores with intervals, curves over beta, claims.

Every number comes from the run's tables; chance is a dashed line or mark, the ceiling a dotted one.
"""

from collections.abc import Iterable
from itertools import zip_longest
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurovl.figures.theme import CYCLE, INK, WIDTH, colour, finish, name, theme, wrap
from neurovl.results import condition_value
from neurovl.run import RunTables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SYSTEMS = (
    "neurovl",
    "embeddings-averaged",
    "linear-readout",
    "per-subject",
    "per-subject-flat",
    "common",
    "plain",
    "flat",
    "no-vae",
    "hidden-states",
    "no-llm",
    "brief-prompt",
    "ridge",
    "p12",
    "p10",
    "p4",
    "p3",
    "shuffled",
    "imagery",
    "scrambled",
    "noise",
    "no-brain",
    "true-embedding",
    "true-picture",
    "clip-head",
    "vae-head",
    "vae-minus-clip",
)  # from the top of a figure to its foot
PICTURE_SCORES = {
    "pixcorr": "PixCorr",
    "ssim": "SSIM",
    "two_way_scenenet_early": "two-way, early layer",
    "two_way_scenenet_late": "two-way, late layer",
    "objects_found": "objects found",
    "two_way_alexnet2": "two-way, AlexNet(2)",
    "two_way_alexnet5": "two-way, AlexNet(5)",
    "two_way_inception": "two-way, Inception",
    "two_way_clip": "two-way, CLIP",
    "distance_effnet": "distance, EfficientNet",
    "distance_swav": "distance, SwAV",
}
CAPTION_SCORES = {
    "bleu1": "BLEU-1",
    "bleu4": "BLEU-4",
    "meteor": "METEOR",
    "rouge": "ROUGE",
    "cider": "CIDEr",
    "spice": "SPICE",
    "clip_s": "CLIP-S",
}
VERDICTS = {"holds": ("#009E73", "o"), "fails": ("#D55E00", "X"), "undecided": (INK, "s")}


def training_curves(curves: pd.DataFrame, columns: list[str], source: str = "") -> Figure:
    """Training loss of each encoder over steps, one panel a column.

    Parameters
    ----------
    curves : DataFrame
        Columns system, step and `columns`.
    """
    columns = [c for c in columns if c in curves and curves[c].notna().any()]
    with theme():
        figure, axes = plt.subplots(
            1, len(columns), figsize=(WIDTH, 3.4), squeeze=False, layout="constrained"
        )
        for axis, column in zip(axes.flat, columns, strict=True):
            for number, (system, part) in enumerate(curves.groupby("system", sort=False)):
                part = part[part[column].notna()]
                smooth = part[column].rolling(8, min_periods=1).mean()
                shade = CYCLE[number % len(CYCLE)]
                axis.plot(part.step, smooth, color=shade, lw=1.6, label=system)
            axis.set(xlabel="step", title=column.replace("_", " "))
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=4)
        return finish(figure, source)


def language_curve(curve: pd.DataFrame, source: str = "") -> Figure:
    """Cross-entropy of the answers' tokens over the two stages."""
    with theme():
        figure, axis = plt.subplots(figsize=(WIDTH, 3))
        start = 0
        for number, (stage, part) in enumerate(curve.groupby("stage")):
            step = start + part.step
            smooth = part.loss.rolling(10, min_periods=1).mean()
            what = "projector alone" if stage == 1 else "projector and language model"
            axis.plot(step, part.loss, color=CYCLE[number], lw=0.6, alpha=0.35)
            axis.plot(step, smooth, color=CYCLE[number], lw=1.8, label=f"stage {stage}: {what}")
            start += part.step.iloc[-1]
        axis.set(xlabel="step", ylabel="cross-entropy per token")
        axis.legend()
        return finish(figure, source)


def in_order(systems: Iterable[str]) -> list[str]:
    """Systems as figures have them from the top: those of `SYSTEMS`, then others as they come."""
    ranks = {system: rank for rank, system in enumerate(SYSTEMS)}
    return sorted(systems, key=lambda system: ranks.get(system, len(ranks)))


def scores(
    results: pd.DataFrame,
    metrics: dict[str, str],
    systems: Iterable[str] | None = None,
    source: str = "",
) -> Figure:
    """Scores of systems with 95 % intervals, one panel a metric.

    Parameters
    ----------
    results : DataFrame
        Rows of results.csv, at most one for each system, protocol and metric. A filled mark is the average of repeats,
        an open one a single trial.
    metrics : dict of str to str
        Metric to the title of its panel; those without a value are left out.
    systems : iterable of str, optional
        These alone, from the top; by default all that are in the table.

    Examples
    --------
    >>> from neurovl.results import Row, read_results, write_results
    >>> about = ("alignment", "average", "all", "two_way_clip")
    >>> rows = [Row("mine", system, *about, value=0.8) for system in ("neurovl", "ridge")]
    >>> table = read_results(write_results(rows, folder / "results.csv"))
    >>> figure = neurovl.figures.scores(table, {"two_way_clip": "CLIP"})
    >>> figure.axes[0].get_title()
    'CLIP'
    """
    known = results[results.value.notna() & results.metric.isin(metrics)]
    shown = [m for m in metrics if m in set(known.metric)]
    found = in_order(known.system.unique())
    order = found if systems is None else [s for s in systems if s in found]
    height = (0.95 + 0.34 * len(order), 0.35)
    with theme():
        columns = 2 if len(shown) == 4 else min(3, len(shown))
        figure, axes = _panels([metrics[m] for m in shown], columns, height, sharey=True)
        for axis, metric in zip(axes.flat, shown, strict=False):
            part = known[known.metric == metric]
            for place, system in enumerate(reversed(order)):
                _score(axis, part[part.system == system], place, colour(system))
            axis.set_yticks(range(len(order)), [name(s) for s in reversed(order)])
            axis.set_ylim(-0.6, len(order) - 0.4)
            axis.margins(x=0.12)
            axis.locator_params(axis="x", nbins=4)
        _score_key(figure, known)
        return finish(figure, source)


def _panels(
    titles: list[str], columns: int, height: tuple[float, float], **shared: bool
) -> tuple[Figure, np.ndarray]:
    """Empty panels with titles, `height` of a row and beside the rows in inches; places left over are hidden."""
    rows = -(-len(titles) // columns)
    size = (WIDTH, rows * height[0] + height[1])
    figure, axes = plt.subplots(
        rows, columns, figsize=size, squeeze=False, layout="constrained", **shared
    )
    for axis, title in zip_longest(axes.flat, titles):
        axis.set(title=title or "", visible=title is not None)
    return figure, axes


def _score(axis: "Axes", rows: pd.DataFrame, place: int, shade: str) -> None:
    protocols = [p for p in ("average", "single") if p in set(rows.protocol)]
    for row in rows.itertuples():
        shift = 0.13 * (1 - 2 * protocols.index(row.protocol)) * (len(protocols) > 1)
        y = place + shift
        fill = shade if row.protocol == "average" or len(protocols) == 1 else "none"
        if not np.isnan(row.ci_low):
            axis.plot([row.ci_low, row.ci_high], [y, y], color=shade, lw=2)
        axis.plot(row.value, y, "o", ms=6.5, mec=shade, mfc=fill, mew=1.6)
        for value, style in ((row.chance, "--"), (row.ceiling, ":")):
            if not np.isnan(value):
                axis.plot([value, value], [place - 0.38, place + 0.38], color=INK, lw=1.4, ls=style)


def _score_key(figure: Figure, rows: pd.DataFrame) -> None:
    entries = [Line2D([], [], color=INK, marker="o", lw=2, label="score and 95 % interval")]
    if set(rows.protocol) == {"average", "single"}:
        entries.append(
            Line2D([], [], color=INK, marker="o", mfc="none", lw=2, label="single trial")
        )
    for column, style, label in (("chance", "--", "chance"), ("ceiling", ":", "ceiling")):
        if rows[column].notna().any():
            entries.append(Line2D([], [], color=INK, ls=style, label=label))
    figure.legend(handles=entries, loc="outside upper center", ncols=4)


def beta_rows(results: pd.DataFrame) -> pd.DataFrame:
    """The rows of the beta ablation, with `beta` as a number."""
    beta = results.condition.map(lambda varied: condition_value(varied, "beta")).astype(float)
    return results.assign(beta=beta)[beta.notna()].sort_values("beta", kind="stable")


def beta_curves(rows: pd.DataFrame, metrics: dict[str, str], source: str = "") -> Figure:
    """Scores over the noise strength beta, with and without the language model; the band is the 95 % interval."""
    shown = [m for m in metrics if m in set(rows[rows.value.notna()].metric)]
    with theme():
        figure, axes = _panels([metrics[m] for m in shown], 2, (2.7, 0.3), sharex=True)
        for axis, metric in zip(axes.flat, shown, strict=False):
            part = rows[rows.metric == metric]
            for system, line in part.groupby("system", sort=False):
                label = {"neurovl": "with LLM", "no-llm": "without LLM"}.get(system, system)
                shade = colour(system)
                axis.fill_between(
                    line.beta, line.ci_low, line.ci_high, color=shade, alpha=0.18, lw=0
                )
                axis.plot(line.beta, line.value, "o-", color=shade, lw=1.8, ms=5, label=label)
            axis.plot(
                *part.groupby("beta").chance.mean().reset_index().to_numpy().T,
                color=INK,
                ls="--",
                lw=1.2,
                label="chance",
            )
            axis.xaxis.set_tick_params(labelbottom=True)
        for axis in axes[-1]:
            axis.set_xlabel("noise strength β")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=3)
        return finish(figure, source)


def claims(table: pd.DataFrame, source: str = "") -> Figure:
    """Each claim's statistic with its interval in units of its own half-width from zero, coloured by the verdict.

    Claims have statistics of different scales, so each is divided by the larger end of its interval; the numbers
    are in the table.
    """
    known = table[table.value.notna()].iloc[::-1]
    scale = known[["ci_low", "ci_high"]].abs().max(axis=1).replace(0, 1)
    with theme():
        figure, axis = plt.subplots(figsize=(WIDTH, 1.3 + 0.5 * len(known)), layout="constrained")
        axis.axvline(0, color=INK, lw=1, ls="--")
        for place, (row, s) in enumerate(zip(known.itertuples(), scale, strict=True)):
            shade, mark = VERDICTS[row.verdict]
            axis.plot([row.ci_low / s, row.ci_high / s], [place, place], color=shade, lw=2.2)
            axis.plot(row.value / s, place, mark, color=shade, ms=8)
        labels = [f"{c}\n{wrap(s, 52)}" for c, s in zip(known.claim, known.statistic, strict=True)]
        axis.set_yticks(range(len(known)), labels, fontsize=8.5)
        axis.set_xticks([0], ["no difference"])
        axis.set_xlabel("against the claim  ←      → for the claim")
        entries = [
            Line2D([], [], color=c, marker=m, lw=2, label=v) for v, (c, m) in VERDICTS.items()
        ]
        figure.legend(handles=entries, loc="outside upper center", ncols=3)
        return finish(figure, source)


def by_category(tables: RunTables, system: str) -> Figure:
    """Share of held-out blocks of each category that a system named right; the dashed line is chance.

    Parameters
    ----------
    tables : RunTables
        Of a run on recordings whose image ids end in the category, as in 'run03-face'.
    system : str
    """
    own = tables.images[(tables.images.system == system) & (tables.images.metric == "accuracy")]
    category = own.image_id.str.split("-", n=1).str[1]
    share = own.value.groupby(category).agg(["mean", "size"]).sort_values("mean")
    with theme():
        figure, axis = plt.subplots(figsize=(WIDTH, 3.4), layout="constrained")
        axis.barh(share.index, share["mean"], color=colour(system), height=0.65)
        for place, (mean, size) in enumerate(share.itertuples(index=False)):
            axis.text(
                mean + 0.01, place, f"{round(mean * size)} of {size}", va="center", fontsize=9
            )
        axis.axvline(1 / len(share), color=INK, ls="--", lw=1.2)
        axis.set(xlim=(0, 1.12), xlabel="share of blocks named right", title=name(system))
        return finish(figure, tables.source)
