"""Scores of reconstructed pictures: pixels, networks, objects found, and how the table's rows follow."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
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
from neurovl.recordings import Recordings
from neurovl.results import Row
from neurovl.run import Run

if TYPE_CHECKING:
    from PIL.Image import Image

KEYS = ["system", "condition", "protocol", "subject"]
# The values of each metric (n,) and their mean by chance.
Scores = dict[str, tuple[np.ndarray, float]]
# Scores n pictures beside what was seen: takes the pictures, the n image ids, and an order (n,) in which nothing keeps its place.
Judge = Callable[[list["Image"], list[str], np.ndarray], Scores]


def score_pictures(run: Run, table: Table) -> None:
    """Scores of a run's own pictures, see `score_samples`, at every beta for the ablation; then CLIP-S."""
    p, folder = run.profile, run.folder / "reconstructions"
    about = (p.models.metric, p.compute.device, p.evaluation.permutations)
    score_samples(table, run.recordings, folder, read_samples(run.folder), *about)
    score_clip_s(run, table)


def score_samples(
    table: Table,
    recordings: Recordings,
    folder: Path,
    samples: pd.DataFrame,
    metric: str | Sequence[str],
    device: str,
    permutations: int,
    more: Iterable[Judge] = (),
) -> None:
    """Add PixCorr, SSIM, the scores of the metric networks and objects found of pictures, task 'reconstruction'.

    A network whose weights are not here leaves its cells empty, with the reason. Where there is a system
    'true-embedding', its means are the ceilings.

    Parameters
    ----------
    table : Table
        Its seed draws the chance levels.
    recordings : Recordings
        Gives what was seen.
    folder : Path
        Where the files of `samples` lie.
    samples : DataFrame
        Columns system, condition, protocol, subject, image_id, file.
    metric, device : str
        The metric networks, see `foundation.metric.metric_family`.
    permutations : int
        For chance of two-way identification.
    more : iterable of Judge
        Further scores.
    """
    groups = sorted(samples.groupby(KEYS, sort=False), key=lambda g: g[0][0] != "true-embedding")
    seen = {i: recordings.image(i) for i in samples.image_id.unique()}
    found: dict[tuple, Scores] = {key: {} for key, _ in groups}
    missing: dict[str, str] = {}
    networks = _networks(recordings, seen, metric, device, (table.seed, permutations), missing)
    for judges in (_likeness(seen), networks, more):
        for judge in judges:
            for key, part in groups:
                made = [open_picture(folder / file) for file in part.file]
                order = derangement(len(part), table.seed)
                found[key] |= judge(made, part.image_id.tolist(), order)
    _fill(table, groups, found, missing)


def _likeness(seen: dict) -> Iterator[Judge]:
    from neurovl.metrics import Likeness

    yield Likeness(seen.__getitem__)


def _networks(
    recordings: Recordings,
    seen: dict,
    metric: str | Sequence[str],
    device: str,
    drawn: tuple[int, int],
    missing: dict[str, str],
) -> Iterator[Judge]:
    """A judge for each network, loaded when it is its turn; in `missing` the reason for each score that there is none of."""
    from neurovl.foundation.metric import metric_family

    for member in metric_family(metric, device):
        try:
            network = member.load()
        except (MissingError, DataError) as problem:
            missing |= dict.fromkeys(member.scores, str(problem))
            continue
        yield _network_judge(network, member.scores, recordings, seen, *drawn)


def _network_judge(
    network: ImageNetwork | ClipFeatures | MetricNetwork,
    scores: Sequence[str],
    recordings: Recordings,
    seen: dict,
    seed: int,
    permutations: int,
) -> Judge:
    features = network.features(list(seen.values()))
    row = {i: k for k, i in enumerate(seen)}
    held = {i: [o["category"] for o in recordings.objects(i)] for i in seen}

    def judge(made: list["Image"], ids: list[str], order: np.ndarray) -> Scores:
        found, own = {}, network.features(made)
        for score in scores:
            kind = next(k for k in ("two_way", "distance") if score.startswith(f"{k}_"))
            feature = score.removeprefix(f"{kind}_")
            a, b = own[feature], features[feature][[row[i] for i in ids]]
            if kind == "two_way":
                chance = protocol.two_way_chance(a, b, seed, permutations).value
                found[score] = protocol.two_way(a, b), chance
            else:
                blind = protocol.correlation_distance(a[order], b).mean()
                found[score] = protocol.correlation_distance(a, b), blind
        if hasattr(network, "contents"):
            there = [held[i] for i in ids]
            blind = _found(network, [made[k] for k in order], there).mean()
            found["objects_found"] = _found(network, made, there), blind
        return found

    return judge


def _fill(table: Table, groups: list, found: dict[tuple, Scores], missing: dict[str, str]) -> None:
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


def open_picture(path: Path) -> "Image":
    """A picture file in RGB, the file closed again."""
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
