"""The book: executed notebooks and pages through Jupyter Book, warnings taken as errors.

The book holds the notebooks that were executed, shows what the run's data are in a banner and the
run's provenance at the foot, and replaces the last book when it is whole. Left out: the execution of
the notebooks (``notebooks.py``) and the checks of the rendered pages (``book_checks.py``).
"""

import html
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from neurovl.errors import ConfigError, NeurovlError
from neurovl.publishing import checks as book_checks
from neurovl.publishing.notebooks import NOTEBOOKS, execute, find_root


def build(
    run: Path | None = None,
    root: Path | None = None,
    out: Path | None = None,
) -> Path:
    """Render the book from its pages and the executed notebooks that are there.

    ``jupyter-book build -W -n --keep-going``: a broken citation, reference or picture is an error.

    Parameters
    ----------
    run
        The run whose ``run.json`` gives the banner and the footer.
    root
        The folder that holds ``book/``; the checkout if not given.
    out
        Folder of the pages; ``_build/html`` under `root` if not given. Replaced when the new
        book is whole, so a failed build leaves the last one as it was.

    Returns
    -------
    Path
        The book's ``index.html``.

    Raises
    ------
    ConfigError
        ``_config.yml`` has a key that Jupyter Book does not know.
    NeurovlError
        The build ended with warnings or errors; they are quoted.
    """
    root = find_root(root)
    book_checks.check_config(root / "_config.yml")
    out = Path(out) if out else root / "_build" / "html"
    work = Path(tempfile.mkdtemp(prefix=".book-", dir=root))
    try:
        toc, config = work / "_toc.yml", work / "_config.yml"
        toc.write_text(yaml.safe_dump(_toc(root), sort_keys=False))
        config.write_text(yaml.safe_dump(_config(root, run), sort_keys=False))
        command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
        command += ["build", str(root / "book"), "-W", "-n", "--keep-going"]
        command += ["--toc", str(toc), "--config", str(config), "--path-output", str(work)]
        environment = os.environ | {"NO_COLOR": "1", "PYTHONWARNINGS": "ignore"}
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        made = work / "_build" / "html"
        if done.returncode or not (made / "index.html").is_file():
            raise NeurovlError(_build_failure(done.stdout + "\n" + done.stderr, root))
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(out, ignore_errors=True)
        shutil.move(made, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return out / "index.html"


def render(
    run: Path,
    parameters: Mapping[str, Mapping[str, Any]] | None = None,
    notebooks: Iterable[str] = NOTEBOOKS,
    root: Path | None = None,
    n_jobs: int = 1,
) -> Path:
    """Execute the notebooks for a run, build the book and check its pages.

    Parameters
    ----------
    run
        The run folder.
    parameters
        Values by notebook name, ``{"05_beta_ablation": {"n_images": 4}}``.
    notebooks
        Names of the notebooks to execute.
    root
        The folder that holds ``notebooks/`` and ``book/``; the checkout if not given.
    n_jobs
        Notebooks executed at the same time, each in a kernel of its own.

    Returns
    -------
    Path
        The book's ``index.html``.

    Raises
    ------
    NeurovlError
        A notebook failed, the build failed, or `book_checks.check_book` found faults.
    """
    parameters, notebooks = dict(parameters or {}), list(notebooks)
    if strangers := sorted(set(parameters) - set(NOTEBOOKS)):
        raise ConfigError(
            f"parameters are given for unknown notebooks {', '.join(strangers)}; "
            f"known: {', '.join(NOTEBOOKS)}"
        )
    with ThreadPoolExecutor(max(1, n_jobs)) as pool:
        jobs = [pool.submit(execute, name, parameters.get(name), run, root) for name in notebooks]
        for job in jobs:
            job.result()
    index = build(run, root)
    if faults := book_checks.check_book(index.parent):
        raise NeurovlError("the book has faults: " + "; ".join(faults))
    return index


def _toc(root: Path) -> dict:
    """Return the table of contents with only those notebooks that were executed."""
    toc = yaml.safe_load((root / "book" / "_toc.yml").read_text())

    def there(chapter: dict) -> bool:
        page = root / "book" / chapter["file"]
        return page.parent.name != "notebooks" or page.with_suffix(".ipynb").is_file()

    parts = []
    for part in toc["parts"]:
        if chapters := [chapter for chapter in part["chapters"] if there(chapter)]:
            parts.append(part | {"chapters": chapters})
    return toc | {"parts": parts}


def _config(root: Path, run: Path | None) -> dict:
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
    shown = [k for k in ("data", "profile", "seed", "commit", "date", "device") if about.get(k)]
    shown += ["seed"] if about.get("seed") == 0 else []
    pages["extra_footer"] = " · ".join(f"{k} {html.escape(str(about[k]))}" for k in shown)
    if repository := os.environ.get("GITHUB_REPOSITORY"):
        config["repository"]["url"] = f"https://github.com/{repository}"
        pages["use_repository_button"] = pages["use_issues_button"] = True
        config["launch_buttons"]["binderhub_url"] = "https://mybinder.org"
        config["launch_buttons"]["colab_url"] = "https://colab.research.google.com"
    return config


def _build_failure(log: str, root: Path) -> str:
    """Return one sentence that quotes the log's warnings, or its end if it has none."""
    lines = [line.replace(str(root) + "/", "") for line in log.splitlines() if line.strip()]
    faults = [line for line in lines if re.search(r"\b(WARNING|ERROR|CRITICAL)\b", line)]
    return "the book was not built: " + "; ".join((faults or lines[-8:])[:20])
