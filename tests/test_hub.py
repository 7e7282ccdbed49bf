"""Encoders for others: the folder is whole, its card true, its tokens the store's, and nothing is sent against the terms."""

import inspect
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

import huggingface_hub
import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard

import neurovl
from neurovl.encoder.alignment import predict
from neurovl.encoder.variants import describe
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.hub import export_encoder, push_encoder
from neurovl.hub.facts import public_models
from neurovl.pipeline import start, write_tokens
from neurovl.results import Row, write_results
from neurovl.settings.profile_files import load_profile
from neurovl.stages import provenance_key, stage

ROWS = [
    Row(
        "simulated-nsd",
        "neurovl",
        "alignment",
        "average",
        "all",
        "two_way_clip",
        0.71234,
        0.6,
        0.8,
        1041,
        0.5012,
        1.0,
        note="split shared1000; not comparable with the paper's: simulated",
    ),
    Row(
        "simulated-nsd",
        "neurovl",
        "alignment",
        "single",
        "all",
        "two_way_clip",
        0.6125,
        0.55,
        0.66,
        1041,
        0.4988,
        1.0,
    ),
    Row(
        "simulated-nsd",
        "neurovl",
        "alignment",
        "single",
        "subj01",
        "two_way_clip",
        0.9999,
        0.9,
        1.0,
        1041,
        0.5,
        1.0,
    ),
    Row(
        "simulated-nsd",
        "ridge",
        "alignment",
        "average",
        "all",
        "two_way_clip",
        0.6321,
        0.6,
        0.7,
        1041,
        0.5031,
        1.0,
    ),
    Row(
        "simulated-nsd",
        "flat",
        "alignment",
        "average",
        "all",
        "two_way_clip",
        0.5876,
        0.5,
        0.6,
        1041,
        0.5,
        1.0,
    ),
    Row(
        "simulated-nsd", "neurovl", "caption", "average", "all", "cider", 1.2345, 1.1, 1.4, 60, 0.03
    ),
    Row("simulated-nsd", "neurovl", "caption", "average", "all", "spice", note="no jar | none"),
    Row(
        "simulated-nsd",
        "neurovl",
        "reconstruction",
        "average",
        "all",
        "pixcorr",
        0.4321,
        0.4,
        0.5,
        8,
        condition="beta=0.6",
    ),
]
SHOWN = [row for row in ROWS if row.subject == "all" and row.system != "flat" and not row.condition]


def make_run(folder: Path, data: Path, off_mask: str = "zero") -> Path:
    """A run with tokens, and an encoder of random weights in the place of a trained one."""
    profile = load_profile("smoke")
    profile = type(profile)(
        **{
            **profile.__dict__,
            "preprocessing": type(profile.preprocessing)(patches=(3, 2), off_mask=off_mask),
        }
    )
    run = start(data, folder, profile)
    write_tokens(run)
    with run.stage("targets", write_tokens, {}) as s:
        (s.dir / "targets.safetensors").write_text("not read here")
    for name in ("main", "flat", "per-subject-subj02"):
        system = describe(name, profile, run.store)
        with run.stage(f"encoders/{name}", make_run, asdict(system), ("tokens", "targets")) as s:
            torch.manual_seed(1)
            shape = run.store.shape(system.layout)
            made = BrainEncoder(
                *shape,
                6,
                (2, 2, 2),
                layout=system.layout,
                width=16,
                layers=2,
                heads=2,
                readout=3,
                n_subjects=2,
            )
            made.readout.weight.normal_(std=0.1)
            made.save_pretrained(s.dir)
    return folder


def add_scores(run: Path) -> None:
    keys = {"0/encoders/main": provenance_key(run / "encoders" / "main")}
    about = {"seed": 0, "profile": "smoke", "data": {}, "device": "cpu", "work": write_results}
    with stage(run / "results", {}, keys, **about) as s:
        write_results(ROWS, s.dir / "results.csv")


@pytest.fixture(scope="module")
def run(tiny_nsd, tmp_path_factory):
    folder = make_run(tmp_path_factory.mktemp("hub") / "run", tiny_nsd)
    add_scores(folder)
    return folder


@pytest.fixture(scope="module")
def published(run, tmp_path_factory):
    return export_encoder(run, tmp_path_factory.mktemp("out") / "published")


@pytest.fixture
def own_run(run, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(run, tmp_path / "run")


def state(run: Path, **facts) -> None:
    """Other facts of the recordings in run.json."""
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | facts))


REAL = {"simulated": False, "licence": "Terms of X", "terms": "do not pass on"}


def file_of(tiny_nsd, subject):
    [path] = tiny_nsd.rglob(f"{subject}/*/betas_fithrf_GLMdenoise_RR/betas_session01.nii.gz")
    return path


def turned(image, axes):
    """The same image with axes of another order."""
    start = nibabel.io_orientation(image.affine)
    end = nibabel.orientations.axcodes2ornt(axes)
    return image.as_reoriented(nibabel.orientations.ornt_transform(start, end))


def session(tiny_nsd, subject):
    """A subject's responses as NSD's own file has them, which trials are for training, and the mask as an image."""
    data = neurovl.open_recordings(tiny_nsd)
    mask = nibabel.Nifti1Image(data.mask(subject).astype(np.uint8), data.affine(subject))
    train = (data.subject_trials(subject).split == "train").to_numpy()
    return nibabel.load(file_of(tiny_nsd, subject)), train, mask


def test_the_folder_holds_what_another_needs(published):
    names = {p.name for p in published.iterdir()}
    assert names == {
        "config.json",
        "model.safetensors",
        "plan.json",
        "plan.npz",
        "README.md",
        "data.json",
        "provenance",
        "provenance.json",
    }
    assert not [p for p in published.parent.iterdir() if p != published]


def test_weights_come_back_bit_for_bit(run, published):
    trained = BrainEncoder.from_pretrained(run / "encoders" / "main").state_dict()
    found = neurovl.load_published(published).encoder.state_dict()
    assert trained.keys() == found.keys()
    assert all(torch.equal(trained[name], found[name]) for name in trained)


@pytest.mark.parametrize("system", ["main", "flat"])
def test_volumes_give_the_tokens_of_the_store_bit_for_bit(run, tiny_nsd, tmp_path, system):
    model = neurovl.load_published(export_encoder(run, tmp_path / "out", system))
    store = neurovl.TokenStore(run / "tokens")
    for subject, axes in (("subj01", "RAS"), ("subj02", "RAS"), ("subj02", "PSL")):
        image, train, mask = session(tiny_nsd, subject)
        expected = store.batch(subject, None, "flat" if system == "flat" else None)
        assert expected.abs().mean() > 0.1
        found = model.tokens(turned(image, axes), train)
        np.testing.assert_array_equal(found, expected)
        found = model.tokens(turned(image, axes), np.flatnonzero(train), turned(mask, axes))
        np.testing.assert_array_equal(found, expected)


def test_regions_of_their_own_need_a_mask(tiny_nsd, tmp_path):
    run = make_run(tmp_path / "run", tiny_nsd, "own")
    out = export_encoder(run, tmp_path / "out")
    model = neurovl.load_published(out)
    image, train, mask = session(tiny_nsd, "subj02")
    expected = neurovl.TokenStore(run / "tokens").batch("subj02", None)
    np.testing.assert_array_equal(model.tokens(image, train, mask), expected)
    as_array = np.asarray(turned(mask, "LPS").dataobj) > 0
    found = model.tokens(turned(image, "LPS"), train, as_array)
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(DataError, match="pass mask="):
        model.tokens(image, train)
    with pytest.raises(DataError, match="the mask has the grid"):
        model.tokens(image, train, as_array[1:])
    assert "mask=mask" in (out / "README.md").read_text()


def test_empty_voxels_are_read_as_no_signal(published, tiny_nsd):
    """Background of NaN, as some programs write it, gives the tokens that background of 0 gives."""
    model = neurovl.load_published(published)
    image, train, mask = session(tiny_nsd, "subj01")
    values, inside = np.asarray(image.dataobj).astype(np.float32), np.asarray(mask.dataobj) > 0
    values[~inside] = 0
    expected = model.tokens(nibabel.Nifti1Image(values, image.affine), train)
    values[~inside] = np.nan
    found = model.tokens(nibabel.Nifti1Image(values, image.affine), train)
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(found.numpy()).all() and found.abs().mean() > 0.1


def test_the_card_s_lines_of_python_run(run, published, tiny_nsd, tmp_path, monkeypatch):
    code = re.search(r"```python\n(.*?)```", (published / "README.md").read_text(), re.S)[1]
    assert len(code.strip().splitlines()) <= 6
    shutil.copy(file_of(tiny_nsd, "subj02"), tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {"is_train": session(tiny_nsd, "subj02")[1]}
    exec(code.replace("PATH/TO/THIS/FOLDER", str(published)), names)
    encoder = BrainEncoder.from_pretrained(run / "encoders" / "main")
    expected = predict(encoder, neurovl.TokenStore(run / "tokens").batch("subj02", None))
    assert expected.clip.std(0).mean() > 0.02
    for part in ("clip", "vae", "hidden"):
        assert torch.equal(getattr(names["z"], part), getattr(expected, part))


def test_the_card_names_data_terms_and_counts(run, published):
    card = ModelCard.load(published / "README.md")
    header, about = card.data.to_dict(), json.loads((run / "run.json").read_text())
    assert header["library_name"] == "neurovl" and "simulated-data" in header["tags"]
    assert header["license"] == "bsd-3-clause"
    head = card.text.split("## ")[0]
    assert "**Simulated" in head and head.index("**Simulated") < 200
    record = json.loads((run / "encoders" / "main" / "provenance.json").read_text())
    trials = neurovl.TokenStore(run / "tokens").trials
    training = trials[trials.split == "train"]
    for words in (
        about["data"],
        about["licence"],
        about["terms"],
        record["data"]["checksum"],
        "subj01, subj02",
        f"{len(training):,} of {training.image_id.nunique():,} pictures",
        "off_mask",
        "z-scores",
        "epochs: ",
        "tiny family",
        "2404.19438",
        "no thoughts",
    ):
        assert words in card.text, words


def scores_of(card: str) -> dict:
    """Rows of the card's tables of scores."""
    cells = [
        [c.strip() for c in re.split(r"(?<!\\)\|", line)[1:-1]]
        for line in card.splitlines()
        if line.startswith("| ")
    ]
    return {tuple(row[:4]): row[4:] for row in cells if len(row) == 10 and row[0] != "system"}


def test_the_card_s_scores_are_those_of_results_csv(run, published):
    table = pd.read_csv(run / "results" / "results.csv")
    found = scores_of((published / "README.md").read_text())
    assert set(found) == {(r.system, r.task, r.protocol, r.metric) for r in SHOWN}
    rows = table[(table.subject == "all") & (table.system != "flat") & table.condition.isna()]
    assert len(rows) == len(found)
    for row in rows.itertuples():
        value, interval, n, chance, ceiling, note = found[
            row.system, row.task, row.protocol, row.metric
        ]
        if np.isnan(row.value):
            assert value == "" and note == row.note.replace("|", "\\|")
            continue
        assert float(value) == pytest.approx(row.value, rel=1e-3)
        low, high = map(float, interval.split(" to "))
        assert (low, high) == pytest.approx((row.ci_low, row.ci_high), rel=1e-3)
        assert int(n.replace(",", "")) == row.n and float(chance) == pytest.approx(row.chance)
        assert ceiling == ("" if np.isnan(row.ceiling) else f"{row.ceiling:.4g}")
    assert "Named test set: split shared1000." in (published / "README.md").read_text()
    header = ModelCard.load(published / "README.md").data
    own = {r.metric_name: r.metric_value for r in header.eval_results}
    assert own == {"two_way_clip, average": 0.71234, "two_way_clip, single": 0.6125}


def test_scores_of_another_training_are_not_shown(own_run, tmp_path):
    record = json.loads((own_run / "results" / "provenance.json").read_text())
    record["inputs"]["0/encoders/main"] = "another"
    (own_run / "results" / "provenance.json").write_text(json.dumps(record))
    card = (export_encoder(own_run, tmp_path / "out") / "README.md").read_text()
    assert scores_of(card) == {} and "neurovl evaluate --run RUN" in card
    assert ModelCard(card).data.eval_results is None


def test_an_encoder_of_one_subject_counts_its_own_trials(run, tmp_path):
    out = export_encoder(run, tmp_path / "out", "per-subject-subj02")
    trials = neurovl.TokenStore(run / "tokens").trials
    own = trials[(trials.subject == "subj02") & (trials.split == "train")]
    card = (out / "README.md").read_text()
    assert (
        f"| training trials | {len(own):,} of " in card and "1 simulated subject (subj02)" in card
    )


def test_a_fold_of_several_is_named(own_run, tmp_path):
    (own_run / "fold1").mkdir()
    for name in ("tokens", "targets", "encoders"):
        (own_run / name).rename(own_run / "fold1" / name)
    state(own_run, folds=2)
    with pytest.raises(MissingError, match="not in this run"):
        export_encoder(own_run, tmp_path / "out")
    card = (export_encoder(own_run, tmp_path / "out", fold=1) / "README.md").read_text()
    assert "fold 1 of 2" in card and scores_of(card) == {}  # results.csv here is of fold 0
    with pytest.raises(ConfigError, match="folds 0 to 1"):
        export_encoder(own_run, tmp_path / "out", fold=2)


def test_real_recordings_put_their_terms_on_the_weights(own_run, tmp_path):
    state(own_run, **REAL)
    card = ModelCard.load(export_encoder(own_run, tmp_path / "out") / "README.md")
    assert card.data.license == "other" and "imulated" not in card.text.split("## ")[0].replace(
        "simulated-nsd", ""
    )
    assert card.text.lower().count("do not pass on") >= 2 and "Terms of X" in card.text


def test_no_path_of_this_machine_leaves_it(own_run, tmp_path):
    file = own_run / "run.json"
    record = json.loads(file.read_text())
    record["settings"]["models"] |= {
        "clip": "../secret/place/clip-a",
        "unclip": ["~/secret/u", "org/model"],
    }
    file.write_text(json.dumps(record))
    out = export_encoder(own_run, tmp_path / "out")
    for path in (p for p in out.rglob("*") if p.is_file()):
        content = path.read_bytes()
        for part in (b"secret", str(tmp_path).encode(), str(Path.home()).encode() + b"/"):
            assert part not in content, path.name
    card = (out / "README.md").read_text()
    assert "`clip-a`" in card and "`org/model`" in card
    assert public_models({"clip": "ViT-L-14/openai"}) == {"clip": "ViT-L-14/openai"}


def test_a_second_export_writes_nothing_anew(run, tmp_path):
    out = export_encoder(run, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*")}
    assert export_encoder(run, out) == out
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*")} == before


def cut_weights(run):
    file = run / "encoders" / "main" / "model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


def change(name, **values):
    def spoil(run):
        file = run / name
        file.write_text(json.dumps(json.loads(file.read_text()) | values))

    return spoil


def adapt(run):
    change(
        "encoders/main/provenance.json", settings={"settings": {"pictures": ["1"]}, "models": {}}
    )(run)


@pytest.mark.parametrize(
    ("spoil", "kind", "words"),
    [
        (
            lambda run: shutil.rmtree(run / "encoders" / "main"),
            MissingError,
            "'main' is not in this run",
        ),
        (
            lambda run: (run / "encoders" / "main" / "provenance.json").unlink(),
            MissingError,
            "provenance.json",
        ),
        (cut_weights, DataError, "cannot be read"),
        (change("tokens/provenance.json", key="other"), DataError, "other tokens than those"),
        (change("encoders/main/config.json", n_tokens=5), DataError, "cannot be read"),
        (change("run.json", data="nsd"), DataError, "states the terms of nsd"),
        (change("encoders/main/provenance.json", inputs={}), DataError, "other tokens"),
        (adapt, ConfigError, "adapted to a new subject"),
        (lambda run: (run / "tokens" / "plan.npz").write_bytes(b"x"), DataError, "plan.npz"),
    ],
)
def test_what_does_not_belong_together_is_refused_and_nothing_written(
    own_run, tmp_path, spoil, kind, words
):
    spoil(own_run)
    with pytest.raises(kind, match=words):
        export_encoder(own_run, tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_a_folder_of_something_else_is_never_replaced(run, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    before = (run / "encoders" / "main" / "provenance.json").read_bytes()
    for place in (tmp_path / "notes", run / "encoders" / "main", run / "tokens"):
        with pytest.raises(DataError, match="holds other files"):
            export_encoder(run, place)
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"
    assert (run / "encoders" / "main" / "provenance.json").read_bytes() == before


def test_an_export_that_is_broken_off_leaves_no_folder(run, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr("neurovl.hub.folder.model_card", broken)
    with pytest.raises(OSError, match="disk full"):
        export_encoder(run, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    monkeypatch.undo()
    assert neurovl.load_published(export_encoder(run, tmp_path / "out"))


@pytest.mark.parametrize("name", ["plan.npz", "plan.json", "model.safetensors", "config.json"])
@pytest.mark.parametrize("how", ["missing", "cut"])
def test_a_broken_folder_is_refused(published, tmp_path, name, how):
    folder = shutil.copytree(published, tmp_path / "copy")
    content = (folder / name).read_bytes()
    (folder / name).unlink()
    if how == "cut":
        (folder / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="copy/ cannot be read as a published encoder"):
        neurovl.load_published(folder)


def test_weights_of_another_layout_are_refused(run, published, tmp_path):
    folder = shutil.copytree(published, tmp_path / "copy")
    for name in ("config.json", "model.safetensors"):
        shutil.copy(run / "encoders" / "flat" / name, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"layout": "p2"}))
    with pytest.raises(DataError, match="the patch plan does not give"):
        neurovl.load_published(folder)


def test_bad_volumes_are_refused(published, tiny_nsd):
    model = neurovl.load_published(published)
    image, train, mask = session(tiny_nsd, "subj01")
    with pytest.raises(DataError, match="two trials or more"):
        model(image.slicer[..., 0])
    with pytest.raises(DataError, match="train chooses 1 of 750"):
        model(image, train=[3])
    with pytest.raises(DataError, match="train does not fit 750"):
        model(image, train=[3, 900])
    spoiled = np.asarray(image.dataobj).astype(np.float32)
    middle = tuple(np.argwhere(np.asarray(mask.dataobj) > 0)[20])
    spoiled[middle][7] = np.nan
    with pytest.raises(DataError, match="holds 1 values inside the mask that are not finite"):
        model(nibabel.Nifti1Image(spoiled, image.affine), train)


def test_an_id_of_the_hub_is_found_in_its_cache_alone(published, tmp_path, monkeypatch):
    cache = tmp_path / "models--owner--name"
    shutil.copytree(published, cache / "snapshots" / "0123")
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("0123")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    found = neurovl.load_published("owner/name")
    assert torch.equal(found.encoder.position, neurovl.load_published(published).encoder.position)
    with pytest.raises(MissingError, match="hf download owner/other"):
        neurovl.load_published("owner/other")


REAL_HUB = huggingface_hub.HfApi


class FakeHub:
    """As much of `HfApi` as is called, with its signatures; keeps what was sent."""

    def __init__(self, exists=False, private=False):
        self.repos = {"owner/name": private} if exists else {}
        self.sent = None

    def check(self, name, *arguments, **options):
        inspect.signature(getattr(REAL_HUB, name)).bind(self, *arguments, **options)

    def create_repo(self, repo, *, private, exist_ok):
        self.check("create_repo", repo, private=private, exist_ok=exist_ok)
        self.repos.setdefault(repo, bool(private))
        return f"https://hub/{repo}"

    def model_info(self, repo):
        self.check("model_info", repo)
        return type("Info", (), {"private": self.repos[repo]})

    def upload_folder(self, **options):
        self.check("upload_folder", **options)
        folder = Path(options["folder_path"])
        self.sent = {
            p.relative_to(folder).as_posix(): p.read_bytes()
            for p in folder.rglob("*")
            if p.is_file()
        }


def use(monkeypatch, hub):
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    return hub


def test_a_push_sends_the_folder_as_it_is(run, tmp_path, monkeypatch):
    out = export_encoder(run, tmp_path / "out", repo="owner/name")
    assert 'load_published("owner/name")' in (out / "README.md").read_text()
    hub = use(monkeypatch, FakeHub())
    assert push_encoder(out, "owner/name", private=True) == "https://hub/owner/name"
    assert hub.repos == {"owner/name": True}
    assert hub.sent == {
        p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file()
    }


def test_recordings_of_people_are_pushed_on_ones_word_alone(own_run, tmp_path, monkeypatch):
    state(own_run, **REAL)
    out = export_encoder(own_run, tmp_path / "out")
    hub = use(monkeypatch, FakeHub())
    with pytest.raises(ConfigError, match="do not pass on.*--accept-terms"):
        push_encoder(out, "owner/name")
    assert hub.repos == {} and hub.sent is None
    push_encoder(out, "owner/name", accept_terms=True)
    assert "README.md" in hub.sent and hub.repos == {"owner/name": False}


def test_what_is_private_never_goes_to_a_public_repository(published, monkeypatch):
    hub = use(monkeypatch, FakeHub(exists=True, private=False))
    with pytest.raises(ConfigError, match="is there and public"):
        push_encoder(published, "owner/name", private=True)
    assert hub.sent is None


def test_a_hub_that_refuses_is_one_sentence(published, monkeypatch):
    class Refusing(FakeHub):
        def create_repo(self, repo, **options):
            raise huggingface_hub.errors.LocalTokenNotFoundError("no token\nfound")

    use(monkeypatch, Refusing())
    with pytest.raises(ConfigError, match="no token found.*hf auth login"):
        push_encoder(published, "owner/name")


@pytest.mark.parametrize("name", ["name", "a/b/c", "owner/na me", "owner/name.git"])
def test_a_name_that_is_none_is_refused_before_work(run, published, tmp_path, name):
    with pytest.raises(ConfigError, match="expected owner/name"):
        export_encoder(run, tmp_path / "out", repo=name)
    with pytest.raises(ConfigError, match="expected owner/name"):
        push_encoder(published, name)
    assert list(tmp_path.iterdir()) == []


def test_only_an_export_is_pushed(run, monkeypatch):
    hub = use(monkeypatch, FakeHub())
    with pytest.raises(MissingError, match="neurovl export encoder"):
        push_encoder(run / "encoders" / "main", "owner/name")
    assert hub.repos == {}
