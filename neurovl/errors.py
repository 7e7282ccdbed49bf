"""The errors that a user may meet; every message names the thing, what was expected, what came and the next step."""


class NeurovlError(Exception):
    """Base of all errors that the command line reports in one sentence, without a traceback."""


class DataError(NeurovlError):
    """A data file, table or array is not what it should be."""


class ConfigError(NeurovlError):
    """A profile, a setting or an argument is not usable."""


class MissingError(NeurovlError):
    """A file, a package or a model that is needed is not here."""
