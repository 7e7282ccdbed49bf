"""Tidy results, executable claims and the paper's own numbers.

Leaves out computing any score (metrics) and choosing what to compare (pipeline).
"""

import csv
import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING

from neurovl.errors import DataError, MissingError
from neurovl.files import replacing

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "PAPER_FILE",
    "ADAPTED",
    "Claim",
    "Row",
    "condition",
    "condition_value",
    "paper_results",
    "paper_value",
    "peer_results",
    "read_claims",
    "read_results",
    "read_texts",
    "unadapted",
    "unvaried",
    "verdict",
    "write_claims",
    "write_results",
    "write_texts",
]

PAPER_FILE = Path(__file__).parent / "paper_results.csv"
PEER_FILE = Path(__file__).parent / "peer_results.csv"
TASKS = (
    "alignment",
    "retrieval",
    "caption",
    "caption-blip2",
    "description",
    "dialogue",
    "checks",
    "confidence",
    "reasoning",
    "reconstruction",
    "localization",
    "classification",
    "importance",
    "adaptation",
    "imagery",
    "synthetic",
)
PROTOCOLS = ("average", "single")
ADAPTED = "method=lora"  # condition of what a language model says that was trained with adapters
# Columns that say which number a row is.
NUMBER = ["data", "system", "condition", "task", "protocol", "subject", "metric"]
VERDICTS = ("holds", "fails", "undecided")
_AT_MOST_ONE = (
    "two_way",
    "image_top",
    "brain_top",
    "accuracy",
    "pixcorr",
    "ssim",
    "bleu",
    "meteor",
    "rouge",
    "spice",
    "objects",
    "hallucinated",
    "details",
)


@dataclass(frozen=True)
class Row:
    """One number of ``results.csv``; percentages are fractions, what is missing is None.

    Attributes
    ----------
    data, system, condition, task, protocol, subject, metric : str
        Which number. `system` is a name and nothing else; what is varied within it is in `condition`, as `condition`
        writes it, empty where nothing is. `subject` is ``subj01`` or ``all``.
    value, ci_low, ci_high : float or None
        Score and 95 % bootstrap interval over images; an empty value has its reason in `note`.
    n : int or None
        Images (or trials) behind the value.
    chance, ceiling, paper : float or None
        The same metric without the brain, with the true embedding or latent, and as printed.
    note : str
    """

    data: str
    system: str
    condition: str = field(default="", kw_only=True)
    task: str
    protocol: str
    subject: str
    metric: str
    value: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n: int | None = None
    chance: float | None = None
    ceiling: float | None = None
    paper: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        name = f"result {self.system}/{self.task}/{self.metric}"
        if "=" in self.system:
            raise DataError(
                f"{name} has system {self.system!r}, expected a name: put what is varied into condition"
            )
        _expect(name, "task", self.task, TASKS)
        _expect(name, "protocol", self.protocol, PROTOCOLS)
        if _missing(self.value):
            if not self.note:
                raise DataError(f"{name} has no value and no note, expected the reason: set note")
            return
        if self.metric.startswith(_AT_MOST_ONE) and abs(self.value) > 1 + 1e-6:
            raise DataError(
                f"{name} is {self.value:g}, expected a fraction between -1 and 1: "
                "divide percentages by 100"
            )
        _check_interval(name, self.value, self.ci_low, self.ci_high)


@dataclass(frozen=True)
class Claim:
    """One claim of the paper as a check: a statistic, its interval and the verdict that follows."""

    claim: str
    data: str
    statistic: str
    value: float | None
    ci_low: float | None
    ci_high: float | None
    n: int | None
    seed: int
    verdict: str

    def __post_init__(self) -> None:
        _expect(f"claim {self.claim!r}", "verdict", self.verdict, VERDICTS)
        if not _missing(self.value):
            _check_interval(f"claim {self.claim!r}", self.value, self.ci_low, self.ci_high)


def condition(**varied: float | str) -> str:
    """What is varied within a system, for the column of that name: ``condition(beta=0.9)`` is ``beta=0.9``."""
    said = {k: v if isinstance(v, str) else f"{v:g}" for k, v in varied.items()}
    return " ".join(f"{name}={value}" for name, value in said.items())


def condition_value(condition: str, name: str) -> float | None:
    """The number that a condition gives to `name`; None where that is not varied."""
    given = dict(part.split("=") for part in condition.split())
    return float(given[name]) if name in given else None


def unadapted(condition: str) -> str:
    """A condition without how the language model was trained."""
    return " ".join(part for part in condition.split() if part != ADAPTED)


def read_named(path: Path, names: Sequence[str] = ("image_id", "subject")) -> "pd.DataFrame":
    """Read a table in which some columns are names, as text: a picture or a subject may be named NA or 007."""
    import pandas as pd

    columns = pd.read_csv(path, nrows=0).columns
    missing = {column: [""] for column in columns if column not in names}
    kinds = {column: str for column in columns if column in names}
    return pd.read_csv(path, dtype=kinds, keep_default_na=False, na_values=missing)


def write_texts(table: "pd.DataFrame", path: Path) -> None:
    """Write a table of free text. All text is quoted: an answer may hold anything, such as a carriage return alone."""
    table.to_csv(path, index=False, quoting=csv.QUOTE_NONNUMERIC)


def read_texts(path: Path) -> "pd.DataFrame":
    """Read a table of free text; nothing in it stands for a missing value."""
    import pandas as pd

    return pd.read_csv(path, dtype={"image_id": str}, keep_default_na=False)


def unvaried(results: "pd.DataFrame") -> "pd.DataFrame":
    """The rows of results.csv in which nothing is varied within a system."""
    return results[results.condition.map(unadapted) == ""]


def _missing(value: float | None) -> bool:
    return value is None or math.isnan(value)


def _expect(name: str, field: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise DataError(f"{name} has {field} {value!r}, expected one of {', '.join(allowed)}")


def _check_interval(name: str, value: float, low: float | None, high: float | None) -> None:
    """A percentile interval may miss its estimate by a little, but never be upside down."""
    if not math.isfinite(value):
        raise DataError(f"{name} is {value}, expected a finite number or None with a note")
    if _missing(low) != _missing(high):
        raise DataError(f"{name} has half an interval ({low}, {high}), expected both ends or none")
    if not _missing(low) and low > high:
        raise DataError(f"{name} has interval {low:g} to {high:g}, expected the lower end first")


def verdict(ci_low: float | None, ci_high: float | None, above: float = 0.0) -> str:
    """Judge "the statistic is above `above`" by its interval alone.

    Returns
    -------
    str
        ``holds`` if the whole interval lies above, ``fails`` if it lies below, else ``undecided``.
    """
    if _missing(ci_low) or _missing(ci_high):
        return "undecided"
    return "holds" if ci_low > above else "fails" if ci_high < above else "undecided"


def write_table(records: Iterable, kind: type, path: Path | str, order: Sequence[str]) -> Path:
    """Write records of a dataclass, such as `Row`; two with the same values of `order` are refused."""
    import pandas as pd

    columns = [field.name for field in fields(kind)]
    table = pd.DataFrame([asdict(record) for record in records], columns=columns)
    table = table.astype(dict.fromkeys(_whole(kind), "Int64"))
    double = table.duplicated(order)
    if double.any():
        first = ", ".join(filter(None, table.loc[double.idxmax(), order]))
        raise DataError(f"two rows for {first}, expected one: drop the older one")
    path = Path(path)
    with replacing(path) as part:
        table.to_csv(part, index=False, float_format="%.6g", lineterminator="\n")
    return path


def read_table(
    kind: type, path: Path | str, again: str = "neurovl evaluate --run RUN or neurovl reproduce"
) -> "pd.DataFrame":
    """Read what `write_table` wrote, every row checked; `again` is the command that makes it."""
    import pandas as pd

    path = Path(path)
    if not path.exists():
        raise MissingError(f"{path.name} is not there, expected a table of results: {again}")
    text = [field.name for field in fields(kind) if field.type is str]
    table = read_named(path, text)
    columns = [field.name for field in fields(kind)]
    if list(table.columns) != columns:
        raise DataError(
            f"{path.name} has columns {', '.join(table.columns)}, expected {', '.join(columns)}: "
            f"it is of another version, make it again with {again}"
        )
    numbers = [column for column in columns if column not in text]
    table[numbers] = table[numbers].apply(pd.to_numeric)
    whole = _whole(kind)
    table = table.astype(dict.fromkeys(whole, "Int64"))
    for record in table.to_dict("records"):
        counts = {c: None if pd.isna(record[c]) else int(record[c]) for c in whole}
        kind(**record | counts)
    return table


def _whole(kind: type) -> list[str]:
    """Columns of whole numbers, some of which may be missing."""
    return [field.name for field in fields(kind) if field.type == int | None]


def write_results(rows: Iterable[Row], path: Path | str) -> Path:
    """Write ``results.csv`` in the order of `rows`; two rows for one number are refused."""
    return write_table(rows, Row, path, NUMBER)


def read_results(path: Path | str) -> "pd.DataFrame":
    """Read ``results.csv`` as a DataFrame, every row checked as a `Row`; missing numbers are NaN.

    Raises
    ------
    MissingError, DataError
        If the file is not there, or its columns or a row are not what they should be.

    Examples
    --------
    >>> from neurovl.results import Row, read_results, write_results
    >>> row = Row("mine", "ridge", "alignment", "average", "all", "two_way_clip", value=0.9)
    >>> table = read_results(write_results([row], folder / "results.csv"))
    >>> table[["system", "metric", "value"]]
      system        metric  value
    0  ridge  two_way_clip    0.9
    """
    return read_table(Row, path)


def write_claims(claims: Iterable[Claim], path: Path | str) -> Path:
    """Write ``claims.csv`` in the order of `claims`."""
    return write_table(claims, Claim, path, ["claim", "data", "statistic"])


def read_claims(path: Path | str) -> "pd.DataFrame":
    """Read ``claims.csv`` as a DataFrame, every row checked as a `Claim`.

    Examples
    --------
    >>> from neurovl.results import Claim, read_claims, write_claims
    >>> claim = Claim("it reads brains", "mine", "difference", 0.2, 0.1, 0.3, 50, 0, "holds")
    >>> read_claims(write_claims([claim], folder / "claims.csv")).verdict.tolist()
    ['holds']
    """
    return read_table(Claim, path)


@functools.cache
def _paper_lookup() -> dict[tuple[str, str, str, str], float]:
    columns = ["system", "task", "protocol", "metric"]
    table = paper_results()
    keys = table[columns].itertuples(index=False, name=None)
    return dict(zip(keys, table["value"], strict=True))


def paper_results() -> "pd.DataFrame":
    """Tables 1, 2 and 7 of the paper as a DataFrame: system, task, protocol, metric, value, source.

    Percentages are fractions (CIDEr 49.51 is .4951). Systems carry our names: ``neurovl`` ("Ours"),
    ``flat`` ("w/o ViT3D"), ``no-llm``, ``no-vae``, ``per-subject`` ("w/o C_Subj"),
    ``per-subject-flat``; Table 7's other rows are ``brief-prompt`` (Llama-3-8B), ``vicuna-13b`` and
    ``vicuna-13b-brief``. Task ``caption-blip2`` is captioning against BLIP2 references.

    Examples
    --------
    >>> from neurovl.results import paper_results
    >>> paper_results().query("system == 'neurovl' and metric == 'pixcorr'").value.tolist()
    [0.265, 0.257]
    """
    import pandas as pd

    return pd.read_csv(PAPER_FILE)


def paper_value(system: str, task: str, protocol: str, metric: str) -> float | None:
    """Return the number that the paper prints for this system and metric, or None."""
    return _paper_lookup().get((system, task, protocol, metric))


def peer_results() -> "pd.DataFrame":
    """What other systems print: system, task, protocol, metric, value, pool, images, subjects, source.

    Systems carry the names of the comparison. Reconstruction and captions stand as the paper's tables print them, retrieval as
    the system's own publication does. `pool` and `images` are missing where they are not known.

    Examples
    --------
    >>> from neurovl.results import peer_results
    >>> peer_results().query("system == 'mindeye' and metric == 'image_top1'").value.tolist()
    [0.936]
    """
    import pandas as pd

    return pd.read_csv(PEER_FILE, dtype={"pool": "Int64", "images": "Int64"})
