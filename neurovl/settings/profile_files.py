"""Profiles: the settings of a run, read from YAML; nothing below here asks which world it is in."""

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from neurovl.errors import ConfigError
from neurovl.settings.sections import (
    Adaptation,
    Alignment,
    Compute,
    EncoderShape,
    Evaluation,
    Language,
    Leaderboard,
    Localization,
    Lora,
    Models,
    Preprocessing,
    Profile,
    Reconstruction,
    Simulation,
)

PROFILES = Path(__file__).parent / "profiles"


_SECTIONS = {
    "compute": Compute,
    "simulation": Simulation,
    "preprocessing": Preprocessing,
    "models": Models,
    "encoder": EncoderShape,
    "alignment": Alignment,
    "language": Language,
    "lora": Lora,
    "reconstruction": Reconstruction,
    "localization": Localization,
    "evaluation": Evaluation,
    "adaptation": Adaptation,
    "leaderboard": Leaderboard,
}


def profile_names() -> list[str]:
    """Profiles that come with the package."""
    return sorted(p.stem for p in PROFILES.glob("*.yaml"))


def load_profile(
    name: str = "demo", *, seed: int | None = None, device: str | None = None
) -> Profile:
    """A profile by name, or from a YAML file of your own.

    Parameters
    ----------
    name : str
        'smoke', 'demo', 'paper', 'paper-24gb', 'haxby', or the path of a YAML file with the same keys. There `base` may
        name another profile, of which all is taken that the file does not set.
    seed, device : optional
        Instead of the profile's own.

    Raises
    ------
    ConfigError
        An unknown profile, section or key, or a value of another kind than the default.

    Examples
    --------
    >>> profile = neurovl.load_profile("smoke", seed=3)
    >>> profile.seed, profile.encoder.width
    (3, 64)
    """
    path = _find(name)
    return profile_from_dict({"name": path.stem, **_content(path)}).with_own(seed, device)


def _find(name: str) -> Path:
    own = PROFILES / f"{name}.yaml"
    path = own if own.exists() else Path(name)
    if not path.is_file():
        raise ConfigError(
            f"no profile {name!r}, expected one of {', '.join(profile_names())} or the path of a YAML file: "
            "give one of them with --profile"
        )
    return path


def _content(path: Path, above: tuple[Path, ...] = ()) -> dict:
    """What a file sets, section by section over what its `base` sets."""
    import yaml

    if path in above:
        raise ConfigError(
            f"{path.name} rests on itself by way of its base, expected another profile; correct base"
        )
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"{path.name} is not YAML ({str(error).splitlines()[0]}), expected text such as 'seed: 3'; "
            "compare it with the profiles in the package"
        ) from error
    base = content.pop("base", None) if isinstance(content, dict) else None
    _require_known(content, Profile, path.name)
    if base is None:
        return content
    whole = _content(_find(str(base)), (*above, path))
    for key, value in content.items():
        both = isinstance(value, dict) and isinstance(whole.get(key), dict)
        whole[key] = {**whole[key], **value} if both else value
    return whole


def profile_from_dict(content: dict) -> Profile:
    """Build a profile from nested dicts; unknown keys and values of another kind are refused."""
    _require_known(content, Profile, "profile")
    values = {}
    for key, value in content.items():
        value = _tuples(value)
        if key in _SECTIONS and value is not None:
            _require_known(value, _SECTIONS[key], f"section {key}")
            _require_kinds(value, _SECTIONS[key], f"section {key}")
            value = _SECTIONS[key](**value)
        values[key] = value
    _require_kinds(values, Profile, "profile")
    return Profile(**values)


def _require_known(content: object, kind: type, where: str) -> None:
    known = [f.name for f in dataclasses.fields(kind)]
    if not isinstance(content, dict):
        raise ConfigError(
            f"{where} is {content!r}, expected a setting a line: write KEY: VALUE, with keys among "
            f"{', '.join(known)}"
        )
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ConfigError(
            f"{where} has an unknown key {unknown[0]!r}, expected one of {', '.join(known)}; check the spelling"
        )


def _require_kinds(values: dict, section: type, where: str) -> None:
    hints = typing.get_type_hints(section)
    for key, value in values.items():
        if not _fits(value, hints[key]):
            raise ConfigError(
                f"{where} has {key} {json.dumps(value)}, expected {_words(hints[key])}; correct it in the profile"
            )


def _fits(value: object, kind: Any) -> bool:
    """Whether a value is of the kind that a dataclass states; a whole number is a number, a bool is neither."""
    args = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(_fits(value, one) for one in args)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if typing.get_origin(kind) is dict:
        named = isinstance(value, dict) and all(isinstance(key, str) for key in value)
        return named and all(_fits(one, args[1]) for one in value.values())
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _words(kind: Any) -> str:
    """The kind of a setting in words."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    args = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return " or ".join(_words(one) for one in args)
    if typing.get_origin(kind) is tuple:
        many = "" if args[-1] is Ellipsis else f"{len(args)} times "
        return f"a list of {many}({_words(args[0])})"
    if typing.get_origin(kind) is dict:
        return f"names, each with {_words(args[1])}"
    if kind is types.NoneType:
        return "null"
    return names.get(kind, "a section of settings")


def _tuples(value: object) -> object:
    if isinstance(value, dict):
        return {key: _tuples(one) for key, one in value.items()}
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
