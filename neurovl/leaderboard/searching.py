"""Hyperparameters of every system by one search with one budget, on the tune pictures alone: RUN/leaderboard/search/NAME."""

import itertools
import json
import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurovl.baselines.decoder import Decoder, FrozenParts, Predictions
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.registry import find
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError, MissingError
from neurovl.evaluation.embeddings import derangement
from neurovl.files import Journal
from neurovl.leaderboard.fitting import system_code
from neurovl.leaderboard.found_settings import search_place, write_chosen
from neurovl.leaderboard.generating import paint
from neurovl.leaderboard.ours import Ours, ours_in, stored_voxels
from neurovl.leaderboard.picture_board import SCENENET, ObjectsJudge
from neurovl.leaderboard.shared_inputs import (
    CAPTIONER,
    FEATURES,
    PLACE,
    VOXELS,
    features_of,
    parts_of,
    training_pictures,
    voxels_of,
)
from neurovl.leaderboard.statements import Statement
from neurovl.metrics import Likeness, two_way
from neurovl.run import Run
from neurovl.training.validation import tune_pictures

if TYPE_CHECKING:
    from PIL.Image import Image

logger = logging.getLogger(__name__)

SEARCH = f"{PLACE}/search"
STRENGTHS = (
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    0.8,
    0.9,
)  # of noise, on the latent that a picture is painted from
# Predictions that are compared with features of their name.
JUDGED = ("clip_image", "clip_text", "image_tokens", "patch_tokens", "text_states", "vae")


def search_system(run: Run, name: str) -> None:
    """Try `leaderboard.budget` settings of a system and keep the best: search.csv, strengths.csv and chosen.json.

    Every setting is fitted to the training trials without those of the tune pictures, of the first `search_subjects` subjects,
    and scored on the averages of the tune pictures: the mean two-way identification over all features that the system
    predicts. The first setting tried is the profile's; the others are drawn from the system's `search`. A system that paints from a
    latent is then asked for its pictures at each of `STRENGTHS`, and the best by `painted_score` is kept. No test trial is read.
    """
    own, ours = run.profile.leaderboard, name in ours_in(run)
    before = own.settings.get(name, {})
    kind = Ours if ours else find(name)
    settings = {
        "budget": own.budget,
        "subjects": own.search_subjects,
        "settings": before,
        "code": system_code(kind),
    }
    inputs = ["tokens", "targets"] if ours else [VOXELS, FEATURES]
    inputs += [CAPTIONER] if run.has_captions and not ours else []
    settings["reconstruction"] = run.profile.reconstruction
    models = ("unclip", "clip", "metric")
    with run.stage(search_place(name), search_system, settings, tuple(inputs), models) as s:
        if s.done:
            return
        train = stored_voxels(run, "train") if ours else voxels_of(run, "train")
        train = {k: train[k] for k in list(train)[: own.search_subjects]}
        held = set(tune_pictures(training_pictures(run)))
        seen, tuned = split_by_picture(train, held)
        features, parts = features_of(run), parts_of(run)
        journal = Journal(s.dir / "tried.jsonl")

        def make(tried: dict) -> Decoder:
            every = {**before, **tried}
            return Ours(run, name, **every) if ours else kind(**every)

        space = make({}).search
        wanted = candidates(space, own.budget, run.profile.seed)
        for k, tried in enumerate(wanted[len(journal.records) :], len(journal.records)):
            start, place = time.perf_counter(), s.dir / "checkpoint" / str(k)
            decoder = make(tried).fit(seen, features, replace(parts, checkpoint=place))
            score = judge(decoder, tuned, features, parts)
            seconds = time.perf_counter() - start
            logger.info("%s: %s scores %.4f (%.0f s)", name, tried or "as it is", score, seconds)
            journal.add([{"settings": tried, "score": score, "seconds": seconds}])
        best = int(np.argmax([one["score"] for one in journal.records]))
        chosen = dict(journal.records[best]["settings"])
        parts = replace(parts, checkpoint=s.dir / "checkpoint" / str(best))
        painter = make(chosen).fit(seen, features, parts)  # from its last checkpoint
        strengths = try_strengths(run, painter, tuned)
        if len(strengths):
            strengths.to_csv(s.dir / "strengths.csv", index=False)
            chosen["strength"] = float(strengths.strength[strengths.score.idxmax()])
        shutil.rmtree(s.dir / "checkpoint", ignore_errors=True)
        write_chosen(chosen, s.dir)
        tried = [json.dumps(one["settings"]) for one in journal.records]
        table = pd.DataFrame(journal.records).assign(system=name, settings=tried)
        table["trial"], table["chosen"] = range(len(table)), np.arange(len(table)) == best
        table.to_csv(s.dir / "search.csv", index=False)
        journal.path.unlink()


def candidates(space: Mapping[str, tuple], budget: int, seed: int) -> list[dict[str, Any]]:
    """At most `budget` settings: as it is, then others drawn without repetition from all combinations.

    Examples
    --------
    >>> from neurovl.leaderboard.searching import candidates
    >>> found = candidates({"alpha": (1, 10), "strength": (0.6, 0.8)}, budget=3, seed=0)
    >>> found[0], len(found)
    ({}, 3)
    """
    every = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    order = np.random.default_rng([seed, 43]).permutation(len(every)) if space else []
    return [{}, *(every[k] for k in order)][:budget]


def split_by_picture(
    voxels: Mapping[str, SubjectVoxels], held: set[str]
) -> tuple[dict[str, SubjectVoxels], dict[str, SubjectVoxels]]:
    """Trials of other pictures than `held`, and those of `held`, of each subject that has both."""
    rest, kept = {}, {}
    for subject, one in voxels.items():
        inside = np.isin(one.image_ids, list(held))
        if inside.any() and not inside.all():
            rest[subject], kept[subject] = one.take(~inside), one.take(inside)
    return rest, kept


def judge(
    decoder: Decoder,
    tuned: Mapping[str, SubjectVoxels],
    features: PictureFeatures,
    parts: FrozenParts,
) -> float:
    """Mean two-way identification, over subjects and predicted features, of the averages of some pictures.

    A system that predicts none of these features is judged by its captions, as CLIP embeds them.
    """
    found = []
    for voxels in tuned.values():
        average = voxels.averaged()
        said = decoder.predict(average)
        scores = identification(said, average.image_ids, features)
        if not scores and (words := decoder.captions(said, parts)) is not None:
            texts = parts.clip().embed_texts(list(words)).numpy()
            scores = identification({"clip_text": texts}, average.image_ids, features)
        found += scores.values()
    return float(np.mean(found))


def identification(
    said: Predictions, image_ids: np.ndarray, features: PictureFeatures
) -> dict[str, float]:
    """Two-way identification of each predicted feature, the mean over pictures."""
    found = {}
    for feature in JUDGED:
        if feature in said:
            true = features.of(feature, image_ids).reshape(len(image_ids), -1)
            found[feature] = float(two_way(said[feature].reshape(len(image_ids), -1), true).mean())
    return found


def try_strengths(run: Run, decoder: Decoder, tuned: Mapping[str, SubjectVoxels]) -> pd.DataFrame:
    """`painted_score` of a system's pictures at each noise strength, the mean over subjects; no rows where it has no start latent."""
    rows = []
    for voxels in tuned.values():
        average = voxels.averaged()
        said = decoder.predict(average)
        given = decoder.conditions(said)
        if given is None or given.start is None:
            continue
        given = replace(given, samples=1, kept_by="")
        ids = average.image_ids.tolist()
        for strength in STRENGTHS:
            noised = replace(given, strength=strength, reading="strength")
            pictures = paint(run, Statement(ids, {}, noised), range(len(ids)))
            rows.append({"strength": strength, "score": painted_score(run, pictures, ids)})
    table = pd.DataFrame(rows, columns=["strength", "score"])
    return table.groupby("strength", as_index=False).score.mean()


def painted_score(run: Run, pictures: Sequence["Image"], image_ids: Sequence[str]) -> float:
    """Mean of PixCorr, SSIM, the two-way identification by each feature of the metric networks that are here, and F1 of objects.

    F1 stands in it where SceneNet reads the pictures: without it a latent that is hardly noised wins, whose blur has no objects.
    """
    from neurovl.foundation.metric import metric_family

    true = [run.recordings.image(image) for image in image_ids]
    shuffled = derangement(len(true), run.profile.seed)
    alike = Likeness(dict(zip(image_ids, true, strict=True)).__getitem__)
    scores = [values.mean() for values, _ in alike(pictures, image_ids, shuffled).values()]
    for member in metric_family(run.profile.models.metric, run.profile.compute.device):
        try:
            network = member.load()
        except (MissingError, DataError):
            continue
        made, seen = network.features(pictures), network.features(true)
        scores += [two_way(made[feature], seen[feature]).mean() for feature in made]
        if member.name == SCENENET:
            judge_objects = ObjectsJudge(network, run.recordings, image_ids)
            scores.append(judge_objects(pictures, image_ids, shuffled)["objects_f1"][0].mean())
    return float(np.mean(scores))


def write_search(run: Run) -> None:
    """RUN/leaderboard/search/search.csv: every setting that was tried for any system."""
    files = sorted((run.folder / SEARCH).glob("*/search.csv"))
    if files:
        table = pd.concat([pd.read_csv(file) for file in files], ignore_index=True)
        columns = ["system", "trial", "settings", "score", "seconds", "chosen"]
        table[columns].to_csv(run.folder / SEARCH / "search.csv", index=False)
