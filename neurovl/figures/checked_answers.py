"""Figures of answers that can be checked: closed questions by what they ask, and what descriptions assert."""

import pandas as pd
from matplotlib.figure import Figure

from neurovl.figures.systems import scores
from neurovl.run import RunTables

ASSERTED = {
    "objects_recall": "things found",
    "objects_precision": "things right",
    "hallucinated": "things made up",
    "details_right": "details right",
}
ALL_TYPES, ASKED = "all types", "asked="


def checked_answers(results: pd.DataFrame, source: str = "") -> Figure | None:
    """Accuracy of balanced closed questions, one panel a type, one row a system; None where none were asked.

    Parameters
    ----------
    results : DataFrame
        results.csv.
    """
    rows = results[(results.task == "checks") & (results.subject == "all") & results.value.notna()]
    if not len(rows):
        return None
    asked = rows.condition.str.removeprefix(ASKED).replace("", ALL_TYPES)
    titles = {ALL_TYPES: ALL_TYPES} | {one: one for one in dict.fromkeys(asked)}
    return scores(rows.assign(metric=asked), titles, source=source)


def extreme_descriptions(tables: RunTables, n: int = 3) -> dict[str, pd.DataFrame]:
    """The descriptions with the highest and the lowest F1 of things, 'best' and 'worst', over subjects.

    Returns
    -------
    dict of str to DataFrame
        Columns image_id, subject, f1, truth, answer; of a picture the first subject's alone. No rows where no
        description was scored.
    """
    answers, images = tables.answers, tables.images
    keys = ["image_id", "subject"]
    own = images[
        (images.task == "description")
        & (images.metric == "objects_f1")
        & (images.system == "neurovl")
        & (images.protocol == "average")
    ]
    said = answers[
        (answers.type == "detailed")
        & (answers.turn == 0)
        & (answers.system == "neurovl")
        & (answers.protocol == "average")
    ]
    table = own[[*keys, "value"]].rename(columns={"value": "f1"}).merge(said, on=keys)
    table = table[[*keys, "f1", "truth", "answer"]].sort_values(["f1", *keys], kind="stable")
    best = table[::-1].drop_duplicates("image_id").head(n)
    return {"best": best, "worst": table.drop_duplicates("image_id").head(n)}
