"""Scores of a gallery's pictures: those of every run, and besides objects hallucinated and where things stand."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import DataError, MissingError
from neurovl.evaluation.embeddings import derangement
from neurovl.evaluation.picture_scores import Judge, score_samples
from neurovl.evaluation.score_table import Table
from neurovl.leaderboard.gallery_tables import Gallery
from neurovl.leaderboard.shared_inputs import training_pictures
from neurovl.leaderboard.structure import STRUCTURE, StructureJudge, fit_probe
from neurovl.recordings import Recordings
from neurovl.results import Row
from neurovl.run import Run
from neurovl.smallworld import scenes

if TYPE_CHECKING:
    from PIL.Image import Image

    from neurovl.foundation.scenenet import MetricNetwork

SCENENET = "SceneNet"
SEEN = "seen-picture"  # the system that gives back what was seen: what the judges read of it
OBJECTS = ("objects_precision", "objects_f1")
NO_SCENENET = (
    "it is read by SceneNet, which models.metric of the profile does not name: the metric networks of the paper name no "
    "categories of a picture"
)
# What annotations can name.
NAMED = [k for k, one in enumerate(scenes.CATEGORIES.values()) if one.coco_id is not None]


def score_gallery_pictures(table: Table, run: Run, gallery: Gallery) -> None:
    """Add the scores of all pictures of a gallery to a table, task 'reconstruction'.

    Besides those of `evaluation.picture_scores.score_samples`: `objects_precision` and `objects_f1` (recall is
    `objects_found`), `foreground_iou` and `category_iou`; what cannot be read has an empty row with the reason. The system
    'seen-picture' says what these judges read of the pictures that were seen.

    Parameters
    ----------
    table : Table
    run : Run
        Its profile names metric networks, device and permutations. The probe of `structure` is fitted to its training
        pictures, never to test pictures, and once, however many galleries are scored.
    gallery : Gallery
    """
    if not len(gallery.samples):
        return
    ids = sorted(gallery.samples.image_id.unique())
    judges, lacking = _judges(run, ids)
    p, recordings = run.profile, run.recordings
    about = (p.models.metric, p.compute.device, p.evaluation.permutations)
    score_samples(table, recordings, gallery.folder, gallery.samples, *about, judges)
    for judge in judges if len(ids) > 1 else []:
        found = judge([recordings.image(i) for i in ids], ids, derangement(len(ids), table.seed))
        for name, (values, blind) in found.items():
            table.add(SEEN, "reconstruction", "average", "all", name, ids, values, blind)
    places = gallery.samples[["system", "condition", "protocol"]].drop_duplicates()
    for system, varied, proto in places.itertuples(index=False):
        for name, reason in lacking.items():
            place = table.place(system, "reconstruction", proto, "all", name, varied)
            table.rows.append(Row(**place, note=reason))


def _judges(run: Run, ids: Sequence[str]) -> tuple[list[Judge], dict[str, str]]:
    """The further judges, and for each score that has none the reason."""
    from neurovl.foundation.metric import metric_family

    p, recordings = run.profile, run.recordings
    family = metric_family(p.models.metric, p.compute.device)
    member = next((one for one in family if one.name == SCENENET), None)
    if member is None:
        return [], dict.fromkeys((*OBJECTS, *STRUCTURE), NO_SCENENET)
    try:
        network = member.load()
    except (MissingError, DataError) as problem:
        return [], dict.fromkeys((*OBJECTS, *STRUCTURE), str(problem))
    judges: list[Judge] = [ObjectsJudge(network, recordings, ids)]
    try:
        probe = run.once(
            "structure probe",
            lambda: fit_probe(network, recordings, training_pictures(run), p.seed),
        )
        judges.append(StructureJudge(probe, recordings, ids))
    except DataError as problem:
        return judges, dict.fromkeys(STRUCTURE, str(problem))
    return judges, {}


class ObjectsJudge:
    r"""Precision and F1 of the categories that SceneNet sees in a picture with a probability of at least .5.

    .. math:: P = \frac{|S \cap T|}{|S|} \qquad F_1 = \frac{2\,|S \cap T|}{|S| + |T|}

    `S` is what is seen in the made picture, `T` what the annotations name in the seen one; 0 where the denominator is 0, as for
    recall, which is `objects_found`. Categories that no annotation can name do not count.
    """

    def __init__(
        self, network: "MetricNetwork", recordings: Recordings, image_ids: Sequence[str]
    ) -> None:
        self.network = network
        held = {i: {o["category"] for o in recordings.objects(i)} for i in image_ids}
        kinds = list(scenes.CATEGORIES)
        self.true = {i: np.array([kinds[k] in own for k in NAMED]) for i, own in held.items()}

    def __call__(
        self, made: "list[Image]", ids: list[str], order: np.ndarray
    ) -> dict[str, tuple[np.ndarray, float]]:
        seen = self.network.contents(made)["categories"][:, NAMED] >= 0.5
        true = np.stack([self.true[i] for i in ids])
        own, blind = _precision_and_f1(seen, true), _precision_and_f1(seen[order], true)
        return {n: (own[k], float(blind[k].mean())) for k, n in enumerate(OBJECTS)}


def _precision_and_f1(seen: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    right, said, there = (seen & true).sum(1), seen.sum(1), true.sum(1)
    precision = right / np.maximum(said, 1)
    return precision, 2 * right / np.maximum(said + there, 1)
