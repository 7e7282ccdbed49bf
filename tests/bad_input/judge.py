"""Running a command, and what every answer to bad input must be like."""

import contextlib
import hashlib
import io
import os
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import NamedTuple
from unittest import mock

LONGEST = 500  # characters of a message
STAGES = ("tokens", "targets", "encoders", "llm", "table", "out.nii.gz", "out.png")  # final names
STEP = re.compile(
    r"neurovl [a-z]|\b(add|remove|correct|choose|name|give|save|copy|write|rename|fill|export|fetch|"
    r"set|use|wait|move|make|convert|look|reslice|shrink|compare|check|run|drop|count|quote)\b"
)


class Done(NamedTuple):
    """What a command left: exit code, the sentence, and all else on stderr."""

    code: int
    message: str
    noise: str


def neurovl(command: str, folder: Path) -> Done:
    """Run a command in a folder, within this process, as the console script does."""
    from neurovl.cli import main

    code, message, noise = 0, "", io.StringIO()
    here = Path.cwd()
    os.chdir(folder)
    try:
        with (
            mock.patch.object(sys, "argv", ["neurovl", *command.split()]),
            contextlib.redirect_stderr(noise),
            contextlib.redirect_stdout(io.StringIO()),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("default")
            main()
    except SystemExit as stop:
        message, code = (stop.code, 1) if isinstance(stop.code, str) else ("", stop.code or 0)
    except Exception:  # what a user would see as a traceback
        message, code = traceback.format_exc(), 1
    finally:
        os.chdir(here)
    return Done(code, message, noise.getvalue())


def judge(done: Done, folder: Path, names: str, found: str, expected: str, step: str) -> None:
    """Fail unless a command refused its input in one sentence with all four parts."""
    text = done.message
    assert "Traceback" not in text + done.noise, text + done.noise
    assert done.code == 1 and text.startswith("neurovl: "), done
    assert not done.noise.strip(), f"besides the message: {done.noise}"
    assert "\n" not in text and 40 < len(text) < LONGEST, f"{len(text)} characters: {text}"
    assert not re.search(r"\s{2}|\bNone\b|<class|object at 0x| $", text), text
    assert str(folder) not in text and str(Path.cwd()) not in text, f"a path of ours: {text}"
    for part, word in (("file", names), ("found", found), ("expected", expected), ("next", step)):
        assert re.search(word, text), f"{part}: {word!r} is not in: {text}"
    assert STEP.search(text.removeprefix("neurovl: ")), f"no next step: {text}"


def written(folder: Path) -> list[str]:
    """Stages under their final names, at any depth."""
    inner = [p for p in folder.rglob("*") if not any(q.startswith(".") for q in p.parts[-4:])]
    return sorted(str(p.relative_to(folder)) for p in inner if p.name in STAGES)


def content(folder: Path) -> dict[str, str]:
    """Digest of every file of a folder, and where links lead."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = hashlib.blake2b(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder"
    return found
