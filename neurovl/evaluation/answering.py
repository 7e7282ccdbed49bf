"""Captions, descriptions, dialogues and reasoning about the test pictures: RUN/captions/answers.csv."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path

import pandas as pd
import torch

from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.evaluation.embeddings import chosen_images, held_out, no_brain, shuffled
from neurovl.evaluation.further_sets import available_sets, imagined
from neurovl.evaluation.uninformed import UNINFORMED, uninformed
from neurovl.files import Journal
from neurovl.language import BrainLLM, Conversations, Speaking
from neurovl.language.answer_batches import conversations_together
from neurovl.language.confidence import Evidence
from neurovl.language.dialogues import Dialogue, balanced_checks, evaluation_set
from neurovl.language.llm_variants import LanguageVariant, language_variant
from neurovl.results import read_texts, write_texts
from neurovl.run import Run
from neurovl.settings.sections import Profile
from neurovl.training.batch_sizes import in_batches
from neurovl.training.validation import HELD_OUT

OF_MAIN = ("neurovl", "shuffled", "no-brain")  # what the main language model says
ANSWERED = "answered.jsonl"  # while the stage is being made
TOGETHER = 512  # dialogues that are asked before they are written down
IMAGERY = "imagery"
# Systems whose answers tell how sure they are, and are no score of decoding.
NO_PICTURE = (*UNINFORMED, IMAGERY)
EVIDENCE = tuple(one.name for one in fields(Evidence))
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
    *EVIDENCE,
]


def answer(run: Run) -> None:
    """Put every type of question to the language model for each subject and test picture.

    Systems: 'neurovl' (all types from the average of repeats, brief captions and closed questions in balanced pairs also from a
    single trial), 'shuffled' (brains of other pictures), 'no-brain' (no response at all), and the other variants of the language
    model, from averages, and the one that reads hidden states from single trials too; one of them may read the true pictures. For confidence alone: 'scrambled' and 'noise' (see `uninformed`),
    and 'imagery', pictures that are imagined; these have closed questions and brief captions.

    Examples
    --------
    >>> from neurovl import evaluation
    >>> evaluation.answer(run)
    >>> run.tables.answers.columns.tolist()[-4:]
    ['weakest', 'signal', 'strength', 'tokens']
    """
    p, variants = run.profile, [language_variant(v) for v in run.profile.language.variants]
    variants = [variant for variant in variants if variant.asked]
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
                {"tokens", *(f"encoders/{v.encoder}" for v in variants if v.encoder)}.union(
                    stages, calibration_of(p)
                )
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
                if variant.name == "main" or variant.reads:
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
    place = {"protocol": kind, "subject": subject}
    if not variant.encoder:
        read = run.picture_tokens(wanted)
        _write_answers(
            run, journal, variant, place | {"system": variant.system}, read, wanted, talk
        )
        return
    ids, z = held_out(run, variant.encoder, subject, kind)
    z = z.take([ids.index(i) for i in wanted])
    systems = {variant.system: z}
    if variant.name == "main" and kind == "average":
        systems |= {"shuffled": shuffled(z, seed), "no-brain": no_brain(run, len(z))}
    for system, seen in systems.items():
        _write_answers(run, journal, variant, place | {"system": system}, seen, wanted, talk)
    if variant.name == "main" and kind == "average" and run.confidence():
        for system, seen in _of_no_picture(run, subject, wanted):
            _write_answers(
                run, journal, variant, place | {"system": system}, seen, wanted, _short(talk)
            )
        if IMAGERY in available_sets(run):
            ids, z = imagined(run, subject)
            if ids:
                talk = _short(evaluation_set(run.recordings, ids, seed) + checked(run, ids))
                _write_answers(run, journal, variant, place | {"system": IMAGERY}, z, ids, talk)


def _short(talk: list[Dialogue]) -> list[Dialogue]:
    return [one for one in talk if one.closed or one.type == "brief"]


def _of_no_picture(
    run: Run, subject: str, wanted: list[str]
) -> Iterator[tuple[str, BrainEmbedding]]:
    """Brains that hold nothing of the pictures that they are asked about."""
    encoder = run.encoder("main", run.profile.compute.device)
    ids, voxels = held_out_voxels(run.store, subject, "average")
    voxels = voxels[[ids.index(i) for i in wanted]]
    for kind in UNINFORMED:
        drawn = uninformed(kind, voxels, run.store.measured(subject), run.profile.seed)
        yield kind, predict(encoder, run.store.cut(drawn, encoder.layout))


def calibration_of(profile: Profile) -> tuple[str, ...]:
    """The stage that says how sure answers are, where a profile has it."""
    return ("calibration",) if HELD_OUT in profile.language.variants else ()


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
    read: BrainEmbedding | torch.Tensor,
    ids: list[str],
    dialogues: list[Dialogue],
) -> None:
    """Add one system's answers to the journal, some dialogues at a time; those that are in it are not asked again."""
    calibrated, signals = run.confidence(), None
    if calibrated is not None and isinstance(read, BrainEmbedding):
        signals = calibrated[1].of(read).tolist()
    done = {row["part"] for row in journal.records if place.items() <= row.items()}
    for part, start in enumerate(range(0, len(dialogues), TOGETHER)):
        if part in done:
            continue
        some = dialogues[start : start + TOGETHER]
        longest = run.profile.language.max_new_tokens
        said = converse(run.llm(variant.name), read, ids, some, longest, signals)
        journal.add([place | row | {"part": part} for row in said])


def converse(
    model: BrainLLM,
    z: BrainEmbedding | torch.Tensor,
    ids: list[str],
    dialogues: list[Dialogue],
    max_new_tokens: int,
    signals: Sequence[Sequence[float]] | None = None,
) -> list[dict]:
    """Ask all dialogues turn by turn; the model's own answers are the history of later turns.

    A brain is read once for all dialogues about its picture. Dialogues of one type and length are held side by side: their
    answers are about equally long.

    Parameters
    ----------
    model : BrainLLM
    z : BrainEmbedding or Tensor (n, N + 1, D)
        What the encoder reads, or brain tokens.
    ids : list of str
        The picture of each.
    dialogues : list of Dialogue
    max_new_tokens : int
    signals : sequence of (float, float), length n, optional
        Signal and strength of the brains, see `encoder.signal`.

    Returns
    -------
    list of dict
        One a turn: type, image_id, turn, question, answer, truth, closed, and `Evidence` where signals are given.
    """
    hidden, row = model.read(z), {image: k for k, image in enumerate(ids)}
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
            known = [None if signals is None else signals[row[some[k]]] for k, _ in group]
            evidence = _hold(talks, [one for _, one in group], known)
            for (k, one), turns, weighed in zip(group, talks.turns, evidence, strict=True):
                said[k] += _rows(one, turns, weighed)
        return said

    together = conversations_together(model.llm, hidden.shape[1], max_new_tokens)
    return sum(in_batches(len(images), together, talk, "pictures"), [])


def _hold(
    talks: Conversations, dialogues: list[Dialogue], signals: list[Sequence[float] | None]
) -> list[list[dict]]:
    """Ask dialogues of equal length, a row each; what speaks for each answer, nothing where a signal is not known."""
    found: list[list[dict]] = [[] for _ in dialogues]
    for turn in range(len(dialogues[0].turns)):
        talks.ask([one.turns[turn][0] for one in dialogues])
        for own, likelihoods, signal in zip(found, talks.likelihoods, signals, strict=True):
            own.append({} if signal is None else asdict(Evidence.of(likelihoods, signal)))
    return found


def _rows(
    dialogue: Dialogue, turns: Sequence[tuple[str, str]], evidence: Sequence[dict]
) -> list[dict]:
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
            **evidence[turn],
        }
        for turn, ((question, said), (_, truth)) in enumerate(
            zip(turns, dialogue.turns, strict=True)
        )
    ]


def evidence_for(answers: pd.DataFrame) -> list[Evidence]:
    """What speaks for each of some answers, of their columns `EVIDENCE`."""
    rows = answers[list(EVIDENCE)].itertuples(index=False)
    return [Evidence(*row[:-1], int(row[-1])) for row in rows]


def read_answers(run_folder: Path) -> pd.DataFrame:
    """answers.csv of a run without `NO_PICTURE`, text kept as text."""
    answers = read_all_answers(run_folder)
    return answers[~answers.system.isin(NO_PICTURE)]


def read_all_answers(run_folder: Path) -> pd.DataFrame:
    """answers.csv of a run, text kept as text; evidence is not a number where there is none."""
    answers = read_texts(run_folder / "captions" / "answers.csv")
    numbers = [name for name in EVIDENCE if name in answers]
    return answers.assign(**{n: pd.to_numeric(answers[n], errors="coerce") for n in numbers})
