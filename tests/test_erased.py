"""Whether a thing is gone from painting and words when its voxels are silent: scores by hand, and where nothing was erased."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurovl import figures
from neurovl.evaluation import erased_scores
from neurovl.evaluation.erasing import another_thing
from neurovl.evaluation.score_table import Table
from neurovl.foundation.scenenet import CATEGORIES
from neurovl.results import condition

HELD = {"a": ["dog", "car"], "b": ["cat"], "c": ["car", "bus"], "d": ["cup"]}
THINGS = {"a": "dog", "b": "cat", "c": "car", "d": "cup"}


class Network:
    """Sees what the blue of the first pixels says: one pixel a category."""

    def contents(self, pictures):
        seen = np.array([np.asarray(picture)[0, : len(CATEGORIES), 2] for picture in pictures])
        return {"categories": seen / 255}


def painting(folder, file, names):
    pixels = np.zeros((1, len(CATEGORIES), 3), np.uint8)
    pixels[0, [CATEGORIES.index(name) for name in names], 2] = 255
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / file)


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Scores by (metric, silent voxels), where `shown` gives what is painted and said of each picture."""

    def score(shown):
        rows = []
        for which in ("nothing", "located", "moved"):
            for image in HELD:
                names, file = shown(image, which), f"{which}/{image}.png"
                painting(tmp_path / "reconstructions", file, names)
                rows.append(
                    {
                        "system": "neurovl",
                        "protocol": "average",
                        "subject": "subj01",
                        "condition": "" if which == "nothing" else condition(zeroed=which),
                        "image_id": image,
                        "file": file,
                        "prompt": f"A picture of {' and a '.join(names)}.",
                    }
                )
        monkeypatch.setattr(erased_scores, "read_samples", lambda folder: pd.DataFrame(rows))
        monkeypatch.setattr(erased_scores, "commonest_thing", lambda run, i: THINGS[i])
        monkeypatch.setattr(erased_scores, "_network", lambda run: Network())
        table = Table("toy", "", 0, 100)
        run = SimpleNamespace(folder=tmp_path, categories=HELD.__getitem__)
        erased_scores.score_erased(run, table)
        return {(row.metric, row.condition): row for row in table.rows}

    return score


@pytest.mark.parametrize("how", ["painted", "said"])
def test_what_is_gone_and_what_stays_by_hand(scored, how):
    """Its own voxels take each thing and half of the rest; others take nothing."""

    def shown(image, which):
        names = HELD[image]
        return (
            [c for c in names if c != THINGS[image] and image != "c"]
            if which == "located"
            else names
        )

    rows = scored(shown)
    assert rows[f"thing_{how}", "zeroed=located"].value == 0
    assert rows[f"others_{how}", "zeroed=located"].value == 0.5  # of pictures a and c
    for which in ("nothing", "moved"):
        assert rows[f"thing_{how}", f"zeroed={which}"].value == 1
        assert rows[f"thing_{how}", f"zeroed={which}"].chance < 0.5
        assert rows[f"others_{how}", f"zeroed={which}"].n == 2
    assert (f"thing_{how}", "zeroed=other") not in rows


def test_where_all_is_painted_always_nothing_is_gone_and_chance_is_as_high(scored):
    rows = scored(lambda image, which: sorted(set().union(*HELD.values())))
    assert all(row.value == row.chance == 1 for row in rows.values())


def test_another_thing_shares_the_fewest_pictures(monkeypatch):
    shown = {"dog": ["a", "b"], "car": ["a", "b"], "cat": ["b"], "cup": ["c"]}
    monkeypatch.setattr("neurovl.evaluation.erasing.concepts", lambda run: shown)
    assert [another_thing(None, name) for name in shown] == ["cup", "cup", "cup", "dog"]


def test_curves_stand_at_their_shares():
    def row(metric, silent, value, system="neurovl"):
        return {
            "task": "localization",
            "subject": "all",
            "system": system,
            "metric": metric,
            "condition": silent,
            "value": value,
            "ci_low": value - 0.1,
            "ci_high": value + 0.1,
        }

    rows = [row("presence", "", 0.9), row("drop", "zeroed=located", 0.5)]
    assert figures.dose_curves(pd.DataFrame(rows), {"neurovl": "by GradCAM"}, 0.15) is None
    rows += [
        row("drop", "zeroed=located share=0.3", 0.8),
        row("drop_beside", "zeroed=located", 0.2),
    ]
    rows += [row("drop", "zeroed=located share=0.05", 0.3)]
    figure = figures.dose_curves(pd.DataFrame(rows), {"neurovl": "by GradCAM", "x": "y"}, 0.15)
    (axis,) = figure.axes
    line = next(one for one in axis.lines if one.get_label() == "these voxels")
    np.testing.assert_allclose(line.get_xdata(), [5, 15, 30])
    np.testing.assert_allclose(line.get_ydata(), [0.3, 0.5, 0.8])
