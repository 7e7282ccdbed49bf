"""Published systems set beside ours, and their hyperparameters chosen."""

from collections.abc import Sequence

from neurovl import leaderboard
from neurovl.pipeline.compared_stages import compared_systems
from neurovl.pipeline.making import make
from neurovl.run import Run
from neurovl.stages import PROVENANCE


def search(run: Run, systems: str | Sequence[str] = "all") -> list[str]:
    """Choose the hyperparameters of systems on the tune pictures, see `leaderboard.search_system`.

    Returns
    -------
    list of str
        The systems.
    """
    names = compared_systems(run, systems)
    make(run, *(f"search/{name}" for name in names))
    leaderboard.write_search(run)
    return names


def compare(run: Run, systems: str | Sequence[str] = "all", controls: bool = False) -> list[str]:
    """Fit, paint, caption and score systems beside ours: RUN/leaderboard/board. What is up to date is left alone.

    Parameters
    ----------
    run : Run
    systems : str or sequence of str
        Names, 'linear' or 'all'.
    controls : bool
        Also what needs more trainings: RUN/leaderboard/controls, and the systems that have a recipe for it on the new subject
        that the profile names, RUN/leaderboard/new-subject, which results.csv takes in where it is there already.

    Returns
    -------
    list of str
        The systems, ours first.

    Examples
    --------
    >>> from neurovl.pipeline import compare
    >>> compare(run, "brain-diffuser")
    ['neurovl', 'brain-diffuser']
    """
    names = compared_systems(run, systems)
    make(run, *(f"samples/{name}" for name in names))
    leaderboard.rank_systems(run)
    if controls:
        again = leaderboard.embedding_systems(run, names)
        adapting = leaderboard.adapting_systems(run, again)
        make(
            run, *(f"retrained/{one}" for one in again), *(f"new-subject/{one}" for one in adapting)
        )
        leaderboard.run_controls(run, names)
        if (run.root / "results" / PROVENANCE).is_file() and leaderboard.new_subject_curves(run):
            make(run, "results")
    return names
