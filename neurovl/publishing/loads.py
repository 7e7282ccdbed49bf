"""What a rendered page would load from a network: scripts, styles, fonts, pictures, and what those load in turn.

Left out: what a reader follows (links), and addresses that a script puts together while it runs; the tests open a book
in a browser without a network for those.
"""

import re
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Elements with the attributes from which a browser loads by itself.
_LOADS = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "image": ("href", "xlink:href"),
    "img": ("src", "srcset"),
    "input": ("src",),
    "link": ("href",),
    "object": ("data",),
    "script": ("src", "data-jupyter-widgets-cdn"),
    "source": ("src", "srcset"),
    "track": ("src",),
    "use": ("href", "xlink:href"),
    "video": ("src", "poster"),
}
_FOLLOWED = {
    "alternate",
    "author",
    "canonical",
    "help",
    "index",
    "license",
    "next",
    "prev",
    "search",
}
_AFAR = r"(?:https?:)?//[^\s\"'`)\\<>]+"
_IN_STYLE = re.compile(rf"(?:url\(\s*|@import\s+)[\"']?({_AFAR})", re.IGNORECASE)
_CALLS = r"\bfrom|\bimport|\bimport\(|\bimportScripts\(|\bfetch\(|\brequire\(|\.src\s*=|\bTHEBE_JS_URL\s*="
# The quote may be escaped: a widget's script stands as text in the state of a page.
_IN_SCRIPT = re.compile(rf"(?:{_CALLS})\s*\\*[\"'`]((?:https?|wss?)://[^\s\"'`\\]+)")


def network_loads(page: Path) -> list[str]:
    """Addresses that a page, and the scripts and styles beside it, load from a network; each once, in order.

    Parameters
    ----------
    page
        A rendered page.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from neurovl.publishing.loads import network_loads
    >>> page = pathlib.Path(tempfile.mkdtemp()) / "page.html"
    >>> _ = page.write_text('<a href="https://example.org">x</a><img src="//example.org/x.png">')
    >>> network_loads(page)
    ['//example.org/x.png']
    """
    read = _Loads(page.read_text(encoding="utf-8"))
    found = list(read.afar)
    todo, done = [(page, address) for address in read.near], set()
    while todo:
        holder, address = todo.pop(0)
        parts = urlsplit(address)
        if parts.scheme or not parts.path.endswith((".css", ".js", ".mjs")):
            continue
        path = (holder.parent / unquote(parts.path)).resolve()
        if path in done or not path.is_file():
            continue
        done.add(path)
        afar, near = _in_file(path, path.stat().st_mtime_ns)
        found += afar
        todo += [(path, one) for one in near]
    return list(dict.fromkeys(found))


@cache
def _in_file(path: Path, changed: int) -> tuple[list[str], list[str]]:
    """What a script or style loads from afar, and which styles beside it; pages share most of them."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix == ".css":
        return _in_style(text), re.findall(r"@import\s+(?:url\()?[\"']?([^\s\"')]+)", text)
    return _in_script(text), []


def _in_style(text: str) -> list[str]:
    return _IN_STYLE.findall(text)


def _in_script(text: str) -> list[str]:
    return _IN_SCRIPT.findall(text)


class _Loads(HTMLParser):
    """Addresses that a page loads: from a network, and beside it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.afar: list[str] = []
        self.near: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = {key: value or "" for key, value in attrs}
        self._inside = tag if tag in ("script", "style") else ""
        self.afar += _in_style(values.get("style", ""))
        if tag == "link" and set(values.get("rel", "").lower().split()) <= _FOLLOWED:
            return
        for address in _addresses(tag, values):
            kept = self.afar if re.match(_AFAR, address) else self.near
            kept.append(address)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.afar += _in_style(data) if self._inside == "style" else _in_script(data)


def _addresses(tag: str, values: dict[str, str]) -> Iterator[str]:
    for key in _LOADS.get(tag, ()):
        if key == "srcset":
            yield from (part.split()[0] for part in values.get(key, "").split(",") if part.split())
        elif values.get(key):
            yield values[key].strip()
