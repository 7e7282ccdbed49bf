"""One writer at a time: a lock between processes, waited for and gone afterwards.

Leaves out two locks of one process on the same thing, which would wait for each other for ever.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no flock: there two processes on one folder are the user's care
    fcntl = None

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def exclusive(path: Path, what: str, refusal: Exception | None = None) -> Iterator[None]:
    """Let one process at a time into the body; another one waits, and says so once, or is refused.

    The lock is the file ``.NAME.lock`` beside `path`, so that `path` itself may be replaced. It ends
    with its process, even one that is killed. Where there are no locks the body runs without.

    Parameters
    ----------
    path
        The folder or file that the body writes; its parent is made where it is not there.
    what
        What that is in words, ``waiting for another process that writes WHAT``.
    refusal
        Raised where another process is in, instead of waiting.
    """
    file = Path(path).with_name(f".{Path(path).name}.lock")
    lock = _acquire(file, what, refusal)
    try:
        yield
    finally:
        if lock is not None:
            with contextlib.suppress(OSError):
                file.unlink()
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing alone would leave it to a forked child
            os.close(lock)


def _acquire(file: Path, what: str, refusal: Exception | None) -> int | None:
    """Return the descriptor of the locked file; None where there are no locks."""
    if fcntl is None:
        logger.debug("this platform has no locks")
        return None
    said = False
    while True:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as problem:
            logger.debug("no lock can be made here: %s", problem)
            return None
        with contextlib.ExitStack() as unless_held:
            unless_held.callback(os.close, lock)
            try:
                if not _is_free(lock):
                    if refusal is not None:
                        raise refusal
                    if not said:
                        logger.info("waiting for another process that writes %s", what)
                    said = True
                    fcntl.flock(lock, fcntl.LOCK_EX)
            except OSError as problem:
                logger.debug("this file system has no locks: %s", problem)
                file.unlink(missing_ok=True)
                return None
            if _is_there(file, lock):
                unless_held.pop_all()
                return lock
            # The process before removed this file when it ended: take the one that is there now.


def _is_free(lock: int) -> bool:
    """Take the lock if nobody has it; whether it was free."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_there(file: Path, lock: int) -> bool:
    """Whether the descriptor is that of the file which now has this name."""
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.stat(file), os.fstat(lock))
    return False
