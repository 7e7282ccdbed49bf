"""What the search for settings tried and chose, from search.csv."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from neurovl.figures.rank_plots import ours_first
from neurovl.figures.theme import INK, WIDTH, colour, finish, name, theme


def search_plot(search: pd.DataFrame, source: str = "") -> Figure | None:
    """The score of every trial of each system's search on the pictures held out of training; what was chosen is ringed.

    Parameters
    ----------
    search : DataFrame
        search.csv.
    source : str
    """
    known = search[search.score.notna()]
    if not len(known):
        return None
    order = ours_first(known.system)
    with theme():
        figure, axis = plt.subplots(figsize=(WIDTH, 0.9 + 0.3 * len(order)), layout="constrained")
        seaborn.stripplot(
            known, x="score", y="system", order=order, color=INK, size=6, jitter=False, ax=axis
        )
        won = known[known.chosen.astype(bool)]
        places = [order.index(one) for one in won.system]
        shades = [colour(one) for one in won.system]
        axis.scatter(won.score, places, s=130, facecolors="none", edgecolors=shades, linewidths=2)
        axis.set_yticks(range(len(order)), [name(one) for one in order])
        axis.set(xlabel="score on the pictures held out of training", ylabel="")
        entries = [
            Line2D([], [], color=INK, marker="o", ls="", label="tried"),
            Line2D([], [], color=INK, marker="o", ms=11, mfc="none", ls="", label="chosen"),
        ]
        figure.legend(handles=entries, loc="outside upper center", ncols=2)
        return finish(figure, source)


def search_table(search: pd.DataFrame) -> pd.DataFrame:
    """What the search chose for each system, and what that cost."""
    if not len(search):
        return pd.DataFrame()
    found = search.groupby("system", sort=False)
    budget = found.agg(trials=("trial", "size"), seconds=("seconds", "sum"))
    won = search[search.chosen.astype(bool)].set_index("system")
    table = won[["settings", "score"]].join(budget)
    table["best - worst"] = found.score.agg(np.ptp)
    return table.assign(settings=table.settings.map(in_words)).reset_index()


def in_words(settings: str) -> str:
    """Settings, as tables hold them, for a reader.

    Examples
    --------
    >>> from neurovl.figures.search_plots import in_words
    >>> in_words('{"alpha": 10000.0, "layers": [64, 32]}')
    'alpha 10000, layers 64 32'
    """
    return ", ".join(f"{key} {_word(value)}" for key, value in json.loads(settings).items())


def _word(value: object) -> str:
    if isinstance(value, dict):
        return f"({in_words(json.dumps(value))})"
    if isinstance(value, list):
        return " ".join(map(_word, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
