"""Scores of what was said about the test pictures: caption metrics of open answers, accuracy of closed ones."""

from collections.abc import Iterable, Sequence

import pandas as pd

from neurovl.evaluation.answering import OF_MAIN, read_answers
from neurovl.evaluation.rightness import same_words
from neurovl.evaluation.score_table import Corpora, Table
from neurovl.language.dialogues import CHECKS
from neurovl.results import Row, condition
from neurovl.run import Run

TEXT_TASKS = {"brief": "caption", "detailed": "description", "reasoning": "reasoning"}
CONCEPT_WORD = "accuracy_concept_word"
WITHOUT_REFERENCES = "CLIP-S compares captions with the picture, not with others: see task caption"


def score_text(run: Run, table: Table) -> None:
    """Caption metrics of open answers, accuracy of closed ones; chance is what the main model says without a brain.

    A corpus is what was said about the pictures of one subject. Where the pictures were annotated, captions are compared
    with the captioner's too, in task 'caption-blip2'. Of other language models chance stays empty: without a brain they
    were not asked.
    """
    answers = read_answers(run.folder)
    score_said(answers, true_captions(run, answers.image_id.unique()), table)


def score_said(
    answers: pd.DataFrame,
    references: dict[str, dict[str, list[str]]],
    table: Table,
    varied: str = "",
) -> None:
    """The same of any answers, with what is varied, if something is, as the condition.

    Parameters
    ----------
    answers : DataFrame
        Columns system, protocol, subject, type, image_id, turn, answer, truth, closed.
    references : dict
        See `true_captions`.
    """
    _score_open(answers, references, table, varied)
    _score_closed(answers, table, varied)


def true_captions(run: Run, ids: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """What captions of pictures are compared with, by task: people's, and the captioner's where the pictures were annotated."""
    references = {"caption": {i: run.recordings.captions(i) for i in ids}}
    annotated = run.annotations()
    if annotated:
        references["caption-blip2"] = {i: annotated[i]["captions"] for i in ids}
    return references


def _score_open(
    answers: pd.DataFrame,
    references: dict[str, dict[str, list[str]]],
    table: Table,
    varied: str = "",
) -> None:
    answers = answers[answers.type.isin(list(TEXT_TASKS)) & (answers.turn == 0)]
    answers = answers.assign(task=answers.type.map(TEXT_TASKS))
    keys = ["task", "system", "protocol", "subject"]
    parts = dict(iter(answers.groupby(keys, sort=False)))
    captions = {key[1:]: part for key, part in parts.items() if key[0] == "caption"}
    parts |= {(task, *key): part for task in references for key, part in captions.items()}

    def true(part: pd.DataFrame, task: str) -> list[list[str]]:
        if task in references:
            return [references[task][i] for i in part.image_id]
        return [[one] for one in part.truth]

    corpora = scored_corpora(
        {
            (system, task, proto, subject): (part.image_id, part.answer, true(part, task))
            for (task, system, proto, subject), part in parts.items()
        }
    )
    for system in sorted({key[1] for key in parts if key[0] == "caption-blip2"}):
        place = table.place(system, "caption-blip2", "average", "all", "clip_s", varied)
        table.rows.append(Row(**place, note=WITHOUT_REFERENCES))
    for (system, task, proto, metric), own in corpora.items():
        known = corpora.get(("no-brain", task, "average", metric), {})
        blind = known if system in OF_MAIN else {}
        chance = {subject: score.value for subject, (_, score) in blind.items()}
        table.add_corpora(system, task, proto, metric, own, chance, varied)


# What was said: image ids, texts, and the true texts of each.
Said = tuple[Sequence[str], Sequence[str], Sequence[Sequence[str]]]


def scored_corpora(said: dict[tuple[str, ...], Said]) -> dict[tuple[str, ...], Corpora]:
    """Score what was said about the pictures of several subjects, all in one go.

    Parameters
    ----------
    said : dict of tuple to Said
        The last part of a key is the subject.

    Returns
    -------
    dict of tuple to Corpora
        The last part of a key is the metric instead.
    """
    from neurovl.metrics import caption_corpora

    scored = caption_corpora([(list(texts), true) for _, texts, true in said.values()])
    corpora: dict[tuple[str, ...], Corpora] = {}
    for (*place, subject), (ids, _, _), scores in zip(said, said.values(), scored, strict=True):
        for metric, score in scores.items():
            corpora.setdefault((*place, metric), {})[subject] = (ids, score)
    return corpora


# Types of closed answers, with the task and the condition that their accuracy stands under.
CLOSED = {
    **{("conversation",): ("dialogue", ""), ("localization",): ("localization", "")},
    CHECKS: ("checks", ""),
    **{(kind,): ("checks", condition(asked=kind)) for kind in CHECKS},
}


def _score_closed(answers: pd.DataFrame, table: Table, beside: str = "") -> None:
    closed = answers[answers.closed.astype(str) == "True"]
    for kinds, (task, varied) in CLOSED.items():
        part = closed[closed.type.isin(kinds)]
        part = part.assign(right=same_words(part.answer, part.truth))
        chance = {s: g.right.mean() for s, g in part[part.system == "no-brain"].groupby("subject")}
        metric = CONCEPT_WORD if task == "localization" else "accuracy"
        for (system, proto, subject), own in part.groupby(
            ["system", "protocol", "subject"], sort=False
        ):
            by_image = own.groupby("image_id").right.mean()
            if task == "checks" and len(by_image) < 2:  # of one picture there is no interval
                continue
            table.add(
                system,
                task,
                proto,
                subject,
                metric,
                by_image.index,
                by_image,
                float(chance[subject]) if system in OF_MAIN and subject in chance else None,
                condition=f"{varied} {beside}".strip(),
            )
