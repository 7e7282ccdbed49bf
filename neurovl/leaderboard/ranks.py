"""Every system beside ours on the same pictures: differences, verdicts and ranks, each with its uncertainty: leaderboard.csv."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import DataError
from neurovl.evaluation.score_table import Resampled, mean_over_subjects
from neurovl.leaderboard.caption_board import CaptionCorpora
from neurovl.metrics.protocol import resamples
from neurovl.results import NUMBER, Row, read_table, write_table

OURS = "neurovl"
NARROW = 0.04  # a tie: the interval of the difference covers 0 and is narrower than this
LOWER_IS_BETTER = ("distance_", "image_median_rank", "brain_median_rank")
NO_DECODERS = ("true-embedding", "seen-picture", "shuffled", "no-brain")  # have no rank
COMPARED = ("better", "tied", "worse", "undecided")
SENTENCE = "_sentence"  # per-image scores whose corpus is scored as a whole
_DECIMALS = 10  # scores that agree this far differ by rounding only


@dataclass(frozen=True)
class Standing(Row):
    """One number of ``leaderboard.csv``: a `Row`, and where the system stands.

    Attributes
    ----------
    normalised : float or None
        `value` over `ceiling`; empty where lower is better.
    difference, difference_low, difference_high : float or None
        `value` less that of ours, and its 95 % interval over pictures; empty where the systems were not scored on the same
        pictures.
    verdict : str
        On the system: 'better' or 'worse' than ours where the interval excludes 0, 'tied' where it covers 0 and is narrower
        than .04, else 'undecided'; '' where there is no difference.
    rank, rank_low, rank_high : int or None
        From 1, the best, among the systems of the same task, protocol, metric, condition and subject, and the 95 % interval
        over resampled pictures; equal scores share the better rank. Empty for what is no decoder.
    """

    normalised: float | None = None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    verdict: str = ""
    rank: int | None = None
    rank_low: int | None = None
    rank_high: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.verdict and self.verdict not in COMPARED:
            raise DataError(
                f"{self.system}/{self.metric} has verdict {self.verdict!r}, expected one of {', '.join(COMPARED)}"
            )


@dataclass(frozen=True)
class Scored:
    """A score as a function of which pictures are drawn.

    Attributes
    ----------
    pairs : frozenset of (subject, image_id)
        What it rests on.
    images : list of str
        The pictures that are resampled, in order of name.
    resampled : callable
        The scores (k,) of resamples, from how often each picture was drawn (k, n_images).
    """

    pairs: frozenset[tuple[str, str]]
    images: list[str]
    resampled: Resampled


def lower_is_better(metric: str) -> bool:
    """Whether a smaller value of a metric is a better one.

    Examples
    --------
    >>> from neurovl.leaderboard.ranks import lower_is_better
    >>> lower_is_better("distance_swav"), lower_is_better("pixcorr")
    (True, False)
    """
    return metric.startswith(LOWER_IS_BETTER)


def compared(low: float, high: float, metric: str = "") -> str:
    """The verdict on a system from the interval of its difference to ours.

    Examples
    --------
    >>> from neurovl.leaderboard.ranks import compared
    >>> compared(0.01, 0.02), compared(-0.01, 0.02), compared(-0.03, 0.02), compared(0.01, 0.02, "distance_swav")
    ('better', 'tied', 'undecided', 'worse')
    """
    if not low <= 0 <= high:  # NaN too
        if np.isnan(low) or np.isnan(high):
            return "undecided"
        return "better" if (low > 0) != lower_is_better(metric) else "worse"
    return "tied" if high - low < NARROW else "undecided"


def standings(
    rows: Sequence[Row],
    images: pd.DataFrame,
    corpora: CaptionCorpora,
    seed: int,
    n: int = 2000,
    ours: str = OURS,
) -> list[Standing]:
    """Set each number of the systems beside ours.

    Systems are compared and ranked on the same resamples of the same pictures: the score of each picture is averaged over
    subjects first, captions are scored as whole corpora. A condition in which ours has no row, such as 'as published', is
    compared and ranked with ours as it is.

    Parameters
    ----------
    rows : sequence of Row
        All numbers.
    images : DataFrame
        Per-image scores of all systems, see `evaluation.score_table.PER_IMAGE`.
    corpora : dict
        See `caption_board.score_gallery_captions`.
    seed, n : int
        Of the resamples, and how many.
    ours : str
        The system that all are compared with.

    Returns
    -------
    list of Standing
        In the order of `rows`.
    """
    scored = _scored(images, corpora)
    ceilings = {
        (r.task, r.metric): r.value for r in rows if r.system == "true-embedding" and r.value
    }
    drawn: dict[int, np.ndarray] = {}
    places: dict[tuple, dict] = {}
    for group, systems in scored.items():
        condition = group[-1]
        whole = systems
        if ours not in systems and (plain := scored.get((*group[:-1], ""), {}).get(ours)):
            whole = {ours: plain, **systems}
        if ours not in whole:
            continue
        n_images = len(whole[ours].images)
        if n_images not in drawn:
            drawn[n_images] = np.concatenate(list(resamples(n_images, seed, n)))
        for system, place in _placed(whole, ours, group[3], drawn[n_images]).items():
            if system in systems:
                places[(system, condition, *group[:-1])] = place
    return [_standing(row, places, ceilings) for row in rows]


def _standing(row: Row, places: dict, ceilings: dict) -> Standing:
    about = {f.name: getattr(row, f.name) for f in fields(Row)}
    if row.value is None or np.isnan(row.value):
        return Standing(**about)
    if about["ceiling"] is None:
        about["ceiling"] = ceilings.get((row.task, row.metric))
    known = about["ceiling"] and not lower_is_better(row.metric)
    place = places.get(
        (row.system, row.condition, row.task, row.protocol, row.subject, row.metric), {}
    )
    if "note" in place:
        place = {"note": "; ".join(filter(None, (row.note, place["note"])))}
    normalised = row.value / about["ceiling"] if known else None
    return Standing(**about | place, normalised=normalised)


def _placed(
    systems: dict[str, Scored], ours: str, metric: str, drawn: np.ndarray
) -> dict[str, dict]:
    """Difference, verdict and rank of each system of a group; a note where it was not scored on the pictures of ours."""
    own = systems[ours]
    same = {name: one for name, one in systems.items() if one.pairs == own.pairs}
    whole = {
        name: float(one.resampled(np.ones((1, len(own.images))))[0]) for name, one in same.items()
    }
    found: dict[str, dict] = {
        name: {"note": _others(one, own, ours)}
        for name, one in systems.items()
        if name not in same and name not in NO_DECODERS
    }
    resampled = {name: one.resampled(drawn) for name, one in same.items()}
    for name in same:
        difference = resampled[name] - resampled[ours]
        low, high = (
            np.round(np.quantile(difference, [0.025, 0.975]), _DECIMALS).tolist()
            if len(own.images) > 1
            else (float("nan"), float("nan"))
        )
        found[name] = {
            "difference": round(whole[name] - whole[ours], _DECIMALS),
            "difference_low": None if np.isnan(low) else low,
            "difference_high": None if np.isnan(high) else high,
            "verdict": compared(low, high, metric),
        }
    ranked = [name for name in same if name not in NO_DECODERS]
    sign = 1 if lower_is_better(metric) else -1
    first = _ranks(sign * np.array([[whole[name] for name in ranked]]))[0]
    every = _ranks(sign * np.stack([resampled[name] for name in ranked], 1))
    for k, name in enumerate(ranked):
        low, high = np.quantile(every[:, k], [0.025, 0.975], method="inverted_cdf")
        found[name] |= {"rank": int(first[k]), "rank_low": int(low), "rank_high": int(high)}
    return found


def _ranks(scores: np.ndarray) -> np.ndarray:
    """Rank in each row (k, systems), 1 for the smallest; equal scores share the better rank."""
    from scipy.stats import rankdata

    return rankdata(np.round(scores, _DECIMALS), method="min", axis=1)


def _others(one: Scored, own: Scored, ours: str) -> str:
    both = len(one.pairs & own.pairs)
    return (
        f"not compared: scored on {len(one.pairs)} pictures (each subject's counted), {ours} on {len(own.pairs)}, and {both} are "
        "the same"
    )


# (task, protocol, subject, metric, condition) and the systems that were scored.
_Groups = dict[tuple[str, str, str, str, str], dict[str, Scored]]


def _scored(images: pd.DataFrame, corpora: CaptionCorpora) -> _Groups:
    found: _Groups = {}
    single = images[~images.metric.str.endswith(SENTENCE)]
    keys = ["task", "protocol", "metric", "condition", "system"]
    for (task, proto, metric, condition, system), part in single.groupby(keys, sort=False):
        by_subject = dict(iter(part.groupby("subject", sort=False)))
        for subject, some in {"all": part, **by_subject}.items():
            place = (task, proto, subject, metric, condition)
            found.setdefault(place, {})[system] = _mean_score(some)
    for (system, condition, task, proto, metric), own in corpora.items():
        if any(score.value is None for _, score in own.values()):
            continue
        for subject in ("all", *own):
            some = own if subject == "all" else {subject: own[subject]}
            parts = {who: (list(ids), score.resampled) for who, (ids, score) in some.items()}
            pairs = frozenset((who, i) for who, (ids, _) in parts.items() for i in ids)
            place = (task, proto, subject, metric, condition)
            found.setdefault(place, {})[system] = Scored(pairs, *mean_over_subjects(parts))
    return found


def _mean_score(part: pd.DataFrame) -> Scored:
    by_image = part.groupby("image_id").value.mean()  # over subjects; sorted by name
    values = by_image.to_numpy()
    pairs = frozenset(zip(part.subject, part.image_id, strict=True))
    return Scored(pairs, by_image.index.tolist(), lambda drawn: drawn @ values / drawn.sum(axis=1))


def write_leaderboard(found: Sequence[Standing], path: Path | str) -> Path:
    """Write ``leaderboard.csv``; two rows for one number are refused."""
    return write_table(found, Standing, path, NUMBER)


def read_leaderboard(path: Path | str) -> pd.DataFrame:
    """Read ``leaderboard.csv``, every row checked as a `Standing`.

    Raises
    ------
    MissingError, DataError
        It is not there, or not as it should be.

    Examples
    --------
    >>> from neurovl.leaderboard.ranks import Standing, read_leaderboard, write_leaderboard
    >>> one = Standing("mine", "neurovl", "reconstruction", "average", "all", "pixcorr", 0.5, verdict="tied", rank=1)
    >>> read_leaderboard(write_leaderboard([one], folder / "leaderboard.csv"))[["system", "verdict", "rank"]]
        system verdict  rank
    0  neurovl    tied     1
    """
    return read_table(Standing, path, "neurovl compare --run RUN")
