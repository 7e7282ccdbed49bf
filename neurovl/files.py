"""Files that are whole or not there: written beside, brought to the disk, then given their name; and lists that grow."""

import contextlib
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A hidden name beside `path` to write to, with its ending; becomes `path` if the body ends well.

    Parameters
    ----------
    path
        Its folder is made where it is not there.

    Examples
    --------
    >>> from neurovl.files import replacing
    >>> with replacing(folder / "notes.txt") as part:
    ...     _ = part.write_text("all of it")
    >>> [path.name for path in folder.iterdir()]
    ['notes.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".part-{os.getpid()}-{path.name}")
    try:
        yield part
        flush(part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_journal(path: Path) -> list[dict]:
    """The whole records of a journal, which another process may be writing."""
    return [json.loads(line) for line in _whole_lines(path).splitlines()]


def _whole_lines(path: Path) -> str:
    text = path.read_bytes()
    return text[: text.rfind(b"\n") + 1].decode()


class Journal:
    """Records that long work appends as it goes, a line of JSON each, and finds again when it is started anew.

    The file is made where it is not there; a last line that was cut short is taken off.

    Attributes
    ----------
    records : list of dict

    Examples
    --------
    >>> from neurovl.files import Journal
    >>> Journal(folder / "done.jsonl").add([{"picture": "a"}])
    >>> Journal(folder / "done.jsonl").records
    [{'picture': 'a'}]
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()
        whole = _whole_lines(path)
        if len(whole.encode()) < path.stat().st_size:
            path.write_text(whole, encoding="utf-8")
        self.records: list[dict] = [json.loads(line) for line in whole.splitlines()]

    def add(self, records: Iterable[dict]) -> None:
        """Append records and bring them to the disk."""
        records = list(records)
        with open(self.path, "a", encoding="utf-8") as file:
            file.writelines(json.dumps(one) + "\n" for one in records)
        flush(self.path)
        self.records += records
