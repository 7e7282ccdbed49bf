"""The pictures of NSD-Imagery by their cues, and which of them are NSD's own."""

import re

TARGETS = {  # cue to picture, set by set
    "simple": {
        "H": "bar_000.0deg_450L_43W",
        "R": "bar_045.0deg_450L_43W",
        "V": "bar_090.0deg_450L_43W",
        "L": "bar_135.0deg_450L_43W",
        "P": "crs_000.0deg_450L_43W",
        "E": "crs_045.0deg_450L_43W",
    },
    "complex": {
        "W": "shared0385_nsd28752",
        "K": "shared0413_nsd30857",
        "B": "shared0741_nsd53882",
        "C": "shared0842_nsd61178",
        "D": "shared0907_nsd65873",
        "T": "shared0000_nsd00000",
    },
}


def nsd_number(image_id: str) -> str | None:
    """The nsdId of a picture that is one of NSD's own, as text; None of another.

    Examples
    --------
    >>> from neurovl.recordings.nsd.imagery_pictures import nsd_number
    >>> nsd_number("shared0385_nsd28752"), nsd_number("shared0000_nsd00000")
    ('28752', None)
    """
    found = re.fullmatch(r"shared(\d{4})_nsd(\d{5})", image_id)
    return str(int(found[2])) if found and int(found[1]) else None


def imagined_images() -> list[str]:
    """The nsdIds of the pictures that are NSD's own, whether or not a subject of a run saw them."""
    return [number for number in map(nsd_number, TARGETS["complex"].values()) if number]
