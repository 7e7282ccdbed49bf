"""Scores that take arrays and strings and know no network. May import errors alone.

`captions` is both a module and the function in it: the name here is the function.
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
    "ssim",
    "two_way",
    "two_way_chance",
]
