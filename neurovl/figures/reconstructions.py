"""Figures of reconstructed pictures beside those that were seen.

Left out: making them (`neurovl.reconstruction.reconstructor`) and scoring them (`neurovl.evaluation`).
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from neurovl.evaluation.erasing import commonest_thing
from neurovl.figures.inputs import seen
from neurovl.figures.rank_plots import ours_first
from neurovl.figures.theme import WIDTH, bare, finish, name, theme, wrap
from neurovl.recordings import Recordings
from neurovl.run import Run, RunTables


def grid(rows: dict[str, list], below: list[str] | None = None, source: str = "") -> Figure:
    """Rows of pictures with the name of the row at the left.

    Parameters
    ----------
    rows : dict of str to list of PIL.Image
        All of the same length.
    below : list of str, optional
        A line under each column.
    """
    n = len(next(iter(rows.values())))
    cell = (WIDTH - 1.2) / n
    with theme():
        figure, axes = plt.subplots(
            len(rows),
            n,
            figsize=(WIDTH, len(rows) * (cell + 0.06) + 0.5 * bool(below)),
            squeeze=False,
            gridspec_kw={"wspace": 0.04, "hspace": 0.04},
            layout="constrained",
        )
        figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0, hspace=0)
        for (label, pictures), line in zip(rows.items(), axes, strict=True):
            for axis, picture in zip(line, pictures, strict=True):
                axis.imshow(picture.convert("RGB").resize((192, 192)))
                bare(axis)
            line[0].set_ylabel(wrap(label, 16), rotation=0, ha="right", va="center", labelpad=6)
        for axis, text in zip(axes[-1], below or [], strict=False):
            axis.set_xlabel(wrap(text, max(10, round(cell * 13)), 4), fontsize=8.5)
        return finish(figure, source)


def similarity(matrix: np.ndarray, pictures: list, captions: list[str], source: str = "") -> Figure:
    """Similarity of pictures (rows) and captions (columns) with its numbers; what belongs together is on the diagonal.

    Parameters
    ----------
    matrix : array, shape (n_pictures, n_captions)
    """
    n = len(pictures)
    with theme():
        figure, axis = plt.subplots(figsize=(WIDTH, 0.62 * n + 1.6), layout="constrained")
        axis.imshow(matrix, cmap="cividis", aspect="auto")
        middle = (matrix.min() + matrix.max()) / 2
        for i, row in enumerate(matrix):
            for j, value in enumerate(row):
                shade = "black" if value > middle else "white"
                axis.text(j, i, f"{value:.2f}", ha="center", va="center", color=shade, fontsize=8)
        axis.set_xticks(range(len(captions)), [wrap(c, 16, 4) for c in captions], fontsize=7)
        axis.set_yticks(range(n), [""] * n)
        axis.tick_params(length=0)
        for i, picture in enumerate(pictures):
            inset = axis.inset_axes((-0.1, 1 - (i + 0.97) / n, 0.09, 0.94 / n))
            inset.imshow(picture.convert("RGB"))
            bare(inset)
        return finish(figure, source)


def seen_and_made(tables: RunTables, recordings: Recordings, subject: str, n: int = 6) -> Figure:
    """Test pictures above what each system made of them, with the language model's prompt below.

    Parameters
    ----------
    tables : RunTables
    recordings : Recordings
    subject : str
    n : int
        Pictures, the first of the list.
    """
    samples = tables.samples[tables.samples.condition == ""]
    own = samples[samples.subject == subject]
    whole = own[(own.system == "neurovl") & (own.protocol == "average")].head(n)
    ids = whole.image_id.tolist()
    ceiling = samples[samples.system == "true-embedding"]
    kinds = {
        "neurovl": own[(own.system == "neurovl") & (own.protocol == "average")],
        "one trial only": own[(own.system == "neurovl") & (own.protocol == "single")],
        "without LLM": own[(own.system == "no-llm") & (own.protocol == "average")],
        "without VAE": own[own.system == "no-vae"],
        "true embedding": ceiling,
    }
    rows = {"seen": seen(recordings, ids)}
    for label, part in kinds.items():
        files = part.set_index("image_id").file
        if set(ids) <= set(files.index):
            rows[label] = [tables.picture(files[i]) for i in ids]
    source = f"{tables.source} · {subject}"
    return grid(rows, [f"“{p}”" for p in whole.prompt], source)


def painted_again(run: Run, n: int = 6) -> Figure:
    """Test pictures, what was painted of them, and what was when voxels were silent: those of the thing below, as many others, another thing's.

    Parameters
    ----------
    run : Run
        With pictures painted after zeroing.
    n : int
        Pictures, the first of the list.
    """
    tables = run.tables
    own = tables.samples[tables.samples.system == "neurovl"]
    own = own[own.protocol == "average"]
    first = own[own.condition == "zeroed=located"].head(n)
    ids, subject = first.image_id.tolist(), first.subject.iloc[0]
    rows = {"seen": seen(run.recordings, ids)}
    kinds = {
        "": "painted",
        "zeroed=located": "its voxels silent",
        "zeroed=moved": "others silent",
        "zeroed=other": "another thing's",
    }
    for varied, label in kinds.items():
        part = own[(own.subject == subject) & (own.condition == varied)]
        if part.empty:
            continue
        files = part.set_index("image_id").file
        rows[label] = [tables.picture(files[i]) for i in ids]
    things = [str(commonest_thing(run, i)) for i in ids]
    return grid(rows, things, f"{tables.source} · {subject}")


def picture_wall(
    tables: RunTables,
    recordings: Recordings,
    subject: str = "",
    n: int = 8,
    condition: str = "",
    protocol: str = "average",
) -> Figure | None:
    """What each system painted of the same pictures, below those that were seen.

    Parameters
    ----------
    tables : RunTables
    recordings : Recordings
    subject : str
        The first by default.
    n : int
        Pictures, the first of the list.
    condition : str
        '' for main rows, 'as published' for the others.
    protocol : str

    Returns
    -------
    Figure or None
        None where nothing was painted.
    """
    samples = tables.compared_samples
    own = samples[(samples.condition == condition) & (samples.protocol == protocol)]
    if not len(own):
        return None
    subject = subject or own.subject.iloc[0]
    own = own[own.subject == subject]
    files = own.drop_duplicates(["system", "image_id"])
    files = files.set_index(["system", "image_id"]).file.unstack("image_id", sort=False)
    ids = list(files.columns[files.notna().all()])[:n]
    rows = {"seen": seen(recordings, ids)}
    for system in ours_first(files.index):
        rows[name(system)] = [tables.compared_picture(files.loc[system, one]) for one in ids]
    return grid(rows, None, f"{tables.source} · {subject}")
