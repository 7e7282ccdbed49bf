"""Stages of a run: written beside, renamed when whole, skipped when nothing they rest on changed.

Leaves out what a stage computes, and locks between machines (two processes of one are kept apart).
"""

import ast
import contextlib
import dataclasses
import functools
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
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath

from neurovl.errors import ConfigError, DataError, MissingError

try:
    import fcntl
except ImportError:  # Windows has no flock: there two runs on one folder are the user's care
    fcntl = None

logger = logging.getLogger(__name__)

PROVENANCE = "provenance.json"
NOT_IN_CODE_HASH = (
    "figures",
    "widgets",
    "publishing",
    "cli",
    "hub",
)  # rendering does not change results
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

_PACKAGE = Path(__file__).parent
_MARK = "stage.json"


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


@functools.cache
def code_hash(*roots: str) -> str:
    """SHA-256 over the names and bytes of modules of the package.

    Read once a process: that is the code which runs.

    Parameters
    ----------
    *roots : str
        Modules such as 'neurovl.tokens.writing': these and all that they import, directly or not, wherever the import
        stands. Without any, the whole package but `NOT_IN_CODE_HASH`.
    """
    digest = hashlib.sha256()
    for path in sorted(_reachable(roots) if roots else _PACKAGE.rglob("*.py")):
        relative = path.relative_to(_PACKAGE)
        if roots or relative.with_suffix("").parts[0] not in NOT_IN_CODE_HASH:
            content = path.read_bytes()
            digest.update(f"{relative.as_posix()}\n{len(content)}\n".encode() + content)
    return digest.hexdigest()


def _reachable(modules) -> set[Path]:
    """Files of the modules and of all that they import from this package."""
    found: set[Path] = set()
    waiting = list(modules)
    while waiting:
        path = _module_file(waiting.pop())
        if path is not None and path not in found:
            found.add(path)
            waiting += _imports(path)
    return found


def _module_file(name: str) -> Path | None:
    place = _PACKAGE.parent.joinpath(*name.split("."))
    files = (place / "__init__.py", place.with_suffix(".py"))
    return next((file for file in files if file.is_file()), None)


def _imports(path: Path) -> list[str]:
    """Names of what a file imports from this package; some are no modules but what is in them."""
    names, package = [], path.parent.relative_to(_PACKAGE.parent).parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [one.name for one in node.names if one.name.startswith(_PACKAGE.name)]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            if module.split(".")[0] == _PACKAGE.name:
                names += [module, *(f"{module}.{one.name}" for one in node.names)]
    return names


def _plain(value, keep_paths: bool):
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
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


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

    def git(*arguments):
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


def _open_partial(partial: Path, key: str) -> tuple[int | None, bool]:
    """Lock the partial folder; keep its content if it has the same key, else empty it."""
    partial.mkdir(parents=True, exist_ok=True)
    lock = None
    if fcntl is not None:
        lock = os.open(partial, os.O_RDONLY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ConfigError(
                f"{partial.name} is being written by another process, expected one run a folder: "
                "wait for that run, or choose another run folder"
            ) from None
        except OSError:
            logger.debug("this file system has no locks")
    resumed = _read(partial / _MARK).get("key") == key
    if not resumed:
        for path in partial.iterdir():
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        _write(partial / _MARK, {"key": key})
    return lock, resumed


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
    code: tuple[str, ...] = (),
) -> Iterator[Stage]:
    """Run one stage of a pipeline at most once for the same settings, inputs, data, seed and code.

    The body writes into ``s.dir``, a hidden sibling of `final_dir`. When it ends well,
    ``provenance.json`` is added and the folder takes the final name; when it raises, or the process
    dies, the final name is untouched and the sibling stays, so that the next run with the same key
    may continue in it.

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
    code : tuple of str
        The modules whose code the result rests on, see `code_hash`; the whole package by default.

    Yields
    ------
    Stage
        The body skips its work if ``s.done``.

    Raises
    ------
    DataError
        If `final_dir` holds files that no stage wrote.
    ConfigError
        If a setting is not plain data, or another process writes this stage.
    """
    final = Path(os.path.abspath(final_dir))
    partial = final.with_name(f".{final.name}.partial")
    parts = {"settings": settings, "inputs": inputs, "seed": seed, "data": data}
    key = _key({**parts, "code": code_hash(*code)})
    _recover(partial, final, key)
    if _is_whole(final, key):
        logger.info("%s is up to date", final.name)
        yield Stage(final, key, done=True, resumed=False)
        return
    if final.exists() and any(final.iterdir()) and not (final / PROVENANCE).exists():
        raise DataError(
            f"{final.name}/ holds files but no {PROVENANCE}, expected a stage of a run or nothing: "
            "choose another run folder or move these files away"
        )

    lock, resumed = _open_partial(partial, key)
    try:
        _reset_peak_memory()
        start = time.perf_counter()
        yield Stage(partial, key, done=False, resumed=resumed)
        seconds = round(time.perf_counter() - start, 2)
        record = {
            **_plain(parts, keep_paths=False),
            "key": key,
            "code": code_hash(*code),
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
    finally:
        if lock is not None:
            os.close(lock)
