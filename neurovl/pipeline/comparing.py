"""Published systems set beside ours, and their hyperparameters chosen."""

from collections.abc import Sequence

from neurovl import leaderboard
from neurovl.pipeline.compared_stages import compared_systems
from neurovl.pipeline.making import make
from neurovl.run import Run


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
        Also what needs more trainings: RUN/leaderboard/controls.

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
        make(run, *(f"retrained/{name}" for name in again))
        leaderboard.run_controls(run, names)
    return names
