"""Figures of how sure answers are: accuracy over the share that is spoken."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from neurovl.evaluation.confidence_scores import accuracy_over_coverage
from neurovl.figures.theme import INK, WIDTH, colour, finish, name, theme

TITLES = {"closed": "answers of a word or two", "open": "descriptions"}
SILENCE = {
    "spoken": "spoken",
    "accuracy": "right, of all",
    "accuracy_spoken": "right, of those spoken",
    "calibration_error": "calibration error",
}
LINES = (
    ("neurovl", "average", "-"),
    ("neurovl", "single", ":"),
    ("imagery", "average", "-"),
    ("shuffled", "average", "-"),
    ("scrambled", "average", "--"),
    ("noise", "average", ":"),
)
SHARES = np.linspace(0.05, 1, 39)


def coverage_curves(answers: pd.DataFrame, source: str = "") -> Figure | None:
    """Share of right answers among the surest, over how many of them are spoken; a mark where the threshold lies.

    Parameters
    ----------
    answers : DataFrame
        confidence.csv, all subjects together. None where answers were not judged.
    """
    if not len(answers):
        return None
    kinds = [kind for kind in TITLES if kind in set(answers.kind)]
    with theme():
        figure, axes = plt.subplots(
            1, len(kinds), figsize=(WIDTH, 3.7), squeeze=False, sharey=True, layout="constrained"
        )
        for axis, kind in zip(axes[0], kinds, strict=True):
            own = answers[answers.kind == kind]
            for system, protocol, style in LINES:
                part = own[(own.system == system) & (own.protocol == protocol)]
                if not len(part):
                    continue
                curve = accuracy_over_coverage(part, SHARES)
                words = f"{name(system)}, {'single trial' if protocol == 'single' else 'average'}"
                axis.plot(SHARES, curve, style, color=colour(system), lw=1.8, label=words)
                spoken = part.spoken.mean()
                if spoken:
                    height = part.right[part.spoken == 1].mean()
                    axis.plot(spoken, height, "o", color=colour(system), ms=6)
            axis.set_title(TITLES[kind])
            axis.set_xlim(0, 1.02)
            axis.set_ylim(0, 1.02)
        axes[0, 0].set_ylabel("share of right answers")
        figure.supxlabel(
            "share of answers that are spoken, the surest first", fontsize=11, color=INK
        )
        handles, words = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper center", ncols=3)
        return finish(figure, source)
