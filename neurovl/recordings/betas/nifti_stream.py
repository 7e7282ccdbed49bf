"""NIfTI files of volumes, streamed: a compressed file is decoded a few volumes at a time.

ISA-L (python-isal) decodes; its speed bounds all that reads compressed files. A plain file is mapped
window by window.
"""

import contextlib
import io
import mmap
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np

from neurovl.errors import DataError
from neurovl.recordings.betas.stream import Betas, next_step

if TYPE_CHECKING:
    from nibabel import Nifti1Header

BLOCK = 4 << 20  # bytes of whole volumes at a time: more than that leaves the cache


class NiftiBetas(Betas):
    """Volumes of a NIfTI file; `header` is nibabel's."""

    def __init__(self, path: Path, hint: str = "") -> None:
        super().__init__(path, hint)
        with open(path, "rb") as file:
            self.compressed = file.read(2) == b"\x1f\x8b"
        self.header = self._read_header()
        self.stored = self.header.get_data_dtype()
        self.shape = self._read_shape()
        self.affine = self.header.get_best_affine()
        self._offset = max(self.header.get_data_offset(), self.header.single_vox_offset)
        self._scale = self._read_scale()
        self.dtype = self.stored.newbyteorder("=") if self._scale is None else np.dtype(np.float32)

    def _open(self) -> BinaryIO:
        if not self.compressed:
            return open(self.path, "rb")
        from isal import igzip

        return igzip.open(self.path, "rb")

    def _read_header(self) -> "Nifti1Header":
        from nibabel import Nifti1Header, Nifti2Header

        try:
            with self._open() as file:
                start = file.read(540)
            sizes = {int.from_bytes(start[:4], order) for order in ("little", "big")}
            kinds = {348: Nifti1Header, 540: Nifti2Header}
            size = next((size for size in kinds if size in sizes), None)
            if size is None:
                raise ValueError("it does not begin with 348 or 540")
            header = kinds[size].from_fileobj(io.BytesIO(start[:size]))  # without extensions
        except (*_failures(), ValueError) as problem:
            raise DataError(
                f"{self.path.name} is not a readable NIfTI file ({problem}); "
                f"it may be cut short or of another format{next_step(self.hint)}"
            ) from problem
        if header["magic"].item()[:2] != b"n+":
            raise DataError(
                f"{self.path.name} has its voxels in a second file (.img), expected both in one: "
                "save it as .nii.gz"
            )
        return header

    def _read_shape(self) -> tuple:
        shape = tuple(int(size) for size in self.header.get_data_shape())
        if len(shape) > 4 and all(size == 1 for size in shape[4:]):
            shape = shape[:4]
        whole = (*shape, 1) if len(shape) == 3 else shape
        if len(whole) != 4 or min(whole) < 1:
            raise DataError(
                f"{self.path.name} has the shape {shape}, expected (x, y, z, volumes)"
                f"{next_step(self.hint)}"
            )
        if self.stored.kind not in "iuf":
            raise DataError(
                f"{self.path.name} holds numbers of type {self.stored}, expected integers or real "
                f"numbers{next_step(self.hint)}"
            )
        return whole

    def _read_scale(self) -> tuple[float, float] | None:
        from nibabel.spatialimages import HeaderDataError

        try:
            slope, inter = self.header.get_slope_inter()
        except HeaderDataError as problem:
            raise DataError(
                f"{self.path.name} has a slope and no intercept ({problem}), expected both or "
                f"neither{next_step(self.hint)}"
            ) from problem
        return None if (slope, inter) in ((None, None), (1.0, 0.0)) else (slope, inter)

    def _gather(self, voxels: np.ndarray, positions: np.ndarray, out: np.ndarray) -> None:
        plain = self._scale is None and self.stored.isnative
        for rows, block, chosen in self._blocks(positions):
            if plain and chosen is None and isinstance(rows, slice):
                np.take(block, voxels, axis=1, out=out[rows], mode="clip")  # without a copy
                continue
            block = block if chosen is None else block[chosen]
            out[rows] = self._scaled(np.take(block, voxels, axis=1))

    def _copy(
        self, positions: np.ndarray, out: np.ndarray, rows: Sequence[int] | np.ndarray
    ) -> None:
        x, y, z = self.shape[:3]
        for found, block, chosen in self._blocks(positions):
            where = rows[found]
            which = range(len(block)) if chosen is None else chosen
            for row, place in zip(where, which, strict=True):
                out[row] = self._scaled(block[place]).reshape(z, y, x).T

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        if self._scale is None:
            return values
        slope, inter = self._scale
        return (values * np.float64(slope) + inter).astype(np.float32)

    def _blocks(
        self, positions: np.ndarray
    ) -> Iterator[tuple[np.ndarray | slice, np.ndarray, np.ndarray | slice]]:
        """Yield ``(rows, block, chosen)`` in the file's order.

        `rows` of the result are volumes `chosen` of the block (n, n_voxels), all if None.
        """
        order = np.argsort(positions, kind="stable")
        ranked = positions[order]
        end = int(ranked[-1]) + 1 if len(ranked) else 0
        for first, block in self._stream(end):
            low, high = np.searchsorted(ranked, [first, first + len(block)])
            if low == high:
                continue
            rows, chosen = order[low:high], ranked[low:high] - first
            if len(rows) == len(block) and (np.diff(chosen) == 1).all():
                chosen = None
            if (np.diff(rows) == 1).all():
                rows = slice(int(rows[0]), int(rows[-1]) + 1)
            yield rows, block, chosen

    def _stream(self, end: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(first, volumes (n, n_voxels))`` up to volume `end`; a block is valid until the next."""
        n_voxels, n_volumes = int(np.prod(self.shape[:3])), self.shape[3]
        step = max(1, BLOCK // (n_voxels * self.stored.itemsize))
        read = self._decoded if self.compressed else self._mapped
        with contextlib.closing(read(n_voxels, step, end, end == n_volumes)) as blocks:
            yield from blocks

    def _decoded(
        self, n_voxels: int, step: int, end: int, to_the_end: bool
    ) -> Iterator[tuple[int, np.ndarray]]:
        buffer = np.empty((min(step, max(end, 1)), n_voxels), self.stored)
        try:
            with self._open() as file:
                file.seek(self._offset)
                for first in range(0, end, step):
                    block = buffer[: min(step, end - first)]
                    _fill(file, block)
                    yield first, block
                # reading on to the end also compares the checksum
                extra = len(file.read(1)) if to_the_end else 0
        except _failures() as problem:
            raise self._broken(problem) from problem
        if extra:
            raise self._too_much()

    def _mapped(
        self, n_voxels: int, step: int, end: int, to_the_end: bool
    ) -> Iterator[tuple[int, np.ndarray]]:
        volume = n_voxels * self.stored.itemsize
        promised = self._offset + self.shape[3] * volume
        size = self.path.stat().st_size
        if size < promised:
            raise self._broken(EOFError(f"it has {size} bytes of {promised}"))
        if size > promised:
            raise self._too_much()
        page = mmap.ALLOCATIONGRANULARITY
        with open(self.path, "rb") as file:
            for first in range(0, end, step):  # a window at a time: what is mapped counts as memory
                n = min(step, end - first)
                start = self._offset + first * volume
                shift = start % page
                window = mmap.mmap(
                    file.fileno(), shift + n * volume, access=mmap.ACCESS_READ, offset=start - shift
                )
                yield (
                    first,
                    np.frombuffer(window, self.stored, n * n_voxels, shift).reshape(n, -1),
                )

    def _too_much(self) -> DataError:
        return DataError(
            f"{self.path.name} holds more than the {self.shape[3]} volumes of "
            f"{self.shape[:3]} that its header promises; header and data do not belong together"
            f"{next_step(self.hint)}"
        )


def _failures() -> tuple:
    """What decoding a cut or damaged file raises."""
    from isal import isal_zlib
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    return EOFError, OSError, zlib.error, isal_zlib.error, HeaderDataError, WrapStructError


def _fill(file: BinaryIO, block: np.ndarray) -> None:
    view = memoryview(block.reshape(-1).view(np.uint8))
    done = 0
    while done < len(view):
        got = file.readinto(view[done:])
        if not got:
            raise EOFError(f"{len(view) - done} bytes of a block are missing")
        done += got
