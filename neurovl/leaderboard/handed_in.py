"""Pictures and captions that somebody hands in: found by subject and image id, and checked against the run's test pictures."""

import logging
from collections.abc import Sequence
from pathlib import Path

from neurovl.errors import DataError, MissingError
from neurovl.leaderboard.brainhub import image_at, read_captions, subject_of
from neurovl.results import read_named

log = logging.getLogger(__name__)

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
SHOWN = 5  # names that an error lists


def read_pictures(
    folder: Path, subjects: list[str], numbers: Sequence[str] | None
) -> dict[str, dict[str, Path]]:
    """The file of each picture, by subject and image id."""
    if not folder.is_dir():
        raise MissingError(f"{folder} is no folder, expected one with a folder for each subject")
    found: dict[str, dict[str, Path]] = {}
    for own in sorted(path for path in folder.iterdir() if not path.name.startswith(".")):
        files = _files(own) if own.is_dir() else []
        if own.is_file() and own.suffix.lower() in ENDINGS:
            raise DataError(
                f"{folder} has the picture {own.name}, expected folders of subjects ({', '.join(subjects)}): put the pictures "
                "of each subject into one"
            )
        if not files or (own.name == "images" and numbers is not None):
            continue  # BrainHub's images/ is what was seen
        subject = subject_of(own.name, subjects, str(folder))
        if subject in found:
            raise DataError(f"{folder} has two folders of {subject}, expected one: take one away")
        found[subject] = {}
        for file in files:
            image_id = image_at(file.stem, numbers, str(own))
            if image_id in found[subject]:
                raise DataError(
                    f"{own} has picture {image_id} twice, expected one file of it: take one away"
                )
            found[subject][image_id] = file
    if not found:
        raise MissingError(
            f"{folder} has no folder with pictures ({', '.join(ENDINGS)}), expected one for each subject ({', '.join(subjects)})"
        )
    return found


def _files(folder: Path) -> list[Path]:
    there = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in there if path.suffix.lower() in ENDINGS]


def read_caption_files(
    path: Path, subjects: list[str], numbers: Sequence[str] | None
) -> dict[str, dict[str, str]]:
    """The caption of each picture, by subject and image id."""
    if not path.exists():
        raise MissingError(f"{path} is not there, expected captions: a .csv, or BrainHub's JSON")
    if path.suffix != ".csv":
        found = read_captions(path, subjects, numbers)
        if not found:
            raise MissingError(
                f"{path} has no captions, expected sub01_decoded_caption.json or sub01/fmricap.json"
            )
        return found
    table = read_named(path, ("subject", "image_id", "caption"))
    lacking = {"subject", "image_id", "caption"} - set(table.columns)
    if lacking:
        raise DataError(
            f"{path} has columns {', '.join(table.columns)}, expected subject, image_id and caption: name them so"
        )
    found = {}
    for row in table.itertuples():
        own = found.setdefault(subject_of(row.subject, subjects, str(path)), {})
        image_id = image_at(row.image_id, numbers, str(path))
        if image_id in own:
            raise DataError(
                f"{path} has two captions of picture {image_id} for {row.subject}, expected one: take one away"
            )
        own[image_id] = row.caption
    return found


def only_scored(
    made: dict[str, dict], where: str, tested: dict[str, list[str]], scored: dict[str, list[str]]
) -> None:
    """Leave out what the run does not score; refuse what is no test picture, and what lacks one."""
    for subject, own in made.items():
        unknown = sorted(set(own) - set(tested[subject]))
        if unknown:
            raise DataError(
                f"{where} has {_some(unknown)} for {subject}, expected its test pictures alone ({_some(tested[subject])}): name "
                "each by its image id, or say with --order which image id each number has"
            )
        missing = [i for i in scored[subject] if i not in own]
        if missing:
            raise MissingError(
                f"{where} lacks {_some(missing)} for {subject}, expected every picture that the leaderboard scores: add "
                f"{len(missing)}"
            )
        more = set(own) - set(scored[subject])
        for image_id in more:
            del own[image_id]
        if more:
            log.info(
                "%s: %d further test pictures are left out: the leaderboard scores %d",
                subject,
                len(more),
                len(own),
            )


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def require_picture(file: Path) -> None:
    from PIL import Image

    try:
        with Image.open(file) as image:
            image.load()
    except OSError as problem:
        raise DataError(f"{file} cannot be read as a picture ({problem}): save it again") from None
