"""Hours, memory and disk of each stage, on this machine and on cards that a run may be taken to.

    hours = operations / (share x peak) + bytes read / (share x bandwidth)

The peak of this machine is measured now, by products of large matrices; those of other cards are their makers'. Which share
of it a training reaches is assumed, the same everywhere: the plan tells an evening from a week, not one hour from two.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from neurovl.doctor.comparison import comparison
from neurovl.doctor.findings import readable
from neurovl.doctor.machine import FIXES, Machine, look
from neurovl.doctor.needs import needs
from neurovl.doctor.operations import Work, work
from neurovl.doctor.sizes import Need, Sizes, sizes_for
from neurovl.pipeline.together import dividing
from neurovl.settings.sections import Profile

if TYPE_CHECKING:
    import torch

    from neurovl.recordings.base import Recordings

SHARE, READING = 0.35, 0.6  # of peak and of bandwidth, assumed
VOLUMES = 100.0  # resized a second on a core, from .nii.gz


@dataclass(frozen=True)
class Device:
    """Something to compute on.

    Attributes
    ----------
    name : str
    memory : float
        Bytes of one card.
    peak, bandwidth : float
        Operations, and bytes of its memory, a second.
    count : int
        Cards that share what can be shared.
    half : bool
        Whether it computes in 16 bits.
    """

    name: str
    memory: float
    peak: float
    bandwidth: float
    count: int = 1
    half: bool = True


# bf16 without sparsity, as NVIDIA's data sheets state them.
H100 = Device("H100 80 GB", 80e9, 989e12, 3.35e12)
RTX_4090 = Device("RTX 4090 24 GB", 24e9, 165e12, 1.01e12)
CARDS = (H100, replace(H100, count=8), RTX_4090)
COMPARED = (
    "Not in the sum, and coarse: neurovl compare --systems all, of which neurovl reproduce does leaderboard.systems, and what "
    "--controls adds. Assumed: systems have the profile's settings, and cards share them evenly; their scores are left out."
)


def measured(machine: Machine) -> Device:
    """This machine, with rates that are measured now."""
    import torch

    from neurovl.training.devices import choose_precision

    half = choose_precision("auto", machine.device) == "bf16"
    dtype = torch.bfloat16 if half else torch.float32
    peak, bandwidth = _matrix_rate(dtype, machine.device), _copy_rate(machine.device)
    memory = machine.device_memory or machine.memory
    return Device(machine.name, memory, peak, bandwidth, machine.count, machine.half)


def _seconds(function: Callable, device: str) -> float:
    import torch

    best = float("inf")
    for _ in range(4):
        start = time.perf_counter()
        function()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def _matrix_rate(dtype: "torch.dtype", device: str) -> float:
    import torch

    n = 8192 if device.startswith("cuda") else 2048
    a, b = torch.randn(2, n, n, device=device).to(dtype)
    return 2 * n**3 / _seconds(lambda: a @ b, device)


def _copy_rate(device: str) -> float:
    """Bytes read and written a second while a quarter of a gigabyte is copied."""
    import torch

    a = torch.zeros(2**26, device=device)
    b = torch.empty_like(a)
    return 2 * a.numel() * a.element_size() / _seconds(lambda: b.copy_(a), device)


def hours(one: Work, device: Device, cores: int) -> float:
    """How long a stage takes, about."""
    count = device.count if one.shared else 1
    computing = one.operations / (SHARE * device.peak * count)
    reading = one.read / (READING * device.bandwidth)
    return (computing + reading + one.volumes / (VOLUMES * cores)) / 3600


def plan(profile: Profile, recordings: "Recordings | None" = None) -> list[str]:
    """The plan as lines: a table, and what to change where a stage does not fit.

    Parameters
    ----------
    profile : Profile
    recordings : Recordings, optional
        Of the data that would be used; without them the sizes of the data that the profile names are taken.

    Raises
    ------
    MissingError
        Nothing is known of a model of the profile.
    """
    machine = look(profile.compute.device)
    here, sizes = measured(machine), sizes_for(profile, recordings)
    devices, works = (here, *CARDS), work(profile, sizes)
    wanted = {
        d: needs(profile, sizes, d.half, machine.cores, dividing(profile, d.count)) for d in devices
    }
    of_run = len(wanted[here])
    if compared := comparison(profile, sizes, recordings):
        works += compared.works()
        for d in devices:
            wanted[d] += compared.needs(d.half)
    named = [f"{d.count} x {d.name}" for d in CARDS]
    head = ["stage", "operations", f"here: {here.name}", *named, "memory beside", "disk"]
    rows, total = [], dict.fromkeys(devices, 0.0)
    in_memory = None if machine.device_memory else here
    for k, need in enumerate(wanted[here]):
        own = [one for one in works if one.stage == need.stage]
        operations = sum(one.operations for one in own)
        cells = [need.stage, f"{operations:.1e}" if operations else ""]
        for d in devices:
            taken = sum(hours(one, d, machine.cores) for one in own)
            total[d] += taken * (k < of_run)
            cells.append(_cell(taken, wanted[d][k], d, d is in_memory))
        rows.append([*cells, *(readable(b) if b else "" for b in (need.memory, need.disk))])
    disk = sum(need.disk for need in wanted[here][:of_run])
    rows.insert(of_run, ["all", "", *(_time(total[d]) for d in devices), "", readable(disk)])
    return [
        *_aligned([head, *rows[:of_run]], rows[of_run:]),
        "",
        f"Here: {here.peak / 1e12:.3g} TFLOP/s and {here.bandwidth / 1e9:.3g} GB/s, measured now. Others: "
        + ", ".join(
            f"{d.name} {d.peak / 1e12:.3g} and {d.bandwidth / 1e9:,.0f}" for d in (H100, RTX_4090)
        )
        + ", from their data sheets.",
        f"Assumed: {SHARE:.0%} of the operations and {READING:.0%} of the bandwidth are reached; {VOLUMES:.0f} volumes are resized a "
        "second on each core of this machine.",
        *([COMPARED] if compared else []),
        *_other_epoch(profile, sizes, devices, machine.cores),
        *_changes(wanted, in_memory),
    ]


def _other_epoch(
    profile: Profile, sizes: Sizes, devices: tuple[Device, ...], cores: int
) -> list[str]:
    """What training the language models takes with either kind of epoch, where the profile says one epoch."""
    if profile.language.steps is not None or not sizes.has_images:
        return []
    said = []
    for kind in ("trials", "pairs"):
        language = replace(profile.language, epoch=kind)
        works = work(replace(profile, language=language), sizes)
        own = [one for one in works if one.stage.startswith("train llm")]
        taken = (_time(sum(hours(one, d, cores) for one in own)) for d in devices[1:])
        cards = (
            f"{time} on {d.count} x {d.name}" for d, time in zip(devices[1:], taken, strict=True)
        )
        said.append(f"of {kind} {', '.join(cards)}")
    return [
        f"All language models with epochs {'; '.join(said)}. This profile: {profile.language.epoch}."
    ]


def _fits(need: Need, device: Device, beside: bool = False) -> bool:
    return need.device + beside * need.memory <= device.memory


def _cell(taken: float, need: Need, device: Device, beside: bool) -> str:
    """Time and memory; `beside` where the device computes in the machine's memory."""
    held = need.device + beside * need.memory
    words = _time(taken) + (f", {readable(held)}" if held else "")
    return words if _fits(need, device, beside) else f"{words}: too much"


def _time(taken: float) -> str:
    if taken < 1 / 60:
        return "< 1 min"
    if taken < 1:
        return f"{taken * 60:.0f} min"
    return f"{taken:.1f} h" if taken < 100 else f"{taken / 24:,.0f} days"


def _changes(wanted: dict[Device, list[Need]], here: Device | None) -> list[str]:
    """What to do where stages exceed the memory, for each device; `here` computes in the machine's own."""
    found = []
    for device, rows in wanted.items():
        stages = dict[str, list[str]]()
        for need in rows:
            if not _fits(need, device, device is here):
                kind = need.stage.partition(",")[0]
                fix = FIXES.get(kind, "use a device with more memory")
                if kind == "train llm 2":
                    fix = f"train adapters, as the profile paper-24gb does (language.method: lora); or {fix}"
                stages.setdefault(fix, []).append(need.stage)
        found += [
            f"{device.count} x {device.name}: {'; '.join(names)}. {fix[:1].upper()}{fix[1:]}."
            for fix, names in stages.items()
        ]
    return ["", "Too much:", *found] if found else []


def _aligned(rows: list[list[str]], below: list[list[str]]) -> list[str]:
    """Rows with the head first, and those below a line."""
    every = [*rows, *below]
    widths = [max(len(row[k]) for row in every) for k in range(len(rows[0]))]
    lines = [
        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in every
    ]
    rule = "-" * len(lines[0])
    return [lines[0], rule, *lines[1 : len(rows)], rule, *lines[len(rows) :]]
