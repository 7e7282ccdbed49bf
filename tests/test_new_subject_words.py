"""What is said about a subject left out of the run: its own test pictures, read as it is and after adaptation."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from test_adaptation import PROFILE, train

from neurovl import pipeline
from neurovl.evaluation import new_subject_words
from neurovl.settings.language import Language
from neurovl.settings.sections import Evaluation

SPEAKING = replace(
    PROFILE,
    language=Language(steps=(1, 2), batch_size=(4, 4), precision="no", max_new_tokens=6),
    evaluation=Evaluation(bootstrap=200, caption_images=6, check_pairs=3),
)


@pytest.fixture(scope="module")
def asked(tiny_nsd, tmp_path_factory):
    """A run on subject 1 that was asked about subject 2, and the brain tokens that were read, in order."""
    run = train(tmp_path_factory.mktemp("words") / "run", tiny_nsd, SPEAKING)
    pipeline.train_language(run)
    read = []

    def converse(model, hidden, *rest):
        read.append(hidden)
        return original(model, hidden, *rest)

    original = new_subject_words.converse
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(new_subject_words, "converse", converse)
        new_subject_words.answer_new_subject(run)
        new_subject_words.answer_new_subject(run)  # up to date: nothing is asked again
    return run, read


def test_it_is_asked_as_it_is_and_adapted(asked):
    run, read = asked
    (file,) = new_subject_words.answers_of(run)
    said = pd.read_csv(file, dtype=str)
    assert file.parent.name == "subj02" and set(said.subject) == {"subj02"}
    assert set(zip(said.share, said.protocol, strict=True)) == {
        (share, proto) for share in ("0.0", "1.0") for proto in ("average", "single")
    }
    trials = pipeline.start(run.data_folder, run.root, SPEAKING).recordings.trials
    assert set(said.image_id).isdisjoint(trials.image_id[trials.split == "train"])
    # Four readings, each of its own: share and protocol both change what the language model reads.
    assert len(read) == 4
    pairs = [(a, b) for k, a in enumerate(read) for b in read[k + 1 :]]
    assert not any(torch.allclose(a.hidden, b.hidden) for a, b in pairs)


def test_its_rows_say_the_share(asked):
    run, _ = asked
    rows = new_subject_words.new_subject_words(run)
    assert {r.condition for r in rows if r.task == "dialogue"} == {"share=0", "share=1"}
    assert {r.subject for r in rows} == {"subj02"}  # the mean over subjects is of the run's own
    assert all(r.chance is None for r in rows)
