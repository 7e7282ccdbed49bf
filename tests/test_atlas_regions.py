"""The labels of an atlas as regions of a table: each subject's own, in one's own table and while converting."""

import nibabel
import numpy as np
import pytest
from own_data import GRIDS, affine_of, contents, write_nifti
from typer.testing import CliRunner

from neurovl.cli.options import app
from neurovl.errors import NeurovlError
from neurovl.recordings.atlas_regions import add_regions, read_labels
from neurovl.recordings.bids import BidsChoice, convert_bids
from neurovl.recordings.opening import open_recordings
from neurovl.recordings.splits import Split

SHAPES = {"sub-01": (5, 6, 4), "sub-02": (7, 5, 3)}  # of the fixture `own`
AFFINE = np.diag([3.0, 3, 3, 1])


def atlas_of(subject):
    """Labels 1 and 2 in planes of their own, 7 in a corner; sub-02 has no 2."""
    atlas = np.zeros(SHAPES[subject], np.int16)
    atlas[1], atlas[2], atlas[0, 0, 0] = 1, 2 if subject == "sub-01" else 1, 7
    return atlas


@pytest.fixture
def table(own):
    for subject in SHAPES:
        write_nifti(own[0] / f"atlas/{subject}.nii.gz", atlas_of(subject), AFFINE)
    return own[0]


def test_labels_of_each_subject_s_own_atlas(table, caplog):
    command = f"regions --data {table} --atlas atlas/{{subject}}.nii.gz --labels V1:1,hV4:2"
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0 and "V1 (2), hV4 (1)" in done.output
    assert "sub-02 has no voxel of hV4" in caplog.text
    assert "1 labels of the atlas have no name and are left out, such as 7" in caplog.text
    data = open_recordings(table)
    for subject in SHAPES:
        regions = data.rois(subject)
        np.testing.assert_array_equal(regions["V1"], atlas_of(subject) == 1)
        assert regions["FFA"].sum() == 1  # what was there stays
    np.testing.assert_array_equal(data.rois("sub-01")["hV4"], atlas_of("sub-01") == 2)
    assert "hV4" not in data.rois("sub-02")


def test_a_turned_atlas_and_a_name_for_several_labels(table):
    """An atlas whose first axis runs the other way round; the BIDS table names label 0 too."""
    turned = AFFINE.copy()
    turned[0] = [-3, 0, 0, 3 * (SHAPES["sub-01"][0] - 1)]
    path = table / "atlas/sub-01.nii.gz"
    nibabel.save(nibabel.Nifti1Image(atlas_of("sub-01")[::-1].astype(np.float32), turned), path)
    lines = ["index\tname\tabbreviation\tcolor", "0\tBackground\tBG\t#000000"]
    lines += ["1\tearly visual\tEV\t#ff53bb", "2\tearly visual\tEV\t#ff53bb", "7\tcorner\tC\t#1"]
    (table / "dseg.tsv").write_text("\n".join(lines) + "\n")
    found = add_regions(table, "atlas/{subject}.nii.gz", "dseg.tsv")
    assert found == {"early visual": 2, "corner": 2}
    regions = open_recordings(table).rois("sub-01")
    np.testing.assert_array_equal(regions["early visual"], np.isin(atlas_of("sub-01"), (1, 2)))
    assert np.argwhere(regions["corner"]).tolist() == [[0, 0, 0]]


def test_labels_as_they_are_written():
    assert read_labels("V1v:1, V1d:2 ,IPS:0-1:5") == {"V1v": (1,), "V1d": (2,), "IPS:0-1": (5,)}


def write(name, values, affine=AFFINE):
    return lambda table: write_nifti(table / f"atlas/{name}.nii.gz", values, affine)


@pytest.mark.parametrize(
    "break_it, pattern, labels, words",
    [
        (None, "{subject}.nii.gz", "V1:1", "names no file of any subject"),
        (None, "atlas/*.nii.gz", "V1:1", "names 2 files of sub-01, such as sub-01.nii.gz"),
        (
            None,
            "atlas/{subject}.nii.gz",
            "V1:1,V2:9",
            "--labels has 9, expected .* which are 1, 2, 7",
        ),
        (None, "atlas/{subject}.nii.gz", "V1:8,V2:9", "--labels has 8 and 1 more"),
        (None, "atlas/{subject}.nii.gz", "V1", "label 'V1' for the region ''"),
        (None, "atlas/{subject}.nii.gz", "V1:1.5", "label '1.5' .* whole number above 0"),
        (None, "atlas/{subject}.nii.gz", "V1:0", "label '0' .* whole number above 0"),
        (None, "atlas/{subject}.nii.gz", ",", "names no label"),
        (None, "atlas/{subject}.nii.gz", "mask:1", "a column of its own"),
        (None, "atlas/{subject}.nii.gz", "FFA:1", "has a region 'FFA' already"),
        (None, "atlas/{subject}.nii.gz", "V1 v:1,V1-v:2", "would both be named V1-v"),
        (None, "atlas/{subject}.nii.gz", "labels.tsv", "labels.tsv is missing"),
        (
            lambda table: (table / "labels.tsv").write_text("label\tname\n1\tV1\n"),
            "atlas/{subject}.nii.gz",
            "labels.tsv",
            "expected also index",
        ),
        (
            write("sub-02", np.full(SHAPES["sub-02"], 1.4, np.float32)),
            "atlas/{subject}.nii.gz",
            "V1:1",
            "the atlas atlas/sub-02.nii.gz holds .* values between whole numbers",
        ),
        (
            write("sub-02", np.ones((4, 4, 4), np.uint8)),
            "atlas/{subject}.nii.gz",
            "V1:1",
            "the atlas of sub-02 has the grid .* neurovl resample",
        ),
        (
            write("sub-02", np.ones(SHAPES["sub-02"], np.uint8), np.diag([3.0, 3, 4, 1])),
            "atlas/{subject}.nii.gz",
            "V1:1",
            "the atlas of sub-02 lies .* mm away",
        ),
        (
            write("sub-02", np.ones((*SHAPES["sub-02"], 2), np.uint8)),
            "atlas/{subject}.nii.gz",
            "V1:1",
            "expected three axes",
        ),
    ],
)
def test_what_cannot_be_a_region_is_refused_and_the_table_stays(
    break_it, pattern, labels, words, table
):
    if break_it:
        break_it(table)
    before = contents(table)
    with pytest.raises(NeurovlError, match=words) as problem:
        add_regions(table, pattern, labels)
    assert "\n" not in str(problem.value)
    assert contents(table) == before


def test_an_atlas_while_converting_bids(things, tmp_path):
    root, _ = things
    for subject, grid in GRIDS.items():
        atlas = np.zeros(grid, np.uint8)
        atlas[2], atlas[3] = 4, 5
        write_nifti(root / f"derivatives/rois/{subject}_dseg.nii.gz", atlas, affine_of(subject))
    choice = {"derivative": "betas_vol", "drop": ("catch*",)}
    given = {"atlas": "derivatives/rois/{subject}_dseg.nii.gz", "labels": "V1:4,V2:5"}
    made = convert_bids(root, tmp_path / "table", Split(repeated=4), BidsChoice(**choice, **given))
    data = open_recordings(made)
    for subject in data.subjects:
        regions = data.rois(subject)
        assert set(regions) == {"mask", "V1", "V2"}
        assert np.argwhere(regions["V2"])[:, 0].tolist() == [3] * int(np.prod(GRIDS[subject][1:]))
    for part in given.items():
        with pytest.raises(NeurovlError, match="was given alone"):
            convert_bids(
                root, tmp_path / "other", Split(repeated=4), BidsChoice(**choice, **dict([part]))
            )
    with pytest.raises(NeurovlError, match="--labels has 6"):
        bad = BidsChoice(**choice, **(given | {"labels": "V1:6"}))
        convert_bids(root, tmp_path / "other", Split(repeated=4), bad)
    assert {path.name for path in tmp_path.iterdir()} == {"things", "table"}
