"""Pictures and captions that others made: taken in, refused with reasons, scored, and out again in BrainHub's layout."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

import neurovl
from neurovl.cli.options import app
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.leaderboard.brainhub import export_brainhub
from neurovl.leaderboard.gallery_tables import gallery_with, read_gallery, write_gallery
from neurovl.leaderboard.outside import outside_galleries, score_outside
from neurovl.results import read_results

PROFILE = """
preprocessing: {patches: [5]}
leaderboard: {images: 6}
evaluation: {bootstrap: 50, permutations: 5}
"""
SUBJECTS = ("subj01", "subj02")
WORDS = ("a dog on the grass", "two cats sleep", "a bus in a street", "a man rides a horse")


@pytest.fixture(scope="module")
def begun(tiny_nsd, tmp_path_factory):
    profile = tmp_path_factory.mktemp("profile") / "outside.yaml"
    profile.write_text(PROFILE)
    run = neurovl.start_run(tmp_path_factory.mktemp("run"), profile=str(profile), data=tiny_nsd)
    neurovl.make(run, "tokens")
    return run


@pytest.fixture
def run(begun, monkeypatch):
    monkeypatch.setattr("neurovl.leaderboard.structure.FITTED", 12)  # enough for a probe that runs
    yield begun
    shutil.rmtree(begun.root / "leaderboard", ignore_errors=True)


def scored_ids(run, subject="subj01") -> list[str]:
    rng = np.random.default_rng([run.profile.seed, 11])
    return sorted(rng.permutation(run.test_images(subject))[:6].tolist())


def noisy(run, image_id, seed=0) -> Image.Image:
    true = np.asarray(run.recordings.image(image_id).resize((64, 64)), float)
    rng = np.random.default_rng([seed, int(image_id)])
    return Image.fromarray(np.clip(true + rng.normal(0, 60, true.shape), 0, 255).astype(np.uint8))


@pytest.fixture
def handed(run, tmp_path):
    """A folder made by hand, with every picture that is scored."""
    folder, rows = tmp_path / "mine", []
    for subject in SUBJECTS:
        (folder / subject).mkdir(parents=True)
        for k, image_id in enumerate(scored_ids(run, subject)):
            noisy(run, image_id).save(folder / subject / f"{image_id}.png")
            about = {"subject": subject, "image_id": image_id}
            rows.append(about | {"caption": WORDS[k % 4]})
    pd.DataFrame(rows).to_csv(folder / "captions.csv", index=False)
    return folder


def test_pictures_and_captions_made_by_hand_are_scored(run, handed):
    extra = next(i for i in run.test_images("subj01") if i not in scored_ids(run))
    noisy(run, extra).save(handed / "subj01" / f"{extra}.png")
    (handed / "subj01" / ".DS_Store").write_text("")
    rows = score_outside(run, "hand-made", handed, handed / "captions.csv")
    found = {(r.subject, r.metric): r for r in rows if r.system == "hand-made"}
    likeness = []
    for image_id in scored_ids(run):
        pair = [noisy(run, image_id), run.recordings.image(image_id)]
        a, b = (np.asarray(p.resize((425, 425), Image.Resampling.BILINEAR)).ravel() for p in pair)
        likeness.append(np.corrcoef(a, b)[0, 1])
    assert found["subj01", "pixcorr"].value == pytest.approx(np.mean(likeness), abs=1e-6)
    assert found["all", "pixcorr"].n == 6 and found["all", "pixcorr"].chance < 0.5
    true = [run.recordings.captions(i) for i in scored_ids(run)]
    bleu = neurovl.metrics.captions([WORDS[k % 4] for k in range(6)], true)["bleu1"].value
    assert found["subj01", "bleu1"].value == pytest.approx(bleu)
    folder = run.folder / "leaderboard" / "outside" / "hand-made"
    read = read_results(folder / "results.csv")
    assert len(read) == len(rows)
    gallery = read_gallery(folder)
    assert len(gallery.samples) == len(gallery.captions) == 12  # the further picture is left out
    assert sorted(gallery.samples.image_id[gallery.samples.subject == "subj01"]) == scored_ids(run)


def test_dealt_out_pictures_fall_to_chance(run, handed):
    score_outside(run, "right", handed)
    files = sorted((handed / "subj01").glob("*.png"))
    content = [f.read_bytes() for f in files]
    for file, other in zip(files, content[1:] + content[:1], strict=True):
        file.write_bytes(other)
    shutil.rmtree(handed / "subj02")
    rows = score_outside(run, "dealt", handed)
    dealt = {r.metric: r for r in rows if r.system == "dealt" and r.subject == "subj01"}
    right = read_results(run.folder / "leaderboard/outside/right/results.csv")
    right = right[right.subject == "subj01"].set_index("metric").value
    assert dealt["pixcorr"].value < right["pixcorr"] - 0.3
    assert dealt["two_way_scenenet_early"].value < right["two_way_scenenet_early"] - 0.2


def test_the_leaderboard_finds_them_and_notices_a_change(run, handed):
    score_outside(run, "hand-made", handed)
    (one,) = outside_galleries(run)
    assert one.folder == run.folder / "leaderboard" / "outside" / "hand-made"
    assert outside_galleries(run)[0].key == one.key
    Image.new("RGB", (8, 8)).save(one.folder / one.gallery.samples.file.iloc[0])
    assert outside_galleries(run)[0].key != one.key


def test_the_other_protocol_joins_and_the_same_is_refused(run, handed):
    score_outside(run, "hand-made", handed)
    score_outside(run, "hand-made", handed, protocol="single")
    gallery = read_gallery(run.folder / "leaderboard/outside/hand-made")
    assert gallery.samples.protocol.value_counts().to_dict() == {"average": 12, "single": 12}
    with pytest.raises(DataError, match="has hand-made with protocol single already"):
        score_outside(run, "hand-made", handed, protocol="single")


def _lacks_one(run, folder):
    gone = folder / "subj02" / f"{scored_ids(run, 'subj02')[2]}.png"
    gone.unlink()
    return gone.stem


def _names_a_training_picture(run, folder):
    trials = run.store.trials
    name = trials.image_id[trials.split == "train"].iloc[0]
    Image.new("RGB", (8, 8)).save(folder / "subj01" / f"{name}.png")
    return f"has {name} for subj01, expected its test pictures alone"


def _other_subject(run, folder):
    (folder / "subj02").rename(folder / "subj09")
    return "no subject '?9'?"


def _twice(run, folder):
    (folder / "subj01").rename(folder / "sub01_dim1024")
    shutil.copytree(folder / "subj02", folder / "subj01")
    return "two folders of subj01"


def _both_endings(run, folder):
    name = scored_ids(run)[0]
    Image.new("RGB", (8, 8)).save(folder / "subj01" / f"{name}.jpg")
    return f"has picture {name} twice"


def _flat(run, folder):
    Image.new("RGB", (8, 8)).save(folder / "1.png")
    return "has the picture 1.png, expected folders of subjects"


def _no_picture(run, folder):
    name = f"{scored_ids(run)[0]}.png"
    (folder / "subj01" / name).write_text("no picture")
    return f"{name} cannot be read as a picture"


def _empty(run, folder):
    for subject in SUBJECTS:
        shutil.rmtree(folder / subject)
    return "has no folder with pictures"


SPOILT = [_lacks_one, _names_a_training_picture, _other_subject, _twice, _both_endings, _flat]


@pytest.mark.parametrize("spoil", [*SPOILT, _no_picture, _empty])
def test_pictures_that_are_not_as_they_should_be_are_named(run, handed, spoil):
    match = spoil(run, handed)
    with pytest.raises((DataError, MissingError), match=match):
        score_outside(run, "mine", handed)
    assert not (run.folder / "leaderboard").exists()  # nothing is taken in by halves


def test_captions_that_are_not_as_they_should_be_are_named(run, handed):
    table = pd.read_csv(handed / "captions.csv", dtype=str)

    def refused(changed, match):
        changed.to_csv(handed / "captions.csv", index=False)
        with pytest.raises((DataError, MissingError), match=match):
            score_outside(run, "mine", captions=handed / "captions.csv")

    refused(table.rename(columns={"caption": "text"}), "columns subject, image_id, text, expected")
    refused(table.drop(index=3), f"lacks {table.image_id[3]} for subj01")
    refused(pd.concat([table, table.head(1)]), "two captions of picture")
    refused(table.replace({"subject": {"subj02": "subj05"}}), "no subject")
    with pytest.raises(MissingError, match="none.csv is not there"):
        score_outside(run, "mine", captions=handed / "none.csv")


@pytest.mark.parametrize("name", ["neurovl", "takagi", "true-embedding", "a/b", "a=b", "", ".."])
def test_a_name_that_is_taken_or_none_is_refused(run, handed, name):
    with pytest.raises(ConfigError, match="--name is"):
        score_outside(run, name, handed)


def test_nothing_handed_in_is_refused(run):
    with pytest.raises(ConfigError, match="name --pictures or --captions"):
        score_outside(run, "mine")


# BrainHub


def made_by_the_run(run, name="painted"):
    """Pictures and captions of a system of the leaderboard."""
    folder, samples, captions = run.folder / "leaderboard" / "samples" / name, [], []
    for n, subject in enumerate(SUBJECTS):
        (folder / subject).mkdir(parents=True)
        for k, image_id in enumerate(scored_ids(run, subject)):
            noisy(run, image_id, n).save(folder / subject / f"{image_id}.png")
            place = {"system": name, "condition": "", "protocol": "average"}
            place |= {"subject": subject, "image_id": image_id}
            samples.append(place | {"file": f"{subject}/{image_id}.png"})
            captions.append(place | {"caption": WORDS[(k + n) % 4]})
    return write_gallery(folder, samples, captions)


def exported(run, tmp_path, name="painted"):
    made_by_the_run(run, name)
    gallery = gallery_with(run, name)
    return export_brainhub(run.recordings, gallery, name, tmp_path / "hub")


def test_what_is_handed_out_in_brainhub_s_layout_scores_the_same_when_handed_in(run, tmp_path):
    hub = exported(run, tmp_path)
    ids = (hub / "order.txt").read_text().split()
    assert ids == scored_ids(run)
    for k, image_id in enumerate(ids):  # what BrainHub's own program compares
        seen = Image.open(hub / "images" / f"{k}.png")
        assert np.array_equal(np.asarray(seen), np.asarray(run.recordings.image(image_id)))
    references = json.loads((hub / "fmri_cococap.json").read_text())
    said = json.loads((hub / "sub01" / "fmricap.json").read_text())
    assert said.keys() == references.keys() == {str(k) for k in range(6)}
    assert references["3"] == run.recordings.captions(ids[3])
    own = run.folder / "leaderboard" / "samples" / "painted"
    score_outside(run, "back", hub, hub, order=hub / "order.txt")
    plain = tmp_path / "plain"
    for subject in SUBJECTS:
        shutil.copytree(own / subject, plain / subject)
    shutil.copy(own / "captions.csv", plain / "captions.csv")
    score_outside(run, "direct", plain, plain / "captions.csv")
    names = ["data", "task", "protocol", "subject", "metric", "image_id", "value"]
    back, direct = (
        pd.read_csv(run.folder / "leaderboard/outside" / name / "per_image.csv")
        for name in ("back", "direct")
    )
    assert len(back) > 100
    pd.testing.assert_frame_equal(back[names], direct[names])


def test_another_order_is_another_score(run, tmp_path):
    hub = exported(run, tmp_path)
    ids = (hub / "order.txt").read_text().split()
    (hub / "other.txt").write_text("\n".join([*ids[1:], ids[0]]))
    right = {r.metric: r.value for r in score_outside(run, "a", hub, order=hub / "order.txt")}
    wrong = {r.metric: r.value for r in score_outside(run, "b", hub, order=hub / "other.txt")}
    assert wrong["pixcorr"] < right["pixcorr"] - 0.3


def test_numbers_without_an_order_are_not_guessed(run, tmp_path):
    hub = exported(run, tmp_path)
    shutil.rmtree(hub / "images")
    with pytest.raises(DataError, match=r"has 0, 1, 2, 3, 4 and 1 more for subj01.*--order"):
        score_outside(run, "mine", hub)
    with pytest.raises(DataError, match="--order"):
        score_outside(run, "mine", captions=hub)


def test_orders_that_say_too_little_are_refused(run, tmp_path):
    hub = exported(run, tmp_path)
    ids = (hub / "order.txt").read_text().split()
    for content, match in (
        (ids[:5], "has '5', expected a number from 0 to 4"),
        ([*ids[:5], ids[0]], "has 1 pictures twice"),
        ([*ids[:5], "nothing"], "names nothing, which is no test picture"),
        ([], "is empty"),
    ):
        (hub / "order.txt").write_text("\n".join(content))
        with pytest.raises(DataError, match=match):
            score_outside(run, "mine", hub, order=hub / "order.txt")


def test_brainhub_s_own_names_of_captions_are_read(run, tmp_path):
    hub, given = exported(run, tmp_path), tmp_path / "given"
    given.mkdir()
    for k in (1, 2):
        shutil.copy(hub / f"sub0{k}/fmricap.json", given / f"sub0{k}_decoded_caption.json")
    rows = score_outside(run, "mine", captions=given, order=hub / "order.txt")
    assert {r.subject for r in rows} >= {"all", *SUBJECTS}
    one = given / "sub02_decoded_caption.json"
    rows = score_outside(run, "one", captions=one, order=hub / "order.txt")
    assert {r.subject for r in rows if r.metric == "bleu1"} == {"all", "subj02"}
    one.write_text("[1, 2]")
    with pytest.raises(DataError, match="is no object of captions"):
        score_outside(run, "two", captions=given, order=hub / "order.txt")
    one.write_text("{")
    with pytest.raises(DataError, match="is no JSON"):
        score_outside(run, "two", captions=given, order=hub / "order.txt")


def test_exports_that_brainhub_cannot_say_are_refused(run, tmp_path):
    gallery = made_by_the_run(run)
    with pytest.raises(ConfigError, match="other has no pictures or captions from average"):
        export_brainhub(run.recordings, gallery, "other", tmp_path / "out")
    with pytest.raises(DataError, match="is there, expected a new folder"):
        export_brainhub(run.recordings, gallery, "painted", tmp_path)
    fewer = replace(gallery, samples=gallery.samples.drop(index=0))
    with pytest.raises(DataError, match="pictures of different test pictures"):
        export_brainhub(run.recordings, fewer, "painted", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(MissingError, match="has no reconstructions/"):
        gallery_with(run, "nobody")


def test_the_verbs_hand_out_and_take_in(run, tmp_path):
    made_by_the_run(run)
    hub, told = tmp_path / "hub", CliRunner()
    done = told.invoke(
        app, ["export", "brainhub", "--run", run.root, "--system", "painted", "--out", hub]
    )
    assert done.exit_code == 0 and done.output.strip() == f"wrote {hub}"
    about = ["score", "--run", run.root, "--pictures", hub, "--name", "mine"]
    done = told.invoke(app, [*about, "--order", hub / "order.txt"])
    assert done.exit_code == 0, done.output
    assert "reconstruction pixcorr 0." in done.output
    assert done.output.strip().endswith("outside/mine")
    wrong = told.invoke(app, [*about, "--protocol", "mean"])
    assert isinstance(wrong.exception, ConfigError)
