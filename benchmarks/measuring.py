"""What the benchmarks share: clock, command line, what a machine is and can do, tables that keep other devices' rows."""

import argparse
import contextlib
import os
import platform
import time
from pathlib import Path

import pandas as pd
import torch
from preprocessing import best_of, copy_bandwidth

PEAKS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}  # dense bf16 by the makers' sheets, SXM
PRECISION = {"bf16": ("bfloat16", torch.bfloat16), "no": ("float32", torch.float32)}


class Clock:
    """Seconds between moments, the device's work done."""

    def __init__(self, device: str):
        self.device, self.moments = device, []

    def tick(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()
        self.moments.append(time.perf_counter())


class Enough(Exception):
    """A training was timed for as long as wanted."""


def parse(
    about: str, arguments: list[str] | None, options: dict[str, dict] | None = None
) -> argparse.Namespace:
    """The command line of a benchmark: `device`, `small`, `out`, the folder of its tables, none where nothing is kept, and its own `options`."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--small", action="store_true", help="every part in seconds")
    parser.add_argument("--out", type=Path, help="folder of the tables; with --small none")
    for name, about_it in (options or {}).items():
        parser.add_argument(name, **about_it)
    settings = parser.parse_args(arguments)
    if settings.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is here; leave --device out to measure the CPU")
    settings.out = settings.out or (None if settings.small else Path(__file__).parent)
    return settings


def keep(rows: list[dict], about: dict, out: Path | None, name: str) -> None:
    """Print rows, each with what is said `about` all of them, and put them into a table of a folder, if there is one."""
    rows = [row | about for row in rows]
    print(texts(rows).to_string(index=False))
    if out:
        record(out / name, rows)


def matrix_rate(dtype: torch.dtype, device: str) -> float:
    """Operations a second of large matrix products, the best of several."""
    n = 8192 if device == "cuda" else 2048
    a, b = torch.randn(2, n, n, device=device, dtype=dtype)

    def multiply():
        a @ b
        if device == "cuda":
            torch.cuda.synchronize()

    multiply()
    return 2 * n**3 / best_of(multiply, 7)


def describe_machine(device: str) -> tuple[dict, dict]:
    """What it is and what it can do, measured now; and the matrix peak by precision, operations a second."""
    rates = {name: matrix_rate(dtype, device) for name, dtype in PRECISION.values()}
    if device == "cuda":
        name = torch.cuda.get_device_name()
        known = [peak for key, peak in PEAKS.items() if key in name]
        peaks = rates | ({"bfloat16": known[0]} if known else {})
    else:
        name, peaks = processor(), rates
    return {
        "device": name,
        "CPU cores": torch.get_num_threads(),
        "memory copy, GB/s": short(copy_bandwidth() / 1e9),
        "float32 matrices, GFLOP/s": short(rates["float32"] / 1e9),
        "bfloat16 matrices, GFLOP/s": short(rates["bfloat16"] / 1e9),
        "bfloat16 peak, GFLOP/s": short(peaks["bfloat16"] / 1e9),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }, peaks


def processor() -> str:
    """Model of the CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def record(file: Path, rows: list[dict]) -> pd.DataFrame:
    """Put rows in a table on disk in place of those of the same device, at once or not at all."""
    table = texts(rows)
    if file.exists():
        before = pd.read_csv(file, dtype=str, keep_default_na=False)
        others = before[~before.device.isin(table.device)]
        table = pd.concat([others, table], ignore_index=True)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    table.fillna("").to_csv(beside, index=False)
    os.replace(beside, file)
    return table


def texts(rows: list[dict]) -> pd.DataFrame:
    """A table of text: 1240, not 1240.0; empty where a row has no value."""
    table = [{k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in r.items()} for r in rows]
    return pd.DataFrame(table).fillna("")


def short(value: float) -> float:
    return float(f"{value:.3g}")


def yes(met: bool) -> str:
    return "yes" if met else "no"
