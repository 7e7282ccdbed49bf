"""A run begins: its profile, its data (simulated where none are given), its record."""

import os
import time
from dataclasses import asdict, replace
from pathlib import Path

from neurovl.errors import ConfigError
from neurovl.foundation.model_facts import with_random_weights
from neurovl.recordings import open_recordings
from neurovl.run import Run, find_run, open_run, write_record
from neurovl.settings.profile_files import load_profile
from neurovl.settings.sections import Profile, Simulation


def start_run(
    run: Path | str,
    profile: str | None = None,
    data: Path | str | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> Run:
    """Open a run folder; begin it where it is not there yet, or where it was begun with something else.

    Parameters
    ----------
    run : path
        The run folder.
    profile : str, optional
        Name or YAML file; by default that of the run, and for a new one what fits the data.
    data : path, optional
        NSD folder, Haxby folder or table; by default that of the run, and for a new one simulated NSD.
    seed, device : optional
        By default the profile's.

    Returns
    -------
    Run
        Its first fold. Stages that something else was begun for are done again when they are asked for.

    Examples
    --------
    >>> other = neurovl.start_run(folder / "run", profile="smoke", data=data.root, seed=1)
    >>> other.profile.name, other.profile.seed
    ('smoke', 1)
    """
    root = find_run(run)
    if not (root / "run.json").is_file():
        return start(data, root, load_profile(profile_for(data, profile), seed=seed, device=device))
    if profile is None and data is None and seed is None and device is None:
        return open_run(root)
    known = open_run(root)
    if profile is None:
        settings = known.profile.with_own(seed, device)
        return start(known.data_folder if data is None else data, root, settings)
    return start(data, root, load_profile(profile, seed=seed, device=device))


def world_of(profile: Profile) -> Simulation:
    """What a profile simulates, with the new subject where one is named.

    Raises
    ------
    ConfigError
        The profile is for other data.
    """
    world, new = profile.simulation, profile.adaptation.subject
    if world is None:
        raise ConfigError(
            f"no data were given, and profile {profile.name} simulates none, expected a data set or a profile that "
            "simulates one: give one with --data DIR or --profile"
        )
    added = () if new is None or new in world.subjects else (new,)
    return replace(world, subjects=(*world.subjects, *added))


def simulate_for(profile: Profile, beside: Path) -> Path:
    """The profile's simulated data folder; made where it is not there yet."""
    from neurovl.smallworld.subjects import simulate

    world = world_of(profile)
    subjects = "-".join(map(str, world.subjects))
    folder = (
        beside / f"simulated-nsd-{subjects}-s{world.sessions}-x{world.scale:g}-seed{profile.seed}"
    )
    return simulate(folder, **asdict(world), seed=profile.seed, n_jobs=os.cpu_count() or 1)


def profile_for(data: Path | str | None, profile: str | None) -> str:
    """Name of the profile: the one asked for, else the one that fits the data."""
    if profile is not None:
        return profile
    return "haxby" if data is not None and open_recordings(data).name == "haxby" else "demo"


def start(data: Path | str | None, out: Path | str, profile: Profile) -> Run:
    """Open the data (simulated where none are given) and record the run; `Run.all_folds` gives its folds."""
    out = Path(out)
    folder = Path(data) if data is not None else simulate_for(profile, out.parent / "data")
    wanted = profile.preprocessing
    if data is None and wanted.subjects is None:
        wanted = replace(wanted, subjects=profile.simulation.subjects)
        profile = replace(profile, preprocessing=wanted)
    run = Run(out, profile, folder)
    first = run.recordings
    facts = {
        "data": first.name,
        "simulated": first.simulated,
        "licence": first.licence,
        "terms": first.terms,
        "publish_images": first.publish_images,
        "folds": first.n_folds,
        "random_weights": with_random_weights(profile.models),
        "device": profile.compute.device,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    write_record(out, profile, os.path.relpath(folder, out), facts)
    run.folds = first.n_folds
    return run
