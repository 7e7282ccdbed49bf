"""Stages of a run: written beside, renamed when whole, skipped when nothing they rest on changed.

Leaves out what a stage computes, and locks between machines (two processes of one wait for one another).
"""

import contextlib
import contextvars
import dataclasses
import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePath

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.files import replacing
from neurovl.locks import exclusive
from neurovl.stages.code import code_hash

logger = logging.getLogger(__name__)

PROVENANCE = "provenance.json"
PACKAGES = (
    "torch",
    "transformers",
    "diffusers",
    "open_clip_torch",
    "nilearn",
    "numpy",
    "scipy",
    "scikit-image",
    "himalaya",
    "pycocoevalcap",
)

_PACKAGE = Path(__file__).parents[1]
_MARK = "stage.json"


_looking = contextvars.ContextVar("looking", default=False)


class NotUpToDate(MissingError):
    """A stage would have to be made, and `look_only` forbids it."""


@contextlib.contextmanager
def look_only() -> Iterator[None]:
    """In the body a stage that is not up to date raises `NotUpToDate` instead of being made."""
    token = _looking.set(True)
    try:
        yield
    finally:
        _looking.reset(token)


@dataclasses.dataclass
class Stage:
    """What the body of ``with stage(...) as s`` sees.

    Attributes
    ----------
    dir : Path
        Where the body writes; the final folder itself when `done`.
    key : str
        Digest of all that the stage depends on.
    done : bool
        The final folder is whole and has this key: nothing to do.
    resumed : bool
        `dir` holds what an interrupted run with the same key left there.
    """

    dir: Path
    key: str
    done: bool
    resumed: bool


def _plain(value: object, keep_paths: bool) -> object:
    """Turn dataclasses, paths and numpy values into plain JSON; absolute paths become names."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v, keep_paths) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v, keep_paths) for v in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(v, keep_paths) for v in value), key=repr)
    if isinstance(value, (str, PurePath)):
        text = str(value)
        return text if keep_paths or not PurePath(text).is_absolute() else PurePath(text).name
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if callable(getattr(value, "item", None)) and getattr(value, "ndim", 0) == 0:
        return value.item()
    if hasattr(value, "tolist"):
        return _plain(value.tolist(), keep_paths)
    raise ConfigError(
        f"a stage setting is a {type(value).__name__}, expected plain values (numbers, strings, "
        "lists, dictionaries, dataclasses): pass its settings instead"
    )


def _key(parts: dict) -> str:
    text = json.dumps(_plain(parts, keep_paths=True), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def _write(path: Path, content: dict) -> None:
    with replacing(path) as part:
        part.write_text(json.dumps(content, indent=1, sort_keys=True), encoding="utf-8")


def _files(folder: Path) -> dict[str, int]:
    return {
        p.relative_to(folder).as_posix(): p.stat().st_size
        for p in sorted(folder.rglob("*"))
        if p.is_file() and p.name not in (PROVENANCE, _MARK)
    }


def _is_whole(folder: Path, key: str) -> bool:
    record = _read(folder / PROVENANCE)
    if record.get("key") != key:
        return False
    files = _files(folder)
    return all(files.get(name) == size for name, size in record.get("files", {}).items())


def provenance_key(folder: Path | str) -> str:
    """Key of a finished stage, to be handed to the next stage as an input.

    Raises
    ------
    MissingError
        If the folder holds no finished stage.
    """
    key = _read(Path(folder) / PROVENANCE).get("key")
    if key is None:
        raise MissingError(
            f"{Path(folder).name}/ holds no {PROVENANCE}, expected a finished stage: "
            "run the stage that makes it first"
        )
    return key


def _commit() -> str | None:
    if not (_PACKAGE.parent / ".git").exists():
        return None

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(_PACKAGE.parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--", _PACKAGE.name)
        return git("rev-parse", "HEAD") + (" with local changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def package_versions() -> dict[str, str | None]:
    """Versions of the packages that a result depends on; None where one is not installed."""
    return {name: _version(name) for name in PACKAGES}


def _reset_peak_memory() -> None:
    with contextlib.suppress(OSError):  # Linux only; elsewhere the peak is the process's
        Path("/proc/self/clear_refs").write_text("5")


def _peak_memory_mb() -> float | None:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return round(int(next(x for x in lines if x.startswith("VmHWM")).split()[1]) / 1024, 1)
    try:
        import resource
    except ImportError:
        return None
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def _replace(new: Path, final: Path) -> None:
    old = final.with_name(f".{final.name}.old")
    if old.exists():
        shutil.rmtree(old)
    if final.exists():
        os.rename(final, old)
    os.rename(new, final)
    if old.exists():
        shutil.rmtree(old)


def _recover(partial: Path, final: Path, key: str) -> None:
    """Finish or undo a replacement that was cut between its two renames."""
    old = final.with_name(f".{final.name}.old")
    if old.exists() and not final.exists():
        os.rename(old, final)
    if not _is_whole(final, key) and _is_whole(partial, key):
        _replace(partial, final)


def _take_over(partial: Path, key: str) -> bool:
    """Keep the content of the partial folder if it has the same key, else empty it; whether it was kept."""
    resumed = _read(partial / _MARK).get("key") == key
    if not resumed:
        for path in partial.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        _write(partial / _MARK, {"key": key})
    return resumed


@contextlib.contextmanager
def stage(
    final_dir: Path | str,
    settings: Mapping,
    inputs: Mapping,
    *,
    seed: int,
    profile: str,
    data: Mapping,
    device: str,
    work: Callable,
    name: str | None = None,
) -> Iterator[Stage]:
    """Run one stage of a pipeline at most once for the same settings, inputs, data, seed and code.

    The body writes into ``s.dir``, a hidden sibling of `final_dir`. When it ends well,
    ``provenance.json`` is added and the folder takes the final name; when it raises, or the process
    dies, the final name is untouched and the sibling stays, so that the next run with the same key
    may continue in it. A second process waits for the one that writes, and then finds the stage done.

    Parameters
    ----------
    final_dir : path
        Folder of this stage alone. One that exists and is no stage is refused, never replaced.
    settings : mapping
        Everything that the user may change and that changes the result.
    inputs : mapping of str to str
        Keys of the stages read from (`provenance_key`), checksums of weights.
    seed : int
    profile, device : str
        Recorded, not part of the key.
    data : mapping
        ``name`` and ``checksum`` of the recordings.
    work : callable
        The function that computes the result; with all that it rests on it is part of the key, see `code_hash`.
    name : str, optional
        What the log calls it; the folder's name by default.

    Yields
    ------
    Stage
        The body skips its work if ``s.done``.

    Raises
    ------
    DataError
        If `final_dir` holds files that no stage wrote.
    ConfigError
        If a setting is not plain data.
    """
    final = Path(os.path.abspath(final_dir))
    partial = final.with_name(f".{final.name}.partial")
    parts = {"settings": settings, "inputs": inputs, "seed": seed, "data": data}
    code = code_hash(work)
    key = _key({**parts, "code": code})
    if _is_whole(final, key):
        logger.debug("%s: up to date", final.name)
        yield Stage(final, key, done=True, resumed=False)
        return
    if _looking.get():
        raise NotUpToDate(
            f"{final.name}/ is not up to date, expected a finished stage: make it first"
        )
    with exclusive(final, f"{final.name}/"):
        _recover(partial, final, key)
        if _is_whole(final, key):
            yield Stage(final, key, done=True, resumed=False)
            return
        if final.exists() and any(final.iterdir()) and not (final / PROVENANCE).exists():
            raise DataError(
                f"{final.name}/ holds files but no {PROVENANCE}, expected a stage of a run or nothing: "
                "choose another run folder or move these files away"
            )
        partial.mkdir(parents=True, exist_ok=True)
        resumed = _take_over(partial, key)
        _reset_peak_memory()
        start = time.perf_counter()
        yield Stage(partial, key, done=False, resumed=resumed)
        seconds = round(time.perf_counter() - start, 2)
        record = {
            **_plain(parts, keep_paths=False),
            "key": key,
            "code": code,
            "version": _version("neurovl"),
            "commit": _commit(),
            "profile": profile,
            "device": str(device),
            "python": platform.python_version(),
            "packages": package_versions(),
            "seconds": seconds,
            "resumed": resumed,
            "peak_memory_mb": _peak_memory_mb(),
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "files": _files(partial),
        }
        _write(partial / PROVENANCE, record)
        (partial / _MARK).unlink()
        _replace(partial, final)
        logger.info("%s: done in %.1f s", name or final.name, seconds)
