"""The rows of trials.tsv beside each other: names that may be one, positions, volumes named twice, repeats."""

import os
import re
import unicodedata

import pandas as pd

from neurovl.errors import DataError


def refuse_alike(table: pd.DataFrame, column: str) -> None:
    """Refuse two names that differ in capitals, leading zeros or the coding of accents alone, such as '7' and '007'."""
    first: dict[str, str] = {}
    for name in table[column].unique():
        plain = unicodedata.normalize("NFKC", name).casefold()
        other = first.setdefault(re.sub(r"(?<![0-9.])0+(?=[0-9])", "", plain), name)
        if other != name:
            lines = [table.index[table[column] == one][0] for one in (other, name)]
            raise DataError(
                f"trials.tsv has the {column} {other!r} in line {lines[0]} and {name!r} in line {lines[1]}, expected names that "
                "differ in more than capitals, leading zeros and the coding of accents: give one thing one name"
            )


def count_from_0(table: pd.DataFrame, first: int | None) -> None:
    """Let the column index count from 0; which of 0 and 1 it counts from is known where a row has 0, else stated."""
    given = table.index[table["index"] != ""]
    numbers = {line: int(table["index"][line]) for line in given}
    open_ = set(
        table.volume[table["index"] == ""]
    )  # refused when they are read, if there is a choice
    lowest = min((n for line, n in numbers.items() if table.volume[line] not in open_), default=0)
    if first is None and lowest > 0:
        raise DataError(
            f"trials.tsv has no row with the index 0, the lowest is {lowest}, so it may count the volumes of a file from 0 or "
            'from 1, expected to know which: add "index_from": 0, or 1, to dataset.json'
        )
    first = first or 0
    low = next((line for line, n in numbers.items() if n < first), None)
    if low is not None:
        raise DataError(
            f"trials.tsv has the index {numbers[low]} in line {low}, expected {first} or more, as dataset.json states "
            f'"index_from": {first}: correct one of them'
        )
    table.loc[given, "index"] = [str(n - first) for n in numbers.values()]


def refuse_twice(table: pd.DataFrame) -> None:
    """Refuse a volume that two rows name."""
    keys = pd.DataFrame(
        {
            "volume": table.volume.map(os.path.normpath),
            "index": table["index"].map(lambda text: int(text or 0)),
        }
    )
    twice = keys.index[keys.duplicated()]
    if len(twice):
        line = twice[0]
        first = keys.index[(keys == keys.loc[line]).all(axis=1)][0]
        raise DataError(
            f"trials.tsv has the volume {table.volume[line]} index {table['index'][line] or 0} in "
            f"the lines {first} and {line}, expected every trial once: remove one, or correct its "
            "index"
        )


def repeats(table: pd.DataFrame) -> pd.Series:
    """How often the subject had seen the picture before, from 0; counted where the column is empty."""
    keys = [table.subject, table.image_id]
    given = table["repeat"]
    if (given == "").all():
        return table.groupby(keys).cumcount()
    bad = given.index[~given.str.fullmatch(r"[0-9]+")]
    if len(bad):
        raise DataError(
            f"trials.tsv has the repeat {given[bad[0]]!r} in line {bad[0]}, expected a whole number "
            "in every line, or an empty column, then the order of the rows "
            "counts: correct it"
        )
    twice = table.index[
        table.assign(repeat=given.astype(int)).duplicated(["subject", "image_id", "repeat"])
    ]
    if len(twice):
        row = table.loc[twice[0]]
        raise DataError(
            f"trials.tsv gives repeat {row['repeat']} of image {row.image_id!r} to {row.subject} "
            f"for the second time in line {twice[0]}, expected every repeat once: correct it, or "
            "leave the column empty, then the order of the rows counts"
        )
    return given.astype(int).groupby(keys).rank(method="first").astype(int) - 1
