"""Locks between processes: nobody is let in twice, nobody waits for the dead, nothing is left behind."""

import errno
import logging
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neurovl import locks
from neurovl.locks import exclusive

COUNTER = """
import sys, time
from pathlib import Path
from neurovl.locks import exclusive
folder = Path(sys.argv[1])
counter = folder / "counter"
for _ in range(int(sys.argv[2])):
    with exclusive(folder / "stage", "stage"):
        counter.write_text(str(int(counter.read_text()) + 1))
"""
HOLDER = """
import sys, time
from pathlib import Path
from neurovl.locks import exclusive
with exclusive(Path(sys.argv[1]) / "stage", "stage"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def start(code: str, *arguments) -> subprocess.Popen:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def waits(caplog) -> int:
    return sum("waiting for another process that writes stage" in m for m in caplog.messages)


def test_no_count_is_lost_between_processes(tmp_path):
    (tmp_path / "counter").write_text("0")
    crowd = [start(COUNTER, tmp_path, 300) for _ in range(3)]
    assert [one.wait(60) for one in crowd] == [0, 0, 0]
    assert (tmp_path / "counter").read_text() == "900"
    assert [path.name for path in tmp_path.iterdir()] == ["counter"]


def test_the_second_process_says_once_that_it_waits(tmp_path, caplog):
    caplog.set_level(logging.INFO, "neurovl.locks")
    holder = start(HOLDER, tmp_path, 1.5)
    assert holder.stdout.readline() == "held\n"
    began = time.monotonic()
    with exclusive(tmp_path / "stage", "stage"):
        assert time.monotonic() - began > 1
    assert holder.wait(10) == 0
    assert waits(caplog) == 1
    with exclusive(tmp_path / "stage", "stage"):
        pass
    assert waits(caplog) == 1


def test_the_lock_of_a_killed_process_is_free(tmp_path, caplog):
    caplog.set_level(logging.INFO, "neurovl.locks")
    holder = start(HOLDER, tmp_path, 60)
    assert holder.stdout.readline() == "held\n"
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    with exclusive(tmp_path / "stage", "stage"):
        assert waits(caplog) == 0


def test_an_error_in_the_body_frees_the_lock(tmp_path):
    with pytest.raises(RuntimeError), exclusive(tmp_path / "new" / "stage", "stage"):
        raise RuntimeError
    with exclusive(tmp_path / "new" / "stage", "stage"):
        assert (tmp_path / "new" / ".stage.lock").is_file()
    assert list((tmp_path / "new").iterdir()) == []


def no_locks(*arguments):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.mark.parametrize("name", ["no flock", "no lock on this file system", "no place for a file"])
def test_without_locks_the_body_runs_all_the_same(name, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG, "neurovl.locks")
    folder: Path = tmp_path
    if name == "no flock":
        monkeypatch.setattr(locks, "fcntl", None)
    elif name == "no lock on this file system":
        monkeypatch.setattr(locks.fcntl, "flock", no_locks)
    else:
        (tmp_path / "file").write_text("")
        folder = tmp_path / "file" / "below"
    ran = []
    with exclusive(folder / "stage", "stage"):
        ran.append(True)
    assert ran == [True] and "lock" in caplog.text and "waiting" not in caplog.text
    assert not list(tmp_path.glob("**/.*"))
