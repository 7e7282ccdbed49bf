"""Profiles: the settings of a run, read from YAML; nothing below here asks which world it is in."""

import dataclasses
import json
import types
import typing
from pathlib import Path

from neurovl.errors import ConfigError, MissingError
from neurovl.settings.sections import (
    Adaptation,
    Alignment,
    EncoderShape,
    Evaluation,
    Language,
    Localization,
    Models,
    Preprocessing,
    Profile,
    Reconstruction,
    Simulation,
)

PROFILES = Path(__file__).parent / "profiles"


_SECTIONS = {
    "simulation": Simulation,
    "preprocessing": Preprocessing,
    "models": Models,
    "encoder": EncoderShape,
    "alignment": Alignment,
    "language": Language,
    "reconstruction": Reconstruction,
    "localization": Localization,
    "evaluation": Evaluation,
    "adaptation": Adaptation,
}


def profile_names() -> list[str]:
    """Profiles that come with the package."""
    return sorted(p.stem for p in PROFILES.glob("*.yaml"))


def load_profile(name: str = "demo", **overrides) -> Profile:
    """A profile by name, or from a YAML file of your own.

    Parameters
    ----------
    name : str
        'smoke', 'demo', 'paper', 'haxby', or the path of a YAML file with the same keys.
    **overrides
        Top-level settings, e.g. ``seed=3``; None leaves the profile's value.

    Raises
    ------
    ConfigError
        An unknown profile, section or key, or a value of another kind than the default.
    """
    import yaml

    path = PROFILES / f"{name}.yaml"
    if not path.exists():
        path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"no profile {name!r}, expected one of {', '.join(profile_names())} or the path of a YAML file: "
            "give one of them with --profile"
        )
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"{path.name} is not YAML ({str(error).splitlines()[0]}), expected text such as 'seed: 3'; "
            "compare it with the profiles in the package"
        ) from error
    _require_known(content, Profile, path.name)
    return profile_from_dict(
        {"name": path.stem, **content, **{k: v for k, v in overrides.items() if v is not None}}
    )


def profile_from_dict(content: dict) -> Profile:
    """Build a profile from nested dicts; unknown keys and values of another kind are refused."""
    _require_known(content, Profile, "profile")
    values = {}
    for key, value in content.items():
        value = _tuples(value)
        if key in _SECTIONS and value is not None:
            _require_known(value, _SECTIONS[key], f"section {key}")
            value = {k: _tuples(v) for k, v in value.items()}
            _require_kinds(value, _SECTIONS[key], f"section {key}")
            value = _SECTIONS[key](**value)
        values[key] = value
    _require_kinds(values, Profile, "profile")
    return Profile(**values)


def _require_known(content, kind, where: str) -> None:
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


def _require_kinds(values: dict, section, where: str) -> None:
    hints = typing.get_type_hints(section)
    for key, value in values.items():
        if not _fits(value, hints[key]):
            raise ConfigError(
                f"{where} has {key} {json.dumps(value)}, expected {_words(hints[key])}; correct it in the profile"
            )


def _fits(value, kind) -> bool:
    """Whether a value is of the kind that a dataclass states; a whole number is a number, a bool is neither."""
    args = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(_fits(value, one) for one in args)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _words(kind) -> str:
    """The kind of a setting in words."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    args = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return " or ".join(_words(one) for one in args)
    if typing.get_origin(kind) is tuple:
        many = "" if args[-1] is Ellipsis else f"{len(args)} times "
        return f"a list of {many}({_words(args[0])})"
    if kind is types.NoneType:
        return "null"
    return names.get(kind, "a section of settings")


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def write_run(run: Path, profile: Profile, data_folder: str, facts: dict) -> None:
    """Record in RUN/run.json which profile and data a run was started with.

    Parameters
    ----------
    data_folder : str
        Folder of the data, relative to the run folder, so that no machine's path is stored.
    facts : dict
        What the book needs to know: data (its name), simulated, licence, terms, publish_images, device, commit, date.
    """
    if data_folder == ".":
        raise ConfigError(
            f"--out {run} is the data folder, expected a folder of its own for the run: choose another name"
        )
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigError(
            f"--out {run} cannot be a run folder ({problem.strerror}), expected a folder or a new name: choose another"
        ) from problem
    partial = run / ".run.json.partial"
    content = {
        "profile": profile.name,
        "seed": profile.seed,
        "settings": profile.to_dict(),
        "data_folder": data_folder,
        **facts,
    }
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(run / "run.json")


def read_run(run) -> dict:
    """Content of RUN/run.json, with the settings as a `Profile`.

    Raises
    ------
    MissingError
        The folder is not a run.
    """
    path = Path(run) / "run.json"
    if not path.exists():
        raise MissingError(
            f"{Path(run).name}/ is not a run folder (run.json is missing); make one: neurovl reproduce --out {Path(run).name}"
        )
    try:
        content = json.loads(path.read_text())
        settings, _, _ = (content[key] for key in ("settings", "folds", "data_folder"))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ConfigError(
            f"{Path(run).name}/run.json cannot be read ({type(problem).__name__}: {problem}), expected what neurovl "
            f"preprocess writes there: write it again with neurovl preprocess --data DIR --out {Path(run).name}"
        ) from problem
    return {**content, "settings": profile_from_dict(settings)}


def run_profile(run) -> Profile:
    """The profile that a run was started with."""
    return read_run(run)["settings"]
