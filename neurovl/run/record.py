"""RUN/run.json: which profile and data a run was started with."""

import json
from pathlib import Path

from neurovl.errors import ConfigError, MissingError
from neurovl.files import replacing
from neurovl.settings.profile_files import profile_from_dict
from neurovl.settings.sections import Profile

FORMAT = 2  # of a run folder: 2 has a column `condition` in its tables


def write_record(run: Path, profile: Profile, data_folder: str, facts: dict) -> None:
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
    content = {
        "format": FORMAT,
        "profile": profile.name,
        "seed": profile.seed,
        "settings": profile.to_dict(),
        "data_folder": data_folder,
        **facts,
    }
    with replacing(run / "run.json") as part:
        part.write_text(json.dumps(content, indent=1))


def read_record(run: Path | str) -> dict:
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
    if content.get("format") != FORMAT:
        raise ConfigError(
            f"{Path(run).name}/ was made by another version of neurovl (its run.json has format {content.get('format')}, "
            f"expected {FORMAT}); make the run again in a new folder: neurovl reproduce --out FOLDER"
        )
    return {**content, "settings": profile_from_dict(settings)}
