"""OneLLM's fMRI branch (Han et al. 2024): voxels to tokens that a frozen language model reads, trained by its captions alone."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from neurovl.baselines.decoder import Card, Choice, Decoder, FrozenParts, Predictions
from neurovl.baselines.network_fitting import n_numbers, on, outputs, train
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.repeat_batches import seeded
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.baselines.token_moments import token_moments
from neurovl.encoder.vit3d import Block
from neurovl.errors import DataError, MissingError

if TYPE_CHECKING:
    from neurovl.language import BrainLLM


class ClipTrunk(nn.Module):
    """CLIP's image tower without what reads the picture: its transformer, frozen, between its two norms.

    Parameters
    ----------
    tower : nn.Module
        Of open_clip, a VisionTransformer.

    Raises
    ------
    DataError
        The tower is of another kind.
    """

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        wanted = ("ln_pre", "transformer", "ln_post", "class_embedding")
        if missing := [name for name in wanted if not hasattr(tower, name)]:
            raise DataError(
                f"CLIP's image tower is a {type(tower).__name__} without {missing[0]}, expected a VisionTransformer: name "
                "another CLIP in models.clip, or set frozen_clip of onellm to false"
            )
        self.before, self.blocks, self.after = tower.ln_pre, tower.transformer, tower.ln_post
        self.width = len(tower.class_embedding)
        self.requires_grad_(False)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, T, width) to the same."""
        return self.after(self.blocks(self.before(tokens)))


class OwnTrunk(nn.Sequential):
    """Blocks of our own in the place of CLIP's."""

    def __init__(self, width: int, heads: int, blocks: int) -> None:
        super().__init__(*(Block(width, heads, 4.0, 0.0) for _ in range(blocks)))
        self.width = width


class FmriBranch(nn.Module):
    """Voxels to the queries' tokens.

    A linear map makes T tokens, which with a class token go through the trunk; queries are put before them and all go
    through every expert; what an expert gives for a query counts by a gate that is computed from the query.

    Parameters
    ----------
    n_voxels, tokens : int
        V and T.
    trunk : ClipTrunk or OwnTrunk
    queries, experts, blocks, heads : int
        Queries Q; experts, and the blocks and heads of each.
    mean, spread : array, shape (D,)
        What the output's norm begins with: mean and standard deviation of what the language model knows.
    """

    def __init__(
        self,
        n_voxels: int,
        tokens: int,
        trunk: ClipTrunk | OwnTrunk,
        queries: int,
        experts: int,
        blocks: int,
        heads: int,
        mean: np.ndarray,
        spread: np.ndarray,
    ) -> None:
        super().__init__()
        width, self.trunk = trunk.width, trunk
        self.read = nn.Linear(n_voxels, tokens * width)
        self.first = nn.Parameter(torch.randn(1, width) * 0.02)
        self.position = nn.Parameter(torch.randn(tokens + 1, width) * 0.02)
        self.into = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.gates = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, experts)
        )
        self.experts = nn.ModuleList(
            nn.Sequential(*(Block(width, heads, 4.0, 0.0) for _ in range(blocks)))
            for _ in range(experts)
        )
        self.out = nn.Sequential(nn.Linear(width, len(mean)), nn.LayerNorm(len(mean)))
        with torch.no_grad():
            self.out[1].weight.copy_(torch.as_tensor(spread))
            self.out[1].bias.copy_(torch.as_tensor(mean))

    def forward(self, voxels: Tensor) -> Tensor:
        """(B, V) to (B, Q, D)."""
        n = len(voxels)
        tokens = self.read(voxels).unflatten(1, (len(self.position) - 1, -1))
        tokens = torch.cat([self.first.expand(n, 1, -1), tokens], 1) + self.position
        tokens = self.into(self.trunk(tokens))
        queries = self.queries.expand(n, -1, -1)
        gates = self.gates(queries).sigmoid()
        gates = gates / gates.sum(-1, keepdim=True)
        every = torch.cat([queries, tokens], 1)
        read = [expert(every)[:, : queries.shape[1]] for expert in self.experts]
        return self.out((torch.stack(read, -1) * gates[:, :, None]).sum(-1))


class OneLLM(Decoder):
    """One such network a subject; it says captions, and nothing of pictures."""

    name = "onellm"
    card = Card(
        title="OneLLM",
        reference="Han et al., OneLLM: One framework to align all modalities with language, CVPR 2024",
        code="https://github.com/csuhan/OneLLM",
        choices=(
            Choice(
                "input",
                "z-scored voxels of nsdgeneral, the mean of three repeats in training and test",
                "the subject's own mask; in test what the protocol asks for",
            ),
            Choice(
                "map",
                "linear map to 8 tokens of 1024; CLIP's class token, positions of their own; the frozen transformer of CLIP ViT-L/14; linear map and layer "
                "norm; 30 queries; 3 experts of 8 blocks, weighed by a gate for each token; linear map and layer norm; start and end tags",
                "a class token of its own; the run's CLIP, or blocks of our own; the last norm begins at the mean and spread of true patch "
                "tokens; no tags",
            ),
            Choice(
                "pretraining",
                "experts and projection learn from pictures and five further modalities first",
                "none: all is learned from brains",
            ),
            Choice(
                "predicts",
                "tokens for the language model",
                "as wide as the patch tokens that it was trained on",
            ),
            Choice("loss", "cross-entropy of a random caption's tokens"),
            Choice(
                "training",
                "AdamW, decay .1, one epoch over mixed modalities up to 1e-5, one of instructions at 2e-5; what is frozen is open in its code",
                "the language model and its projector are frozen; warm-up and cosine",
            ),
            Choice("weights kept", "the last"),
            Choice(
                "captions",
                "LLaMA2-7B, asked for one sentence, temperature .1, nucleus .75, 128 tokens at most",
                "the run's language model, trained once on true patch tokens; the likeliest token",
            ),
            Choice("generator", "none"),
            Choice("selection", "none"),
            Choice("models", "one, of subject 1", "one a subject"),
        ),
        lacking=(
            "LLaMA2-7B as OneLLM trained it",
            "experts that learned from pictures and other modalities",
        ),
    )
    defaults: ClassVar[dict] = {
        "tokens": 8,
        "frozen_clip": True,
        "width": 1024,
        "blocks": 2,
        "queries": 30,
        "experts": 3,
        "expert_blocks": 8,
        "heads": 16,
        "lr": 2e-5,
        "weight_decay": 0.1,
        "epochs": 1,
        "batch_size": 128,
        "max_new_tokens": 128,
        "precision": "auto",
    }
    search: ClassVar[dict] = {"lr": (2e-5, 3e-4, 1e-3, 3e-3), "weight_decay": (1e-2, 1e-1)}
    needs = ("patch_tokens",)

    def fit(
        self, voxels: Mapping[str, SubjectVoxels], targets: PictureFeatures, parts: FrozenParts
    ) -> Self:
        """See `Decoder.fit`.

        Raises
        ------
        MissingError
            There is no language model, or there are no captions.
        """
        self._networks, self._device = {}, parts.device
        brain_llm = _language_model(parts)
        frozen = ClipTrunk(parts.clip().model.visual) if self.settings["frozen_clip"] else None
        for subject, trials in voxels.items():
            self._networks[subject] = self._fit_one(
                trials.averaged(), targets, parts, brain_llm, frozen
            )
        self.n_models = len(self._networks)
        self.n_parameters = sum(n_numbers(network) for network in self._networks.values())
        return self

    def _fit_one(
        self,
        own: SubjectVoxels,
        targets: PictureFeatures,
        parts: FrozenParts,
        brain_llm: "BrainLLM",
        frozen: ClipTrunk | None,
    ) -> FmriBranch:
        talks = _talks(own, parts)
        known = token_moments(targets, own.image_ids)
        network = seeded(
            parts.seed, lambda: self._branch(own.n_voxels, known.mean, known.spread, frozen)
        )

        def loss(model: nn.Module, rows: np.ndarray, step: int) -> Tensor:
            rng = np.random.default_rng([parts.seed, step])
            said = [talks[row][rng.integers(len(talks[row]))] for row in rows]
            return brain_llm.loss(model(on(model, own.read(rows))), said)

        train(network, loss, len(own), self.settings, parts, (own.subject,))
        return network

    def _branch(
        self, n_voxels: int, mean: np.ndarray, spread: np.ndarray, frozen: ClipTrunk | None
    ) -> FmriBranch:
        sizes = self.settings
        return FmriBranch(
            n_voxels,
            sizes["tokens"],
            frozen or OwnTrunk(sizes["width"], sizes["heads"], sizes["blocks"]),
            sizes["queries"],
            sizes["experts"],
            sizes["expert_blocks"],
            sizes["heads"],
            mean,
            spread,
        )

    def predict(self, voxels: SubjectVoxels) -> Predictions:
        """What the language model is to read: `hidden` (n, Q, D), in the space of patch tokens."""
        network = self._networks[voxels.subject]
        read = outputs(network, lambda rows: (voxels.read(rows),), len(voxels), self._device)
        return {"hidden": read}

    def captions(self, said: Predictions, parts: FrozenParts) -> Sequence[str]:
        """What the language model says of `hidden`, asked as in training."""
        from neurovl.language.dialogues import PROMPTS

        brain_llm, hidden = _language_model(parts), torch.as_tensor(said["hidden"])
        prompts = [PROMPTS["brief"][0]] * len(hidden)
        return brain_llm.generate(hidden, prompts, max_new_tokens=self.settings["max_new_tokens"])


def _language_model(parts: FrozenParts) -> "BrainLLM":
    """The language model, frozen."""
    if parts.captioner is None:
        raise MissingError(
            "onellm has no language model to read for, expected one in the parts (captioner): leave onellm out, or train one: "
            "neurovl train llm --run RUN"
        )
    return parts.captioner().requires_grad_(False).eval()


def _talks(own: SubjectVoxels, parts: FrozenParts) -> list[list]:
    """For each row its picture's captions, each as an answer to the same question."""
    from neurovl.language.dialogues import PROMPTS, Dialogue

    said = [[] if parts.captions is None else parts.captions(str(image)) for image in own.image_ids]
    if bare := [image for image, those in zip(own.image_ids, said, strict=True) if not those]:
        raise MissingError(
            f"{len(bare)} training pictures of {own.subject} have no caption (first: {bare[0]}), expected one at least: leave "
            "onellm out, or add captions to the data"
        )
    question = PROMPTS["brief"][0]
    return [
        [Dialogue("brief", str(image), ((question, caption),), False) for caption in those]
        for image, those in zip(own.image_ids, said, strict=True)
    ]
