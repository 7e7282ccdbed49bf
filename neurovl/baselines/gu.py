"""Gu et al. (2023, Cortex2Image): a convolution over the brain to what is seen, and a second one to a code of its details."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurovl.baselines.decoder import Card, Choice, Conditions, Decoder, FrozenParts, Predictions
from neurovl.baselines.network_fitting import (
    directions,
    mean_length,
    n_numbers,
    n_steps,
    on,
    outputs,
    train,
)
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.repeat_batches import seeded
from neurovl.baselines.subject_voxels import SubjectVoxels

GROWTH = (4, 16, 64)  # channels of the three stages, in widths


class Stage(nn.Module):
    """Half the grid by the largest of 8 cells, then convolutions of 1, 3 and 1 places a side beside a linear map."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        inner = n_out // 2
        self.pool = nn.MaxPool3d(2, ceil_mode=True)
        self.around = nn.Sequential(
            nn.Conv3d(n_in, inner, 1, bias=False),
            nn.BatchNorm3d(inner),
            nn.ReLU(),
            nn.Conv3d(inner, inner, 3, padding=1, bias=False),
            nn.BatchNorm3d(inner),
            nn.ReLU(),
            nn.Conv3d(inner, n_out, 1, bias=False),
            nn.BatchNorm3d(n_out),
        )
        self.beside = nn.Sequential(nn.Conv3d(n_in, n_out, 1, bias=False), nn.BatchNorm3d(n_out))

    def forward(self, x: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
        """(B, n_in, x, y, z) and (1, 1, x, y, z) to those of half the grid; outside it is 0."""
        x, inside = self.pool(x), self.pool(inside)
        return torch.relu(self.around(x) + self.beside(x)) * inside, inside


class VoxelTrunk(nn.Module):
    """Volumes to one vector each: a convolution, three stages, the mean over all cells in which the mask lies.

    Parameters
    ----------
    mask : bool array, shape (x, y, z)
    width : int
        Channels of the first convolution; the stages have 4, 16 and 64 times as many.
    dropout : float
    """

    def __init__(self, mask: np.ndarray, width: int, dropout: float) -> None:
        super().__init__()
        channels = [width, *(growth * width for growth in GROWTH)]
        self.register_buffer("mask", torch.as_tensor(mask)[None, None].float(), persistent=False)
        self.first = nn.Sequential(
            nn.Conv3d(2, width, 3, padding=1, bias=False), nn.BatchNorm3d(width), nn.ReLU()
        )
        self.stages = nn.ModuleList(
            Stage(a, b) for a, b in zip(channels[:-1], channels[1:], strict=True)
        )
        self.drop, self.width = nn.Dropout(dropout), channels[-1]

    def forward(self, volumes: Tensor) -> Tensor:
        """(B, x, y, z) to (B, 64 width)."""
        inside = self.mask
        x = torch.cat([volumes[:, None], inside.expand(len(volumes), -1, -1, -1, -1)], 1)
        x = self.first(x) * inside
        for stage in self.stages:
            x, inside = stage(x, inside)
        return self.drop(x.sum((2, 3, 4)) / inside.sum())


class Semantics(nn.Module):
    """Volumes to unit vectors (B, E)."""

    def __init__(self, trunk: VoxelTrunk, width: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential(nn.Linear(trunk.width, width), nn.BatchNorm1d(width))

    def forward(self, volumes: Tensor) -> Tensor:
        """(B, x, y, z) to (B, E)."""
        return functional.normalize(self.head(self.trunk(volumes)), dim=1)


class Details(nn.Module):
    """Volumes to a normal distribution of codes; a code and what is seen are mapped linearly to a latent.

    Parameters
    ----------
    trunk : VoxelTrunk
    code, width : int
        Numbers of a code, and E of the vector that says what is seen.
    mean : array, shape (c, h, w)
        The training pictures' mean latent, at which the linear map begins.
    """

    def __init__(self, trunk: VoxelTrunk, code: int, width: int, mean: np.ndarray) -> None:
        super().__init__()
        self.trunk, self.shape = trunk, mean.shape
        self.mean, self.log_variance = (nn.Linear(trunk.width, code) for _ in range(2))
        self.paint = nn.Linear(code + width, mean.size)
        with torch.no_grad():
            self.paint.bias.copy_(torch.as_tensor(mean).flatten())

    def forward(self, volumes: Tensor, seen: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Latents (B, c, h, w), the codes' means and log variances (B, code).

        In training the latent is of a code that is drawn, else of the mean.
        """
        read = self.trunk(volumes)
        mean, log_variance = self.mean(read).float(), self.log_variance(read).float()
        code = mean
        if self.training:
            code = mean + torch.randn_like(mean) * (log_variance / 2).exp()
        return (
            self.paint(torch.cat([code, seen], 1)).unflatten(1, self.shape),
            mean,
            log_variance,
        )


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    r"""Kullback-Leibler divergence of normal codes (B, D) from the standard normal one, mean over B.

    .. math:: \frac{1}{2B} \sum_{b,d} \mu_{bd}^2 + \sigma_{bd}^2 - 1 - \log \sigma_{bd}^2
    """
    each = mean**2 + log_variance.exp() - 1 - log_variance
    return each.sum(1).mean() / 2


class Gu(Decoder):
    """Two networks a subject: one to the direction of CLIP's embedding, one to a start latent."""

    name = "gu"
    card = Card(
        title="Gu et al. (Cortex2Image)",
        reference="Gu, Jamison, Kuceyeski and Sabuncu, Decoding natural image stimuli from fMRI data with a surface-based "
        "convolutional network, MIDL 2023",
        code="https://github.com/zijin-gu/meshconv-decoding",
        choices=(
            Choice(
                "input",
                "whole cortex, surface of 32k vertices a hemisphere, mean over repeats",
                "the subject's mask on its voxel grid, values beside the mask itself; mean over repeats in training",
            ),
            Choice(
                "map",
                "surface convolution to 32 channels, three residual blocks at coarser meshes with 128, 512 and 2048 channels, mean over vertices, "
                "dropout .5, linear layer, batch norm, ReLU, division by the length",
                "3-D convolutions instead, the mean over cells in which the mask lies, no last ReLU: CLIP's entries have both signs",
            ),
            Choice(
                "predicts",
                "features of SwAV, divided by their length; 119 numbers of noise of the generator",
                "CLIP's image embedding instead, as SwAV is a network that scores here, brought to the mean length of the training "
                "pictures; the autoencoder's latent, a linear map of a code of 119 numbers and of the first network's vector",
                "chosen",
            ),
            Choice(
                "loss",
                "mean squared error of the features; then mean squared error of features of the picture made, 1e-6 times that of pixels, and "
                "1e-8 times the divergence of the codes, which grows from 0 over 10 epochs and goes on growing",
                "in the second stage the mean squared error of the latent stands for the first two, weighed 1",
            ),
            Choice(
                "training",
                "AdamW; features: rate 1e-3, batch 32, 100 epochs; code: rate 1e-4, batch 8, 100 epochs, the first network and the "
                "generator frozen; decay .1",
                "with warm-up and cosine",
            ),
            Choice("weights kept", "those of the smallest loss on pictures held out", "the last"),
            Choice(
                "generator",
                "IC-GAN (BigGAN, 256 pixels) from features and noise",
                "the run's, from the embedding and the latent, at the noise strength of the settings",
                "chosen",
            ),
            Choice("selection", "10 draws of noise, none selected", "the mean code, once"),
            Choice("models", "two a subject"),
        ),
        lacking=(
            "IC-GAN: the run's generator and a linear map to its latent stand for it",
            "the cortical surface: convolutions run over the voxel grid",
        ),
    )
    defaults: ClassVar[dict] = {
        "width": 32,
        "dropout": 0.5,
        "lr": 1e-3,
        "weight_decay": 0.1,
        "epochs": 100,
        "batch_size": 32,
        "code": 119,
        "divergence": 1e-8,
        "growing_epochs": 10,
        "detail_lr": 1e-4,
        "detail_epochs": 100,
        "detail_batch_size": 8,
        "strength": 0.8,
        "precision": "auto",
    }
    search: ClassVar[dict] = {
        "lr": (3e-4, 1e-3, 3e-3, 1e-2),
        "weight_decay": (1e-2, 1e-1),
    }
    needs = ("clip_image", "vae")

    def fit(
        self, voxels: Mapping[str, SubjectVoxels], targets: PictureFeatures, parts: FrozenParts
    ) -> Self:
        """See `Decoder.fit`."""
        self._networks, self._device = {}, parts.device
        pictures = sorted({image for own in voxels.values() for image in own.image_ids})
        self._length = mean_length(targets.of("clip_image", pictures))
        for subject, trials in voxels.items():
            own = trials.averaged()
            semantics = self._fit_semantics(own, targets, parts)
            self._networks[subject] = (semantics, self._fit_details(own, semantics, targets, parts))
        both = [network for pair in self._networks.values() for network in pair]
        self.n_models = len(both)
        self.n_parameters = sum(n_numbers(network) for network in both)
        return self

    def _trunk(self, own: SubjectVoxels) -> VoxelTrunk:
        mask = own.mask[_box(own.mask)]
        return VoxelTrunk(mask, self.settings["width"], self.settings["dropout"])

    def _fit_semantics(
        self, own: SubjectVoxels, targets: PictureFeatures, parts: FrozenParts
    ) -> Semantics:
        true, volumes = directions(targets.of("clip_image", own.image_ids)), _reader(own)
        network = seeded(parts.seed, lambda: Semantics(self._trunk(own), true.shape[1]))

        def loss(model: nn.Module, rows: np.ndarray, step: int) -> Tensor:
            said = model(on(model, volumes(rows))).float()
            return functional.mse_loss(said, on(model, true[rows]))

        train(network, loss, len(own), self.settings, parts, (own.subject, "semantics"))
        return network

    def _fit_details(
        self, own: SubjectVoxels, semantics: Semantics, targets: PictureFeatures, parts: FrozenParts
    ) -> Details:
        settings, volumes = self.settings, _reader(own)
        detail = {
            name.removeprefix("detail_"): settings[name]
            for name in settings
            if name.startswith("detail_")
        }
        seen = self._seen(semantics, own)
        mean = targets.of("vae", own.image_ids).mean(0)
        network = seeded(
            parts.seed + 1,
            lambda: Details(self._trunk(own), settings["code"], seen.shape[1], mean),
        )
        growing = n_steps(len(own), settings["growing_epochs"], min(detail["batch_size"], len(own)))

        def loss(model: nn.Module, rows: np.ndarray, step: int) -> Tensor:
            said, *code = model(on(model, volumes(rows)), on(model, seen[rows]))
            true = on(model, targets.of("vae", own.image_ids[rows]))
            weight = settings["divergence"] * (step + 1) / growing
            return functional.mse_loss(said.float(), true) + weight * divergence(*code)

        train(network, loss, len(own), settings | detail, parts, (own.subject, "details"))
        return network

    def _seen(self, semantics: Semantics, voxels: SubjectVoxels) -> np.ndarray:
        volumes = _reader(voxels)
        return outputs(semantics, lambda rows: (volumes(rows),), len(voxels), self._device)

    def predict(self, voxels: SubjectVoxels) -> Predictions:
        """See `Decoder.predict`: `clip_image` of the training pictures' mean length, and `vae`."""
        semantics, details = self._networks[voxels.subject]
        volumes, seen = _reader(voxels), self._seen(semantics, voxels)
        latents = outputs(
            details, lambda rows: (volumes(rows), seen[rows]), len(voxels), self._device
        )
        return {"clip_image": self._length * seen, "vae": latents}

    def conditions(self, said: Predictions) -> Conditions:
        """The predicted image embedding, from the predicted latent on."""
        return Conditions(
            image=said["clip_image"], start=said["vae"], strength=self.settings["strength"]
        )


def _box(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest box in which a mask lies: what is outside says nothing and takes time."""
    return tuple(slice(where.min(), where.max() + 1) for where in np.nonzero(mask))


def _reader(voxels: SubjectVoxels) -> Callable[[np.ndarray], np.ndarray]:
    """Volumes of some rows, in that box."""
    box = _box(voxels.mask)
    return lambda rows: np.ascontiguousarray(voxels.volumes(rows)[:, *box])
