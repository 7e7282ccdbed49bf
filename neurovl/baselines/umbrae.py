"""UMBRAE (Xia et al. 2024): a tokenizer of each subject's voxels, one perceiver for all, to CLIP's patch tokens."""

import copy
from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from neurovl.baselines.decoder import Card, Choice, Conditions, Decoder, FrozenParts, Predictions
from neurovl.baselines.network_fitting import n_numbers, on, outputs, train
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.repeat_batches import seeded
from neurovl.baselines.ridge import RidgeDecoder
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.baselines.token_moments import token_moments
from neurovl.training.loop import batch_rows


class Tokenizer(nn.Module):
    r"""Voxels of one subject to tokens: a linear map of each voxel to T numbers, then for each of the T one of all voxels.

    Both are linear, so that token t is a gain and an offset away from one vector that all tokens share:

    .. math:: h_t = W (a_t x + b_t 1) + c = a_t W x + b_t W 1 + c

    and it is computed so, without the T copies of the voxels.

    Parameters
    ----------
    n_voxels, tokens, width : int
        V, T and D.
    """

    def __init__(self, n_voxels: int, tokens: int, width: int) -> None:
        super().__init__()
        self.each, self.read = nn.Linear(1, tokens), nn.Linear(n_voxels, width)

    def forward(self, voxels: Tensor) -> Tensor:
        """(B, V) to (B, T, D)."""
        weight, constant = self.read.weight, self.read.bias
        shared = functional.linear(voxels, weight)[:, None]
        return self.each.weight * shared + self.each.bias[:, None] * weight.sum(1) + constant


class Reading(nn.Module):
    """A layer of the perceiver: latents attend to the tokens and to one another, then pass an MLP of their own."""

    def __init__(self, width: int, heads: int, head_width: int) -> None:
        super().__init__()
        inner, self.heads = heads * head_width, heads
        self.of_tokens, self.of_latents = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query = nn.Linear(width, inner, bias=False)
        self.key_value = nn.Linear(width, 2 * inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width, bias=False),
            nn.GELU(),
            nn.Linear(4 * width, width, bias=False),
        )

    def forward(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """(B, P, D) and (B, T, D) to (B, P, D)."""
        own = self.of_latents(latents)
        read = torch.cat([self.of_tokens(tokens), own], 1)
        query = self.query(own).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        key, value = self.key_value(read).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(query, key, value)
        latents = latents + self.out(attended.transpose(1, 2).flatten(2))
        return latents + self.mlp(latents)


class Perceiver(nn.Module):
    """Tokens of any subject to a picture's patch tokens: as many learned latents read them.

    Parameters
    ----------
    n_patches : int
        P.
    mean : array, shape (W,)
        The training pictures' mean patch token, at which the output begins.
    width, layers, heads, head_width : int
        D, and the sizes of the layers.
    """

    def __init__(
        self, n_patches: int, mean: np.ndarray, width: int, layers: int, heads: int, head_width: int
    ) -> None:
        super().__init__()
        self.norm_in, self.norm_out = nn.LayerNorm(width), nn.LayerNorm(width)
        self.latents = nn.Parameter(torch.randn(n_patches, width))
        self.modality = nn.Parameter(torch.randn(width))
        self.layers = nn.ModuleList(Reading(width, heads, head_width) for _ in range(layers))
        self.out = nn.Linear(width, len(mean))
        with torch.no_grad():
            self.out.bias.copy_(torch.as_tensor(mean))

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, D) to (B, P, W)."""
        tokens = self.norm_in(tokens) + self.modality
        latents = self.latents.expand(len(tokens), -1, -1)
        for layer in self.layers:
            latents = layer(latents, tokens)
        return self.out(self.norm_out(latents))


class BrainX(nn.Module):
    """A tokenizer a subject and the perceiver that they share."""

    def __init__(self, tokenizers: Sequence[Tokenizer], perceiver: Perceiver) -> None:
        super().__init__()
        self.tokenizers, self.perceiver = nn.ModuleList(tokenizers), perceiver

    def forward(self, voxels: Tensor, subject: int) -> Tensor:
        """(B, V) of one subject to (B, P, W)."""
        return self.perceiver(self.tokenizers[subject](voxels))


class Umbrae(Decoder):
    """One model for all subjects, and one for each that comes later."""

    name = "umbrae"
    card = Card(
        title="UMBRAE",
        reference="Xia, de Charette, Öztireli and Xue, UMBRAE: Unified multimodal brain decoding, ECCV 2024",
        code="https://github.com/weihaox/UMBRAE",
        choices=(
            Choice(
                "input",
                "z-scored voxels of nsdgeneral; one of the three repeats a picture and epoch in training",
                "the subject's own mask; every trial by itself",
            ),
            Choice(
                "map",
                "for each subject a linear map of every voxel to 256 numbers, then one of the voxels to 1024; shared layer norm, perceiver of 256 latents (6 layers, "
                "16 heads of 96, MLP 4 times as wide), linear map to 1024",
                "as many latents as CLIP has patches; the output begins at the mean patch token",
            ),
            Choice(
                "predicts",
                "the patch tokens of layer -2 of CLIP ViT-L/14, as they are",
                "those of the run's CLIP",
            ),
            Choice(
                "augmentation",
                "the target picture is cropped, mirrored, recoloured",
                "none: features are of whole pictures",
            ),
            Choice("loss", "mean squared error"),
            Choice(
                "training",
                "AdamW, decay .01, one cycle up to 3e-4, batch 128, 300 epochs, in each of them two random subjects, whose losses are summed",
                "warm-up and cosine; two random subjects a step",
            ),
            Choice("weights kept", "the last"),
            Choice(
                "captions",
                "Shikra-7B, frozen, of the tokens predicted",
                "the run's language model, frozen, trained once on true patch tokens",
            ),
            Choice(
                "generator",
                "not released",
                "the run's, from an image embedding that ridge regression reads from the predicted tokens' mean over places; it is fitted on "
                "true features of training pictures",
                "chosen",
            ),
            Choice("selection", "none"),
            Choice("models", "one for all subjects"),
            Choice(
                "new subject",
                "a tokenizer of its own, the perceiver's weights taken over and trained on, 240 epochs",
            ),
        ),
        lacking=("Shikra-7B", "the image generator, which was not released"),
    )
    defaults: ClassVar[dict] = {
        "tokens": 256,
        "width": 1024,
        "layers": 6,
        "heads": 16,
        "head_width": 96,
        "lr": 3e-4,
        "weight_decay": 1e-2,
        "epochs": 300,
        "new_epochs": 240,
        "freeze": False,
        "batch_size": 128,
        "precision": "auto",
    }
    search: ClassVar[dict] = {"lr": (3e-4, 1e-3, 3e-3), "weight_decay": (1e-2, 1e-1)}
    needs = ("patch_tokens", "clip_image")

    def fit(
        self, voxels: Mapping[str, SubjectVoxels], targets: PictureFeatures, parts: FrozenParts
    ) -> Self:
        """See `Decoder.fit`."""
        settings = self.settings
        pictures = sorted({image for own in voxels.values() for image in own.image_ids})
        known, n_patches = token_moments(targets, pictures), targets.shape("patch_tokens")[0]
        self._embedding = RidgeDecoder().fit(
            known.pooled, targets.of("clip_image", pictures), pictures
        )
        sizes = {key: settings[key] for key in ("width", "layers", "heads", "head_width")}

        def make() -> BrainX:
            tokenizers = [self._tokenizer(own) for own in voxels.values()]
            return BrainX(tokenizers, Perceiver(n_patches, known.mean, **sizes))

        place = "+".join(voxels)
        self._train(
            list(voxels.values()), seeded(parts.seed, make), settings, targets, parts, place
        )
        return self

    def fit_new_subject(
        self, voxels: SubjectVoxels, targets: PictureFeatures, parts: FrozenParts
    ) -> "Umbrae":
        """See `Decoder.fit_new_subject`: another decoder, from this one's perceiver; this one stays as it is."""
        settings = self.settings | {"epochs": self.settings["new_epochs"]}
        perceiver = copy.deepcopy(self._network.perceiver).requires_grad_(not settings["freeze"])
        new = type(self)(self.as_published, **self.settings)
        new._embedding = self._embedding
        network = seeded(parts.seed, lambda: BrainX([self._tokenizer(voxels)], perceiver))
        new._train([voxels], network, settings, targets, parts, f"new {voxels.subject}")
        return new

    def _tokenizer(self, own: SubjectVoxels) -> Tokenizer:
        return Tokenizer(own.n_voxels, self.settings["tokens"], self.settings["width"])

    def _train(
        self,
        every: Sequence[SubjectVoxels],
        network: BrainX,
        settings: Mapping,
        targets: PictureFeatures,
        parts: FrozenParts,
        place: str,
    ) -> None:
        """Train on two random subjects a step, each with a batch of its own."""

        def loss(model: nn.Module, rows: np.ndarray, step: int) -> Tensor:
            rng = np.random.default_rng([parts.seed, step])
            total = 0.0
            for k in rng.permutation(len(every))[:2]:
                own = every[k]
                chosen = batch_rows(len(own), len(rows), step, parts.seed)
                said = model(on(model, own.read(chosen)), int(k)).float()
                true = on(model, targets.of("patch_tokens", own.image_ids[chosen]))
                total = total + functional.mse_loss(said, true)
            return total

        self._subjects, self._network, self._device = (
            [own.subject for own in every],
            network,
            parts.device,
        )
        n_rows = round(np.mean([len(own) for own in every]))
        train(network, loss, n_rows, settings, parts, (place,))
        self.n_models, self.n_parameters = 1, n_numbers(network)

    def predict(self, voxels: SubjectVoxels) -> Predictions:
        """See `Decoder.predict`: `patch_tokens`, and `clip_image` read from them."""
        tokenizer = self._network.tokenizers[self._subjects.index(voxels.subject)]
        network = nn.Sequential(tokenizer, self._network.perceiver)
        tokens = outputs(network, lambda rows: (voxels.read(rows),), len(voxels), self._device)
        embeddings = self._embedding.predict(tokens.mean(1)).astype(np.float32)
        return {"patch_tokens": tokens, "clip_image": embeddings}

    def conditions(self, said: Predictions) -> Conditions:
        """The image embedding read from the predicted tokens."""
        return Conditions(image=said["clip_image"])

    def speaks_from(self, said: Predictions) -> np.ndarray:
        """The predicted patch tokens."""
        return said["patch_tokens"]
