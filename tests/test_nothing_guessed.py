"""What a reader cannot know it says, and what it can it reads right: order, masks, places, pictures, names, copies."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest
from own_data import contents, pictures_of
from PIL import Image
from typer.testing import CliRunner

from neurovl.cli.options import app
from neurovl.doctor.data_files import _pictures
from neurovl.errors import DataError
from neurovl.recordings.bids import BidsChoice, convert_bids
from neurovl.recordings.copies import find_copies, refuse_copies
from neurovl.recordings.opening import open_recordings
from neurovl.recordings.pictures import read_picture
from neurovl.recordings.resampling import resample_mask
from neurovl.recordings.splits import Split
from neurovl.recordings.table.table_files import read_trials
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import write_store

CHOICE = {"derivative": "betas_vol", "drop": ("catch*",)}


@pytest.fixture
def shuffled_events(things):
    """THINGS' layout with tables whose rows are shuffled, and what each row's volume is."""
    root, truth = things
    rng = np.random.default_rng(3)
    for file in root.rglob("*_conditions.tsv"):
        table = pd.read_csv(file, sep="\t", index_col=0)
        table["onset"] = 4.5 * np.arange(len(table))
        table["place"] = np.arange(len(table))
        table.sample(frac=1, random_state=int(rng.integers(99))).to_csv(file, sep="\t", index=False)
    return root, truth


def rewrite(root, change):
    for file in root.rglob("*_conditions.tsv"):
        change(pd.read_csv(file, sep="\t", dtype=str)).to_csv(file, sep="\t", index=False)


def right_volumes(out, truth):
    """Share of the trials whose volume is that of their picture."""
    data, hits, n = open_recordings(out), 0, 0
    trials = read_trials(out)
    for subject in data.subjects:
        volumes = data.volumes(subject)
        for row, volume in zip(
            trials[trials.subject == subject].itertuples(), volumes, strict=True
        ):
            run = int(row.volume.split("run-")[1][:2])
            session = int(str(row.session).removeprefix("things"))
            betas, inside = truth[subject, session, run], data.mask(subject)
            hit = [np.allclose(betas[..., k][inside], volume[inside], atol=1e-5) for k in range(14)]
            (found,) = np.flatnonzero(hit)
            name = pictures_of(subject, session, run)[found]
            hits, n = hits + (name.split("/")[-1].removesuffix(".jpg") == row.image_id), n + 1
    return hits / n


def test_rows_out_of_the_order_of_onset_are_refused_until_their_order_is_stated(
    shuffled_events, tmp_path
):
    root, truth = shuffled_events
    with pytest.raises(DataError, match="not in order of onset.*--order onset"):
        convert_bids(root, tmp_path / "none", Split(repeated=4), BidsChoice(**CHOICE))
    assert not (tmp_path / "none").exists()
    stated = {}
    for order in ("onset", "rows"):
        out = convert_bids(
            root, tmp_path / order, Split(repeated=4), BidsChoice(**CHOICE, order=order)
        )
        stated[order] = right_volumes(out, truth)
    assert stated["onset"] == 1 and stated["rows"] < 0.5


@pytest.mark.parametrize("first", [0, 1])
def test_a_column_of_positions_says_the_order(shuffled_events, tmp_path, first):
    root, truth = shuffled_events
    rewrite(root, lambda t: t.assign(beta_index=t.place.astype(int) + first).drop(columns="onset"))
    out = convert_bids(root, tmp_path / "table", Split(repeated=4), BidsChoice(**CHOICE))
    assert right_volumes(out, truth) == 1
    rewrite(root, lambda t: t.assign(beta_index=[*t.beta_index[:-1], "99"]))
    with pytest.raises(DataError, match="'beta_index', expected the position"):
        convert_bids(root, tmp_path / "other", Split(repeated=4), BidsChoice(**CHOICE))


def test_an_order_that_is_none_is_refused(things, tmp_path):
    root, _ = things
    before = contents(root)
    told = ["convert", "bids", "--data", str(root), "--out", str(tmp_path / "t"), "--order", "time"]
    result = CliRunner().invoke(app, told)
    assert result.exit_code and "--order is 'time'" in str(result.exception)
    assert contents(root) == before


@pytest.mark.parametrize(
    "name, wanted",
    [("beta_index", "index"), ("Volume Index", "index"), ("indx", "index"), ("rep", "repeat")],
)
def test_a_column_under_another_name_is_not_passed_over(own, name, wanted):
    root, _ = own
    table = pd.read_csv(root / "trials.tsv", sep="\t", dtype=str, keep_default_na=False)
    table.rename(columns={wanted: name}).to_csv(root / "trials.tsv", sep="\t", index=False)
    with pytest.raises(DataError, match=f"a column '{name}' and none named '{wanted}'"):
        open_recordings(root)


def test_columns_that_are_not_read_are_named(own, caplog):
    root, _ = own
    table = pd.read_csv(root / "trials.tsv", sep="\t", dtype=str, keep_default_na=False)
    table.assign(rt="0.5").to_csv(root / "trials.tsv", sep="\t", index=False)
    with caplog.at_level("INFO", "neurovl"):
        open_recordings(root)
    assert "columns that are not read: rt" in caplog.text


def masked(root, change):
    file = root / "sub-01_mask.nii"
    image, before = nibabel.load(file), file.read_bytes()
    values = change(np.asarray(image.dataobj, np.float32).copy())
    nibabel.save(nibabel.Nifti1Image(values, image.affine), file)
    n = open_recordings(root).mask("sub-01").sum()
    file.write_bytes(before)
    return n


def test_a_background_that_is_nearly_nothing_is_none(own):
    root, _ = own
    assert masked(root, lambda mask: np.where(mask > 0, 1, 1e-38)) == 18
    assert masked(root, lambda mask: np.where(mask > 0, 0.99999, np.nan)) == 18
    assert masked(root, lambda mask: 7 * mask) == 18  # a label


@pytest.mark.parametrize("value", [0.5, 0.02, 1.5])
def test_an_interpolated_mask_is_refused(own, value):
    def interpolated(mask):
        mask[0, 0, 0] = value
        return mask

    with pytest.raises(DataError, match="1 values between whole numbers.*threshold"):
        masked(own[0], interpolated)


def test_an_affine_that_states_no_place_is_not_resampled_by(own, tmp_path):
    root, _ = own
    file = root / "sub-01_mask.nii"
    mask = np.asarray(nibabel.load(file).dataobj).copy()
    nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), file)  # rebuilt by hand
    with pytest.raises(DataError, match="the affine of sub-01_mask.nii is the identity") as refused:
        open_recordings(root).mask("sub-01")
    assert "neurovl resample" not in str(refused.value)
    with pytest.raises(DataError, match="identity"):
        resample_mask(file, root / "all.nii.gz", tmp_path / "out.nii.gz")
    assert not (tmp_path / "out.nii.gz").exists()
    shifted = np.diag([3.0, 3, 3, 1]) + np.array([[0, 0, 0, 9]] + 3 * [[0] * 4])
    nibabel.save(nibabel.Nifti1Image(mask, shifted), file)  # elsewhere, and so it says
    with pytest.raises(DataError, match="neurovl resample"):
        open_recordings(root).mask("sub-01")


def test_grey_levels_of_16_bits_keep_their_steps(tmp_path):
    levels = np.arange(0, 65536, 257, dtype=np.uint16)[None]
    Image.fromarray(levels).save(tmp_path / "grey.png")
    found = np.asarray(read_picture(tmp_path / "grey.png", "grey.png"))
    np.testing.assert_array_equal(found[0, :, 0], np.arange(256))
    Image.fromarray(np.float32([[0.1, 0.9]])).save(tmp_path / "numbers.tiff")
    with pytest.raises(DataError, match="numbers from 0.1 to 0.9, expected grey levels"):
        read_picture(tmp_path / "numbers.tiff", "numbers.tiff")


def test_a_photo_is_turned_as_its_camera_says(tmp_path):
    picture = Image.new("RGB", (4, 2))
    picture.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right
    picture.save(tmp_path / "photo.png", exif=exif)
    turned = read_picture(tmp_path / "photo.png", "photo.png")
    assert turned.size == (2, 4) and turned.getpixel((1, 0)) == (255, 255, 255)


def test_what_shows_through_a_picture_is_stated_by_its_user(own):
    root, _ = own
    layered = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    layered.putpixel((0, 0), (0, 255, 0, 255))
    layered.save(root / "stimuli/pic0.png")
    with pytest.raises(DataError, match="transparent in parts.*background"):
        open_recordings(root).image("pic0")
    about = json.loads((root / "dataset.json").read_text())
    (root / "dataset.json").write_text(json.dumps(about | {"background": "#808080"}))
    shown = open_recordings(root).image("pic0")
    assert shown.getpixel((0, 0)) == (0, 255, 0) and shown.getpixel((5, 5)) == (128, 128, 128)
    (root / "dataset.json").write_text(json.dumps(about | {"background": "dark"}))
    with pytest.raises(DataError, match="background 'dark', expected a colour"):
        open_recordings(root)
    layered.putalpha(255)
    layered.save(root / "stimuli/pic0.png")
    (root / "dataset.json").write_text(json.dumps(about))
    assert open_recordings(root).image("pic0").getpixel((5, 5)) == (255, 0, 0)


def test_films_and_two_files_of_one_picture_are_refused(own):
    root, _ = own
    frames = [Image.new("RGB", (8, 8), (k, 0, 0)) for k in (0, 200)]
    frames[0].save(root / "film.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match="holds 2 pictures"):
        read_picture(root / "film.gif", "film.gif")
    Image.new("RGB", (8, 8)).save(root / "stimuli/pic1.webp")
    with pytest.raises(DataError, match="'pic1' has 2 files"):
        open_recordings(root)
    (root / "stimuli/pic1.png").unlink()
    assert open_recordings(root).image("pic1").size == (8, 8)  # of what Pillow reads


def test_pictures_and_subjects_may_be_named_as_missing_values_are(own, tmp_path):
    root, _ = own
    names = dict(zip(("pic0", "pic1", "pic2"), ("NA", "null", "007"), strict=True))
    for table in ("trials.tsv", "captions.tsv"):
        frame = pd.read_csv(root / table, sep="\t", dtype=str, keep_default_na=False)
        frame["image_id"] = frame.image_id.map(names)
        if "subject" in frame:
            frame["subject"] = frame.subject.replace({"sub-02": "nan"})
            frame["session"] = frame.session.replace({"1": "1e1", "2": "None"})
        frame.to_csv(root / table, sep="\t", index=False)
    subjects = (root / "subjects.tsv").read_text().replace("sub-02\t", "nan\t")
    (root / "subjects.tsv").write_text(subjects)
    for old, new in names.items():
        (root / f"stimuli/{old}.png").rename(root / f"stimuli/{new}.png")
    data = open_recordings(root)
    (tmp_path / "tokens").mkdir()
    write_store(data, tmp_path / "tokens", patches=[2], target=None, off_mask="own", n_jobs=1)
    store = TokenStore(tmp_path / "tokens")
    pd.testing.assert_frame_equal(store.trials, data.trials, check_dtype=False)
    assert store.subjects == ["sub-01", "nan"] and set(store.trials.image_id) == set(names.values())
    assert len(store.tokens(subject="nan", image_id="NA")) == 1  # the mean of its repeats


def noise(seed, size=(64, 48)):
    """A picture with structure at every scale."""
    rng = np.random.default_rng(seed)
    levels = sum(
        np.asarray(Image.fromarray(rng.integers(0, 128 // k, (k, k, 3), np.uint8)).resize(size))
        for k in (4, 8, 2)
    )
    return Image.fromarray(np.clip(levels, 0, 255).astype(np.uint8))


def test_a_test_picture_among_those_for_training_is_found_by_its_pixels(own):
    root, _ = own
    for k in range(3):
        noise(k).save(root / f"stimuli/pic{k}.png")
    data = open_recordings(root)
    assert find_copies(data).exact == find_copies(data).near == []
    refuse_copies(data)
    noise(0).save(root / "stimuli/pic2.png", optimize=True)  # another file, the same pixels
    with pytest.raises(DataError, match="1 test pictures are training pictures.*'pic2'.*'pic0'"):
        refuse_copies(open_recordings(root))
    assert any(finding.stops for finding in _pictures(open_recordings(root)))


@pytest.mark.parametrize("how", ["jpeg", "smaller"])
def test_nearly_the_same_picture_is_told(own, caplog, how):
    root, _ = own
    for k in range(2):
        noise(k).save(root / f"stimuli/pic{k}.png")
    (root / "stimuli/pic2.png").unlink()
    if how == "jpeg":
        noise(1).save(root / "stimuli/pic2.jpg", quality=60)
    else:
        noise(1).resize((48, 36)).save(root / "stimuli/pic2.png")
    data = open_recordings(root)
    assert find_copies(data).near == [("pic2", "pic1")]
    refuse_copies(data)
    assert "1 test pictures look nearly the same" in caplog.text
    rows = _pictures(data)
    assert not rows[-1].ok and not rows[-1].stops
