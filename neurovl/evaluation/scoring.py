"""From the outputs of a run to results.csv and per_image.csv, each number with interval, chance and ceiling."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.encoder.alignment import held_out_voxels
from neurovl.encoder.targets import label_text
from neurovl.encoder.variants import encoder_for, system_name
from neurovl.evaluation.answering import calibration_of
from neurovl.evaluation.asserting import score_assertions
from neurovl.evaluation.beside_paper import Basis, other_data, with_paper
from neurovl.evaluation.claims import claims
from neurovl.evaluation.confidence_scores import score_confidence
from neurovl.evaluation.embeddings import derangement, held_out, linear_part, ridge_of
from neurovl.evaluation.erased_scores import score_erased
from neurovl.evaluation.further_sets import available_sets, rows_of_sets
from neurovl.evaluation.locating import concepts, score_maps
from neurovl.evaluation.new_subject_curve import curve_of_profile, rows_of
from neurovl.evaluation.new_subject_words import answers_of, new_subject_words
from neurovl.evaluation.picture_scores import score_pictures
from neurovl.evaluation.region_importance import regions, score_importance, with_p
from neurovl.evaluation.repeats import score_repeats
from neurovl.evaluation.requests import score_requests
from neurovl.evaluation.retrieving import Retrieval
from neurovl.evaluation.score_table import Table
from neurovl.evaluation.text_scores import CONCEPT_WORD, score_text
from neurovl.metrics import protocol
from neurovl.results import ADAPTED, Row, write_claims, write_results
from neurovl.run import Run
from neurovl.stages import provenance_key

SAID = (
    "caption",
    "caption-blip2",
    "description",
    "dialogue",
    "checks",
    "confidence",
    "reasoning",
)  # tasks of the language model
WORDLESS = ("no-llm", "true-embedding")  # systems that paint without it


def score(runs: list[Run], curves: Sequence[Path] = ()) -> None:
    """RUN/results: score all folds of a run together, and the curve of the new subject that the profile names.

    Parameters
    ----------
    runs : list of Run
        One for each fold.
    curves : sequence of Path
        Stages of the first whose curve.csv, of other systems on that subject, is taken in.

    Examples
    --------
    >>> from neurovl import evaluation
    >>> evaluation.score([run])
    >>> sorted(path.name for path in (run.folder / "results").glob("*.csv"))
    ['claims.csv', 'per_image.csv', 'results.csv']
    """
    first = runs[0]
    p, names = first.profile, ["tokens", "targets", *(f"encoders/{s}" for s in first.variants())]
    names += ["llm", "captions", "reconstructions"] if first.has_captions else []
    names += calibration_of(p) if first.has_captions else ()
    names += ["annotations"] if first.annotations() else []
    names += ["localization"] if concepts(first) else []
    weighed = bool(regions(first))
    names += ["importance"] if weighed else []
    names += available_sets(first)
    keys = {f"{k}/{n}": provenance_key(run.folder / n) for k, run in enumerate(runs) for n in names}
    words = [file.parent.relative_to(first.folder).as_posix() for file in answers_of(first)]
    keys |= {name: provenance_key(first.folder / name) for name in words}
    curve = curve_of_profile(first)
    if curve is not None:
        keys["adaptation"] = provenance_key(first.folder / "adaptation" / curve.subject[0])
    keys |= {f"adaptation/{folder.name}": provenance_key(folder) for folder in curves}
    with first.stage(
        "results",
        score,
        {"evaluation": p.evaluation},
        keys,
        ("metric", "clip"),
        of_all_folds=True,
    ) as s:
        if s.done:
            return
        table = Table(
            first.recordings.name, first.recordings.split_name, p.seed, p.evaluation.bootstrap
        )
        if first.recordings.label(first.recordings.trials.image_id.iloc[0]) is not None:
            _classification(runs, table)
        else:
            _alignment(first, table)
            score_repeats(first, table)
        if first.has_captions:
            score_text(first, table)
            score_assertions(first, table)
            score_confidence(first, table, s.dir / "confidence.csv")
            score_pictures(first, table)
        if concepts(first):
            score_maps(first, table)
            if first.has_captions:
                score_erased(first, table)
                score_requests(first, table)
        if weighed:
            score_importance(first, table)
        table.add_all_subjects()
        table.rows += new_subject_words(first)
        if curve is not None:
            table.rows += rows_of(curve)
        for folder in curves:
            table.rows += rows_of(pd.read_csv(folder / "curve.csv"))
        table.rows += rows_of_sets(first)
        images = table.frame()
        images.to_csv(s.dir / "per_image.csv", index=False)
        rows = with_p(table.rows, first) if weighed else table.rows
        if p.language.method == "lora":
            rows = [adapted(row) for row in rows]
        basis = Basis.of(first)
        write_results([with_paper(r, basis) for r in rows], s.dir / "results.csv")
        as_published = not other_data(basis)
        write_claims(
            claims(images, table.data, p.seed, p.evaluation.bootstrap, as_published),
            s.dir / "claims.csv",
        )


def adapted(row: Row) -> Row:
    """A row, labelled where it rests on what the language model says: this one was trained with adapters."""
    said = row.task in SAID or row.metric == CONCEPT_WORD
    if not said and not (row.task == "reconstruction" and row.system not in WORDLESS):
        return row
    return replace(row, condition=f"{row.condition} {ADAPTED}".strip())


def _alignment(run: Run, table: Table) -> None:
    """Two-way identification of the predicted embeddings among the test pictures, and retrieval, for every encoder and ridge."""
    permutations = run.profile.evaluation.permutations
    found = Retrieval(table, run.targets)
    for subject in run.store.tested:
        ridge, measured = ridge_of(run, subject), run.store.measured(subject)
        for proto in ("average", "single"):
            _, voxels = held_out_voxels(run.store, subject, proto)
            predicted = {}
            for system in run.variants():
                if system != encoder_for(system_name(system), subject):
                    continue
                ids, z = held_out(run, system, subject, proto)
                predicted[system_name(system)] = {"clip": z.clip, "vae": z.vae}
                if system == "main" and (linear := linear_part(run, z)) is not None:
                    predicted["linear-readout"] = linear
            predicted["ridge"] = run.targets.parts(ridge.predict(voxels[:, measured]))
            order = derangement(len(ids), run.profile.seed)
            predicted["shuffled"] = {
                k: None if v is None else v[order] for k, v in predicted["neurovl"].items()
            }
            table.add_embeddings(
                predicted, "alignment", proto, subject, ids, run.targets, permutations
            )
            found.add(predicted, proto, subject, ids)
    found.finish()


def _classification(runs: list[Run], table: Table) -> None:
    """Accuracy over the categories by the nearest text embedding, all folds together (one test of every trial)."""
    from neurovl.foundation.clip import load_clip

    recordings = runs[0].recordings
    labels = sorted({recordings.label(i) for i in recordings.trials.image_id})
    clip = load_clip(runs[0].profile.models.clip, runs[0].profile.compute.device)
    names = dict(
        zip(labels, clip.embed_texts([label_text(x) for x in labels]).numpy(), strict=True)
    )
    center = np.mean(list(names.values()), axis=0)
    names = {k: v - center for k, v in names.items()}
    for subject in runs[0].store.tested:
        found: dict[str, dict] = {}
        for run in runs:
            ids, z = held_out(run, "main", subject)
            order = np.random.default_rng(run.profile.seed).permutation(len(ids))
            _, voxels = held_out_voxels(run.store, subject, "average")
            measured = run.store.measured(subject)
            ridge = run.targets.parts(ridge_of(run, subject).predict(voxels[:, measured]))
            for system, values in {
                "neurovl": z.clip.numpy(),
                "shuffled": z.clip.numpy()[order],
                "ridge": ridge["clip"],
            }.items():
                said = protocol.nearest_label(values - center, names)
                right = protocol.accuracy(said, [recordings.label(i) for i in ids])
                found.setdefault(system, {}).update(zip(ids, right, strict=True))
        for system, right in found.items():
            table.add(
                system,
                "classification",
                "single",
                subject,
                "accuracy",
                right.keys(),
                list(right.values()),
                1 / len(labels),
            )
