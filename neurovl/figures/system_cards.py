"""Cards of the compared systems: who published them, what is done here as published and what otherwise, and what is missing.

A card comes from the system's own file (``neurovl.baselines.registry``), ours from ``neurovl.leaderboard.ours``; that of a system whose
package is not here, from systems.csv.
"""

import html
from collections.abc import Iterable

import pandas as pd

from neurovl.baselines.decoder import Card
from neurovl.baselines.registry import find, names
from neurovl.figures.page_tables import Html
from neurovl.figures.rank_plots import ours_first
from neurovl.figures.search_plots import in_words
from neurovl.figures.theme import name
from neurovl.leaderboard.ours import CARDS

_STYLE = """
.neurovl-cards {margin: 1rem 0; font-size: .9rem}
.neurovl-cards details {border: 1px solid #7a7f8a55; border-radius: 8px; padding: .4rem .8rem; margin: 0 0 .5rem}
.neurovl-cards summary {cursor: pointer; font-weight: 600}
.neurovl-cards summary:focus-visible {outline: 3px solid #E69F00; outline-offset: 1px}
.neurovl-cards p {margin: .4rem 0}
.neurovl-cards .scrolled {overflow-x: auto}
.neurovl-cards table {border-collapse: collapse; margin: .4rem 0; width: 100%}
.neurovl-cards :is(td, th) {text-align: left; vertical-align: top; padding: .2rem .6rem .2rem 0; min-width: 5rem;
  border-bottom: 1px solid #7a7f8a44; color: inherit}
"""


def cards(systems: pd.DataFrame, which: Iterable[str] | None = None) -> Html:
    """The cards of the systems, each folded under its name; the first is open.

    Parameters
    ----------
    systems : DataFrame
        systems.csv.
    which : iterable of str, optional
        Names; by default all of the table, or where it is empty those of the registry.

    Returns
    -------
    Html
    """
    which = ours_first(which or systems.system) or names()
    rows = {one["system"]: one for one in systems.to_dict("records")}
    pieces = []
    for number, system in enumerate(which):
        row = rows.get(system)
        card = CARDS.get(system) or (find(system).card if system in names() else _of(row))
        opened = " open" if number == 0 else ""
        title = f"{name(system)}: {card.title}" if card.title else name(system)
        pieces.append(
            f"<details{opened}><summary>{html.escape(title)}</summary>{card_page(card, row)}</details>"
        )
    return Html(
        f'<div class="neurovl-cards neurovl-own"><style>{_STYLE}</style>{"".join(pieces)}</div>'
    )


def _of(row: dict | None) -> Card:
    if row is None:
        return Card("", "", "", ())
    lacking = tuple(filter(None, row["lacking"].split("; ")))
    return Card(row["title"], row["reference"], "", (), row["as_published"], lacking)


def card_page(card: Card, row: dict | None = None) -> str:
    """A card as a piece of HTML.

    Parameters
    ----------
    card : Card
    row : dict, optional
        The system's main row of systems.csv, whose settings are shown.

    Examples
    --------
    >>> from neurovl.baselines.decoder import Card, Choice
    >>> from neurovl.figures.system_cards import card_page
    >>> card = Card("A ridge", "Someone 2020", "", (Choice("map", "ridge", source="paper"),))
    >>> "<td>the same</td><td>paper</td>" in card_page(card)
    True
    """
    parts = [_paragraph("Published", card.reference), _linked("Code", card.code)]
    if card.choices:
        lines = "".join(
            f'<tr><th scope="row">{html.escape(one.what)}</th><td>{html.escape(one.published or "not said")}</td>'
            f"<td>{html.escape(one.here or 'the same')}</td><td>{html.escape(one.source)}</td></tr>"
            for one in card.choices
        )
        heads = "".join(
            f'<th scope="col">{one}</th>' for one in ("choice", "published", "here", "source")
        )
        parts.append(
            '<div class="scrolled" tabindex="0" role="region" aria-label="choices"><table>'
            f"<thead><tr>{heads}</tr></thead><tbody>{lines}</tbody></table></div>"
        )
    parts.append(_paragraph("The row as published", card.as_published))
    parts.append(_paragraph("Not here", "; ".join(card.lacking)))
    if row is not None and row["settings"]:
        parts.append(_paragraph("Settings in this run", in_words(row["settings"])))
    return "".join(parts)


def _linked(title: str, address: str) -> str:
    if not address.startswith("https://"):
        return _paragraph(title, address)
    said = html.escape(address, quote=True)
    return f'<p><strong>{title}:</strong> <a href="{said}">{said}</a></p>'


def _paragraph(title: str, text: str) -> str:
    return f"<p><strong>{title}:</strong> {html.escape(text)}</p>" if text else ""
