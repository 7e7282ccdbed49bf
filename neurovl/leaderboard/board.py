"""From galleries to the rows of the leaderboard."""

from collections.abc import Sequence

from neurovl.evaluation.answering import true_captions
from neurovl.evaluation.score_table import Table
from neurovl.leaderboard.caption_board import CaptionCorpora, score_gallery_captions
from neurovl.leaderboard.gallery_tables import Gallery, together
from neurovl.leaderboard.picture_board import score_gallery_pictures
from neurovl.leaderboard.ranks import Standing, standings
from neurovl.run import Run


def new_table(run: Run) -> Table:
    """An empty table of a run's scores."""
    p, recordings = run.profile, run.recordings
    return Table(recordings.name, recordings.split_name, p.seed, p.evaluation.bootstrap)


def score_gallery(run: Run, gallery: Gallery, table: Table) -> CaptionCorpora:
    """Add all scores of a gallery to a table, pictures first.

    Returns
    -------
    dict
        What `ranks.standings` resamples of the captions.
    """
    trials = run.store.trials
    training = sorted(trials.image_id[trials.split == "train"].unique())
    score_gallery_pictures(table, run.recordings, gallery, run.profile, training)
    references = true_captions(run, sorted(gallery.captions.image_id.unique()))
    return score_gallery_captions(table, run.recordings, gallery.captions, run.profile, references)


def make_board(
    run: Run, galleries: Sequence[Gallery], table: Table | None = None
) -> list[Standing]:
    """Score galleries and set every system beside ours.

    Parameters
    ----------
    run : Run
    galleries : sequence of Gallery
        Ours among them, see `gallery_tables.run_gallery` and `gallery_tables.galleries_of`.
    table : Table, optional
        Holds further scores of the same systems, such as retrieval; theirs are added.

    Returns
    -------
    list of Standing
        For `ranks.write_leaderboard`.
    """
    table = new_table(run) if table is None else table
    corpora = score_gallery(run, together(galleries), table)
    table.add_all_subjects()
    return standings(table.rows, table.frame(), corpora, table.seed, table.resamples)
