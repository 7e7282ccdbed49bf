"""Volumes streamed from disk, against nibabel, h5py and arithmetic."""

import gzip
import tracemalloc

import h5py
import nibabel
import numpy as np
import pytest

from neurovl.errors import DataError, MissingError
from neurovl.recordings.betas import open_betas

SHAPE = (5, 4, 3, 11)
AFFINE = np.array([[-1.8, 0, 0, 70], [0, 1.8, 0, -90], [0, 0, 1.8, -60], [0, 0, 0, 1.0]])
POSITIONS = [None, [3], [10, 0, 4, 4, 3], list(range(2, 9)), []]


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 250, SHAPE)


def save(path, values, dtype="<i2", version=1, scale=None, comment=b""):
    """Write with nibabel; a slope and intercept are put into the header as they are."""
    kinds = {1: nibabel.Nifti1Image, 2: nibabel.Nifti2Image}
    order = ">" if np.dtype(dtype).byteorder == ">" else "<"
    header = kinds[version].header_class(endianness=order)
    header.set_data_dtype(np.dtype(dtype))
    image = kinds[version](values.astype(dtype), AFFINE, header)
    if comment:
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", comment))
    image.header.set_slope_inter(*(scale or (1, 0)))
    if scale is None:
        nibabel.save(image, path)
        return path
    # nibabel would divide by the slope, so the numbers go in by hand
    header = image.header.copy()
    header["vox_offset"] = header.single_vox_offset
    content = header.binaryblock + b"\0\0\0\0" + values.astype(dtype).tobytes(order="F")
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def check(path, n_volumes=SHAPE[3]):
    """Compare every way of reading with nibabel's array."""
    image = nibabel.load(path)
    reference = image.get_fdata()
    betas = open_betas(path)
    assert betas.shape == reference.shape
    np.testing.assert_allclose(betas.affine, image.affine)
    flat = reference.reshape(-1, n_volumes, order="F").T
    voxels = np.array([0, 1, 2, 7, 19, 20, 43, 58, 59])
    for positions in POSITIONS:
        rows = slice(None) if positions is None else positions
        found = betas.read_voxels(voxels, positions)
        assert found.dtype == betas.dtype and found.dtype.isnative
        np.testing.assert_allclose(found, flat[rows][:, voxels], rtol=1e-6)
        found = betas.read_volumes(positions)
        np.testing.assert_allclose(found, np.moveaxis(reference, -1, 0)[rows], rtol=1e-6)
    return betas


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "|u1", "<f4", ">f8"])
def test_types_and_versions(tmp_path, values, ending, version, dtype):
    betas = check(save(tmp_path / f"a.{ending}", values, dtype, version))
    assert betas.dtype == np.dtype(dtype).newbyteorder("=") and betas.stored == np.dtype(dtype)


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
@pytest.mark.parametrize("dtype", ["<i2", ">i4", "<f4"])
def test_slope_and_intercept_are_applied(tmp_path, values, ending, dtype):
    path = save(tmp_path / f"a.{ending}", values, dtype, scale=(0.25, -3.5))
    assert check(path).dtype == np.float32
    np.testing.assert_array_equal(
        open_betas(path).read_volumes([6])[0], values[..., 6] * 0.25 - 3.5
    )


@pytest.mark.parametrize("slope", [0, np.nan])
def test_no_slope_is_no_scaling(tmp_path, values, slope):
    path = save(tmp_path / "a.nii", values, scale=(1, 0))
    content = bytearray(path.read_bytes())
    content[112:116] = np.float32(slope).tobytes()  # scl_slope
    path.write_bytes(content)
    assert check(path).dtype == np.int16


@pytest.mark.parametrize("ending", ["nii", "nii.gz"])
def test_data_after_extensions(tmp_path, values, ending):
    path = save(tmp_path / f"a.{ending}", values, comment=b"x" * 999)
    assert nibabel.load(path).dataobj.offset > 1000
    check(path)


def test_blocks_of_several_volumes(tmp_path, values, monkeypatch):
    from neurovl.recordings.betas import nifti_stream as nifti

    for ending in ("nii", "nii.gz"):
        path = save(tmp_path / f"a.{ending}", values)
        for n in (1, 3, 4):
            monkeypatch.setattr(nifti, "BLOCK", n * 5 * 4 * 3 * 2 + 7)
            check(path)


def test_three_axes_are_one_volume(tmp_path, values):
    path = save(tmp_path / "a.nii", values[..., 0])
    betas = open_betas(path)
    assert betas.shape == (*SHAPE[:3], 1)
    np.testing.assert_array_equal(betas.read_volumes()[0], values[..., 0])


def test_gzip_of_several_members(tmp_path, values):
    path = save(tmp_path / "a.nii", values)
    content = path.read_bytes()
    joined = tmp_path / "b.nii.gz"
    joined.write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    check(joined)


def test_compression_is_told_by_content(tmp_path, values):
    path = save(tmp_path / "a.nii.gz", values)
    path.rename(tmp_path / "b.nii")
    np.testing.assert_array_equal(
        open_betas(tmp_path / "b.nii").read_volumes(), np.moveaxis(values, -1, 0)
    )


def test_volumes_into_rows_of_an_array(tmp_path, values):
    betas = open_betas(save(tmp_path / "a.nii.gz", values))
    out = np.full((6, *SHAPE[:3]), -1, np.float32)
    assert betas.read_volumes([7, 2], out=out, rows=[5, 0]) is out
    np.testing.assert_array_equal(out[[5, 0]], np.moveaxis(values, -1, 0)[[7, 2]])
    assert (out[1:5] == -1).all()


@pytest.mark.parametrize(
    "layout",
    [
        {"chunks": (11, 1, 1, 1)},  # NSD
        {"chunks": (11, 1, 1, 1), "compression": "gzip", "shuffle": True},
        {"chunks": None},
        {"chunks": (1, 3, 4, 5)},
        {"chunks": (4, 2, 3, 2), "compression": "gzip"},
    ],
)
@pytest.mark.parametrize("box", [64 << 20, 50])
def test_hdf5_of_any_chunks(tmp_path, values, layout, box, monkeypatch):
    from neurovl.recordings.betas import hdf5_stream as hdf5

    monkeypatch.setattr(hdf5, "BOX", box)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("betas", data=values.T.astype(np.int16), **layout)
    betas = open_betas(tmp_path / "a.hdf5")
    assert betas.shape == SHAPE and betas.dtype == np.int16
    flat = values.reshape(-1, SHAPE[3], order="F").T
    for voxels in (np.arange(60), np.array([0, 1, 2, 7, 19, 20, 43, 58, 59]), np.arange(0)):
        for positions in POSITIONS:
            rows = slice(None) if positions is None else positions
            found = betas.read_voxels(voxels, positions)
            np.testing.assert_array_equal(found, flat[rows][:, voxels])
            found = betas.read_volumes(positions)
            np.testing.assert_array_equal(found, np.moveaxis(values, -1, 0)[rows])


def test_real_headers(shared_data):
    n = 0
    for path in sorted((shared_data / "nifti").glob("*.nii*")):
        image = nibabel.load(path)
        if image.ndim not in (3, 4):
            continue
        reference = np.moveaxis(image.get_fdata().reshape(*image.shape[:3], -1), -1, 0)
        np.testing.assert_allclose(open_betas(path).read_volumes(), reference, rtol=1e-5)
        n += 1
    assert n > 3


def test_memory_holds_the_result_and_a_few_volumes(tmp_path):
    shape, n = (40, 40, 40), 300  # 38 MB
    values = np.random.default_rng(0).integers(-9, 9, (*shape, n)).astype(np.int16)
    save(tmp_path / "a.nii.gz", values)
    with h5py.File(tmp_path / "a.hdf5", "w") as file:
        file.create_dataset("betas", data=values.T, chunks=(n, 10, 10, 10))
    voxels = np.arange(500, 64000, 64)
    for name in ("a.nii.gz", "a.hdf5"):
        betas = open_betas(tmp_path / name)
        betas.read_voxels(voxels[:1], [0])  # libraries are loaded
        tracemalloc.start()
        found = betas.read_voxels(voxels)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        expected = values.reshape(-1, n, order="F")[voxels].T
        np.testing.assert_array_equal(found, expected)
        assert peak < 2.5 * found.nbytes + 16e6


# ---- what is broken is named


def cut(content):
    return content[: len(content) // 2]


def compressed(change):
    return lambda content: gzip.compress(change(gzip.decompress(content)))


def wrong_checksum(content):
    return content[:-8] + bytes([content[-8] ^ 1]) + content[-7:]


def header_says(offset, value):
    def change(content):
        return content[:offset] + value + content[offset + len(value) :]

    return compressed(change)


@pytest.mark.parametrize(
    "spoil, message",
    [
        (cut, "a.nii.gz ends early: its header promises .*cut short: fetch it again"),
        (lambda content: content[:-9], "ends early.*cut short"),
        (lambda content: content[:-8], "ends early.*cut short"),  # no checksum
        (lambda content: content[:-3], "ends early.*cut short"),
        (wrong_checksum, "is damaged.*CRC"),
        (lambda content: content + b"more", "ends early"),
        (lambda content: content[:20], "not a readable NIfTI file.*another format: fetch it"),
        (lambda content: b"", "not a readable NIfTI file"),
        (lambda content: b"text", "not a readable NIfTI file"),
        (lambda content: gzip.compress(b"text" * 200), "not a readable NIfTI file"),
        (compressed(lambda content: content[:-1]), "ends early"),
        (compressed(lambda content: content + b"\0"), "holds more than the 11 volumes"),
        (compressed(lambda content: content[: -8280 * 2]), "ends early"),
        (compressed(lambda content: content + bytes(8280 * 2)), "holds more than the 11 volumes"),
        (
            header_says(48, np.int16(10).tobytes()),
            r"holds more than the 10 volumes of \(15, 24, 23\)",
        ),
        (header_says(42, np.int16(50).tobytes()), "ends early"),  # dim[1]
        (header_says(42, np.int16(-5).tobytes()), "shape.*expected .x, y, z, volumes"),
        (header_says(40, np.int16(2).tobytes()), "shape.*expected .x, y, z, volumes"),  # dim[0]
        (header_says(70, np.int16(1792).tobytes()), "numbers of type complex128"),
        (header_says(70, np.int16(128).tobytes()), "numbers of type .*expected integers or real"),
        (header_says(70, np.int16(77).tobytes()), "not a readable NIfTI file"),
        (header_says(116, np.float32(np.inf).tobytes()), "slope and no intercept"),
        (header_says(344, b"ni1\0"), "voxels in a second file"),
        (header_says(344, b"what"), "not a readable NIfTI file"),
    ],
)
def test_broken_gzip(tmp_path, spoil, message):
    values = np.random.default_rng(0).normal(0, 300, (15, 24, 23, 11))  # more than a buffer
    path = save(tmp_path / "a.nii.gz", values)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        open_betas(path, "fetch it again").read_voxels([3, 4])


def test_a_flipped_bit_is_found(tmp_path):
    """Any damage to the compressed data, by the checksum if not before."""
    values = np.random.default_rng(0).normal(0, 300, (9, 9, 9, 40))
    content = bytearray(save(tmp_path / "a.nii.gz", values).read_bytes())
    for place in np.random.default_rng(1).integers(400, len(content) - 8, 40):
        damaged = content.copy()
        damaged[place] ^= 16
        (tmp_path / "b.nii.gz").write_bytes(damaged)
        with pytest.raises(DataError, match="b.nii.gz"):
            open_betas(tmp_path / "b.nii.gz").read_voxels([0])


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda content: content[:-1], "ends early.*it has 1671 bytes of 1672"),
        (lambda content: content + b"\0", "holds more than the 11 volumes"),
        (lambda content: content[:100], "not a readable NIfTI file"),
    ],
)
def test_broken_plain_file(tmp_path, values, change, message):
    path = save(tmp_path / "a.nii", values)
    assert path.stat().st_size == 352 + 5 * 4 * 3 * 11 * 2
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DataError, match=message):
        open_betas(path).read_voxels([3, 4], [0])


def test_broken_hdf5(tmp_path):
    path = tmp_path / "a.hdf5"
    with h5py.File(path, "w") as file:
        file["betas"] = np.zeros((3, 2, 2))
        file["words"] = np.full((2, 2, 2, 2), b"x")
        file.create_group("folder")
    with pytest.raises(
        DataError, match=r"shape \(3, 2, 2\) named betas, expected .volumes, z, y, x"
    ):
        open_betas(path)
    with pytest.raises(DataError, match="numbers of type"):
        open_betas(path, dataset="words")
    with pytest.raises(DataError, match="no array named folder"):
        open_betas(path, dataset="folder")
    with pytest.raises(DataError, match="with the dataset nothing.*cut short: again"):
        open_betas(path, "again", dataset="nothing")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(DataError, match="a.hdf5 cannot be read"):
        open_betas(path)


def test_what_is_not_there(tmp_path, values):
    with pytest.raises(MissingError, match="a.nii.gz is missing: fetch it"):
        open_betas(tmp_path / "a.nii.gz", "fetch it")
    betas = open_betas(save(tmp_path / "a.nii.gz", values))
    with pytest.raises(DataError, match="voxels 0 to 59, voxel 60 was asked for"):
        betas.read_voxels([0, 60])
    with pytest.raises(DataError, match="volumes 0 to 10, volume -1 was asked for"):
        betas.read_volumes([-1])
