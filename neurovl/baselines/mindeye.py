"""MindEye (Scotti et al. 2023): a residual MLP learned by contrast, a diffusion prior, a low-level branch, retrieval."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from neurovl.baselines.contrastive import bimixco_loss, mixco, risen, softclip_loss
from neurovl.baselines.decoder import (
    Card,
    Choice,
    Conditions,
    Decoder,
    FrozenParts,
    Predictions,
)
from neurovl.baselines.diffusion_prior import DiffusionPrior
from neurovl.baselines.low_level import LatentMLP, fit_latents
from neurovl.baselines.network_fitting import mean_length
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.repeat_batches import RepeatBatches, one_cycle, seeded
from neurovl.baselines.residual_mlp import Projector, ResidualMLP
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError
from neurovl.training.devices import choose_device
from neurovl.training.loop import Part, fit

AT_A_TIME = 64  # pictures predicted together


class MindEyeModel(nn.Module):
    """The high-level branch of one subject.

    Parameters
    ----------
    n_voxels : int
    shape : tuple of int
        Tokens of a picture, and their width.
    settings : dict
        MindEye's.
    """

    def __init__(self, n_voxels: int, shape: tuple[int, ...], settings: Mapping[str, Any]) -> None:
        super().__init__()
        self.shape, self.share = shape, settings["prior_share"]
        drops = settings["dropout"], settings["block_dropout"]
        sizes = shape[0] * shape[1], settings["width"], settings["blocks"]
        self.mlp = ResidualMLP(n_voxels, *sizes, *drops)
        self.projector = Projector(shape[1], settings["projector"])
        names = ("prior_layers", "prior_steps", "condition_drop", "prior_skip")
        self.prior = DiffusionPrior(*shape, *(settings[name] for name in names))

    def tokens(self, voxels: torch.Tensor) -> torch.Tensor:
        """What the MLP reads, tensor (n, V) to (n, N, E)."""
        return self.mlp(voxels).unflatten(1, self.shape)

    def forward(
        self, voxels: torch.Tensor, true: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Projected tokens (n, N, E), and the prior's loss on a share of the batch."""
        tokens = self.tokens(voxels)
        few = max(1, round(self.share * len(tokens)))
        return self.projector(tokens), self.prior.loss(tokens[:few], true[:few])


class MindEye(Decoder):
    """One high-level and one low-level model a subject.

    References
    ----------
    Scotti et al. 2023, Reconstructing the mind's eye, NeurIPS; https://github.com/MedARC-AI/fMRI-reconstruction-NSD.
    """

    name = "mindeye"
    card = Card(
        title="MindEye",
        reference="Scotti et al. 2023, Reconstructing the mind's eye: fMRI-to-image with contrastive learning and "
        "diffusion priors, NeurIPS",
        code="https://github.com/MedARC-AI/fMRI-reconstruction-NSD",
        choices=(
            Choice(
                "input",
                "nsdgeneral voxels, flattened, z-scored by session; training takes one repeat a batch, "
                "test the mean of three",
                "the subject's own mask, z-scored by training trials",
            ),
            Choice(
                "map",
                "MLP of width 4096 with 4 residual blocks to 257 tokens of width 768, a projector "
                "after it, a diffusion prior of 6 layers and 100 steps",
                "learned places instead of rotary ones in the prior; sizes are settings",
            ),
            Choice(
                "prior in short trainings",
                "it sees all rows of a batch and predicts tokens anew",
                "the same by default; settings can add the condition to what it predicts, token by token (prior_skip), as "
                "attention needs many steps to find which belong together, and train it on a share of the rows (prior_share)",
                "chosen",
            ),
            Choice(
                "loss",
                "BiMixCo (temperature .006) for a third of the epochs, then SoftCLIP (.004 to .0075), + 30 "
                "times the prior's squared error",
            ),
            Choice(
                "low-level branch",
                "a second MLP and an upsampler to the latent; absolute error + .1 of a contrast with ConvNeXt features",
                "absolute error alone",
            ),
            Choice(
                "training",
                "AdamW, OneCycle to 3e-4 with its peak at epoch 2, 240 epochs of batches of 32; low level 5e-4, "
                "120 epochs of batches of 8; half precision",
                "warm-up of two epochs and half a cosine; gradients clipped to length 1; half precision where the "
                "device multiplies in it",
            ),
            Choice(
                "augmentation",
                "of the picture, before CLIP: crops, flips, colours, grey",
                "left out: CLIP sees each picture once",
                "chosen",
            ),
            Choice(
                "predicts",
                "image tokens divided by the length of the first; tokens for retrieval; latent",
                "the first token, with the mean length of the training pictures' embeddings, is the image embedding",
            ),
            Choice(
                "generator",
                "Versatile Diffusion from image tokens alone, 20 steps, guidance 3.5, from the latent at "
                "strength .85",
                "the generator of all systems, which takes one image embedding; strength .85",
            ),
            Choice(
                "selection",
                "of 16 samples the one whose tokens are closest to the projected ones",
                "as published: of 16 the one whose embedding is closest to the one predicted; main row: none",
            ),
            Choice(
                "last or best weights",
                "the last; a best on the test pictures is not used",
                "the last",
            ),
            Choice("number of models", "two a subject"),
        ),
        as_published="the best of 16 samples by the brain's own prediction; the main row has one sample as all systems",
        lacking=("Versatile Diffusion", "ConvNeXt features in the low-level loss"),
    )
    defaults: ClassVar[dict[str, Any]] = {
        "width": 4096,
        "blocks": 4,
        "projector": 2048,
        "dropout": 0.5,
        "block_dropout": 0.15,
        "prior_layers": 6,
        "prior_steps": 100,
        "condition_drop": 0.2,
        "prior_skip": False,
        "prior_share": 1.0,
        "prior_weight": 30.0,
        "mixed_share": 0.33,
        "bimixco_temperature": 0.006,
        "softclip_temperatures": (0.004, 0.0075),
        "lr": 3e-4,
        "weight_decay": 0.01,
        "epochs": 240,
        "batch_size": 32,
        "low_width": 4096,
        "low_channels": 64,
        "low_dropout": 0.5,
        "low_block_dropout": 0.25,
        "low_lr": 5e-4,
        "low_epochs": 120,
        "low_batch_size": 8,
        "strength": 0.85,
        "samples": 16,
        "precision": "auto",
    }
    search: ClassVar[dict[str, tuple]] = {
        "lr": (3e-4, 1e-3, 3e-3),
        "dropout": (0.2, 0.5, 0.7),
        "prior_weight": (3.0, 30.0),
    }
    needs = ("clip_image", "image_tokens", "vae")

    def fit(
        self, voxels: Mapping[str, SubjectVoxels], targets: PictureFeatures, parts: FrozenParts
    ) -> "MindEye":
        """See `Decoder.fit`."""
        self.device, self.seed = choose_device(parts.device), parts.seed
        self.models: dict[str, tuple[MindEyeModel, LatentMLP]] = {}
        self.lengths: dict[str, float] = {}
        for subject, own in voxels.items():
            folder = parts.checkpoint and parts.checkpoint / subject
            low = RepeatBatches(own, targets, self.settings["low_batch_size"], parts.seed)
            latents = fit_latents(low, self.settings, parts, folder and folder / "low-level")
            batches = RepeatBatches(own, targets, self.settings["batch_size"], parts.seed)
            self.models[subject] = self._fit_tokens(batches, parts, folder).cpu(), latents.cpu()
            self.lengths[subject] = mean_length(targets.of("clip_image", batches.pictures))
        nets = [net for both in self.models.values() for net in both]
        self.n_models = len(nets)
        self.n_parameters = sum(p.numel() for net in nets for p in net.parameters())
        return self

    def _fit_tokens(self, batches: RepeatBatches, parts: FrozenParts, folder: Any) -> MindEyeModel:
        one = self.settings
        shape = batches.targets.shape("image_tokens")
        model = seeded(parts.seed, MindEyeModel, batches.voxels.n_voxels, shape, one)
        steps = batches.steps(one["epochs"])
        mixed = round(one["mixed_share"] * steps)

        def loss_at(net: nn.Module, step: int, part: Part) -> dict[str, torch.Tensor]:
            pictures = batches.at(step, part)
            device = next(net.parameters()).device
            trials = batches.trials(pictures, step).to(device)
            true = batches.target("image_tokens", pictures).to(device)
            mixture = mixco(trials) if step < mixed else None
            said, prior = net(trials if mixture is None else mixture.voxels, true)
            if mixture is not None:
                contrast = bimixco_loss(said, true, one["bimixco_temperature"], mixture)
            else:
                done = (step - mixed) / max(1, steps - mixed - 1)
                contrast = softclip_loss(said, true, risen(*one["softclip_temperatures"], done))
            loss = contrast + one["prior_weight"] * prior
            return {"loss": loss, "contrast": contrast, "prior": prior}

        schedule = one_cycle(one, steps, one["epochs"], one["lr"])
        label = f"MindEye, {batches.voxels.subject}"
        fit(
            model,
            loss_at,
            schedule,
            seed=parts.seed,
            checkpoint=folder,
            device=parts.device,
            describe=label,
        )
        return model

    @torch.no_grad()
    def predict(self, voxels: SubjectVoxels) -> Predictions:
        """'image_tokens' and 'clip_image' from the prior, 'retrieval' from the projector, 'vae' from the low level.

        'retrieval' is (n, N E), of length 1: its cosine with the flattened true 'image_tokens' ranks them.
        """
        if voxels.subject not in self.models:
            raise DataError(
                f"MindEye has no model of {voxels.subject}, expected one of {', '.join(self.models)}: fit it to this "
                "subject's training trials"
            )
        model, latents = (net.to(self.device) for net in self.models[voxels.subject])
        generator = torch.Generator().manual_seed(self.seed)
        found: dict[str, list[np.ndarray]] = {"image_tokens": [], "retrieval": [], "vae": []}
        for start in range(0, len(voxels), AT_A_TIME):
            rows = np.arange(start, min(start + AT_A_TIME, len(voxels)))
            x = torch.from_numpy(voxels.read(rows)).to(self.device)
            tokens = model.tokens(x)
            said = model.prior.sample(tokens, generator)
            projected = functional.normalize(model.projector(tokens).flatten(1), dim=1)
            for name, value in zip(found, (said, projected, latents(x)), strict=True):
                found[name].append(value.float().cpu().numpy())
        for net in (model, latents):
            net.cpu()
        said = {name: np.concatenate(values) for name, values in found.items()}
        first = said["image_tokens"][:, :1]
        length = np.linalg.norm(first, axis=2, keepdims=True)
        said["image_tokens"] = said["image_tokens"] / length
        said["clip_image"] = (first / length)[:, 0] * self.lengths[voxels.subject]
        return said

    def conditions(self, said: Predictions) -> Conditions:
        """The image embedding, and the latent to begin with; no words."""
        several = self.settings["samples"] if self.as_published else 1
        return Conditions(
            image=said["clip_image"],
            start=said["vae"],
            strength=self.settings["strength"],
            samples=several,
            kept_by="clip_image" if self.as_published else "",
        )
