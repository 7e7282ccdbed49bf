"""What `neurovl search` chose for a run, on the disk."""

import json
from pathlib import Path

from neurovl.leaderboard.shared_inputs import PLACE
from neurovl.run import Run

CHOSEN = "chosen.json"


def search_place(name: str) -> str:
    """The stage of a system's search."""
    return f"{PLACE}/search/{name}"


def searched_settings(run: Run, name: str) -> dict:
    """The settings that the search chose for a system; none where there was no search."""
    path = run.folder / search_place(name) / CHOSEN
    return json.loads(path.read_text()) if path.is_file() else {}


def write_chosen(settings: dict, folder: Path) -> None:
    """Write what a search chose."""
    (folder / CHOSEN).write_text(json.dumps(settings, indent=1) + "\n")
