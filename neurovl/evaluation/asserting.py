"""Scores of what long answers assert: things found and made up, details right or wrong."""

import pandas as pd

from neurovl.evaluation.answering import OF_MAIN, read_answers
from neurovl.evaluation.score_table import Table
from neurovl.language.dialogues.assertions import judge
from neurovl.language.dialogues.layout import Layout
from neurovl.recordings import Recordings
from neurovl.run import Run

DETAILS = "details_right"


def score_assertions(run: Run, table: Table) -> None:
    """Objects recall, precision, F1, the hallucinated share and the share of right details of descriptions, task 'description'.

    Chance is what the main model says without a brain; of other language models it stays empty. A description without a detail
    that can be judged has no share of right ones.
    """
    score_descriptions(read_answers(run.folder), run.recordings, table)


def score_descriptions(answers: pd.DataFrame, data: Recordings, table: Table) -> None:
    """The same of any answers; parameters as in `text_scores.score_said`."""
    said = answers[(answers.type == "detailed") & (answers.turn == 0)]
    objects = {image: data.objects(image) for image in said.image_id.unique()}
    names = sorted({thing["category"] for things in objects.values() for thing in things})
    if not names:
        return
    layouts = {image: Layout.of(data.captions(image), things) for image, things in objects.items()}
    judged = [
        judge(text, layouts[image], names)
        for text, image in zip(said.answer, said.image_id, strict=True)
    ]
    scores = pd.DataFrame([one.scores() for one in judged], index=said.index)
    shares = [one.right_details / one.details if one.details else None for one in judged]
    scores[DETAILS] = pd.Series(shares, index=said.index, dtype=float)
    scores = pd.concat([said[["system", "protocol", "subject", "image_id"]], scores], axis=1)
    metrics = scores.columns[4:]
    blind = scores[scores.system == "no-brain"].groupby("subject")[list(metrics)].mean()
    for (system, proto, subject), part in scores.groupby(
        ["system", "protocol", "subject"], sort=False
    ):
        for metric in metrics:
            known = part[part[metric].notna()]
            if len(known) < 2:  # of one picture there is no interval
                continue
            chance = float(blind.loc[subject, metric]) if system in OF_MAIN else None
            place = (system, "description", proto, subject, metric)
            table.add(*place, known.image_id, known[metric], chance)
