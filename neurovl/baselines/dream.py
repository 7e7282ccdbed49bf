"""DREAM (Xia et al. 2024): semantics by contrast and regression, colour by a linear map; here without depth."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from neurovl.baselines.colour_ridge import ColourRidge, fit_colour_ridge
from neurovl.baselines.contrastive import bimixco_loss, mixco
from neurovl.baselines.decoder import (
    Card,
    Choice,
    Conditions,
    Decoder,
    FrozenParts,
    Predictions,
)
from neurovl.baselines.network_fitting import directions, mean_length
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.repeat_batches import RepeatBatches, one_cycle, seeded
from neurovl.baselines.residual_mlp import Projector, ResidualMLP
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError
from neurovl.training.devices import choose_device
from neurovl.training.loop import Part, fit

AT_A_TIME = 256  # rows predicted together


class SemanticModel(nn.Module):
    """Voxels (n, V) to a vector in CLIP's space (n, E), and what is contrasted of it (n, E)."""

    def __init__(self, n_voxels: int, width_out: int, settings: Mapping[str, Any]) -> None:
        super().__init__()
        sizes = settings["width"], settings["blocks"]
        drops = settings["dropout"], settings["block_dropout"]
        self.mlp = ResidualMLP(n_voxels, width_out, *sizes, *drops)
        self.projector = Projector(width_out, settings["projector"])

    def forward(self, voxels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        said = self.mlp(voxels)
        return said, self.projector(said)


@dataclass(frozen=True)
class Gap:
    """From directions of texts in CLIP's space to picture embeddings.

    Attributes
    ----------
    shift : array, shape (E,)
        Mean direction of the training pictures minus that of their texts.
    length : float
        Mean length of the training pictures' embeddings.
    """

    shift: np.ndarray
    length: float

    @classmethod
    def between(cls, texts: np.ndarray, pictures: np.ndarray) -> "Gap":
        """The gap between embeddings, both (n, E).

        Examples
        --------
        >>> from neurovl.baselines.dream import Gap
        >>> gap = Gap.between(np.array([[1.0, 0.0]]), np.array([[0.0, 5.0]]))
        >>> gap.cross(np.array([[3.0, 0.0]])).tolist()
        [[0.0, 5.0]]
        """
        shift = (directions(pictures) - directions(texts)).mean(0)
        return cls(shift, mean_length(pictures))

    def cross(self, texts: np.ndarray) -> np.ndarray:
        """Picture embeddings in the place of text embeddings, (n, E)."""
        return directions(directions(texts) + self.shift) * self.length


class Dream(Decoder):
    """One semantic model and one ridge regression a subject.

    References
    ----------
    Xia et al. 2024, DREAM: visual decoding from reversing human visual system, WACV; https://github.com/weihaox/DREAM.
    """

    name = "dream"
    card = Card(
        title="DREAM",
        reference="Xia et al. 2024, DREAM: visual decoding from reversing human visual system, WACV",
        code="https://github.com/weihaox/DREAM",
        choices=(
            Choice(
                "input",
                "nsdgeneral voxels, flattened, z-scored by session; training takes one repeat a batch, "
                "test the mean of three",
                "the subject's own mask, z-scored by training trials; the ridge is fitted to the means over the repeats",
            ),
            Choice(
                "semantics: map",
                "MLP of width 4096 with 4 residual blocks and a projector to 768 numbers",
                "as many numbers as CLIP's space has",
            ),
            Choice(
                "semantics: loss",
                "BiMixCo with the text and with the picture (temperature .006, all epochs) + 30 "
                "times the squared error to the text vector",
            ),
            Choice(
                "colour and depth: map",
                "paper: an encoder of RGBD pictures and a decoder learned with pictures without brains; code: "
                "ridge (penalty 5e4) to VDVAE latents of picture and depth",
                "ridge to the generator's own latent and to the palette; the penalty times V / 15724 for V voxels",
            ),
            Choice(
                "training",
                "AdamW, OneCycle to 3e-4 with its peak at epoch 2, 240 epochs of batches of 2048; half precision",
                "warm-up of two epochs and half a cosine; gradients clipped to length 1; half precision where the "
                "device multiplies in it; a batch has every picture once at most",
            ),
            Choice(
                "augmentation",
                "of the picture, before CLIP: crops, flips, colours, grey",
                "left out: CLIP sees each picture once",
                "chosen",
            ),
            Choice(
                "predicts",
                "a CLIP text vector, the mean over captions; a palette of the picture averaged over 64 pixels; depth",
                "the text vector, the latent and the palette; no depth",
            ),
            Choice(
                "image embedding",
                "how the vector enters the generator is not in the code",
                "the text vector's direction, shifted by the difference between the mean directions of training pictures "
                "and texts, with the mean length of the pictures' embeddings",
                "chosen",
            ),
            Choice(
                "generator",
                "Stable Diffusion with T2I-Adapters of colour and depth, weights tuned by hand",
                "the generator of all systems, from the predicted latent averaged over 8 by 8 cells, at strength .8",
                "chosen",
            ),
            Choice("selection", "none"),
            Choice("number of models", "two a subject"),
        ),
        as_published="latents are rescaled by mean and deviation of the predicted test rows; the main row takes those of "
        "held-out training pictures, so that no row depends on another",
        lacking=(
            "depth: a condition of the generator",
            "T2I-Adapter",
            "VDVAE",
            "Stable Diffusion with a CLIP vector",
        ),
    )
    defaults: ClassVar[dict[str, Any]] = {
        "width": 4096,
        "blocks": 4,
        "projector": 2048,
        "dropout": 0.5,
        "block_dropout": 0.15,
        "temperature": 0.006,
        "regression_weight": 30.0,
        "lr": 3e-4,
        "weight_decay": 0.01,
        "epochs": 240,
        "batch_size": 2048,
        "penalty": 5e4,
        "reference_voxels": 15724,
        "cells": 8,
        "strength": 0.8,
        "precision": "auto",
    }
    search: ClassVar[dict[str, tuple]] = {
        "lr": (3e-4, 1e-3, 3e-3),
        "dropout": (0.2, 0.5, 0.7),
        "penalty": (5e2, 5e3, 5e4),
    }
    needs = ("clip_image", "clip_text", "vae", "palette")

    def fit(
        self, voxels: Mapping[str, SubjectVoxels], targets: PictureFeatures, parts: FrozenParts
    ) -> "Dream":
        """See `Decoder.fit`."""
        self.device = choose_device(parts.device)
        self.models: dict[str, tuple[SemanticModel, ColourRidge]] = {}
        self.gaps: dict[str, Gap] = {}
        self.n_parameters = 0
        for subject, own in voxels.items():
            batches = RepeatBatches(own, targets, self.settings["batch_size"], parts.seed)
            model = self._fit_semantics(batches, parts).cpu()
            penalty = self.settings["penalty"] * own.n_voxels / self.settings["reference_voxels"]
            colour = fit_colour_ridge(own, targets, ("vae", "palette"), penalty, parts.seed)
            self.models[subject] = model, colour
            seen = [targets.of(name, batches.pictures) for name in ("clip_text", "clip_image")]
            self.gaps[subject] = Gap.between(*seen)
            self.n_parameters += sum(p.numel() for p in model.parameters())
            self.n_parameters += colour.weights.size + colour.intercept.size
        self.n_models = 2 * len(self.models)
        return self

    def _fit_semantics(self, batches: RepeatBatches, parts: FrozenParts) -> SemanticModel:
        one, subject = self.settings, batches.voxels.subject
        width = batches.targets.shape("clip_text")[0]
        model = seeded(parts.seed, SemanticModel, batches.voxels.n_voxels, width, one)

        def loss_at(net: nn.Module, step: int, part: Part) -> dict[str, torch.Tensor]:
            pictures = batches.at(step, part)
            device = next(net.parameters()).device
            text = batches.target("clip_text", pictures).to(device)
            image = batches.target("clip_image", pictures).to(device)
            mixture = mixco(batches.trials(pictures, step).to(device))
            said, projected = net(mixture.voxels)
            contrast = sum(
                bimixco_loss(projected, true, one["temperature"], mixture) for true in (text, image)
            )
            error = functional.mse_loss(said.float(), text)
            loss = contrast + one["regression_weight"] * error
            return {"loss": loss, "contrast": contrast, "error": error}

        schedule = one_cycle(one, batches.steps(one["epochs"]), one["epochs"], one["lr"])
        fit(
            model,
            loss_at,
            schedule,
            seed=parts.seed,
            checkpoint=parts.checkpoint and parts.checkpoint / subject,
            device=parts.device,
            describe=f"DREAM, {subject}",
        )
        return model

    @torch.no_grad()
    def predict(self, voxels: SubjectVoxels) -> Predictions:
        """'clip_text' from the MLP, 'clip_image' in its stead, 'vae' and 'palette' from the ridge."""
        if voxels.subject not in self.models:
            raise DataError(
                f"DREAM has no model of {voxels.subject}, expected one of {', '.join(self.models)}: fit it to this "
                "subject's training trials"
            )
        model, colour = self.models[voxels.subject]
        model.to(self.device)
        texts = []
        for start in range(0, len(voxels), AT_A_TIME):
            rows = np.arange(start, min(start + AT_A_TIME, len(voxels)))
            texts.append(model(torch.from_numpy(voxels.read(rows)).to(self.device))[0].cpu())
        model.cpu()
        text = torch.cat(texts).float().numpy()
        image = self.gaps[voxels.subject].cross(text).astype(np.float32)
        return {"clip_text": text, "clip_image": image, **colour.predict(voxels, self.as_published)}

    def conditions(self, said: Predictions) -> Conditions:
        """The image embedding, and coarse colours to begin with; no words."""
        latent = torch.from_numpy(said["vae"])
        shape, cells = latent.shape[2:], self.settings["cells"]
        few = functional.adaptive_avg_pool2d(latent, [min(cells, n) for n in shape])
        start = functional.interpolate(few, shape, mode="nearest").numpy()
        return Conditions(image=said["clip_image"], start=start, strength=self.settings["strength"])
