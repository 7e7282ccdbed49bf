"""Notebooks through papermill and the book: a small one is made, and faults are found."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from neurovl.errors import ConfigError, DataError, MissingError, NeurovlError
from neurovl.figures import page_tables
from neurovl.publishing import book, book_checks, notebooks
from neurovl.run import write_record
from neurovl.settings.sections import Profile

ROOT = Path(__file__).parents[1]
GIF = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


FIGURE = f"""import base64
from IPython.display import Image
Image(base64.b64decode({GIF!r}), format="gif")"""


def write_notebook(path: Path, *sources: str) -> None:
    """Write a notebook with a parameters cell and a cell for each source; a figure is captioned."""
    v4 = nbformat.v4
    parameters = v4.new_code_cell("n: int = 2  # how many\nrun: str = ''  # the run folder")
    parameters.metadata["tags"] = ["parameters"]
    notebook = v4.new_notebook(cells=[v4.new_markdown_cell("# A page"), parameters])
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    notebook.cells += [v4.new_code_cell(source) for source in sources]
    for cell in notebook.cells:
        if cell.source == FIGURE:
            cell.metadata["mystnb"] = {"figure": {"caption": "A dot.", "name": "fig-dot"}}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)


def write_run(run: Path, seed: int = 0) -> Path:
    facts = {"data": "simulated-nsd", "simulated": True, "folds": 1}
    write_record(run, Profile("smoke", seed=seed), "../data", facts)
    return run


def state(folder: Path) -> dict[str, int]:
    """Every file below a folder with the time that it was written."""
    return {str(p): p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the project's configuration, a page and three notebooks."""
    root = tmp_path_factory.mktemp("site")
    (root / "book").mkdir()
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copy(ROOT / "book" / "references.bib", root / "book")
    (root / "book" / "index.md").write_text(
        "# Book\n\n```{include} gallery.md\n```\n\nAfter {cite:t}`allen2022nsd`.\n"
    )
    (root / "book" / "references.md").write_text("# References\n\n```{bibliography}\n```\n")
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- caption: All\n  chapters:\n"
        "  - file: notebooks/00_data\n  - file: notebooks/07_comparison\n  - file: references\n"
    )
    here = "import os, sys\nprint(n * 21, os.getcwd(), sys.executable, 'hf_' + 'a' * 30)"
    write_notebook(root / "notebooks" / "00_data.ipynb", here, FIGURE)
    write_notebook(root / "notebooks" / "01_preprocessing.ipynb", "1 + 1", "raise ValueError('no')")
    write_notebook(root / "notebooks" / "02_training.ipynb", "print(run)")
    write_run(root / "runs" / "tiny")
    return root


@pytest.fixture(scope="module")
def executed(site) -> Path:
    return book.execute("00_data", site / "runs" / "tiny", {"n": 2}, root=site)


@pytest.fixture(scope="module")
def built(site, executed) -> Path:
    return book.build(site / "runs" / "tiny", root=site)


def outputs(path: Path) -> str:
    cells = nbformat.read(path, as_version=4).cells
    return "".join(o.get("text", "") for c in cells for o in c.get("outputs", []))


def test_executed_copy_has_the_results_and_no_machine_path(executed, site):
    printed = outputs(executed)
    assert printed.startswith("42 . PYTHON/bin/python")
    text = executed.read_text()
    assert "hf_aaa" not in text and "TOKEN" in text
    assert str(site) not in text and str(Path(sys.prefix)) not in text
    assert json.loads(text)["metadata"]["neurovl"]["data"] == "simulated-nsd"
    assert "runs/tiny" in text


def test_the_parameters_that_were_given_are_folded(executed):
    cells = nbformat.read(executed, as_version=4).cells
    given = [cell for cell in cells if "injected-parameters" in cell.metadata.get("tags", [])]
    assert ["hide-input" in cell.metadata["tags"] for cell in given] == [True]


def test_a_run_elsewhere_is_named_without_the_machine_s_folders(site):
    run = write_run(site.parent / "far" / "elsewhere" / "deep")
    path = book.execute("02_training", run, {"n": 1}, root=site)
    assert path == run / "book" / "notebooks" / "02_training.ipynb"
    assert str(run) not in path.read_text() and outputs(path) == "elsewhere/deep\n"


def test_absolute_paths_given_as_parameters_are_shortened(site, tmp_path):
    run = site / "runs" / "tiny"
    models = tmp_path / "elsewhere" / "models"
    write_notebook(site / "notebooks" / "03_language.ipynb", "print(n)")
    path = book.execute("03_language", run, {"n": str(models)}, root=site)
    assert str(models) not in path.read_text() and outputs(path) == "models\n"
    path.unlink()


def test_second_time_is_skipped_until_something_changes(executed, site):
    run, before = site / "runs" / "tiny", executed.stat().st_mtime_ns
    assert book.execute("00_data", run, {"n": 2}, root=site) == executed
    assert executed.stat().st_mtime_ns == before
    other = write_run(site / "other" / "tiny", seed=1)
    keys = {
        notebooks._key(site / "notebooks" / "00_data.ipynb", {"n": n}, folder)
        for n in (2, 3)
        for folder in (run, other)
    }
    assert len(keys) == 4


def test_unknown_parameter_is_refused_with_the_known_ones(site):
    with pytest.raises(ConfigError, match=r"no parameter m; known: n, run"):
        book.execute("00_data", site / "runs" / "tiny", {"m": 1}, root=site)


def test_parameters_that_may_be_none_are_known(site):
    source, run = ROOT / "notebooks" / "07_comparison.ipynb", site / "runs" / "tiny"
    given = {"data": "nsd", "seed": 3, "protocol": "single"}
    assert notebooks._check_parameters(source, dict(given), run) == given | {"run": "runs/tiny"}


def test_unknown_notebook_is_refused(site):
    with pytest.raises(MissingError, match="notebooks/99_none.ipynb"):
        book.execute("99_none", site / "runs" / "tiny", root=site)


def test_failing_notebook_leaves_no_final_file(site):
    with pytest.raises(NeurovlError, match=r"01_preprocessing failed in cell 4: ValueError: no"):
        book.execute("01_preprocessing", site / "runs" / "tiny", root=site)
    executed = site / "runs" / "tiny" / "book" / "notebooks"
    assert not (executed / "01_preprocessing.ipynb").exists()


def test_small_book_is_built_without_the_notebooks_that_are_absent(built):
    pages = {path.name for path in built.parent.rglob("*.html")}
    assert "00_data.html" in pages and "07_comparison.html" not in pages
    page = (built.parent / "notebooks" / "00_data.html").read_text()
    assert "Simulated brains." in page and "seed 0" in page
    assert "A dot." in page and "<figcaption" in page
    assert book_checks.check_book(built.parent) == []


def test_broken_citation_stops_the_build_and_keeps_the_last_book(built, site):
    page = site / "book" / "index.md"
    whole = page.read_text()
    page.write_text(whole + "\n{cite:t}`nobody1900`\n")
    try:
        with pytest.raises(NeurovlError, match="nobody1900"):
            book.build(site / "runs" / "tiny", root=site)
    finally:
        page.write_text(whole)
    assert built.is_file()
    assert {p.name for p in (site / "runs" / "tiny" / "book").iterdir()} == {"html", "notebooks"}


def test_pages_with_faults_do_not_replace_the_last_book(built, site):
    page = site / "book" / "index.md"
    whole, before = page.read_text(), state(built.parent)
    page.write_text(whole + '\n<a href="none.html">x</a>\n')
    try:
        with pytest.raises(NeurovlError, match="none.html is not there"):
            book.build(site / "runs" / "tiny", root=site)
    finally:
        page.write_text(whole)
    assert state(built.parent) == before


def test_an_up_to_date_book_is_left_alone_until_something_changes(built, site, monkeypatch):
    run, before = site / "runs" / "tiny", state(built.parent)
    assert book.build(run, root=site) == built and state(built.parent) == before
    page = built.parent / "notebooks" / "00_data.html"
    assert "mybinder" not in page.read_text()
    monkeypatch.setenv("GITHUB_REPOSITORY", "lab/neurovl")
    assert book.build(run, root=site) == built
    text = page.read_text()
    assert (
        "https://mybinder.org/v2/gh/lab/neurovl/main?urlpath=lab/tree/notebooks/00_data.ipynb"
        in text
    )
    assert "colab.research.google.com/github/lab/neurovl/blob/main/notebooks/00_data.ipynb" in text
    assert 'href="../_sources/notebooks/00_data.ipynb"' in text
    assert (built.parent / "_sources" / "notebooks" / "00_data.ipynb").is_file()


def test_runs_have_books_of_their_own_and_the_sources_stay(built, site):
    sources = {**state(site / "book"), **state(site / "notebooks")}
    before = state(site / "runs" / "tiny")
    run = write_run(site / "runs" / "second", seed=7)
    index = book.render(run, {"00_data": {"n": 3}}, ["00_data"], root=site)
    assert index == run / "book" / "html" / "index.html"
    assert "seed 7" in (index.parent / "notebooks" / "00_data.html").read_text()
    assert outputs(run / "book" / "notebooks" / "00_data.ipynb").startswith("63 ")
    assert state(site / "runs" / "tiny") == before
    assert {**state(site / "book"), **state(site / "notebooks")} == sources
    assert not list(site.glob("*build*"))


RENDER = """
import logging, sys
from pathlib import Path
from neurovl.publishing.book import render
logging.basicConfig(level=logging.INFO, format="%(message)s")
logging.getLogger("papermill").setLevel(logging.WARNING)
render(Path(sys.argv[1]), {}, ["07_comparison"], Path(sys.argv[2]))
"""


def test_two_processes_that_publish_one_run_do_the_work_once(site, tmp_path):
    root = tmp_path / "site"
    shutil.copytree(site / "book", root / "book")
    shutil.copy(site / "_config.yml", root)
    slow = "import time\ntime.sleep(3)\nprint('done', file=open('executions', 'a'))"
    write_notebook(root / "notebooks" / "07_comparison.ipynb", slow)
    run = write_run(root / "runs" / "tiny")
    command = [sys.executable, "-c", RENDER, run, root]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [one.communicate(timeout=120)[1] for one in both]
    assert [one.returncode for one in both] == [0, 0], said
    assert (root / "executions").read_text() == "done\n"
    lines = "".join(said).splitlines()
    waited = "waiting for another process that writes notebook 07_comparison of run tiny"
    assert lines.count(waited) == 1 and lines.count("07_comparison is up to date") == 1
    assert lines.count("the book of run tiny is up to date") == 1
    assert (run / "book" / "html" / "notebooks" / "07_comparison.html").is_file()
    assert {p.name for p in (run / "book").iterdir()} == {"html", "notebooks"}
    assert [p.name for p in (run / "book" / "notebooks").iterdir()] == ["07_comparison.ipynb"]


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ("Traceback (most recent call last)", "traceback"),
        ('<a href="none.html">x</a>', "none.html is not there"),
        ('<a href="index.html#none">x</a>', "no such place"),
        ('<img src="none.png">', "none.png is not there"),
        (f'<div class="cell_output"><img src="data:image/gif;base64,{GIF}"></div>', "no caption"),
    ],
)
def test_faults_of_pages_are_found(tmp_path, body, fault):
    banner = '<div class="bd-header-announcement">Simulated brains.</div>'
    (tmp_path / "index.html").write_text("<p id='top'>.</p>")
    (tmp_path / "page.html").write_text(f"<body>{banner}{body}</body>")
    (found,) = book_checks.check_book(tmp_path)
    assert fault in found and found.startswith("page.html")


def test_captioned_figures_and_good_links_are_no_faults(tmp_path):
    figure = f'<figure><img src="data:image/gif;base64,{GIF}"><figcaption>A</figcaption></figure>'
    output = f'<div class="cell_output docutils">{figure}</div>'
    links = '<a href="#top">x</a><a href="https://example.org">y</a><a href="index.html#top">z</a>'
    (tmp_path / "index.html").write_text(f"<p id='top'>.</p>{output}{links}")
    assert book_checks.check_book(tmp_path) == []


def test_notebook_page_without_banner_is_a_fault(tmp_path):
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "index.html").write_text("")
    (tmp_path / "notebooks" / "00_data.html").write_text("<p>Simulated, but in no banner.</p>")
    assert book_checks.check_book(tmp_path) == [
        "notebooks/00_data.html has no banner on simulated data"
    ]


def test_terms_that_forbid_publishing_are_kept(tmp_path):
    about = {"data": "nsd", "publish_images": False, "terms": "not to be shown"}
    (tmp_path / "run.json").write_text(json.dumps(about))
    with pytest.raises(DataError, match="nsd, whose terms forbid.*not to be shown"):
        book_checks.check_terms(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps(about | {"publish_images": True}))
    book_checks.check_terms(tmp_path)
    write_notebook(tmp_path / "book" / "notebooks" / "00_data.ipynb")
    book_checks.check_terms(tmp_path)
    page = tmp_path / "book" / "notebooks" / "00_data.ipynb"
    notebook = json.loads(page.read_text())
    notebook["metadata"]["neurovl"] = {"data": "nsd", "publish_images": False}
    page.write_text(json.dumps(notebook))
    with pytest.raises(DataError, match="00_data.ipynb shows pictures of nsd"):
        book_checks.check_terms(tmp_path)


def test_a_run_on_real_brains_shows_their_page_alone(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"data": "haxby", "profile": "haxby"}))
    assert notebooks.notebooks_of(tmp_path) == ("09_real_brains",)
    (tmp_path / "run.json").write_text(json.dumps({"data": "nsd", "profile": "paper"}))
    assert notebooks.notebooks_of(tmp_path) == notebooks.NOTEBOOKS


def test_parameters_for_a_notebook_that_is_none_are_refused(site):
    with pytest.raises(ConfigError, match="unknown notebooks 0_data; known: 00_data, "):
        book.render(site / "runs" / "tiny", {"0_data": {}}, root=site)


def test_book_checks_need_a_book_and_a_run(tmp_path):
    with pytest.raises(MissingError, match="neurovl book"):
        book_checks.check_book(tmp_path)
    with pytest.raises(MissingError, match="run.json"):
        book_checks.about(tmp_path)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_every_page_says_where_adapters_were_trained(tmp_path, method):
    about = {"data": "simulated-nsd", "settings": {"language": {"method": method}}}
    (tmp_path / "run.json").write_text(json.dumps(about))
    banner = book._config(ROOT, tmp_path)["html"]["announcement"]
    assert ("LoRA" in banner) == (method == "lora")


@pytest.mark.parametrize("random", [[], ["llm"]])
def test_every_page_says_where_models_have_random_weights(tmp_path, random):
    about = {"data": "simulated-nsd", "random_weights": random}
    (tmp_path / "run.json").write_text(json.dumps(about))
    banner = book._config(ROOT, tmp_path)["html"]["announcement"]
    assert ("A rehearsal" in banner) == bool(random)


def test_another_run_is_shown_where_it_lies_beside_and_is_scored(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr(page_tables, "open_run", lambda folder: opened.append(folder) or "it")
    mine, words = tmp_path / "mine", tmp_path / "words"
    for folder in (mine, words):
        folder.mkdir()
    assert page_tables.run_beside(mine, "words") is None  # not scored yet
    (words / "results").mkdir()
    (words / "results" / "results.csv").touch()
    assert page_tables.run_beside(mine, "words") == "it" and opened == [words]
    assert page_tables.run_beside(words, "words") is None
