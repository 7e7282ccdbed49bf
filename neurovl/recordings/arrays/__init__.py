"""Arrays that people have already, opened, understood and converted to a table."""

from neurovl.recordings.arrays.arrays_to_table import ArraysChoice, convert_arrays
from neurovl.recordings.arrays.mindeye_to_table import convert_mindeye

__all__ = ["ArraysChoice", "convert_arrays", "convert_mindeye"]
