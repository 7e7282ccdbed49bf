"""Mind-Reader (Lin et al. 2022): a 1-D convolution over the voxels to the directions of CLIP's image and text embeddings."""

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurovl.baselines.decoder import Card, Choice, Conditions, Decoder, FrozenParts, Predictions
from neurovl.baselines.network_fitting import directions, mean_length, n_numbers, on, outputs, train
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.repeat_batches import seeded
from neurovl.baselines.subject_voxels import SubjectVoxels

# What is predicted, and the feature of which each trial of a batch draws one row.
TARGETS = {"clip_image": "clip_image", "clip_text": "clip_texts"}


class ResidualConvolution(nn.Module):
    """Three convolutions beside the identity: relu(x + c(relu(b(relu(a(x))))))), a and b of 3 places, c of one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.inner = nn.Sequential(
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, L) to the same."""
        return torch.relu(x + self.inner(x))


class VoxelMapper(nn.Module):
    """Convolutions along the list of voxels, then for each entry of the embedding the same two layers over places.

    Parameters
    ----------
    n_voxels, width : int
        V, and E of the embedding.
    channels, blocks, hidden : int
        Channels along the list, residual blocks, and channels between the two last layers.
    """

    def __init__(self, n_voxels: int, width: int, channels: int, blocks: int, hidden: int) -> None:
        super().__init__()
        self.along = nn.Sequential(
            nn.Conv1d(1, channels, 4, stride=2, padding=1),
            nn.ReLU(),
            *(ResidualConvolution(channels) for _ in range(blocks)),
            nn.Conv1d(channels, width, 1),
            nn.ReLU(),
        )
        self.over_places = nn.Sequential(
            nn.Linear(n_voxels // 2, hidden), nn.ReLU(), nn.Linear(hidden, 1)
        )

    def forward(self, voxels: Tensor) -> Tensor:
        """(B, V) to (B, E)."""
        return self.over_places(self.along(voxels[:, None]))[..., 0]


def contrast(said: Tensor, true: Tensor, temperature: float) -> Tensor:
    r"""Symmetric contrastive loss of embeddings (B, E), with :math:`s_{ij} = \cos(\hat y_i, y_j) / \tau`.

    .. math:: -\frac{1}{2B} \sum_i \Big(\log \frac{e^{s_{ii}}}{\sum_j e^{s_{ij}}}
              + \log \frac{e^{s_{ii}}}{\sum_j e^{s_{ji}}}\Big)
    """
    alike = functional.normalize(said, dim=1) @ functional.normalize(true, dim=1).T / temperature
    own = torch.arange(len(said), device=said.device)
    return (functional.cross_entropy(alike, own) + functional.cross_entropy(alike.T, own)) / 2


class MindReader(Decoder):
    """Two such networks a subject, one to the image's and one to the captions' direction in CLIP's space."""

    name = "mind-reader"
    card = Card(
        title="Mind-Reader",
        reference="Lin, Sprague and Singh, Mind Reader: Reconstructing complex images from brain activities, NeurIPS 2022",
        code="https://github.com/sklin93/mind-reader",
        choices=(
            Choice(
                "input",
                "z-scored voxels of nsdgeneral, filled up to 15744; single trials",
                "the subject's own mask, not filled up",
            ),
            Choice(
                "split",
                "first 85 % and last 15 % of the pictures by number",
                "the run's",
            ),
            Choice(
                "map",
                "1-D convolution 1 to 64 channels (4 places, every second), 4 residual blocks, 512 channels; over the places "
                "of each, a layer to 128 and one to 1; twice, for image and caption",
                "E channels, for CLIP's own width",
            ),
            Choice(
                "predicts",
                "embeddings of CLIP ViT-B/32 of the picture and of one of its captions, drawn anew, clamped to 1.5 and divided by "
                "their length",
                "those of the run's CLIP; the image's is brought to the mean length of the training pictures",
            ),
            Choice(
                "augmentation",
                "the target picture is cropped, mirrored, recoloured, blurred, cut out",
                "none: features are of whole pictures",
            ),
            Choice(
                "loss",
                ".2 mean squared error, .3 cosine distance, .5 symmetric contrast at temperature .5",
            ),
            Choice(
                "training",
                "without contrast first, at batch 32, which the names of its checkpoints show; then Adam, rate 2e-4, times .8 every 10 epochs, "
                "decay 1e-5, 40 epochs, batch 128",
                "the second part alone, by AdamW with warm-up and cosine",
            ),
            Choice("weights kept", "those of the smallest loss on pictures held out", "the last"),
            Choice(
                "generator",
                "StyleGAN2 of LAFITE under both vectors, trained end to end with the mapper",
                "the run's, under the predicted image embedding and the text states of the training picture whose caption embedding is "
                "closest to the one predicted",
                "chosen",
            ),
            Choice("selection", "none"),
            Choice("models", "two, of subject 1", "two a subject"),
        ),
        lacking=(
            "LAFITE's StyleGAN2: the run's generator stands for it, and nothing is tuned end to end",
        ),
    )
    defaults: ClassVar[dict] = {
        "channels": 64,
        "blocks": 4,
        "hidden": 128,
        "clamp": 1.5,
        "mse": 0.2,
        "cosine": 0.3,
        "contrast": 0.5,
        "temperature": 0.5,
        "lr": 2e-4,
        "weight_decay": 1e-5,
        "epochs": 40,
        "batch_size": 128,
        "precision": "auto",
    }
    search: ClassVar[dict] = {"lr": (2e-4, 6e-4, 2e-3, 6e-3), "weight_decay": (1e-5, 1e-2, 1e-1)}
    needs = ("clip_image", "clip_text", "clip_texts", "text_states")

    def fit(
        self, voxels: Mapping[str, SubjectVoxels], targets: PictureFeatures, parts: FrozenParts
    ) -> Self:
        """See `Decoder.fit`."""
        self._networks, self._device, self._targets = {}, parts.device, targets
        self._pictures = sorted({image for own in voxels.values() for image in own.image_ids})
        true = {name: targets.of(name, self._pictures) for name in TARGETS}
        self._lengths = {name: mean_length(values) for name, values in true.items()}
        self._texts = directions(true["clip_text"])
        for subject, own in voxels.items():
            for name in TARGETS:
                network = self._fit_one(own, name, targets, parts)
                self._networks[subject, name] = network
        self.n_models = len(self._networks)
        self.n_parameters = sum(n_numbers(network) for network in self._networks.values())
        return self

    def _fit_one(
        self, own: SubjectVoxels, name: str, targets: PictureFeatures, parts: FrozenParts
    ) -> VoxelMapper:
        settings = self.settings
        seen, row_of = np.unique(own.image_ids, return_inverse=True)
        true = targets.of(TARGETS[name], seen).reshape(len(seen), -1, *targets.shape(name))
        true = directions(np.clip(true, -settings["clamp"], settings["clamp"]))
        sizes = {key: settings[key] for key in ("channels", "blocks", "hidden")}
        network = seeded(parts.seed, lambda: VoxelMapper(own.n_voxels, true.shape[-1], **sizes))

        def loss(model: nn.Module, rows: np.ndarray, step: int) -> Tensor:
            which = np.random.default_rng([parts.seed, step]).integers(
                true.shape[1], size=len(rows)
            )
            wanted = on(model, true[row_of[rows], which])
            return self.loss(model(on(model, own.read(rows))).float(), wanted)

        train(network, loss, len(own), settings, parts, (own.subject, name))
        return network

    def loss(self, said: Tensor, true: Tensor) -> Tensor:
        """Weighted sum of squared error, cosine distance and contrast, of embeddings (B, E)."""
        weights = self.settings
        return (
            weights["mse"] * functional.mse_loss(said, true)
            + weights["cosine"] * (1 - functional.cosine_similarity(said, true)).mean()
            + weights["contrast"] * contrast(said, true, weights["temperature"])
        )

    def predict(self, voxels: SubjectVoxels) -> Predictions:
        """See `Decoder.predict`: `clip_image` and `clip_text`, of the mean lengths of the training pictures'."""
        return {
            name: self._lengths[name]
            * directions(self._outputs(self._networks[voxels.subject, name], voxels))
            for name in TARGETS
        }

    def _outputs(self, network: VoxelMapper, voxels: SubjectVoxels) -> np.ndarray:
        return outputs(network, lambda rows: (voxels.read(rows),), len(voxels), self._device)

    def conditions(self, said: Predictions) -> Conditions:
        """The predicted image embedding, and the text states of the training picture whose captions are closest."""
        nearest = (directions(said["clip_text"]) @ self._texts.T).argmax(1)
        states = self._targets.of("text_states", [self._pictures[k] for k in nearest])
        return Conditions(image=said["clip_image"], text=states)
