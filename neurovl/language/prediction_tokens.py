"""Brain tokens made of what the encoder predicts, in the place of all its hidden states (our addition).

Hidden states say where in the brain something was read; the predictions say what and where in the picture, in a third of the
tokens, and a decoder has already averaged the noise out of them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from neurovl.errors import DataError

if TYPE_CHECKING:
    from neurovl.encoder.vit3d import BrainEmbedding

SIDE = 4  # places along each side of the latent


class PredictionTokens(nn.Module):
    r"""The class token, the CLIP embedding, and the VAE latent place by place, each in columns of its own.

    .. math:: t = [\,h_0, 0, 0, 0\,],\; [\,0, (c - \overline{c}) / s_c, 0, e_0\,],\; [\,0, 0, (v_i - \overline{v}_i) / s_v, e_i\,]

    with v_i the latent in one of P x P places, i = 1 ... P², and e the unit vectors.

    Parameters
    ----------
    clip_mean : Tensor (E,)
    clip_scale : Tensor, scalar
    vae_mean : Tensor (c, h, w), optional
    vae_scale : Tensor, scalar, optional

    Examples
    --------
    >>> from neurovl.language import PredictionTokens
    >>> z = run.encode(subject=1, image_id=run.test_images(1)[0])
    >>> PredictionTokens.fit(z)(z).shape[1]  # class token, embedding, 4 x 4 places
    18
    """

    def __init__(
        self,
        clip_mean: Tensor,
        clip_scale: Tensor,
        vae_mean: Tensor | None = None,
        vae_scale: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.register_buffer("clip_mean", clip_mean)
        self.register_buffer("clip_scale", clip_scale)
        self.register_buffer("vae_mean", vae_mean)
        self.register_buffer("vae_scale", vae_scale)
        if vae_mean is not None and any(side % SIDE for side in vae_mean.shape[1:]):
            raise DataError(
                f"the latent has shape {tuple(vae_mean.shape)}, expected sides that are multiples of {SIDE}; set language.reads "
                "to hidden"
            )

    @classmethod
    def fit(cls, z: "BrainEmbedding") -> Self:
        """Mean and spread of what is predicted for some training trials."""
        parts = [] if z.vae is None else list(_moments(z.vae))
        return cls(*_moments(z.clip), *parts)

    def forward(self, z: "BrainEmbedding") -> Tensor:
        """Tokens (B, 1 + 1 + P², W), float32; without a latent (B, 2, W)."""
        place = self.clip_mean.device
        first = z.hidden[:, :1].to(place).float()
        clip = (z.clip.to(place).float() - self.clip_mean) / self.clip_scale
        kinds = [first, clip[:, None]]
        if self.vae_mean is not None:
            kinds.append(_places((z.vae.to(place).float() - self.vae_mean) / self.vae_scale))
        widths = [kind.shape[-1] for kind in kinds]
        starts = [sum(widths[:k]) for k in range(len(widths))]
        n = sum(kind.shape[1] for kind in kinds)
        tokens = first.new_zeros(len(first), n, sum(widths) + n - 1)
        row = 0
        for kind, start in zip(kinds, starts, strict=True):
            tokens[:, row : row + kind.shape[1], start : start + kind.shape[2]] = kind
            row += kind.shape[1]
        tokens[:, 1:, sum(widths) :] = torch.eye(n - 1, device=place)
        return tokens

    def save(self, file: Path) -> None:
        """Write it as safetensors."""
        from safetensors.torch import save_file

        save_file({k: v.cpu().contiguous() for k, v in self.state_dict().items()}, file)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        return cls(**load_file(file))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of each value, and one standard deviation for all that is left."""
    mean = x.float().mean(0)
    return mean, (x.float() - mean).square().mean().sqrt().clamp(min=1e-6)


def _places(latent: Tensor) -> Tensor:
    """(B, c, h, w) to (B, P², c h w / P²), row by row."""
    b, c, h, w = latent.shape
    cut = latent.reshape(b, c, SIDE, h // SIDE, SIDE, w // SIDE)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(b, SIDE * SIDE, -1)
