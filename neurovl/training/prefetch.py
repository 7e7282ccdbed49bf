"""Results that threads compute before they are asked for."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from neurovl.training.loop import Part


class Prefetcher:
    """Results of a function of a step, computed by threads before they are asked for in order.

    Parameters
    ----------
    compute : callable
        `compute(step, part)`.
    workers : int
        Threads, and steps ahead; 0 computes when asked.
    steps : int
        Nothing is computed beyond these.
    """

    def __init__(self, compute: Callable[[int, Part], Any], workers: int, steps: int) -> None:
        self.compute, self.workers, self.steps = compute, workers, steps
        self.waiting: dict[tuple, Future] = {}
        self.threads = ThreadPoolExecutor(workers) if workers else None

    def __call__(self, step: int, part: Part) -> Any:
        """What `compute` gives for a part of a step."""
        if self.threads is None:
            # As in a thread, which knows nothing of the step's autocast.
            with torch.autocast("cpu", enabled=False):
                return self.compute(step, part)
        for k in range(step, min(step + self.workers + 1, self.steps)):
            if (k, part) not in self.waiting:
                self.waiting[k, part] = self.threads.submit(self.compute, k, part)
        return self.waiting.pop((step, part)).result()

    def close(self) -> None:
        """Let the threads end."""
        if self.threads is not None:
            self.threads.shutdown(wait=False, cancel_futures=True)
