"""Refusals of single values, for the sections of a profile."""

from neurovl.errors import ConfigError

PRECISIONS = ("bf16", "no", "auto")


def require(name: str, wanted: str, values: tuple[str, ...]) -> None:
    """Refuse a list of values in which one is missing that must be there."""
    if wanted not in values:
        raise ConfigError(
            f"{name} lacks {wanted!r}, which the others are compared with; add it to the profile"
        )


def require_one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a value that is not one of those known."""
    if value not in known:
        raise ConfigError(
            f"{name} is {value!r}, expected one of {', '.join(known)}; correct it in the profile"
        )
