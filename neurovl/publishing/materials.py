"""What a page is about, where a run's data do not have it: one sentence that says so, in the place of the page's figures."""

from pathlib import Path
from typing import TYPE_CHECKING

from neurovl.errors import MissingError, NeurovlError

if TYPE_CHECKING:
    from neurovl.run import Run

SPOKEN = "captions of the pictures, which the language model learns from"
PAINTED = "pictures with captions, from which painter and language model work"
# By the name of a notebook: the stage that it shows, and what the data need for that.
PAGES = {
    "03_language": ("llm", SPOKEN),
    "04_reconstruction": ("reconstructions", PAINTED),
    "05_beta_ablation": ("reconstructions", PAINTED),
    "06_concept_localization": ("localization", "things in the pictures with their boxes"),
    "08_explore": ("llm", SPOKEN),
}
FILES = {
    "llm": "captions.tsv and the folder stimuli",
    "reconstructions": "captions.tsv and the folder stimuli",
    "localization": "objects.tsv",
}


def lacking(name: str, run: Path) -> str:
    """Why a notebook has nothing to show of a run, and what would change that; empty where it has, or where that is not known."""
    from neurovl.pipeline import stages_of
    from neurovl.run import open_run

    if name not in PAGES:
        return ""
    stage, needed = PAGES[name]
    try:
        opened = open_run(run)
        here = stages_of(opened)
    except (MissingError, NeurovlError):
        return ""
    return "" if stage in here else _words(opened, stage, needed)


def _words(run: "Run", stage: str, needed: str) -> str:
    data = run.recordings.name
    return (
        f"Nothing is shown here: {data} comes without {needed}. To fill this page, add {FILES[stage]} to the table (see the page "
        "on your own data) and run `neurovl reproduce` again."
    )


def empty_page(source: Path, why: str) -> "object":
    """A notebook that keeps the title of another, and says why there is no more."""
    import nbformat

    title = nbformat.read(source, as_version=4).cells[0].source.splitlines()[0]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"{title}\n\n{why}")])
