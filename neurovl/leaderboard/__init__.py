"""Published systems beside ours under one protocol: fitted, painted, captioned, scored, ranked.

Imports evaluation, run and what lies below.
"""

from neurovl.baselines.registry import chosen
from neurovl.leaderboard.board import rank_systems
from neurovl.leaderboard.controls import embedding_systems, run_controls
from neurovl.leaderboard.fitting import fit_system, lacking
from neurovl.leaderboard.generating import sample_system
from neurovl.leaderboard.ours import ENCODERS, fit_ours, ours_in
from neurovl.leaderboard.retraining import retrain_system
from neurovl.leaderboard.searching import search_system, write_search
from neurovl.leaderboard.shared_inputs import (
    can_compare,
    prepare_features,
    prepare_voxels,
    train_captioner,
)
from neurovl.leaderboard.system_adaptation import adapt_system, adapting_systems, new_subject_curves
from neurovl.run import Run

__all__ = [
    "ENCODERS",
    "adapt_system",
    "adapting_systems",
    "can_compare",
    "chosen",
    "embedding_systems",
    "fit",
    "lacking",
    "new_subject_curves",
    "ours_in",
    "prepare_features",
    "prepare_voxels",
    "rank_systems",
    "retrain_system",
    "run_controls",
    "sample_system",
    "search_system",
    "train_captioner",
    "write_search",
]


def fit(run: Run, name: str) -> None:
    """RUN/leaderboard/systems/NAME: what a system says of the test pictures, ours or another."""
    (fit_ours if name in ENCODERS else fit_system)(run, name)
