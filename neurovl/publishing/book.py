"""The book: executed notebooks and pages through Jupyter Book, warnings taken as errors.

A run has a book of its own, ``RUN/book/html``, which holds the notebooks that were executed for it,
shows what the run's data are in a banner and the run's provenance at the foot, and replaces the last
one when it is whole. Left out: the execution of the notebooks (``notebooks.py``) and the checks of the
rendered pages (``checks.py``).
"""

import hashlib
import html
import importlib.metadata
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from neurovl.errors import ConfigError, NeurovlError
from neurovl.locks import exclusive
from neurovl.publishing import book_checks
from neurovl.publishing.gallery import gallery
from neurovl.publishing.house import file_list
from neurovl.publishing.notebooks import NOTEBOOKS, execute, find_root, notebooks_of

logger = logging.getLogger(__name__)

_KEY = "book.sha256"  # in the folder of the pages: digest of all that they were made from
_PACKAGE = Path(__file__).parents[1]
_BUILDERS = ("jupyter-book", "sphinx", "sphinx-book-theme", "myst-nb")
_DRAWERS = ("latex2mathml", "widgetsnbextension", "anywidget")  # what their pages are drawn by


def build(run: Path, root: Path | None = None) -> Path:
    """Render the book of a run from the pages and the run's executed notebooks.

    ``jupyter-book build -W -n --keep-going``: a broken citation, reference or picture is an error.
    The pages are copied beside the notebooks, so that nothing is written where they come from. A
    failed build leaves the last book as it was; one that is up to date is left alone.

    Parameters
    ----------
    run
        The run folder; its ``run.json`` gives the banner and the footer.
    root
        The folder that holds ``book/`` and ``_config.yml``, see `find_root`.

    Returns
    -------
    Path
        ``RUN/book/html/index.html``.

    Raises
    ------
    ConfigError
        ``_config.yml`` has a key that Jupyter Book does not know.
    MissingError
        The folder is not a run.
    NeurovlError
        The build ended with warnings or errors, or the pages have faults; they are quoted.
    """
    run, root = Path(run).resolve(), find_root(root)
    book_checks.check_config(root / "_config.yml")
    config = _config(root, run)
    final, work = run / "book" / "html", run / "book" / ".build"
    with exclusive(final, f"the book of run {run.name}"):
        shutil.rmtree(work, ignore_errors=True)  # of a build that was killed
        try:
            _gather(run, root, config, work)
            key = _digest(work)
            if (final / _KEY).is_file() and (final / _KEY).read_text() == key:
                logger.info("the book of run %s is up to date", run.name)
                return final / "index.html"
            made = _render(work)
            (made / _KEY).write_text(key)
            if final.exists():
                os.rename(final, work / "last")
            os.rename(made, final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
    return final / "index.html"


def render(
    run: Path,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    notebooks: Iterable[str] | None = None,
    root: Path | None = None,
    n_jobs: int = 1,
) -> Path:
    """Execute the notebooks of a run and build its book.

    Parameters
    ----------
    run
        The run folder.
    parameters
        Values by notebook name, ``{"05_beta_ablation": {"n_images": 4}}``.
    notebooks
        Names of the notebooks to execute; those of the run, see `notebooks_of`, if not given.
    root
        The folder that holds ``notebooks/``, ``book/`` and ``_config.yml``, see `find_root`.
    n_jobs
        Notebooks at the same time, begun in order; a stage that two need is made by one, the other waits.

    Returns
    -------
    Path
        ``RUN/book/html/index.html``.

    Raises
    ------
    NeurovlError
        A notebook failed, or the build.
    """
    parameters = dict(parameters or {})
    if strangers := sorted(set(parameters) - set(NOTEBOOKS)):
        raise ConfigError(
            f"parameters are given for unknown notebooks {', '.join(strangers)}; "
            f"known: {', '.join(NOTEBOOKS)}"
        )
    names = notebooks_of(run) if notebooks is None else notebooks
    with ThreadPoolExecutor(n_jobs) as pool:
        jobs = [pool.submit(execute, name, run, parameters.get(name), root) for name in names]
        try:
            for job in jobs:
                job.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return build(run, root)


def _gather(run: Path, root: Path, config: dict, work: Path) -> None:
    """Copy the pages and the run's executed notebooks into one tree, with contents and settings.

    Pages read the measured tables beside them, ``../benchmarks``, and the first page what the run
    opens with, ``gallery.md``.
    """
    source = work / "book"
    shutil.copytree(root / "book", source, ignore=shutil.ignore_patterns("notebooks", ".*"))
    executed = sorted((run / "book" / "notebooks").glob("[!.]*.ipynb"))
    tables = sorted((root / "benchmarks").glob("*.csv"))
    for folder, files in ((source / "notebooks", executed), (work / "benchmarks", tables)):
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
    (source / "gallery.md").write_text(gallery(run), encoding="utf-8")
    (source / "files.md").write_text(file_list(), encoding="utf-8")
    toc = _toc(root, {notebook.stem for notebook in executed})
    (source / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))
    (source / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False))


def _digest(work: Path) -> str:
    """Return a hash of a gathered tree, of the package, whose docstrings its reference shows, and of what builds it."""
    digest = hashlib.sha256()
    for name in _BUILDERS + _DRAWERS:
        digest.update(f"{name} {importlib.metadata.version(name)}\n".encode())
    pages = sorted((work, path) for path in work.rglob("*") if path.is_file())
    own = sorted((_PACKAGE, p) for p in _PACKAGE.rglob("*") if p.suffix in (".py", ".js", ".html"))
    for folder, path in [*pages, *own]:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(folder).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _render(work: Path) -> Path:
    """Return the folder of the pages that Jupyter Book makes of a gathered tree, without faults."""
    command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    command += ["build", str(work / "book"), "-W", "-n", "--keep-going"]
    command += ["--path-output", str(work)]
    environment = os.environ | {"NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
    made = work / "_build" / "html"
    if done.returncode or not (made / "index.html").is_file():
        raise NeurovlError(_build_failure(done.stdout + "\n" + done.stderr, work))
    if faults := book_checks.check_book(made):
        raise NeurovlError("the book has faults: " + "; ".join(faults))
    return made


def _toc(root: Path, executed: set[str]) -> dict:
    """Return the table of contents with only those notebooks that were executed."""
    toc = yaml.safe_load((root / "book" / "_toc.yml").read_text())

    def there(chapter: dict) -> bool:
        folder, _, name = chapter["file"].rpartition("/")
        return folder != "notebooks" or name in executed

    parts = []
    for part in toc["parts"]:
        if chapters := [chapter for chapter in part["chapters"] if there(chapter)]:
            parts.append(part | {"chapters": chapters})
    return toc | {"parts": parts}


def _config(root: Path, run: Path) -> dict:
    """Return ``_config.yml`` with the run's banner and footer and the repository's buttons."""
    config = yaml.safe_load((root / "_config.yml").read_text())
    about = book_checks.about(run)
    pages = config.setdefault("html", {})
    data = html.escape(str(about.get("data", "simulated-nsd")))
    if about.get("simulated", True):
        pages["announcement"] = (
            "<strong>Simulated brains.</strong> Every number and picture from data "
            f"<b>{data}</b> comes from simulated recordings, not from people. "
            "Pages on real recordings say so."
        )
    else:
        pages["announcement"] = (
            f"This run is on <b>{data}</b>. Where a table's data column says "
            "<b>simulated</b>, the brains are simulated."
        )
    if about.get("settings", {}).get("language", {}).get("method") == "lora":
        pages["announcement"] += (
            " The language model was trained with adapters (LoRA), not all its weights as in the paper."
        )
    if about.get("random_weights"):
        pages["announcement"] += (
            " <strong>A rehearsal:</strong> its models have random weights, and none of its numbers means anything."
        )
    shown = [k for k in ("data", "profile", "seed", "commit", "date", "device") if about.get(k)]
    shown += ["seed"] if about.get("seed") == 0 else []
    pages["extra_footer"] = " · ".join(f"{k} {html.escape(str(about[k]))}" for k in shown)
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        config["repository"]["url"] = f"https://github.com/{repository}"
        pages["use_repository_button"] = pages["use_issues_button"] = True
        config["launch_buttons"]["binderhub_url"] = "https://mybinder.org"
        config["launch_buttons"]["colab_url"] = "https://colab.research.google.com"
    return config


def _build_failure(log: str, work: Path) -> str:
    """Return one sentence that quotes the log's warnings, or its end if it has none."""
    log = log.replace(f"{work}/book/notebooks/", "notebooks/").replace(f"{work}/", "")
    lines = [line for line in log.splitlines() if line.strip()]
    faults = [line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line)]
    return "the book was not built: " + "; ".join((faults or lines[-8:])[:20])
