"""What a page is about, where a run's data do not have it: one sentence that says so, in the place of the page's figures."""

from pathlib import Path
from typing import TYPE_CHECKING

from neurovl.errors import NeurovlError

if TYPE_CHECKING:
    from nbformat import NotebookNode

# What stages need of the data, and what brings it.
_ADD = "add {} to the table (see the page on your own data) and run `neurovl reproduce` again"
SPOKEN = (
    "captions of the pictures, which the language model learns from",
    _ADD.format("captions.tsv and the folder stimuli"),
)
PAINTED = (
    "pictures with captions, from which painter and language model work",
    _ADD.format("captions.tsv and the folder stimuli"),
)
LOCATED = ("things in the pictures with their boxes", _ADD.format("objects.tsv"))
IMAGINED = (
    "the session of NSD-Imagery, which only NSD has",
    "fetch it with `neurovl download nsd --tests imagery`, or simulate it with `neurovl simulate --tests imagery`, and run "
    "`neurovl evaluate --run RUN --on imagery`",
)
PAIRED = (
    "one partition of pictures into training and test, which systems are compared on",
    _ADD.format("the folder stimuli, and one split,"),
)
# By the name of a notebook that shows what a command of its own makes: the table without which there is nothing to show.
COMPARED = {"15_leaderboard": "leaderboard", "16_controls": "controls"}
# By the name of a notebook: the stage that it shows, and these two.
PAGES = {
    "03_language": ("llm", *SPOKEN),
    "04_reconstruction": ("reconstructions", *PAINTED),
    "05_beta_ablation": ("reconstructions", *PAINTED),
    "06_concept_localization": ("localization", *LOCATED),
    "08_explore": ("llm", *SPOKEN),
    "14_further_tests": ("imagery", *IMAGINED),
    **dict.fromkeys(COMPARED, ("board", *PAIRED)),
}


def lacking(name: str, run: Path) -> str:
    """Why a notebook has nothing to show of a run, and what would change that; empty where it has, or where that is not known."""
    from neurovl.figures import not_compared
    from neurovl.pipeline import is_possible
    from neurovl.run import RunTables, open_run

    if name not in PAGES:
        return ""
    why = not_compared(getattr(RunTables(run), COMPARED[name])) if name in COMPARED else ""
    if name in COMPARED and not why:
        return ""
    stage, needed, remedy = PAGES[name]
    try:
        opened = open_run(run)
        if is_possible(opened, stage):
            return why
    except NeurovlError:
        return why
    return f"Nothing is shown here: {opened.recordings.name} comes without {needed}. To fill this page, {remedy}."


def empty_page(source: Path, why: str) -> "NotebookNode":
    """A notebook that keeps the title of another, and says why there is no more."""
    import nbformat

    title = nbformat.read(source, as_version=4).cells[0].source.splitlines()[0]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"{title}\n\n{why}")])
