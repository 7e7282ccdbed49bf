"""The book opens with a run's first pictures and main scores, or with one line for what the run lacks."""

import json
import os
import re

import nibabel
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurovl.errors import DataError
from neurovl.publishing.book_checks import check_terms
from neurovl.publishing.gallery import gallery
from neurovl.recordings import open_recordings
from neurovl.results import Claim, Row, write_claims, write_results
from neurovl.run import open_run, write_record
from neurovl.settings.profile_files import load_profile


@pytest.fixture(scope="module")
def recordings(tiny_nsd):
    return open_recordings(tiny_nsd)


def start(run, recordings, **facts):
    """A run folder on recordings, with nothing made."""
    known = {"data": recordings.name, "simulated": recordings.simulated, "folds": 1}
    folder = os.path.relpath(recordings.root, run)
    known["publish_images"] = recordings.publish_images
    write_record(run, load_profile("smoke"), folder, {**known, **facts})
    return run


def made(run, stage, data=None):
    """The folder of a stage that was made of the run's data, or of others."""
    folder = run / stage
    folder.mkdir(parents=True, exist_ok=True)
    about = {"data": data or open_run(run).data}
    (folder / "provenance.json").write_text(json.dumps(about))
    return folder


@pytest.fixture(scope="module")
def ids(recordings):
    """Five test pictures, in an order of no other list."""
    trials = recordings.trials
    return sorted(trials.image_id[trials.split == "test"].unique(), reverse=True)[:5]


@pytest.fixture(scope="module")
def thing(recordings, ids):
    """Something that the third picture holds."""
    return recordings.objects(ids[2])[0]["category"]


@pytest.fixture
def run(tmp_path, recordings, ids, thing):
    """A run that painted five pictures, said something of each, and located one thing."""
    run = start(tmp_path / "run", recordings)
    folder, rows = made(run, "reconstructions"), []
    for system, protocol in (("no-llm", "average"), ("neurovl", "single"), ("neurovl", "average")):
        for subject in ("subj02", "subj01"):
            for k, image_id in enumerate(ids):
                file = f"{system}-{protocol}-{subject}-{image_id}.png"
                Image.new("RGB", (8, 8), (40 * k, 0, 0)).save(folder / file)
                row = [system, "", protocol, 0.93, subject, image_id, file, f"prompt <{k}>"]
                rows.append(row)
    columns = "system condition protocol beta subject image_id file prompt".split()
    pd.DataFrame(rows, columns=columns).to_csv(folder / "samples.csv", index=False)
    answers = pd.DataFrame(rows, columns=columns)[["system", "protocol", "subject", "image_id"]]
    answers = answers.assign(type="brief", question="What?", answer="it is " + answers.image_id)
    answers.to_csv(made(run, "captions") / "answers.csv", index=False)
    mask = recordings.mask("subj02")
    heat = nibabel.Nifti1Image(mask.astype(np.float32), np.eye(4))
    folder = made(run, "localization")
    nibabel.save(heat, folder / f"subj02_{thing.replace(' ', '-')}.nii.gz")
    pd.DataFrame({"subject": ["subj02"], "concept": [thing]}).to_csv(folder / "scores.csv")
    return run


def score(run, **numbers):
    (run / "results").mkdir()
    common = {"data": "simulated-nsd", "subject": "all", "protocol": "average"}
    rows = [
        Row(**common, system="neurovl", task="caption", metric="meteor", **numbers),
        Row(**common, system="flat", task="caption", metric="meteor", value=0.111),
        Row(**common, system="neurovl", task="caption", metric="bleu1", value=0.222),
    ]
    painted = {**common, "system": "neurovl", "task": "reconstruction", "metric": "pixcorr"}
    rows += [Row(**painted, value=0.3, condition=f"zeroed={z}") for z in ("located", "moved")]
    write_results(rows, run / "results" / "results.csv")
    claims = [
        Claim(name, "simulated-nsd", "a - b", 0.2, 0.1, 0.4, 9, 0, "holds") for name in ("a", "b")
    ]
    claims.append(Claim("c", "simulated-nsd", "a - b", 0.2, -0.1, 0.4, 9, 0, "undecided"))
    write_claims(claims, run / "results" / "claims.csv")


def alternatives(text):
    return re.findall(r'<img [^>]*alt="([^"]*)"', text)


def test_the_first_pictures_of_the_list_are_shown(run, ids):
    text = gallery(run, n=3)
    seen = [alt.split()[1] for alt in alternatives(text) if alt.startswith("picture ")]
    assert seen == ids[:3]
    assert re.findall(r"<p>“it is (\d+)”</p>", text) == ids[:3]
    painted = [alt for alt in alternatives(text) if alt.startswith("painted")]
    assert [alt.rpartition(": ")[2] for alt in painted] == [f"prompt &lt;{k}&gt;" for k in range(3)]
    assert "first test pictures of subj02, not chosen" in text


def test_a_thing_is_located_where_the_picture_holds_it(run, recordings, ids, thing):
    held = [thing in {o["category"] for o in recordings.objects(i)} for i in ids]
    cards = gallery(run, n=5).split("<div><div")[1:]
    assert [f"located: {thing}" in card for card in cards] == held and held[2]


def test_simulated_brains_say_so(run):
    score(run, value=0.3)
    assert gallery(run).count("Simulated brains.") == 2  # pictures and scores
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"simulated": False}))
    assert gallery(run).count("Brains of people.") == 2


def test_main_scores_have_interval_and_chance(run):
    assert "no scores yet" in gallery(run)
    score(run, value=0.3, ci_low=0.21, ci_high=0.39, n=7, chance=0.1)
    text = gallery(run)
    cells = re.findall(r"<td>(.*?)</td>", text)
    assert cells == ["the caption: METEOR", "0.300", "0.210–0.390", "0.100", "7"]  # no ceiling
    assert "holds 2, undecided 1" in text


def test_what_was_painted_of_other_data_is_not_shown(run, ids):
    made(run, "captions", {"name": "nsd", "checksum": "0"})
    text = gallery(run)
    assert "it is" not in text and alternatives(text)
    made(run, "reconstructions", {"name": "nsd", "checksum": "0"})
    text = gallery(run)
    assert not alternatives(text) and "Nothing has been painted" in text


def test_recordings_that_are_gone_leave_a_line(run):
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(record | {"data_folder": "../nowhere"}))
    text = gallery(run)
    assert "not at hand" in text and not alternatives(text) and str(run) not in text


@pytest.fixture
def table(tmp_path):
    """Recordings of one's own: pictures without captions, no word on publishing."""
    root = tmp_path / "own"
    (root / "stimuli").mkdir(parents=True)
    volumes = np.random.default_rng(0).normal(size=(4, 4, 4, 4)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(volumes, np.eye(4)), root / "all.nii.gz")
    mask = np.ones((4, 4, 4), np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), root / "mask.nii.gz")
    rows = [["sub-01", 1, "all.nii.gz", k, f"im{k}", 0, ("train", "test")[k % 2]] for k in range(4)]
    columns = "subject session volume index image_id repeat split".split()
    pd.DataFrame(rows, columns=columns).to_csv(root / "trials.tsv", sep="\t", index=False)
    (root / "subjects.tsv").write_text("subject\tmask\nsub-01\tmask.nii.gz\n")
    for row in rows:
        Image.new("RGB", (8, 8)).save(root / "stimuli" / f"{row[4]}.png")
    return root


def test_pictures_without_captions_leave_a_line(tmp_path, table):
    text = gallery(start(tmp_path / "run", open_recordings(table)))
    assert "(own) have no captions" in text and not alternatives(text)


def test_recordings_without_pictures_leave_a_line(tmp_path, table):
    for file in (table / "stimuli").iterdir():
        file.unlink()
    (table / "stimuli").rmdir()
    text = gallery(start(tmp_path / "run", open_recordings(table)))
    assert "(own) come without pictures" in text and not alternatives(text)


def test_no_book_that_may_be_published_opens_with_pictures_that_may_not(tmp_path, table):
    hidden = start(tmp_path / "run", open_recordings(table), publish_images=True)
    check_terms(hidden)  # the record does not know; the recordings do
    text = gallery(hidden)
    assert "forbid publishing" in text and not alternatives(text)
    with pytest.raises(DataError, match="forbid"):
        check_terms(start(tmp_path / "own-run", open_recordings(table)))
