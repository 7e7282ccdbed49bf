"""Captions, descriptions, dialogues and reasoning about the test pictures: RUN/captions/answers.csv."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
import torch

from neurovl.evaluation.embeddings import chosen_images, held_out, no_brain, shuffled
from neurovl.evaluation.score_table import Corpora, Table
from neurovl.files import Journal
from neurovl.language import BrainLLM, Conversations, Speaking
from neurovl.language.dialogues import CHECKS, Dialogue, balanced_checks, evaluation_set
from neurovl.language.llm_variants import LanguageVariant, language_variant
from neurovl.language.model import GENERATION_BATCH
from neurovl.results import Row, condition, read_texts, write_texts
from neurovl.run import Run
from neurovl.training.batch_sizes import in_batches

OF_MAIN = ("neurovl", "shuffled", "no-brain")  # what the main language model says
TEXT_TASKS = {"brief": "caption", "detailed": "description", "reasoning": "reasoning"}

CONCEPT_WORD = "accuracy_concept_word"
ANSWERED = "answered.jsonl"  # while the stage is being made
TOGETHER = 512  # dialogues that are asked before they are written down
WITHOUT_REFERENCES = "CLIP-S compares captions with the picture, not with others: see task caption"
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

    Systems: 'neurovl' (all types from the average of repeats, brief captions and closed questions in balanced pairs also from a
    single trial), 'shuffled' (brains of other pictures), 'no-brain' (no response at all), and the other variants of the language
    model, from averages; one of them may read the true pictures.

    Examples
    --------
    >>> from neurovl import evaluation
    >>> evaluation.answer(run)
    >>> run.tables.answers.columns.tolist()[-4:]
    ['question', 'answer', 'truth', 'closed']
    """
    p, variants = run.profile, [language_variant(v) for v in run.profile.language.variants]
    stages = [variant.stage for variant in variants]
    with run.stage(
        "captions",
        answer,
        {
            "caption_images": p.evaluation.caption_images,
            "check_pairs": p.evaluation.check_pairs,
            "max_new_tokens": p.language.max_new_tokens,
        },
        tuple(
            sorted(
                {"tokens", *(f"encoders/{v.encoder}" for v in variants if v.encoder)}.union(stages)
            )
        ),
        () if all(v.encoder for v in variants) else ("clip",),
    ) as s:
        if s.done:
            return
        journal = Journal(s.dir / ANSWERED)
        for variant in variants:
            for subject in run.store.tested:
                _ask_about(run, journal, variant, subject, "average")
                if variant.name == "main":
                    _ask_about(run, journal, variant, subject, "single")
            run.forget(variant.stage)
        rows = [{k: v for k, v in row.items() if k in COLUMNS} for row in journal.records]
        write_texts(pd.DataFrame(rows, columns=COLUMNS), s.dir / "answers.csv")
        journal.path.unlink()


def _ask_about(
    run: Run, journal: Journal, variant: LanguageVariant, subject: str, kind: str
) -> None:
    """What one language model says of a subject's pictures; the main one also of other pictures' brains, and of none."""
    settings, seed = run.profile.evaluation, run.profile.seed
    ids = run.test_images(subject)
    wanted = chosen_images(ids, settings.caption_images, seed)
    talk = evaluation_set(run.recordings, wanted, seed)
    if kind == "single":
        talk = [d for d in talk if d.type == "brief"]
    talk += checked(run, wanted)
    systems = {}
    if variant.encoder:
        ids, z = held_out(run, variant.encoder, subject, kind)
        z = z.take([ids.index(i) for i in wanted])
        systems[variant.system] = z.hidden
    else:
        systems[variant.system] = run.picture_tokens(wanted)
    if variant.name == "main" and kind == "average":
        systems["shuffled"] = shuffled(z, seed).hidden
        systems["no-brain"] = no_brain(run, len(z)).hidden
    for system, hidden in systems.items():
        place = {"system": system, "protocol": kind, "subject": subject}
        _write_answers(run, journal, variant, place, hidden, wanted, talk)


def checked(run: Run, image_ids: list[str]) -> list[Dialogue]:
    """Closed questions in balanced pairs about pictures, each a dialogue of its own whose type is what is asked for."""
    data = run.recordings
    captions = {image: data.captions(image) for image in image_ids}
    objects = {image: data.objects(image) for image in image_ids}
    pairs = balanced_checks(captions, objects, run.profile.seed, run.profile.evaluation.check_pairs)
    return [Dialogue(c.type, c.image_id, ((c.question, c.answer),), closed=True) for c in pairs]


def _write_answers(
    run: Run,
    journal: Journal,
    variant: LanguageVariant,
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
        longest = run.profile.language.max_new_tokens
        said = _converse(run.llm(variant.name), hidden, ids, some, longest)
        journal.add([place | row | {"part": part} for row in said])


def _converse(
    model: BrainLLM,
    hidden: torch.Tensor,
    ids: list[str],
    dialogues: list[Dialogue],
    max_new_tokens: int,
) -> list[dict]:
    """Ask all dialogues turn by turn; the model's own answers are the history of later turns.

    A brain is read once for all dialogues about its picture. Dialogues of one type and length are held side by side: their
    answers are about equally long.
    """
    row = {image: k for k, image in enumerate(ids)}
    about: dict[str, list[Dialogue]] = {}
    for one in dialogues:
        about.setdefault(one.image_id, []).append(one)
    images = list(about)

    def talk(part: slice) -> list[list[dict]]:
        some = images[part]
        begun = Conversations(model, hidden[[row[i] for i in some]], Speaking(max_new_tokens))
        alike: dict[tuple, list[tuple[int, Dialogue]]] = {}
        for k, image in enumerate(some):
            for one in about[image]:
                alike.setdefault((one.type, one.closed, len(one.turns)), []).append((k, one))
        said: list[list[dict]] = [[] for _ in some]
        for group in alike.values():
            talks = begun.take([k for k, _ in group])
            for turn in range(len(group[0][1].turns)):
                talks.ask([one.turns[turn][0] for _, one in group])
            for (k, one), turns in zip(group, talks.turns, strict=True):
                said[k] += _rows(one, turns)
        return said

    return sum(in_batches(len(images), GENERATION_BATCH, talk, "pictures"), [])


def _rows(dialogue: Dialogue, turns: Sequence[tuple[str, str]]) -> list[dict]:
    """A row for each turn of a dialogue that was held."""
    return [
        {
            "type": dialogue.type,
            "image_id": dialogue.image_id,
            "turn": turn,
            "question": question,
            "answer": said,
            "truth": truth,
            "closed": dialogue.closed,
        }
        for turn, ((question, said), (_, truth)) in enumerate(
            zip(turns, dialogue.turns, strict=True)
        )
    ]


def read_answers(run_folder: Path) -> pd.DataFrame:
    """answers.csv of a run, text kept as text."""
    return read_texts(run_folder / "captions" / "answers.csv")


def score_text(run: Run, table: Table) -> None:
    """Caption metrics of open answers, accuracy of closed ones; chance is what the main model says without a brain.

    A corpus is what was said about the pictures of one subject. Where the pictures were annotated, captions are compared
    with the captioner's too, in task 'caption-blip2'. Of other language models chance stays empty: without a brain they
    were not asked.
    """
    answers = read_answers(run.folder)
    _score_open(answers, true_captions(run, answers.image_id.unique()), table)
    _score_closed(answers, table)


def true_captions(run: Run, ids: Iterable[str]) -> dict[str, dict[str, list[str]]]:
    """What captions of pictures are compared with, by task: people's, and the captioner's where the pictures were annotated."""
    references = {"caption": {i: run.recordings.captions(i) for i in ids}}
    annotated = run.annotations()
    if annotated:
        references["caption-blip2"] = {i: annotated[i]["captions"] for i in ids}
    return references


def _score_open(
    answers: pd.DataFrame, references: dict[str, dict[str, list[str]]], table: Table
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
        place = table.place(system, "caption-blip2", "average", "all", "clip_s")
        table.rows.append(Row(**place, note=WITHOUT_REFERENCES))
    for (system, task, proto, metric), own in corpora.items():
        known = corpora.get(("no-brain", task, "average", metric), {})
        blind = known if system in OF_MAIN else {}
        chance = {subject: score.value for subject, (_, score) in blind.items()}
        table.add_corpora(system, task, proto, metric, own, chance)


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


def _score_closed(answers: pd.DataFrame, table: Table) -> None:
    closed = answers[answers.closed.astype(str) == "True"]
    for kinds, (task, varied) in CLOSED.items():
        part = closed[closed.type.isin(kinds)]
        right = (
            part.answer.str.lower().str.strip(" .") == part.truth.str.lower().str.strip(" .")
        ).astype(float)
        part = part.assign(right=right)
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
                float(chance[subject]) if system in OF_MAIN else None,
                condition=varied,
            )
