"""Embeddings of the held-out pictures from brains: averaged, single-trial, shuffled or absent."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.encoder.targets import Targets
from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.run import Run

if TYPE_CHECKING:
    from neurovl.adaptation.new_subject import NewTrials
    from neurovl.baselines.ridge import RidgeDecoder
    from neurovl.tokens.store import TokenStore

AT_A_TIME = 1024  # trials


def chosen_images(ids: list[str], n: int | None, seed: int) -> list[str]:
    """At most `n` of the test pictures, the same for every subject that saw them, in order of id."""
    if n is None or n >= len(ids):
        return list(ids)
    order = np.random.default_rng([seed, 11]).permutation(sorted(ids))
    return sorted(order[:n].tolist())


def held_out(
    run: Run, system: str, subject: str, protocol: str = "average"
) -> tuple[list[str], BrainEmbedding]:
    """Predictions for all test pictures of a subject.

    Returns
    -------
    list of str, BrainEmbedding
        Image ids and their embeddings in the same order.
    """
    encoder, store = run.encoder(system, run.profile.compute.device), run.store
    ids, voxels = held_out_voxels(store, subject, protocol)
    return ids, predict(encoder, store.cut(voxels, encoder.layout))


def own_voxels(
    store: "TokenStore | NewTrials", rows: np.ndarray, measured: np.ndarray
) -> np.ndarray:
    """z-scores of the voxels that a subject measured, float32 (n, n_own); some trials are read at a time.

    Parameters
    ----------
    rows : array of int, shape (n,)
        Trials of the store.
    measured : array of bool, shape (V,)
        The subject's among the stored voxels: other subjects' are often ten times as many.
    """
    parts = np.array_split(rows, max(1, len(rows) // AT_A_TIME))
    return np.concatenate([store.voxels_at(part)[:, measured] for part in parts])


def fit_ridge(
    x: np.ndarray, targets: Targets, image_ids: Iterable[str], groups: np.ndarray
) -> "RidgeDecoder":
    """The linear baseline: a ridge regression of voxels to the embeddings of the pictures that were seen.

    Parameters
    ----------
    x : array, shape (n, V)
    targets : Targets
    image_ids : iterable of str, n of them
    groups : array, shape (n,)
        What folds of the cross-validation must not share, such as the picture.

    Returns
    -------
    RidgeDecoder
        Of all values of both embeddings, each with a penalty of its own; `Targets.parts` takes them apart.
    """
    from neurovl.baselines.ridge import RidgeDecoder

    return RidgeDecoder().fit(x, targets.flat()[targets.rows(image_ids)].numpy(), groups)


def ridge_of(run: Run, subject: str) -> "RidgeDecoder":
    """The linear baseline, fitted to all training trials of one of a run's subjects at its own voxels."""
    store = run.store
    own = store.trials[(store.trials.subject == subject) & (store.trials.split == "train")]
    x = own_voxels(store, own.index.to_numpy(), store.measured(subject))
    # What folds must not share is the picture, or the session where whole sessions are held out.
    groups = own.session if run.recordings.zscore == "subject" else own.image_id
    return fit_ridge(x, run.targets, own.image_id, groups.to_numpy())


def linear_part(run: Run, z: BrainEmbedding) -> dict[str, torch.Tensor | None] | None:
    """What the readout of the main encoder alone says: the decoder that its training starts from; None without."""
    encoder = run.encoder("main")
    if encoder.readout is None:
        return None
    said = encoder.readout.decode(z.hidden[..., encoder.width :].sum(1))
    width = z.clip.shape[1]
    return {"clip": said[:, :width], "vae": None if z.vae is None else said[:, width:]}


def shuffled(z: BrainEmbedding, seed: int) -> BrainEmbedding:
    """The embeddings dealt out among the pictures so that none keeps its own: the control that must fall to chance."""
    return z.take(derangement(len(z), seed))


def no_brain(run: Run, n: int) -> BrainEmbedding:
    """Embeddings of `n` volumes without any response, z-scores of 0: what is said or drawn without a brain."""
    encoder, store = run.encoder("main", run.profile.compute.device), run.store
    empty = torch.zeros(1, len(store.region))
    return predict(encoder, store.cut(empty, encoder.layout)).take([0] * n)


def derangement(n: int, seed: int) -> np.ndarray:
    """A random order of 0..n-1 in which nothing stays in its place (n of 2 or more)."""
    order = np.random.default_rng([seed, 5]).permutation(n)
    out = np.empty(n, int)
    out[order] = np.roll(order, 1)
    return out
