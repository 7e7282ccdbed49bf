"""The leaderboard as tables that a reader sorts and filters, from leaderboard.csv and systems.csv; nothing is computed here.

Left out: its figures (``rank_plots.py``), the controls (``control_plots.py``) and what each system is (``system_cards.py``).
"""

from collections.abc import Iterable

import pandas as pd

from neurovl.figures.page_tables import Html
from neurovl.figures.sortable import LESS, MORE, Cell, Column, Line, Sheet, sortable_table
from neurovl.figures.systems import CAPTION_SCORES, PICTURE_SCORES
from neurovl.figures.theme import name
from neurovl.leaderboard.fitting import AS_PUBLISHED, MAIN
from neurovl.leaderboard.ranks import NO_DECODERS, OURS, SENTENCE, lower_is_better
from neurovl.run.tables import COMPARE

TITLES = {  # in the order of the columns
    **PICTURE_SCORES,
    "two_way_vae": "two-way, VAE latent",
    "image_top1": "picture, first",
    "image_top5": "picture, first five",
    "brain_top1": "brain, first",
    "brain_top5": "brain, first five",
    "image_median_rank": "picture, median rank",
    "brain_median_rank": "brain, median rank",
    "objects_precision": "objects, precision",
    "objects_recall": "objects, recall",
    "objects_f1": "objects, F1",
    **{f"bleu{k}": f"BLEU-{k}" for k in range(1, 5)},
    **CAPTION_SCORES,
}


def better(metric: str) -> str:
    """In which direction a metric is better: `sortable.MORE` or `sortable.LESS`.

    Examples
    --------
    >>> from neurovl.figures.board_tables import better
    >>> better("distance_swav"), better("pixcorr")
    ('less is better ↓', 'more is better ↑')
    """
    return LESS if lower_is_better(metric) else MORE


def not_compared(table: pd.DataFrame) -> str:
    """The sentence in the place of what leaderboard.csv or controls.csv would show without rows; empty where it has some."""
    if len(table):
        return ""
    what, more = ("controls", " --controls") if "control" in table else ("comparison", "")
    return (
        f"Nothing is shown here: this run has no {what} of the systems yet. To fill this page, run "
        f"`{COMPARE}{more}`."
    )


def with_rows(board: pd.DataFrame) -> pd.DataFrame:
    """The leaderboard with what its conditions say in columns of their own.

    Returns
    -------
    DataFrame
        With `row`, 'main' or 'as published', and `title`, a metric's with its pool. Scores of single sentences, which only
        serve intervals, are left out.
    """
    board = board[~board.metric.str.endswith(SENTENCE)]
    published = board.condition.str.contains(AS_PUBLISHED, regex=False)
    rest = board.condition.str.replace(AS_PUBLISHED, "", regex=False).str.strip()
    plain = board.metric.map(lambda one: TITLES.get(one, one.replace("_", " ")))
    pool = rest.str.replace("pool=", "of ", regex=False)
    title = plain.where(rest == "", plain + " " + pool)
    row = published.map({True: AS_PUBLISHED, False: MAIN})
    places = {metric: place for place, metric in enumerate(TITLES)}
    order = board.metric.map(places).fillna(len(places))
    made = board.assign(row=row.astype(object), title=title, place=order)
    return made.sort_values("place", kind="stable").drop(columns="place")


def leaderboard_table(board: pd.DataFrame, source: str = "", subject: str = "all") -> Html | None:
    """All systems and scores: one table a task, sorted by any score, filtered by protocol and by main row or row as published.

    Parameters
    ----------
    board : DataFrame
        leaderboard.csv.
    source : str
        What the data are.
    subject : str

    Returns
    -------
    Html or None
        None without rows.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurovl.figures.board_tables import leaderboard_table
    >>> leaderboard_table(pd.DataFrame(columns=["subject"])) is None
    True
    """
    if not len(board):
        return None
    board = board[board.subject == subject]
    said = board.note.map(_pieces)
    scored = [set(own) for own in said[board.value.notna()]] or [set()]
    everywhere = sorted(set.intersection(*scored))
    board = board.assign(
        note=said.map(lambda own: "; ".join(one for one in own if one not in everywhere))
    )
    notes = list(dict.fromkeys(filter(None, board.note)))
    rows = with_rows(board)
    sheets = {task: _sheet(rows[rows.task == task], notes) for task in board.task.unique()}
    caption = (
        f"Scores with 95 % intervals and ranks with theirs; better, worse, tied and undecided are against {name(OURS)}, by the "
        "paired difference. Press the head of a column to sort, again to turn the order; what is missing comes last "
        f"({'; '.join([source, *everywhere])})."
    )
    return sortable_table(sheets, caption, "task", {"protocol": "average", "row": MAIN}, notes)


def _pieces(note: str) -> list[str]:
    return [one for one in note.split("; ") if one]


def _sheet(rows: pd.DataFrame, notes: list[str]) -> Sheet:
    metrics = rows.drop_duplicates("title")[["title", "metric"]].itertuples(index=False, name=None)
    metrics = list(metrics)
    scores = [Column(title, better(metric)) for title, metric in metrics]
    lines = []
    for (system, row, protocol), own in rows.groupby(["system", "row", "protocol"], sort=False):
        by_title = {one.title: one for one in own.itertuples()}
        shared = set.intersection(*(set(filter(None, [one.note])) for one in by_title.values()))
        first = Cell(
            name(system), system, tuple(f"note {1 + notes.index(note)}" for note in shared)
        )
        leaders = rows[(rows.row == row) & (rows.protocol == protocol) & (rows["rank"] == 1)]
        with_best = set(leaders[leaders.verdict == "tied"].title)
        cells = [first, Cell(row, row), Cell(protocol, protocol)]
        for title, _ in metrics:
            one = by_title.get(title)
            cells.append(_score(one, title in with_best, shared, notes) if one else Cell(""))
        foot = system in NO_DECODERS
        lines.append(Line(cells, {"protocol": protocol, "row": row}, foot))
    lines += _at_the_foot(rows, metrics)
    words = [Column(one, numbers=False) for one in ("system", "row", "protocol")]
    return Sheet([*words, *scores], lines)


def _score(one: tuple, with_best: bool, shared: set[str], notes: list[str]) -> Cell:
    """A score, its interval, rank and verdict; `with_best` where the best of its column is tied with ours."""
    below = []
    if one.note and one.note not in shared:
        below.append(f"note {1 + notes.index(one.note)}")
    if pd.isna(one.value):
        return Cell("—", None, tuple(below))
    if pd.notna(one.ci_low):
        below.insert(0, f"{one.ci_low:.3f} to {one.ci_high:.3f}")
    said, best = [], one.rank == 1
    if pd.notna(one.rank):
        span = f" ({one.rank_low:g} to {one.rank_high:g})" if pd.notna(one.rank_low) else ""
        said.append(f"rank {one.rank:g}{span}")
    said += ["best"] if best else []
    tied = with_best and not best if one.system == OURS else one.verdict == "tied"
    said += ["tied with the best" if tied else ""] if one.system == OURS else [one.verdict]
    if any(said):
        below.append(", ".join(filter(None, said)))
    return Cell(f"{one.value:.3f}", float(one.value), tuple(below), best or tied)


def _at_the_foot(rows: pd.DataFrame, metrics: list[tuple[str, str]]) -> list[Line]:
    """What chance and ceiling are for ours."""
    ours, lines = rows[(rows.system == OURS) & (rows.row == MAIN)], []
    for protocol, own in ours.groupby("protocol", sort=False):
        for kind in ("chance", "ceiling"):
            values = dict(zip(own.title, own[kind], strict=True))
            known = {title: value for title, value in values.items() if pd.notna(value)}
            if known:
                cells = [Cell(f"{kind} of ours"), Cell(""), Cell(protocol)]
                cells += [Cell(f"{known[t]:.3f}" if t in known else "") for t, _ in metrics]
                lines.append(Line(cells, {"protocol": protocol}, foot=True))
    return lines


_COSTS = {
    "n_models": "models",
    "n_parameters": "parameters, million",
    "trials_per_subject": "trials a subject",
    "train_seconds": "training, s",
    "predict_seconds": "predicting, s",
    "peak_memory_gb": "memory, GB",
}


def systems_table(systems: pd.DataFrame, source: str = "") -> Html | None:
    """What each system costs, sorted by any column, with what it lacks here; None without rows."""
    if not len(systems):
        return None
    notes = list(dict.fromkeys(filter(None, systems.lacking)))
    lines = []
    for one in systems.to_dict("records"):
        said = (f"note {1 + notes.index(one['lacking'])}",) if one["lacking"] else ()
        first = Cell(name(one["system"]), one["system"], said)
        lines.append(Line([first, *(_cost(key, one[key]) for key in _COSTS)]))
    sheet = Sheet([Column("system", numbers=False), *map(Column, _COSTS.values())], lines)
    caption = f"What the systems cost, all subjects together; notes: what is not here ({source})."
    notes = [f"Not here: {note}." for note in notes]
    return sortable_table({"systems": sheet}, caption, "systems", notes=notes)


def _cost(key: str, value: float) -> Cell:
    if pd.isna(value):
        return Cell("—")
    value = float(value) / (1e6 if key == "n_parameters" else 1)
    return Cell(f"{value:.3g}" if value < 1000 else f"{value:,.0f}", value)


def share_of_ceiling(
    board: pd.DataFrame, protocol: str = "average", systems: Iterable[str] | None = None
) -> pd.DataFrame:
    """Each score of the main rows as a share of its ceiling: systems by metric, those metrics alone that have a ceiling."""
    if not len(board):
        return pd.DataFrame()
    rows = with_rows(board)
    rows = rows[(rows.subject == "all") & (rows.protocol == protocol) & (rows.row == MAIN)]
    rows = rows[rows.normalised.notna()]
    if systems is not None:
        rows = rows[rows.system.isin(systems)]
    rows = rows.assign(score=rows.task + ": " + rows.title).sort_values("task", kind="stable")
    wide = rows.set_index(["score", "system"]).normalised.unstack("system", sort=False)
    return wide.reset_index().rename_axis(columns=None)
