"""BrainHub's layout (Xia et al. 2024, github.com/weihaox/BrainHub): captions and pictures by their number in one order.

There captions of a subject are one JSON object, number to caption, in ``sub01_decoded_caption.json`` or
``sub01_.../fmricap.json``; the test pictures lie as ``0.png``, ``1.png``, ...; a number is a place in the order of the test
pictures, which the files do not say.
"""

import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from neurovl.errors import ConfigError, DataError
from neurovl.leaderboard.gallery_tables import Gallery
from neurovl.recordings import Recordings
from neurovl.recordings.base import find_subject

FOLDER = re.compile(r"subj?-?0*(\d+)(_.*)?")
CAPTIONS = re.compile(r"(sub\d+)_decoded_caption\.json")


def subject_of(name: str, subjects: list[str], where: str) -> str:
    """The subject that a folder is named after: ``subj01``, or as BrainHub writes it ``sub01`` or ``sub01_dim1024``.

    Raises
    ------
    DataError
        It is none of `subjects`.
    """
    written = FOLDER.fullmatch(name)
    return find_subject(name if name in subjects or not written else written[1], subjects, where)


def read_order(path: Path, known: set[str]) -> list[str]:
    """The image id of each number, one a line, from number 0.

    Parameters
    ----------
    path : Path
        A text file.
    known : set of str
        The test pictures of all subjects.

    Raises
    ------
    DataError
        A line names no test picture, or one is there twice.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file, expected the image id of each number, one a line")
    ids = path.read_text(encoding="utf-8").split()
    wrong = [i for i in ids if i not in known]
    if wrong or len(set(ids)) < len(ids) or not ids:
        what = (
            f"names {wrong[0]}, which is no test picture"
            if wrong
            else f"has {len(ids) - len(set(ids))} pictures twice"
            if ids
            else "is empty"
        )
        raise DataError(
            f"{path} {what}, expected the image id of each number, one a line: number 0 first"
        )
    return ids


def export_brainhub(
    recordings: Recordings,
    gallery: Gallery,
    system: str,
    out: Path,
    protocol: str = "average",
    condition: str = "",
) -> Path:
    """Write a system's pictures and captions as BrainHub's programs read them.

    ``out`` receives for each subject ``sub01/0.png``, ... and ``sub01/fmricap.json``; besides ``images/`` (what was seen),
    ``fmri_cococap.json`` (the true captions) and ``order.txt`` (the image id of each number). BrainHub's ``eval_caption.py
    sub01/fmricap.json images --references_json fmri_cococap.json`` runs on it.

    Parameters
    ----------
    recordings : Recordings
    gallery : Gallery
    system, protocol, condition : str
        Whose rows.
    out : Path
        A new folder; what was seen lies in it, so the terms of the recordings hold for it.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    ConfigError, DataError
        There is no such system; its subjects saw different test pictures, which one order cannot say; `out` is there.
    """
    samples, captions = (
        table[
            (table.system == system) & (table.protocol == protocol) & (table.condition == condition)
        ]
        for table in (gallery.samples, gallery.captions)
    )
    if not len(samples) + len(captions):
        there = sorted({*gallery.samples.system, *gallery.captions.system})
        raise ConfigError(
            f"{system} has no pictures or captions from {protocol} trials, expected one of {', '.join(there) or '(none)'}: "
            "choose another with --system"
        )
    if out.exists():
        raise DataError(f"{out} is there, expected a new folder: choose another with --out")
    for table, what in ((samples, "pictures"), (captions, "captions")):
        sets = {frozenset(own) for _, own in table.groupby("subject").image_id}
        if len(sets) > 1:
            raise DataError(
                f"subjects of {system} have {what} of different test pictures, expected the same: BrainHub has one order for "
                "all subjects"
            )
    order = sorted({*samples.image_id, *captions.image_id})
    number = {image_id: k for k, image_id in enumerate(order)}
    part = out.with_name(f".part-{os.getpid()}-{out.name}")
    try:
        (part / "images").mkdir(parents=True)
        (part / "order.txt").write_text("\n".join(order) + "\n", encoding="utf-8")
        seen = sorted({*(captions if len(captions) else samples).image_id})
        for image_id in seen:
            recordings.image(image_id).save(part / "images" / f"{number[image_id]}.png")
        true = {str(number[i]): recordings.captions(i) for i in seen}
        _write(part / "fmri_cococap.json", true)
        for row in samples.itertuples():
            folder = part / brainhub_name(row.subject)
            folder.mkdir(exist_ok=True)
            _save(gallery.folder / row.file, folder / f"{number[row.image_id]}.png")
        for subject, own in captions.groupby("subject"):
            said = {str(number[r.image_id]): r.caption for r in own.itertuples()}
            (part / brainhub_name(subject)).mkdir(exist_ok=True)
            _write(part / brainhub_name(subject) / "fmricap.json", said)
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return out


def brainhub_name(subject: str) -> str:
    """``sub01`` of ``subj01``; a subject that NSD does not name so keeps its name."""
    return subject.replace("subj", "sub", 1) if re.fullmatch(r"subj\d+", subject) else subject


def read_captions(path: Path, subjects: list[str], order: Sequence[str] | None) -> dict:
    """Captions of BrainHub's JSON files: subject to image id to caption.

    Parameters
    ----------
    path : Path
        One JSON file, or the folder that holds those of all subjects.
    subjects : list of str
    order : sequence of str, optional
        The image id of each number; without it the keys are image ids.

    Raises
    ------
    DataError
        A file does not name its subject, or is no object of captions; a key is no number of the order.
    """
    files = (
        [path]
        if path.is_file()
        else sorted([*path.glob("*_decoded_caption.json"), *path.glob("*/fmricap.json")])
    )
    found: dict[str, dict[str, str]] = {}
    for file in files:
        named = CAPTIONS.fullmatch(file.name)
        subject = subject_of(named[1] if named else file.parent.name, subjects, str(file))
        if subject in found:
            raise DataError(
                f"{path} has captions of {subject} twice, expected one file: take one away"
            )
        try:
            said = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as problem:
            raise DataError(f"{file} is no JSON ({problem}): write it again") from None
        if not isinstance(said, dict) or not all(isinstance(text, str) for text in said.values()):
            raise DataError(
                f'{file} is no object of captions, expected {{"0": "a dog", ...}}: write it so'
            )
        found[subject] = {image_at(key, order, str(file)): text for key, text in said.items()}
    return found


def image_at(name: str, order: Sequence[str] | None, where: str) -> str:
    """The image id of a number in an order; without an order the name is the image id."""
    if order is None:
        return name
    if not name.isdecimal() or int(name) >= len(order):
        raise DataError(
            f"{where} has {name!r}, expected a number from 0 to {len(order) - 1}: the order has so many pictures"
        )
    return order[int(name)]


def _write(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _save(source: Path, path: Path) -> None:
    from PIL import Image

    if source.suffix == ".png":
        shutil.copyfile(source, path)
        return
    with Image.open(source) as image:
        image.convert("RGB").save(path)
