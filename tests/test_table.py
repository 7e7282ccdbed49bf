"""One's own table: NIfTI of any kind on any grid, and one sentence for whatever is wrong with it."""

import json
import re
import shlex
import shutil
import tracemalloc

import nibabel
import numpy as np
import pandas as pd
import pytest
from nibabel import orientations
from own_data import COLUMNS
from typer.testing import CliRunner

from neurovl.cli.options import app
from neurovl.errors import DataError, MissingError, NeurovlError
from neurovl.recordings.opening import open_recordings
from neurovl.recordings.resampling import resample_mask


def save(path, data, affine=None, kind=nibabel.Nifti1Image):
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(kind(data, np.eye(4) if affine is None else affine), path)


def write(root, trials, subjects=(("sub-01", "mask.nii"),), columns=("subject", "mask")):
    frame = pd.DataFrame(trials, columns=COLUMNS)
    frame.to_csv(root / "trials.tsv", sep="\t", index=False)
    frame = pd.DataFrame(subjects, columns=columns)
    frame.to_csv(root / "subjects.tsv", sep="\t", index=False)
    return root


def test_table(own):
    root, truth = own
    data = open_recordings(root)
    assert data.name == "mine" and data.licence == "CC0" and not data.simulated
    assert data.subjects == ["sub-01", "sub-02"] and data.subject_name(2) == "sub-02"
    for subject, expected in truth.items():
        np.testing.assert_allclose(data.volumes(subject), expected, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(data.volumes(subject, [4, 0]), expected[[4, 0]], rtol=1e-5)
        assert data.mask(subject).sum() == 18 and data.rois(subject)["FFA"].sum() == 1
        assert data.affine(subject)[0, 0] == 3
    trials = data.subject_trials(1)
    assert trials["repeat"].tolist() == [0, 1] * 3 and trials.session.tolist() == [1] * 3 + [2] * 3
    assert trials.split.tolist() == ["train"] * 4 + ["test"] * 2
    assert data.captions("pic0") == ["a dog.", "a dog on grass."] and data.captions("pic2") == [
        "a cow."
    ]
    assert data.image("pic2").getpixel((0, 0)) == (80, 0, 0)


def test_table_in_another_orientation(own):
    """A file stored right to left holds the same brain."""
    root, truth = own
    data = nibabel.load(root / "all.nii.gz").get_fdata()  # (x, y, z, trials), 3 mm, from the left
    # stored as (z, x from the right, y), big-endian NIfTI-2
    affine = np.array([[0, -3, 0, 12], [0, 0, 3, 0], [3, 0, 0, 0], [0, 0, 0, 1.0]])
    swapped = nibabel.Nifti2Image(data[::-1].transpose(2, 0, 1, 3).astype(">f4"), affine)
    nibabel.save(swapped, root / "all.nii.gz")
    np.testing.assert_allclose(open_recordings(root).volumes(1), truth["sub-01"], atol=1e-4)


@pytest.mark.parametrize("axes", ["LAS", "PIR", "ASL"])
def test_subjects_stored_in_other_orientations_are_turned_to_the_first(own, axes):
    """A patch must be the same place of the brain in every subject, whatever order the files have."""
    root, truth = own
    before = open_recordings(root)
    regions, affine = before.rois(2), before.affine(2)
    for path in [*root.glob("sub-02_*.nii"), *root.glob("trial*.nii.gz")]:
        image = nibabel.load(path)
        turn = orientations.ornt_transform(
            orientations.io_orientation(image.affine), orientations.axcodes2ornt(axes)
        )
        turned = nibabel.Nifti1Image.from_image(image.as_reoriented(turn))
        path.unlink()
        nibabel.save(turned, path)
    assert (
        nibabel.load(root / "sub-02_mask.nii").shape == turned.shape != (7, 5, 3) or axes == "LAS"
    )
    for subjects in (None, ["sub-02"]):
        data = open_recordings(root, subjects=subjects)
        np.testing.assert_allclose(data.volumes("sub-02"), truth["sub-02"], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(data.affine("sub-02"), affine, atol=1e-6)
        for name, region in data.rois("sub-02").items():
            np.testing.assert_array_equal(region, regions[name])


def edit(column, value, row=0, table="trials.tsv"):
    def change(root):
        frame = pd.read_csv(root / table, sep="\t", dtype=str, keep_default_na=False)
        frame.loc[row, column] = value
        frame.to_csv(root / table, sep="\t", index=False)

    return change


def shifted(root):
    image = nibabel.load(root / "all.nii.gz")
    affine = image.affine.copy()
    affine[0, 3] += 30
    nibabel.save(nibabel.Nifti1Image(image.get_fdata(), affine), root / "all.nii.gz")


def outside_link(root):
    (root.parent / "secret.nii").write_bytes(b"x")
    (root / "link.nii").symlink_to(root.parent / "secret.nii")
    edit("volume", "link.nii")(root)


def cut(root):
    content = (root / "all.nii.gz").read_bytes()
    (root / "all.nii.gz").write_bytes(content[: len(content) // 2])


def no_column(root):
    frame = pd.read_csv(root / "trials.tsv", sep="\t").drop(columns="split")
    frame.to_csv(root / "trials.tsv", sep="\t", index=False)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (edit("volume", "nothing.nii.gz"), "names 'nothing.nii.gz', which is missing"),
        (edit("volume", "../out.nii.gz"), "lies outside the data folder"),
        (edit("volume", "/etc/passwd"), "lies outside the data folder"),
        (edit("mask", "../mask.nii", table="subjects.tsv"), "lies outside the data folder"),
        (outside_link, "lies outside the data folder"),
        (edit("index", "6", row=5), "index 6 was expected on its fourth axis"),
        (edit("index", "-1"), "expected a whole number from 0"),
        (edit("index", ""), "holds 6 volumes and trials.tsv gives no index"),
        (edit("split", "validation"), "the split validation in line 2, expected train or test"),
        (edit("split", "test"), "both train and test, the first is image 'pic0'"),
        (edit("image_id", "pic9"), "image 'pic9' has no picture: expected stimuli/pic9.png"),
        (edit("image_id", "../pic0"), "image_id '../pic0' in line 2, expected a plain name"),
        (edit("image_id", ""), "no image_id in line 2"),
        (edit("volume", "sub-02_ffa.nii"), r"grid \(7, 5, 3\).*grid \(5, 6, 4\)"),
        (edit("mask", "", table="subjects.tsv"), "no mask for sub-01"),
        (edit("subject", "sub-09", table="subjects.tsv"), "no mask for sub-01"),
        (shifted, "lies 30.0 mm away"),
        (cut, "all.nii.gz.*cut short"),
        (no_column, "expected also split"),
        (lambda root: (root / "subjects.tsv").unlink(), "subjects.tsv is missing"),
        (lambda root: (root / "dataset.json").write_text("{"), "dataset.json is not valid JSON"),
        (lambda root: (root / "trials.tsv").write_text(""), "trials.tsv is empty"),
        (lambda root: (root / "stimuli/pic0.png").write_text("x"), "not a readable picture"),
    ],
)
def test_broken_table(own, spoil, message):
    root, _ = own
    spoil(root)
    with pytest.raises(NeurovlError, match=message):
        data = open_recordings(root)
        data.volumes("sub-01")
        for image_id in data.trials.image_id.unique():
            data.image(image_id)


def test_table_without_pictures(own):
    root, _ = own
    shutil.rmtree(root / "stimuli")
    data = open_recordings(root)
    assert not data.has_images and data.captions("pic1") == ["a cat."]
    with pytest.raises(MissingError, match="no pictures"):
        data.image("pic1")


# ---- headers


@pytest.mark.parametrize("axes", ["RAS", "LAS", "PIR", "SLA"])
@pytest.mark.parametrize(
    "kind, dtype, slope, ending",
    [
        ("Nifti1", "int16", None, ".nii.gz"),
        ("Nifti1", ">i2", (0.5, 3.0), ".nii"),
        ("Nifti2", "uint8", (0.25, -7.0), ".nii.gz"),
        ("Nifti2", ">f4", None, ".nii"),
        ("Nifti1", "float64", None, ".nii.gz"),
        ("Nifti1", "int32", (1.0, 1000.0), ".nii"),
    ],
)
def test_any_header_reads_as_nibabel_does(tmp_path, axes, kind, dtype, slope, ending):
    """A 4-D file in another orientation than the mask, at some voxels, against nibabel's own turning."""
    affine = np.array([[2, 0.1, 0, -9], [-0.1, 2, 0.3, 4], [0, -0.3, 2.5, 1], [0, 0, 0, 1.0]])
    data = np.random.default_rng(0).integers(0, 200, (5, 6, 4, 3)).astype(dtype)
    turn = orientations.ornt_transform(
        orientations.io_orientation(affine), orientations.axcodes2ornt(axes)
    )
    stored = orientations.apply_orientation(data, turn)
    there = affine @ orientations.inv_ornt_aff(turn, data.shape[:3])
    image = getattr(nibabel, f"{kind}Image")(stored, there)
    header = image.header.as_byteswapped(">") if dtype.startswith(">") else image.header
    header.set_data_dtype(dtype)
    header["pixdim"][4] = 2000  # milliseconds
    image = type(image)(stored, there, header)
    image.set_qform(None, code=0)  # the sform alone
    nibabel.save(image, tmp_path / f"betas{ending}")
    if slope:
        rescale(tmp_path / f"betas{ending}", image, slope)
    mask = np.zeros((5, 6, 4), np.uint8)
    mask[1:4, 2:5, 1:3] = 1
    save(tmp_path / "mask.nii", mask, affine)
    trials = [["sub-01", 1, f"betas{ending}", i, f"p{i}", "", "train"] for i in (2, 0)]
    recordings = open_recordings(write(tmp_path, trials))
    loaded = nibabel.load(tmp_path / f"betas{ending}")
    assert loaded.header.endianness == (">" if dtype.startswith(">") else "<")
    expected = nibabel.as_closest_canonical(loaded).get_fdata()[..., [2, 0]]
    assert not slope or expected.max() != data.max()
    np.testing.assert_allclose(
        recordings.volumes(1), np.moveaxis(expected, -1, 0), rtol=1e-6, atol=1e-6
    )
    voxels = np.array([7, 8, 40, 119])
    values = recordings.session_voxels("sub-01", 1, voxels)
    np.testing.assert_allclose(
        values, expected.reshape(-1, 2, order="F")[voxels].T, rtol=1e-6, atol=1e-6
    )
    if dtype == "int16":
        assert values.dtype == np.int16


def rescale(path, image, slope):
    """Write scale factors into a header, as nibabel chooses its own when it saves."""
    header = image.header.copy()
    image.to_filename(path)
    start = header.sizeof_hdr
    header["scl_slope"], header["scl_inter"] = slope
    header["vox_offset"] = nibabel.load(path).dataobj.offset
    header["magic"] = b"n+1" if start == 348 else b"n+2"
    opener = nibabel.openers.Opener
    with opener(path) as file:
        content = file.read()
    with opener(path, "wb") as file:
        file.write(header.binaryblock + content[start:])


@pytest.mark.parametrize(
    "name",
    """anatomical.nii example4d.nii.gz example_nifti2.nii.gz functional.nii reoriented_anat_moved.nii
    resampled_anat_moved.nii someones_epi.nii.gz""".split(),
)
def test_real_headers_read_as_nibabel_does(shared_data, tmp_path, name):
    """Big-endian, NIfTI-2, oblique, scaled, NaN: each as volume under a mask of another orientation."""
    image = nibabel.load(shared_data / "nifti" / name)
    shutil.copy(shared_data / "nifti" / name, tmp_path / name)
    canonical = nibabel.as_closest_canonical(image)
    expected = canonical.get_fdata().reshape(*canonical.shape[:3], -1)
    mask = np.isfinite(expected).all(-1) & (expected.var(-1) > 0 if image.ndim == 4 else True)
    assert mask.any()
    save(tmp_path / "mask.nii", mask.astype(np.uint8), canonical.affine)
    places = range(image.shape[3]) if image.ndim == 4 else [""]
    trials = [["sub-01", 1, name, i, f"p{i}", "", "train"] for i in places]
    data = open_recordings(write(tmp_path, trials))
    volumes = data.volumes(1)
    assert volumes.dtype == np.float32 and volumes.shape == (len(trials), *mask.shape)
    np.testing.assert_allclose(volumes[:, mask], expected[mask].T, rtol=1e-6)
    flat = np.flatnonzero(mask.ravel(order="F"))[::7]
    np.testing.assert_allclose(
        data.session_voxels("sub-01", 1, flat),
        expected.reshape(-1, len(trials), order="F")[flat].T,
        rtol=1e-6,
    )


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_only_the_wanted_voxels_are_held(tmp_path, ending):
    """34 MB of volumes, of which 300 voxels are wanted."""
    data = np.random.default_rng(0).integers(-99, 99, (64, 64, 64, 64)).astype(np.int16)
    save(tmp_path / f"betas{ending}", data)
    mask = np.zeros((64, 64, 64), np.uint8)
    mask[10:20, 30:40, 5:8] = 1
    save(tmp_path / "mask.nii", mask)
    trials = [["sub-01", 1, f"betas{ending}", i, f"p{i}", "", "train"] for i in range(64)]
    recordings = open_recordings(write(tmp_path, trials))
    voxels = np.flatnonzero(mask.ravel(order="F"))
    recordings.mask(1)
    tracemalloc.start()
    values = recordings.session_voxels("sub-01", 1, voxels)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    expected = data[mask.astype(bool).nonzero()]
    order = np.lexsort(mask.astype(bool).nonzero())
    np.testing.assert_array_equal(values, expected[order].T)
    assert peak < 12e6


def test_sessions_over_several_files_keep_their_order(own):
    """Rows of a session that lie in two files and come mixed."""
    root, truth = own
    save(root / "b.nii", np.moveaxis(truth["sub-01"] * 2, 0, -1), np.diag([3.0, 3, 3, 1]))
    rows = [
        ["sub-01", "s", ("all.nii.gz", "b.nii")[i % 2], i // 2, "p", "", "train"] for i in range(6)
    ]
    shutil.rmtree(root / "stimuli")
    (root / "captions.tsv").unlink()
    data = open_recordings(write(root, rows, [("sub-01", "sub-01_mask.nii")]))
    expected = np.stack([truth["sub-01"][i // 2] * (1 + i % 2) for i in range(6)])
    np.testing.assert_allclose(data.volumes(1), expected, rtol=1e-5)
    np.testing.assert_allclose(data.volumes(1, [5, 2]), expected[[5, 2]], rtol=1e-5)
    assert data.trials["repeat"].tolist() == list(range(6))


# ---- grids


@pytest.fixture
def coarse(tmp_path):
    """Betas of 4 mm in two files, a mask and a region of 2 mm, with folders and a blank in their names."""
    rng = np.random.default_rng(0)
    affine = np.diag([4.0, 4, 4, 1])
    for name in ("a", "b"):
        save(tmp_path / f"my betas/{name}.nii", rng.normal(0, 1, (5, 6, 4, 3)), affine)
    fine = np.zeros((10, 12, 8), np.int16)
    fine[2:8, 2:10, 2:6] = 7
    save(tmp_path / "rois/fine.nii.gz", fine, np.diag([2.0, 2, 2, 1]))
    mask = np.zeros((5, 6, 4), np.uint8)
    mask[1:4, 1:5, 1:3] = 1
    save(tmp_path / "mask.nii", mask, affine)
    rows = [
        ["sub-01", 1, f"my betas/{n}.nii", i, f"{n}{i}", "", "train"]
        for n in "ab"
        for i in range(3)
    ]
    return write(tmp_path, rows)


def command_of(error) -> list[str]:
    found = re.search(
        r"run in the data folder: neurovl (resample .*), and name (\S+) in", str(error)
    )
    return shlex.split(found[1]), found[2]


def test_a_mask_on_another_grid_gets_the_command_that_mends_it(coarse, monkeypatch):
    write(coarse, pd.read_csv(coarse / "trials.tsv", sep="\t"), [("sub-01", "rois/fine.nii.gz")])
    with pytest.raises(
        DataError, match=r"\(5, 6, 4\) of 4 x 4 x 4 mm.*\(10, 12, 8\) of 2 x 2"
    ) as error:
        open_recordings(coarse).mask(1)
    arguments, name = command_of(error.value)
    monkeypatch.chdir(coarse)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    write(coarse, pd.read_csv(coarse / "trials.tsv", sep="\t"), [("sub-01", name)])
    mask = open_recordings(coarse).mask(1)
    # voxel i of the new grid lies at 4 i mm, that is voxel 2 i of the old one
    expected = np.zeros((5, 6, 4), bool)
    expected[1:4, 1:5, 1:3] = True
    np.testing.assert_array_equal(mask, expected)
    assert set(np.unique(nibabel.load(coarse / name).get_fdata())) == {0, 7}
    assert f"{expected.sum()} voxels" in done.output


def test_a_region_on_another_grid_gets_the_command_too(coarse, monkeypatch):
    trials = pd.read_csv(coarse / "trials.tsv", sep="\t")
    columns = ("subject", "mask", "FFA")
    write(coarse, trials, [("sub-01", "mask.nii", "rois/fine.nii.gz")], columns)
    with pytest.raises(DataError, match="the region FFA of sub-01") as error:
        open_recordings(coarse).rois(1)
    arguments, name = command_of(error.value)
    monkeypatch.chdir(coarse)
    assert CliRunner().invoke(app, arguments).exit_code == 0
    write(coarse, trials, [("sub-01", "mask.nii", name)], columns)
    assert open_recordings(coarse).rois(1)["FFA"].sum() == 24


@pytest.mark.parametrize(
    "move, words",
    [
        (lambda a: a + np.array([[0, 0, 0, 2], [0] * 4, [0] * 4, [0] * 4]), "lies 2.0 mm away"),
        (lambda a: a * [1.1, 1, 1, 1], "lies 1.6 mm away"),
        (
            lambda a: np.array([[4, 0.4, 0, 0], [-0.4, 4, 0, 0], [0, 0, 4, 0], [0, 0, 0, 1]]),
            "mm away",
        ),
    ],
    ids=["half a voxel", "other voxel size", "oblique"],
)
def test_the_same_shape_elsewhere_is_refused(coarse, move, words):
    image = nibabel.load(coarse / "mask.nii")
    save(coarse / "mask.nii", image.get_fdata(), move(image.affine))
    with pytest.raises(
        DataError, match=f"{words}.*neurovl resample --mask mask.nii --like 'my betas"
    ):
        open_recordings(coarse).mask(1)


def test_rounded_headers_are_fine(coarse):
    image = nibabel.load(coarse / "mask.nii")
    rounding = np.full((4, 4), 1e-3) * [[1], [1], [1], [0]]
    save(coarse / "mask.nii", image.get_fdata(), image.affine + rounding)
    assert open_recordings(coarse).volumes(1).shape == (6, 5, 6, 4)


def test_mixed_grids_name_the_first_that_differs(coarse):
    save(coarse / "my betas/b.nii", np.ones((5, 6, 5, 3), np.float32), np.diag([4.0, 4, 4, 1]))
    with pytest.raises(DataError, match=r"b.nii of sub-01 has the grid \(5, 6, 5\).*a.nii"):
        open_recordings(coarse).volumes(1)


def test_resample_refuses_in_one_sentence(coarse, monkeypatch):
    monkeypatch.chdir(coarse)
    far = np.diag([2.0, 2, 2, 1])
    far[:3, 3] = 500
    save(coarse / "far.nii", np.ones((4, 4, 4), np.uint8), far)
    unplaced = nibabel.Nifti1Image(np.ones((4, 4, 4), np.uint8), None)
    nibabel.save(unplaced, coarse / "unplaced.nii")
    (coarse / "broken.nii").write_bytes(b"x" * 400)
    for mask, out, words in [
        ("far.nii", "out.nii.gz", "nothing of the 64 voxels of far.nii"),
        ("unplaced.nii", "out.nii.gz", "does not say where it lies"),
        ("broken.nii", "out.nii.gz", "broken.nii is not a readable NIfTI"),
        ("nothing.nii", "out.nii.gz", "nothing.nii is missing"),
        ("my betas/a.nii", "out.nii.gz", "a.nii holds 3 volumes"),
        ("mask.nii", "out.txt", "ends in .nii or .nii.gz"),
        ("mask.nii", "mask.nii", "which is read from"),
    ]:
        before = sorted(coarse.rglob("*"))
        with pytest.raises(NeurovlError, match=words):
            resample_mask(mask, "my betas/a.nii", out)
        assert sorted(coarse.rglob("*")) == before


# ---- text


def text(change, table="trials.tsv"):
    def spoil(root):
        content = (root / table).read_text()
        (root / table).write_bytes(change(content))

    return spoil


def lines(content):
    return content.splitlines()


@pytest.mark.parametrize(
    "spoil",
    [
        text(lambda t: t.replace("\n", "\r\n").encode()),
        text(lambda t: t.replace("\n", "\r").encode()),
        text(lambda t: t.encode("utf-8-sig")),
        text(lambda t: t.replace("\n", "\n\n").encode()),
        text(lambda t: (t + "\t\t\t\t\t\t\n").encode()),
        text(lambda t: t.replace("\t", " \t ").encode()),
        text(lambda t: t.encode("utf-8-sig"), "subjects.tsv"),
    ],
    ids=[
        "windows",
        "old mac",
        "byte order mark",
        "empty lines",
        "line of tabs",
        "blanks",
        "subjects",
    ],
)
def test_text_that_other_programs_write(own, spoil):
    root, truth = own
    spoil(root)
    np.testing.assert_allclose(open_recordings(root).volumes(1), truth["sub-01"], rtol=1e-5)


def rows(number, **changes):
    """A copy of a row, changed, at the end of trials.tsv."""

    def spoil(root):
        frame = pd.read_csv(root / "trials.tsv", sep="\t", dtype=str, keep_default_na=False)
        frame.loc[len(frame)] = {**frame.loc[number].to_dict(), **changes}
        frame.to_csv(root / "trials.tsv", sep="\t", index=False)

    return spoil


def about(**keys):
    return lambda root: (root / "dataset.json").write_text(json.dumps(keys))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (rows(2), "the volume all.nii.gz index 2 in the lines 4 and 14, expected every trial once"),
        (rows(2, volume="./all.nii.gz", index="02"), "in the lines 4 and 14"),
        (rows(7, index="0"), "trial1.nii.gz index 0 in the lines 9 and 14"),
        (
            edit("repeat", "2"),
            "gives repeat 2 of image 'pic0' to sub-01 for the second time in line 3",
        ),
        (edit("repeat", ""), "the repeat '' in line 2, expected a whole number in every line"),
        (edit("repeat", "1.5"), "the repeat '1.5' in line 2"),
        (edit("subject", "sub/01"), "the subject 'sub/01' in line 2, expected a plain name"),
        (edit("subject", "..\\x"), "the subject '..\\\\\\\\x' in line 2"),
        (edit("volume", "a\\b.nii"), "with a backslash, expected / between"),
        (edit("volume", "x" * 5000), "which is no path"),
        (text(lambda t: t.replace("\t", ",").encode()), "',' between its columns, expected tabs"),
        (text(lambda t: t.replace("\t", ";").encode()), "';' between its columns, expected tabs"),
        (text(lambda t: t.encode("utf-16")), "UTF-16, expected UTF-8"),
        (text(lambda t: t.encode() + b"\xe9\xff\n"), "no table in UTF-8"),
        (text(lambda t: lines(t)[0].encode()), "holds no trials"),
        (text(lambda t: t.replace("\ttrain", "", 1).encode()), "6 cells in line 2, expected 7"),
        (
            text(lambda t: t.replace("\ttrain", "\ttrain\tx", 1).encode()),
            "8 cells in line 2, expected 7",
        ),
        (text(lambda t: t.replace("repeat", "index", 1).encode()), "2 columns named 'index'"),
        (text(lambda t: t.replace("pic0", '"pic0', 1).encode()), "no table in UTF-8 with tabs.*"),
        (
            text(lambda t: t.replace("pic0", '"pic0', 1).replace("pic2", 'pic2"', 1).encode()),
            "no table|left open",
        ),
        (
            text(lambda t: (t + lines(t)[1] + "\n").encode(), "subjects.tsv"),
            "sub-01 twice, again in line 4",
        ),
        (
            text(lambda t: t.replace("\n", "\t\n").encode(), "subjects.tsv"),
            "no name for its column 4",
        ),
        (text(lambda t: (t + "pic1\t\n").encode(), "captions.tsv"), "no caption in line 6"),
        (
            text(lambda t: t.replace("pic1", "pic7").encode(), "captions.tsv"),
            "no sentence for 1 of 3 pictures, the first is 'pic1'",
        ),
        (about(zscore="run"), "zscore 'run', expected session or subject"),
        (about(name=3), "the name 3, expected text"),
        (about(name="a/b"), "the name 'a/b', expected one line without"),
        (about(publish_images="yes"), "publish_images 'yes', expected true or false"),
        (lambda root: (root / "dataset.json").write_text("[]"), "holds no object"),
    ],
)
def test_text_that_is_refused(own, spoil, message):
    root, _ = own
    spoil(root)
    with pytest.raises(NeurovlError, match=message) as error:
        open_recordings(root)
    assert "\n" not in str(error.value)


def overwrite(name, change):
    """Bytes of a NIfTI header changed: (offset, bytes) each."""

    def spoil(root):
        content = bytearray((root / name).read_bytes())
        for at, data in change:
            content[at : at + len(data)] = data
        (root / name).write_bytes(bytes(content))

    return spoil


def huge(root):
    image = nibabel.load(root / "all.nii.gz")
    header = image.header.copy()
    header["dim"][1:5] = 20000, 20000, 20000, 600
    header["magic"] = b"n+1"
    with nibabel.openers.Opener(root / "all.nii.gz", "wb") as file:
        file.write(header.binaryblock + bytes(4000))


@pytest.mark.parametrize(
    "spoil, message",
    [
        (huge, "all.nii.gz ends early: its header promises the shape"),
        (overwrite("trial0.nii.gz", [(0, b"PK")]), "trial0.nii.gz is not a readable NIfTI"),
        (
            overwrite("sub-01_mask.nii", [(70, b"\x20\x00")]),
            "sub-01_mask.nii holds numbers of type complex64",
        ),
        (overwrite("sub-01_mask.nii", [(70, b"\x77\x77")]), "sub-01_mask.nii"),
        (
            overwrite("sub-01_mask.nii", [(40, b"\x03\x00\x00\x00")]),
            "sub-01_mask.nii has the shape",
        ),
        (overwrite("sub-01_mask.nii", [(42, b"\xff\xff")]), "sub-01_mask.nii"),
        (overwrite("sub-01_mask.nii", [(280, bytes(48))]), "an affine that leads nowhere"),
        (
            overwrite("sub-01_mask.nii", [(280, b"\x00\x00\xc0\x7f")]),
            "an affine that leads nowhere",
        ),
        (
            overwrite("sub-01_mask.nii", [(112, b"\x00\x00\x80\x3f\x00\x00\xc0\x7f")]),
            "slope and no intercept",
        ),
        (
            lambda root: (root / "sub-01_mask.nii").write_bytes(b""),
            "sub-01_mask.nii is not a readable",
        ),
        (
            edit("mask", "all.nii.gz", table="subjects.tsv"),
            r"all.nii.gz has the shape \(5, 6, 4, 6\)",
        ),
        (
            edit("mask", "trials.tsv", table="subjects.tsv"),
            "trials.tsv has no name of a NIfTI file",
        ),
        (
            lambda root: save(
                root / "sub-01_mask.nii", np.zeros((5, 6, 4), np.uint8), np.diag([3.0, 3, 3, 1])
            ),
            "holds no voxel above 0",
        ),
    ],
)
def test_headers_that_are_refused(own, spoil, message):
    root, _ = own
    spoil(root)
    with pytest.raises(NeurovlError, match=message) as error:
        data = open_recordings(root)
        for subject in data.subjects:
            data.session_voxels(subject, 1, np.arange(5))
    assert "\n" not in str(error.value)


def test_a_mask_of_many_constant_voxels_and_nan_are_refused(own):
    root, truth = own
    affine = np.diag([3.0, 3, 3, 1])
    data = np.moveaxis(truth["sub-01"].copy(), 0, -1)
    data[1:3] = 5
    save(root / "all.nii.gz", data, affine)
    with pytest.raises(
        DataError, match="session 1 of sub-01 .all.nii.gz.: 12 of 18 voxels in the mask are const"
    ):
        open_recordings(root).session_voxels("sub-01", 1, np.arange(120))
    data = np.moveaxis(truth["sub-01"].copy(), 0, -1)
    data[2, 2, 2, 1] = np.nan
    save(root / "all.nii.gz", data, affine)
    with pytest.raises(
        DataError, match="session 1 of sub-01 .all.nii.gz. holds 1 values inside the mask"
    ):
        open_recordings(root).volumes(1, [4, 0])


def test_scaling_over_sessions_is_the_data_set_s_choice(own):
    root, _ = own
    assert open_recordings(root).zscore == "session"
    about(zscore="subject")(root)
    assert open_recordings(root).zscore == "subject"


def test_empty_regions_are_left_out(own, caplog):
    root, _ = own
    save(root / "sub-01_ffa.nii", np.zeros((5, 6, 4), np.uint8), np.diag([3.0, 3, 3, 1]))
    data = open_recordings(root)
    assert list(data.rois(1)) == ["mask"] and list(data.rois(2)) == ["mask", "FFA"]
    assert "region FFA of sub-01 (sub-01_ffa.nii) is empty" in caplog.text


def test_a_session_is_known_by_its_files_and_rows(own):
    root, _ = own
    data = open_recordings(root)
    first, second = (data.session_identity("sub-01", session) for session in (1, 2))
    assert first == open_recordings(root).session_identity("sub-01", 1) != second
    edit("index", "1", row=0)(root)
    edit("index", "0", row=1)(root)
    changed = open_recordings(root)
    assert changed.session_identity("sub-01", 1) != first
    assert changed.session_identity("sub-01", 2) == second


def test_the_checksum_follows_masks_of_the_same_size(own):
    root, _ = own
    before = open_recordings(root).checksum()
    assert before == open_recordings(root).checksum()
    overwrite("sub-01_mask.nii", [(352 + 119, b"\x01")])(root)
    assert open_recordings(root).checksum() != before
