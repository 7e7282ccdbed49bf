"""What a run's book opens with: its first pictures (seen, painted, said, located) and its main scores.

A piece of a page for ``book/index.md``, made from what the run folder holds. Nothing is chosen by what came out: the
pictures are the first of the list and the scores a fixed list. Left out: every other figure (the notebooks).
"""

import html
import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd

from neurovl import widgets
from neurovl.errors import DataError, MissingError
from neurovl.figures import hottest_slice, show_table
from neurovl.results import unadapted
from neurovl.run import Run, open_run

logger = logging.getLogger(__name__)

_SCORES = {
    ("alignment", "two_way_clip"): "the embedding: two-way identification",
    ("caption", "meteor"): "the caption: METEOR",
    ("dialogue", "accuracy"): "the dialogue: closed questions answered right",
    ("reconstruction", "pixcorr"): "the painting: PixCorr",
    ("reconstruction", "two_way_clip"): "the painting: two-way identification, CLIP",
    ("reconstruction", "two_way_scenenet_late"): "the painting: two-way identification, SceneNet",
    ("localization", "drop"): "the located voxels: what of the word is lost without them",
    ("classification", "accuracy"): "the category named",
}


def gallery(run: Path, n: int = 6) -> str:
    """The pictures and scores of a run as Markdown, with one line for what it lacks.

    Parameters
    ----------
    run
        The run folder.
    n
        How many pictures.
    """
    opened = open_run(run)
    return f"{_pictures(opened, n)}\n\n{_scores(opened)}\n"


def _pictures(run: Run, n: int) -> str:
    """The cards of the first pictures, or why there are none."""
    try:
        return _lack(run) or _cards(run, n)
    except (MissingError, DataError) as problem:
        logger.warning("the book opens without pictures: %s", problem)
        return "The recordings of this run are not at hand, so its pictures are not shown."


def _lack(run: Run) -> str:
    """Why there is nothing to show; empty where there is something."""
    data, name = run.recordings, html.escape(run.recordings.name)
    if not data.has_images:
        return f"The recordings of this run ({name}) come without pictures, so nothing is painted and nothing is said."
    if run.tables.about.get("publish_images", True) and not data.publish_images:
        return f"The terms of {name} forbid publishing its pictures, so they are not shown."
    if not run.has_captions:
        return f"The pictures of this run ({name}) have no captions to learn from, so nothing is painted and nothing is said."
    if not _made(run, "reconstructions"):
        return (
            f"Nothing has been painted from {name} in this run yet: neurovl make reconstructions."
        )
    return ""


def _made(run: Run, stage: str) -> bool:
    """Whether a stage was made of the data that the run has now."""
    about = run.folder / stage / "provenance.json"
    return about.is_file() and json.loads(about.read_text())["data"] == run.data


def _cards(run: Run, n: int) -> str:
    tables = run.tables
    painted = _ours(tables.samples[tables.samples.condition == ""])
    subject = painted.subject.iloc[0]
    painted = painted[painted.subject == subject].head(n)
    said, question = {}, ""
    if _made(run, "captions"):
        brief = _ours(tables.answers[tables.answers.type == "brief"])
        brief = brief[brief.subject == subject]
        said = dict(zip(brief.image_id, brief.answer, strict=True))
        question = next(iter(brief.question), "")
    known = []
    if _made(run, "localization"):
        known = tables.located[tables.located.subject == subject].concept.tolist()
    cards = []
    for row in painted.itertuples():
        there = [concept for concept in known if concept in run.categories(row.image_id)]
        word = there[0] if there else ""
        cards.append(_card(run, subject, row, said.get(row.image_id, ""), word))
    return (
        f'<div class="neurovl-gallery">{"".join(cards)}</div>\n\n{_legend(run, subject, question)}'
    )


def _ours(table: pd.DataFrame) -> pd.DataFrame:
    """What the whole method made, repeats averaged, in the order of the table."""
    return table[(table.system == "neurovl") & (table.protocol == "average")]


def _card(run: Run, subject: str, row: Any, said: str, word: str) -> str:
    """One picture, what was painted and said, and a thing in it with its place in the brain."""
    tiles = {
        "seen": (run.recordings.image(row.image_id), f"picture {row.image_id} that was seen"),
        "painted": (run.tables.picture(row.file), f"painted from the brain; prompt: {row.prompt}"),
    }
    if word:
        heat = hottest_slice(run.tables.heat(subject, word), run.recordings.mask(subject))
        tiles[f"located: {word}"] = heat, f"slice of the brain of {subject}, bright where {word} is"
    figures = "".join(
        f"<figure>{widgets.picture_tag(picture, alt)}<figcaption>{html.escape(name)}</figcaption></figure>"
        for name, (picture, alt) in tiles.items()
    )
    words = f"<p>“{html.escape(said)}”</p>" if said else ""
    return f'<div><div class="tiles">{figures}</div>{words}</div>'


def _brains(run: Run) -> str:
    return "Simulated brains" if run.tables.about.get("simulated", True) else "Brains of people"


def _legend(run: Run, subject: str, question: str) -> str:
    asked = f", what the language model *said* to “{question}”" if question else ""
    return (
        f"**{_brains(run)}.** The first test pictures of {subject}, not chosen: what was *seen*, what was *painted* from the mean of "
        f"the repeats{asked}, and where one thing in the picture was *located*, if a map of it was made: the slice with "
        f"the most heat, over all test pictures that hold the thing. {run.tables.source}."
    )


def _scores(run: Run) -> str:
    """The main rows of results.csv, and how many of the paper's claims hold."""
    try:
        results, claims = run.tables.results, run.tables.claims
    except MissingError:
        return f"This run has no scores yet: neurovl evaluate --run {run.root.name}."
    rows = results[(results.data == run.tables.about["data"]) & (results.subject == "all")]
    bare = rows.condition.map(unadapted)
    lost = (rows.task == "localization") & (bare == "zeroed=located")
    rows = rows[(rows.system == "neurovl") & ((bare == "") | lost)]
    repeated = (rows.protocol == "average") | (rows.task == "classification")
    rows = rows[repeated].set_index(["task", "metric"])
    shown = []
    for key, label in _SCORES.items():
        if key in rows.index:
            row = rows.loc[key]
            interval = "" if pd.isna(row.ci_low) else f"{row.ci_low:.3f}–{row.ci_high:.3f}"
            found = {"value": row.value, "95\u00a0%\u00a0interval": interval}
            limits = {"chance": row.chance, "ceiling": row.ceiling}
            shown.append({"score": label, **found, **limits, "n": row.n})
    if not shown:
        return "None of the main scores was computed in this run."
    what = "Main scores, mean over subjects, of the mean over repeats where there are repeats"
    caption = f"{_brains(run)}. {what} ({run.tables.source})."
    table = show_table(pd.DataFrame(shown).dropna(axis=1, how="all"), caption).data
    return f"{table}\n\n{_verdicts(claims)}"


def _verdicts(claims: pd.DataFrame) -> str:
    counts = claims.verdict.value_counts()
    if counts.empty:
        return ""
    said = ", ".join(f"{verdict} {n}" for verdict, n in counts.items())
    return f"Verdicts on the paper's claims in this run: {said}."
