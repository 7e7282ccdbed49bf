"""What the language model learns from: ways of teaching it, side by side on pictures that none of them saw.

    python benchmarks/words.py --run runs/demo      # about 15 minutes on 2 cores; the run needs the encoder `held-out`
    python benchmarks/words.py --run RUN --small    # every way in a few steps, to see that it works; the figures mean nothing

The encoder `held-out` reads the tune pictures, which it was not trained on, and each language model is taught without them, as the
run's profile says but for one thing. Scored is what they say of the averages and the single trials of every subject. Choices in
profiles rest on this table, never on test pictures. words.csv has a row for each way and protocol.
"""

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from measuring import keep, parse, processor, short

import neurovl
from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.evaluation.answering import checked, converse
from neurovl.evaluation.asserting import score_descriptions
from neurovl.evaluation.calibrating import ASKED
from neurovl.evaluation.score_table import Table
from neurovl.evaluation.text_scores import score_said
from neurovl.foundation.llm import load_llm
from neurovl.language import BrainLLM, PredictionTokens, Projector, fit_language
from neurovl.language.dialogues import evaluation_set
from neurovl.language.talks import talks
from neurovl.pipeline.hidden_states import fit_reading, hidden_states
from neurovl.results import PROTOCOLS
from neurovl.run import Run
from neurovl.settings.language import Language
from neurovl.training.validation import HELD_OUT, tune_pictures

SHOWN = {
    ("caption", "meteor"): "METEOR",
    ("caption", "cider"): "CIDEr",
    ("description", "objects_recall"): "things found",
    ("description", "objects_precision"): "things right",
    ("dialogue", "accuracy"): "closed questions",
    ("checks", "accuracy"): "balanced questions",
}
NOISE = 0.5  # standard deviations of each number of the tokens


@dataclass(frozen=True)
class Way:
    """One way of teaching: what is read, of the profile's settings what differs, noise, and whether true pictures come first."""

    reads: str = "predictions"
    longer: float = 1.0
    checks: bool = True
    noise: float = 0.0
    pictures_first: bool = False

    def settings(self, language: Language) -> Language:
        first, second = language.steps
        steps = (first, round(self.longer * second))
        return replace(language, reads=self.reads, steps=steps, checks=self.checks)


WAYS = {
    "predictions": Way(),
    "hidden states, the paper's recipe": Way(reads="hidden"),
    "predictions, without balanced questions": Way(checks=False),
    "predictions, 1.75 times as long": Way(longer=1.75),
    "predictions, noise on the tokens": Way(noise=NOISE),
    "predictions, true pictures first": Way(pictures_first=True),
}


class Lesson:
    """The training trials of a run without the tune pictures, and what is said about these."""

    def __init__(self, run: Run) -> None:
        self.run, trials = run, run.store.trials
        trials = trials[trials.split == "train"]
        self.held = tune_pictures(trials.image_id)
        trials = trials[~trials.image_id.isin(self.held)]
        self.rows, self.pictures = trials.index.to_numpy(), list(trials.image_id)

    def tokens(self, way: Way, folder: Path) -> tuple[np.ndarray, PredictionTokens | None]:
        """What a way reads of the training trials."""
        reading = fit_reading(self.run, self.rows, HELD_OUT) if way.reads == "predictions" else None
        file = folder / f"{way.reads}.npy"
        found = hidden_states(self.run, self.rows, file, HELD_OUT, reading)
        if way.noise:
            rng = np.random.default_rng(self.run.profile.seed)
            noise = rng.standard_normal(found.shape, np.float32)
            found = (found + way.noise * found[:1024].std(0) * noise).astype(np.float16)
        return found, reading

    def teach(self, way: Way, tokens: np.ndarray, reading: PredictionTokens | None) -> BrainLLM:
        """A language model that was taught in one way."""
        p, device = self.run.profile, self.run.profile.compute.device
        language, (llm, tokenizer) = (
            way.settings(p.language),
            load_llm(p.models.spec("llm"), device),
        )
        about = talks(self.run.recordings, self.pictures, {}, p.seed, language.checks)

        def fit(tokens: object, pictures: list[str], reading: PredictionTokens | None) -> BrainLLM:
            torch.manual_seed(p.seed)
            projector = Projector(tokens.shape[-1], llm.get_input_embeddings().embedding_dim)
            model = BrainLLM(llm, tokenizer, projector, reading)
            fit_language(model, tokens, pictures, about, language, seed=p.seed, device=device)
            return model

        if way.pictures_first:
            different = list(dict.fromkeys(self.pictures))
            fit(self.run.picture_tokens(different), different, None)
        return fit(tokens, self.pictures, reading)

    def answers(self, model: BrainLLM) -> Iterator[dict]:
        """What a language model says of the tune pictures, average and single."""
        run, store = self.run, self.run.store
        encoder = run.encoder(HELD_OUT)
        for subject in store.subjects:
            for protocol in PROTOCOLS:
                ids, x = held_out_voxels(store, subject, protocol, self.held)
                talk = evaluation_set(run.recordings, ids, run.profile.seed)
                talk = [one for one in talk if one.type in ASKED] + checked(run, ids)
                z = predict(encoder, store.cut(x, encoder.layout))
                longest = run.profile.language.max_new_tokens
                for row in converse(model.eval(), z, ids, talk, longest):
                    yield {"protocol": protocol, "subject": subject} | row


def scored(run: Run, answers: pd.DataFrame) -> pd.DataFrame:
    """`SHOWN` of answers over all subjects: a row for each way and protocol."""
    table = Table(run.recordings.name, "tune", run.profile.seed, run.profile.evaluation.bootstrap)
    ids = answers.image_id.unique()
    references = {"caption": {image: run.recordings.captions(image) for image in ids}}
    score_said(answers, references, table)
    score_descriptions(answers, run.recordings, table)
    rows = pd.DataFrame([vars(row) for row in table.rows])
    rows = rows[(rows.condition == "") & (rows.subject != "all")]
    rows = rows.assign(shown=[SHOWN.get(key) for key in zip(rows.task, rows.metric, strict=True)])
    return rows.pivot_table(
        index=["system", "protocol"], columns="shown", values="value", aggfunc="mean", sort=False
    )[list(SHOWN.values())]


def main(arguments: list[str] | None = None) -> None:
    chosen = parse(__doc__, arguments, {"--run": {"type": Path, "required": True}})
    run = neurovl.open_run(chosen.run)
    if chosen.small:
        language = replace(run.profile.language, steps=(2, 4), max_new_tokens=8)
        run = replace(run, profile=replace(run.profile, language=language))
    lesson, answers = Lesson(run), []
    with tempfile.TemporaryDirectory() as folder:
        for name, way in WAYS.items():
            tokens, reading = lesson.tokens(way, Path(folder))
            print(name, file=sys.stderr)
            model = lesson.teach(way, tokens, reading)
            answers += [{"system": name} | row for row in lesson.answers(model)]
    rows = [
        {"what": name, "protocol": protocol}
        | {metric: short(value) for metric, value in row.items()}
        for (name, protocol), row in scored(run, pd.DataFrame(answers)).iterrows()
    ]
    about = {"date": time.strftime("%Y-%m-%d", time.gmtime())}
    keep(rows, about | {"device": f"{processor()}, {run.profile.name}"}, chosen.out, "words.csv")


if __name__ == "__main__":
    main()
