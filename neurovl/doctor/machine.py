"""The device, the machine's memory and its disk, against what each stage of a profile needs."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from neurovl.doctor.findings import Finding, readable
from neurovl.doctor.needs import needs
from neurovl.doctor.sizes import Need, sizes_for
from neurovl.errors import NeurovlError
from neurovl.pipeline.together import dividing
from neurovl.settings.sections import Profile

if TYPE_CHECKING:
    from neurovl.recordings.base import Recordings

PROCESS = 1.5e9  # bytes of Python with its libraries
FIXES = {
    "preprocess": "run neurovl preprocess with --jobs 1, or take fewer subjects",
    "targets": "use a machine with more memory, or a smaller models.image_size",
    "train encoder": "lower alignment.batch_size or take fewer subjects with preprocessing.subjects",
    "annotate": "name a smaller models.captioner, or set it to null: captions and boxes are then the data's own",
    "train llm 1": "raise language.accumulate, or name a smaller models.llm",
    "train llm 2": "raise language.accumulate, name a smaller models.llm, or take several GPUs, which divide it",
    "answers": "name a smaller models.llm",
    "reconstruct": "use a device with more memory, or a smaller models.image_size",
    "compare": "name a smaller models.llm, all of which the captioner trains on one device, or lower batch sizes in leaderboard",
    "compare --controls": "lower batch sizes in leaderboard.settings, or compare other systems",
}


@dataclass(frozen=True)
class Machine:
    """What there is.

    Attributes
    ----------
    device, name : str
        'cuda', 'mps' or 'cpu', and what it calls itself.
    device_memory : float
        Bytes; 0 where the device computes in the machine's memory.
    memory : float
    half : bool
        Whether it computes in bf16.
    cores, count : int
        Of the processor; devices of this kind.
    """

    device: str
    name: str
    device_memory: float
    memory: float
    half: bool
    cores: int
    count: int = 1


def look(device: str = "auto") -> Machine:
    """The machine as it is."""
    import torch

    from neurovl.foundation.source import has_bf16
    from neurovl.training.devices import choose_device

    chosen, cores = choose_device(device), len(_cores())
    if chosen.startswith("cuda") and torch.cuda.is_available():
        about = torch.cuda.get_device_properties(torch.device(chosen))
        count = torch.cuda.device_count() if chosen == "cuda" else 1
        memory = about.total_memory, _memory()
        return Machine(chosen, about.name, *memory, has_bf16(chosen), cores, count)
    return Machine(chosen, f"{cores} cores", 0.0, _memory(), False, cores)


def _cores() -> int:
    return (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )


def _memory() -> float:
    """Bytes of memory that this process may use: the machine's, or less where a container sets a limit."""
    whole = float("inf")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            whole = min(whole, float(Path(limit).read_text()))
        except (OSError, ValueError):
            continue
    return whole


def examine_machine(
    profile: Profile,
    recordings: "Recordings | None" = None,
    out: str | Path = ".",
    machine: Machine | None = None,
) -> list[Finding]:
    """Device, and every stage's needs against it; then the disk.

    Parameters
    ----------
    profile : Profile
    recordings : Recordings, optional
        Of the data that would be used; without them the sizes of the data that the profile names are taken.
    out : path
        Where the run would lie.
    machine : Machine, optional
        This one by default.
    """
    machine = machine or look(profile.compute.device)
    found = [_device(profile, machine)]
    try:
        sizes = sizes_for(profile, recordings)
        together = dividing(profile, min(machine.count, profile.compute.together or machine.count))
        wanted = needs(profile, sizes, machine.half, machine.cores, together)
    except (NeurovlError, LookupError, TypeError) as error:  # the latter: an odd configuration
        return [
            *found,
            Finding("what the stages need is not known", False, str(error), needed=False),
        ]
    found += [_stage(one, machine) for one in wanted if one.device or one.memory]
    return [*found, _disk(wanted, Path(out))]


def _device(profile: Profile, machine: Machine) -> Finding:
    import torch

    if machine.device.startswith("cuda") and not machine.device_memory:
        return Finding(
            f"device {profile.compute.device}: torch {torch.__version__} finds no GPU",
            False,
            "set device: auto, or install a driver and the CUDA build of torch",
        )
    size = f", {readable(machine.device_memory)}" if machine.device_memory else ""
    kind = "bf16" if machine.half else "float32"
    return Finding(
        f"device {machine.device} ({machine.name}{size}, large models in {kind}), "
        f"memory {readable(machine.memory)}",
        True,
    )


def _stage(need: Need, machine: Machine) -> Finding:
    """One stage against the machine; without a device of its own, what the device would hold is in its memory."""
    memory = need.memory + PROCESS + (0 if machine.device_memory else need.device)
    words, fits = [], True
    if machine.device_memory:
        fits = need.device <= machine.device_memory
        words.append(f"{readable(need.device)} of the device's {readable(machine.device_memory)}")
    fits = fits and memory <= machine.memory
    words.append(f"{readable(memory)} of {readable(machine.memory)} memory")
    return Finding(
        f"{need.stage} needs {' and '.join(words)} ({need.how})",
        fits,
        FIXES.get(need.stage.partition(",")[0], ""),
    )


def _disk(wanted: list[Need], out: Path) -> Finding:
    from neurovl.download.engine import free_bytes

    need, free = sum(one.disk for one in wanted), free_bytes(out.resolve())
    store = next(one.disk for one in wanted if one.stage == "preprocess")
    return Finding(
        f"disk: a run takes {readable(need)} ({readable(store)} of it the token store), {readable(free)} are free",
        need <= free,
        f"free {readable(max(0, need - free))}, or put the run on another disk with --out",
    )
