"""Stages side by side: each in a process of one thread, as soon as all that it reads is made and a core or GPU is free.

Small matrices do not fill two threads, and threads that wait for one another by spinning lose most when other programs
keep the processor busy. What is computed does not depend on what runs beside it.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, wait

from neurovl.run import Run
from neurovl.training.devices import choose_device

logger = logging.getLogger(__name__)

ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
)
Task = tuple[int, str]  # a fold and a stage of it


def side_by_side(
    run: Run,
    tasks: Sequence[Task],
    needs: Mapping[Task, Sequence[Task]],
    work: Callable[[Run, str], None],
    n: int,
    wide: Set[Task] = frozenset(),
) -> None:
    """Do tasks in processes of their own, at most `n` at a time; the first in the list first.

    Parameters
    ----------
    run : Run
    tasks : sequence of (fold, stage)
    needs : mapping of task to tasks
        What each waits for; what is not among `tasks` is there already.
    work : callable
        `work(run, stage)` makes one stage of a fold.
    n : int
        Processes.
    wide : set of (fold, stage)
        Those that take all cores or GPUs: each is done alone, when no other is ready.

    Raises
    ------
    Exception
        The first that a task raised; those that run are let end, no other begins.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    folds = run.all_folds()
    cuda = choose_device(run.profile.compute.device) == "cuda"
    executor = ProcessPoolExecutor(max_workers=n, env={} if cuda else ONE_THREAD)
    waiting, running, free = list(tasks), dict[Future, tuple[Task, int]](), list(range(n))
    try:
        while waiting or running:
            open_tasks = {*waiting, *(task for task, _ in running.values())}
            ready = [t for t in waiting if not open_tasks.intersection(needs.get(t, ()))]
            narrow = [task for task in ready if task not in wide]
            if any(task in wide for task, _ in running.values()):
                begin = []
            elif narrow or running:
                begin = narrow[: len(free)]
            else:
                begin = ready[:1]
            for task in begin:
                place = free.pop(0)
                gpu = place if cuda else None
                future = executor.submit(_timed, work, folds[task[0]], task[1], gpu)
                running[future] = task, place
                waiting.remove(task)
            ended, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                (_, name), place = running.pop(future)
                free.append(place)
                logger.info("%s: done in %.1f s", name, future.result())
    finally:
        executor.shutdown()


def _timed(work: Callable[[Run, str], None], run: Run, name: str, gpu: int | None) -> float:
    """Make a stage in this process; the seconds that it took.

    Processes that the stage began are ended with it: a worker that is replaced, as its memory has grown, would else wait for
    them to end of themselves, for minutes, and all other tasks with it.
    """
    from joblib.externals.loky import get_reusable_executor

    if gpu is not None:
        import torch

        torch.cuda.set_device(gpu)
    start = time.perf_counter()
    try:
        work(run, name)
    finally:
        get_reusable_executor().shutdown(wait=True)
    return time.perf_counter() - start
