"""Each assumption of a reader that was silent once: checked, or stated by the user (book/assumptions.md lists them all)."""

import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from own_data import N_TRIALS, affine_of, pictures_of, write_nifti
from PIL import Image

from neurovl.errors import DataError
from neurovl.recordings.bids import BidsChoice, convert_bids
from neurovl.recordings.copies import find_copies
from neurovl.recordings.nsd import NSDRecordings
from neurovl.recordings.opening import open_recordings
from neurovl.recordings.pictures import read_picture
from neurovl.recordings.splits import Split
from neurovl.recordings.table.table_writer import write_tables
from neurovl.tokens.patch_plan import require_millimetres
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import write_store

GUARDS = {  # of the page, and of what must go on working
    "test_the_page_names_tests_that_are_there",
    "test_names_of_numbers_with_different_values_stay",
    "test_tables_that_are_written_here_say_where_they_count_from",
}
CHOICE = {"derivative": "betas_vol", "drop": ("catch*",)}


TESTS = Path(__file__).parent


def test_the_page_names_tests_that_are_there():
    page = (TESTS.parent / "book/assumptions.md").read_text()
    rows = [line.split("|")[1:-1] for line in page.splitlines() if line.startswith("| ")]
    assert len(rows) > 50 and {len(row) for row in rows} == {3}
    named = re.findall(r"`(test_\w+)::(test_\w+)`", page)
    for file, test in named:
        assert f"def {test}(" in (TESTS / f"{file}.py").read_text(), f"{file}::{test}"
    cases = [
        c
        for part in re.findall(r"\*bad input\*: ([^|;]*)", page)
        for c in re.findall(r"`([^`]+)`", part)
    ]
    known = "".join(path.read_text() for path in (TESTS / "bad_input").glob("cases_*.py"))
    assert len(cases) > 15 and all(f'"{case}"' in known for case in cases), cases
    own = set(re.findall(r"^def (test_\w+)", Path(__file__).read_text(), re.MULTILINE))
    unnamed = own - {test for _, test in named} - GUARDS
    assert not unnamed, "a check that the page does not list"


def change(path, edit):
    """Rewrite a table of text."""
    table = pd.read_csv(path, sep="\t", dtype=str, keep_default_na=False)
    edit(table).to_csv(path, sep="\t", index=False)


def state(root, **facts):
    about = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(about | facts))


def convert(root, out, **choice):
    return convert_bids(root, out, Split(repeated=4), BidsChoice(**CHOICE, **choice))


def test_sessions_whose_rows_alternate_are_read_back_as_they_are(own, tmp_path):
    root, truth = own
    change(root / "trials.tsv", lambda t: t.assign(session=[1, 2] * (len(t) // 2)))
    write_store(open_recordings(root), tmp_path, patches=[2])
    store = TokenStore(tmp_path)
    data = truth["sub-01"].reshape(6, -1, order="C")[:, store.region]
    inside = store.measured("sub-01")
    found = store.voxels("sub-01")[:, inside]
    for session in (0, 1):  # z-scores by all trials of a session: few are for training
        rows = np.arange(session, 6, 2)
        own_rows = data[rows][:, inside]
        z = (own_rows - own_rows.mean(0)) / own_rows.std(0)
        np.testing.assert_allclose(found[rows], z, atol=5e-3)


@pytest.mark.parametrize(
    "column, old, new",
    [
        ("image_id", "pic0", "Pic0"),
        ("image_id", "pic0", "pic00"),
        ("subject", "sub-01", "sub-1"),
        ("session", "1", "01"),
    ],
)
def test_two_names_of_one_thing_are_refused(own, column, old, new):
    root, _ = own

    def once(table):
        table.loc[table.index[table[column] == old][0], column] = new
        return table

    change(root / "trials.tsv", once)
    names = {old, new}
    with pytest.raises(
        DataError, match=f"the {column} '.*' in line .* and '.*' in line"
    ) as refused:
        open_recordings(root)
    assert names == set(re.findall(r"'([^']*)' in line", str(refused.value)))


def test_accents_coded_in_two_ways_are_one_name(own):
    root, _ = own
    text = (
        (root / "trials.tsv").read_text().replace("pic1", "caf\u00e9").replace("pic2", "cafe\u0301")
    )
    (root / "trials.tsv").write_text(text)
    with pytest.raises(DataError, match="coding of accents"):
        open_recordings(root)


def test_names_of_numbers_with_different_values_stay(own):
    root, _ = own
    for old, new in (("pic0", "contrast_0.5"), ("pic1", "contrast_0.05"), ("pic2", "10")):
        (root / f"stimuli/{old}.png").rename(root / f"stimuli/{new}.png")
        for name in ("trials.tsv", "captions.tsv"):
            change(root / name, lambda t, a=old, b=new: t.replace(a, b))
    assert set(open_recordings(root).trials.image_id) == {"contrast_0.5", "contrast_0.05", "10"}


def test_where_the_index_counts_from_is_known_or_stated(own):
    root, truth = own
    drop = lambda t: t[(t.subject != "sub-01") | (t["index"] != "0")]  # noqa: E731
    change(root / "trials.tsv", drop)
    with pytest.raises(DataError, match="no row with the index 0, the lowest is 1.*index_from"):
        open_recordings(root)
    for first, expected in ((0, slice(1, 6)), (1, slice(0, 5))):
        state(root, index_from=first)
        np.testing.assert_allclose(
            open_recordings(root).volumes("sub-01"), truth["sub-01"][expected], atol=1e-4
        )
    change(root / "trials.tsv", lambda t: t.assign(index=t["index"].replace("1", "0")))
    with pytest.raises(DataError, match="the index 0 in line 2, expected 1 or more"):
        open_recordings(root)
    state(root, index_from=2)
    with pytest.raises(DataError, match="index_from 2, expected 0 or 1"):
        open_recordings(root)


def test_tables_that_are_written_here_say_where_they_count_from(tmp_path):
    row = dict.fromkeys("subject session volume index image_id repeat split".split(), "x")
    write_tables(tmp_path, [row], [{"subject": "x", "mask": "m"}], {"name": "mine"})
    assert json.loads((tmp_path / "dataset.json").read_text()) == {"name": "mine", "index_from": 0}


def test_a_unit_that_is_not_stated_is_none(own):
    root, _ = own
    (root / "dataset.json").unlink()
    assert open_recordings(root).units == "not stated (dataset.json)"


def test_a_figure_has_the_unit_of_the_data(own):
    from neurovl.figures.inputs import session

    root, _ = own
    state(root, units="arbitrary units")
    axes = session(open_recordings(root), "sub-01").axes
    assert "arbitrary units" in {axis.get_ylabel() for axis in axes}


def test_tables_of_other_pictures_are_refused(own, caplog):
    root, _ = own
    text = "image_id\tcategory\tx0\ty0\tx1\ty1\npic0.png\tdog\t0\t0\t1\t1\n"
    (root / "objects.tsv").write_text(text)
    with pytest.raises(DataError, match="objects.tsv is about 1 pictures.*'pic0.png'.*'pic0'"):
        open_recordings(root)
    (root / "objects.tsv").write_text(text + "pic0\tdog\t0\t0\t1\t1\n")
    with caplog.at_level("INFO", "neurovl"):
        assert len(open_recordings(root).objects("pic0")) == 1
    assert "objects.tsv: 1 pictures that no trial showed" in caplog.text


def test_one_volume_under_two_names_is_refused(own):
    root, _ = own
    (root / "link.nii.gz").symlink_to("trial0.nii.gz")
    change(root / "trials.tsv", lambda t: t.replace("trial1.nii.gz", "link.nii.gz"))
    with pytest.raises(DataError, match="one file as trial0.nii.gz and as link.nii.gz"):
        open_recordings(root)


def test_a_region_outside_the_mask_is_told(own, caplog):
    root, _ = own
    image = nibabel.load(root / "sub-01_ffa.nii")
    region = np.zeros(image.shape, np.uint8)
    region[0, 0, 0] = 1
    nibabel.save(nibabel.Nifti1Image(region, image.affine), root / "sub-01_ffa.nii")
    assert open_recordings(root).rois("sub-01")["FFA"].sum() == 1
    assert "region FFA of sub-01 (sub-01_ffa.nii) has no voxel in the mask" in caplog.text


def headed(path, edit):
    image = nibabel.load(path)
    image = nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header)
    edit(image)
    path.unlink()
    nibabel.save(image, path)


@pytest.mark.parametrize("unit, words", [("meter", "metres"), ("micron", "micrometres")])
def test_lengths_in_other_units_are_refused(own, unit, words):
    root, _ = own
    headed(root / "sub-01_mask.nii", lambda image: image.header.set_xyzt_units(xyz=unit))
    with pytest.raises(DataError, match=f"3 x 3 x 3 {words}, expected 0.05 to 50 millimetres"):
        open_recordings(root).mask("sub-01")


def test_voxels_of_three_metres_are_refused(own):
    root, _ = own
    headed(
        root / "sub-01_mask.nii", lambda image: image.set_sform(np.diag([3000.0, 3000, 3000, 1]))
    )
    with pytest.raises(DataError, match=r"3e\+03 x 3e\+03 x 3e\+03, expected 0.05 to 50"):
        open_recordings(root).mask("sub-01")


def test_two_affines_that_disagree_on_left_and_right_are_refused(own):
    root, _ = own
    mask = root / "sub-01_mask.nii"
    tilted = np.diag([3.0, 3, 3, 1])
    tilted[:2, :2] = 3 * np.array([[0.99, -0.14], [0.14, 0.99]])
    headed(mask, lambda image: image.set_qform(tilted, code=1))  # aligned a little: by the sform
    assert open_recordings(root).mask("sub-01").sum() == 18
    headed(mask, lambda image: image.set_qform(np.diag([-3.0, 3, 3, 1]), code=1))
    with pytest.raises(DataError, match="sform and a qform that disagree.*left and right"):
        open_recordings(root).mask("sub-01")


def test_millimetres_need_an_affine_that_states_them(own, tmp_path):
    root, _ = own
    require_millimetres([4, (3, 3, 1)], np.eye(4), "anna")
    for path in root.glob("*.nii*"):
        image = nibabel.load(path)
        data = np.asarray(image.dataobj)
        path.unlink()
        nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    with pytest.raises(
        DataError, match="'25.2mm', and the affine of the mask of sub-01 is the ident"
    ):
        write_store(open_recordings(root), tmp_path, patches=["25.2mm"])


def test_pictures_that_are_not_square_are_told(own, caplog):
    root, _ = own
    find_copies(open_recordings(root))
    assert "square" not in caplog.text
    Image.new("RGB", (8, 6), (80, 0, 0)).save(root / "stimuli/pic2.png")
    find_copies(open_recordings(root))
    assert "1 of 3 pictures are not square, such as pic2" in caplog.text


@pytest.mark.parametrize("mode", ["CMYK", "LAB"])
def test_colours_of_no_screen_are_refused(tmp_path, mode):
    Image.new(mode, (4, 4)).save(tmp_path / "print.tiff")
    with pytest.raises(DataError, match=f"^print.tiff has the colours {mode}, expected RGB"):
        read_picture(tmp_path / "print.tiff", "print.tiff")


def test_two_data_sets_in_one_folder_are_refused(own):
    root, _ = own
    (root / "nsddata").mkdir()
    with pytest.raises(DataError, match="holds nsddata/ and trials.tsv, expected one data set"):
        open_recordings(root)


def conditions(root, edit):
    for path in root.rglob("*_conditions.tsv"):
        change(path, lambda t: edit(t.loc[:, ~t.columns.str.startswith("Unnamed")]))


def test_columns_that_name_other_pictures_ask_for_a_statement(things, tmp_path):
    root, _ = things
    conditions(root, lambda t: t.assign(stimulus=t.image_filename.str.split("/").str[0]))
    convert(root, tmp_path / "same")  # the folders tell the same pictures apart
    conditions(root, lambda t: t.assign(stim_id=np.arange(len(t)) // 2))
    with pytest.raises(DataError, match="image_filename and stim_id.*--stimulus image_filename or"):
        convert(root, tmp_path / "guessed")
    convert(root, tmp_path / "stated", stimulus="image_filename")


def test_two_columns_of_positions_must_agree(things, tmp_path):
    root, _ = things
    up = np.arange(N_TRIALS)
    conditions(root, lambda t: t.assign(beta_index=up, trial_index=up + 1))
    convert(root, tmp_path / "agreed")
    conditions(root, lambda t: t.assign(trial_index=up[::-1]))
    with pytest.raises(DataError, match="'beta_index' and 'trial_index'.*different orders"):
        convert(root, tmp_path / "none")


@pytest.mark.parametrize("order", ["onset", "rows"])
def test_an_order_that_contradicts_the_positions_is_refused(things, tmp_path, order):
    root, _ = things
    up = np.arange(N_TRIALS)
    conditions(root, lambda t: t.assign(beta_index=up, onset=2.0 * up))
    convert(root, tmp_path / "agreed", order=order)
    conditions(root, lambda t: t.assign(beta_index=up[::-1]))
    with pytest.raises(DataError, match=f"--order is '{order}' and the column 'beta_index'"):
        convert(root, tmp_path / "none", order=order)


def paint(root, names):
    for name in names:
        path = root / "stimuli" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)


def all_pictures():
    subject_free = [pictures_of("", s, r) for s in (1, 2) for r in (1, 2)]
    return sorted({n for names in subject_free for n in names if "catch" not in n})


def test_two_files_of_one_picture_are_refused_by_the_converter(things, tmp_path):
    root, _ = things
    conditions(root, lambda t: t.replace(r"\.jpg$", "", regex=True))
    paint(root, all_pictures())
    convert(root, tmp_path / "one")
    paint(root, ["cat/cat_01.png"])
    with pytest.raises(DataError, match="cat/cat_01 has 2 files, cat_01.jpg and cat_01.png"):
        convert(root, tmp_path / "two")


def test_one_file_of_two_pictures_is_refused(things, tmp_path):
    """'a/1.jpg' and 'b/1.jpg' were shown, and the folder holds one '1.jpg'."""
    root, _ = things
    folders = {"cat/cat_01.jpg": "cat/01.jpg", "dog/dog_01.jpg": "dog/01.jpg"}
    conditions(root, lambda t: t.replace(folders))
    paint(root, {folders.get(name, name) for name in all_pictures()})
    data = open_recordings(convert(root, tmp_path / "two"))
    assert {"cat_01", "dog_01"} <= set(data.trials.image_id)
    for name in folders.values():
        (root / "stimuli" / name).unlink()
    paint(root, ["01.jpg"])
    with pytest.raises(DataError, match="would both be the file 01.jpg"):
        convert(root, tmp_path / "one")


def test_a_mask_on_another_grid_is_passed_over_and_the_one_taken_is_named(things, tmp_path, caplog):
    root, _ = things
    fine = np.ones((12, 14, 10), np.uint8)
    for subject in ("sub-01", "sub-02"):
        write_nifti(root / f"{subject}/anat/{subject}_desc-brain_mask.nii.gz", fine, np.eye(4))
    with caplog.at_level("INFO", "neurovl"):
        data = open_recordings(convert(root, tmp_path / "table"))
    np.testing.assert_array_equal(data.affine("sub-01"), affine_of("sub-01"))
    assert "mask of sub-01, by its name: derivatives/brainmasks/sub-01" in caplog.text


def test_two_marks_of_test_pictures_that_disagree_are_refused():
    trials = pd.DataFrame({"image_id": list("abc"), "trial_type": ["test", "exp", "exp"]})
    trials = trials.assign(subject="sub-01", stimulus="x", split=["test", "train", "train"])
    assert Split().choose(trials)[0] == {"a"}
    with pytest.raises(DataError, match="1 pictures with trial_type=test and 1 with split=test"):
        Split().choose(trials.assign(split=["train", "test", "train"]))


@pytest.fixture
def nsd(tiny_nsd, tmp_path):
    """Subject 1 of a simulated NSD, to be spoiled."""
    root = tmp_path / "nsd"
    leave = shutil.ignore_patterns("subj02", "nsd_stimuli.hdf5", "truth")
    shutil.copytree(tiny_nsd, root, ignore=leave)
    return root


def test_a_noise_ceiling_in_percent_is_refused(nsd):
    path = next(nsd.rglob("ncsnr.nii.gz"))
    image = nibabel.load(path)
    open_recordings(nsd).noise_ceiling(1)
    write_nifti(path, np.full(image.shape, 34.0, np.float32), image.affine)
    with pytest.raises(DataError, match="ncsnr.nii.gz of subj01 holds 34, expected 0 to 10"):
        open_recordings(nsd).noise_ceiling(1)


def test_betas_that_were_divided_by_300_already_are_refused(nsd):
    path = next(nsd.rglob("betas_session01.nii.gz"))
    image = nibabel.load(path)
    betas = np.asarray(image.dataobj).astype(np.float32)
    expected = NSDRecordings(nsd).volumes(1, [3])
    path.unlink()
    (path.parent / "betas_session01.hdf5").unlink(missing_ok=True)
    write_nifti(path, betas, image.affine)
    np.testing.assert_array_equal(NSDRecordings(nsd).volumes(1, [3]), expected)
    write_nifti(path, betas / 300, image.affine)
    with pytest.raises(DataError, match="hold.* real numbers that vary by .*expected 300 times"):
        NSDRecordings(nsd).volumes(1, [3])


def test_a_record_of_other_pictures_than_the_design_s_is_refused(nsd):
    path = next(nsd.rglob("responses.tsv"))
    table = pd.read_csv(path, sep="\t")
    assert (table.SESSION == 1).sum() == 750
    swapped = table.copy()
    swapped.loc[[10, 11], "73KID"] = table["73KID"][[11, 10]].to_numpy()
    assert swapped["73KID"][10] != table["73KID"][10]
    for wrong, words in (
        (swapped, "other pictures in session 1"),
        (table[1:], "749 trials in session"),
    ):
        wrong.to_csv(path, sep="\t", index=False)
        with pytest.raises(DataError, match=f"responses.tsv of subj01 has {words}"):
            open_recordings(nsd)
    path.write_text("no table")
    with pytest.raises(DataError, match="responses.tsv of subj01 cannot be read"):
        open_recordings(nsd)
    path.unlink()
    assert len(open_recordings(nsd).trials) == 750
