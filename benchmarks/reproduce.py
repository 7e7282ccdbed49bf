"""Where the time of `neurovl reproduce` goes, stage by stage: with all cores, with one, and beside other busy programs.

    python benchmarks/reproduce.py                   # the demo with all cores, about 12 minutes on 2 of them
    python benchmarks/reproduce.py --profile smoke --ways all one busy

Each way begins in an empty folder. Encoders are one row together, and so are the parts of the adaptation. `one` may use one core; `busy` runs beside as many programs that compute without end as
there are cores. Stages run side by side, so that their seconds add up to more than the whole. Rows go to reproduce.csv;
those of other devices and profiles stay.
"""

import argparse
import contextlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from measuring import processor, record

CORES = sorted(os.sched_getaffinity(0))
DONE = re.compile(r"^(\S+): done in ([\d.]+) s$")
WAYS = {
    "all": f"{len(CORES)} cores",
    "one": "1 core",
    "busy": f"{len(CORES)} cores, {len(CORES)} other programs",
}


@contextlib.contextmanager
def other_programs(n: int) -> Iterator[None]:
    """Programs that multiply matrices beside, one thread each."""
    spin = "import numpy as np; a = np.ones((500, 500))\nwhile True: a @ a"
    single = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    running = [subprocess.Popen([sys.executable, "-c", spin], env=single) for _ in range(n)]
    try:
        yield
    finally:
        for program in running:
            program.kill()
            program.wait()


def row_of(stage: str) -> str:
    """The row of a stage: all encoders are one."""
    first = stage.partition("/")[0]
    return "adaptation" if first.startswith("targets-") else first


def stages_of(command: list[str], cores: list[int]) -> dict[str, float]:
    """Seconds of each stage that a command reports, of what comes after the last, and of the whole."""
    start = time.perf_counter()
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: os.sched_setaffinity(0, cores),
    ) as process:
        seconds, scored, last = {}, start, ""
        for line in process.stdout:
            last = line.strip() or last
            if match := DONE.match(last):
                name = row_of(match[1])
                seconds[name] = seconds.get(name, 0) + float(match[2])
                scored = time.perf_counter()
    if process.returncode:
        sys.exit(f"{' '.join(command[2:4])} failed: {last}")
    ended = time.perf_counter()
    return seconds | {"notebooks and book": ended - scored, "the whole": ended - start}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--ways", nargs="+", default=["all"], choices=WAYS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder")
    settings = parser.parse_args(arguments)
    columns = {}
    for way in settings.ways:
        beside = other_programs(len(CORES) if way == "busy" else 0)
        with beside, tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "neurovl", "reproduce", "--profile", settings.profile]
            command += ["--out", f"{folder}/run"]
            columns[WAYS[way]] = stages_of(command, CORES[: 1 if way == "one" else None])
        print(f"{WAYS[way]}: {columns[WAYS[way]]['the whole']:.0f} s")
    table = pd.DataFrame(columns).round(1)
    named = {"device": f"{processor()}, {settings.profile}", "date": time.strftime("%Y-%m-%d")}
    rows = [{"stage": stage, **row, **named} for stage, row in table.to_dict("index").items()]
    record(settings.out / "reproduce.csv", rows)


if __name__ == "__main__":
    main()
