"""Figures of the notebooks: matplotlib figures from recordings and from the tables of a run.

Each returns a closed figure with a transparent background. Nothing is computed here that a table does not hold.
Imports `run` and the rooms below whose arrays it draws; computes nothing.
"""

from neurovl.figures.board_tables import (
    leaderboard_table,
    not_compared,
    share_of_ceiling,
    systems_table,
)
from neurovl.figures.brain_views import brain_view
from neurovl.figures.checked_answers import ASSERTED, checked_answers, extreme_descriptions
from neurovl.figures.cited_numbers import printed_numbers
from neurovl.figures.confidence_curves import SILENCE, coverage_curves
from neurovl.figures.control_plots import CONTROLS, control_curves, control_plot, novelty_plot
from neurovl.figures.cortex import cortex
from neurovl.figures.head_regions import (
    importance_cortex,
    importance_slices,
    importance_view,
    region_importance,
)
from neurovl.figures.inputs import (
    ceiling_histogram,
    ceiling_map,
    contact_sheet,
    cut,
    patches,
    resize,
    seen,
    session,
    splits,
    tokens,
)
from neurovl.figures.learning_curve import adaptation_curve
from neurovl.figures.page_tables import (
    absent,
    example_dialogues,
    real_brains,
    retrieval_beside_peers,
    run_beside,
    show_table,
)
from neurovl.figures.paper_tables import paper_table
from neurovl.figures.rank_plots import difference_plot, rank_plot
from neurovl.figures.reconstructions import (
    grid,
    painted_again,
    picture_wall,
    seen_and_made,
    similarity,
)
from neurovl.figures.region_speech import region_speech
from neurovl.figures.search_plots import search_plot, search_table
from neurovl.figures.silenced_voxels import dose_curves
from neurovl.figures.slices import heat_slices, hottest_slice, roi_heat, truth_and_zeroing
from neurovl.figures.system_cards import cards
from neurovl.figures.systems import (
    CAPTION_SCORES,
    PICTURE_SCORES,
    SYSTEMS,
    beta_curves,
    beta_rows,
    by_category,
    claims,
    in_order,
    language_curve,
    scores,
    training_curves,
)

__all__ = [
    "ASSERTED",
    "CAPTION_SCORES",
    "CONTROLS",
    "PICTURE_SCORES",
    "SYSTEMS",
    "absent",
    "adaptation_curve",
    "beta_curves",
    "beta_rows",
    "brain_view",
    "by_category",
    "cards",
    "ceiling_histogram",
    "ceiling_map",
    "SILENCE",
    "checked_answers",
    "coverage_curves",
    "claims",
    "contact_sheet",
    "control_curves",
    "control_plot",
    "cortex",
    "cut",
    "difference_plot",
    "dose_curves",
    "example_dialogues",
    "extreme_descriptions",
    "grid",
    "heat_slices",
    "hottest_slice",
    "importance_cortex",
    "importance_slices",
    "importance_view",
    "in_order",
    "language_curve",
    "leaderboard_table",
    "not_compared",
    "novelty_plot",
    "painted_again",
    "paper_table",
    "patches",
    "picture_wall",
    "printed_numbers",
    "rank_plot",
    "real_brains",
    "region_importance",
    "resize",
    "retrieval_beside_peers",
    "region_speech",
    "roi_heat",
    "run_beside",
    "scores",
    "search_plot",
    "search_table",
    "seen",
    "seen_and_made",
    "session",
    "share_of_ceiling",
    "show_table",
    "similarity",
    "splits",
    "systems_table",
    "tokens",
    "training_curves",
    "truth_and_zeroing",
]
