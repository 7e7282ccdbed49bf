"""What a page is about, where a run's data do not have it: one sentence that says so, in the place of the page's figures."""

from pathlib import Path
from typing import TYPE_CHECKING

from neurovl.errors import NeurovlError

if TYPE_CHECKING:
    from nbformat import NotebookNode

# What stages need of the data, and the files of a table that bring it.
SPOKEN = (
    "captions of the pictures, which the language model learns from",
    "captions.tsv and the folder stimuli",
)
PAINTED = (
    "pictures with captions, from which painter and language model work",
    "captions.tsv and the folder stimuli",
)
LOCATED = ("things in the pictures with their boxes", "objects.tsv")
# By the name of a notebook: the stage that it shows, and these two.
PAGES = {
    "03_language": ("llm", *SPOKEN),
    "04_reconstruction": ("reconstructions", *PAINTED),
    "05_beta_ablation": ("reconstructions", *PAINTED),
    "06_concept_localization": ("localization", *LOCATED),
    "08_explore": ("llm", *SPOKEN),
}


def lacking(name: str, run: Path) -> str:
    """Why a notebook has nothing to show of a run, and what would change that; empty where it has, or where that is not known."""
    from neurovl.pipeline import is_possible
    from neurovl.run import open_run

    if name not in PAGES:
        return ""
    stage, needed, files = PAGES[name]
    try:
        opened = open_run(run)
        if is_possible(opened, stage):
            return ""
    except NeurovlError:
        return ""
    return (
        f"Nothing is shown here: {opened.recordings.name} comes without {needed}. To fill this page, add {files} to the table "
        "(see the page on your own data) and run `neurovl reproduce` again."
    )


def empty_page(source: Path, why: str) -> "NotebookNode":
    """A notebook that keeps the title of another, and says why there is no more."""
    import nbformat

    title = nbformat.read(source, as_version=4).cells[0].source.splitlines()[0]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"{title}\n\n{why}")])
