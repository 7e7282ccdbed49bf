"""A Sphinx extension that makes the book complete without a network: formulas as MathML, the scripts of widgets beside the pages.

Scripts are copied from the packages that are installed here when a book is made. Left out: fonts for formulas (the
browser has them), and links that a reader follows, which may lead anywhere.
"""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from neurovl.errors import ConfigError, MissingError

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx

_WIDGETS_JS = "neurovl-widgets.js"  # our own; the other two are copied from the packages that made the widgets
_PARTS = {
    "mfrac": 2,
    "mroot": 2,
    "msub": 2,
    "msup": 2,
    "munder": 2,
    "mover": 2,
    "msubsup": 3,
    "munderover": 3,
}


def mathml(tex: str, display: bool = False) -> str:
    """A formula in TeX as a MathML element, which browsers draw by themselves.

    Parameters
    ----------
    tex : str
        The formula without its dollar signs.
    display : bool
        On a line of its own.

    Raises
    ------
    ConfigError
        The formula holds what would be shown wrong: a command that is not known or lacks a part, an alignment, a style
        of letters that browsers pass over.

    Examples
    --------
    >>> from neurovl.publishing.offline import mathml
    >>> "<mi>&#x003B2;</mi>" in mathml(r"\\beta = 0.93")
    True
    """
    from latex2mathml.converter import convert

    tex = tex.strip()

    def refuse(why: object) -> ConfigError:
        return ConfigError(
            f"the formula {tex!r} was expected to be TeX that MathML can show and is not: {why}; "
            "write it in simpler commands, with braces around what a command takes"
        )

    try:
        made = convert(tex, display="block" if display else "inline")
    except Exception as error:  # of many kinds, most without words
        raise refuse(f"{type(error).__name__} {error}".strip()) from error
    if fault := _fault(made):
        raise refuse(fault)
    return made


def _fault(made: str) -> str:
    """What a browser would show otherwise than the formula means; empty where nothing is known."""
    try:
        root = ElementTree.fromstring(made)
    except ElementTree.ParseError:
        return "it holds & outside an array"
    for node in root.iter():
        name, style = node.tag.rpartition("}")[2], node.get("mathvariant", "normal")
        if "\\" in (node.text or ""):
            return f"{node.text} is not known"
        if style != "normal":
            return f"browsers do not draw letters in {style}"
        if len(node) != _PARTS.get(name, len(node)):
            return f"{name} holds {len(node)} parts, expected {_PARTS[name]}"
    return ""


def _visit_math(self: Any, node: "Element") -> None:
    from docutils.nodes import SkipNode

    self.body.append(f'<span class="math notranslate">{_drawn(node)}</span>')
    raise SkipNode


def _visit_display(self: Any, node: "Element") -> None:
    from docutils.nodes import SkipNode

    self.body.append(self.starttag(node, "div", CLASS="math notranslate"))
    self.body.append(f"{_drawn(node, display=True)}</div>\n")
    raise SkipNode


def _drawn(node: "Element", display: bool = False) -> str:
    """The formula of a node; one that cannot be drawn is a warning, which ends the build, and shown as TeX."""
    from html import escape

    from sphinx.util import logging

    try:
        return mathml(node.astext(), display)
    except ConfigError as error:
        logging.getLogger(__name__).warning(str(error), location=node)
        return escape(node.astext())


def _plain_titles(app: "Sphinx", env: Any) -> None:
    """Turn formulas in titles of pages into letters: links to a page and the list of pages show titles as text."""
    from docutils import nodes

    for title in env.titles.values():
        for node in list(title.findall(nodes.math)):
            letters = "".join(ElementTree.fromstring(mathml(node.astext())).itertext())
            node.replace_self(nodes.Text(letters))


def _copy_scripts(app: "Sphinx", error: Exception | None) -> None:
    """Put the scripts of widgets beside the pages: ours, and those of the installed packages that made the widgets."""
    import anywidget
    import widgetsnbextension

    if error or app.builder.format != "html":
        return
    installed = {
        _WIDGETS_JS: Path(__file__).with_name(_WIDGETS_JS),
        "jupyter-widgets.js": Path(widgetsnbextension.__file__).parent / "static" / "extension.js",
        "anywidget.js": Path(anywidget.__file__).parent / "nbextension" / "index.js",
    }
    for name, source in installed.items():
        if not source.is_file():
            raise MissingError(
                f"{source.name} was expected at {source}, for the widgets of the book, and is not there; "
                "install again: pip install --force-reinstall widgetsnbextension anywidget"
            )
        shutil.copyfile(source, Path(app.outdir) / "_static" / name)


def _drop_thebe(app: "Sphinx", page: str, template: str, context: dict, tree: Any) -> None:
    """Leave out the scripts of Thebe, which runs cells elsewhere and comes from the network; no page has its button."""
    for kind in ("script_files", "css_files"):
        context[kind] = [one for one in context.get(kind, []) if not _is_of_thebe(one)]


def _is_of_thebe(file: Any) -> bool:
    body = (getattr(file, "attributes", None) or {}).get("body") or ""
    return "thebe" in str(getattr(file, "filename", "") or file) or "THEBE_JS_URL" in body


def setup(app: "Sphinx") -> dict:
    """Register with Sphinx; `_config.yml` names the rest."""
    app.add_html_math_renderer("mathml", (_visit_math, None), (_visit_display, None))
    app.connect("env-updated", _plain_titles)
    app.connect("html-page-context", _drop_thebe, priority=900)
    app.connect("build-finished", _copy_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
