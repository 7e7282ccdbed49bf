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
from neurovl.files import flush


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
    done = {int(line) for line in lines if re.fullmatch(r"\d+\n", line)}  # the last may be torn
    return chunk, {one for one in done if one * chunk < remote.size}


def bytes_on_disk(path: Path, remote: Remote) -> int:
    """Bytes of this version that an interrupted transfer left."""
    chunk, done = read_journal(path, remote) or (0, ())
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
        self._journal, self._lock = journal_path(path), threading.Lock()
        self._begun = self._closed = False
        self._found = read_journal(path, remote)
        self.chunk, self.done = self._found or (chunk, set())

    def missing(self) -> list[int]:
        """Numbers of the ranges that are not on disk yet."""
        n_ranges = -(-self.remote.size // self.chunk)
        return [number for number in range(n_ranges) if number not in self.done]

    def span(self, number: int) -> tuple[int, int]:
        """First byte of a range, and the byte after its last."""
        start = number * self.chunk
        return start, min(start + self.chunk, self.remote.size)

    def descriptor(self) -> int:
        """The file, begun if need be and open for one thread, which closes it."""
        with self._lock:
            if self._closed:
                raise Stopped
            if not self._begun:
                self._begin()
            return os.open(self.path, os.O_WRONLY)

    def _begin(self) -> None:
        if self._found is None:
            self.final.parent.mkdir(parents=True, exist_ok=True)
            self._remove()
            with open(self.path, "wb") as file:
                file.truncate(self.remote.size)
            head = {"size": self.remote.size, "etag": self.remote.etag, "chunk": self.chunk}
            self._journal.write_text(f"{json.dumps(head)}\n")
        else:  # without a line that was cut in the middle
            os.truncate(self._journal, self._journal.read_bytes().rfind(b"\n") + 1)
        self._begun = True

    def complete(self, number: int, descriptor: int) -> bool:
        """Set down that a range is written; whether it was the last."""
        os.fsync(descriptor)
        with self._lock:
            if self._closed:
                raise Stopped
            with open(self._journal, "a") as file:
                file.write(f"{number}\n")
            self.done.add(number)
            return not self.missing()

    def publish(self) -> None:
        """Give the file its final name."""
        self.close()
        os.replace(self.path, self.final)
        self._journal.unlink(missing_ok=True)
        flush(self.final.parent)

    def discard(self) -> bool:
        """Remove all of it; False if another thread has done so, or closed it."""
        first = self.close()
        if first:
            self._remove()
        return first

    def close(self) -> bool:
        """Keep what is on disk for the next time; False if another thread has closed it."""
        with self._lock:
            first, self._closed = not self._closed, True
            return first

    def _remove(self) -> None:
        for path in (self._journal, self.path):
            path.unlink(missing_ok=True)
