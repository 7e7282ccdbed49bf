"""Systems by name: those of this package, and those that other packages register by the entry point `neurovl.decoders`."""

import importlib
from collections.abc import Sequence
from importlib.metadata import entry_points

from neurovl.baselines.decoder import Decoder
from neurovl.errors import ConfigError

GROUP = "neurovl.decoders"
# The paper's tables, in the order of publication.
BUILT_IN = {
    "mind-reader": "mind_reader:MindReader",
    "takagi": "takagi:Takagi",
    "brain-diffuser": "brain_diffuser:BrainDiffuser",
    "gu": "gu:Gu",
    "mindeye": "mindeye:MindEye",
    "unibrain": "unibrain:UniBrain",
    "braincap": "braincap:BrainCap",
    "dream": "dream:Dream",
    "onellm": "onellm:OneLLM",
    "mindbridge": "mindbridge:MindBridge",
    "umbrae": "umbrae:Umbrae",
}
LINEAR = ("takagi", "brain-diffuser", "unibrain", "braincap")  # part of `neurovl reproduce`


def names() -> list[str]:
    """All systems that can be compared."""
    return [*BUILT_IN, *(one.name for one in entry_points(group=GROUP))]


def find(name: str) -> type[Decoder]:
    """The class of a system.

    Raises
    ------
    ConfigError
        There is none of this name, or what is registered under it is no `Decoder`.

    Examples
    --------
    >>> from neurovl.baselines.registry import find
    >>> find("brain-diffuser").__name__
    'BrainDiffuser'
    """
    if name in BUILT_IN:
        module, _, kind = BUILT_IN[name].partition(":")
        return getattr(importlib.import_module(f"neurovl.baselines.{module}"), kind)
    for one in entry_points(group=GROUP):
        if one.name == name:
            found = one.load()
            if not (isinstance(found, type) and issubclass(found, Decoder)):
                raise ConfigError(
                    f"the entry point {name} gives {found!r}, expected a subclass of neurovl.baselines.decoder.Decoder: "
                    "correct the package that registers it"
                )
            return found
    raise ConfigError(
        f"there is no system {name!r}, expected one of {', '.join(names())}: choose one, or install the package that "
        f"registers it ({GROUP})"
    )


def chosen(systems: str | Sequence[str]) -> list[str]:
    """Names of systems from 'all', 'linear' or names between commas; each is checked."""
    if isinstance(systems, str):
        systems = systems.split(",")
    several = {"all": names(), "linear": list(LINEAR)}
    found = [one for name in systems for one in several.get(name.strip(), [name.strip()])]
    for name in found:
        find(name)
    return list(dict.fromkeys(found))
