"""The metric networks that a profile names: SceneNet in the small world, or the paper's."""

from collections.abc import Sequence
from pathlib import Path

from neurovl.foundation.metric_networks import Member, caption_member, paper_family
from neurovl.foundation.scenenet import load_scenenet
from neurovl.foundation.source import resolve


def metric_family(spec: str | Sequence[str] = "tiny", device: str = "auto") -> list[Member]:
    """The networks that score reconstructed pictures; each is loaded when it is needed.

    Parameters
    ----------
    spec : str
        'tiny' for SceneNet of the small world, 'paper' for the paper's networks with weights where torch and the hub
        keep them, or a folder: of a SceneNet, or of the paper's networks' weights.
    """
    home, small = _home(spec)
    if not small:
        return paper_family(home, device)
    scores = ("two_way_scenenet_early", "two_way_scenenet_late")
    return [Member("SceneNet", scores, lambda: load_scenenet(spec, device))]


def caption_network(spec: str | Sequence[str] = "tiny", device: str = "auto") -> Member | None:
    """The CLIP of CLIP-S where the paper's networks are named; the small world has none, as its CLIP is the target."""
    home, small = _home(spec)
    return None if small else caption_member(home, device)


def _home(spec: str | Sequence[str]) -> tuple[str | None, bool]:
    """Folder of the weights, None where torch and the hub keep them, and whether it is a SceneNet's."""
    if spec == "paper":
        return None, False
    folder = Path(resolve(spec, "metric"))
    return str(folder), (folder / "config.json").exists()
