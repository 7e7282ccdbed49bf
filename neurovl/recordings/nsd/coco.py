"""COCO's captions and boxes of the pictures that NSD showed, out of one archive on COCO's server.

The archive comes over plain HTTP, as COCO's server has no certificate for its name: its md5 is known
and compared, and each file in it has a CRC, which is compared when it is unpacked. Only the captions
and instances of 2017 are kept.
"""

import logging
import shutil
import threading
import zipfile
import zlib
from functools import partial
from pathlib import Path

from neurovl.download.checksums import Manifest, examine
from neurovl.download.engine import AGAIN, Item, disk_errors
from neurovl.download.servers import Refused, Settings, Web, insist
from neurovl.errors import DataError, MissingError
from neurovl.files import replacing
from neurovl.recordings.nsd.stimuli import STIMULI

logger = logging.getLogger(__name__)

COCO = "http://images.cocodataset.org/annotations/annotations_trainval2017.zip"
MD5 = "f4bbac642086de4f52a3fdda2de5fa2c"  # of that archive, as other programs that use it have it
FILES = tuple(
    f"{kind}_{split}2017.json" for kind in ("captions", "instances") for split in ("train", "val")
)
UNPACKED = 3  # times the size of the archive, at most
FOLDER = STIMULI / "annotations"


def coco_items(
    url: str, root: Path, manifest: Manifest, verify: bool, settings: Settings
) -> list[Item]:
    """The archive, if not all that is taken from it is there as it was; nothing otherwise.

    Parameters
    ----------
    url : str
    root : Path
        NSD's folder.
    manifest : Manifest
    verify : bool
        Read again what is there.
    settings : Settings

    Raises
    ------
    MissingError
        If the server does not have it, or does not answer.
    """
    names = [(FOLDER / name).as_posix() for name in FILES]
    intact = all(manifest.unchanged(name, url) for name in names)
    if intact and verify:
        for name in names:
            path = root / name
            if examine(path, path.stat().st_size, "").sha256 != manifest.sha256(name, url):
                logger.warning("%s is broken: COCO's archive is fetched again", path)
                intact = False
    if intact:
        return []
    web = Web(settings)
    md5 = MD5 if url == COCO else ""
    try:
        remote = insist(partial(web.head, url, md5), url, settings, threading.Event())
    except (Refused, MissingError) as problem:
        raise MissingError(
            f"COCO's annotations cannot be had from {url} ({problem}); --no-annotations goes on "
            "without them"
        ) from problem
    return [Item(web, remote, (FOLDER / "annotations_trainval2017.zip").as_posix(), "COCO")]


def unpack_coco(item: Item, root: Path, manifest: Manifest) -> None:
    """Take the four files out of the archive, then remove it.

    Raises
    ------
    DataError
        If the archive is broken; it is removed.
    MissingError
        If the disk is full.
    """
    archive = root / item.name
    try:
        with disk_errors(root), zipfile.ZipFile(archive) as content:
            for name in FILES:
                target = archive.with_name(name)
                source = content.open(f"annotations/{name}")
                with source, replacing(target) as part, open(part, "wb") as file:
                    shutil.copyfileobj(source, file, 1 << 20)  # raises BadZipFile at a wrong CRC
                finding = examine(target, target.stat().st_size, "")
                manifest.record(
                    (FOLDER / name).as_posix(), item.remote.key, finding.sha256, checked=True
                )
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as problem:
        archive.unlink()
        manifest.forget(item.name)
        raise DataError(
            f"{archive} is not COCO's archive of annotations, or broken ({problem}): nothing of it "
            f"was kept; {AGAIN}"
        ) from problem
    archive.unlink()
    manifest.forget(item.name)
