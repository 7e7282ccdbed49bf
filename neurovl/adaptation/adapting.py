"""A subject that no training saw: its linear readout added to a trained encoder in closed form, or all of it trained on.

An encoding model is fitted to few trials of the subject (see `encoder.encoding_models`) in the components that the encoder speaks of.
How a new subject's trials are read is in `new_subject`, how well it is decoded is measured in `evaluation.new_subject_curve`.
"""

import copy
import json
from dataclasses import replace

import numpy as np
import torch

from neurovl.adaptation.new_subject import NewTrials
from neurovl.encoder.alignment import align, loss_weights, place_readout
from neurovl.encoder.batches import APART, TrainingTrials
from neurovl.encoder.encoding_models import ResponseModel, TargetBasis
from neurovl.encoder.readout import LinearReadout
from neurovl.encoder.targets import Targets
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.errors import ConfigError
from neurovl.run import Run

# Of fine-tuning, at least, and as a share of the rate of training; by held-out training pictures of a new subject.
STEPS, RATE = 100, 0.3


def has_readout(run: Run, encoder: BrainEncoder) -> bool:
    """Whether an encoder holds a readout for each subject, which a new one's can be added to."""
    return encoder.readout is not None and run.profile.encoder.readout_of == "subject"


def require_readout(run: Run) -> BrainEncoder:
    """The run's main encoder; refused where a new subject's readout cannot be added to it."""
    encoder = run.encoder("main")
    if not has_readout(run, encoder):
        raise ConfigError(
            f"encoders/main of this run (profile {run.profile.name}) holds no linear readout of each subject, expected some "
            "that a new subject's can be added to; set encoder.readout to 128 and encoder.readout_of to subject in a copy "
            "of the profile, and train a run with it: neurovl reproduce --profile FILE"
        )
    return encoder


def basis_of(run: Run, encoder: BrainEncoder) -> TargetBasis:
    """The components of the targets that an encoder's readout speaks of."""
    readout, n_clip = encoder.readout, run.targets.clip.shape[1]
    weights = loss_weights(n_clip, len(readout.mean), run.profile.alignment)
    return TargetBasis.of(readout.mean, readout.components, weights)


def pooled_noise(run: Run, encoder: BrainEncoder) -> np.ndarray:
    """Noise covariance (V, V) over the run's subjects, each pair of voxels from those who measured them.

    A voxel that none of them measured has variance 1, as z-scores, and correlates with no other.
    """
    store, targets, basis = run.store, run.targets, basis_of(run, encoder)
    features = basis.features(targets.flat(encoder.vae_shape is not None)).numpy()
    total, n = np.zeros((len(store.region),) * 2), np.zeros(len(store.region))
    for subject in store.subjects:
        own = store.trials[(store.trials.subject == subject) & (store.trials.split == "train")]
        seen = features[targets.rows(own.image_id).numpy()]
        model = ResponseModel(store.voxels_at(own.index.to_numpy()), seen)
        inside = np.flatnonzero(model.measured)
        total[np.ix_(inside, inside)] += model.residuals.T @ model.residuals / len(own)
        n[inside] += 1
    # Positive semidefinite, as dividing each entry by its own count would not be.
    total /= np.sqrt(np.outer(np.maximum(n, 1), np.maximum(n, 1)))
    total[np.diag_indices_from(total)] += n == 0
    return total


def add_subject(
    run: Run,
    encoder: BrainEncoder,
    trials: NewTrials,
    targets: Targets,
    noise: np.ndarray | None,
) -> BrainEncoder:
    """A copy of the encoder that holds a readout of one more subject, fitted to its chosen training trials.

    Parameters
    ----------
    noise : array, shape (V, V), or None
        Noise covariance of the run's subjects, see `ResponseModel`.

    Returns
    -------
    BrainEncoder
        With a readout of each of the run's subjects and of the new one; of the new one alone where it measured the same voxels as one
        of them, so that a volume does not say whose it is.
    """
    basis, rows = basis_of(run, encoder), trials.training
    seen = targets.flat(encoder.vae_shape is not None)[targets.rows(trials.trials.image_id[rows])]
    model = ResponseModel(trials.voxels("", rows), basis.features(seen).numpy(), noise)
    old = encoder.readout
    size, n_targets = old.components.shape
    own = LinearReadout(1, encoder.n_tokens, encoder.token_size, size, n_targets)
    place_readout(own, basis, [model], run.store.columns(encoder.layout))
    apart = (own.measured ^ old.measured).flatten(1).sum(1)
    held = [old, own] if int(apart.min()) >= APART else [own]
    config = json.loads((run.folder / "encoders" / "main" / "config.json").read_text())
    grown = BrainEncoder(**config | {"n_subjects": sum(len(one.offset) for one in held)})
    state = encoder.state_dict()
    for name in ("weight", "offset", "measured"):
        state[f"readout.{name}"] = torch.cat([getattr(one, name) for one in held])
    grown.load_state_dict(state)
    return grown.eval()


def fine_tune(run: Run, encoder: BrainEncoder, trials: NewTrials, targets: Targets) -> BrainEncoder:
    """A copy of an encoder whose parameters all learn on, from a new subject's chosen training trials.

    Batches are made as in the run's training: trials are mixed, and a share gives way to responses drawn from the
    subject's encoding model to its own pictures and those of the run. The linear readout is no parameter and stays as it is.
    """
    p, chosen = run.profile, trials.trials.iloc[trials.training]
    settings = p.alignment
    epochs = max(1, round(STEPS * settings.batch_size / len(chosen)))
    settings = replace(settings, epochs=epochs, lr=RATE * settings.lr)
    data = TrainingTrials(
        trials,
        chosen,
        targets.followed_by(run.targets),
        settings.batch_size,
        settings.mixup,
        settings.synthetic,
        p.seed,
    )
    if settings.synthetic:
        vae = encoder.vae_shape is not None
        flat = torch.cat([targets.flat(vae), run.targets.flat(vae)])
        data.fit_responses(basis_of(run, encoder), flat, common=True)
        seen = run.store.trials
        seen = run.targets.rows(seen.image_id[seen.split == "train"].unique()).numpy()
        data.pool = np.union1d(data.pool, len(targets.clip) + seen)
    tuned = copy.deepcopy(encoder)
    align(
        tuned, data, settings, run.store.cut, seed=p.seed, compute=p.compute, describe="fine-tuning"
    )
    return tuned.cpu().eval()
