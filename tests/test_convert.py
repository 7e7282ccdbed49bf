"""Other data sets as tables: THINGS-fMRI's and NOD's layouts, Haxby's blocks, splits, and what is refused."""

import json
import os
import shutil

import nibabel
import numpy as np
import pandas as pd
import pytest
from own_data import GRIDS, N_TRIALS, affine_of, contents, pictures_of, write_nifti
from PIL import Image
from typer.testing import CliRunner

from neurovl.cli.options import app
from neurovl.errors import ConfigError, DataError, MissingError, NeurovlError
from neurovl.recordings.bids import BidsChoice, convert_bids
from neurovl.recordings.haxby.haxby_to_table import convert_haxby
from neurovl.recordings.opening import open_recordings
from neurovl.recordings.splits import Split
from neurovl.recordings.table.table_writer import new_table, place, write_tables


def test_things_layout(things, tmp_path):
    root, truth = things
    before = contents(root)
    out = convert_bids(
        root,
        tmp_path / "table",
        Split(repeated=4),
        BidsChoice(
            derivative="betas_vol",
            drop=("catch*",),
            rois={"FFA": "derivatives/rois/{subject}/{subject}_?FFA_mask.nii.gz"},
        ),
    )
    assert contents(root) == before
    data = open_recordings(out)
    assert data.subjects == ["sub-01", "sub-02"] and data.name == "THINGS small"
    assert data.licence == "CC0" and data.zscore == "session" and not data.has_images
    for subject in data.subjects:
        trials = data.subject_trials(subject).reset_index(drop=True)
        expected = [
            (f"things{session:02d}", name.split("/")[-1].removesuffix(".jpg"), betas[..., position])
            for session in (1, 2)
            for run in (1, 2)
            for betas in [truth[subject, session, run]]
            for position, name in enumerate(pictures_of(subject, session, run))
            if not name.startswith("catch")
        ]
        assert trials.session.tolist() == [session for session, _, _ in expected]
        assert trials.image_id.tolist() == [name for _, name, _ in expected]
        assert set(trials.image_id[trials.split == "test"]) == {"cat_01", "dog_01"}
        assert trials["repeat"][trials.image_id == "cat_01"].tolist() == [0, 1, 2, 3]
        np.testing.assert_allclose(data.volumes(subject), np.stack([v for *_, v in expected]))
        assert data.mask(subject).sum() == np.prod(np.array(GRIDS[subject]) - 2)
        assert data.rois(subject)["FFA"].sum() == 2
        np.testing.assert_array_equal(data.affine(subject), affine_of(subject))
    source = next(root.rglob("*_betas.nii.gz"))
    linked = out / "betas" / source.relative_to(root / "derivatives/betas_vol")
    assert os.path.samefile(source, linked)


def test_from_bids_to_tokens(things, tmp_path):
    """The command line from end to end; two grids give tokens of one shape."""
    root, truth = things
    table, run = tmp_path / "table", tmp_path / "run"
    command = f"convert bids --data {root} --out {table} --derivative betas_vol --drop catch* --test-repeated 4"
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.output + repr(done.exception)
    profile = tmp_path / "own.yaml"
    profile.write_text("preprocessing: {patches: [3]}\n")
    command = f"preprocess --data {table} --out {run} --profile {profile}"
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.output + repr(done.exception)
    from neurovl.tokens.store import TokenStore

    store = TokenStore(run / "tokens")
    assert store.subjects == ["sub-01", "sub-02"] and store.transductive == {}
    # sub-01 sets the common grid, so its voxels are the z-scores themselves
    kept = [i for i, n in enumerate(pictures_of("sub-01", 1, 1)) if not n.startswith("catch")]
    betas = np.concatenate([truth["sub-01", 1, run][..., kept] for run in (1, 2)], axis=-1)
    train = [
        i
        for i, n in enumerate(open_recordings(table).subject_trials(1).image_id[: 2 * len(kept)])
        if n not in ("cat_01", "dog_01")
    ]
    z = (betas - betas[..., train].mean(-1, keepdims=True)) / betas[..., train].std(
        -1, keepdims=True
    )
    flat = z.reshape(-1, z.shape[-1])[store.region].T
    inside = np.isin(store.region, np.flatnonzero(open_recordings(table).mask(1)))
    assert inside.any()
    found = store.voxels("sub-01", np.arange(len(flat)))
    np.testing.assert_allclose(found[:, inside], flat[:, inside], atol=5e-3)
    assert store.batch("sub-02", [0]).shape == store.batch("sub-01", [0]).shape


@pytest.fixture
def nod(tmp_path):
    """One subject in NOD's raw layout, with betas of a whole session: runs 2 and 10 in a row."""
    root = tmp_path / "nod"
    rng = np.random.default_rng(1)
    names = {
        2: ["a/1.JPEG", "n/a", "a/2.JPEG", "b/1.JPEG"],
        10: ["a/1.JPEG", "b/3.JPEG", "a/4.JPEG"],
    }
    for run, pictures in names.items():
        path = root / f"sub-01/ses-1/func/sub-01_ses-1_task-imagenet_run-{run}_events.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        frame = pd.DataFrame({"onset": range(len(pictures)), "stim_file": pictures})
        frame["trial_type"] = ["test" if name == "a/1.JPEG" else "exp" for name in pictures]
        frame.to_csv(path, sep="\t", index=False)
        for name in pictures:
            if name != "n/a":
                picture = root / "stimuli" / name
                picture.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 4), (int(name[2]) * 50, 9, 9)).save(picture, "jpeg")
    betas = rng.normal(0, 1, (5, 5, 4, 6)).astype(np.float32)  # no trial without a picture
    affine = np.diag([2.0, 2, 2, 1])
    folder = root / "derivatives/glmsingle/sub-01/ses-1/func"
    write_nifti(folder / "sub-01_ses-1_task-imagenet_space-T1w_betas.nii.gz", betas, affine)
    mask = np.ones((5, 5, 4), np.uint8)
    mask[0] = 0
    write_nifti(
        folder / "sub-01_ses-1_task-imagenet_space-T1w_desc-brain_mask.nii.gz", mask, affine
    )
    (root / "dataset_description.json").write_text(json.dumps({"Name": "NOD"}))
    return root, betas


def test_a_session_of_betas_over_raw_events(nod, tmp_path):
    root, betas = nod
    out = convert_bids(root, tmp_path / "table")
    data = open_recordings(out)
    assert data.trials.image_id.tolist() == ["a_1", "a_2", "b_1", "a_1", "b_3", "a_4"]
    assert data.trials.split.tolist() == ["test", "train", "train"] * 1 + ["test", "train", "train"]
    assert data.trials["repeat"].tolist() == [0, 0, 0, 1, 0, 0] and set(data.trials.session) == {1}
    np.testing.assert_array_equal(data.volumes(1), np.moveaxis(betas, -1, 0))
    assert data.has_images and data.image("a_4").getpixel((0, 0))[0] > 190
    assert data.mask(1).sum() == 80
    assert "trial_type=test: 1 of 5" in json.loads((out / "dataset.json").read_text())["split"]


@pytest.mark.parametrize(
    "split, expected",
    [
        (Split(images="b_3,a/2.JPEG"), {"b_3", "a_2"}),
        (Split(where="trial_type=exp"), {"a_2", "b_1", "b_3", "a_4"}),
        (Split(repeated=2), {"a_1"}),
    ],
)
def test_splits_by_picture(nod, tmp_path, split, expected):
    trials = open_recordings(convert_bids(nod[0], tmp_path / "table", split)).trials
    assert set(trials.image_id[trials.split == "test"]) == expected


def test_split_by_list_shared_and_fraction():
    trials = pd.DataFrame(
        [("sub-01", f"p{i}") for i in range(8)] + [("sub-02", f"p{i}") for i in range(5, 13)],
        columns=["subject", "image_id"],
    ).assign(stimulus="x")
    assert Split(shared=True).choose(trials)[0] == {"p5", "p6", "p7"}
    once, how = Split(fraction=0.3, seed=1).choose(trials)
    again, _ = Split(fraction=0.3, seed=1).choose(trials[::-1])
    assert once == again and len(once) == 4 and "seed 1" in how  # 0.3 of 13 pictures
    assert once != Split(fraction=0.3, seed=2).choose(trials)[0]


def test_a_picture_marked_in_some_trials_only_is_refused():
    trials = pd.DataFrame({"image_id": ["a", "a", "b"], "trial_type": ["test", "exp", "exp"]})
    trials = trials.assign(subject="sub-01", stimulus="x")
    with pytest.raises(DataError, match="1 pictures have trial_type=test in some trials only.*'a'"):
        Split().choose(trials)


def change(pattern, action):
    def spoil(root):
        paths = sorted(root.rglob(pattern))
        assert paths
        for path in paths:
            action(path)

    return spoil


def double(ending):
    return lambda path: shutil.copy(path, path.with_name(path.name.replace(*ending)))


def regrid(path):
    image = nibabel.load(path)
    write_nifti(path, image.get_fdata()[:-1].astype(np.uint8), image.affine)


def cut_rows(path):
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")


def annex(path):
    path.unlink()
    path.symlink_to("../.git/annex/objects/nothing")


BETAS = "*_betas.nii.gz"


@pytest.mark.parametrize(
    "spoil, choice, message",
    [
        (change(BETAS, lambda p: p.unlink()), {}, "no single-trial betas, expected files such as"),
        (
            change(BETAS, lambda p: p.rename(p.with_name("sub-01_beta.dscalar.nii"))),
            {},
            "on the surface only",
        ),
        (
            change(BETAS, lambda p: p.rename(p.with_name("TYPED_FITHRF_GLMDENOISE_RR.npy"))),
            {},
            "GLMsingle's own files",
        ),
        (
            change(BETAS, double(("space-T1w", "space-MNI"))),
            {},
            "hold the same trials.*--select space=",
        ),
        (change(BETAS, double(("_space-T1w", "_run-2_space-T1w"))), {}, "hold the same trials"),
        (
            change(BETAS, double(("imagenet_", "coco_"))),
            {},
            "the tasks coco, imagenet, expected one.*task=coco",
        ),
        (change(BETAS, annex), {}, "link to content that is not on this disk: fetch it"),
        (change(BETAS, lambda p: p.write_bytes(p.read_bytes()[:99])), {}, "betas.nii.gz"),
        (change("*_events.tsv", lambda p: p.unlink()), {}, "no table of its trials"),
        (
            change("*_events.tsv", cut_rows),
            {},
            "holds 6 volumes and .* has 5 trials, 4 of them with a picture",
        ),
        (
            change("*run-2_events.tsv", double(("run-2", "acq-x_run-2"))),
            {},
            "several tables of trials",
        ),
        (
            change(
                "*_events.tsv", lambda p: p.write_text(p.read_text().replace("stim_file", "what"))
            ),
            {},
            "choose it with --stimulus",
        ),
        (
            change("*_events.tsv", lambda p: p.write_text(p.read_text().replace("\t", ","))),
            {},
            "choose it with --stimulus",
        ),
        (
            change("*_events.tsv", lambda p: p.write_text(p.read_text().replace("test", "exp"))),
            {},
            "do not say which pictures are for testing",
        ),
        (change("*brain_mask.nii.gz", lambda p: p.unlink()), {}, "sub-01 has no brain mask"),
        (
            change("*brain_mask.nii.gz", regrid),
            {},
            "neurovl resample --mask derivatives/glmsingle/sub-01/.*--like .*_betas.nii.gz --out",
        ),
        (
            change(
                "*brain_mask.nii.gz",
                lambda p: write_nifti(
                    p.with_name("sub-01_desc-brain_mask.nii.gz"),
                    np.eye(5)[:, :, None].repeat(4, 2),
                    np.diag([2.0, 2, 2, 1]),
                ),
            ),
            {},
            "2 masks that differ",
        ),
        (change("a/2.JPEG", lambda p: p.unlink()), {}, "1 of 5 pictures are missing.*a/2.JPEG"),
        (
            change("dataset_description.json", lambda p: p.write_text("{")),
            {},
            "dataset_description.json is not valid JSON",
        ),
        (None, {"derivative": "fmriprep"}, "no derivative 'fmriprep', only glmsingle"),
        (None, {"select": {"task": "coco"}}, "no single-trial betas with task-coco"),
        (None, {"stimulus": "picture"}, "expected picture: choose it with --stimulus"),
        (None, {"mask": "masks/{subject}.nii"}, "names no file of sub-01"),
        (None, {"drop": ("*",)}, "no trial is left"),
    ],
)
def test_what_is_missing_or_ambiguous_is_refused(nod, tmp_path, spoil, choice, message):
    root, _ = nod
    if spoil:
        spoil(root)
    with pytest.raises(NeurovlError, match=message) as error:
        convert_bids(root, tmp_path / "out" / "table", choice=BidsChoice(**choice))
    assert "\n" not in str(error.value) and not (tmp_path / "out" / "table").exists()
    assert not list(tmp_path.glob("out/.*"))


@pytest.mark.parametrize(
    "split, message",
    [
        (Split(images="list.txt"), "list.txt, which is missing"),
        (Split(images="a_1,zebra"), "'zebra' and 0 more that no subject saw"),
        (Split(where="trial_type"), "expected COLUMN=VALUE"),
        (Split(where="kind=test"), "no column 'kind', only"),
        (Split(shared=True), "one subject, expected two or more"),
        (Split(repeated=9), "0 of 5 pictures would be tested"),
        (Split(fraction=1.5), "between 0 and 1"),
        (Split(shared=True, fraction=0.1), "chosen twice"),
    ],
)
def test_splits_that_cannot_be(nod, tmp_path, split, message):
    with pytest.raises(NeurovlError, match=message):
        convert_bids(nod[0], tmp_path / "table", split)


def test_two_grids_in_one_subject_are_refused(things, tmp_path):
    root, _ = things
    path = (
        root / "derivatives/betas_vol/sub-02/ses-things02/sub-02_ses-things02_run-01_betas.nii.gz"
    )
    write_nifti(path, np.ones((8, 6, 5, N_TRIALS), np.float32), affine_of("sub-02"))
    with pytest.raises(
        DataError, match="run-01_betas.nii.gz has the grid .*one grid for all betas of sub-02"
    ):
        convert_bids(root, tmp_path / "table", Split(repeated=4))


def test_a_table_appears_whole_or_not_at_all(tmp_path):
    rows = [
        {
            "subject": "s1",
            "session": 1,
            "volume": "a.nii",
            "index": 0,
            "image_id": f"p{i}",
            "repeat": 0,
            "split": "train",
        }
        for i in range(2)
    ]
    for stop, words in [(True, "stop"), (False, "expected every trial once")]:
        with (
            pytest.raises((DataError, RuntimeError), match=words),
            new_table(tmp_path / "out") as folder,
        ):
            (folder / "a.nii").write_bytes(b"x")
            write_tables(folder, rows, [{"subject": "s1", "mask": "a.nii"}], {})
            if stop:
                raise RuntimeError("stop")
        assert not list(tmp_path.iterdir())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("x")
    with pytest.raises(DataError, match="is there already"), new_table(tmp_path / "out"):
        pass
    assert (tmp_path / "out/mine.txt").read_text() == "x"


def test_files_are_copied_where_links_cannot_be(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").symlink_to("a")
    place(tmp_path / "b", tmp_path / "new/b")
    assert (tmp_path / "new/b").read_bytes() == b"abc" and not (tmp_path / "new/b").is_symlink()


# ---- Haxby


@pytest.fixture
def haxby(tmp_path):
    """A small made folder in Haxby's layout: 4 runs of 3 categories, and a region."""
    folder = tmp_path / "haxby2001/subj1"
    rng = np.random.default_rng(3)
    labels = [
        (name, run)
        for run in range(4)
        for name in ("rest", "face", "house", "cat")
        for _ in range(6)
    ]
    affine = np.diag([3.5, 3.75, 3.75, 1])
    bold = rng.normal(500, 20, (6, 5, 4, len(labels))).astype(np.int16)
    write_nifti(folder / "bold.nii.gz", bold, affine)
    lines = ["labels chunks", *(f"{name} {run}" for name, run in labels)]
    (folder / "labels.txt").write_text("\n".join(lines) + "\n")
    mask = np.zeros((6, 5, 4), np.uint8)
    mask[1:5, 1:4, 1:3] = 1
    write_nifti(folder.parent / "mask.nii.gz", mask, affine)
    region = np.zeros((6, 5, 4), np.uint8)
    region[2, 2, 2] = 1
    write_nifti(folder / "mask4_vt.nii.gz", region, affine)
    return tmp_path


def check_haxby(root, out, fold):
    convert_haxby(root, out, fold)
    source, table = open_recordings(root, fold=fold), open_recordings(out)
    assert table.zscore == source.zscore == "subject" and table.licence == source.licence
    columns = ["subject", "session", "trial", "image_id", "repeat", "split"]
    pd.testing.assert_frame_equal(table.trials[columns], source.trials[columns])
    for subject in source.subjects:
        mask = source.mask(subject)
        np.testing.assert_array_equal(table.mask(subject), mask)
        for name, region in source.rois(subject).items():
            np.testing.assert_array_equal(table.rois(subject)[name], region)
        voxels = np.flatnonzero(mask.ravel(order="F"))
        for session in source.trials.session.unique():
            np.testing.assert_array_equal(
                table.session_voxels(subject, session, voxels),
                source.session_voxels(subject, session, voxels),
            )
    for image_id in source.trials.image_id:
        assert table.captions(image_id) == source.captions(image_id)


def test_haxby_as_a_table_is_the_same(haxby, tmp_path):
    check_haxby(haxby, tmp_path / "table", 2)


def test_haxby_s_tokens_are_the_same_both_ways(haxby, tmp_path):
    from neurovl.tokens.store import TokenStore
    from neurovl.tokens.writing import write_store

    convert_haxby(haxby, tmp_path / "table", 1)
    stores = []
    for name, data in (
        ("a", open_recordings(haxby, fold=1)),
        ("b", open_recordings(tmp_path / "table")),
    ):
        (tmp_path / name).mkdir()
        write_store(data, tmp_path / name, patches=[2], off_mask="zero")
        stores.append(TokenStore(tmp_path / name))
    one, other = stores
    assert one.transductive == other.transductive == {}
    np.testing.assert_array_equal(one.voxels(1), other.voxels(1))
    assert np.abs(one.voxels(1)).max() > 0.5


def test_real_haxby_as_a_table_is_the_same(shared_data, tmp_path):
    check_haxby(shared_data / "haxby", tmp_path / "table", 0)


def test_haxby_refuses(haxby, tmp_path):
    with pytest.raises(ConfigError, match="fold 4 was asked for, expected 0 to 3"):
        convert_haxby(haxby, tmp_path / "table", 4)
    with pytest.raises(MissingError, match="no subj04"):
        convert_haxby(haxby, tmp_path / "table", 0, [4])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="download haxby"):
        convert_haxby(tmp_path / "empty", tmp_path / "table", 0)
    assert not (tmp_path / "table").exists()
