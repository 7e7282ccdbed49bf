"""The Natural Scenes Dataset, real or simulated: its reader, design, files, regions and pictures."""

from neurovl.datasets.nsd.design import SESSIONS, TRIALS, last_session
from neurovl.datasets.nsd.files import BETAS, fetch_command, open_session
from neurovl.datasets.nsd.recordings import NSDRecordings

__all__ = [
    "BETAS", "SESSIONS", "TRIALS", "NSDRecordings", "fetch_command", "last_session", "open_session",
]  # fmt: skip
