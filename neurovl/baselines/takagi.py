"""Takagi and Nishimoto (2023): ridge regression from early visual areas to a latent, from ventral ones to a text condition.

Captions come from their technical report (2306.11536): a ridge regression of all streams to tokens of a captioning network.
"""

from typing import Any, ClassVar

import numpy as np

from neurovl.baselines.decoder import Card, Choice, Conditions, FrozenParts, Predictions
from neurovl.baselines.linear_decoder import LinearDecoder
from neurovl.baselines.linear_maps import Ridge, TrainingRows
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.subject_voxels import SubjectVoxels

EARLY, HIGHER = ("early",), ("ventral",)
STREAMS = ("early", "midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal")
DECADES = tuple(10.0**k for k in range(-6, 1))


class Takagi(LinearDecoder):
    """The latent z from early areas and the text states c from ventral ones, fitted to single trials."""

    name = "takagi"
    card = Card(
        title="Takagi and Nishimoto (SDRecon)",
        reference="Takagi and Nishimoto 2023, High-resolution image reconstruction with latent diffusion models from human brain activity",
        code="https://github.com/yu-takagi/StableDiffusionReconstruction",
        choices=(
            Choice(
                "input",
                "regions of the atlas `streams`: early for the latent, ventral for the text, all for captions; single trials in "
                "training, means over three in test, standardised by the training trials",
                "voxels of these regions that lie in the subject's own mask, z-scored by session",
            ),
            Choice(
                "map",
                "ridge; without an intercept, the library's default, and targets not centred: what is said lacks their mean",
                "with an intercept",
            ),
            Choice(
                "loss",
                "squared error; the penalty of each target from 1e-6 to 1 in decades by cross-validation in 5 folds of trials, "
                "from 1e4, 2e4, 4e4 for the report's tokens",
                "folds are of pictures: no picture has trials on both sides",
            ),
            Choice("training", "closed form (himalaya)", "closed form"),
            Choice(
                "what it predicts",
                "z: Stable Diffusion 1.4's latent of the picture (4 x 40 x 40); c: its text states (77 x 768), mean over the "
                "captions; the report's tokens: states of BLIP's image tower (226 x 768)",
                "the latent of the generator's autoencoder; the states of its text encoder; patch tokens",
            ),
            Choice(
                "generator",
                "Stable Diffusion 1.4 from the decoded picture at strength .8 under c, guidance 5; captions by BLIP, 3 beams",
                "the comparison's generator from z at strength .8 under c; captions by the frozen language model",
            ),
            Choice(
                "selection",
                "none in the code; figures show the best of 5 samples",
                "none, one sample",
            ),
            Choice("number of models", "one set for each subject"),
            Choice(
                "report's other inputs",
                "a GAN's picture in the place of z, and a depth map as a further condition",
                "left out",
            ),
        ),
        as_published="no intercept, and targets not centred, as the library's default in the published code has it: what is said "
        "lacks the targets' mean; the main row has the intercept, without which the latent is not one of a picture",
        lacking=("Stable Diffusion 1.4", "BLIP", "the report's GAN and depth"),
    )
    defaults: ClassVar[dict[str, Any]] = {
        "penalties": DECADES,
        "token_penalties": (1e4, 2e4, 4e4),
        "strength": 0.8,
    }
    search: ClassVar[dict[str, tuple]] = {
        "penalties": (
            DECADES,
            tuple(10.0**k for k in range(-3, 4)),
            tuple(10.0**k for k in range(8)),
        ),
        "token_penalties": ((1e2, 2e2, 4e2), (1e3, 2e3, 4e3), (1e4, 2e4, 4e4), (1e5, 2e5, 4e5)),
    }
    needs = ("vae", "text_states", "patch_tokens")
    published_refit = True

    def regressions(
        self, trials: SubjectVoxels, targets: PictureFeatures, parts: FrozenParts
    ) -> list[Ridge]:
        """From early, from ventral and from all streams."""
        out = []
        for regions, name, penalties in (
            (EARLY, "vae", "penalties"),
            (HIGHER, "text_states", "penalties"),
            (STREAMS, "patch_tokens", "token_penalties"),
        ):
            rows = TrainingRows(
                trials, trials.region(*regions), not self.as_published, parts.device
            )
            out.append(Ridge(rows, targets, (name,), self.settings[penalties], parts.seed))
        return out

    def conditions(self, said: Predictions) -> Conditions:
        """z as the start, under c."""
        return Conditions(
            text=said["text_states"], start=said["vae"], strength=self.settings["strength"]
        )

    def speaks_from(self, said: Predictions) -> np.ndarray:
        """The decoded patch tokens, as the report speaks of BLIP's."""
        return said["patch_tokens"]
