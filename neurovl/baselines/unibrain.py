"""UniBrain (Mai and Zhang 2023): four ridge regressions, for pictures and for captions.

No code of it is known; what its paper leaves open follows Brain-Diffuser.
"""

from typing import ClassVar

import numpy as np

from neurovl.baselines.brain_diffuser import AS_PUBLISHED, PENALTIES, RESCALING, BrainDiffuser
from neurovl.baselines.decoder import Card, Choice, Predictions


class UniBrain(BrainDiffuser):
    """Brain-Diffuser's regressions, an embedding of the text in the place of its latent, and patch tokens of which is spoken."""

    name = "unibrain"
    card = Card(
        title="UniBrain",
        reference="Mai and Zhang 2023, UniBrain: Unify Image Reconstruction and Captioning All in One Diffusion Model from Human Brain Activity",
        code="",
        choices=(
            Choice(
                "input",
                "",
                "as Brain-Diffuser: the subject's own mask, averages, standardised by the training averages",
                "chosen",
            ),
            Choice(
                "map",
                "four ridge regressions",
                "six, with intercept: one more for the picture's embedding, which the generator takes, one for patch tokens",
                "paper",
            ),
            Choice(
                "loss",
                "squared error",
                "penalties of Brain-Diffuser: 5e4 (latent), 6e4 (image), 1e5 (text)",
                "chosen",
            ),
            Choice("penalty", "", PENALTIES.here, "chosen"),
            Choice("training", "closed form", source="paper"),
            Choice("rescaling", "", RESCALING.here, "chosen"),
            Choice(
                "what it predicts",
                "latent of AutoKL, latent of a text autoencoder (Optimus), CLIP tokens of picture and text",
                "the latent of the generator's autoencoder; the mean CLIP embedding of the captions for the text latent; CLIP "
                "image tokens; the states of the generator's text encoder; patch tokens",
                "paper",
            ),
            Choice(
                "generator",
                "Versatile Diffusion, both flows with 50 steps, strength .75, image and text mixed .6 for pictures and .9 for "
                "captions; repeated sentences are removed",
                "pictures as Brain-Diffuser; there is no text diffusion: the frozen language model speaks of the decoded patch "
                "tokens",
                "paper",
            ),
            Choice("selection", "", "none, one sample", "chosen"),
            Choice("number of models", "one set for each subject", source="paper"),
        ),
        as_published=AS_PUBLISHED
        + ". UniBrain's paper does not say that it does so; its code is not known",
        lacking=("Versatile Diffusion", "Optimus"),
    )
    penalties: ClassVar[dict[str, str]] = {
        **BrainDiffuser.penalties,
        "clip_text": "text_penalty",
        "patch_tokens": "image_penalty",
    }
    needs = tuple(penalties)

    def speaks_from(self, said: Predictions) -> np.ndarray:
        """The decoded patch tokens."""
        return said["patch_tokens"]
