"""Captions and boxes of new annotators reach the dialogues of the training pictures; those of test pictures are references."""

from dataclasses import replace

import pytest

from neurovl import pipeline
from neurovl.foundation import annotators
from neurovl.language.talks import talks
from neurovl.settings.profile_files import Models, load_profile


class Captioner:
    """Says the same of every picture, and counts them."""

    seen = 0

    def captions(self, images, n=8, seed=0):
        type(self).seen += len(images)
        return [["a giraffe on the moon."] * 40 for _ in images]


class Detector:
    def objects(self, image):
        return [{"category": "giraffe", "supercategory": "animal", "box": (0.1, 0.1, 0.9, 0.9)}]


@pytest.fixture()
def run(tiny_nsd, tmp_path, monkeypatch):
    Captioner.seen = 0
    monkeypatch.setattr(annotators, "load_captioner", lambda spec, device: Captioner())
    monkeypatch.setattr(annotators, "load_detector", lambda spec, device: Detector())
    profile = replace(load_profile("smoke"), models=Models(captioner="blip2", detector="detr"))
    return pipeline.start(tiny_nsd, tmp_path / "run", profile)


def training(run) -> list[str]:
    trials = run.recordings.trials
    return trials.image_id[trials.split == "train"].unique().tolist()


def said(run, ids):
    pipeline.annotate_pictures(run)
    return talks(run.recordings, ids, run.annotations(), run.profile.seed)


def text(talk) -> str:
    return " ".join(str(turn) for turn in talk)


def test_annotations_reach_the_dialogues_and_are_kept(run):
    ids = training(run)
    told = said(run, ids)
    every = run.recordings.trials.image_id.unique()
    assert Captioner.seen == len(every) > len(ids)
    assert told.keys() == set(ids)  # of test pictures nothing is taught
    assert all("giraffe" in text(told[i]) for i in ids)
    assert said(run, ids) == told
    assert Captioner.seen == len(every)
    found = list(run.annotations())
    assert set(found) == set(every)
    # Training pictures first: what is drawn for them does not depend on the test pictures.
    assert set(found[: len(ids)]) == set(ids)


def test_without_annotators_the_data_s_own_captions_are_taken(run):
    run.profile = replace(run.profile, models=Models(captioner="blip2"))
    told = said(run, training(run)[:40])
    assert Captioner.seen == 0 and not (run.folder / "annotations").exists()
    assert sum("giraffe on the moon" in text(one) for one in told.values()) == 0
