"""Checks of the book that Jupyter Book does not make itself.

Misspelt configuration keys, tracebacks on a page, links and pictures that lead nowhere, figures
without a caption, pages without the banner on simulated data, pages that load something from a network,
and data whose terms forbid showing them. Left out: spelling, external links, and whether a sentence is true.
"""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import yaml

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.publishing.loads import network_loads

# What Jupyter Book 1.x reads, as far as a book like this one may use it.
_KNOWN_KEYS = """
title author copyright logo exclude_patterns only_build_toc_files bibtex_bibfiles
execute.execute_notebooks execute.cache execute.exclude_patterns execute.timeout
execute.run_in_temp execute.allow_errors execute.stderr_output
parse.myst_enable_extensions parse.myst_url_schemes parse.myst_dmath_double_inline
parse.myst_substitutions
html.favicon html.use_edit_page_button html.use_repository_button html.use_issues_button
html.use_multitoc_numbering html.extra_footer html.home_page_in_navbar html.baseurl
html.announcement html.analytics html.comments
launch_buttons.notebook_interface launch_buttons.binderhub_url launch_buttons.jupyterhub_url
launch_buttons.thebe launch_buttons.colab_url launch_buttons.deepnote_url
repository.url repository.path_to_book repository.branch
sphinx.extra_extensions sphinx.local_extensions sphinx.recursive_update
sphinx.config.bibtex_reference_style sphinx.config.language sphinx.config.nb_merge_streams
sphinx.config.html_math_renderer sphinx.config.nb_ipywidgets_js
sphinx.config.html_theme_options sphinx.config.html_static_path
sphinx.config.suppress_warnings sphinx.config.nitpick_ignore
sphinx.config.autodoc_member_order sphinx.config.autodoc_preserve_defaults
sphinx.config.autodoc_typehints sphinx.config.napoleon_custom_sections
sphinx.config.napoleon_google_docstring
sphinx.config.napoleon_use_param sphinx.config.napoleon_use_rtype
"""
_KNOWN = frozenset(_KNOWN_KEYS.split())
_BRANCHES = frozenset(key.rpartition(".")[0] for key in _KNOWN) | {"sphinx"}
_VOID_TAGS = frozenset(
    ("area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "wbr")
)  # elements of HTML that have no end


def about(run: Path) -> dict:
    """Return ``run.json`` of a run: data, simulated, publish_images, terms, profile, seed, ...

    Raises
    ------
    MissingError
        The folder has no ``run.json``.
    """
    path = Path(run) / "run.json"
    if not path.is_file():
        raise MissingError(
            f"{run} was expected to be a run folder and has no run.json; "
            f"make one with: neurovl reproduce --out {run}"
        )
    return json.loads(path.read_text())


def check_config(path: Path) -> None:
    """Refuse a key of ``_config.yml`` that Jupyter Book does not know.

    Jupyter Book passes over such a key without a word.

    Raises
    ------
    ConfigError
        Names the key and those that are known at its place.
    """

    def walk(node: dict, place: str) -> None:
        for key, value in node.items():
            name = f"{place}{key}"
            if name in _BRANCHES and isinstance(value, dict):
                walk(value, f"{name}.")
            elif name not in _KNOWN:
                siblings = sorted(
                    k for k in _KNOWN | _BRANCHES if k.rpartition(".")[0] == place[:-1]
                )
                raise ConfigError(
                    f"{Path(path).name}: unknown key {name}; known there: {', '.join(siblings)}"
                )

    walk(yaml.safe_load(Path(path).read_text()), "")


def check_terms(run: Path) -> None:
    """Refuse to publish a book that shows what a data set's terms keep from the public.

    Parameters
    ----------
    run
        The run folder, whose ``run.json`` says ``publish_images`` and ``terms``; its executed
        notebooks note the same.

    Raises
    ------
    DataError
        Names the data, the terms and what to do.
    """
    rows = [("the run", about(run))]
    for page in sorted((Path(run) / "book" / "notebooks").glob("[!.]*.ipynb")):
        stored = json.loads(page.read_text()).get("metadata", {}).get("neurovl", {})
        rows.append((page.name, stored))
    for name, row in rows:
        if not row.get("publish_images", True):
            terms = f" ({row['terms']})" if row.get("terms") else ""
            raise DataError(
                f"{name} shows pictures of {row.get('data', 'a data set')}, whose terms forbid "
                f"publishing them{terms}; keep this book to yourself, or publish one made from "
                "simulated data: neurovl reproduce"
            )


def check_book(pages: Path) -> list[str]:
    """Return the faults of a rendered book, one sentence each; empty when there is none.

    Parameters
    ----------
    pages
        The folder of the rendered pages, ``RUN/book/html``.

    Raises
    ------
    MissingError
        There is no rendered book.
    """
    pages = Path(pages).resolve()
    if not (pages / "index.html").is_file():
        raise MissingError(f"a rendered book was expected in {pages}; make it with: neurovl book")
    read = {path: _Page(path) for path in sorted(pages.rglob("*.html"))}
    read = {path: page for path, page in read.items() if "_static" not in path.parts}
    faults = []
    for path, page in read.items():
        name = path.relative_to(pages).as_posix()
        if page.traceback:
            faults.append(f"{name} shows a traceback")
        faults += [f"{name}: picture {source} has no caption" for source in page.bare_pictures]
        if path.parent.name == "notebooks" and "simulated" not in page.banner.lower():
            faults.append(f"{name} has no banner on simulated data")
        if afar := network_loads(path):
            faults.append(f"{name} loads from a network: {', '.join(afar)}")
        for link in sorted(page.links):
            if fault := _dead(link, path, read):
                faults.append(f"{name}: {fault}")
    return faults


def _dead(link: str, path: Path, read: dict) -> str | None:
    """Say what is wrong with an internal link, if anything is."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if target.is_dir():
        target = target / "index.html"
    if not target.exists():
        return f"{link} is not there"
    fragment = unquote(parts.fragment)
    if fragment and target in read and fragment not in read[target].ids:
        return f"{link} has no such place"
    return None


class _Page(HTMLParser):
    """What `check_book` needs to know of one page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids, self.links = set(), set()
        self.banner = ""
        self.bare_pictures: list[str] = []
        self._open: list[tuple[str, str]] = []  # tag and classes of the elements around
        self._output: dict | None = None  # pictures and captions of the cell's output around
        text = path.read_text(encoding="utf-8")
        self.traceback = bool(
            re.search(r"Traceback \(most recent call last\)|class=\"output traceback", text)
        )
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = {key: value or "" for key, value in attrs}
        classes = values.get("class", "")
        self.ids |= {values[key] for key in ("id", "name") if key in values}
        if tag in ("a", "link", "img", "script", "iframe", "source"):
            self.links |= {values[key] for key in ("href", "src") if values.get(key)}
        if "cell_output" in classes.split() and self._output is None:
            self._output = {"depth": len(self._open), "pictures": [], "caption": False}
        if tag == "img" and self._output is not None:
            source = values.get("src", "")
            self._output["pictures"].append(source[:60])
        if tag in ("figcaption", "caption") and self._output is not None:
            self._output["caption"] = True
        if tag not in _VOID_TAGS:
            self._open.append((tag, classes))

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID_TAGS:
            return
        while self._open:
            closed, _ = self._open.pop()
            if self._output is not None and len(self._open) <= self._output["depth"]:
                if not self._output["caption"]:
                    self.bare_pictures += self._output["pictures"]
                self._output = None
            if closed == tag:
                break

    def handle_data(self, data: str) -> None:
        if any("announcement" in classes for _, classes in self._open):
            self.banner += data
        if self._output is not None and re.match(r"\s*Fig(ure|\.)", data):
            self._output["caption"] = True
