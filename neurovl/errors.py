"""The errors that a user may meet; every message names the thing, what was expected, what came and the next step.

They are Python's own kinds as well, so that a caller who knows only those catches them. A `try` of this package that
catches ValueError or OSError and may meet one of these first lets it pass: `except NeurovlError: raise`.
"""


class NeurovlError(Exception):
    """Base of all errors that the command line reports in one sentence, without a traceback.

    Examples
    --------
    >>> try:
    ...     neurovl.open_run(folder)
    ... except neurovl.NeurovlError as problem:
    ...     print(type(problem).__name__)
    MissingError
    """


class DataError(NeurovlError, ValueError):
    """A data file, table or array is not what it should be.

    Examples
    --------
    >>> try:
    ...     neurovl.metrics.accuracy(["face"], [])
    ... except ValueError as problem:
    ...     print(type(problem).__name__)
    DataError
    """


class ConfigError(NeurovlError, ValueError):
    """A profile, a setting or an argument is not usable.

    Examples
    --------
    >>> try:
    ...     neurovl.load_profile("no such profile")
    ... except ValueError as problem:
    ...     print(type(problem).__name__)
    ConfigError
    """


class MissingError(NeurovlError, FileNotFoundError):
    """A file, a package or a model that is needed is not here.

    Examples
    --------
    >>> try:
    ...     neurovl.open_recordings(folder / "nothing")
    ... except FileNotFoundError as problem:
    ...     print(type(problem).__name__)
    MissingError
    """
