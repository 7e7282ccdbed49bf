"""Work on many things, some at a time, and fewer where a device's memory does not hold them."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)

Value = TypeVar("Value")


def in_batches(
    n: int, batch_size: int, work: Callable[[slice], list[Value]], what: str
) -> list[Value]:
    """What `work` gives for each of `n` things.

    Parameters
    ----------
    n, batch_size : int
        `batch_size` is halved, with a warning, where a GPU's memory does not hold so many.
    work : callable
        Gives one value a thing of a slice.
    what : str
        The things, for the warning.
    """
    found: list[Value] = []
    while (done := len(found)) < n:
        try:
            found += work(slice(done, done + batch_size))
        except torch.OutOfMemoryError:
            if batch_size == 1:
                raise
            batch_size //= 2
            logger.warning("the device's memory is full: %d %s at a time", batch_size, what)
    return found
