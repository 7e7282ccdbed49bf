"""Tables for a page, and what a page says where a run lacks something."""

import html
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from neurovl.evaluation.beside_paper import Basis, other_data
from neurovl.language.dialogues import TYPES
from neurovl.results import condition, peer_results
from neurovl.run import Run, RunTables, find_run, open_run, read_record

SHOWN_ROWS = 15  # of a table, before it is scrolled
_STAYS = "position:sticky; top:0; z-index:1; background:var(--pst-color-background, Canvas)"


@dataclass(frozen=True)
class Html:
    """A piece of a page that a notebook shows as it is."""

    data: str

    def _repr_html_(self) -> str:
        return self.data

    def __repr__(self) -> str:
        return "Html(…)"


def real_brains(run: str | Path) -> Run | None:
    """A run on Haxby's recordings: this one, or `haxby` beside it, or None."""
    run = find_run(run)
    for folder in (run, run.parent / "haxby"):
        if _is_scored(folder) and read_record(folder)["data"] == "haxby":
            return open_run(folder)
    return None


def run_beside(run: str | Path, name: str) -> Run | None:
    """Another run in the same folder, where it lies there and is scored; None for the run itself."""
    run = find_run(run)
    folder = run.parent / name
    return open_run(folder) if folder.name != run.name and _is_scored(folder) else None


def _is_scored(folder: Path) -> bool:
    return (folder / "results" / "results.csv").is_file()


def retrieval_beside_peers(run: Run) -> pd.DataFrame:
    """Retrieval by all subjects' averaged brains, with what others print where recordings, split and pool are the same."""
    results = run.tables.results
    ours = results[(results.task == "retrieval") & (results.system == "neurovl")]
    ours = ours[(ours.subject == "all") & (ours.protocol == "average")]
    ours = ours[ours.metric.str.contains("_top")]
    different, rows = other_data(Basis.of(run)), []
    printed = peer_results().query("task == 'retrieval'")
    peers = list(printed.system.unique())
    for row in ours.itertuples():
        beside = dict.fromkeys(peers, (None, ""))
        for peer in printed.query("metric == @row.metric").itertuples():
            why = list(different)
            if not why and row.condition != condition(pool=peer.pool):
                why.append(f"among {row.condition.removeprefix('pool=')}, there {peer.pool}")
            if not why and row.n != peer.images:
                why.append(f"{row.n} test pictures, there {peer.images}")
            number = f"{peer.system} prints {peer.value:.3f} ({peer.source})"
            note = f"{number}; not comparable: {'; '.join(why)}" if why else number
            beside[peer.system] = (None if why else peer.value, note)
        rows.append(
            {
                "metric": row.metric,
                "pool": int(row.condition.removeprefix("pool=")),
                "neurovl": row.value,
                "ci_low": row.ci_low,
                "ci_high": row.ci_high,
                "n": row.n,
                "chance": row.chance,
                **{name: value for name, (value, _) in beside.items()},
                "note": "; ".join(filter(None, (note for _, note in beside.values()))),
            }
        )
    columns = ["metric", "pool", "neurovl", "ci_low", "ci_high", "n", "chance", *peers, "note"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(peers, float))


def example_dialogues(tables: RunTables) -> Html:
    """One question of each kind about a test picture, with the truth and what was said with a brain and without."""
    answers = tables.answers
    first = answers[answers.subject == answers.subject.iloc[0]]
    own = first[(first.protocol == "average") & (first.turn == 0) & first.type.isin(TYPES)]
    keys = ["type", "image_id", "question", "truth"]
    said = own.drop_duplicates([*keys, "system"]).set_index([*keys, "system"]).answer
    said = said.unstack("system", sort=False).reset_index()
    examples = said.groupby("type", sort=False).head(1)
    examples = examples[["type", "question", "truth", "neurovl", "no-brain"]]
    examples.columns = ["kind", "question", "truth", "from the brain", "without a brain"]
    return show_table(
        examples, f"One question of each kind about a test picture ({tables.source})."
    )


def absent(table: pd.DataFrame, expected: Iterable[str], column: str = "system") -> str:
    """A sentence that names what a table lacks."""
    lacking = [x for x in expected if x not in set(table[column])]
    return f"Not part of this run: {', '.join(lacking)}." if lacking else "Nothing is left out."


def show_table(table: pd.DataFrame, caption: str, digits: int = 3) -> Html:
    """A table for a page: rounded, missing values empty.

    One that is too wide is scrolled, and one of more than `SHOWN_ROWS` rows too, below a head that stays. Notes are
    numbered, and each stands once below the table.
    """
    notes = list(dict.fromkeys(filter(None, table["note"].fillna("")))) if "note" in table else []
    if notes:
        numbers = {note: str(k) for k, note in enumerate(notes, 1)}
        table = table.assign(note=table["note"].map(numbers))
    whole = table.select_dtypes("Int64")  # pandas prints its own missing value as <NA>
    table = table.assign(**{c: whole[c].astype(object).where(whole[c].notna(), "") for c in whole})
    body = table.rename_axis(columns=None).to_html(
        index=False,
        border=0,
        na_rep="",
        float_format=lambda x: f"{x:.{digits}f}",
        justify="left",
        classes="neurovl-table",
    )
    caption = html.escape(caption)
    if long := len(table) > SHOWN_ROWS:
        caption += f" {len(table)} rows, to be scrolled."
        body = body.replace("<th>", f'<th style="{_STAYS}">')
    longest = max((len(str(value)) for value in table.to_numpy().ravel()), default=0)
    style = "overflow:auto" + ("; max-height:28rem" if long else "")
    if longest <= 30:
        style += "; white-space:nowrap"
    below = "".join(f"<li>{html.escape(note)}</li>" for note in notes)
    below = f'<ol style="margin-top:.5rem" aria-label="notes">{below}</ol>' if notes else ""
    return Html(
        f'<figure style="margin:1rem 0; font-size:.85rem"><figcaption>{caption}</figcaption>'
        f'<div style="{style}" tabindex="0" role="region" aria-label="table">{body}</div>{below}</figure>'
    )
