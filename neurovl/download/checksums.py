"""Whether a file is the one that the server has, and a manifest of those that were found to be.

S3 names a version of a file by its ETag: the md5 of its bytes, or, after an upload in N parts,
``md5(md5(part 1) + ... + md5(part N))-N`` (AWS, "Checking object integrity in Amazon S3"). The size of
the parts is not in it: the server is asked, and where it does not say, usual sizes are tried.
"""

import hashlib
import json
import logging
import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from neurovl.files import replacing

logger = logging.getLogger(__name__)

MANIFEST = ".neurovl-manifest.json"
MIB = 1 << 20
PARTS = tuple(n * MIB for n in (8, 16, 5, 15, 32, 64, 10, 20, 25, 50, 100, 128, 256, 512, 1024))
BLOCK = 1 << 20


@dataclass(frozen=True)
class Finding:
    """What reading a file gave.

    Attributes
    ----------
    whole : bool or None
        Whether it has the checksum expected; None if that could not be checked.
    sha256 : str
    came : str
        The checksum it has, of the kind expected.
    """

    whole: bool | None
    sha256: str
    came: str


def possible_parts(size: int, n_parts: int) -> list[int]:
    """Usual part sizes, in bytes, with which a file of `size` bytes is uploaded in `n_parts` parts."""
    even = math.ceil(size / n_parts / MIB) * MIB  # the least number of MiB that will do
    sizes = dict.fromkeys((*PARTS, even))
    return [part for part in sizes if part and max(math.ceil(size / part), 1) == n_parts]


def examine(
    path: Path,
    size: int,
    checksum: str,
    part_size: Callable[[], int | None] = lambda: None,
    tick: Callable[[int], None] = lambda n: None,
) -> Finding:
    """Read a file once and compare it with a checksum; memory does not grow with the file.

    Parameters
    ----------
    path : Path
    size : int
        Bytes that it must have.
    checksum : str
        As `servers.Remote` has it.
    part_size : callable
        Asks the server for the bytes of a part; called for ``md5-N`` alone.
    tick : callable
        Called with the number of bytes read since the last call.
    """
    form = re.fullmatch(r"[0-9a-f]{32}(?:-(\d+))?", checksum)
    known, sizes = None, []
    if form and form[1]:
        known = part_size()
        sizes = possible_parts(size, int(form[1])) if known is None else [known]
        if known and math.ceil(size / known) != int(form[1]):
            known, sizes = None, []  # parts of unlike sizes
    elif form:
        sizes = [max(size, 1)]
    sha256, length = hashlib.sha256(), 0
    parts: dict[int, list] = {one: [] for one in sizes}
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            sha256.update(block)
            for one, md5s in parts.items():
                _update(md5s, one, length, memoryview(block))
            length += len(block)
            tick(len(block))
    if length != size:
        return Finding(False, sha256.hexdigest(), f"{length} bytes")
    came = [_joined(md5s, bool(form[1])) for md5s in parts.values()]
    if checksum in came:
        return Finding(True, sha256.hexdigest(), checksum)
    sure = bool(known) or (form is not None and not form[1])
    return Finding(False if sure else None, sha256.hexdigest(), came[0] if came else "")


def _update(md5s: list, size: int, at: int, block: memoryview) -> None:
    """Take a block that begins at `at` into the md5 of every part of `size` bytes that it touches."""
    while block:
        if at % size == 0:
            md5s.append(hashlib.md5(usedforsecurity=False))
        step = min(len(block), size - at % size)
        md5s[-1].update(block[:step])
        block, at = block[step:], at + step


def _joined(md5s: list, in_parts: bool) -> str:
    """The ETag of a file, from the md5 of its parts."""
    md5s = md5s or [hashlib.md5(usedforsecurity=False)]
    if not in_parts:
        return md5s[0].hexdigest()
    total = hashlib.md5(b"".join(one.digest() for one in md5s), usedforsecurity=False)
    return f"{total.hexdigest()}-{len(md5s)}"


class Manifest:
    """What was fetched into a folder: size, version, SHA-256 and time of every file.

    A file with the size and the time that stand here is taken as it was without being read.

    Parameters
    ----------
    root : Path
        The folder; the manifest is ``.neurovl-manifest.json`` in it.
    """

    def __init__(self, root: Path) -> None:
        self.root, self._lock = root, threading.Lock()
        self.files: dict[str, dict] = {}
        path = root / MANIFEST
        if path.is_file():
            try:
                files = json.loads(path.read_text())["files"]
                self.files = {name: dict(entry) for name, entry in files.items()}
            except (ValueError, KeyError, TypeError, AttributeError) as problem:
                logger.warning("%s cannot be read (%s): every file is checked anew", path, problem)

    def unchanged(self, name: str, etag: str) -> bool:
        """Whether the file is as it was when it was found to be this version."""
        entry, path = self.files.get(name, {}), self.root / name
        if not path.is_file() or entry.get("etag") != etag:
            return False
        now = path.stat()
        return entry.get("size") == now.st_size and entry.get("mtime_ns") == now.st_mtime_ns

    def sha256(self, name: str, etag: str) -> str | None:
        """The SHA-256 that this version of the file had."""
        entry = self.files.get(name, {})
        return entry.get("sha256") if entry.get("etag") == etag else None

    def record(self, name: str, etag: str, sha256: str, checked: bool) -> None:
        """Set down a file that is there, whole; `checked` if its checksum is the server's."""
        now = (self.root / name).stat()
        with self._lock:
            self.files[name] = {
                "size": now.st_size,
                "etag": etag,
                "sha256": sha256,
                "mtime_ns": now.st_mtime_ns,
                "checked": checked,
            }
            self._write()

    def forget(self, name: str) -> None:
        """Take a file out."""
        with self._lock:
            if self.files.pop(name, None) is not None:
                self._write()

    def _write(self) -> None:
        files = dict(sorted(self.files.items()))
        with replacing(self.root / MANIFEST) as part:
            part.write_text(json.dumps({"version": 1, "files": files}, indent=1) + "\n")
