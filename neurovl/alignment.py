"""Alignment of brains with CLIP and VAE embeddings: loss, MixUp, training and prediction (paper section 3.1)."""

import logging
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .encoder import BrainEmbedding, BrainEncoder
from .errors import DataError
from .responses import ResponseModel, TargetBasis
from .settings import Alignment
from .systems import System
from .targets import Targets
from .tokens import TokenStore
from .training import Schedule, batch_rows, choose_device, fit

log = logging.getLogger(__name__)

APART = 10  # voxels that one of two subjects measured alone, at least, to tell their volumes apart
REPEATS = 3  # a drawn response is the mean of 1 to 3 trials, as test pictures are seen


def alignment_loss(
    predicted: BrainEmbedding, clip: torch.Tensor, vae: torch.Tensor | None, settings: Alignment
) -> dict:
    """L = ||z_clip - E_c(x)||^2 + alpha ||z_vae - E_v(x)||^2, averaged over the batch (paper Eq. 2)."""

    def error(a, b):
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


def partners(subjects, targets) -> np.ndarray:
    """For every trial the trials of the same subject with the same target, itself included, shape (n, most partners).

    A picture is a target of its own, so these are its repeats; where the targets are category names, they are the trials
    of the category. Rows with fewer partners are filled by repeating them, so that each is about equally likely.

    Parameters
    ----------
    subjects : sequence of str, length n
    targets : sequence of int, length n
        Equal numbers for equal targets.
    """
    groups = (
        pd.DataFrame({"s": np.asarray(subjects), "t": np.asarray(targets)})
        .groupby(["s", "t"], sort=False)
        .indices
    )
    width = max(len(g) for g in groups.values())
    table = np.empty((len(subjects), width), int)
    for group in groups.values():
        table[group] = np.resize(group, width)
    return table


class TrainingTrials:
    """Batches of training trials, read from the token store as they are needed.

    Parameters
    ----------
    trials : DataFrame
        Rows of `store.trials`.
    mixup : bool
        Mix each trial with another of the same subject and target, x = l x1 + (1 - l) x2 with l ~ U(0, 1).
    synthetic : float
        Share of a batch in which the trial gives way to a response drawn from its subject's encoding model, to any
        picture of the training trials.
    """

    def __init__(self, store, trials, targets: Targets, batch_size: int, mixup: bool, synthetic: float, seed: int):  # fmt: skip
        self.store, self.index, self.seed = store, trials.index.to_numpy(), seed
        self.batch_size, self.n_drawn = batch_size, round(synthetic * batch_size)
        self.pictures = targets.rows(trials.image_id).numpy()
        same = torch.unique(targets.clip, dim=0, return_inverse=True)[1].numpy()
        self.mates = partners(trials.subject, same[self.pictures]) if mixup else None
        self.subjects = trials.subject.to_numpy()
        self.pool = np.unique(self.pictures)
        self.models: dict[str, ResponseModel] = {}
        self.features: np.ndarray | None = None

    def fit_responses(self, basis: TargetBasis, flat: torch.Tensor, common: bool) -> None:
        """Fit the encoding model of each subject; or one for all of them, also where volumes do not say whose they are.

        Raises
        ------
        DataError
            A subject's voxels are constant.
        """
        self.features = basis.features(flat).numpy()
        subjects = list(dict.fromkeys(self.subjects))
        if not common:
            self.models = {subject: self._fit(subject) for subject in subjects}
            pairs = combinations(subjects, 2)
            alike = [pair for pair in pairs if self._apart(*pair) < APART]
            if alike:
                log.warning(
                    "%s and %s measured the same voxels, so that a volume does not say whose it is: one encoding model is "
                    "fitted to all subjects (as with encoder.evidence_of: all)",
                    *alike[0],
                )
            common = bool(alike)
        if common:
            self.models = dict.fromkeys(subjects, self._fit(None))

    def _fit(self, subject: str | None) -> ResponseModel:
        rows = slice(None) if subject is None else self.subjects == subject
        try:
            voxels = self.store.rows(self.index[rows])
            return ResponseModel(voxels, self.features[self.pictures[rows]])
        except DataError as problem:
            raise DataError(f"{subject or 'all subjects'}: {problem}") from problem

    def _apart(self, a: str, b: str) -> int:
        return int((self.models[a].measured ^ self.models[b].measured).sum())

    def batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Voxels (B, V) and the pictures' rows in the targets (B,), a function of seed and step alone."""
        rows = batch_rows(len(self.index), self.batch_size, step, self.seed)
        rng = np.random.default_rng([self.seed, step, 1])
        pictures, voxels = self.pictures[rows].copy(), self.store.rows(self.index[rows])
        if self.mates is not None:
            other = self.mates[rows, rng.integers(self.mates.shape[1], size=len(rows))]
            share = rng.random((len(rows), 1), np.float32)
            voxels = share * voxels + (1 - share) * self.store.rows(self.index[other])
        if self.n_drawn:
            pictures[: self.n_drawn] = rng.choice(self.pool, self.n_drawn)
            repeats = rng.integers(1, REPEATS + 1, self.n_drawn)
            whose = self.subjects[rows[: self.n_drawn]]
            for subject in dict.fromkeys(whose):
                drawn = np.flatnonzero(whose == subject)
                seen = self.features[pictures[drawn]]
                voxels[drawn] = self.models[subject].sample(seen, repeats[drawn], rng)
        return torch.from_numpy(voxels), torch.from_numpy(pictures)


def fit_encoder(
    store: TokenStore,
    targets: Targets,
    system: System,
    *,
    seed: int,
    checkpoint: Path | None = None,
    device: str = "auto",
) -> tuple[BrainEncoder, list[dict]]:
    """Train one encoder on the training trials of its subjects.

    Returns
    -------
    BrainEncoder, list of dict
        The trained encoder and its training curve.
    """
    shape, settings, layout = system.shape, system.settings, system.layout
    trials = store.trials[store.trials.split == "train"]
    if system.subjects is not None:
        trials = trials[trials.subject.isin(system.subjects)]
    data = TrainingTrials(
        store, trials, targets, settings.batch_size, settings.mixup, settings.synthetic, seed
    )
    vae, basis = targets.vae if system.use_vae else None, None
    if shape.evidence:
        flat = targets.flat(system.use_vae)
        weights = loss_weights(targets.clip.shape[1], flat.shape[1], settings)
        basis = TargetBasis.fit(flat[data.pool], shape.evidence, weights)
        data.fit_responses(basis, flat, common=shape.evidence_of == "all")
    n_tokens, token_size = store.shape(layout)
    torch.manual_seed(seed)
    encoder = BrainEncoder(
        n_tokens,
        token_size,
        targets.clip.shape[1],
        None if vae is None else list(vae.shape[1:]),
        layout,
        **shape.network() | {"evidence": 0 if basis is None else len(basis.components)},
        n_subjects=len({id(model) for model in data.models.values()}) or 1,
    )
    seen = torch.from_numpy(data.pool)
    encoder.start_at(targets.clip[seen].mean(0), None if vae is None else vae[seen].mean(0))
    if basis is not None:
        models = list({id(model): model for model in data.models.values()}.values())
        place_evidence(encoder, basis, models, store.columns(layout))
    place = choose_device(device)

    def loss_at(model, step):
        voxels, pictures = data.batch(step)
        tokens = store.cut(voxels, layout)
        if settings.token_dropout:
            tokens = tokens * (torch.rand(*tokens.shape[:2], 1) >= settings.token_dropout)
        wanted = None if vae is None else vae[pictures].to(place)
        return alignment_loss(
            model(tokens.to(place)), targets.clip[pictures].to(place), wanted, settings
        )

    steps = max(1, settings.epochs * len(trials) // settings.batch_size)
    schedule = Schedule(
        steps,
        settings.lr,
        settings.weight_decay,
        ema=settings.ema,
        precision=settings.precision,
    )
    curve = fit(
        encoder,
        loss_at,
        schedule,
        seed=seed,
        checkpoint=checkpoint,
        device=device,
        describe=f"encoder {system.name}",
    )
    return encoder, curve


def place_evidence(encoder: BrainEncoder, basis: TargetBasis, models, columns) -> None:
    """Put the decoders of the encoding models, one a subject, into an encoder's evidence.

    Parameters
    ----------
    columns : int tensor, shape (N, C)
        Stored voxels that each token consists of, see `TokenStore.columns`.
    """
    evidence = encoder.evidence
    evidence.components.copy_(basis.components)
    evidence.mean.copy_(basis.mean)
    for s, model in enumerate(models):
        weights, offset = model.decoder()
        padded = np.append(weights, np.zeros((1, weights.shape[1]), np.float32), axis=0)
        evidence.weight[s].copy_(torch.from_numpy(padded)[columns])
        evidence.offset[s].copy_(torch.from_numpy(offset))
        evidence.measured[s].copy_(torch.from_numpy(np.append(model.measured, False))[columns])


@torch.no_grad()
def predict(encoder: BrainEncoder, tokens: torch.Tensor, batch_size: int = 256) -> BrainEmbedding:
    """Embeddings of tokens (n, N, C), computed in batches, on the CPU as float32."""
    place = next(encoder.parameters()).device
    parts = [encoder(block.to(place)) for block in tokens.split(batch_size)]
    whole = {}
    for name in ("clip", "vae", "hidden"):
        values = [getattr(p, name) for p in parts]
        whole[name] = None if values[0] is None else torch.cat(values).float().cpu()
    return BrainEmbedding(**whole)


def held_out_voxels(store: TokenStore, subject: str, protocol: str) -> tuple[list[str], np.ndarray]:
    """Test pictures of a subject and their stored voxels (n, V).

    Parameters
    ----------
    protocol : str
        'average': the mean of all repeats; 'single': the first repeat (paper section 4.2).
    """
    own = store.trials[store.trials.subject == subject].reset_index(drop=True)
    test = own[own.split == "test"]
    ids = sorted(test.image_id.unique())
    groups = test.sort_values("repeat").groupby("image_id").groups
    chosen = [
        np.asarray(groups[i])[:1] if protocol == "single" else np.asarray(groups[i]) for i in ids
    ]
    return ids, np.stack([store.voxels(subject, rows).mean(0) for rows in chosen])
