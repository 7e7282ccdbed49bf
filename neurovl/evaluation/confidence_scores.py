"""How well answers know themselves: confidence against right and wrong, and silence where a brain holds nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.evaluation.answering import evidence_for, read_all_answers
from neurovl.evaluation.rightness import is_right
from neurovl.evaluation.score_table import Resampled, Table
from neurovl.language.confidence import Confidence
from neurovl.results import condition
from neurovl.run import Run

# Of confidence, right and counts, (n,) each, the surest first.
Score = Callable[[np.ndarray, np.ndarray, np.ndarray], float]
KINDS = {"closed": "words", "open": "descriptions"}
BINS = 10  # of equally many answers, for the calibration error
COLUMNS = [
    "system",
    "protocol",
    "subject",
    "type",
    "image_id",
    "kind",
    "right",
    "confidence",
    "spoken",
]


def score_confidence(run: Run, table: Table, file: Path) -> None:
    r"""Task 'confidence', for closed answers (``answers=words``) and descriptions (``answers=descriptions``).

    `spoken` is the share of answers that are sure enough to be spoken, `accuracy` that of right ones among all, `accuracy_spoken`
    among these, `accuracy_half` among the surer half, `calibration_error` the mean distance of confidence from the share of
    right answers over bins of equally many:

    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} | \overline{c}_b - \overline{r}_b |

    Parameters
    ----------
    file : Path
        Gets every answer's confidence.
    """
    calibrated = run.confidence()
    if calibrated is None:
        return
    judged = judge_answers(run, calibrated[0])
    judged.to_csv(file, index=False, float_format="%.4g")
    for (system, proto, kind), part in judged.groupby(["system", "protocol", "kind"], sort=False):
        varied = condition(answers=KINDS[kind])
        for subject, own in part.groupby("subject", sort=False):
            for metric, rows, column in (
                ("spoken", own, "spoken"),
                ("accuracy", own, "right"),
                ("accuracy_spoken", own[own.spoken == 1], "right"),
            ):
                means = rows.groupby("image_id")[column].mean()
                if len(means) > 1:
                    place = (system, "confidence", proto, subject, metric)
                    table.add(*place, means.index, means, condition=varied)
        parts = {who: own for who, own in part.groupby("subject", sort=False)}
        for metric, score in (
            ("calibration_error", calibration_error),
            ("accuracy_half", surer_half),
        ):
            corpora = {who: resampled(own, score) for who, own in parts.items()}
            table.add_resampled(system, "confidence", proto, metric, corpora, varied)


def judge_answers(run: Run, sure: Confidence) -> pd.DataFrame:
    """Every answer that can be judged, with its confidence: columns `COLUMNS`."""
    answers = read_all_answers(run.folder)
    # Where the request holds the word that is the answer, no brain is needed to be sure.
    judged = answers.signal.notna() & (answers.type != "localization")
    answers = answers[judged].reset_index(drop=True)
    right = is_right(run, answers)
    evidence = evidence_for(answers)
    judged = answers.assign(
        right=right,
        confidence=[sure.of(one) for one in evidence],
        spoken=[float(sure.speaks(one)) for one in evidence],
        kind=np.where(answers.closed.astype(str) == "True", "closed", "open"),
    )
    return judged.loc[right.notna(), COLUMNS]


def resampled(answers: pd.DataFrame, score: Score) -> tuple[list[str], Resampled]:
    """The pictures of answers, and a score of all answers as a function of how often each picture is drawn."""
    images = sorted(answers.image_id.unique())
    which = pd.Index(images).get_indexer(answers.image_id)
    confidence, right = answers.confidence.to_numpy(), answers.right.to_numpy()
    order = np.argsort(-confidence, kind="stable")
    confidence, right, which = confidence[order], right[order], which[order]

    def scores(drawn: np.ndarray) -> np.ndarray:
        return np.array([score(confidence, right, row[which]) for row in drawn])

    return images, scores


def calibration_error(confidence: np.ndarray, right: np.ndarray, counts: np.ndarray) -> float:
    """Mean distance of confidence from the share of right answers over `BINS` bins of about equally many.

    Parameters
    ----------
    confidence, right : arrays, shape (n,)
        The surest first.
    counts : array, shape (n,)
        How often each answer counts.

    Examples
    --------
    >>> from neurovl.evaluation.confidence_scores import calibration_error
    >>> calibration_error(np.full(20, 0.9), np.ones(20), np.ones(20)).round(3)
    np.float64(0.1)
    """
    total = counts.sum()
    middle = np.cumsum(counts) - counts / 2
    bins = np.minimum((middle / total * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, counts * (confidence - right), BINS)
    return np.abs(gaps).sum() / total


def surer_half(confidence: np.ndarray, right: np.ndarray, counts: np.ndarray) -> float:
    """Share of right answers among the surer half; parameters as in `calibration_error`."""
    half = counts.sum() / 2
    taken = np.clip(half - (np.cumsum(counts) - counts), 0, counts)
    return float(taken @ right / half)


def accuracy_over_coverage(answers: pd.DataFrame, shares: Sequence[float]) -> pd.Series:
    """Share of right answers among the surest, for several shares that are spoken.

    Parameters
    ----------
    answers : DataFrame
        Columns confidence, right.
    shares : sequence of float
        Above 0, at most 1.
    """
    right = answers.sort_values("confidence", ascending=False, kind="stable").right.to_numpy()
    means = np.cumsum(right) / np.arange(1, len(right) + 1)
    return pd.Series({share: means[max(1, round(share * len(right))) - 1] for share in shares})
