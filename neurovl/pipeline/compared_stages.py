"""The stages of the comparison with published systems: what each needs, and which systems a profile compares."""

from collections.abc import Callable, Sequence

from neurovl import leaderboard
from neurovl.errors import ConfigError
from neurovl.run import Run

# In the order of `making.STAGES`: what takes longest first.
COMPARED: dict[str, Callable] = {
    "voxels": leaderboard.prepare_voxels,
    "features": leaderboard.prepare_features,
    "captioner": leaderboard.train_captioner,
    "search": leaderboard.search_system,
    "systems": leaderboard.fit,
    "retrained": leaderboard.retrain_system,
    "new-subject": leaderboard.adapt_system,
    "samples": leaderboard.sample_system,
    "board": leaderboard.rank_systems,
}
OF_A_SYSTEM = ("search", "systems", "retrained", "new-subject", "samples")


def can_be_compared(run: Run, stage: str) -> bool:
    """Whether a run's data allow a stage of the comparison."""
    return leaderboard.can_compare(run) and (run.has_captions or stage != "captioner")


def compared_systems(run: Run, systems: str | Sequence[str] | None = None) -> list[str]:
    """Ours, and the systems asked for, by default those of `leaderboard.systems` of the profile.

    Systems that need features which the data lack, such as words, are left out.
    """
    asked = run.profile.leaderboard.systems if systems is None else systems
    ours = leaderboard.ours_in(run)
    if isinstance(asked, str):
        asked = asked.split(",")
    others = leaderboard.chosen([one for one in asked if one.strip() not in ours])
    return [*ours, *(one for one in others if not leaderboard.lacking(run, one))]


def systems_of(run: Run, stage: str) -> list[str]:
    """The systems of the profile that have a stage."""
    names = compared_systems(run)
    return leaderboard.adapting_systems(run, names) if stage == "new-subject" else names


def require_system(run: Run, name: str, stage: str) -> None:
    """Refuse a name that is no system, or none with this stage."""
    if name not in leaderboard.ours_in(run):
        leaderboard.chosen([name])
    if stage == "new-subject" and not leaderboard.adapting_systems(run, [name]):
        known = leaderboard.adapting_systems(run, leaderboard.chosen("all"))
        raise ConfigError(
            f"the system {name} has no recipe for a new subject, expected one of {', '.join(known)}: choose one of them"
        )


def needs_of_compared(run: Run, stage: str, one: str = "") -> list[str]:
    """The stages that one of the comparison reads directly, of one system or of all that the profile compares."""
    words = ["captioner"] if run.has_captions else []
    systems = [one] if one else compared_systems(run)
    if stage in ("search", "retrained"):
        ours = [name for name in systems if name in leaderboard.ours_in(run)]
        own = ["tokens", "targets", "features"] if ours else []
        return own + (["voxels", "features", *words] if len(ours) < len(systems) else [])
    if stage == "new-subject":
        return ["tokens", "targets", "voxels", "features", *words]
    if stage == "systems":
        ours = [name for name in systems if name in leaderboard.ours_in(run)]
        found = [f"encoders/{leaderboard.ENCODERS[name]}" for name in ours]
        found += ["llm"] if run.has_captions and "neurovl" in ours else []
        return found + (["voxels", "features", *words] if len(ours) < len(systems) else [])
    if stage == "samples":
        return [*(f"systems/{name}" for name in systems), *words]
    if stage == "board":
        return ["features", *(f"samples/{name}" for name in systems)]
    return ["features"] if stage == "captioner" else []
