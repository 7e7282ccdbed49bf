"""Linear evidence of a subject that no training saw, added to a trained encoder in closed form; nothing else changes.

An encoding model is fitted to few trials of the subject (see `responses`) in the components that the encoder speaks of.
How a new subject's trials are read is in `new_subject`, how well it is decoded is measured in `evaluation.adapted`.
"""

import json
from types import SimpleNamespace

import numpy as np
import torch

from .alignment import APART, loss_weights, place_evidence
from .encoder import BrainEncoder, Evidence
from .new_subject import NewTrials
from .responses import ResponseModel, TargetBasis
from .targets import Targets


def basis_of(run, encoder: BrainEncoder) -> TargetBasis:
    """The components of the targets that an encoder's evidence speaks of."""
    evidence, n_clip = encoder.evidence, run.targets.clip.shape[1]
    weights = loss_weights(n_clip, len(evidence.mean), run.profile.alignment)
    return TargetBasis.of(evidence.mean, evidence.components, weights)


def pooled_noise(run, encoder: BrainEncoder) -> np.ndarray:
    """Noise covariance (V, V) over the run's subjects, each pair of voxels from those who measured them.

    A voxel that none of them measured has variance 1, as z-scores, and correlates with no other.
    """
    store, targets, basis = run.store, run.targets, basis_of(run, encoder)
    features = basis.features(targets.flat(encoder.vae_shape is not None)).numpy()
    total, n = np.zeros((len(store.region),) * 2), np.zeros(len(store.region))
    for subject in store.subjects:
        own = store.trials[(store.trials.subject == subject) & (store.trials.split == "train")]
        seen = features[targets.rows(own.image_id).numpy()]
        model = ResponseModel(store.rows(own.index.to_numpy()), seen)
        inside = np.flatnonzero(model.measured)
        total[np.ix_(inside, inside)] += model.residuals.T @ model.residuals / len(own)
        n[inside] += 1
    # Positive semidefinite, as dividing each entry by its own count would not be.
    total /= np.sqrt(np.outer(np.maximum(n, 1), np.maximum(n, 1)))
    total[np.diag_indices_from(total)] += n == 0
    return total


def add_subject(run, encoder: BrainEncoder, trials: NewTrials, targets: Targets, noise) -> BrainEncoder:  # fmt: skip
    """A copy of the encoder that holds evidence of one more subject, fitted to its chosen training trials.

    Parameters
    ----------
    noise : array, shape (V, V), or None
        Noise covariance of the run's subjects, see `ResponseModel`.

    Returns
    -------
    BrainEncoder
        With evidence of the run's subjects and the new one; of the new one alone where it measured the same voxels as one
        of them, so that a volume does not say whose it is.
    """
    basis, rows = basis_of(run, encoder), trials.training
    seen = targets.flat(encoder.vae_shape is not None)[targets.rows(trials.trials.image_id[rows])]
    model = ResponseModel(trials.voxels("", rows), basis.features(seen).numpy(), noise)
    old = encoder.evidence
    size, n_targets = old.components.shape
    alone = SimpleNamespace(evidence=Evidence(1, encoder.n_tokens, encoder.token_size, size, n_targets))  # fmt: skip
    place_evidence(alone, basis, [model], run.store.columns(encoder.layout))
    apart = (alone.evidence.measured ^ old.measured).flatten(1).sum(1)
    held = [old, alone.evidence] if int(apart.min()) >= APART else [alone.evidence]
    config = json.loads((run.folder / "encoders" / "main" / "config.json").read_text())
    grown = BrainEncoder(**config | {"n_subjects": sum(len(one.offset) for one in held)})
    state = encoder.state_dict()
    for name in ("weight", "offset", "measured"):
        state[f"evidence.{name}"] = torch.cat([getattr(one, name) for one in held])
    grown.load_state_dict(state)
    return grown.eval()
