"""What is said about pictures that a subject saw whom no training met: as it is, and adapted with all its trials."""

from pathlib import Path

import pandas as pd

from neurovl.adaptation.adapting import add_subject, has_readout, pooled_noise
from neurovl.adaptation.new_subject import (
    choose_pictures,
    embed_subject,
    read_trials,
    volumes_identity,
)
from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.evaluation.answering import checked, converse
from neurovl.evaluation.embeddings import chosen_images
from neurovl.evaluation.new_subject_curve import subject_of_profile
from neurovl.evaluation.score_table import Table
from neurovl.evaluation.text_scores import score_said, true_captions
from neurovl.language.dialogues import evaluation_set
from neurovl.results import PROTOCOLS, Row, condition, read_texts, write_texts
from neurovl.run import Run

PLACE = "adaptation-words"
ASKED = ("brief", "detailed", "conversation")  # besides closed questions in balanced pairs


def answer_new_subject(run: Run) -> None:
    """RUN/adaptation-words/SUBJECT/answers.csv: the main language model on a new subject's test pictures.

    With the run's encoder as it is (share 0) and with the readout that is added from the largest share of the subject's training
    pictures, see `new_subject_curve`. The language model is the same: it never met the subject. Nothing is made where the
    profile names no subject outside the run, or the encoder has no readout for each subject.
    """
    found = subject_of_profile(run)
    encoder = run.encoder("main")
    if found is None or not has_readout(run, encoder):
        return
    subject, recordings = found
    p, main = run.profile, run
    shares = (0.0, max(p.adaptation.shares))
    chosen = choose_pictures(recordings, subject, p.seed, shares[1])
    run = run.on_data(recordings)
    targets = embed_subject(run, recordings, subject)
    settings = {
        "volumes": volumes_identity(recordings, subject),
        "pictures": chosen,
        "caption_images": p.evaluation.caption_images,
        "check_pairs": p.evaluation.check_pairs,
        "max_new_tokens": p.language.max_new_tokens,
    }
    inputs = ("tokens", "targets", "encoders/main", "llm", f"targets-{subject}")
    with run.stage(f"{PLACE}/{subject}", answer_new_subject, settings, inputs) as s:
        if s.done:
            return
        rows: list[dict] = []
        sets = read_trials(recordings, subject, run.store, [[], chosen])
        for share, one in zip(shares, sets, strict=True):
            if share:
                encoder = add_subject(run, encoder, one, targets, pooled_noise(main, encoder))
            for proto in PROTOCOLS:
                ids, voxels = held_out_voxels(one, subject, proto)
                wanted = chosen_images(ids, p.evaluation.caption_images, p.seed)
                seen = voxels[[ids.index(i) for i in wanted]]
                z = predict(encoder, run.store.cut(seen, encoder.layout))
                talk = evaluation_set(recordings, wanted, p.seed)
                talk = [d for d in talk if d.type in ASKED] + checked(run, wanted)
                said = converse(main.llm(), z, wanted, talk, p.language.max_new_tokens)
                place = {"system": "neurovl", "protocol": proto, "subject": subject, "share": share}
                rows += [place | row for row in said]
        write_texts(pd.DataFrame(rows), s.dir / "answers.csv")


def new_subject_words(run: Run) -> list[Row]:
    """Rows of what was said about a new subject's pictures, ``share=0`` as it is, ``share=1`` adapted with all its trials.

    They are no part of the mean over the run's subjects, so none is of 'all'.
    """
    p, data = run.profile, run.recordings
    table = Table(data.name, data.split_name, p.seed, p.evaluation.bootstrap)
    for file in answers_of(run):
        answers = read_texts(file)
        references = true_captions(run, answers.image_id.unique())
        for share, part in answers.groupby("share"):
            score_said(part, references, table, condition(share=float(share)))
    return [row for row in table.rows if row.subject != "all"]


def answers_of(run: Run) -> list[Path]:
    """answers.csv of each new subject that was asked about."""
    return sorted((run.folder / PLACE).glob("*/answers.csv"))
