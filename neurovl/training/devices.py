"""Where training runs: the device, its precision, trackers, and the processes that `accelerate launch` starts.

Of several processes one leads: it alone writes stages and checkpoints. All of them see the same run folder.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from neurovl.errors import ConfigError, MissingError
from neurovl.settings.sections import Compute

if TYPE_CHECKING:
    from accelerate import Accelerator, PartialState

logger = logging.getLogger(__name__)

Value = TypeVar("Value")

PATIENCE = timedelta(days=1)  # others wait so long while the leader makes tokens and targets


def several() -> bool:
    """Whether this process is one of several."""
    return share()[1] > 1


def leads() -> bool:
    """Whether this process is the one that writes."""
    return share()[0] == 0


@contextlib.contextmanager
def leader_first(device: str = "auto") -> Iterator[None]:
    """The body runs in the leader, then in the others, which find its work done."""
    if not several():
        yield
        return
    with _state(device).main_process_first():
        yield


def share() -> tuple[int, int]:
    """Which process this is, from 0, and of how many."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def wait_for_all(device: str = "auto") -> None:
    """Go on when every process has come this far."""
    if several():
        _state(device).wait_for_everyone()


def agree(value: Value, device: str = "auto") -> Value:
    """The leader's value, in every process; plain data or paths."""
    if not several():
        return value
    from accelerate.utils import broadcast_object_list

    _state(device)
    return broadcast_object_list([value])[0]


# Where Accelerate's configuration asks for a division of weights: the loop divides them itself, where they are too large.
DIVISIONS = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")


def _state(device: str) -> "PartialState":
    from accelerate import PartialState

    for name in DIVISIONS:
        if os.environ.pop(name, "false") == "true":
            logger.info("%s is not used: neurovl divides weights itself", name)
    return PartialState(cpu=choose_device(device) == "cpu", timeout=PATIENCE)


def accelerator_for(
    precision: str, device: str = "auto", trackers: tuple[str, ...] = (), logs: Path | None = None
) -> "Accelerator":
    """An Accelerator on the device asked for ('auto', 'cpu', 'cuda', 'mps'); it says in the log what was chosen.

    Parameters
    ----------
    precision : str
        'auto', 'bf16' or 'no', see `choose_precision`.
    trackers : tuple of str
        Trackers of Accelerate, such as 'tensorboard', which write into the folder `logs`.

    Raises
    ------
    ConfigError
        A tracker that Accelerate does not know.
    MissingError
        One whose package is not installed.
    """
    from accelerate import Accelerator, DistributedDataParallelKwargs
    from accelerate.state import AcceleratorState

    _state(device)
    # Accelerate keeps one precision a process; stages differ in theirs.
    AcceleratorState._reset_state(reset_partial_state=False)
    precision = choose_precision(precision, device)
    accelerator = Accelerator(
        mixed_precision=precision,
        cpu=choose_device(device) == "cpu",
        log_with=list(_require_trackers(trackers)) or None,
        project_dir=logs,
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )
    among = f", one of {accelerator.num_processes} processes" if several() else ""
    logger.info("device %s, precision %s%s", accelerator.device, precision, among)
    return accelerator


def _require_trackers(names: tuple[str, ...]) -> tuple[str, ...]:
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    here = {str(name) for name in get_available_trackers()}
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            raise ConfigError(
                f"there is no tracker {name!r}, expected one of {', '.join(LOGGER_TYPE_TO_CLASS)}; correct trackers in the profile"
            )
        if name not in here:
            package = "'neurovl[trackers]'" if name == "tensorboard" else name
            raise MissingError(
                f"the tracker {name!r} is not installed; install it: pip install {package}, or leave trackers empty in the profile"
            )
    return names


def choose_device(device: str = "auto") -> str:
    """Name of the device to compute on: 'cuda' where there is one, else 'mps', else 'cpu'."""
    if device != "auto":
        return device
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def choose_precision(precision: str, device: str = "auto") -> str:
    """'bf16' or 'no' (float32), as Accelerate names them; for 'auto' bfloat16 where the device multiplies in it.

    Elsewhere it would be computed in float32 after all, and converted back and forth besides.
    """
    if precision != "auto":
        return precision
    place = choose_device(device)
    if place == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    able = getattr(torch.cpu, "get_capabilities", dict)()  # torch before 2.10 does not say
    here = place == "cpu" and (able.get("avx512_bf16") or able.get("amx_bf16"))
    return "bf16" if here else "no"


def places(compute: Compute) -> int:
    """How many trainings have room at the same time: one a GPU, else one a core or what is set."""
    if choose_device(compute.device) == "cuda":
        return compute.processes or torch.cuda.device_count()
    return compute.at_a_time()
