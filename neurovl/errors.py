"""The errors that a user may meet; every message names the thing, what was expected, what came and the next step.

They are Python's own kinds as well, so that a caller who knows only those catches them. A `try` of this package that
catches ValueError or OSError and may meet one of these first lets it pass: `except NeurovlError: raise`.
"""


class NeurovlError(Exception):
    """Base of all errors that the command line reports in one sentence, without a traceback."""


class DataError(NeurovlError, ValueError):
    """A data file, table or array is not what it should be."""


class ConfigError(NeurovlError, ValueError):
    """A profile, a setting or an argument is not usable."""


class MissingError(NeurovlError, FileNotFoundError):
    """A file, a package or a model that is needed is not here."""
