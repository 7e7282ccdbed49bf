"""Figures of the controls: each beside the system's own score, curves over what is varied, and scores over novelty.

Every number comes from controls.csv and leaderboard.csv.
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurovl.figures.board_tables import TITLES, better, with_rows
from neurovl.figures.rank_plots import ours_first, panels
from neurovl.figures.sortable import LESS
from neurovl.figures.theme import CYCLE, INK, WIDTH, finish, name, theme, wrap
from neurovl.leaderboard.controls import BLURRED, MEAN, NEAREST, PERMUTED, SEEN
from neurovl.leaderboard.fitting import MAIN
from neurovl.leaderboard.ranks import OURS, SENTENCE
from neurovl.leaderboard.retraining import HELD_OUT

CONTROLS = {  # and what each is
    PERMUTED: "test brains shuffled among the pictures",
    MEAN: "the mean training brain for every picture",
    BLURRED: "its own pictures blurred",
    NEAREST: "the training picture nearest to what is predicted",
    HELD_OUT: "categories that no brain was trained on",
    SEEN: "the same test pictures, trained on all",
    "only=early": "early areas alone",
    "only=higher": "higher areas alone",
}
_SHADES = ("#D55E00", "#009E73", "#CC79A7")
_SHAPES = ("s", "^", "v")


def control_plot(
    controls: pd.DataFrame,
    board: pd.DataFrame,
    which: list[str],
    task: str,
    protocol: str = "average",
    source: str = "",
) -> Figure | None:
    """The score of each system under some controls beside its own, with 95 % intervals and chance.

    Parameters
    ----------
    controls, board : DataFrame
        controls.csv and leaderboard.csv.
    which : list of str
        Up to three controls, drawn open; the own score is filled.
    task, protocol : str
    source : str

    Returns
    -------
    Figure or None
        None where the controls were not made for this task.
    """
    found = _of(controls, task, protocol)
    found = found[found.control.isin(which)]
    if not len(found):
        return None
    own = _own(board, task, protocol)
    own = own[own.system.isin(found.system) & own.metric.isin(found.metric)]
    metrics, systems = _ordered(found.metric), ours_first(found.system)
    looks = list(zip(which, _SHADES, _SHAPES, strict=False))
    kinds = [(own, INK, "o"), *((found[found.control == one], *look) for one, *look in looks)]
    with theme():
        titles = [_titled(metric) for metric in metrics]
        figure, axes = panels(titles, systems, 4, 0.12 * len(kinds) + 0.02)
        for axis, metric in zip(axes, metrics, strict=True):
            for number, (rows, shade, shape) in enumerate(kinds):
                shift = 0.6 * (number / (len(kinds) - 1) - 0.5)
                for one in rows[rows.metric == metric].itertuples():
                    y = systems.index(one.system) + shift
                    axis.plot([one.ci_low, one.ci_high], [y, y], color=shade, lw=1.8)
                    fill = shade if number == 0 else "none"
                    axis.plot(one.value, y, shape, color=shade, mfc=fill, ms=5.5, mew=1.5)
                    axis.plot([one.chance] * 2, [y - 0.25, y + 0.25], color=INK, lw=1.3, ls=":")
            for place in range(1, len(systems)):
                axis.axhline(place - 0.5, color=INK, alpha=0.12, lw=0.8)
            axis.margins(x=0.12)
            axis.locator_params(axis="x", nbins=3)
        entries = [Line2D([], [], color=INK, marker="o", lw=1.8, label="own")]
        entries += [
            Line2D([], [], color=c, marker=m, mfc="none", lw=1.8, label=CONTROLS.get(one, one))
            for one, c, m in looks
        ]
        entries.append(Line2D([], [], color=INK, ls=":", label="chance"))
        figure.legend(handles=entries, loc="outside upper center", ncols=2)
        return finish(figure, source)


def control_curves(
    controls: pd.DataFrame,
    board: pd.DataFrame,
    varied: str,
    task: str,
    protocol: str = "average",
    source: str = "",
    label: str = "",
) -> Figure | None:
    """Scores over what is varied, one line a system; where noise is added, the own score stands at 0.

    Parameters
    ----------
    controls, board : DataFrame
        controls.csv and leaderboard.csv.
    varied : str
        Such as 'noise', of which controls.csv has rows 'noise=0.5'.
    task, protocol : str
    source : str
    label : str
        Of the horizontal axis.

    Returns
    -------
    Figure or None
        None where nothing was varied.
    """
    found = _of(controls, task, protocol)
    found = found[found.control.str.startswith(f"{varied}=")]
    if not len(found):
        return None
    at = found.control.str.partition("=")[2].astype(float)
    found = found.assign(at=at)
    if varied == "noise":
        own = _own(board, task, protocol).assign(at=0.0)
        own = own[own.system.isin(found.system) & own.metric.isin(found.metric)]
        found = pd.concat([own, found])
    found = found[found.value.notna()]
    metrics = _ordered(found.metric)
    systems = ours_first(found.system)[::-1]
    columns = min(3, len(metrics))
    lines = -(-len(metrics) // columns)
    with theme():
        size = (WIDTH, 2.4 * lines + 0.3 * -(-len(systems) // 5) + 0.4)
        figure, axes = plt.subplots(
            lines, columns, figsize=size, squeeze=False, sharex=True, layout="constrained"
        )
        for axis in axes.flat[len(metrics) :]:
            axis.set_visible(False)
        for axis, metric in zip(axes.flat, metrics, strict=False):
            part = found[found.metric == metric]
            for system, look in _lines(systems):
                line = part[part.system == system].sort_values("at")
                axis.plot(line["at"], line.value, label=name(system), **look)
                if system == OURS:
                    band = {"color": look["color"], "alpha": 0.18, "lw": 0}
                    axis.fill_between(line["at"], line.ci_low, line.ci_high, **band)
            chance = part.groupby("at").chance.mean()
            axis.plot(chance.index, chance, color=INK, ls=":", lw=1.4, label="chance")
            axis.set_title(wrap(_titled(metric), 26), fontsize=9.5)
            axis.tick_params(labelsize=8.5, labelbottom=True)
        figure.supxlabel(label or varied, fontsize=10, color=INK)
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=5, fontsize=9)
        return finish(figure, source)


def _lines(systems: list[str]) -> list[tuple[str, dict]]:
    """A look for each system: a colour, another mark where colours come again; ours is thick."""
    looks, others = [], [system for system in systems if system != OURS]
    for system in systems:
        look = {"color": CYCLE[0], "lw": 2.4, "marker": "D", "ms": 4.5}
        if system != OURS:
            turn, shade = divmod(others.index(system), len(CYCLE) - 1)
            look |= {"color": CYCLE[1 + shade], "lw": 1.2, "marker": "os^v"[turn % 4]}
            look["ls"] = "--" if turn % 2 else "-"
        looks.append((system, look))
    return looks


def novelty_plot(
    controls: pd.DataFrame, task: str, protocol: str = "average", source: str = ""
) -> Figure | None:
    """How each score changes with the distance of a test picture to the nearest training picture, with 95 % intervals.

    Parameters
    ----------
    controls : DataFrame
        controls.csv, whose control 'distance' holds the rank correlation of score and distance over the test pictures.
    task, protocol : str
    source : str

    Returns
    -------
    Figure or None
        None where the control was not made for this task.
    """
    found = _of(controls, task, protocol)
    found = found[(found.control == "distance") & found.value.notna()]
    if not len(found):
        return None
    metrics, systems = _ordered(found.metric), ours_first(found.system)
    with theme():
        figure, axes = panels([_titled(metric) for metric in metrics], systems, 4)
        for axis, metric in zip(axes, metrics, strict=True):
            axis.axvline(0, color=INK, lw=1, ls="--")
            for one in found[found.metric == metric].itertuples():
                y = systems.index(one.system)
                shade = CYCLE[0] if one.system == OURS else INK
                axis.plot([one.ci_low, one.ci_high], [y, y], color=shade, lw=2)
                axis.plot(one.value, y, "o", color=shade, ms=5.5)
            less = better(metric) == LESS
            axis.set_xlabel("nearer is better →" if less else "← nearer is better", fontsize=8.5)
            axis.locator_params(axis="x", nbins=3)
        return finish(figure, source)


def _of(controls: pd.DataFrame, task: str, protocol: str) -> pd.DataFrame:
    rows = controls[(controls.task == task) & (controls.protocol == protocol)]
    return rows[(rows.subject == "all") & ~rows.metric.str.endswith(SENTENCE)]


def _own(board: pd.DataFrame, task: str, protocol: str) -> pd.DataFrame:
    if not len(board):
        return board
    rows = with_rows(board)
    rows = rows[(rows.row == MAIN) & (rows.task == task) & (rows.protocol == protocol)]
    return rows[(rows.subject == "all") & rows.value.notna()]


def _ordered(metrics: pd.Series) -> list[str]:
    order = list(TITLES)
    known = dict.fromkeys(metrics)
    return sorted(known, key=lambda one: order.index(one) if one in order else len(order))


def _titled(metric: str) -> str:
    arrow = "↓" if better(metric) == LESS else "↑"
    return f"{TITLES.get(metric, metric.replace('_', ' '))}\u00a0{arrow}"  # never alone on a line
