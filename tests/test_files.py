"""A file is whole or as it was: while it is written, when the writer fails, and when it is killed."""

import os
import signal
import subprocess
import sys

import pytest

from neurovl.files import Journal, read_journal, replacing

KILLED = """
import os, signal, sys
from pathlib import Path
from neurovl.files import replacing
with replacing(Path(sys.argv[1])) as part:
    part.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / "table.csv").write_text("old")
    return tmp_path / "table.csv"


def test_the_old_file_stands_until_the_new_one_is_whole(path):
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old" and part.parent == path.parent
        assert part.name.startswith(".") and part.suffix == ".csv"
    assert path.read_text() == "new" and os.listdir(path.parent) == ["table.csv"]


def test_what_fails_leaves_the_old_file_and_nothing_beside(path):
    with pytest.raises(ZeroDivisionError), replacing(path) as part:
        part.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and os.listdir(path.parent) == ["table.csv"]


def test_a_body_that_writes_nothing_is_an_error(path):
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_a_killed_writer_leaves_the_old_file(path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)])
    assert done.returncode == -signal.SIGKILL and path.read_text() == "old"


def test_bytes_are_on_the_disk_before_the_name(path, monkeypatch):
    order = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            os, name, lambda *a, name=name, real=real: (order.append(name), real(*a))
        )
    with replacing(path) as part:
        part.write_text("new")
    assert order == ["fsync", "replace"]


def test_a_journal_is_found_again_but_for_a_line_that_was_cut(tmp_path):
    path, records = tmp_path / "done.jsonl", [{"a": "ä\u2028\n"}, {"a": 1}]
    Journal(path).add(records)
    with open(path, "a") as file:
        file.write('{"a": 2')
    size = path.stat().st_size
    assert read_journal(path) == records and path.stat().st_size == size  # another's is left alone
    again = Journal(path)
    assert again.records == records
    again.add(one for one in [{"a": 3}])
    assert Journal(path).records == again.records == [*records, {"a": 3}]
