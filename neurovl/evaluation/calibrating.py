"""How sure answers are, calibrated on the tune pictures by networks that never saw them: RUN/calibration."""

from itertools import product

import pandas as pd

from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.encoder.signal import Signal
from neurovl.evaluation.answering import checked, converse, evidence_for
from neurovl.evaluation.rightness import is_right
from neurovl.evaluation.uninformed import SCRAMBLED, uninformed
from neurovl.language.confidence import Confidence
from neurovl.language.dialogues import evaluation_set
from neurovl.results import PROTOCOLS, write_texts
from neurovl.run import Run
from neurovl.run.run import CONFIDENCE, SIGNAL
from neurovl.training.validation import HELD_OUT, tune_pictures

ASKED = ("brief", "detailed", "conversation")  # besides closed questions in balanced pairs


def calibrate(run: Run) -> None:
    """RUN/calibration: confidence.json and signal.safetensors, see `language.confidence`, and answers.csv, what they rest on.

    An encoder and a language model that were trained without the tune pictures answer questions about them: from averages and
    single trials of every subject, and from the same with their voxels permuted, which set when nothing is said.

    Raises
    ------
    DataError
        There are too few tune pictures.

    Examples
    --------
    >>> from neurovl import evaluation
    >>> evaluation.calibrate(run)
    >>> run.confidence()[0].short.threshold <= 1
    True
    """
    p = run.profile
    settings = {
        "check_pairs": p.evaluation.check_pairs,
        "max_new_tokens": p.language.max_new_tokens,
    }
    inputs = ("tokens", "targets", f"encoders/{HELD_OUT}", f"llms/{HELD_OUT}")
    with run.stage("calibration", calibrate, settings, inputs) as s:
        if s.done:
            return
        trials = run.store.trials[run.store.trials.split == "train"]
        held = tune_pictures(trials.image_id)
        seen = sorted(set(trials.image_id) - set(held))
        signal = Signal.fit(run.targets, seen, p.alignment)
        rows = [row for who in run.store.subjects for row in _answers(run, who, held, signal)]
        run.forget(f"llms/{HELD_OUT}")
        table = pd.DataFrame(rows).assign(right=is_right(run, pd.DataFrame(rows)))
        table = table[table.right.notna()]
        blank = (table.system == SCRAMBLED) & (table.protocol == "average")
        Confidence.fit(evidence_for(table), table.right, blank).save(s.dir / CONFIDENCE)
        signal.save(s.dir / SIGNAL)
        write_texts(table, s.dir / "answers.csv")
    run.forget("calibration")


def _answers(run: Run, subject: str, held: list[str], signal: Signal) -> list[dict]:
    """What is said about a subject's tune pictures."""
    encoder, store, p = run.encoder(HELD_OUT, run.profile.compute.device), run.store, run.profile
    volumes = {kind: held_out_voxels(store, subject, kind, held) for kind in PROTOCOLS}
    ids = volumes["average"][0]
    talk = [d for d in evaluation_set(run.recordings, ids, p.seed) if d.type in ASKED]
    talk += checked(run, ids)
    found = []
    for kind, system in product(PROTOCOLS, ("neurovl", SCRAMBLED)):
        x = volumes[kind][1]
        if system == SCRAMBLED:
            x = uninformed(SCRAMBLED, x, store.measured(subject), p.seed)
        z = predict(encoder, store.cut(x, encoder.layout))
        longest, signals = p.language.max_new_tokens, signal.of(z).tolist()
        said = converse(run.llm(HELD_OUT), z, ids, talk, longest, signals)
        place = {"system": system, "protocol": kind, "subject": subject}
        found += [place | row for row in said]
    return found
