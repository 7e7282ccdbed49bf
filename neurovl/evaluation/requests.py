"""Requests that name no concept ("the animal on the left"): the word that the language model makes of them drives the map."""

from pathlib import Path

import pandas as pd

from neurovl.evaluation.answering import OF_MAIN, read_answers
from neurovl.evaluation.locating import SILENCED, folder_of, identified
from neurovl.evaluation.score_table import Table
from neurovl.results import condition, read_named
from neurovl.run import Run

UNINFORMED = 0.5  # of a word that is no concept of the run, so that there is no map


def score_requests(run: Run, table: Table) -> None:
    """Maps of the words that were said, against the truly tuned voxels of the concepts that were meant; in simulations.

    Metrics `auc` and `two_way_true_map`, task localization, condition ``asked=reference map=METHOD``. Requests come in pairs,
    one wording about two pictures in which it means two things, so that no word fits both. The ceiling is the map of what was
    meant, chance that of what is said without a brain.
    """
    answers = read_answers(run.folder)
    asked = answers[answers.type == "reference"]
    for method in SILENCED:
        folder = folder_of(run.folder / "localization", method)
        if not (folder / "areas.csv").is_file():
            continue
        areas = _areas(folder)
        for metric in ("auc", "two_way_true_map"):
            scores = [
                _score(areas.get(one.subject), one.truth, one.answer, metric)
                for one in asked.itertuples()
            ]
            best = [
                _score(areas.get(one.subject), one.truth, one.truth, metric)
                for one in asked.itertuples()
            ]
            scored = asked.assign(score=pd.Series(scores, asked.index, float), best=best)
            scored = scored[scored.score.notna()]
            blind = scored[scored.system == "no-brain"].groupby("subject").score.mean()
            for (system, proto, subject), part in scored.groupby(
                ["system", "protocol", "subject"], sort=False
            ):
                means = part.groupby("image_id")[["score", "best"]].mean()
                if len(means) < 2:  # of one picture there is no interval
                    continue
                chance = float(blind[subject]) if system in OF_MAIN else None
                place = (system, "localization", proto, subject, metric, means.index, means.score)
                varied = condition(asked="reference", map=method)
                table.add(*place, chance, float(means.best.mean()), condition=varied)


def _areas(folder: Path) -> dict[str, pd.DataFrame]:
    """By subject, the area of each map (columns) against the true voxels of each concept (rows)."""
    found = read_named(folder / "areas.csv", ("subject", "concept", "map"))
    return {
        who: part.pivot(index="concept", columns="map", values="auc")
        for who, part in found.groupby("subject")
    }


def _score(areas: pd.DataFrame | None, meant: str, said: str, metric: str) -> float | None:
    """How well the map of a word fits the concept that was meant; None where that has no map itself."""
    if areas is None or len(areas) < 2 or meant not in areas:
        return None
    word = said.lower().strip(" .")
    if word not in areas:
        return UNINFORMED
    return float(areas[word][meant]) if metric == "auc" else identified(areas[word], meant)
