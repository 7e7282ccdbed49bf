"""Everything that a profile needs, looked at one after the other."""

from pathlib import Path
from typing import TYPE_CHECKING

from neurovl.doctor.findings import Finding
from neurovl.settings.profile_files import load_profile

if TYPE_CHECKING:
    from neurovl.settings.sections import Profile


def examine(
    profile: "str | Profile" = "demo", data: str | Path | None = None, out: str | Path = "."
) -> list[Finding]:
    """Look for everything that a profile needs.

    Parameters
    ----------
    profile : str or Profile
        Name, YAML file, or a profile that was read.
    data : path, optional
        The data folder that would be used.
    out : path
        Where a run would lie.

    Raises
    ------
    ConfigError
        An unknown profile.
    """
    from neurovl.doctor.data_files import examine_data
    from neurovl.doctor.heads import open_for
    from neurovl.doctor.machine import examine_machine
    from neurovl.doctor.model_files import examine_models
    from neurovl.doctor.packages import examine_java, examine_packages, examine_torchvision

    settings = load_profile(profile) if isinstance(profile, str) else profile
    found = examine_packages()
    loads = examine_torchvision()
    found += [loads, *examine_java()]
    found += examine_models(settings)
    found += examine_data(settings, data)
    if loads.ok:
        found += examine_machine(settings, open_for(settings, data), out)
    return found
