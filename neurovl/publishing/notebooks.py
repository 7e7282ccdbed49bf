"""Notebooks through papermill: parameters checked, run by this interpreter, kept when they end well.

The executed copy of ``notebooks/NAME.ipynb`` lands in ``RUN/book/notebooks/`` under a temporary name
and is renamed when the last cell has ended. Machine paths and tokens are taken out of it. A copy that
is up to date is left alone; of two processes that want the same copy one makes it. Left out: what the
notebooks show, and the book that is made of them.
"""

import ast
import hashlib
import json
import logging
import re
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from neurovl.errors import ConfigError, MissingError, NeurovlError
from neurovl.files import replacing
from neurovl.locks import exclusive
from neurovl.publishing import book_checks, materials

logger = logging.getLogger(__name__)

NOTEBOOKS = (
    "00_data",
    "01_preprocessing",
    "02_training",
    "03_language",
    "04_reconstruction",
    "05_beta_ablation",
    "06_concept_localization",
    "07_comparison",
    "08_explore",
    "09_real_brains",
    "10_numbers",
    "11_models",
    "12_new_subject",
    "13_paper_tables",
    "14_further_tests",
    "15_leaderboard",
    "16_controls",
)

_PACKAGE = Path(__file__).parents[1]
_TOKEN = re.compile(r"\bhf_[A-Za-z0-9]{16,}|(?<=token=)[0-9A-Za-z]{16,}")
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_PICTURES = ("image/png", "image/jpeg", "image/gif")


def find_root(start: Path | None = None) -> Path:
    """Return the folder that holds ``notebooks/``, ``book/`` and ``_config.yml``; it is only read.

    Parameters
    ----------
    start
        A folder to take instead of the checkout, or of the package's own copy where it was installed
        from a wheel.

    Raises
    ------
    MissingError
        It is not such a folder.
    """
    places = [Path(start)] if start else [_PACKAGE.parent, Path(__file__).with_name("pages")]
    for place in places:
        if (place / "book" / "_toc.yml").is_file() and (place / "_config.yml").is_file():
            return place.resolve()
    looked = " or ".join(str(place) for place in places)
    raise MissingError(
        f"the book's pages (book/_toc.yml and _config.yml) were expected in {looked} and are not "
        "there; install neurovl again"
    )


def notebooks_of(run: Path) -> tuple[str, ...]:
    """Return the names of the notebooks that a run's book shows."""
    real = book_checks.about(run).get("profile") == "haxby"
    return ("09_real_brains",) if real else NOTEBOOKS


def execute(
    name: str,
    run: Path,
    parameters: Mapping[str, Any] | None = None,
    root: Path | None = None,
    timeout: int | None = None,
) -> Path:
    """Run one notebook and keep its executed copy; do nothing when an up-to-date copy is there.

    Where the run's data lack what the notebook is about, a page that says so takes its place.

    The notebook works two folders above the run, and knows it as ``runs/demo`` wherever that lies.

    Parameters
    ----------
    name
        The notebook's name without ending, as in `NOTEBOOKS`.
    run
        The run folder; given to the notebook as its parameter ``run``.
    parameters
        Values for its ``parameters`` cell.
    root
        The folder that holds ``notebooks/``, see `find_root`.
    timeout
        Longest time for one cell, in s; no limit if not given.

    Returns
    -------
    Path
        ``RUN/book/notebooks/NAME.ipynb``.

    Raises
    ------
    MissingError
        There is no such notebook, or no such run.
    ConfigError
        A parameter is unknown to the notebook (papermill alone would only log it).
    NeurovlError
        A cell failed. The half-executed copy stays as ``.NAME.partial.ipynb`` for a look.
    """
    run = Path(run).resolve()
    about = book_checks.about(run)
    source = find_root(root) / "notebooks" / f"{name}.ipynb"
    if not source.is_file():
        raise MissingError(f"notebook {name} was expected at notebooks/{name}.ipynb; not there")
    values = _check_parameters(source, dict(parameters or {}), run)
    final = run / "book" / "notebooks" / source.name
    with exclusive(final, f"notebook {name} of run {run.name}"):
        why = materials.lacking(name, run)
        key = _key(source, values, run, why)
        if final.is_file() and _stored(final).get("key") == key:
            logger.info("%s is up to date", name)
        else:
            noted = {
                "key": key,
                "data": about.get("data", ""),
                "publish_images": about.get("publish_images", True),
            }
            if why:
                _write(materials.empty_page(source, why), final, noted)
            else:
                _execute(source, final, values, run.parent.parent, timeout, noted)
    return final


def _execute(
    source: Path, final: Path, values: dict, work: Path, timeout: int | None, noted: dict
) -> None:
    """Run a notebook in the folder `work` and put its clean copy, with what is `noted`, in place."""
    import nbformat
    import papermill
    from papermill.exceptions import PapermillException

    partial = final.with_name(f".{source.stem}.partial.ipynb")
    final.parent.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    try:
        papermill.execute_notebook(
            source,
            partial,
            parameters=values,
            kernel_name="python3",
            kernel_manager_class=_kernel_manager(),
            cwd=work,
            progress_bar=False,
            execution_timeout=timeout,
        )
    except (PapermillException, RuntimeError, TimeoutError) as error:
        failure = _failure(source.stem, error, partial.relative_to(work))
        raise NeurovlError(failure) from error
    notebook = _scrub(nbformat.read(partial, as_version=4), work, values)
    for cell in notebook.cells:  # papermill's own, folded on a page like those that it overrides
        if "injected-parameters" in cell.metadata.get("tags", []):
            cell.metadata["tags"].append("hide-input")
    _write(notebook, final, {**noted, "seconds": round(time.monotonic() - started, 1)})
    partial.unlink()


def _write(notebook: Any, final: Path, noted: dict) -> None:
    """Put a copy, with what is noted of it, in its place at once."""
    import nbformat

    notebook.metadata["neurovl"] = noted
    with replacing(final) as part:
        nbformat.write(notebook, part)


def _check_parameters(source: Path, values: dict, run: Path) -> dict:
    """Return the parameters with ``run`` added, as it is called two folders above."""
    known = _parameters(source)
    if "run" in known:
        values["run"] = str(run.relative_to(run.parent.parent))
    if strangers := sorted(set(values) - set(known)):
        raise ConfigError(
            f"notebook {source.stem} has no parameter {', '.join(strangers)}; "
            f"known: {', '.join(known) or 'none'}"
        )
    return values


def _parameters(source: Path) -> list[str]:
    """Return the names in a notebook's parameters cell; papermill overlooks those that may be None."""
    for cell in json.loads(source.read_text(encoding="utf-8"))["cells"]:
        if "parameters" in cell["metadata"].get("tags", []):
            lines = ast.parse("".join(cell["source"])).body
            return [line.target.id for line in lines if isinstance(line, ast.AnnAssign)]
    return []


# Pages that show another run, too, where it lies beside.
SHOWN_BESIDE = {"09_real_brains": "haxby", "03_language": "words"}


def _key(source: Path, values: dict, run: Path, why: str = "") -> str:
    """Return a hash of all that an executed copy, or the page in its place that says `why`, depends on."""
    digest = hashlib.sha256(source.read_bytes() + why.encode())
    digest.update(json.dumps(values, sort_keys=True, default=str).encode())
    about = book_checks.about(run)
    settled = {k: v for k, v in about.items() if k not in ("commit", "date", "device")}
    digest.update(json.dumps(settled, sort_keys=True).encode())
    own = (part for part in _PACKAGE.rglob("*") if part.suffix in (".py", ".js", ".html"))
    parts = sorted(own) + sorted(run.rglob("provenance.json"))
    if source.stem in SHOWN_BESIDE:
        parts += sorted((run.parent / SHOWN_BESIDE[source.stem]).glob("results/provenance.json"))
    for part in parts:
        digest.update(part.read_bytes())
    return digest.hexdigest()


def _stored(notebook: Path) -> dict:
    """Return what `execute` noted in an executed copy."""
    return json.loads(notebook.read_text()).get("metadata", {}).get("neurovl", {})


def _kernel_manager() -> type:
    """Return a kernel manager whose kernel is this interpreter, whatever kernelspecs a user has."""
    from ipykernel.kernelspec import get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager

    class SameInterpreter(AsyncKernelManager):
        transport_encryption = "auto"  # other users of this machine cannot listen

        @property
        def kernel_spec(self) -> KernelSpec:
            # Starts sys.executable; several kernels do not fight for the cores.
            return KernelSpec(**get_kernel_dict(), env=dict(_ONE_THREAD))

    return SameInterpreter


def _failure(name: str, error: Exception, partial: Path) -> str:
    """Return one sentence about a notebook that failed."""
    cell = getattr(error, "cell_index", None)
    reason = getattr(error, "evalue", None) or str(error)
    lines = reason.strip().splitlines() or [type(error).__name__]
    kind = getattr(error, "ename", None) or type(error).__name__
    where = "" if cell is None else f" in cell {cell}"
    return f"notebook {name} failed{where}: {kind}: {lines[-1]}; see {partial}"


def _scrub(node: Any, work: Path, values: Mapping[str, Any]) -> Any:
    """Return a notebook whose sources and outputs name no folder of this machine and no token."""
    import nbformat

    folders = {sys.prefix: "PYTHON", f"{tempfile.gettempdir()}/": "TMP/"}
    for own in (work, _PACKAGE.parent):
        if len(own.parts) > 1:
            folders |= {f"{own}/": "", str(own): "."}
    if len(home := str(Path.home())) > 1:
        folders[home] = "~"
    for value in values.values():
        if isinstance(value, str) and len(Path(value).parts) > 1 and Path(value).is_absolute():
            folders[value] = Path(value).name
    longest_first = sorted(folders, key=len, reverse=True)
    ends = "|".join(re.escape(f) + ("" if f.endswith("/") else r"(?![\w-])") for f in longest_first)
    pattern = re.compile(rf"(?<![A-Za-z0-9+])(?:{ends})")

    def clean(value: Any) -> Any:
        if isinstance(value, str):
            return _TOKEN.sub("TOKEN", pattern.sub(lambda found: folders[found[0]], value))
        if isinstance(value, Mapping):
            if value.get("encoding") == "base64":  # a picture in the widgets' state
                return value
            kept = {k: v if k in _PICTURES else clean(v) for k, v in value.items()}
            return nbformat.NotebookNode(kept)
        return [clean(item) for item in value] if isinstance(value, list) else value

    return clean(node)
