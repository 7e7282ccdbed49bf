"""What the language model is taught about each training picture: dialogues from captions and boxes (paper section 3.2)."""

from collections.abc import Mapping, Sequence

import numpy as np

from neurovl.language.dialogues import (
    Dialogue,
    category_frequencies,
    checked_dialogues,
    dialogues,
)
from neurovl.recordings import Recordings


def talks(
    recordings: Recordings,
    image_ids: Sequence[str],
    annotations: Mapping[str, Mapping],
    seed: int,
    checks: bool = False,
) -> dict[str, list[Dialogue]]:
    """Dialogues about each training picture; its annotations join the captions and replace the boxes.

    Parameters
    ----------
    recordings : Recordings
        Its `captions` and `objects` are read.
    image_ids : sequence of str
        As tables hold them; pictures may come several times.
    annotations : mapping of picture to dict
        `captions` and `objects` of annotators, see `foundation.annotators.read_annotations`; of none, some or all
        pictures.
    seed : int
        With a picture's place among the pictures it fixes every draw.
    checks : bool
        Besides, of each picture up to two dialogues of three closed questions, see `dialogues.balanced_checks`.
    """
    captions, objects = {}, {}
    for image in dict.fromkeys(image_ids):
        note = annotations.get(image)
        captions[image] = recordings.captions(image)
        objects[image] = recordings.objects(image)
        if note is not None:
            captions[image], objects[image] = captions[image] + note["captions"], note["objects"]
    names = category_frequencies(objects.values()) or None
    found = {
        image: dialogues(
            captions[image], objects[image], np.random.default_rng([seed, i]), image, names
        )
        for i, image in enumerate(captions)
    }
    if checks:
        for one in checked_dialogues(captions, objects, seed):
            found[one.image_id].append(one)
    return found
