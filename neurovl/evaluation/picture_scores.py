"""Scores of reconstructed pictures: pixels, networks, objects found, and how the table's rows follow."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.evaluation.clip_score import score_clip_s
from neurovl.evaluation.embeddings import derangement
from neurovl.evaluation.painting import read_samples
from neurovl.evaluation.score_table import Table
from neurovl.foundation.metric_networks import ClipFeatures, ImageNetwork
from neurovl.foundation.scenenet import MetricNetwork
from neurovl.metrics import protocol
from neurovl.results import Row
from neurovl.run import Run
from neurovl.settings.sections import Profile

if TYPE_CHECKING:
    from pathlib import Path

    from PIL.Image import Image

# (system, condition, protocol, subject) and the rows of samples.csv
Groups = list[tuple[tuple[str, ...], pd.DataFrame]]


def score_pictures(run: Run, table: Table) -> None:
    """PixCorr, SSIM, the scores of the metric networks and objects found, at every beta for the ablation; then CLIP-S.

    A network whose weights are not here leaves its cells empty, with the reason.
    """
    from neurovl.foundation.metric import metric_family
    from neurovl.metrics import Likeness

    samples = read_samples(run.folder)
    keys = ["system", "condition", "protocol", "subject"]
    groups = sorted(samples.groupby(keys, sort=False), key=lambda g: g[0][0] != "true-embedding")
    seen = {i: run.recordings.image(i) for i in samples.image_id.unique()}
    found: dict[tuple, dict] = {key: {} for key, _ in groups}
    likeness = Likeness(seen.__getitem__)
    for key, part in groups:
        order = derangement(len(part), run.profile.seed)
        found[key] |= likeness(_made(run, part), part.image_id.tolist(), order)
    missing: dict[str, str] = {}
    for member in metric_family(run.profile.models.metric, run.profile.compute.device):
        try:
            network = member.load()
        except (MissingError, DataError) as problem:
            missing |= dict.fromkeys(member.scores, str(problem))
            continue
        _score_by(network, member.scores, run, groups, seen, found)
    _fill(table, groups, found, missing)
    score_clip_s(run, table)


def _score_by(
    network: ImageNetwork | ClipFeatures | MetricNetwork,
    scores: Sequence[str],
    run: Run,
    groups: Groups,
    seen: dict,
    found: dict,
) -> None:
    """Add one network's scores of every group, (values, chance) by metric."""
    features = network.features(list(seen.values()))
    row = {i: k for k, i in enumerate(seen)}
    held = {i: [o["category"] for o in run.recordings.objects(i)] for i in seen}
    for key, part in groups:
        made, ids = _made(run, part), part.image_id.tolist()
        order = derangement(len(ids), run.profile.seed)
        own = network.features(made)
        for score in scores:
            kind = next(k for k in COMPARISONS if score.startswith(f"{k}_"))
            feature = score.removeprefix(f"{kind}_")
            a, b = own[feature], features[feature][[row[i] for i in ids]]
            found[key][score] = COMPARISONS[kind](a, b, order, run.profile)
        if hasattr(network, "contents"):
            there = [held[i] for i in ids]
            blind = _found(network, [made[k] for k in order], there).mean()
            found[key]["objects_found"] = _found(network, made, there), blind


def _two_way(
    made: np.ndarray, true: np.ndarray, order: np.ndarray, profile: Profile
) -> tuple[np.ndarray, float]:
    permutations = profile.evaluation.permutations
    chance = protocol.two_way_chance(made, true, profile.seed, permutations).value
    return protocol.two_way(made, true), chance


def _distance(
    made: np.ndarray, true: np.ndarray, order: np.ndarray, profile: Profile
) -> tuple[np.ndarray, float]:
    blind = protocol.correlation_distance(made[order], true).mean()
    return protocol.correlation_distance(made, true), blind


COMPARISONS = {"two_way": _two_way, "distance": _distance}


def _fill(table: Table, groups: Groups, found: dict, missing: dict) -> None:
    """Rows of the table; those of true embeddings come first and give the ceiling."""
    ceiling: dict[str, float] = {}
    empty: dict[tuple, None] = {}
    for key, part in groups:
        system, varied, proto, subject = key
        empty |= {(system, varied, proto): None}
        for metric, (values, blind) in found[key].items():
            if system == "true-embedding":
                ceiling[metric] = float(np.mean(values))
            table.add(
                system,
                "reconstruction",
                proto,
                subject,
                metric,
                part.image_id.tolist(),
                values,
                float(blind),
                ceiling.get(metric),
                varied,
            )
    for system, varied, proto in empty:
        for metric, reason in missing.items():
            place = table.place(system, "reconstruction", proto, "all", metric, varied)
            table.rows.append(Row(**place, note=reason))


def _made(run: Run, part: pd.DataFrame) -> list:
    return [_open(run.folder / "reconstructions" / file) for file in part.file]


def _open(path: "Path") -> "Image":
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB")


def _found(network: MetricNetwork, images: list["Image"], held: list[list[str]]) -> np.ndarray:
    """Share of a picture's true categories that the network sees with a probability of at least .5; 0 without objects."""
    from neurovl.foundation.scenenet import CATEGORIES

    seen = network.contents(images)["categories"] >= 0.5
    return np.array(
        [
            np.mean([seen[i, CATEGORIES.index(c)] for c in cs]) if cs else 0.0
            for i, cs in enumerate(held)
        ]
    )
