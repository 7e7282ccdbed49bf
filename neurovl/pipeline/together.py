"""Stages that several processes make together, one a GPU: which, how many processes, and how they are started.

Where `accelerate launch` has started the processes already, over several machines say, they are used as they are.
"""

import subprocess
import sys
from collections.abc import Sequence

import torch

from neurovl.errors import NeurovlError
from neurovl.run import Run
from neurovl.settings.sections import Profile
from neurovl.training.devices import choose_device, several
from neurovl.training.loop import parts_of

SHARED = ("llm", "llms", "reconstructions")  # stages whose work several processes share


def processes_for(profile: Profile, name: str) -> int:
    """How many processes make a stage together: as many as `compute.together` says, or one a GPU.

    A language model's batch has to divide among them, so some GPUs may stay idle.
    """
    stage = name.partition("/")[0]
    if several() or stage not in SHARED:
        return 1
    if profile.compute.together:
        return profile.compute.together
    n = torch.cuda.device_count() if choose_device(profile.compute.device) == "cuda" else 1
    return n if stage == "reconstructions" else dividing(profile, n)


def dividing(profile: Profile, n: int) -> int:
    """The largest number of processes, up to `n`, among which the language models' batches divide."""
    settings = profile.language
    both = list(zip(settings.batch_size, settings.accumulate, strict=True))
    fitting = (k for k in range(n, 1, -1) if all(not b % parts_of(a, k) for b, a in both))
    return next(fitting, 1)


def launch(run: Run, name: str, n: int) -> None:
    """Make one stage of a fold in `n` processes.

    Raises
    ------
    NeurovlError
        The processes failed; the message is theirs.
    """
    launcher = ["torch.distributed.run", "--standalone", "--nproc_per_node", str(n), "-m", "--"]
    _pass_on([*launcher, "neurovl", "make", name, "--run", str(run.root), "--fold", str(run.fold)])


def in_own_process(run: Run, name: str) -> None:
    """Make a stage, and those that it reads, by `neurovl make` in a process of its own.

    Raises
    ------
    NeurovlError
        The command failed; the message is its own.
    """
    _pass_on(["neurovl", "make", name, "--run", str(run.root)])


def _pass_on(command: Sequence[str]) -> None:
    """Run a module of Python, pass its progress on line by line, and raise what it says where it fails."""
    from tqdm.auto import tqdm

    last, said = "", ""
    with subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout:
            last = line.strip() or last
            said = last if last.startswith("neurovl: ") else said
            tqdm.write(last)
    if process.returncode:
        words = (said or last).removeprefix("neurovl: ")
        raise NeurovlError(words or f"{' '.join(command)} failed")
