r"""How sure an answer is, and when to say nothing: from how likely its words are, and from how much the brain says at all.

.. math:: c = \sigma(b + w_1 \min l + w_2 s + w_3 a + w_4 \log n)

`l` are the logarithms of the probabilities that the answer's n tokens had, `s` and `a` the brain's signal and its strength
(`encoder.signal`). Weights and
offset are a logistic regression of right on wrong answers about training pictures that neither network saw, a part of them from
brains without information (voxels permuted). Short answers and long ones have weights of their own; a long one is right if it makes
nothing up. The threshold is where at most one in ten answers of averaged brains without information is spoken.

The mean of `l`, and by how much it exceeds that without a brain, were tried besides and added nothing: the AUC of right against wrong
short answers is .83 with and without them. The words' likelihoods alone cannot tell noise from a brain (AUC .49; the signal .98).
The mean of many repeats of an imagined picture has as much signal as one that was seen, but less strength.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np

from neurovl.errors import DataError
from neurovl.files import replacing

CANNOT_TELL = "I cannot tell from this brain."
SHORT = 6  # tokens at most of an answer in a word or two, with the one that ends it
FALSE_ALARMS = 0.1  # answers that are spoken of brains without information, at most
PENALTY = 1.0  # on squared weights of standardised features, for each answer


@dataclass(frozen=True)
class Evidence:
    """What speaks for an answer.

    Attributes
    ----------
    weakest : float
        The least logarithm of its tokens' probabilities.
    signal, strength : float
        Of the brain, see `encoder.signal`.
    tokens : int
        How many it has.

    Examples
    --------
    >>> from neurovl.language.confidence import Evidence
    >>> Evidence.of([-0.1, -0.3], (0.5, 1.0))
    Evidence(weakest=-0.3, signal=0.5, strength=1.0, tokens=2)
    """

    weakest: float
    signal: float
    strength: float
    tokens: int

    @classmethod
    def of(cls, likelihoods: Sequence[float], brain: Sequence[float]) -> Self:
        """Of an answer's `Conversations.likelihoods`, and what `Signal.of` says of the brain."""
        signal, strength = brain
        return cls(float(min(likelihoods)), float(signal), float(strength), len(likelihoods))

    @property
    def short(self) -> bool:
        """Whether the answer is of a word or two."""
        return self.tokens <= SHORT

    def features(self) -> list[float]:
        """What the regression reads."""
        return [self.weakest, self.signal, self.strength, float(np.log(self.tokens))]


@dataclass(frozen=True)
class Scale:
    """Weights, offset and threshold for answers of one kind."""

    weights: tuple[float, ...]
    offset: float
    threshold: float

    def confidence(self, evidence: Evidence) -> float:
        """The probability that the answer is right."""
        return float(1 / (1 + np.exp(-(self.offset + np.dot(self.weights, evidence.features())))))


@dataclass(frozen=True)
class Confidence:
    """How sure answers of a language model are.

    Attributes
    ----------
    short, long : Scale
        For answers of a word or two, and for others.

    Examples
    --------
    >>> from neurovl.language.confidence import Confidence, Evidence, Scale
    >>> scale = Scale((1.0, 2.0, 0.0, 0.0), 0.0, threshold=0.6)
    >>> sure = Confidence(scale, scale)
    >>> answer = Evidence(weakest=-0.3, signal=0.5, strength=1.0, tokens=2)
    >>> round(sure.of(answer), 2), sure.speaks(answer)
    (0.67, True)
    """

    short: Scale
    long: Scale

    def scale(self, evidence: Evidence) -> Scale:
        """The one for an answer of that length."""
        return self.short if evidence.short else self.long

    def of(self, evidence: Evidence) -> float:
        """The probability that the answer is right."""
        return self.scale(evidence).confidence(evidence)

    def speaks(self, evidence: Evidence) -> bool:
        """Whether it is sure enough to be spoken."""
        scale = self.scale(evidence)
        return scale.confidence(evidence) >= scale.threshold

    @classmethod
    def fit(cls, answers: Sequence[Evidence], right: Sequence[bool], blank: Sequence[bool]) -> Self:
        """Calibrate on answers about pictures that no training saw.

        Parameters
        ----------
        answers : sequence of Evidence
        right : sequence of bool
        blank : sequence of bool
            Those of brains without information that set the thresholds.

        Raises
        ------
        DataError
            Answers of a kind are all right or all wrong, or none is of a brain without information.
        """
        right, blank = np.array(right, bool), np.array(blank, bool)
        scales = []
        for short, kind in ((True, "short"), (False, "long")):
            rows = np.array([one.short == short for one in answers], bool)
            if len(set(right[rows])) < 2 or not blank[rows].any():
                raise DataError(
                    f"{rows.sum()} {kind} answers cannot be calibrated, expected right and wrong ones, some of brains without "
                    "information: ask about more held-out pictures"
                )
            x = np.array([one.features() for one in answers])[rows]
            scales.append(_fit(x, right[rows], blank[rows]))
        return cls(*scales)

    def save(self, file: Path) -> None:
        """Write it as JSON."""
        with replacing(file) as part:
            part.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        DataError
            It was calibrated on other evidence than answers have now.
        """
        kinds, wanted = json.loads(file.read_text()), len(fields(Evidence))
        scales = [
            Scale(**kinds[kind] | {"weights": tuple(kinds[kind]["weights"])})
            for kind in ("short", "long")
        ]
        if any(len(one.weights) != wanted for one in scales):
            raise DataError(
                f"{file} has {len(scales[0].weights)} weights, expected {wanted}; calibrate again: neurovl make calibration "
                "--run RUN"
            )
        return cls(*scales)


def _fit(x: np.ndarray, right: np.ndarray, blank: np.ndarray) -> Scale:
    """A logistic regression of standardised features, in the features' own units; and the threshold."""
    from sklearn.linear_model import LogisticRegression

    mean, spread = x.mean(0), x.std(0) + 1e-9
    model = LogisticRegression(C=1 / PENALTY).fit((x - mean) / spread, right)
    weights = model.coef_[0] / spread
    offset = float(model.intercept_[0] - weights @ mean)
    scale = Scale(tuple(weights.tolist()), offset, 0.0)
    spoken = 1 / (1 + np.exp(-(offset + x[blank] @ weights)))
    return Scale(scale.weights, offset, float(np.quantile(spoken, 1 - FALSE_ALARMS)))
