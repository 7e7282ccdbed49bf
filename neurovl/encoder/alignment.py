"""Alignment of brains with CLIP and VAE embeddings: loss, MixUp, training and prediction (paper section 3.1)."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import nn

from neurovl.encoder.batches import TrainingTrials, TrialVoxels
from neurovl.encoder.encoding_models import ResponseModel, TargetBasis
from neurovl.encoder.readout import LinearReadout
from neurovl.encoder.targets import Targets
from neurovl.encoder.variants import Variant
from neurovl.encoder.vit3d import BrainEmbedding, BrainEncoder
from neurovl.settings.sections import Alignment, Compute
from neurovl.tokens.store import TokenStore
from neurovl.training.loop import Part, Schedule, Validation, fit
from neurovl.training.prefetch import Prefetcher
from neurovl.training.validation import split_pictures, tune_pictures


def alignment_loss(
    predicted: BrainEmbedding, clip: torch.Tensor, vae: torch.Tensor | None, settings: Alignment
) -> dict:
    """L = ||z_clip - E_c(x)||^2 + alpha ||z_vae - E_v(x)||^2, averaged over the batch (paper Eq. 2).

    Examples
    --------
    >>> from neurovl.encoder.alignment import alignment_loss
    >>> from neurovl.settings.sections import Alignment
    >>> z = neurovl.BrainEmbedding(torch.ones(2, 3), torch.ones(2, 1, 2, 2), torch.zeros(2, 5, 4))
    >>> parts = alignment_loss(z, torch.zeros(2, 3), torch.zeros(2, 1, 2, 2), Alignment(alpha=0.5))
    >>> {name: float(part) for name, part in parts.items()}
    {'loss': 5.0, 'clip': 3.0, 'vae': 4.0}
    """

    def error(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        squared = (a.float() - b).square().flatten(1)
        return (squared.sum(1) if settings.reduction == "sum" else squared.mean(1)).mean()

    parts = {"clip": error(predicted.clip, clip)}
    if predicted.vae is not None:
        parts["vae"] = error(predicted.vae, vae)
    return {"loss": parts["clip"] + settings.alpha * parts.get("vae", 0.0), **parts}


def loss_weights(n_clip: int, n_all: int, settings: Alignment) -> torch.Tensor:
    """How much each value of the CLIP and, behind it, the VAE embedding counts in the loss, shape (n_all,)."""
    mean = settings.reduction == "mean"
    weights = torch.full((n_all,), 1 / n_clip if mean else 1.0)
    weights[n_clip:] = settings.alpha / max(1, n_all - n_clip) if mean else settings.alpha
    return weights


def fit_encoder(
    store: TokenStore,
    targets: Targets,
    system: Variant,
    *,
    seed: int,
    checkpoint: Path | None = None,
    compute: Compute = Compute(),
    logs: Path | None = None,
) -> tuple[BrainEncoder, list[dict]]:
    """Train one encoder on the training trials of its subjects.

    Returns
    -------
    BrainEncoder, list of dict
        The trained encoder and its training curve.

    Examples
    --------
    >>> from neurovl.encoder.alignment import fit_encoder
    >>> from neurovl.encoder.variants import describe
    >>> system = describe("main", run.profile, run.store)
    >>> encoder, curve = fit_encoder(run.store, run.targets, system, seed=0)
    >>> type(encoder).__name__, sorted(curve[0])
    ('BrainEncoder', ['clip', 'loss', 'lr', 'step', 'vae'])
    """
    shape, settings = system.shape, system.settings
    trials = store.trials[store.trials.split == "train"]
    if system.subjects is not None:
        trials = trials[trials.subject.isin(system.subjects)]
    if not system.tune:
        trials = trials[~trials.image_id.isin(tune_pictures(trials.image_id))]
    trials, watched = split_pictures(trials, settings.validation, seed)
    data = TrainingTrials(
        store, trials, targets, settings.batch_size, settings.mixup, settings.synthetic, seed
    )
    basis = None
    if shape.readout:
        flat = targets.flat(system.use_vae)
        weights = loss_weights(targets.clip.shape[1], flat.shape[1], settings)
        basis = TargetBasis.fit(flat[data.pool], shape.readout, weights)
        data.fit_responses(basis, flat, common=shape.readout_of == "all")
    encoder = _new_encoder(store, targets, system, data, basis, seed)
    curve = align(
        encoder,
        data,
        settings,
        store.cut,
        watched,
        seed=seed,
        checkpoint=checkpoint,
        compute=compute,
        logs=logs,
        describe=f"encoder {system.name}",
    )
    return encoder, curve


def _new_encoder(
    store: TokenStore,
    targets: Targets,
    system: Variant,
    data: TrainingTrials,
    basis: TargetBasis | None,
    seed: int,
) -> BrainEncoder:
    """An encoder as training begins with it: at the mean target, or at the linear decoder."""
    layout = system.layout
    vae = targets.vae if system.use_vae else None
    models = list({id(model): model for model in data.models.values()}.values())
    n_tokens, token_size = store.shape(layout)
    torch.manual_seed(seed)
    encoder = BrainEncoder(
        n_tokens,
        token_size,
        targets.clip.shape[1],
        None if vae is None else list(vae.shape[1:]),
        layout,
        **system.shape.network() | {"readout": 0 if basis is None else len(basis.components)},
        n_subjects=len(models) or 1,
    )
    seen = torch.from_numpy(data.pool)
    encoder.start_at(targets.clip[seen].mean(0), None if vae is None else vae[seen].mean(0))
    if basis is not None:
        place_readout(encoder.readout, basis, models, store.columns(layout))
    return encoder


def align(
    encoder: BrainEncoder,
    data: TrainingTrials,
    settings: Alignment,
    cut: Callable[[torch.Tensor, str], torch.Tensor],
    watched: pd.DataFrame | None = None,
    *,
    seed: int,
    checkpoint: Path | None = None,
    compute: Compute = Compute(),
    logs: Path | None = None,
    describe: str = "encoder",
) -> list[dict]:
    """Train an encoder, from where it stands, on training trials; it is changed in place.

    Parameters
    ----------
    cut : callable
        `cut(voxels, layout)` gives tokens (n, N, C) of stored voxels (n, V), see `TokenStore.cut`.
    watched : DataFrame, optional
        Trials on whose pictures, repeats averaged, the loss is watched after every epoch.

    Returns
    -------
    list of dict
        The training curve, see `training.fit`.
    """
    store, targets = data.store, data.targets
    clip, vae = targets.clip, targets.vae if encoder.vae_head is not None else None
    an_epoch = max(1, len(data.index) // settings.batch_size)
    steps = max(1, settings.epochs * len(data.index) // settings.batch_size)
    batches = Prefetcher(data.batch, compute.workers, steps)

    def loss_of(model: nn.Module, voxels: torch.Tensor, pictures: torch.Tensor) -> dict:
        place = next(encoder.parameters()).device
        # Cut where the encoder is: voxels are fewer than values of tokens.
        tokens = cut(voxels.to(place), encoder.layout).to(place)
        if settings.token_dropout and model.training:
            kept = torch.rand(*tokens.shape[:2], 1) >= settings.token_dropout
            tokens = tokens * kept.to(place)
        wanted = None if vae is None else vae[pictures].to(place)
        return alignment_loss(model(tokens), clip[pictures].to(place), wanted, settings)

    def loss_at(model: nn.Module, step: int, part: Part) -> dict:
        return loss_of(model, *batches(step, part))

    validation = None
    if watched is not None and len(watched):
        seen, means = averaged(store, targets, watched)

        @torch.no_grad()
        def validation_loss(model: nn.Module) -> float:
            parts = zip(means.split(256), seen.split(256), strict=True)
            return sum(float(loss_of(model, x, y)["loss"]) * len(y) for x, y in parts) / len(seen)

        validation = Validation(validation_loss, an_epoch, settings.patience)
    schedule = Schedule(
        steps,
        settings.lr,
        settings.weight_decay,
        ema=settings.ema,
        precision=settings.precision,
        accumulate=settings.accumulate,
        compile=compute.compile,
    )
    try:
        return fit(
            encoder,
            loss_at,
            schedule,
            seed=seed,
            checkpoint=checkpoint,
            device=compute.device,
            describe=describe,
            validation=validation,
            trackers=compute.trackers,
            logs=logs,
        )
    finally:
        batches.close()


def averaged(
    store: TrialVoxels, targets: Targets, trials: pd.DataFrame
) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows in the targets (n,) and voxels (n, V) of each subject's pictures, the mean over the repeats in `trials`."""
    groups = trials.groupby(["subject", "image_id"], sort=False).groups
    voxels = np.stack([store.voxels_at(np.asarray(index)).mean(0) for index in groups.values()])
    return targets.rows([image for _, image in groups]), torch.from_numpy(voxels)


def place_readout(
    readout: LinearReadout,
    basis: TargetBasis,
    models: Sequence[ResponseModel],
    columns: torch.Tensor,
) -> None:
    """Put the decoders of the encoding models, one a subject, into a linear readout.

    Parameters
    ----------
    columns : int tensor, shape (N, C)
        Stored voxels that each token consists of, see `TokenStore.columns`.
    """
    readout.components.copy_(basis.components)
    readout.mean.copy_(basis.mean)
    for s, model in enumerate(models):
        weights, offset = model.decoder()
        padded = np.append(weights, np.zeros((1, weights.shape[1]), np.float32), axis=0)
        readout.weight[s].copy_(torch.from_numpy(padded)[columns])
        readout.offset[s].copy_(torch.from_numpy(offset))
        readout.measured[s].copy_(torch.from_numpy(np.append(model.measured, False))[columns])


@torch.no_grad()
def predict(encoder: BrainEncoder, tokens: torch.Tensor, batch_size: int = 256) -> BrainEmbedding:
    """Embeddings of tokens (n, N, C), computed in batches, on the CPU as float32.

    Examples
    --------
    >>> from neurovl.encoder.alignment import predict
    >>> z = predict(run.encoder(), run.store.batch(subject=1, rows=[0, 1]))
    >>> len(z)
    2
    """
    place = next(encoder.parameters()).device
    parts = [encoder(block.to(place)) for block in tokens.split(batch_size)]
    whole = {}
    for name in ("clip", "vae", "hidden"):
        values = [getattr(p, name) for p in parts]
        whole[name] = None if values[0] is None else torch.cat(values).float().cpu()
    return BrainEmbedding(**whole)


def held_out_voxels(
    store: TokenStore, subject: str, protocol: str, image_ids: Collection[str] | None = None
) -> tuple[list[str], np.ndarray]:
    """Test pictures of a subject, or others that a network was not trained on, and their stored voxels (n, V).

    Parameters
    ----------
    protocol : str
        'average': the mean of all repeats; 'single': the first repeat (paper section 4.2).
    image_ids : collection of str, optional
        In the place of the test pictures; those that the subject saw are taken.

    Examples
    --------
    >>> from neurovl.encoder.alignment import held_out_voxels
    >>> ids, voxels = held_out_voxels(run.store, "subj01", "average")
    >>> voxels.shape == (len(ids), run.store.n_voxels)
    True
    """
    own = store.trials[store.trials.subject == subject].reset_index(drop=True)
    held = own[own.split == "test" if image_ids is None else own.image_id.isin(image_ids)]
    ids = sorted(held.image_id.unique())
    groups = held.sort_values("repeat").groupby("image_id").groups
    chosen = [
        np.asarray(groups[i])[:1] if protocol == "single" else np.asarray(groups[i]) for i in ids
    ]
    return ids, np.stack([store.voxels(subject, rows).mean(0) for rows in chosen])
