"""Pictures and captions that others made of a run's test pictures, taken in and scored without their code.

They lie in RUN/leaderboard/outside/NAME: a gallery as that of any system, and its scores.
"""

import hashlib
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from neurovl.baselines import registry
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.evaluation.embeddings import chosen_images
from neurovl.evaluation.score_table import Table
from neurovl.evaluation.text_scores import true_captions
from neurovl.leaderboard.brainhub import read_order
from neurovl.leaderboard.caption_board import score_gallery_captions
from neurovl.leaderboard.gallery_tables import Gallery, read_gallery, write_gallery
from neurovl.leaderboard.handed_in import (
    only_scored,
    read_caption_files,
    read_pictures,
    require_picture,
)
from neurovl.leaderboard.ours import ENCODERS
from neurovl.leaderboard.picture_board import score_gallery_pictures
from neurovl.leaderboard.ranks import NO_DECODERS
from neurovl.leaderboard.shared_inputs import PLACE
from neurovl.results import Row, write_results
from neurovl.run import Run

OUTSIDE = f"{PLACE}/outside"


@dataclass(frozen=True)
class Outside:
    """What another system made, as the leaderboard takes it.

    Attributes
    ----------
    folder : Path
        RUN/leaderboard/outside/NAME.
    key : str
        Changes when a picture or a caption does.
    gallery : Gallery
    """

    folder: Path
    key: str
    gallery: Gallery


def outside_galleries(run: Run) -> list[Outside]:
    """Everything that `score_outside` took in, in order of name."""
    folders = sorted(path for path in (run.folder / OUTSIDE).glob("*/") if path.name[0] != ".")
    found = [(folder, read_gallery(folder)) for folder in folders]
    return [Outside(folder, _content(gallery), gallery) for folder, gallery in found]


def _content(gallery: Gallery) -> str:
    known = hashlib.sha256()
    for table in (gallery.samples, gallery.captions):
        known.update(table.to_csv(index=False).encode())
    for file in gallery.samples.file:
        known.update((gallery.folder / file).read_bytes())
    return known.hexdigest()


def score_outside(
    run: Run,
    name: str,
    pictures: Path | None = None,
    captions: Path | None = None,
    protocol: str = "average",
    order: Path | None = None,
) -> list[Row]:
    """Take in what another system made of the test pictures, and score it.

    Every picture that the leaderboard scores must be there, for each subject that has a folder; further test pictures are
    left out, so that all systems are scored on the same ones.

    Parameters
    ----------
    run : Run
    name : str
        The system's name in tables.
    pictures : Path, optional
        Folder of one folder a subject (``subj01``, or ``sub01`` as BrainHub writes), with one picture a test picture, named by
        its image id, of any size, as .png, .jpg or .webp.
    captions : Path, optional
        A table .csv with the columns subject, image_id, caption; or BrainHub's JSON, see `brainhub.read_captions`.
    protocol : str
        'average' or 'single': whether they were made from averages over repeats or from single trials.
    order : Path, optional
        Names of pictures and keys of JSON are numbers from 0, and this file says the image id of each. Nothing is guessed
        about an order: without this file names are image ids.

    Returns
    -------
    list of Row
        The scores, also in RUN/leaderboard/outside/NAME/results.csv, the scores of each picture in per_image.csv.

    Raises
    ------
    ConfigError
        The name is taken, or no name; neither pictures nor captions are given.
    DataError, MissingError
        A subject or a picture is not one of the run's test, one is missing, or a file cannot be read as a picture.
    """
    gallery = take_in(run, name, pictures, captions, protocol, order)
    p, data = run.profile, run.recordings
    table = Table(data.name, data.split_name, p.seed, p.evaluation.bootstrap)
    score_gallery_pictures(table, run, gallery)
    if len(gallery.captions):
        true = true_captions(run, gallery.captions.image_id.unique())
        score_gallery_captions(table, data, gallery.captions, p, true)
    table.add_all_subjects()
    table.frame().to_csv(gallery.folder / "per_image.csv", index=False)
    write_results(table.rows, gallery.folder / "results.csv")
    return table.rows


def take_in(
    run: Run,
    name: str,
    pictures: Path | None,
    captions: Path | None,
    protocol: str,
    order: Path | None,
) -> Gallery:
    """Check what another system made and copy it to RUN/leaderboard/outside/NAME; see `score_outside`."""
    _require_name(name)
    if pictures is None and captions is None:
        raise ConfigError(f"nothing of {name} is given: name --pictures or --captions")
    subjects = run.store.tested
    tested = {subject: run.test_images(subject) for subject in subjects}
    numbers = (
        None if order is None else read_order(order, {i for ids in tested.values() for i in ids})
    )
    made = {} if pictures is None else read_pictures(pictures, subjects, numbers)
    said = {} if captions is None else read_caption_files(captions, subjects, numbers)
    n, seed = run.profile.leaderboard.images, run.profile.seed
    scored = {subject: chosen_images(ids, n, seed) for subject, ids in tested.items()}
    only_scored(made, str(pictures), tested, scored)
    only_scored(said, str(captions), tested, scored)
    for files in made.values():
        for file in files.values():
            require_picture(file)
    folder = run.folder / OUTSIDE / name
    samples, texts = _before(folder, protocol)
    place = {"system": name, "condition": "", "protocol": protocol}
    for subject, files in made.items():
        into = folder / "pictures" / protocol / subject
        into.mkdir(parents=True, exist_ok=True)
        for image_id, file in files.items():
            copy = into / f"{image_id}{file.suffix.lower()}"
            shutil.copyfile(file, copy)
            file_name = copy.relative_to(folder).as_posix()
            samples.append(place | {"subject": subject, "image_id": image_id, "file": file_name})
    for subject, own in said.items():
        texts += [place | {"subject": subject, "image_id": i, "caption": t} for i, t in own.items()]
    return write_gallery(folder, samples, texts)


def _require_name(name: str) -> None:
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
        raise ConfigError(
            f"--name is {name!r}, expected letters, digits, dots, dashes and underscores: choose one such as my-decoder"
        )
    if name in (*ENCODERS, *NO_DECODERS, *registry.names()):
        raise ConfigError(
            f"--name is {name!r}, which is another system's: choose a name of its own"
        )


def _before(folder: Path, protocol: str) -> tuple[list[dict], list[dict]]:
    """Rows of a system that are there already, of the other protocol."""
    try:
        before = read_gallery(folder)
    except MissingError:
        return [], []
    if protocol in {*before.samples.protocol, *before.captions.protocol}:
        raise DataError(
            f"{folder} has {folder.name} with protocol {protocol} already, expected a new system: choose another --name, or "
            "take the folder away"
        )
    return before.samples.to_dict("records"), before.captions.to_dict("records")
