"""BrainCap (Ferrante et al. 2023): ridge regressions to the tokens of a captioning network, which then speaks of them."""

from typing import Any, ClassVar

import numpy as np

from neurovl.baselines.brain_diffuser import AS_PUBLISHED, PENALTIES, RESCALING
from neurovl.baselines.decoder import Card, Choice, Conditions, Predictions
from neurovl.baselines.linear_decoder import RescaledRidges


class BrainCap(RescaledRidges):
    """Patch tokens, of which the frozen language model speaks, and a latent that is painted over under these words."""

    name = "braincap"
    card = Card(
        title="BrainCap",
        reference="Ferrante et al. 2023, Brain Captioning: Decoding human brain activity into images and text",
        code="https://github.com/enomodnara/BrainCaptioning",
        choices=(
            Choice(
                "input",
                "Brain-Diffuser's arrays: nsdgeneral, means over the repeats, z-scored by training mean and deviation",
                "the subject's own mask, z-scored by session, averaged, then standardised by the training averages",
            ),
            Choice(
                "map",
                "ridge with intercept, one for each of 197 tokens; more for 31 layers of a VDVAE, for the picture and for its "
                "depth",
                "the same for patch tokens and for the latent of the generator's autoencoder; none for depth",
            ),
            Choice(
                "loss",
                "squared error; penalty 6e4 for tokens, not given for the VDVAE",
                "5e4 for the latent, as Brain-Diffuser",
            ),
            PENALTIES,
            Choice("training", "closed form"),
            RESCALING,
            Choice(
                "what it predicts",
                "the states of GIT's image tower (CLIP ViT-B/16, 197 x 768, raw); VDVAE latents of picture and depth",
                "the patch tokens of which the frozen language model speaks; the latent of the generator's autoencoder",
            ),
            Choice(
                "generator",
                "captions: GIT, 25 tokens at most; pictures: Stable Diffusion 1.5 with ControlNet (depth .7, ip2p .2, shuffle "
                ".5), guidance 9, 30 steps, or 2.1 from the decoded picture at strength .6, both under the caption",
                "captions: the frozen language model; pictures: the decoded latent as the start at strength .6, under the "
                "caption",
            ),
            Choice("selection", "", "none, one sample", "chosen"),
            Choice("number of models", "one set for each subject; the notebook runs subject 5"),
        ),
        as_published=AS_PUBLISHED,
        lacking=("GIT", "VDVAE", "ControlNet"),
    )
    defaults: ClassVar[dict[str, Any]] = {
        "token_penalty": 6e4,
        "vae_penalty": 5e4,
        "reference_voxels": 15724,
        "strength": 0.6,
    }
    search: ClassVar[dict[str, tuple]] = {
        "token_penalty": (6e2, 6e3, 6e4, 6e5, 6e6),
        "vae_penalty": (5e2, 5e3, 5e4, 5e5, 5e6),
    }
    penalties: ClassVar[dict[str, str]] = {"patch_tokens": "token_penalty", "vae": "vae_penalty"}
    needs = tuple(penalties)

    def conditions(self, said: Predictions) -> Conditions:
        """The decoded latent as the start, under the system's own caption."""
        return Conditions(says_caption=True, start=said["vae"], strength=self.settings["strength"])

    def speaks_from(self, said: Predictions) -> np.ndarray:
        """The decoded patch tokens."""
        return said["patch_tokens"]
