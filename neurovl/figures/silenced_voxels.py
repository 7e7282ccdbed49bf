"""What silent voxels take from what the encoder reads, over how many are silent.

Left out: silencing them (`neurovl.evaluation.silencing`).
"""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from neurovl.figures.theme import CYCLE, INK, WIDTH, finish, theme
from neurovl.results import condition_value

LINES = {
    "located": ("these voxels", CYCLE[0], "D-"),
    "other": ("another word's", CYCLE[1], "s-"),
    "moved": ("as many elsewhere", CYCLE[7], "o-"),
    "beside": ("these voxels: what the other words lose", CYCLE[2], "D:"),
}


def dose_curves(
    rows: pd.DataFrame, systems: dict[str, str], share: float, source: str = ""
) -> Figure | None:
    """What is lost of a concept over the share of voxels that are silent, with 95 % intervals; a panel for each kind of map.

    Parameters
    ----------
    rows : DataFrame
        Of results.csv: metrics ``drop``, ``drop_beside`` and ``presence`` of task localization, a subject each or ``all``.
    systems : dict of str to str
        System to the title of its panel; those without rows are left out.
    share : float
        The share of rows whose condition names none.

    Returns
    -------
    Figure or None
        None where nothing was silenced at several shares.
    """
    rows = rows[(rows.task == "localization") & (rows.subject == "all")]
    whole = rows[(rows.metric == "presence") & (rows.system == "neurovl")].value
    rows = rows[rows.metric.isin(["drop", "drop_beside"]) & rows.system.isin(systems)]
    rows = rows.assign(share=[condition_value(c, "share") or share for c in rows.condition])
    rows = rows.assign(line=[_line(m, c) for m, c in zip(rows.metric, rows.condition, strict=True)])
    shown = [one for one in systems if one in set(rows.system)]
    if rows.share.nunique() < 2:
        return None
    with theme():
        figure, axes = plt.subplots(
            1, len(shown), figsize=(WIDTH, 3.6), squeeze=False, sharey=True, layout="constrained"
        )
        for axis, system in zip(axes[0], shown, strict=True):
            own = rows[rows.system == system]
            for line, (label, shade, style) in LINES.items():
                part = own[own.line == line].sort_values("share")
                axis.fill_between(
                    100 * part.share, part.ci_low, part.ci_high, color=shade, alpha=0.12, lw=0
                )
                axis.plot(100 * part.share, part.value, style, color=shade, ms=5, label=label)
            axis.axhline(0, color=INK, lw=1, ls="--")
            for value in whole:
                axis.axhline(value, color=INK, lw=1, ls=":")
            axis.set_xscale("log")
            shares = sorted(own.share.unique())
            axis.set_xticks([100 * s for s in shares], [f"{100 * s:g}" for s in shares])
            axis.minorticks_off()
            axis.set_title(systems[system])
        axes[0, 0].set_ylabel("what of the word is lost")
        figure.supxlabel("silent voxels, % of the mask", fontsize=11, color=INK)
        handles, words = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, words, loc="outside upper center", ncols=2)
        return finish(figure, source)


def _line(metric: str, condition: str) -> str:
    silent = condition.split()[0].removeprefix("zeroed=") if condition else ""
    return "beside" if metric == "drop_beside" else silent
