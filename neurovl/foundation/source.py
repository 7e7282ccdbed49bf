"""Where a foundation model comes from: the tiny family in the package, a local folder, or a hub id."""

from pathlib import Path

from ..errors import MissingError

TINY = Path(__file__).parent / "tiny"


def resolve(spec: str, part: str) -> str:
    """Path or hub id of a model.

    Parameters
    ----------
    spec : str
        'tiny' (shipped with the package), the path of a folder, or a hub id as 'organisation/name'.
    part : str
        Which member of the tiny family: 'clip', 'unclip', 'llm' or 'metric'.

    Returns
    -------
    str
        An existing folder, or the hub id unchanged.

    Raises
    ------
    MissingError
        A folder that is not there.
    """
    folder = TINY / part if spec == "tiny" else Path(spec)
    if folder.is_dir():
        return str(folder)
    if spec == "tiny":
        raise MissingError(
            f"the tiny {part} model is not in the package (expected {part}/ in foundation/tiny); "
            "install neurovl again or make it: neurovl foundation train --out DIR"
        )
    looks_local = spec.startswith((".", "/", "~")) or spec.count("/") > 1
    if looks_local:
        raise MissingError(
            f"no {part} model at {spec}: expected a folder in the hub's format; give its path or a hub id"
        )
    return spec


def load_or_explain(load, spec: str, part: str):
    """Call a hub loader; a model that cannot be had becomes one sentence with the command that fetches it."""
    _silence()
    try:
        return load()
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise MissingError(
            f"the {part} model {spec} could not be loaded ({first[:160]}); "
            f"fetch it with `hf download {spec}` or name a local folder in the profile"
        ) from error


def _silence() -> None:
    """The libraries' progress bars and notes on cut prompts would stand in logs and notebooks."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
