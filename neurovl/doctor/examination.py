"""Everything that a profile needs, looked at one after the other."""

from ..config import load_profile
from .findings import Finding


def examine(profile="demo", data=None, out=".") -> list[Finding]:
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
    from .data import examine_data
    from .heads import open_for
    from .machine import examine_machine
    from .models import examine_models
    from .packages import examine_java, examine_packages, examine_torchvision

    settings = load_profile(profile) if isinstance(profile, str) else profile
    found = examine_packages()
    loads = examine_torchvision()
    found += [loads, *examine_java()]
    found += examine_models(settings)
    found += examine_data(settings, data)
    if loads.ok:
        found += examine_machine(settings, open_for(settings, data), out)
    return found
