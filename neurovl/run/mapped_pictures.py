"""What maps of a run's concepts are made of, see `localization.concept_maps.SubjectPictures`."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurovl.encoder.alignment import held_out_voxels
from neurovl.errors import DataError
from neurovl.localization.concept_maps import TEMPLATE, SubjectPictures
from neurovl.localization.picture_responses import PictureResponses
from neurovl.tokens.resize import resize_nearest

if TYPE_CHECKING:
    from neurovl.run.run import Run


def mapped_pictures(
    run: "Run", names: Sequence[str], subject: str | int, image_id: str | int | None = None
) -> SubjectPictures:
    """A subject's test pictures, averaged over repeats, and responses to training pictures, with the words in question.

    Parameters
    ----------
    names : sequence of str
        Concepts; any words, though methods that ask the voxels know those of the pictures' objects alone.
    image_id : str or int, optional
        The only test picture to explain, whether or not it holds the concepts; by default all that hold them.

    Raises
    ------
    DataError
        No test picture of the subject holds a concept, or the subject did not see the picture.
    """
    from neurovl.foundation.clip import load_clip

    store = run.store
    name = store.subject_name(subject)
    ids, voxels = held_out_voxels(store, name, "average")
    if image_id is None:
        held = [run.categories(i) for i in ids]
        holds = np.array([[one in those for one in names] for those in held], bool)
    else:
        holds = np.array([[i == str(image_id)] * len(names) for i in ids], bool)
    for k in np.flatnonzero(~holds.any(0)):
        what = f"pictures with {names[k]!r}" if image_id is None else f"image {image_id}"
        raise DataError(
            f"{name} has no test trials for {what}, expected one at least; choose an image of the test split with "
            "--image-id"
        )
    clip = load_clip(run.profile.models.clip, run.profile.compute.device)
    trials = store.trials
    trained = bool(((trials.subject == name) & (trials.split == "train")).any())
    return SubjectPictures(
        store,
        name,
        list(names),
        clip.embed_texts([TEMPLATE.format(one) for one in names]),
        [run.encoder(one, run.profile.compute.device) for one in run.patch_variants()],
        voxels,
        holds,
        (lambda: training_responses(run, name)) if trained else None,
        list(stored_regions(run, name).values()),
        run.profile.seed,
    )


def training_responses(run: "Run", subject: str) -> PictureResponses:
    """A subject's mean responses to its training pictures, read once."""
    return run.once(
        f"responses of {subject}",
        lambda: PictureResponses.of(run.store, run.targets, subject, run.recordings.objects),
    )


def stored_regions(run: "Run", subject: str) -> dict[str, np.ndarray]:
    """A subject's regions of interest among the stored voxels, bool (V,) each."""
    store = run.store
    return {
        name: resize_nearest(roi.astype(np.float32), store.target).ravel()[store.region] > 0
        for name, roi in run.recordings.rois(subject).items()
    }
