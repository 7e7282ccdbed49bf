"""Captions, descriptions, dialogues and reasoning about the test pictures: RUN/captions/answers.csv."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

from neurovl.evaluation.embeddings import chosen_images, held_out, no_brain, shuffled
from neurovl.evaluation.score_table import Table
from neurovl.files import Journal
from neurovl.language import BrainLLM
from neurovl.language.dialogues import Dialogue, evaluation_set
from neurovl.run import Run

TEXT_TASKS = {"brief": "caption", "detailed": "description", "reasoning": "reasoning"}

CONCEPT_WORD = "accuracy_concept_word"
ANSWERED = "answered.jsonl"  # while the stage is being made
TOGETHER = 512  # dialogues that are asked before they are written down
COLUMNS = [
    "system",
    "protocol",
    "subject",
    "type",
    "image_id",
    "turn",
    "question",
    "answer",
    "truth",
    "closed",
]


def answer(run: Run) -> None:
    """Put every type of question to the language model for each subject and test picture.

    Systems: 'neurovl' (all types from the average of repeats, brief captions also from a single trial), 'shuffled' (brains of
    other pictures) and 'no-brain' (no response at all).

    Examples
    --------
    >>> from neurovl import evaluation
    >>> evaluation.answer(run)
    >>> run.tables.answers.columns.tolist()[-4:]
    ['question', 'answer', 'truth', 'closed']
    """
    p = run.profile
    with run.stage(
        "captions",
        answer,
        {
            "caption_images": p.evaluation.caption_images,
            "max_new_tokens": p.language.max_new_tokens,
        },
        ("llm", "encoders/main", "tokens"),
    ) as s:
        if s.done:
            return
        journal = Journal(s.dir / ANSWERED)
        for subject, kind in itertools.product(run.store.subjects, ("average", "single")):
            ids, z = held_out(run, "main", subject, kind)
            wanted = chosen_images(ids, p.evaluation.caption_images, p.seed)
            z = z.take([ids.index(i) for i in wanted])
            talk = evaluation_set(run.recordings, wanted, p.seed)
            if kind == "single":
                talk = [d for d in talk if d.type == "brief"]
            systems = {"neurovl": z}
            if kind == "average":
                systems |= {"shuffled": shuffled(z, p.seed), "no-brain": no_brain(run, len(z))}
            for system, brain in systems.items():
                place = {"system": system, "protocol": kind, "subject": subject}
                _write_answers(run, journal, place, brain.hidden, wanted, talk)
        rows = [{k: v for k, v in row.items() if k in COLUMNS} for row in journal.records]
        pd.DataFrame(rows, columns=COLUMNS).to_csv(s.dir / "answers.csv", index=False)
        journal.path.unlink()


def _write_answers(
    run: Run,
    journal: Journal,
    place: dict[str, str],
    hidden: torch.Tensor,
    ids: list[str],
    dialogues: list[Dialogue],
) -> None:
    """Add one system's answers to the journal, some dialogues at a time; those that are in it are not asked again."""
    done = {row["part"] for row in journal.records if place.items() <= row.items()}
    for part, start in enumerate(range(0, len(dialogues), TOGETHER)):
        if part in done:
            continue
        some = dialogues[start : start + TOGETHER]
        said = _converse(run.llm(), hidden, ids, some, run.profile.language.max_new_tokens)
        journal.add([place | row | {"part": part} for row in said])


def _converse(
    model: BrainLLM,
    hidden: torch.Tensor,
    ids: list[str],
    dialogues: list[Dialogue],
    max_new_tokens: int,
) -> Iterator[dict]:
    """Ask all dialogues turn by turn; the model's own answers are the history of later turns."""
    row = {image: k for k, image in enumerate(ids)}
    history = [[] for _ in dialogues]
    for turn in range(max(len(d.turns) for d in dialogues)):
        live = [i for i, d in enumerate(dialogues) if len(d.turns) > turn]
        brains = hidden[[row[dialogues[i].image_id] for i in live]]
        asked = [dialogues[i].turns[turn][0] for i in live]
        answers = model.generate(brains, asked, [history[i] for i in live], max_new_tokens)
        for i, question, said in zip(live, asked, answers, strict=True):
            history[i].append((question, said))
            d = dialogues[i]
            yield {
                "type": d.type,
                "image_id": d.image_id,
                "turn": turn,
                "question": question,
                "answer": said,
                "truth": d.turns[turn][1],
                "closed": d.closed,
            }


def read_answers(run_folder: Path) -> pd.DataFrame:
    """answers.csv of a run, text kept as text."""
    path = run_folder / "captions" / "answers.csv"
    return pd.read_csv(path, dtype={"image_id": str}, keep_default_na=False)


def score_text(run: Run, table: Table) -> None:
    """Caption metrics of open answers, accuracy of closed ones; chance is what is said without a brain.

    A corpus is what was said about the pictures of one subject.
    """
    answers = read_answers(run.folder)
    references = {i: run.recordings.captions(i) for i in answers.image_id.unique()}
    _score_open(answers, references, table)
    _score_closed(answers, table)


def _score_open(answers: pd.DataFrame, references: dict[str, list[str]], table: Table) -> None:
    from neurovl.metrics import caption_corpora

    answers = answers[answers.type.isin(list(TEXT_TASKS)) & (answers.turn == 0)]
    answers = answers.assign(task=answers.type.map(TEXT_TASKS))
    keys = ["task", "system", "protocol", "subject"]
    parts = dict(iter(answers.groupby(keys, sort=False)))

    def true(part: pd.DataFrame, task: str) -> list[list[str]]:
        if task == "caption":
            return [references[i] for i in part.image_id]
        return [[one] for one in part.truth]

    scored = caption_corpora(
        [(list(part.answer), true(part, key[0])) for key, part in parts.items()]
    )
    corpora: dict[tuple, dict] = {}
    for (task, system, proto, subject), part, scores in zip(
        parts, parts.values(), scored, strict=True
    ):
        for metric, score in scores.items():
            place = (system, task, proto, metric)
            corpora.setdefault(place, {})[subject] = (part.image_id, score)
    for (system, task, proto, metric), own in corpora.items():
        blind = corpora.get(("no-brain", task, "average", metric), {})
        chance = {subject: score.value for subject, (_, score) in blind.items()}
        table.add_corpora(system, task, proto, metric, own, chance)


def _score_closed(answers: pd.DataFrame, table: Table) -> None:
    for kind, task in (("conversation", "dialogue"), ("localization", "localization")):
        part = answers[(answers.type == kind) & (answers.closed.astype(str) == "True")]
        right = (
            part.answer.str.lower().str.strip(" .") == part.truth.str.lower().str.strip(" .")
        ).astype(float)
        part = part.assign(right=right)
        chance = {s: g.right.mean() for s, g in part[part.system == "no-brain"].groupby("subject")}
        metric = "accuracy" if task == "dialogue" else CONCEPT_WORD
        for (system, proto, subject), own in part.groupby(
            ["system", "protocol", "subject"], sort=False
        ):
            by_image = own.groupby("image_id").right.mean()
            table.add(
                system,
                task,
                proto,
                subject,
                metric,
                by_image.index,
                by_image,
                float(chance[subject]),
            )
