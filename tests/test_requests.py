"""Requests that name no concept: the word that was said drives the map, and a wrong word is found out."""

from types import SimpleNamespace

import pandas as pd
import pytest

from neurovl.evaluation.answering import COLUMNS
from neurovl.evaluation.requests import score_requests
from neurovl.evaluation.score_table import Table
from neurovl.results import write_texts

AREAS = {  # map -> concept -> area against its true voxels
    "dog": {"dog": 0.9, "bus": 0.4, "cup": 0.5},
    "bus": {"dog": 0.3, "bus": 0.8, "cup": 0.8},
    "cup": {"dog": 0.6, "bus": 0.5, "cup": 0.4},
}


def made(folder, said):
    """A run folder with areas of both methods and answers, (system, image, truth, answer)."""
    for place in ("", "pattern"):
        (folder / "localization" / place).mkdir(parents=True, exist_ok=True)
        rows = [("subj01", c, m, auc) for m, own in AREAS.items() for c, auc in own.items()]
        table = pd.DataFrame(rows, columns=["subject", "concept", "map", "auc"])
        table.to_csv(folder / "localization" / place / "areas.csv", index=False)
    (folder / "captions").mkdir()
    about = {"protocol": "average", "subject": "subj01", "type": "reference", "turn": 0}
    about |= {"question": "Locate it", "closed": True}
    rows = [
        {**about, "system": system, "image_id": image, "truth": truth, "answer": answer}
        for system, image, truth, answer in said
    ]
    write_texts(pd.DataFrame(rows, columns=COLUMNS), folder / "captions" / "answers.csv")
    return SimpleNamespace(folder=folder)


def test_the_word_that_is_said_drives_the_map(tmp_path):
    said = [("neurovl", "1", "dog", "dog"), ("neurovl", "2", "bus", "Bus.")]
    said += [("no-brain", "1", "dog", "bus"), ("no-brain", "2", "bus", "a word of no map")]
    table = Table("made-up", "", 0, 100)
    score_requests(made(tmp_path, said), table)
    rows = {(r.system, r.condition, r.metric): r for r in table.rows}
    right = rows["neurovl", "asked=reference map=pattern", "auc"]
    assert right.value == pytest.approx((0.9 + 0.8) / 2) == right.ceiling
    # The map of the bus fits a dog's voxels by .3; a word without a map says nothing.
    assert right.chance == pytest.approx((0.3 + 0.5) / 2)
    assert rows["no-brain", "asked=reference map=gradcam", "auc"].value == right.chance
    # dog: above both others, 1; bus: above the dog's, level with the cup's, .75; the bus for a dog: below both.
    ranks = rows["neurovl", "asked=reference map=gradcam", "two_way_true_map"]
    assert ranks.value == pytest.approx((1 + 0.75) / 2)
    assert ranks.chance == pytest.approx((0 + 0.5) / 2)


def test_what_has_no_true_map_is_not_scored(tmp_path):
    said = [("neurovl", k, "zebra", "zebra") for k in "12"]
    table = Table("made-up", "", 0, 100)
    score_requests(made(tmp_path, said), table)
    assert table.rows == []
