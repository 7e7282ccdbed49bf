"""The curve of a subject that no training saw: scores over the share of its training pictures."""

from collections.abc import Iterable

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from neurovl.figures.theme import CYCLE, INK, WIDTH, colour, finish, name, theme

PROTOCOLS = {"average": ("o-", "mean of repeats"), "single": ("o:", "single trial")}


def adaptation_curve(rows: pd.DataFrame, metrics: dict[str, str], source: str = "") -> Figure:
    """Scores over the share of a new subject's training pictures, with 95 % intervals; chance is dashed.

    Parameters
    ----------
    rows : DataFrame
        RUN/adaptation/SUBJECT/curve.csv, and those of other systems. Shares stand at equal distances; numbers without a value,
        and systems that were not adapted, are left out.
    metrics : dict of str to str
        Metric to the title of its panel.
    """
    known = rows[rows.value.notna() & rows.metric.isin(metrics)]
    known = known[known.system.isin(known.system[known.share > 0])]
    shown = [m for m in metrics if m in set(known.metric)]
    shares = sorted(known.share.unique())
    counts = known.groupby("share").trials.max()
    labels = [f"{100 * s:.3g} %\n{counts[s]:.0f} trials" for s in shares]
    shades = _shades(known.system.unique())
    with theme():
        figure, axes = plt.subplots(
            1, len(shown), figsize=(WIDTH, 3.6), squeeze=False, sharey=True, layout="constrained"
        )
        figure.get_layout_engine().set(wspace=0.08)
        for axis, metric in zip(axes[0], shown, strict=True):
            own = known[known.metric == metric]
            for system in dict.fromkeys(own.system):
                shade = shades[system]
                for protocol, (style, words) in PROTOCOLS.items():
                    part = own[(own.system == system) & (own.protocol == protocol)]
                    part = part.sort_values("share")
                    at = [shares.index(s) for s in part.share]
                    axis.fill_between(at, part.ci_low, part.ci_high, color=shade, alpha=0.12, lw=0)
                    axis.plot(
                        at,
                        part.value,
                        style,
                        color=shade,
                        lw=1.8,
                        ms=5,
                        mfc=shade if protocol == "average" else "none",
                        label=f"{name(system)}, {words}",
                    )
            chance = own.groupby("share").chance.mean()
            at = [shares.index(s) for s in chance.index]
            axis.plot(at, chance, color=INK, ls="--", lw=1.2, label="chance")
            axis.set_title(metrics[metric])
            axis.set_xticks(range(len(shares)), labels, fontsize=8.5)
        axes[0, 0].set_ylabel("two-way identification")
        figure.supxlabel("training pictures of the new subject", fontsize=11, color=INK)
        handles, words = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper center", ncols=3)
        return finish(figure, source)


def _shades(systems: Iterable[str]) -> dict[str, str]:
    """A colour for each system: its own, or, as all published systems share a grey, one of the cycle that no other has."""
    own = {one: colour(one) for one in systems}
    free = iter([shade for shade in CYCLE if shade not in own.values()])
    return {one: next(free, shade) if shade == colour("") else shade for one, shade in own.items()}
