"""One look for all figures: colours by system, transparent background, ink that reads on light and dark pages.

The colours are those of Okabe and Ito, told apart by readers with colour-blind eyes. Left out: what is drawn.
"""

import re
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib.pyplot as plt
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#666b75"  # contrast of about 5 to 1 on white, 4 to 1 on the dark theme's plates and on black
CYCLE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#B0A000", "#8A8F99")
WIDTH = 8.0  # inches: the width of a page's column

_COLOURS = {
    "neurovl": "#0072B2",
    "linear-readout": "#004C78",
    "common": "#7FB2D6",
    "plain": "#B58900",
    "flat": "#E69F00",
    "per-subject": "#56B4E9",
    "per-subject-flat": "#F0C05A",
    "brief-prompt": "#E3A6CB",
    "no-vae": "#009E73",
    "hidden-states": "#7FB2D6",
    "no-llm": "#CC79A7",
    "fine-tuned": "#009E73",
    "imagery": "#CC79A7",
    "embeddings-averaged": "#56B4E9",
    "ridge": "#D55E00",
    "true-embedding": "#B0A000",
    "true-picture": "#B0A000",
}
_NAMES = {
    "neurovl": "neurovl",
    "embeddings-averaged": "embeddings averaged",
    "linear-readout": "linear readout alone",
    "common": "nothing per subject",
    "plain": "ViT3D as published",
    "flat": "flat voxels",
    "per-subject": "one per subject",
    "per-subject-flat": "one per subject, flat",
    "brief-prompt": "brief caption as prompt",
    "no-vae": "without VAE",
    "hidden-states": "reads hidden states",
    "no-llm": "without LLM",
    "true-embedding": "true embedding",
    "true-picture": "the true picture",
    "no-brain": "without a brain",
    "imagery": "imagined pictures",
    "scrambled": "voxels permuted",
    "noise": "noise",
    "clip-head": "CLIP head",
    "vae-head": "VAE head",
    "vae-minus-clip": "VAE head − CLIP head",
}


def colour(system: str) -> str:
    """The colour of a system; controls (shuffled, without a brain) are grey, further encoders lighter blue."""
    if re.fullmatch(r"p\d+(x\d+)*", system):
        return "#7FB2D6"
    return _COLOURS.get(system, "#8A8F99")


def name(system: str) -> str:
    """How figures call a system."""
    if re.fullmatch(r"p\d+(x\d+)*", system):
        return f"patches of {system[1:]}"
    return _NAMES.get(system, system)


@contextmanager
def theme() -> Iterator[None]:
    """Settings that hold while a figure is drawn."""
    look = {
        "figure.dpi": 110,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "savefig.facecolor": "none",
        "font.size": 11,
        "axes.titlesize": 11,
        "axes.labelsize": 11,
        "xtick.labelsize": 10,
        "ytick.labelsize": 10,
        "legend.fontsize": 10,
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.edgecolor": INK,
        "axes.grid": False,
        "image.interpolation": "nearest",
    }
    ink = dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"), INK
    )
    colours = {"axes.prop_cycle": plt.cycler(color=CYCLE)}
    with seaborn.axes_style("ticks"), plt.rc_context(look | ink | colours):
        yield


def finish(figure: Figure, source: str = "") -> Figure:
    """Lay out a figure, name its data at the foot, and close it so that a notebook shows it once."""
    if figure.get_layout_engine() is None:
        figure.tight_layout()
    if source:
        figure.text(1, -0.01, source, ha="right", va="top", fontsize=8.5, color=INK)
    plt.close(figure)
    return figure


def bare(axis: Axes) -> None:
    """Leave nothing of an axis but what is drawn in it."""
    axis.set_xticks([])
    axis.set_yticks([])
    for spine in axis.spines.values():
        spine.set_visible(False)


def wrap(text: str, width: int, lines: int = 3) -> str:
    """Text in at most `lines` lines of `width` characters."""
    return "\n".join(textwrap.wrap(text, width, max_lines=lines, placeholder=" …"))
