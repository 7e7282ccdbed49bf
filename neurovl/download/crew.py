"""A few threads that work off a list of tasks and stop at the first error, or at Ctrl-C, in seconds."""

import threading
import time
from collections import deque
from collections.abc import Callable

from neurovl.download.servers import Stopped

PAUSE = 0.05  # seconds between two looks at whether all is done
PATIENCE = 2.0  # seconds that a thread gets to end by itself


class Crew:
    """Threads that work off tasks; a task may add further ones.

    They are daemons: one that waits for a server which does not answer is left behind, does not keep
    the process alive, and writes no more once `stop` is set.

    Parameters
    ----------
    jobs : int
        Threads.

    Attributes
    ----------
    stop : threading.Event
        Set when no task is to go on; tasks look at it and raise `Stopped`.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs, self.stop = jobs, threading.Event()
        self._tasks: deque[Callable[[], None]] = deque()
        self._pending, self._error = 0, None
        self._changed = threading.Condition()

    def add(self, *tasks: Callable[[], None], first: bool = False) -> None:
        """Put tasks at the end of the list, or before all others."""
        with self._changed:
            if first:
                self._tasks.extendleft(reversed(tasks))
            else:
                self._tasks.extend(tasks)
            self._pending += len(tasks)
            self._changed.notify_all()

    def check(self) -> None:
        """Raise `Stopped` where no task is to go on."""
        if self.stop.is_set():
            raise Stopped

    def run(self, tick: Callable[[], None] = lambda: None) -> None:
        """Work until no task is left; raises the first task's error.

        Parameters
        ----------
        tick : callable
            Called some times a second, in the thread that waits.
        """
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(self.jobs)]
        for thread in threads:
            thread.start()
        try:
            # Asleep, not waiting for a lock: Ctrl-C while a lock is taken again would leave it untaken.
            while self._pending and self._error is None:
                time.sleep(PAUSE)
                tick()
        finally:
            self.stop.set()
            with self._changed:
                self._changed.notify_all()
            until = time.monotonic() + PATIENCE
            for thread in threads:
                thread.join(max(0.0, until - time.monotonic()))
        tick()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except Stopped:
                pass
            except BaseException as problem:
                with self._changed:
                    self._error = self._error or problem
                    self.stop.set()
            finally:
                with self._changed:
                    self._pending -= 1
                    self._changed.notify_all()

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._tasks and self._pending and not self.stop.is_set():
                self._changed.wait()
            return None if self.stop.is_set() or not self._tasks else self._tasks.popleft()
