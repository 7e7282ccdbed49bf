"""What tells one foundation model from another: it is part of the key of every stage that loads the model."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from neurovl.errors import MissingError
from neurovl.foundation.source import alternatives, first_here, resolve

WHOLE = 64 * 2**20  # bytes; of larger files the name, size and both ends are taken
END = 2**20


def model_identity(spec: str | Sequence[str] | None, part: str) -> str:
    """A digest of the files of a model that is here, else what the profile calls it.

    Parameters
    ----------
    spec : str, sequence of str or None
        As in a profile's section `models`; None where the profile names none.
    part : str
        Which model: 'clip', 'unclip', 'llm', 'metric', 'captioner', 'detector', 'llms/NAME' for a further language model;
        'unclip/vae' is that folder of it alone.
    """
    if spec is None:
        return "none"
    member, _, below = part.partition("/")
    if member == "llms":
        member, below = "llm", ""
    try:
        folder = Path(first_here(spec, lambda one: resolve(one, member)))
    except MissingError:  # networks that torch keeps, or a model that loading will ask for
        return " or ".join(alternatives(spec))
    return _digest(folder / below if (folder / below).is_dir() else folder)


def _digest(folder: Path) -> str:
    digest = hashlib.sha256()
    parent = folder if folder.is_dir() else folder.parent  # a model may be one file
    for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
        if path.is_file() and path.suffix not in (".md", ".png") and path.name != "provenance.json":
            size = path.stat().st_size
            digest.update(f"{path.relative_to(parent).as_posix()}\n{size}\n".encode())
            with open(path, "rb") as file:
                digest.update(file.read(WHOLE if size <= WHOLE else END))
                if size > WHOLE:
                    file.seek(-END, 2)
                    digest.update(file.read())
    return digest.hexdigest()
