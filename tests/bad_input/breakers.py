"""Ways to break a file; each gives a function that takes the world's folder.

Files of a world are hard links to the healthy ones, so every change writes a new file in their place.
"""

import gzip
import json
import os
import shutil
import struct
import zlib
from pathlib import Path

import h5py
import nibabel
import numpy as np
import pandas as pd


def own(path: Path) -> Path:
    """The same file as a copy that nobody shares."""
    if path.exists() and not path.is_symlink():
        beside = path.with_name(path.name + ".copy")
        shutil.copyfile(path, beside)
        os.replace(beside, path)
    return path


def put(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def both(*steps):
    def spoil(folder):
        for step in steps:
            step(folder)

    return spoil


def nothing(folder):
    """The data are healthy; the command is not."""


def remove(name):
    def spoil(folder):
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return spoil


def rename(name, new):
    return lambda folder: os.rename(folder / name, (folder / name).with_name(new))


def holds(name, data):
    """The file has this content."""
    return lambda folder: put(folder / name, data.encode() if isinstance(data, str) else data)


def cut(name, keep):
    """The file keeps a share of its bytes, or all but the last -keep."""

    def spoil(folder):
        data = (folder / name).read_bytes()
        put(folder / name, data[: keep if keep < 0 else int(len(data) * keep)])

    return spoil


def flipped(name, at):
    """A byte has another value, `at` a share of the length or from the end."""

    def spoil(folder):
        data = bytearray((folder / name).read_bytes())
        data[at if at < 0 else int(len(data) * at)] ^= 0xFF
        put(folder / name, bytes(data))

    return spoil


def folder_instead(name):
    def spoil(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return spoil


def link_to(name, target):
    def spoil(folder):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return spoil


def forbidden(name):
    return lambda folder: own(folder / name).chmod(0)


def text(name, change, encoding="utf-8"):
    """The text file is changed by a function of its text."""
    return lambda folder: put(folder / name, change((folder / name).read_text()).encode(encoding))


def cell(name, column, value, row=0, sep="\t"):
    def spoil(folder):
        frame = pd.read_csv(folder / name, sep=sep, dtype=str, keep_default_na=False)
        frame.loc[slice(None) if row is None else row, column] = value
        put(folder / name, frame.to_csv(sep=sep, index=False).encode())

    return spoil


def rows(name, change, sep="\t"):
    """The table is changed by a function of its DataFrame of text."""

    def spoil(folder):
        frame = pd.read_csv(folder / name, sep=sep, dtype=str, keep_default_na=False)
        put(folder / name, change(frame).to_csv(sep=sep, index=False).encode())

    return spoil


def again(frame):
    """The first row of a table a second time."""
    return pd.concat([frame, frame.iloc[:1]])


def json_with(name, /, **keys):
    def spoil(folder):
        found = json.loads((folder / name).read_text())
        put(folder / name, json.dumps({**found, **keys}).encode())

    return spoil


def volumes(name, change, affine=None, kind=nibabel.Nifti1Image):
    """The NIfTI file holds what a function makes of its array, as that array's number type."""

    def spoil(folder):
        path = folder / name
        image = nibabel.load(path)
        data = change(np.asarray(image.dataobj))
        path.unlink()
        nibabel.save(kind(data, image.affine if affine is None else affine), path)

    return spoil


def filled(data, value, *where):
    data = np.array(data, np.float32)
    data[where] = value
    return data


def header(name, /, **fields):
    """The header of a NIfTI file says something else; the voxels stay as they are."""

    def spoil(folder):
        path = folder / name
        opener = gzip.open if name.endswith(".gz") else open
        with opener(path, "rb") as file:
            data = file.read()
        changed = nibabel.Nifti1Header(data[:348], check=False)
        for field, value in fields.items():
            changed[field] = value
        path.unlink()
        with opener(path, "wb") as file:
            file.write(changed.binaryblock + data[348:])

    return spoil


def dims(*sizes):
    return [len(sizes), *sizes, *[1] * (7 - len(sizes))]


def hdf5(name, change):
    """The HDF5 file is changed by a function of the open file."""

    def spoil(folder):
        with h5py.File(own(folder / name), "r+") as file:
            change(file)

    return spoil


def replaced(file, dataset, data):
    del file[dataset]
    file[dataset] = data


def own_chunks(name):
    """A byte of the betas is wrong, in a file that keeps checksums of its chunks."""

    def change(file):
        data = file["betas"][:]
        del file["betas"]
        file.create_dataset("betas", data=data, chunks=(50, *data.shape[1:]), fletcher32=True)
        return file["betas"].id.get_chunk_info(3).byte_offset

    def spoil(folder):
        with h5py.File(own(folder / name), "r+") as file:
            at = change(file)
        data = bytearray((folder / name).read_bytes())
        data[at + 40] ^= 0xFF
        put(folder / name, bytes(data))

    return spoil


def matlab(name, /, **arrays):
    from scipy.io import loadmat, savemat

    def spoil(folder):
        found = {k: v for k, v in loadmat(folder / name).items() if not k.startswith("_")}
        for key, change in arrays.items():
            found[key] = change(found[key])
        (folder / name).unlink()
        savemat(folder / name, found, do_compression=True)

    return spoil


def bomb(name, side=30_000):
    """A picture of some bytes that promises to fill the memory."""

    def chunk(kind, data):
        whole = kind + data
        return struct.pack(">I", len(data)) + whole + struct.pack(">I", zlib.crc32(whole))

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(bytes(99))), chunk(b"IEND", b"")
    return holds(name, b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def arrays(name, change):
    """The .npz file holds what a function makes of its arrays."""

    def spoil(folder):
        with np.load(folder / name) as file:
            found = dict(file)
        (folder / name).unlink()
        np.savez(folder / name, **change(found))

    return spoil
