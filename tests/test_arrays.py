"""Arrays as tables: every form against volumes known before, what must be stated, and MindEye2's release."""

import io
import pickle
import tarfile

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
from nilearn.masking import apply_mask
from own_data import contents, write_nifti
from PIL import Image
from scipy.io import savemat
from typer.testing import CliRunner

from neurovl.cli.options import app
from neurovl.errors import ConfigError, DataError, MissingError, NeurovlError
from neurovl.recordings.arrays import (
    ArraysChoice,
    array_files,
    arrays_to_table,
    convert_arrays,
    convert_mindeye,
)
from neurovl.recordings.opening import open_recordings
from neurovl.tokens.store import TokenStore

GRID = (4, 5, 3)
N = 50  # trials, in two sessions
X, Y, Z = GRID
AFFINE = np.array([[-2.0, 0, 0, 9], [0, 2.5, 0, -8], [0, 0, 3, 1], [0, 0, 0, 1]])


def voxels_in(mask, order):
    """Voxels of a mask as nested loops number them: C turns the last axis fastest, F the first."""
    x, y, z = mask.shape
    if order == "C":
        every = [(i, j, k) for i in range(x) for j in range(y) for k in range(z)]
    else:
        every = [(i, j, k) for k in range(z) for j in range(y) for i in range(x)]
    return [voxel for voxel in every if mask[voxel]]


def flat(volumes, mask, order):
    """(trials, voxels)."""
    return np.stack([volumes[:, i, j, k] for i, j, k in voxels_in(mask, order)], axis=1)


def masked(volumes, mask):
    """What nilearn makes of volumes and a mask."""
    image = nibabel.Nifti1Image(np.moveaxis(volumes, 0, -1), AFFINE)
    return apply_mask(image, nibabel.Nifti1Image(mask.astype(np.uint8), AFFINE))


def write_hdf5(path, arrays, matlab=False):
    with h5py.File(path, "w", userblock_size=512 if matlab else 0) as file:
        for name, values in arrays.items():
            file.create_dataset(name, data=values)
    if matlab:
        with open(path, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")


@pytest.fixture
def source(tmp_path):
    """A folder with a mask and the trials of sub-01; volumes (trials, x, y, z), 0 outside the mask."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "arrays"
    mask = rng.random(GRID) < 0.6
    volumes = rng.normal(1, 2, (N, *GRID)).astype(np.float32) * mask
    write_nifti(folder / "mask.nii.gz", mask.astype(np.uint8), AFFINE)
    pictures = [f"p{n % 25:02d}" for n in range(N)]
    trials = pd.DataFrame({"subject": "sub-01", "session": ["a"] * 26 + ["b"] * 24})
    trials["image_id"] = pictures
    trials["split"] = ["test" if name in ("p00", "p07") else "train" for name in pictures]
    trials.to_csv(folder / "trials.tsv", sep="\t", index=False)
    return folder, mask, volumes


def chosen(**changes):
    choice = {"betas": "betas.npy", "mask": "mask.nii.gz", "trials": "trials.tsv", "units": "%"}
    return ArraysChoice(**(choice | changes))


def glmsingle(betas):
    """What GLMsingle saves beside its betas."""
    more = {"R2": np.ones(GRID), "HRFindexrun": np.ones((*GRID, 2)), "pcnum": h5py.Empty("f")}
    return {"betasmd": betas} | more


FORMS = {
    "trials, voxels in C": (
        {"order": "C"},
        lambda at, v, m: np.save(at / "betas.npy", flat(v, m, "C")),
    ),
    "as nilearn masks": ({"order": "C"}, lambda at, v, m: np.save(at / "betas.npy", masked(v, m))),
    "voxels, trials in C": (
        {"order": "C"},
        lambda at, v, m: np.save(at / "betas.npy", np.ascontiguousarray(flat(v, m, "C").T)),
    ),
    "trials, voxels in F": (
        {"order": "F"},
        lambda at, v, m: np.save(at / "betas.npy", flat(v, m, "F")),
    ),
    "a Fortran array": (
        {"order": "C"},
        lambda at, v, m: np.save(at / "betas.npy", np.asfortranarray(flat(v, m, "C"))),
    ),
    "full, trials last": (
        {},
        lambda at, v, m: np.save(at / "betas.npy", np.moveaxis(v, 0, -1)),
    ),
    "full, trials first": ({}, lambda at, v, m: np.save(at / "betas.npy", v.astype(">f8"))),
    "turned, as MATLAB's h5write leaves it": (
        {"betas": "betas.h5"},
        lambda at, v, m: write_hdf5(at / "betas.h5", {"betas": v.transpose(0, 3, 2, 1)}),
    ),
    "GLMsingle for Python": (
        {"betas": "TYPED_FITHRF_GLMDENOISE_RR.hdf5"},
        lambda at, v, m: write_hdf5(
            at / "TYPED_FITHRF_GLMDENOISE_RR.hdf5", glmsingle(np.moveaxis(v, 0, -1))
        ),
    ),
    "GLMsingle for Python, of voxels in a list": (
        {"betas": "TYPED.hdf5", "order": "C"},
        lambda at, v, m: write_hdf5(
            at / "TYPED.hdf5", glmsingle(flat(v, m, "C").T[:, None, None, :])
        ),
    ),
    "HDF5 in chunks": (
        {"betas": "betas.hdf5", "order": "C"},
        lambda at, v, m: h5py.File(at / "betas.hdf5", "w").create_dataset(
            "betas", data=flat(v, m, "C"), chunks=(7, 11), compression="gzip"
        ),
    ),
    "GLMsingle for MATLAB": (  # h5py shows MATLAB's (x, y, z, trials) as (trials, z, y, x)
        {"betas": "TYPED.mat"},
        lambda at, v, m: write_hdf5(
            at / "TYPED.mat",
            {"modelmd": v.transpose(0, 3, 2, 1), "R2": np.ones(GRID[::-1])},
            matlab=True,
        ),
    ),
    "MATLAB 7.3, a matrix of voxels and trials": (
        {"betas": "betas.mat", "order": "F", "axes": "voxels,trials"},
        lambda at, v, m: write_hdf5(
            at / "betas.mat", {"#refs#/x": np.ones((3, 4)), "data": flat(v, m, "F")}, matlab=True
        ),
    ),
    "an older .mat": (
        {"betas": "betas.mat", "order": "F", "variable": "betas"},
        lambda at, v, m: savemat(
            at / "betas.mat", {"betas": flat(v, m, "F").T, "other": np.eye(3), "word": "x"}
        ),
    ),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("block", [None, 900], ids=["whole", "in blocks"])
def test_volumes_are_those_of_the_array(form, block, source, tmp_path, monkeypatch):
    folder, mask, volumes = source
    stated, write = FORMS[form]
    write(folder, volumes, mask)
    if block:
        monkeypatch.setattr(arrays_to_table, "BLOCK", block)
        monkeypatch.setattr(arrays_to_table, "BATCH", block)
        monkeypatch.setattr(array_files, "PIECE", block // 3)
    before = contents(folder)
    data = open_recordings(convert_arrays(folder, tmp_path / "table", chosen(**stated)))
    assert contents(folder) == before
    np.testing.assert_array_equal(data.mask(1), mask)
    np.testing.assert_allclose(data.affine(1), AFFINE)
    np.testing.assert_array_equal(data.volumes(1), volumes)
    assert data.trials.session.tolist() == ["a"] * 26 + ["b"] * 24
    assert data.trials.image_id[[0, 26]].tolist() == ["p00", "p01"]
    assert data.trials["repeat"].tolist() == [0] * 25 + [1] * 25
    assert set(data.trials.image_id[data.trials.split == "test"]) == {"p00", "p07"}
    assert data.units == "%" and data.name == "arrays" and not data.publish_images


def test_the_other_order_of_voxels_gives_other_volumes(source, tmp_path):
    folder, mask, volumes = source
    np.save(folder / "betas.npy", flat(volumes, mask, "C"))
    made = convert_arrays(folder, tmp_path / "table", chosen(order="F"))
    found = open_recordings(made).volumes(1)
    assert not np.array_equal(found, volumes)
    np.testing.assert_array_equal(flat(found, mask, "F"), flat(volumes, mask, "C"))


def test_half_precision_and_integers_keep_their_values(source, tmp_path):
    folder, mask, volumes = source
    for kind in (np.float16, np.int16):
        np.save(folder / "betas.npy", volumes.astype(kind))
        made = convert_arrays(folder, tmp_path / kind.__name__, chosen())
        np.testing.assert_array_equal(open_recordings(made).volumes(1), volumes.astype(kind))


def test_sessions_may_take_turns_and_have_arrays_of_their_own(source, tmp_path):
    folder, mask, volumes = source
    trials = pd.read_csv(folder / "trials.tsv", sep="\t")
    trials["session"] = ["a", "b"] * (N // 2)
    trials.to_csv(folder / "trials.tsv", sep="\t", index=False)
    np.save(folder / "betas.npy", volumes)
    np.save(folder / "a.npy", volumes[::2])
    np.save(folder / "b.npy", volumes[1::2])
    for betas in ("betas.npy", "{session}.npy"):
        out = tmp_path / betas.removesuffix(".npy")
        data = open_recordings(convert_arrays(folder, out, chosen(betas=betas)))
        assert data.trials.session.tolist() == ["a", "b"] * (N // 2)
        np.testing.assert_array_equal(data.volumes(1), volumes)


def test_voxels_outside_the_brain_may_be_no_numbers(source, tmp_path):
    folder, mask, volumes = source
    np.save(folder / "betas.npy", np.where(mask, volumes, np.nan))
    data = open_recordings(convert_arrays(folder, tmp_path / "table", chosen()))
    np.testing.assert_array_equal(data.volumes(1), volumes)


def test_from_arrays_to_tokens(source, tmp_path):
    """The command line from end to end: two subjects, regions, an atlas, pictures."""
    folder, mask, volumes = source
    both = pd.read_csv(folder / "trials.tsv", sep="\t")
    pd.concat([both, both.assign(subject="sub-02")]).to_csv(
        folder / "trials.tsv", sep="\t", index=False
    )
    for number, subject in enumerate(("sub-01", "sub-02"), 1):
        np.save(folder / f"{subject}.npy", number * flat(volumes, mask, "C"))
        atlas = np.zeros(GRID, np.int16)
        atlas[0], atlas[1] = 3, number
        write_nifti(folder / f"{subject}_atlas.nii.gz", atlas, AFFINE)
        face = np.zeros(GRID, np.uint8)
        face[2, :, number] = 1
        write_nifti(folder / f"{subject}_FFA.nii.gz", face, AFFINE)
    (folder / "pictures").mkdir()
    for n in range(25):
        Image.new("RGB", (4, 4), (9 * n, 0, 99)).save(folder / f"pictures/p{n:02d}.png")
    (folder / "labels.tsv").write_text("index\tname\tcolor\n0\tBG\t#0\n3\tV1\t#1\n1\tV2\t#2\n")
    table, run = tmp_path / "table", tmp_path / "run"
    command = f"convert arrays --data {folder} --out {table} --betas {{subject}}.npy --mask mask.nii.gz --trials trials.tsv"
    command += (
        f" --units % --voxel-order C --stimuli {folder}/pictures --roi FFA={{subject}}_FFA.nii.gz"
    )
    command += " --atlas {subject}_atlas.nii.gz --labels labels.tsv --test-fraction .2 --seed 3"
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.output + repr(done.exception)
    data = open_recordings(table)
    np.testing.assert_array_equal(data.volumes("sub-02"), 2 * volumes)
    assert data.has_images and data.image("p03").getpixel((0, 0)) == (27, 0, 99)
    assert data.trials.image_id[data.trials.split == "test"].nunique() == 5
    regions = data.rois("sub-01")
    assert set(regions) == {"mask", "FFA", "V1", "V2"} and regions["V1"][0].all()
    assert regions["V1"].sum() == Y * Z == regions["V2"].sum() and regions["FFA"][2, :, 1].all()
    assert set(data.rois("sub-02")) == {"mask", "FFA", "V1"}  # its atlas has no label 1
    profile = tmp_path / "own.yaml"
    profile.write_text("preprocessing: {patches: [2]}\n")
    command = f"preprocess --data {table} --out {run} --profile {profile}"
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.output + repr(done.exception)
    store = TokenStore(run / "tokens")
    train = (data.subject_trials(1).split == "train").to_numpy()
    session = (data.subject_trials(1).session == "a").to_numpy()
    betas = volumes.reshape(N, -1)[:, store.region]
    z = betas[session] - betas[session & train].mean(0)
    z /= betas[session & train].std(0)
    inside = mask.ravel()[store.region]
    found = store.voxels("sub-01", np.flatnonzero(session))
    np.testing.assert_allclose(found[:, inside], z[:, inside], atol=5e-3)


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_a_pickle_is_refused_and_not_opened(source, tmp_path):
    folder, mask, volumes = source
    results = {"betasmd": np.moveaxis(volumes, 0, -1), "bomb": Bomb(tmp_path / "run")}
    np.save(folder / "betas.npy", results)
    with pytest.raises(DataError, match=r"a pickle.*wanthdf5=1.*np.save\('betas.npy'"):
        convert_arrays(folder, tmp_path / "table", chosen())
    assert not (tmp_path / "run").exists()
    pickle.loads(pickle.dumps(results["bomb"])).close()
    assert (tmp_path / "run").exists()  # the bomb would have gone off


def square(folder, mask, volumes):
    """As many voxels as trials."""
    few = np.zeros(GRID, np.uint8)
    few.flat[:N] = 1
    write_nifti(folder / "mask.nii.gz", few, AFFINE)
    np.save(folder / "betas.npy", np.random.default_rng(0).normal(size=(N, N)))


def cube(folder, mask, volumes):
    """A grid whose x and z cannot be told apart."""
    write_nifti(folder / "mask.nii.gz", np.ones((3, 4, 3), np.uint8), AFFINE)
    np.save(folder / "betas.npy", np.random.default_rng(0).normal(size=(N, 3, 4, 3)))


def cut(folder, mask, volumes):
    np.save(folder / "betas.npy", volumes)
    content = (folder / "betas.npy").read_bytes()
    (folder / "betas.npy").write_bytes(content[: len(content) // 2])


def trials_of(folder, **columns):
    table = pd.read_csv(folder / "trials.tsv", sep="\t").assign(**columns)
    table.to_csv(folder / "trials.tsv", sep="\t", index=False)


def saved(name, make):
    """A refusal's file: what is written of the volumes."""
    return lambda at, m, v: np.save(at / name, make(v, m))


REFUSED = {
    "no order": ({}, saved("betas.npy", lambda v, m: flat(v, m, "C")), "--voxel-order C .*or F"),
    "no such order": ({"order": "A"}, saved("betas.npy", lambda v, m: flat(v, m, "C")), "C or F"),
    "as many voxels as trials": (
        {"order": "C"},
        square,
        "trials,voxels or voxels,trials, expected one reading.*--axes",
    ),
    "a cube": ({}, cube, "trials,x,y,z or trials,z,y,x, expected one reading"),
    "no such axes": (
        {"axes": "time,voxels"},
        saved("betas.npy", lambda v, m: v),
        "--axes is 'time,voxels'.*expected one of",
    ),
    "axes that do not fit": (
        {"axes": "voxels,trials", "order": "C"},
        saved("betas.npy", lambda v, m: flat(v, m, "C")),
        r"--axes is voxels,trials, expected axes of \d+ voxels .* and 50 trials",
    ),
    "a trial too few": (
        {"order": "C"},
        saved("betas.npy", lambda v, m: flat(v, m, "C")[1:]),
        r"shape \(49, .*expected axes of .* and 50 trials",
    ),
    "another mask": (
        {"order": "C"},
        saved("betas.npy", lambda v, m: flat(v, m, "C")[:, 1:]),
        "expected axes of .* voxels",
    ),
    "another grid": (
        {},
        saved("betas.npy", lambda v, m: v[:, 1:]),
        r"expected axes of the mask's grid \(4, 5, 3\) and 50 trials",
    ),
    "three axes": ({}, saved("betas.npy", lambda v, m: v[..., 0]), "two axes .* or four"),
    "a number": (
        {},
        lambda at, m, v: np.save(at / "betas.npy", 3.0),
        r"shape \(\), expected an array",
    ),
    "nothing": (
        {},
        lambda at, m, v: np.save(at / "betas.npy", np.ones((0, 9))),
        r"\(0, 9\), expected an array",
    ),
    "words": (
        {},
        lambda at, m, v: np.save(at / "betas.npy", np.full(v.shape, "a")),
        "type <U1, expected integers or real",
    ),
    "complex numbers": ({}, saved("betas.npy", lambda v, m: v * 1j), "expected integers or real"),
    "a file cut short": ({}, cut, "betas.npy cannot be read .*copy it again"),
    "no array at all": ({}, lambda at, m, v: None, "betas.npy is missing"),
    "an archive": (
        {"betas": "betas.npz"},
        lambda at, m, v: np.savez(at / "betas.npz", v),
        "ends in .npy, .mat, .hdf5, .h5",
    ),
    "an archive under the name of an array": (
        {},
        lambda at, m, v: (np.savez(at / "b.npz", v), (at / "b.npz").rename(at / "betas.npy")),
        "betas.npy cannot be read",
    ),
    "two arrays": (
        {"betas": "betas.h5"},
        lambda at, m, v: write_hdf5(at / "betas.h5", {"a": v, "b": v}),
        r"2 arrays of two axes or more \(a \(50, .*--variable",
    ),
    "no such variable": (
        {"betas": "betas.h5", "variable": "c"},
        lambda at, m, v: write_hdf5(at / "betas.h5", {"a": v}),
        "no array 'c', only a",
    ),
    "no HDF5": (
        {"betas": "betas.h5"},
        lambda at, m, v: (at / "betas.h5").write_bytes(b"no"),
        "betas.h5 cannot be read",
    ),
    "no MATLAB": (
        {"betas": "betas.mat"},
        lambda at, m, v: (at / "betas.mat").write_bytes(b"no" * 99),
        "betas.mat cannot be read",
    ),
    "a .mat of HDF5 that MATLAB did not write": (
        {"betas": "betas.mat"},
        lambda at, m, v: write_hdf5(at / "betas.mat", {"a": v}),
        "the order of its axes is not known",
    ),
    "no units": ({"units": " "}, saved("betas.npy", lambda v, m: v), "--units is empty"),
    "no mask": ({"mask": "m.nii"}, saved("betas.npy", lambda v, m: v), "--mask m.nii names 0"),
    "an atlas without labels": (
        {"atlas": "a.nii.gz"},
        saved("betas.npy", lambda v, m: v),
        "--atlas was given alone",
    ),
    "a region without files": (
        {"rois": {"FFA": "f.nii.gz"}},
        saved("betas.npy", lambda v, m: v),
        "--roi FFA=f.nii.gz names no file",
    ),
    "two subjects and one array": (
        {},
        lambda at, m, v: (
            np.save(at / "betas.npy", v),
            trials_of(at, subject=["sub-01", "sub-02"] * 25),
        ),
        "one array for 2 subjects, expected one a subject: write {subject}",
    ),
    "a subject that is a path": (
        {},
        lambda at, m, v: trials_of(at, subject="../../sub"),
        "the subject '../../sub' in line 2, expected a plain name",
    ),
    "sessions with one file name": (
        {},
        lambda at, m, v: (np.save(at / "betas.npy", v), trials_of(at, session=["a.", "a-"] * 25)),
        "would give one file",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_known_is_asked_for_in_one_sentence(case, source, tmp_path):
    folder, mask, volumes = source
    stated, write, words = REFUSED[case]
    write(folder, mask, volumes)
    before = contents(folder)
    with pytest.raises(NeurovlError, match=words) as problem:
        convert_arrays(folder, tmp_path / "new" / "table", chosen(**stated))
    assert "\n" not in str(problem.value)
    assert contents(folder) == before
    left = list((tmp_path / "new").iterdir()) if (tmp_path / "new").exists() else []
    assert left == []


def test_no_numbers_within_the_mask_are_refused_when_read(source, tmp_path):
    folder, mask, volumes = source
    volumes[3][mask] = np.nan
    np.save(folder / "betas.npy", volumes)
    data = open_recordings(convert_arrays(folder, tmp_path / "table", chosen()))
    with pytest.raises(DataError, match="not finite"):
        data.volumes(1)


def test_stated_axes_settle_what_sizes_leave_open(source, tmp_path):
    folder, mask, volumes = source
    cube(folder, mask, volumes)
    stored = np.load(folder / "betas.npy").astype(np.float32)
    for axes, turned in (("trials,x,y,z", stored), ("trials,z,y,x", stored.transpose(0, 3, 2, 1))):
        made = convert_arrays(folder, tmp_path / axes, chosen(axes=axes))
        np.testing.assert_array_equal(open_recordings(made).volumes(1), turned)


@pytest.mark.parametrize(
    "more, words",
    [
        ("", "--betas is missing"),
        ("--betas b.npy --trials t.tsv", "--units is missing"),
        ("--mindeye --axes trials,voxels", "--axes and --mindeye"),
        ("--mindeye --test-fraction .1", "--test-... and --mindeye"),
        ("--betas b.npy --trials t.tsv --units % --subjects 1", "--subjects was given without"),
    ],
)
def test_options_that_do_not_go_together(more, words, tmp_path):
    command = f"convert arrays --data {tmp_path} --out {tmp_path / 't'} --mask m.nii.gz {more}"
    done = CliRunner().invoke(app, command.split())
    assert isinstance(done.exception, ConfigError) and words in str(done.exception)


def behav(image, subject, session, trial, shared):
    """A row as MindEye2 wrote it, each of the other columns with a value that cannot pass for these."""
    row = np.full((1, 17), -1.0)
    row[0, [0, 1, 2, 5, 16]] = image, subject, session, trial, shared
    row[0, [3, 4, 6, 9, 15]] = 2, 40, 730_000.5, 812.25, 1
    return row


def write_tar(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, row in enumerate(rows):
            kinds = {"behav": row, "past_behav": np.full((15, 17), 7.0), "olds_behav": row * 0}
            for kind, values in kinds.items():
                stored = io.BytesIO()
                np.save(stored, values)
                info = tarfile.TarInfo(f"sample{number:09d}.{kind}.npy")
                info.size = stored.tell()
                stored.seek(0)
                tar.addfile(info, stored)


@pytest.fixture
def mindeye(tmp_path):
    """Two sessions of subj02 as MindEye2 released them, of which 40 trials were kept, in no order."""
    rng = np.random.default_rng(5)
    root = tmp_path / "mindeyev2"
    root.mkdir()
    mask = rng.random(GRID) < 0.5
    write_nifti(tmp_path / "nsd/subj02/nsdgeneral.nii.gz", mask.astype(np.int8) * 2 - 1, AFFINE)
    volumes = rng.normal(0, 1, (1500, *GRID)).astype(np.float32) * mask
    write_hdf5(root / "betas_all_subj02_fp32_renorm.hdf5", {"betas": flat(volumes, mask, "C")})
    shared, own = [72_999, 11, 500], [40, 41, 42, 43, 44]
    places = np.concatenate([rng.permutation(750)[:20], 750 + rng.permutation(750)[:20]])
    seen = {int(place): (shared + own)[n % 8] for n, place in enumerate(places)}
    for session in (1, 2):
        here = [p for p in seen if p // 750 + 1 == session and seen[p] in own]
        rows = [behav(seen[p], 2, session, p, 0) for p in here]
        write_tar(root / f"wds/subj02/train/{session - 1}.tar", rows)
    rows = [behav(seen[p], 2, p // 750 + 1, p, 1) for p in seen if seen[p] in shared]
    write_tar(root / "wds/subj02/new_test/0.tar", rows)
    with h5py.File(root / "coco_images_224_float16.hdf5", "w") as file:
        stored = file.create_dataset("images", (73_000, 3, 6, 6), "f2", chunks=(1, 3, 6, 6))
        for image in shared + own:
            stored[image] = np.broadcast_to(levels_of(image)[:, None, None] / 255, (3, 6, 6))
    return root, seen, volumes, mask


def levels_of(image):
    return np.array([image % 256, image % 7, 255 - image % 256])


def nsdgeneral(tmp_path):
    mask = str(tmp_path / "nsd/{subject}/nsdgeneral.nii.gz")
    return ArraysChoice(betas="", mask=mask, trials="", units="")


def test_mindeye_s_release(mindeye, tmp_path, caplog):
    root, seen, volumes, mask = mindeye
    before = contents(root)
    table = tmp_path / "table"
    command = f"convert arrays --data {root} --out {table} --mindeye --subjects 2 --mask {tmp_path}/nsd/{{subject}}/nsdgeneral.nii.gz"
    done = CliRunner().invoke(app, command.split())
    assert done.exit_code == 0, done.output + repr(done.exception)
    assert contents(root) == before
    assert "2 of 2 sessions of subj02 have fewer than 750 trials" in caplog.text
    data = open_recordings(table)
    order = sorted(seen)
    assert data.subjects == ["subj02"]
    assert data.trials.image_id.tolist() == [str(seen[place]) for place in order]
    assert data.trials.session.tolist() == [place // 750 + 1 for place in order]
    tested = data.trials.image_id[data.trials.split == "test"]
    assert set(tested) == {"72999", "11", "500"}
    np.testing.assert_array_equal(data.volumes(2), volumes[order])
    np.testing.assert_array_equal(data.mask(2), mask)
    for image in ("72999", "40"):
        assert data.image(image).getpixel((2, 3)) == tuple(levels_of(int(image)))
    assert not data.publish_images and "agreement" in data.terms
    assert data.licence == "NSD Terms and Conditions" and data.units == "z-scores within a session"


def test_mindeye_s_voxels_in_another_order_are_seen(mindeye, tmp_path):
    root, seen, volumes, mask = mindeye
    path = root / "betas_all_subj02_fp32_renorm.hdf5"
    path.unlink()
    write_hdf5(path, {"betas": flat(volumes, mask, "F")})
    data = open_recordings(convert_mindeye(root, tmp_path / "table", nsdgeneral(tmp_path)))
    assert not np.array_equal(data.volumes(2), volumes[sorted(seen)])


def old_test(root):
    (root / "wds/subj02/new_test").rename(root / "wds/subj02/test")


def with_rows(part, rows):
    return lambda root: write_tar(root / f"wds/subj02/{part}/9.tar", rows)


def half_the_betas(root):
    with h5py.File(root / "betas_all_subj02_fp32_renorm.hdf5", "r+") as file:
        half = file["betas"][:750]
        del file["betas"]
        file["betas"] = half


@pytest.mark.parametrize(
    "break_it, words",
    [
        (old_test, "no wds/subj02/new_test"),
        (with_rows("train", [behav(40, 1, 1, 5, 0)]), "column 1 to be 2"),
        (with_rows("train", [behav(40, 2, 2, 5, 0)]), "column 5 to lie in the session"),
        (with_rows("train", [behav(73_000, 2, 1, 5, 0)]), "column 0 from 0 to 72999"),
        (with_rows("train", [behav(11, 2, 1, 5, 1)]), "column 16 to be 0"),
        (with_rows("new_test", [behav(40, 2, 1, 5, 0)]), "column 16 to be 1"),
        (with_rows("train", [behav(40, 2, 1, 5, 0)] * 2), "trial 5 of subj02 comes twice"),
        (with_rows("train", [np.zeros((1, 16))]), r"shape \(1, 16\), expected \(1, 17\)"),
        (lambda root: (root / "wds/subj02/train/0.tar").write_bytes(b"x"), "not a readable tar"),
        (half_the_betas, "holds 750 trials and the trials' table names number"),
        (lambda root: (root / "betas_all_subj02_fp32_renorm.hdf5").unlink(), "has no betas_all"),
    ],
)
def test_what_mindeye_did_not_write_is_refused(break_it, words, mindeye, tmp_path):
    root = mindeye[0]
    break_it(root)
    with pytest.raises(NeurovlError, match=words) as problem:
        convert_mindeye(root, tmp_path / "table", nsdgeneral(tmp_path))
    assert "\n" not in str(problem.value) and not (tmp_path / "table").exists()


def test_mindeye_without_pictures_or_with_another_mask(mindeye, tmp_path):
    root, seen, volumes, mask = mindeye
    (root / "coco_images_224_float16.hdf5").unlink()
    made = convert_mindeye(root, tmp_path / "table", nsdgeneral(tmp_path), ["subj02"])
    assert not open_recordings(made).has_images
    more = mask | (np.arange(mask.size).reshape(GRID) == int((~mask).ravel().argmax()))
    write_nifti(tmp_path / "nsd/subj02/nsdgeneral.nii.gz", more.astype(np.int8), AFFINE)
    with pytest.raises(DataError, match=f"expected axes of {mask.sum() + 1} voxels"):
        convert_mindeye(root, tmp_path / "other", nsdgeneral(tmp_path))
    with pytest.raises(MissingError, match="no betas_all_subj05"):
        convert_mindeye(root, tmp_path / "other", nsdgeneral(tmp_path), [5])
