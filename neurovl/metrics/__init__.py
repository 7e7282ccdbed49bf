"""Scores that take arrays and strings and know no network. May import errors alone.

`captions` and `retrieval` are both modules and the functions in them: the names here are the functions.
"""

from neurovl.metrics.captions import CaptionScore, caption_corpora, captions
from neurovl.metrics.images import Likeness, pixcorr, ssim
from neurovl.metrics.protocol import (
    Interval,
    accuracy,
    bootstrap,
    bootstrap_corpus,
    correlation_distance,
    nearest_label,
    two_way,
    two_way_chance,
)
from neurovl.metrics.retrieval import retrieval, retrieval_rank

__all__ = [
    "CaptionScore",
    "Interval",
    "Likeness",
    "accuracy",
    "bootstrap",
    "bootstrap_corpus",
    "caption_corpora",
    "captions",
    "correlation_distance",
    "nearest_label",
    "pixcorr",
    "retrieval",
    "retrieval_rank",
    "ssim",
    "two_way",
    "two_way_chance",
]
