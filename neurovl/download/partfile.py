"""A file on its way: `.NAME.part` beside the final name, and a journal of the ranges that are on disk.

The journal's first line names the version and the length of the ranges; each further line is the
number of a range whose bytes are on disk. A line is written after its bytes were flushed, so that what
a killed process leaves can be trusted as far as the journal goes.
"""

import json
import os
import re
import threading
from pathlib import Path

from neurovl.download.servers import Remote, Stopped


def part_path(path: Path) -> Path:
    """Where a file lies until it is whole."""
    return path.with_name(f".{path.name}.part")


def journal_path(path: Path) -> Path:
    """Where the ranges that are on disk are set down."""
    return path.with_name(f".{path.name}.part.journal")


def read_journal(path: Path, remote: Remote) -> tuple[int, set[int]] | None:
    """Length of the ranges, and those on disk, of a part of this version; None if there is none.

    Parameters
    ----------
    path : Path
        The final name.
    remote : Remote
    """
    try:
        head, *lines = journal_path(path).read_text().splitlines(keepends=True)
        head = json.loads(head)
        chunk = int(head["chunk"])
        if (head["size"], head["etag"]) != (remote.size, remote.etag) or chunk < 1:
            return None
        if part_path(path).stat().st_size != remote.size:
            return None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    n_ranges = -(-remote.size // chunk)
    done = {int(line) for line in lines if re.fullmatch(r"\d+\n", line)}  # the last may be torn
    return chunk, {one for one in done if one < n_ranges}


def bytes_on_disk(path: Path, remote: Remote) -> int:
    """Bytes of this version that an interrupted transfer left."""
    found = read_journal(path, remote)
    if found is None:
        return 0
    chunk, done = found
    return sum(min(chunk, remote.size - number * chunk) for number in done)


class PartFile:
    """One version of a file, written range by range by several threads.

    What an interrupted transfer of the same version left is taken up; anything else is replaced by a
    new file, so that threads which still write to the old one do no harm.

    Parameters
    ----------
    path : Path
        The final name.
    remote : Remote
    chunk : int
        Length of a range in bytes, for a file that is begun now.
    """

    def __init__(self, path: Path, remote: Remote, chunk: int) -> None:
        self.final, self.path, self.remote = path, part_path(path), remote
        self._journal_path, self._lock = journal_path(path), threading.Lock()
        found = read_journal(path, remote)
        if found is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            for old in (self._journal_path, self.path):
                old.unlink(missing_ok=True)
        self.chunk, self.done = found or (chunk, set())
        self._data = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._journal = os.open(self._journal_path, flags, 0o644)
        if found is None:
            os.ftruncate(self._data, remote.size)
            head = {"size": remote.size, "etag": remote.etag, "chunk": chunk}
            os.write(self._journal, f"{json.dumps(head)}\n".encode())
        else:  # without a line that was cut in the middle
            os.ftruncate(self._journal, self._journal_path.read_bytes().rfind(b"\n") + 1)

    def missing(self) -> list[int]:
        """Numbers of the ranges that are not on disk yet."""
        n_ranges = -(-self.remote.size // self.chunk)
        return [number for number in range(n_ranges) if number not in self.done]

    def span(self, number: int) -> tuple[int, int]:
        """First byte of a range, and the byte after its last."""
        start = number * self.chunk
        return start, min(start + self.chunk, self.remote.size)

    def descriptor(self) -> int:
        """The file, open for one thread, which closes it."""
        with self._lock:
            if self._data is None:
                raise Stopped
            return os.dup(self._data)

    def complete(self, number: int, descriptor: int) -> bool:
        """Set down that a range is written; whether it was the last."""
        os.fsync(descriptor)
        with self._lock:
            if self._data is None:
                raise Stopped
            os.write(self._journal, f"{number}\n".encode())
            self.done.add(number)
            return len(self.done) == -(-self.remote.size // self.chunk)

    def publish(self) -> None:
        """Give the file its final name."""
        descriptor = self.descriptor()
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        self.close()
        os.replace(self.path, self.final)
        self._journal_path.unlink(missing_ok=True)
        folder = os.open(self.final.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def discard(self) -> bool:
        """Remove all of it; False if another thread has done so, or closed it."""
        with self._lock:
            if self._data is None:
                return False
            self._close()
            self._journal_path.unlink(missing_ok=True)
            self.path.unlink(missing_ok=True)
            return True

    def close(self) -> None:
        """Keep what is on disk for the next time."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        for one in (self._data, self._journal):
            if one is not None:
                os.close(one)
        self._data = self._journal = None
