"""Brain-Diffuser (Ozcelik and VanRullen 2023): ridge regressions to a first guess of the picture and to CLIP tokens of picture and text."""

from typing import Any, ClassVar

from neurovl.baselines.decoder import Card, Choice, Conditions, Predictions
from neurovl.baselines.linear_decoder import RescaledRidges

RESCALING = Choice(
    "rescaling",
    "predictions z-scored by their mean and deviation over the test set, then brought to those of the training targets",
    "the deviation is that of predictions for training pictures, each left out of the fit, at the test rows' number of averaged "
    "trials; the mean is that of the training targets; no row depends on another",
)
PENALTIES = Choice(
    "penalty",
    "fixed, for the 15724 voxels of subject 1; how it was chosen is not said",
    "multiplied by V / 15724 for V voxels; searched like every system's",
)
AS_PUBLISHED = (
    "predictions are z-scored over the rows that are predicted together, as in the published code; the main row takes "
    "statistics of held-out training pictures, since the test set's are not known when one picture is decoded"
)


class BrainDiffuser(RescaledRidges):
    """Three stages of ridge regression, each rescaled: VAE latent, CLIP image tokens, text states."""

    name = "brain-diffuser"
    card = Card(
        title="Brain-Diffuser",
        reference="Ozcelik and VanRullen 2023, Natural scene reconstruction from fMRI signals using generative latent diffusion",
        code="https://github.com/ozcelikfu/brain-diffuser",
        choices=(
            Choice(
                "input",
                "nsdgeneral, means over the repeats in training and test, z-scored by training mean and deviation",
                "the subject's own mask, z-scored by session, averaged, then standardised by the training averages",
            ),
            Choice(
                "map",
                "ridge with intercept: one for the VDVAE latent, one for each of 257 image tokens and of 77 text tokens",
                "the same; tokens are solved together, which changes nothing as each target is fitted by itself",
            ),
            Choice("loss", "squared error; penalty 5e4 (VDVAE), 6e4 (image), 1e5 (text)"),
            PENALTIES,
            Choice("training", "closed form"),
            RESCALING,
            Choice(
                "what it predicts",
                "posterior z of the first 31 layers of a VDVAE (91168 values); CLIP tokens of the picture, 257 x 768, divided "
                "by the length of the first; CLIP tokens of the text, 77 x 768, mean over the captions",
                "the latent of the generator's autoencoder for the VDVAE's; the same image tokens, and the picture's embedding "
                "not divided, which the generator takes; the states of the generator's text encoder",
            ),
            Choice(
                "generator",
                "VDVAE's picture of 64 pixels as the start of Versatile Diffusion at strength .75, guidance 7.5, image and text "
                "mixed .6 to .4 in cross-attention",
                "the comparison's generator: decoded latent as the start at strength .75, under decoded embedding and text states",
            ),
            Choice("selection", "none, one sample"),
            Choice("number of models", "one set for each subject"),
        ),
        as_published=AS_PUBLISHED,
        lacking=("VDVAE", "Versatile Diffusion"),
    )
    defaults: ClassVar[dict[str, Any]] = {
        "vae_penalty": 5e4,
        "image_penalty": 6e4,
        "text_penalty": 1e5,
        "reference_voxels": 15724,
        "strength": 0.75,
    }
    search: ClassVar[dict[str, tuple]] = {
        "vae_penalty": (5e2, 5e3, 5e4, 5e5, 5e6),
        "image_penalty": (6e2, 6e3, 6e4, 6e5, 6e6),
        "text_penalty": (1e3, 1e4, 1e5, 1e6, 1e7),
    }
    penalties: ClassVar[dict[str, str]] = {
        "vae": "vae_penalty",
        "image_tokens": "image_penalty",
        "clip_image": "image_penalty",
        "text_states": "text_penalty",
    }
    needs = tuple(penalties)

    def conditions(self, said: Predictions) -> Conditions:
        """The decoded latent as the start, under the decoded embedding and text states."""
        return Conditions(
            image=said["clip_image"],
            text=said["text_states"],
            start=said["vae"],
            strength=self.settings["strength"],
        )
