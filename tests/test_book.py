"""Notebooks through papermill and the book: a small one is made, and faults are found."""

import json
import shutil
import sys
from pathlib import Path

import nbformat
import pytest

from neurovl.errors import ConfigError, DataError, MissingError, NeurovlError
from neurovl.publishing import book, notebooks
from neurovl.publishing import checks as book_checks

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


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A folder with the project's configuration, a page and three notebooks."""
    root = tmp_path_factory.mktemp("site")
    (root / "book").mkdir()
    shutil.copy(ROOT / "_config.yml", root)
    shutil.copy(ROOT / "book" / "references.bib", root / "book")
    (root / "book" / "index.md").write_text("# Book\n\nAfter {cite:t}`allen2022nsd`.\n")
    (root / "book" / "references.md").write_text("# References\n\n```{bibliography}\n```\n")
    (root / "book" / "_toc.yml").write_text(
        "format: jb-book\nroot: index\nparts:\n- caption: All\n  chapters:\n"
        "  - file: notebooks/00_data\n  - file: notebooks/07_comparison\n  - file: references\n"
    )
    here = "import os, sys\nprint(n * 21, os.getcwd(), sys.executable, 'hf_' + 'a' * 30)"
    write_notebook(root / "notebooks" / "00_data.ipynb", here, FIGURE)
    write_notebook(root / "notebooks" / "01_preprocessing.ipynb", "1 + 1", "raise ValueError('no')")
    write_notebook(root / "notebooks" / "02_training.ipynb", "print(run)")
    run = root / "runs" / "tiny"
    run.mkdir(parents=True)
    (run / "run.json").write_text(
        json.dumps({"data": "simulated-nsd", "simulated": True, "seed": 0, "profile": "smoke"})
    )
    return root


@pytest.fixture(scope="module")
def executed(site) -> Path:
    return book.execute("00_data", {"n": 2}, run=site / "runs" / "tiny", root=site)


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


def test_absolute_paths_given_as_parameters_are_shortened(site):
    run = site.parent / "elsewhere" / "deep"
    run.mkdir(parents=True)
    shutil.copy(site / "runs" / "tiny" / "run.json", run)
    path = book.execute("02_training", {"n": 1}, run=run, root=site)
    assert str(run) not in path.read_text() and "deep\n" in outputs(path)


def test_second_time_is_skipped_until_something_changes(executed, site):
    run, before = site / "runs" / "tiny", executed.stat().st_mtime_ns
    assert book.execute("00_data", {"n": 2}, run=run, root=site) == executed
    assert executed.stat().st_mtime_ns == before
    keys = {
        notebooks._key(site / "notebooks" / "00_data.ipynb", {"n": n}, folder)
        for n in (2, 3)
        for folder in (run, None)
    }
    assert len(keys) == 4


def test_unknown_parameter_is_refused_with_the_known_ones(site):
    with pytest.raises(ConfigError, match=r"no parameter m; known: n, run"):
        book.execute("00_data", {"m": 1}, root=site)


def test_unknown_notebook_is_refused(site):
    with pytest.raises(MissingError, match="notebooks/99_none.ipynb"):
        book.execute("99_none", root=site)


def test_failing_notebook_leaves_no_final_file(site):
    with pytest.raises(NeurovlError, match=r"01_preprocessing failed in cell 3: ValueError: no"):
        book.execute("01_preprocessing", root=site)
    assert not (site / "book" / "notebooks" / "01_preprocessing.ipynb").exists()


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
            book.build(root=site)
    finally:
        page.write_text(whole)
    assert built.is_file()
    assert not list(site.glob(".book-*"))


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
        book_checks.check_terms(tmp_path, tmp_path / "book")
    (tmp_path / "run.json").write_text(json.dumps(about | {"publish_images": True}))
    book_checks.check_terms(tmp_path, tmp_path / "book")


def test_parameters_for_a_notebook_that_is_none_are_refused(site):
    with pytest.raises(ConfigError, match="unknown notebooks 0_data; known: 00_data, "):
        book.render(site / "runs" / "tiny", {"0_data": {}}, root=site)


def test_book_checks_need_a_book_and_a_run(tmp_path):
    with pytest.raises(MissingError, match="neurovl book"):
        book_checks.check_book(tmp_path)
    with pytest.raises(MissingError, match="run.json"):
        book_checks.about(tmp_path)
