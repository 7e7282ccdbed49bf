"""What the compared systems print of themselves, beside what they reach in a run, where recordings and scores are the same."""

import html

import pandas as pd

from neurovl.evaluation.beside_paper import NETWORK_SCORES, Basis, other_data
from neurovl.figures.board_tables import with_rows
from neurovl.figures.page_tables import Html, show_table
from neurovl.figures.theme import name
from neurovl.leaderboard.fitting import AS_PUBLISHED
from neurovl.results import peer_results
from neurovl.run import Run
from neurovl.settings.profile_files import load_profile

_COLUMNS = "system row protocol subject score here ci_low ci_high n printed note"


def printed_numbers(run: Run, task: str) -> Html:
    """Printed numbers of a task beside those of the comparison; one sentence where none of them may stand there.

    Parameters
    ----------
    run : Run
    task : str
        'reconstruction' or 'caption'.
    """
    table = cited_table(run.tables.leaderboard, Basis.of(run), task)
    if table.printed.notna().any():
        return show_table(table, f"What the systems print, {task} ({run.tables.source}).")
    why = "; ".join(dict.fromkeys(table.note)) or f"no compared system prints scores of {task}"
    return Html(f"<p>No printed number stands here: {html.escape(why)}.</p>")


def cited_table(board: pd.DataFrame, basis: Basis, task: str) -> pd.DataFrame:
    """The scores of a task of which systems print their own: those of the rows as published, where a system has such rows.

    A number that speaks of subject 1 stands beside subject 1. Where data, split, pictures or metric networks are others, the
    place is empty and the note says in what they differ.

    Parameters
    ----------
    board : DataFrame
        leaderboard.csv.
    basis : Basis
        What the scores of the run rest on.
    task : str

    Returns
    -------
    DataFrame
        Columns system, row, protocol, subject, score, here, ci_low, ci_high, n, printed, note.
    """
    lines = []
    found = with_rows(board[board.task == task]) if len(board) else None
    for peer in [] if found is None else peer_results().query("task == @task").itertuples():
        subject = "all" if peer.subjects == "not said" or "," in peer.subjects else peer.subjects
        own = found[(found.system == peer.system) & (found.protocol == peer.protocol)]
        own = own[(own.metric == peer.metric) & (own.subject == subject) & own.value.notna()]
        published = own[own.row == AS_PUBLISHED]
        for row in (published if len(published) else own).itertuples():
            why = differences(peer, row.n, basis)
            about = (name(peer.system), row.row, peer.protocol, subject, row.title)
            numbers = (row.value, row.ci_low, row.ci_high, row.n, None if why else peer.value)
            lines.append((*about, *numbers, "; ".join(why) or peer.source))
    table = pd.DataFrame(lines, columns=_COLUMNS.split())
    kinds = dict.fromkeys(("here", "ci_low", "ci_high", "printed"), float) | {"n": "Int64"}
    return table.astype(kinds)


def differences(peer: tuple, pictures: int, basis: Basis) -> list[str]:
    """In what a printed number differs from one of a run that scored `pictures` test pictures; nothing where they can be compared.

    Parameters
    ----------
    peer : named tuple
        A row of `results.peer_results`.
    pictures : int
    basis : Basis
    """
    if said := other_data(basis):
        return said
    if pd.isna(peer.images):
        said.append("its test pictures are others")
    elif peer.images != pictures:
        said.append(f"{pictures:g} test pictures, there {peer.images}")
    if peer.subjects == "not said":
        said.append("whose brains is not said")
    if (
        peer.metric.startswith(NETWORK_SCORES)
        and basis.models.metric != load_profile("paper").models.metric
    ):
        said.append("other metric networks")
    return said
