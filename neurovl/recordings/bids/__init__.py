"""BIDS derivatives with single-trial betas, found, understood and converted to a table."""

from neurovl.recordings.bids.bids_to_table import BidsChoice, convert_bids
from neurovl.recordings.bids.laion_to_table import convert_laion

__all__ = ["BidsChoice", "convert_bids", "convert_laion"]
