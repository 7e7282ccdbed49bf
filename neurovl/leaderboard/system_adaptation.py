"""Published systems on a subject that no training saw, each by its own recipe: RUN/leaderboard/new-subject/NAME.

A system joins by defining `Decoder.fit_new_subject`, one of another package too. It is fitted to the run's subjects as for the
board, and then learns the subject that the profile names from the trials of each share of the adaptation curve. It reads that
subject's own mask, and is scored as the other systems of the curve are (`evaluation.new_subject_curve`).
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from neurovl.adaptation.new_subject import (
    NewTrials,
    embed_subject,
    read_own_mask,
    volumes_identity,
)
from neurovl.baselines.picture_features import read_features
from neurovl.baselines.registry import find, names
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import MissingError
from neurovl.evaluation.new_subject_curve import (
    choose_shares,
    score_said,
    subject_of_profile,
    without_value,
)
from neurovl.files import replacing
from neurovl.leaderboard.fitting import chosen_settings, system_code
from neurovl.leaderboard.ours import ours_in
from neurovl.leaderboard.shared_inputs import (
    FEATURES,
    PLACE,
    VOXELS,
    features_of,
    parts_of,
    prepare_new_features,
    voxels_of,
)
from neurovl.leaderboard.statements import Statement
from neurovl.results import condition
from neurovl.run import Run
from neurovl.stages import PROVENANCE, look_only

logger = logging.getLogger(__name__)

METRICS = ("two_way_clip",)  # of a system that was scored by nothing
SILENT = "it predicts no embedding by which pictures could be told apart"


def new_subject_place(name: str) -> str:
    """The stage of a system."""
    return f"{PLACE}/new-subject/{name}"


def adapting_systems(run: Run, systems: Sequence[str]) -> list[str]:
    """Those of some systems that have a recipe for a new subject; ours are in the curve without."""
    return [name for name in systems if name not in ours_in(run) and find(name).adapts()]


def adapt_system(run: Run, name: str) -> None:
    """RUN/leaderboard/new-subject/NAME/curve.csv: one system's scores over the share of a new subject's training pictures.

    Columns are those of RUN/adaptation/SUBJECT/curve.csv, and so are pictures, test trials and scores. A share of 0, and one that
    holds too few pictures, has rows without a value that say why. Nothing is made where the profile names no subject outside
    the run. What was interrupted goes on with the share that it was at.
    """
    found = subject_of_profile(run)
    if found is None:
        return
    subject, recordings = found
    shares = run.profile.adaptation.shares
    chosen, unmet = choose_shares(recordings, subject, run.profile.seed, shares)
    if chosen.pop(0, None) is not None:
        unmet[0] = f"{name} has no part for a subject that it never met"
    new = run.on_data(recordings)
    targets = embed_subject(new, recordings, subject)
    every = sorted({image for pictures in chosen.values() for image in pictures})
    known = prepare_new_features(new, subject, every)
    settings = {
        "settings": chosen_settings(run, name),
        "code": system_code(find(name)),
        "volumes": volumes_identity(recordings, subject),
        "shares": shares,
        "evaluation": run.profile.evaluation,
    }
    inputs = (VOXELS, FEATURES, known, f"targets-{subject}")
    with run.stage(new_subject_place(name), adapt_system, settings, inputs) as s:
        if s.done:
            return
        parts = {share: s.dir / f"{condition(share=share)}.csv" for share in chosen}
        left = {share: some for share, some in chosen.items() if not parts[share].is_file()}
        for share, one, said in _learned(run, new, subject, name, left, known, s.dir):
            rows = score_said(new, subject, one, said, targets, share)
            rows = rows or without_value(new, subject, [name], SILENT, share, one, METRICS)
            with replacing(parts[share]) as part:
                pd.DataFrame(rows).to_csv(part, index=False, float_format="%.6g")
        rows = [row for file in parts.values() for row in pd.read_csv(file).to_dict("records")]
        metrics = dict.fromkeys(row["metric"] for row in rows) or METRICS
        for share, reason in unmet.items():
            rows += without_value(new, subject, [name], reason, share, metrics=metrics)
        rows.sort(key=lambda row: row["share"])
        pd.DataFrame(rows).to_csv(s.dir / "curve.csv", index=False, float_format="%.6g")
        for file in parts.values():
            file.unlink()
        shutil.rmtree(s.dir / "checkpoint", ignore_errors=True)


def _learned(
    run: Run,
    new: Run,
    subject: str,
    name: str,
    choices: Mapping[float, list[str]],
    known: str,
    folder: Path,
) -> Iterator[tuple[float, NewTrials, dict]]:
    """Of each share its trials, and what the system, having learned from them, says of the test pictures by protocol."""
    if not choices:
        return
    parts, place = parts_of(run), folder / "checkpoint"
    fitted = find(name)(**chosen_settings(run, name)).fit(
        voxels_of(run, "train"), features_of(run), replace(parts, checkpoint=place / "fit")
    )
    features, captions = read_features(run.folder / known), new.recordings.captions
    mask, every = read_own_mask(new.recordings, subject, list(choices.values()))
    rois = {region: where[mask] for region, where in new.recordings.rois(subject).items()}
    for share, one in zip(choices, every, strict=True):
        split = {
            kind: SubjectVoxels(
                subject,
                one.stored[part.index],
                part.image_id.to_numpy(str),
                part.repeat.to_numpy(int),
                mask,
                rois,
            )
            for kind, part in one.trials.groupby("split")
        }
        own = replace(parts, captions=captions, checkpoint=place / condition(share=share))
        decoder = fitted.fit_new_subject(split["train"], features, own)
        asked, said = {"average": split["test"].averaged(), "single": split["test"].first()}, {}
        for proto, voxels in asked.items():
            found = Statement(voxels.image_ids.tolist(), decoder.predict(voxels))
            embeddings = {"clip": found.said.get("clip_image"), "vae": found.said.get("vae")}
            said[proto] = found.image_ids, {name: embeddings}
        yield share, one, said


def new_subject_curves(run: Run) -> list[Path]:
    """The folders of the systems whose curves are there and rest on nothing that changed."""
    there = [n for n in names() if (run.folder / new_subject_place(n) / PROVENANCE).is_file()]
    if not there or subject_of_profile(run) is None:
        return []
    found = []
    for name in there:
        try:
            with look_only():
                adapt_system(run, name)
        except MissingError:
            logger.warning(
                "%s on the new subject is left out: its settings or its code changed since; neurovl compare --run %s --systems "
                "%s --controls",
                *(name, run.root, name),
            )
            continue
        found.append(run.folder / new_subject_place(name))
    return found
