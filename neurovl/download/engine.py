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
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

from neurovl.download.checksums import MANIFEST, Finding, Manifest, examine
from neurovl.download.partfile import PartFile, bytes_on_disk
from neurovl.download.servers import (
    Broken,
    Bucket,
    Changed,
    Refused,
    Remote,
    Settings,
    Stopped,
    Web,
    insist,
)
from neurovl.errors import ConfigError, DataError, MissingError, NeurovlError
from neurovl.locks import exclusive

logger = logging.getLogger(__name__)

AGAIN = "run the same command again, it goes on where it stopped"
TRIES = 2  # times that a file is fetched whole before a wrong checksum is an error
FULL = (errno.ENOSPC, errno.EDQUOT)
PAUSE = 0.05  # seconds between two looks at whether all is done
PATIENCE = 2.0  # seconds that a thread gets to end by itself


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
    except OSError as problem:
        raise ConfigError(
            f"{root} cannot be made or opened as a folder ({problem.strerror}): name another"
        ) from problem
    busy = ConfigError(f"another download is writing to {root}: wait until it ends, or end it")
    with exclusive(root / "download", str(root), busy):
        for left in root.glob(f".part-*-{MANIFEST}"):  # of a process that was killed while it wrote
            left.unlink(missing_ok=True)
        yield


def work_off(tasks: list[Callable[[], None]], jobs: int, stop: threading.Event) -> None:
    """Do tasks in a few threads; the first error, or Ctrl-C, ends all within seconds.

    The threads of this pool are daemons, those of `concurrent.futures` are not: one that waits for a
    server which does not answer is left behind and does not keep the process alive.

    Parameters
    ----------
    tasks : list of callable
    jobs : int
    stop : threading.Event
        Set when no task is to go on; tasks look at it and raise `Stopped`.
    """
    problems: list[BaseException] = []

    def do(task: Callable[[], None]) -> None:
        try:
            if not stop.is_set():
                task()
        except Stopped:
            pass
        except BaseException as problem:
            problems.append(problem)
            stop.set()

    with ThreadPool(jobs) as pool:
        done = pool.map_async(do, tasks, chunksize=1)
        try:
            # Asleep, not waiting for a lock: Ctrl-C while a lock is taken again would leave it untaken.
            while not (done.ready() or stop.is_set()):
                time.sleep(PAUSE)
        finally:
            stop.set()
            done.wait(PATIENCE)
    if problems:
        raise problems[0]


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
        self._refused: list[str] = []  # why files cannot be had
        self._again: list[tuple[Item, str]] = []  # files that came wrong, and in what way

    def check(self, items: list[Item]) -> list[Item]:
        """Read the items whose state is ``check``; the broken ones come back as ``fetch``."""
        read: dict[str, Item] = {}

        def one(item: Item) -> None:
            path, expected = self.root / item.name, item.remote.checksum
            finding = self._examine(item, path, count=True)
            before = self.manifest.sha256(item.name, item.remote.etag)
            if finding.whole is None and before not in (None, finding.sha256):
                finding, expected = replace(finding, whole=False, came=finding.sha256), before
            if finding.whole is False:
                logger.warning(
                    "%s is broken: its checksum is %s, expected %s; it is fetched again",
                    path,
                    finding.came,
                    expected,
                )
                left = bytes_on_disk(path, item.remote)
                read[item.name] = replace(item, state="fetch", on_disk=left)
            else:
                self._record(item, finding)
                read[item.name] = replace(item, state="there")

        todo = [item for item in items if item.state == "check"]
        self._run("checking", sum(i.remote.size for i in todo), [partial(one, i) for i in todo])
        return [read.get(item.name, item) for item in items]

    def fetch(self, items: list[Item]) -> None:
        """Fetch the items whose state is ``fetch``; what comes wrong is fetched again after the others.

        Raises
        ------
        MissingError
            If the server gives nothing any more, or not some file, or the disk is full.
        DataError
            If a file comes with a wrong checksum, or changes on the server, again and again.
        """
        todo = [item for item in items if item.state == "fetch"]
        for _ in range(TRIES):
            self._again = []
            tasks = [task for item in todo for task in self._ranges(item)]
            self._run("fetching", sum(item.missing for item in todo), tasks)
            todo = [item for item, _ in self._again]
        wrong = [f"{why}, {TRIES} times; nothing of it was kept" for _, why in self._again]
        if failed := self._refused + wrong:
            more = f" (and {len(failed) - 1} more files)" if len(failed) > 1 else ""
            raise DataError(f"{failed[0]}{more}: {AGAIN}")

    def _run(self, what: str, n_bytes: int, tasks: list[Callable[[], None]]) -> None:
        from tqdm.auto import tqdm

        if not tasks:
            return
        self._stop = threading.Event()
        form = {"unit": "B", "unit_scale": True, "disable": None}
        with tqdm(desc=what, total=n_bytes, **form) as self._bar, disk_errors(self.root):
            work_off(tasks, self.settings.jobs, self._stop)

    def _ranges(self, item: Item) -> list[Callable[[], None]]:
        """Tasks that bring a file; the last that ends checks it and gives it its name."""
        part = PartFile(self.root / item.name, item.remote, self.settings.chunk)
        ranges = [partial(self._range, item, part, number) for number in part.missing()]
        return ranges or [partial(self._finish, item, part)]

    def _range(self, item: Item, part: PartFile, number: int) -> None:
        """Fetch one range, and end the file if it was the last."""
        (start, stop), descriptor = part.span(number), part.descriptor()
        at = start

        def attempt() -> None:
            nonlocal at
            began = at
            try:
                for block in item.server.read(item.remote, at, stop):
                    self._go_on(len(block))
                    at = _write(descriptor, block[: stop - at], at)
                if at < stop:
                    raise Broken(f"the body ended after {at - start} of {stop - start} bytes")
            except Broken as problem:
                problem.moved = at > began
                raise

        try:
            self._insist(item, attempt)
            whole = part.complete(number, descriptor)
        except Changed:
            if part.discard():  # no other thread has seen it yet
                self._begin_anew(item)
        except Refused as problem:
            if part.close():
                self._refuse(item, problem)
        else:
            if whole:
                self._finish(item, part)
        finally:
            os.close(descriptor)

    def _finish(self, item: Item, part: PartFile) -> None:
        """Give a file that is all there its name if its checksum is right."""
        os.close(part.descriptor())  # begun, though it may have no byte
        finding = self._examine(item, part.path)
        if finding.whole is not False:
            part.publish()
            self._record(item, finding)
            return
        part.discard()
        self._once_more(
            replace(item, on_disk=0),
            f"{item.name} came with the checksum {finding.came}, expected {item.remote.checksum} "
            f"({item.server})",
        )

    def _begin_anew(self, item: Item) -> None:
        """Take the version that is on the server now."""
        logger.warning("%s has changed on %s", item.name, item.server)
        head = partial(item.server.head, item.remote.key, item.remote.checksum)
        try:
            newest = replace(item, remote=self._insist(item, head), on_disk=0)
        except Refused as problem:
            self._refuse(item, problem)
        else:
            self._once_more(newest, f"{item.name} changes on {item.server} while it is fetched")

    def _once_more(self, item: Item, why: str) -> None:
        logger.warning("%s: nothing of it was kept", why)
        self._again.append((item, why))

    def _refuse(self, item: Item, problem: Refused) -> None:
        """One file cannot be had; the others go on."""
        self._refused.append(f"{item.name} cannot be had from {item.server} ({problem})")
        logger.warning("%s", self._refused[-1])

    def _insist(self, item: Item, attempt: Callable) -> Any:
        return insist(attempt, item.name, self.settings, self._stop)

    def _examine(self, item: Item, path: Path, count: bool = False) -> Finding:
        def ask() -> int | None:
            with contextlib.suppress(Changed, Refused):  # without it, usual sizes are tried
                return self._insist(item, partial(item.server.part_size, item.remote))

        def read(n_bytes: int) -> None:
            self._go_on(n_bytes * count)

        return examine(path, item.remote.size, item.remote.checksum, ask, read)

    def _record(self, item: Item, finding: Finding) -> None:
        self.manifest.record(
            item.name, item.remote.etag, finding.sha256, checked=finding.whole is True
        )
        if finding.whole is None:
            self.unchecked.append(item.name)

    def _go_on(self, n_bytes: int) -> None:
        """Show bytes that are done, unless nothing is to go on."""
        if self._stop.is_set():
            raise Stopped
        self._bar.update(n_bytes)  # by several threads: it is shown, nothing more


def _write(descriptor: int, block: bytes, at: int) -> int:
    """Write all of a block; the position after it."""
    while block:
        written = os.pwrite(descriptor, block, at)
        block, at = block[written:], at + written
    return at


@contextlib.contextmanager
def disk_errors(root: Path) -> Iterator[None]:
    """Tell the user when a file could not be written or read; servers' own errors come as `Broken`."""
    try:
        yield
    except NeurovlError:
        raise
    except OSError as problem:
        if problem.errno in FULL:
            raise MissingError(
                f"the disk of {root} is full ({readable(free_bytes(root))} free): free some space and "
                f"{AGAIN}"
            ) from problem
        where = problem.filename or root
        raise MissingError(
            f"{where} cannot be written or read ({problem.strerror}): {AGAIN}"
        ) from problem
