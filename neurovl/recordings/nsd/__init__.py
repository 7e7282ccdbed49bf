"""The Natural Scenes Dataset, real or simulated: its reader, design, files, regions and pictures."""

from neurovl.recordings.nsd.design import SESSIONS, TRIALS, last_session
from neurovl.recordings.nsd.nsd_files import BETAS, fetch_command, open_session
from neurovl.recordings.nsd.nsd_folder import NSDRecordings

__all__ = [
    "BETAS",
    "SESSIONS",
    "TRIALS",
    "NSDRecordings",
    "fetch_command",
    "last_session",
    "open_session",
]
