"""Figures of the leaderboard: ranks with their intervals, and differences to ours.

Every number comes from the tables. Verdicts have a mark beside their colour.
"""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurovl.figures.board_tables import better, with_rows
from neurovl.figures.sortable import LESS
from neurovl.figures.theme import INK, WIDTH, finish, name, theme, wrap
from neurovl.leaderboard.fitting import MAIN
from neurovl.leaderboard.ranks import NO_DECODERS, OURS

MARKS = {  # of a system against ours
    "better": ("#009E73", "^"),
    "tied": ("#E69F00", "o"),
    "undecided": (INK, "s"),
    "worse": ("#D55E00", "v"),
    "ours": ("#0072B2", "D"),
}


def rank_plot(
    board: pd.DataFrame, task: str, protocol: str = "average", source: str = "", row: str = MAIN
) -> Figure | None:
    """The rank of each system by each score of a task, with its interval; 1 is the best.

    Parameters
    ----------
    board : DataFrame
        leaderboard.csv.
    task, protocol : str
    source : str
    row : str
        'main' or 'as published'.

    Returns
    -------
    Figure or None
        None where nothing is ranked.

    Examples
    --------
    >>> import pandas as pd
    >>> row = {"condition": "", "task": "caption", "protocol": "average", "subject": "all", "metric": "meteor"}
    >>> row |= {"rank_low": 1, "rank_high": 2}
    >>> ranked = (("neurovl", 1, ""), ("mine", 2, "worse"))
    >>> board = pd.DataFrame([row | {"system": s, "rank": k, "verdict": v} for s, k, v in ranked])
    >>> figure = neurovl.figures.rank_plot(board, "caption")
    >>> [label.get_text() for label in figure.axes[0].get_yticklabels()]
    ['neurovl', 'mine']
    """
    rows = _of(board, task, protocol, row)
    rows = rows[rows["rank"].notna()]
    if not len(rows):
        return None
    worst = max(rows["rank"].max(), rows.rank_high.max())
    with theme():
        figure, drawn = _of_title(rows, 5)
        for axis, part in drawn:
            _marks(axis, part, ("rank", "rank_low", "rank_high"))
            axis.set(xlim=(0.4, worst + 0.6), xticks=[1, int(worst)])
            axis.xaxis.grid(True, color=INK, alpha=0.15)
        figure.supxlabel("rank, 1 is the best", fontsize=10, color=INK)
        _key(figure, rows)
        return finish(figure, source)


def difference_plot(
    board: pd.DataFrame, task: str, protocol: str = "average", source: str = "", row: str = MAIN
) -> Figure | None:
    """Each system's paired difference to ours by each score of a task, with its interval; what is right of 0 is not always better.

    Parameters
    ----------
    board : DataFrame
        leaderboard.csv.
    task, protocol : str
    source : str
    row : str
        'main' or 'as published'.

    Returns
    -------
    Figure or None
        None where there is no other system.
    """
    rows = _of(board, task, protocol, row)
    rows = rows[rows.difference.notna() & ~rows.system.isin([OURS, *NO_DECODERS])]
    if not len(rows):
        return None
    with theme():
        figure, drawn = _of_title(rows, 4)
        for axis, part in drawn:
            axis.axvline(0, color=INK, lw=1, ls="--")
            _marks(axis, part, ("difference", "difference_low", "difference_high"))
            axis.margins(x=0.12)
            axis.locator_params(axis="x", nbins=3)
            less = better(part.metric.iloc[0]) == LESS
            axis.set_xlabel("← better than ours" if less else "better than ours →", fontsize=8.5)
        _key(figure, rows)
        return finish(figure, source)


def _of(board: pd.DataFrame, task: str, protocol: str, row: str) -> pd.DataFrame:
    """The rows of one task for all subjects, with the verdict 'ours' for ours."""
    if not len(board):
        return board
    rows = with_rows(board)
    rows = rows[(rows.task == task) & (rows.protocol == protocol) & (rows.row == row)]
    rows = rows[rows.subject == "all"]
    return rows.assign(verdict=rows.verdict.where(rows.system != OURS, "ours"))


def panels(
    titles: list[str], systems: list[str], columns: int, step: float = 0.24
) -> tuple[Figure, list[Axes]]:
    """A panel for each title, with a row of `step` inches for each system, from the top."""
    columns = min(columns, len(titles))
    lines = -(-len(titles) // columns)
    size = (WIDTH, lines * (step * len(systems) + 0.9) + 0.7)
    figure, axes = plt.subplots(
        lines, columns, figsize=size, squeeze=False, sharey=True, layout="constrained"
    )
    for axis, title in zip(axes.flat, titles, strict=False):
        axis.set_title(wrap(title, 64 // columns), fontsize=9.5)
        axis.set_yticks(range(len(systems)), [name(one) for one in systems], fontsize=9)
        axis.set_ylim(len(systems) - 0.4, -0.6)
        axis.tick_params(axis="x", labelsize=8.5)
    for axis in axes.flat[len(titles) :]:
        axis.set_visible(False)
    return figure, list(axes.flat[: len(titles)])


def ours_first(systems: Iterable[str]) -> list[str]:
    """Each system once, in the order of the table, ours from the top."""
    return sorted(dict.fromkeys(systems), key=lambda system: system != OURS)


def _of_title(rows: pd.DataFrame, columns: int) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """A panel a score, with its rows and their places."""
    titles, systems = list(dict.fromkeys(rows.title)), ours_first(rows.system)
    figure, axes = panels(titles, systems, columns)
    placed = rows.assign(place=rows.system.map(systems.index))
    parts = [placed[placed.title == title] for title in titles]
    return figure, list(zip(axes, parts, strict=True))


def _marks(axis: Axes, rows: pd.DataFrame, columns: tuple[str, str, str]) -> None:
    value, low, high = columns
    for one in rows.to_dict("records"):
        shade = MARKS[one["verdict"] or "undecided"][0]
        axis.plot([one[low], one[high]], [one["place"]] * 2, color=shade, lw=2, zorder=1)
    seaborn.scatterplot(
        rows.assign(verdict=rows.verdict.replace("", "undecided")),
        x=value,
        y="place",
        hue="verdict",
        style="verdict",
        palette={verdict: shade for verdict, (shade, _) in MARKS.items()},
        markers={verdict: mark for verdict, (_, mark) in MARKS.items()},
        s=46,
        ax=axis,
        legend=False,
    )
    axis.set(xlabel="", ylabel="")


def _key(figure: Figure, rows: pd.DataFrame) -> None:
    there = set(rows.verdict.replace("", "undecided"))
    entries = [
        Line2D([], [], color=shade, marker=mark, lw=2, label=verdict)
        for verdict, (shade, mark) in MARKS.items()
        if verdict in there
    ]
    figure.legend(handles=entries, loc="outside upper center", ncols=5, title="against ours")
