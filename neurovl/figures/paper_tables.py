"""The paper's tables 1, 2 and 7 and figures 5, 6 and 8, row by row: its own systems, filled from results.csv or with a reason.

Here stands which row of results.csv a printed row is; no number. The paper's come from `results.paper_results`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from neurovl.results import ADAPTED, paper_results, unadapted

TEXT = {f"bleu{k}": f"BLEU-{k}" for k in range(1, 5)}
TEXT |= {
    "meteor": "METEOR",
    "rouge": "ROUGE",
    "cider": "CIDEr",
    "spice": "SPICE",
    "clip_s": "CLIP-S",
}
PICTURES = {
    "pixcorr": "PixCorr",
    "ssim": "SSIM",
    "two_way_alexnet2": "AlexNet(2)",
    "two_way_alexnet5": "AlexNet(5)",
    "two_way_inception": "Inception",
    "two_way_clip": "CLIP",
    "distance_effnet": "EffNet-B",
    "distance_swav": "SwAV",
}
OVER_BETA = {m: PICTURES[m] for m in ("pixcorr", "ssim", "two_way_alexnet5", "two_way_clip")}
PAPERS_BETAS = ("0.6", "0.75", "0.9", "0.98", "1")


@dataclass(frozen=True)
class PaperRow:
    """A row of the paper, and which row of results.csv it is.

    Attributes
    ----------
    place, label : str
        Table or figure, and the row as the paper calls it.
    system, task : str
        As in `results.paper_results`, and in results.csv.
    without : str
        Why a run may have no such row.
    protocol : str
    condition : str
        As in results.csv; ``beta=`` stands for every noise strength of the ablation.
    """

    place: str
    label: str
    system: str
    task: str
    without: str
    protocol: str = "average"
    condition: str = ""


_NOT_ASKED = "the pictures of this run have no captions, so nothing is said or painted"
_FLAT_TALKS = (
    "needs a language model that reads the encoder flat: flat in language.variants of the profile"
)
_BLIP2 = (
    "needs BLIP-2's captions of the pictures: models.captioner and models.detector of the profile"
)
_ONE_EACH = "needs encoders of one subject each: per-subject in alignment.variants of the profile"
_ONE_EACH_FLAT = _ONE_EACH.replace("per-subject", "per-subject-flat")
_LLM_LIST = (
    "needs this language model: vicuna-13b in models.llms and in language.variants of the profile"
)
_BRIEF = (
    "needs pictures painted from brief captions: brief in reconstruction.prompts of the profile"
)
_VAE = "needs the encoder no-vae in alignment.variants of the profile"
_BETA = "this noise strength is not among reconstruction.betas of the profile"

PAPER_ROWS = (
    PaperRow("Table 1", "Ours", "neurovl", "caption", _NOT_ASKED),
    PaperRow("Table 1", "w/o ViT3D", "flat", "caption", _FLAT_TALKS),
    PaperRow("Table 1", "Ours, BLIP-2 references", "neurovl", "caption-blip2", _BLIP2),
    PaperRow(
        "Table 1",
        "w/o ViT3D, BLIP-2 references",
        "flat",
        "caption-blip2",
        f"{_BLIP2}; {_FLAT_TALKS}",
    ),
    PaperRow("Table 1", "Detailed description: Ours", "neurovl", "description", _NOT_ASKED),
    PaperRow("Table 1", "Detailed description: w/o ViT3D", "flat", "description", _FLAT_TALKS),
    PaperRow("Table 1", "Reasoning: Ours", "neurovl", "reasoning", _NOT_ASKED),
    PaperRow("Table 1", "Reasoning: w/o ViT3D", "flat", "reasoning", _FLAT_TALKS),
    PaperRow("Table 2", "Ours", "neurovl", "reconstruction", _NOT_ASKED),
    PaperRow("Table 2", "w/o LLM", "no-llm", "reconstruction", _NOT_ASKED),
    PaperRow("Table 2", "w/o VAE feature", "no-vae", "reconstruction", _VAE),
    PaperRow("Table 2", "w/o C_Subj", "per-subject", "reconstruction", _ONE_EACH),
    PaperRow("Table 2", "w/o C_Subj & ViT3D", "per-subject-flat", "reconstruction", _ONE_EACH_FLAT),
    PaperRow("Table 2", "Single trial: Ours", "neurovl", "reconstruction", _NOT_ASKED, "single"),
    PaperRow("Table 7", "no LLM", "no-llm", "reconstruction", _NOT_ASKED),
    PaperRow(
        "Table 7",
        "Vicuna-13B, brief",
        "vicuna-13b-brief",
        "reconstruction",
        f"{_LLM_LIST}; {_BRIEF}",
    ),
    PaperRow("Table 7", "Vicuna-13B, instruction", "vicuna-13b", "reconstruction", _LLM_LIST),
    PaperRow("Table 7", "Llama-3-8B, brief", "brief-prompt", "reconstruction", _BRIEF),
    PaperRow("Table 7", "Llama-3-8B, instruction", "neurovl", "reconstruction", _NOT_ASKED),
    *(
        PaperRow(
            "Figure 5",
            label,
            system,
            "reconstruction",
            f"{_BETA}: it names none",
            condition="beta=",
        )
        for system, label in (("neurovl", "with LLM"), ("no-llm", "without LLM"))
    ),
    *(
        PaperRow(
            "Figure 6",
            f"β = {beta}, {label}",
            system,
            "reconstruction",
            _BETA,
            condition=f"beta={beta}",
        )
        for system, label in (("neurovl", "with LLM"), ("no-llm", "without LLM"))
        for beta in PAPERS_BETAS
    ),
    PaperRow(
        "Figure 8",
        "painted again after zeroing the concept's voxels",
        "neurovl",
        "reconstruction",
        "needs something located in the first subject's test pictures; what zeroing takes away from embeddings is in task localization",
        condition="zeroed=located",
    ),
)
SCORES = {
    "Table 1": TEXT,
    "Table 2": PICTURES,
    "Table 7": PICTURES,
    "Figure 5": OVER_BETA,
    "Figure 6": OVER_BETA,
    "Figure 8": OVER_BETA,
}


def paper_table(results: pd.DataFrame, place: str, simulated: bool) -> pd.DataFrame:
    """A table or figure of the paper: for each of its own systems the printed numbers and those of a run.

    Parameters
    ----------
    results : DataFrame
        results.csv.
    place : str
        'Table 1', 'Table 2', 'Table 7', 'Figure 5', 'Figure 6' or 'Figure 8'.
    simulated : bool
        Whether the run's recordings are; its lines say so.

    Returns
    -------
    DataFrame
        Columns row, numbers (whose), one for each score, and note: why there is no number, or how it differs from the
        paper's.

    Examples
    --------
    >>> table = neurovl.figures.paper_table(run.tables.results, "Table 7", simulated=True)
    >>> table[table.row == "Vicuna-13B, brief"].numbers.tolist()
    ['paper (NSD)', 'this run (simulated)']
    """
    printed, scores = paper_results(), SCORES[place]
    whose = f"this run ({'simulated' if simulated else 'measured'})"
    lines = []
    for row in (row for row in PAPER_ROWS if row.place == place):
        known = _of(printed, row)
        numbers = dict(zip(known.metric, known.value, strict=True))
        if not row.condition:  # figures have no printed numbers
            about = {"row": row.label, "numbers": "paper (NSD)"}
            lines.append(about | {title: numbers.get(m) for m, title in scores.items()})
        own = _of(results[results.subject == "all"], row)
        bare = own.condition.map(unadapted).astype(str)
        varied = bare == row.condition
        if row.condition.endswith("="):
            varied = bare.str.startswith(row.condition)
        for condition, part in list(own[varied].groupby(bare, sort=False)) or [("", None)]:
            several = condition != row.condition and condition
            label = f"{row.label}, β = {condition.partition('=')[2]}" if several else row.label
            if part is not None and part.condition.str.contains(ADAPTED).any():
                label += ", LoRA"
            lines.append({"row": label, "numbers": whose} | _line(part, scores, row.without))
    table = pd.DataFrame(lines, columns=["row", "numbers", *scores.values(), "note"])
    return table.astype(dict.fromkeys(scores.values(), float)).fillna({"note": ""})


def _of(table: pd.DataFrame, row: PaperRow) -> pd.DataFrame:
    same = (table.system == row.system) & (table.task == row.task)
    return table[same & (table.protocol == row.protocol)]


def _line(part: pd.DataFrame | None, scores: dict[str, str], without: str) -> dict:
    """The scores of a row by title, and why one is absent or differs."""
    if part is None:
        return {"note": without}
    rows = part.set_index("metric")
    notes: dict[str, list[str]] = {}
    for metric, title in scores.items():
        said = rows.note.get(metric, "not scored: this run has other metric networks")
        notes.setdefault(said, []).append(title)
    values = {title: rows.value.get(metric) for metric, title in scores.items()}
    return values | {"note": _joined(notes, len(scores))}


def _joined(notes: dict[str, list[str]], n: int) -> str:
    said: Iterable[str] = (
        text if len(titles) == n else f"{', '.join(titles)}: {text}"
        for text, titles in notes.items()
        if text
    )
    return ". ".join(said)
