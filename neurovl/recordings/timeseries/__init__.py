"""Preprocessed BOLD time series of a BIDS data set, and single-trial betas from them as a table."""

from neurovl.recordings.timeseries.bold_to_table import estimate_betas
from neurovl.recordings.timeseries.choices import BetasChoice

__all__ = ["BetasChoice", "estimate_betas"]
