"""Tables that a reader sorts and filters in a published page, with the keyboard too: one script in the page, no kernel, no network.

``sortable_table.js`` does it; without scripts every row of every table is shown. Left out: what stands in the tables.
"""

import html
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from neurovl.figures.page_tables import Html

MORE, LESS = "more is better ↑", "less is better ↓"
_STYLE = """
#{id} {{margin: 1rem 0; font-size: .85rem; color: inherit}}
#{id} figcaption {{padding: 0 0 .4rem}}
#{id} .choices {{display: flex; flex-wrap: wrap; gap: .4rem 1rem; padding: .3rem 0}}
#{id} .choices select {{font: inherit; color: inherit; background: var(--pst-color-background, Canvas);
  border: 1px solid #7a7f8a; border-radius: 6px; padding: .15rem .4rem}}
#{id} .scrolled {{overflow: auto; max-height: 46rem}}
#{id} table {{border-collapse: separate; border-spacing: 0; margin: 0; width: auto}}
#{id} table[hidden], #{id} tr[hidden] {{display: none}}
#{id} caption {{text-align: left; font-weight: 600; padding: .3rem 0; color: inherit; caption-side: top}}
#{id} :is(td, th) {{padding: .25rem .6rem .25rem .3rem; text-align: left; vertical-align: top; white-space: nowrap;
  border: 0; border-bottom: 1px solid #7a7f8a44; color: inherit}}
#{id} thead th {{position: sticky; top: 0; z-index: 2; background: var(--pst-color-background, Canvas)}}
#{id} tbody th, #{id} tfoot th {{position: sticky; left: 0; z-index: 1; font-weight: 600;
  background: var(--pst-color-background, Canvas)}}
#{id} thead th:first-child {{left: 0; z-index: 3}}
#{id} button {{font: inherit; font-weight: 600; color: inherit; background: none; border: 0; padding: 0; text-align: left;
  cursor: pointer}}
#{id} button::after {{content: " ↕"; opacity: .6}}
#{id} [aria-sort=ascending] button::after {{content: " ▲"; opacity: 1}}
#{id} [aria-sort=descending] button::after {{content: " ▼"; opacity: 1}}
#{id} :is(button, select, .scrolled):focus-visible {{outline: 3px solid #E69F00; outline-offset: 1px}}
#{id} small {{display: block; font-size: .85em; font-weight: 400}}
#{id} .marked {{background-image: linear-gradient(#0072B226, #0072B226)}}
#{id} .marked > span {{font-weight: 700}}
#{id} ol {{margin-top: .5rem}}
"""


@dataclass(frozen=True)
class Column:
    """A column: its title, in which direction it is better (`MORE`, `LESS` or ''), and whether it is sorted as numbers."""

    title: str
    better: str = ""
    numbers: bool = True


@dataclass(frozen=True)
class Cell:
    """A cell: its text, what it is sorted by (None comes last), lines below it in smaller letters, and whether it stands out."""

    text: str
    key: float | str | None = None
    below: tuple[str, ...] = ()
    marked: bool = False


@dataclass(frozen=True)
class Line:
    """A row: its cells, what a reader filters it by, and whether it stays at the foot."""

    cells: Sequence[Cell]
    kinds: Mapping[str, str] = field(default_factory=dict)
    foot: bool = False


@dataclass(frozen=True)
class Sheet:
    """One of the tables that a figure shows."""

    columns: Sequence[Column]
    lines: Sequence[Line]


def sortable_table(
    sheets: Mapping[str, Sheet],
    caption: str,
    title: str = "table",
    start: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
) -> Html:
    """Tables of which one is shown; its heads are buttons that sort, what its rows differ in are filters.

    Parameters
    ----------
    sheets : dict of str to Sheet
        By name, between which the reader chooses.
    caption : str
    title : str
        What the names are of, such as 'task'.
    start : dict of str to str, optional
        The value of each filter at first.
    notes : sequence of str
        Stand numbered below.

    Returns
    -------
    Html

    Examples
    --------
    >>> from neurovl.figures.sortable import Cell, Column, Line, Sheet, sortable_table
    >>> lines = [Line([Cell("ours", "ours"), Cell("0.500", 0.5)])]
    >>> page = sortable_table({"words": Sheet([Column("system", numbers=False), Column("BLEU")], lines)}, "Scores.")
    >>> page.data.count("<button")
    2
    """
    tables = "".join(_table(name, sheet, len(sheets) > 1) for name, sheet in sheets.items())
    start = dict(start or {})
    name = f"nt{zlib.crc32(repr((caption, tables, start)).encode()):08x}"
    script = Path(__file__).with_name("sortable_table.js").read_text(encoding="utf-8")
    below = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    below = f'<ol aria-label="notes">{below}</ol>' if notes else ""
    return Html(
        f'<figure id="{name}" class="neurovl-own" data-start="{_attribute(json.dumps(start))}" data-tables="{_attribute(title)}">'
        f"<style>{_STYLE.format(id=name)}</style><figcaption>{html.escape(caption)}</figcaption>"
        f'<div class="choices"></div>'
        f'<div class="scrolled" tabindex="0" role="region" aria-label="{_attribute(title)}">{tables}</div>'
        f'<p role="status"></p>{below}<script>{script.rstrip()}("{name}");</script></figure>'
    )


def _table(name: str, sheet: Sheet, named: bool) -> str:
    heads = "".join(
        f'<th scope="col" data-title="{_attribute(one.title)}"'
        + (" data-numbers" if one.numbers else "")
        + (' data-first="descending"' if one.better == MORE else "")
        + f"><button type='button'>{html.escape(one.title)}</button>"
        + (f"<small>{html.escape(one.better)}</small>" if one.better else "")
        + "</th>"
        for one in sheet.columns
    )
    body = "".join(_line(line) for line in sheet.lines if not line.foot)
    foot = "".join(_line(line) for line in sheet.lines if line.foot)
    caption = f"<caption>{html.escape(name)}</caption>" if named else ""
    foot = f"<tfoot>{foot}</tfoot>" if foot else ""
    return (
        f'<table data-name="{_attribute(name)}">{caption}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody>{foot}'
        "</table>"
    )


def _line(line: Line) -> str:
    first, *others = line.cells
    cells = _cell(first, 'th scope="row"') + "".join(_cell(one, "td") for one in others)
    return f'<tr data-kinds="{_attribute(json.dumps(dict(line.kinds)))}">{cells}</tr>'


def _cell(cell: Cell, tag: str) -> str:
    key = "" if cell.key is None else f' data-key="{_attribute(str(cell.key))}"'
    mark = ' class="marked"' if cell.marked else ""
    below = "".join(f"<small>{html.escape(one)}</small>" for one in cell.below)
    return f"<{tag}{key}{mark}><span>{html.escape(cell.text)}</span>{below}</{tag.split()[0]}>"


def _attribute(text: str) -> str:
    return html.escape(text, quote=True)
