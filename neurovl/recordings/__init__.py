"""Any data set behind one interface: readers, splits, reliability, converters, single-trial betas. Imports download and the ground."""

from neurovl.recordings.base import Recordings
from neurovl.recordings.opening import open_recordings, require_both_splits

__all__ = ["Recordings", "open_recordings", "require_both_splits"]
