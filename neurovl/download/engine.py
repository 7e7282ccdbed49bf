"""Bring files from a server into a folder: fast, resumable inside a file, checked before they get their name.

Knows servers, ranges and checksums, and no data set. Every file is fetched in ranges by several
connections into a hidden file beside (`partfile`), compared with the server's checksum (`checksums`),
renamed, and set down in the folder's manifest.
"""

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from neurovl.download.checksums import Finding, Manifest, examine
from neurovl.download.crew import Crew
from neurovl.download.partfile import PartFile, bytes_on_disk
from neurovl.download.servers import (
    Broken,
    Bucket,
    Changed,
    Refused,
    Remote,
    Settings,
    Web,
    insist,
)
from neurovl.errors import ConfigError, DataError, MissingError, NeurovlError

try:
    import fcntl
except ImportError:  # Windows has no flock: there two transfers into one folder are the user's care
    fcntl = None

logger = logging.getLogger(__name__)

AGAIN = "run the same command again, it goes on where it stopped"
TRIES = 2  # times that a file is fetched whole before a wrong checksum is an error
FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Item:
    """A file to bring.

    Attributes
    ----------
    server : Bucket or Web
    remote : Remote
    name : str
        Where it goes, relative to the folder.
    kind : str
        For the table of what is to do.
    state : str
        ``there`` (as the manifest has it), ``check`` (of the right size, to be read) or ``fetch``.
    on_disk : int
        Bytes that an interrupted transfer left.
    """

    server: Bucket | Web
    remote: Remote
    name: str
    kind: str
    state: str = "fetch"
    on_disk: int = 0

    @property
    def missing(self) -> int:
        """Bytes still to come if it is fetched."""
        return self.remote.size - self.on_disk


def survey(items: list[Item], root: Path, manifest: Manifest, verify: bool) -> list[Item]:
    """The items with what is to do about each; reads sizes and times, no contents.

    Parameters
    ----------
    items : list of Item
    root : Path
    manifest : Manifest
    verify : bool
        Read also what the manifest says is there.
    """
    found = []
    for item in items:
        path, remote = root / item.name, item.remote
        if path.is_dir():
            raise DataError(f"{path} is a folder, expected a file: move it away and {AGAIN}")
        if not path.is_file():
            state = "fetch"
        elif manifest.unchanged(item.name, remote.etag):
            state = "check" if verify else "there"
        elif path.stat().st_size == remote.size:
            state = "check"
        else:
            state = "fetch"
        on_disk = bytes_on_disk(path, remote) if state == "fetch" else 0
        found.append(replace(item, state=state, on_disk=on_disk))
    return found


def free_bytes(folder: Path) -> int:
    """Bytes free for `folder`, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def readable(n_bytes: float) -> str:
    """``1536`` as ``1.5 kB``, in powers of 1000 as disks are sold and `df -H` counts."""
    units = ["bytes", "kB", "MB", "GB", "TB"]
    while n_bytes >= 999.95 and len(units) > 1:
        n_bytes /= 1000
        del units[0]
    return f"{n_bytes:.0f} bytes" if units[0] == "bytes" else f"{n_bytes:.1f} {units[0]}"


def require_space(root: Path, items: list[Item], more: int = 0) -> None:
    """Refuse to start what the disk cannot hold; `more` bytes are needed beside the files.

    Raises
    ------
    MissingError
    """
    coming = [item for item in items if item.state == "fetch"]
    need, have = sum(item.missing for item in coming) + more, free_bytes(root)
    if need > have:
        raise MissingError(
            f"{len(coming)} files need {readable(need)} in {root}, its disk has {readable(have)} "
            f"free: free {readable(need - have)}, name another folder, or ask for fewer subjects or "
            "sessions"
        )


@contextlib.contextmanager
def sole_writer(root: Path) -> Iterator[None]:
    """Make `root` and keep other transfers out of it meanwhile."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        handle = os.open(root, os.O_RDONLY)
    except OSError as problem:
        raise ConfigError(
            f"{root} cannot be made or opened as a folder ({problem.strerror}): name another"
        ) from problem
    try:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as problem:
                raise ConfigError(
                    f"another download is writing to {root}: wait until it ends, or end it"
                ) from problem
            except OSError:  # some network disks lock no folder
                logger.debug("%s cannot be locked", root)
        yield
    finally:
        os.close(handle)


class Transfer:
    """Checks and fetches items into a folder.

    Parameters
    ----------
    root : Path
    manifest : Manifest
    settings : Settings
    """

    def __init__(self, root: Path, manifest: Manifest, settings: Settings) -> None:
        self.root, self.manifest, self.settings = root, manifest, settings
        self.unchecked: list[str] = []  # names of files whose checksum could not be compared
        self._failed: list[str] = []
        self._tries: dict[str, int] = {}
        self._parts: list[PartFile] = []
        self._crew, self._bytes = Crew(settings.jobs), 0  # the bytes are shown, nothing more

    def check(self, items: list[Item]) -> list[Item]:
        """Read the items whose state is ``check``; the broken ones come back as ``fetch``."""
        broken: dict[str, Item] = {}

        def one(item: Item) -> None:
            path, expected = self.root / item.name, item.remote.checksum
            finding = self._examine(item, path)
            before = self.manifest.sha256(item.name, item.remote.etag)
            if finding.whole is None and before not in (None, finding.sha256):
                finding = replace(finding, whole=False, came=finding.sha256)
                expected = before
            if finding.whole is False:
                logger.warning(
                    "%s is broken: its checksum is %s, expected %s; it is fetched again",
                    path,
                    finding.came,
                    expected,
                )
                left = bytes_on_disk(path, item.remote)
                broken[item.name] = replace(item, state="fetch", on_disk=left)
            else:
                self._record(item, finding)

        todo = [item for item in items if item.state == "check"]
        self._run("checking", sum(i.remote.size for i in todo), [partial(one, i) for i in todo])
        done = {item.name for item in todo} - set(broken)
        return [
            broken.get(item.name, replace(item, state="there") if item.name in done else item)
            for item in items
        ]

    def fetch(self, items: list[Item]) -> None:
        """Fetch the items whose state is ``fetch``.

        Raises
        ------
        MissingError
            If the server gives nothing any more, or not some file, or the disk is full.
        DataError
            If a file comes with a wrong checksum, or changes on the server, again and again.
        """
        todo = [item for item in items if item.state == "fetch"]
        self._run("fetching", sum(i.missing for i in todo), [partial(self._begin, i) for i in todo])
        if self._failed:
            more = f" (and {len(self._failed) - 1} more files)" if len(self._failed) > 1 else ""
            raise DataError(f"{self._failed[0]}{more}: {AGAIN}")

    def _run(self, what: str, n_bytes: int, tasks: list) -> None:
        from tqdm.auto import tqdm

        if not tasks:
            return
        self._crew, self._bytes = Crew(self.settings.jobs), 0
        self._crew.add(*tasks)
        with tqdm(total=n_bytes, desc=what, unit="B", unit_scale=True, disable=None) as bar:
            try:
                self._crew.run(lambda: bar.update(self._bytes - bar.n))
            except NeurovlError:
                raise
            except OSError as problem:  # the servers' own errors come as `Broken`
                raise disk_error(problem, self.root) from problem
            finally:
                for part in self._parts:
                    part.close()
                self._parts.clear()

    def _begin(self, item: Item) -> None:
        part = PartFile(self.root / item.name, item.remote, self.settings.chunk)
        self._parts.append(part)
        ranges = [partial(self._range, item, part, number) for number in part.missing()]
        self._crew.add(*ranges or [partial(self._finish, item, part)], first=True)

    def _range(self, item: Item, part: PartFile, number: int) -> None:
        """Fetch one range, and end the file if it was the last."""
        (start, stop), have = part.span(number), 0
        descriptor = part.descriptor()

        def attempt() -> None:
            nonlocal have
            began = have
            try:
                for block in item.server.read(item.remote, start + have, stop):
                    self._crew.check()
                    _write(descriptor, block[: stop - start - have], start + have)
                    step = min(len(block), stop - start - have)
                    have += step
                    self._bytes += step
                if start + have < stop:
                    raise Broken(f"the body ended after {have} of {stop - start} bytes")
            except Broken as problem:
                problem.moved = have > began
                raise

        try:
            insist(attempt, item.name, self.settings, self._crew.stop)
            last = part.complete(number, descriptor)
        except Changed:
            self._restart(item, part)
            return
        except Refused as problem:
            self._give_up(part, f"{item.name} cannot be had from {item.server} ({problem})")
            return
        finally:
            os.close(descriptor)
        if last:
            self._finish(item, part)

    def _finish(self, item: Item, part: PartFile) -> None:
        """Give a file that is all there its name if its checksum is right."""
        finding = self._examine(item, part.path, count=False)
        if finding.whole is not False:
            part.publish()
            self._record(item, finding)
            return
        text = (
            f"{item.name} came with the checksum {finding.came}, expected {item.remote.checksum} "
            f"({item.server})"
        )
        part.discard()
        if self._spent(item):
            self._give_up(part, f"{text}, {TRIES} times; nothing of it was kept")
        else:
            logger.warning("%s: it is fetched again", text)
            self._bytes -= item.remote.size
            self._crew.add(partial(self._begin, replace(item, on_disk=0)), first=True)

    def _restart(self, item: Item, part: PartFile) -> None:
        """Begin anew with the version that is on the server now; only the first thread to see it."""
        if not part.discard():
            return
        if self._spent(item):
            self._give_up(part, f"{item.name} changes on {item.server} while it is fetched")
            return
        logger.warning("%s has changed on %s: it is begun anew", item.name, item.server)
        head = partial(item.server.head, item.remote.key)
        try:
            remote = insist(head, item.name, self.settings, self._crew.stop)
        except Refused as problem:
            self._give_up(part, f"{item.name} cannot be had from {item.server} ({problem})")
            return
        remote = replace(remote, checksum=remote.checksum or item.remote.checksum)
        self._crew.add(partial(self._begin, replace(item, remote=remote, on_disk=0)), first=True)

    def _spent(self, item: Item) -> bool:
        self._tries[item.name] = self._tries.get(item.name, 0) + 1
        return self._tries[item.name] >= TRIES

    def _give_up(self, part: PartFile, why: str) -> None:
        """One file cannot be had; the others go on."""
        part.close()
        if why not in self._failed:
            logger.warning("%s", why)
            self._failed.append(why)

    def _examine(self, item: Item, path: Path, count: bool = True) -> Finding:
        def ask() -> int | None:
            try:
                return insist(
                    partial(item.server.part_size, item.remote),
                    item.name,
                    self.settings,
                    self._crew.stop,
                )
            except (Changed, Refused):  # without it, usual sizes are tried
                return None

        def tick(n_bytes: int) -> None:
            self._crew.check()
            self._bytes += n_bytes * count

        return examine(path, item.remote.size, item.remote.checksum, ask, tick)

    def _record(self, item: Item, finding: Finding) -> None:
        self.manifest.record(
            item.name, item.remote.etag, finding.sha256, checked=finding.whole is True
        )
        if finding.whole is None:
            self.unchecked.append(item.name)


def _write(descriptor: int, block: bytes, at: int) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def disk_error(problem: OSError, root: Path) -> NeurovlError:
    """What to tell the user when a file could not be written or read."""
    if problem.errno in FULL:
        return MissingError(
            f"the disk of {root} is full ({readable(free_bytes(root))} free): free some space and "
            f"{AGAIN}"
        )
    where = problem.filename or root
    return MissingError(f"{where} cannot be written or read ({problem.strerror}): {AGAIN}")
