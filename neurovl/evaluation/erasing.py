"""Test brains in which the voxels of something in the picture are silent, to be painted again (paper figure 8)."""

import numpy as np

from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.evaluation.locating import concepts
from neurovl.localization.zeroing import located_voxels, moved_voxels, silence
from neurovl.run import Run

ERASED = ("located", "moved", "other")  # the concept's voxels, as many elsewhere, another concept's


def commonest_thing(run: Run, image_id: str) -> str | None:
    """The concept in a test picture that most test pictures hold; None where none is located."""
    return next((c for c, images in concepts(run).items() if image_id in images), None)


def another_thing(run: Run, thing: str) -> str:
    """The concept that shares the fewest test pictures with one; of several the next in their order."""
    shown = concepts(run)
    names = list(shown)
    at = names.index(thing)
    others = names[at + 1 :] + names[:at]
    return min(others, key=lambda c: len(set(shown[c]) & set(shown[thing])))


def brains_without_a_thing(run: Run, subject: str, ids: list[str], which: str) -> BrainEmbedding:
    """What the main encoder reads of a subject's averaged volumes, some voxels at a z-score of 0.

    Parameters
    ----------
    ids : list of str
        Test pictures in which something is located.
    which : str
        'located': the hottest voxels of `commonest_thing`, the share of `localization.share`; 'moved': as many, in the
        same arrangement, elsewhere in the subject's mask; 'other': the hottest ones of the concept that shares the fewest
        test pictures with it.
    """
    encoder, store = run.encoder("main", run.profile.compute.device), run.store
    every, voxels = held_out_voxels(store, subject, "average")
    measured = store.measured(subject) & voxels.any(0)
    things, silent = [commonest_thing(run, i) for i in ids], {}
    for k, thing in enumerate(concepts(run)):
        if thing not in things:
            continue
        shown = another_thing(run, thing) if which == "other" else thing
        heat = run.once(f"heat of {shown} in {subject}", lambda c=shown: run.locate(c, subject))
        columns = located_voxels(store, heat, measured, run.profile.localization.share)
        if which == "moved":
            rng = np.random.default_rng([run.profile.seed, k, 3])
            columns = moved_voxels(store, columns, measured, rng, draws=1)[0]
        silent[thing] = columns
    erased = [
        silence(voxels[[every.index(i)]], silent[c]) for i, c in zip(ids, things, strict=True)
    ]
    return predict(encoder, store.cut(np.concatenate(erased), encoder.layout))
