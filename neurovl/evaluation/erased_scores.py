"""Whether a thing is gone from the painted picture and from the words when its voxels are silent, and whether the rest stays (paper figure 8)."""

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.evaluation.embeddings import derangement
from neurovl.evaluation.erasing import ERASED, commonest_thing
from neurovl.evaluation.painting import read_samples
from neurovl.evaluation.picture_scores import open_picture
from neurovl.evaluation.score_table import Table
from neurovl.foundation.metric import metric_family
from neurovl.foundation.scenenet import CATEGORIES, MetricNetwork
from neurovl.language.dialogues.wordings import mentioned, words
from neurovl.results import condition
from neurovl.run import Run

WHOLE = "nothing"  # silent; the same pictures, painted of whole brains


def score_erased(run: Run, table: Table) -> None:
    """The thing of each picture, and the others in it, in what was painted and said of brains with silent voxels; task 'localization'.

    ``thing_painted`` and ``others_painted`` are the shares of what is sought that the perception network sees in the painting with a
    probability of at least .5, ``thing_said`` and ``others_said`` those that the language model's words for the painter name.
    Conditions are those of `erasing.ERASED`, and ``zeroed=nothing`` for the same pictures of whole brains. Chance is the same sought
    in another picture's painting and words.
    """
    samples = read_samples(run.folder)
    own = samples[(samples.system == "neurovl") & (samples.protocol == "average")]
    network = _network(run)
    for subject, of_subject in own.groupby("subject", sort=False):
        kinds = dict(list(of_subject.groupby("condition")))
        silent = [which for which in ERASED if condition(zeroed=which) in kinds]
        if not silent:
            continue
        ids = kinds[condition(zeroed=silent[0])].image_id.tolist()
        things = [commonest_thing(run, image) for image in ids]
        rest = [set(run.categories(i)) - {c} for i, c in zip(ids, things, strict=True)]
        wanted, names = {"thing": [{c} for c in things], "others": rest}, set().union(*rest, things)
        for which in (WHOLE, *silent):
            rows = kinds["" if which == WHOLE else condition(zeroed=which)]
            rows = rows.set_index("image_id").loc[ids]
            shown = {"said": [_said(text, names) for text in rows["prompt"]]}
            if network is not None:
                shown["painted"] = _seen(network, run, rows)
            for how, there in shown.items():
                for what, sought in wanted.items():
                    place = ("neurovl", "localization", "average", subject, f"{what}_{how}")
                    _add(table, place, ids, there, sought, condition(zeroed=which))


def _network(run: Run) -> MetricNetwork | None:
    """The metric network that names what it sees; None where a profile has none, or its weights are not here."""
    for member in metric_family(run.profile.models.metric, run.profile.compute.device):
        try:
            network = member.load()
        except (MissingError, DataError):
            continue
        if hasattr(network, "contents"):
            return network
    return None


def _seen(network: MetricNetwork, run: Run, rows: pd.DataFrame) -> list[set[str]]:
    painted = [open_picture(run.folder / "reconstructions" / file) for file in rows.file]
    found = network.contents(painted)["categories"] >= 0.5
    return [{CATEGORIES[k] for k in np.flatnonzero(row)} for row in np.asarray(found)]


def _said(text: str, names: set[str]) -> set[str]:
    spoken = set(words(text))
    return {name for name in names if mentioned(name, spoken)}


def _add(
    table: Table,
    place: tuple[str, str, str, str, str],
    ids: list[str],
    there: list[set[str]],
    sought: list[set[str]],
    varied: str,
) -> None:
    """The share of what is sought that is there, of the pictures in which something is sought."""
    rows = [k for k, names in enumerate(sought) if names]
    if len(rows) < 2:  # of one picture there is no interval
        return
    order = derangement(len(ids), table.seed)
    own = [len(sought[k] & there[k]) / len(sought[k]) for k in rows]
    blind = np.mean([len(sought[k] & there[order[k]]) / len(sought[k]) for k in rows])
    table.add(*place, [ids[k] for k in rows], np.array(own), float(blind), condition=varied)
