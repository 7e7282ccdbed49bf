"""A diffusion prior: from the tokens that an MLP read out of a brain to tokens such as pictures have."""

import math

import torch
from torch import nn
from torch.nn import functional

HEAD = 64  # width of an attention head
OFFSET = 0.008  # of the schedule: the first step adds some noise


class DiffusionPrior(nn.Module):
    r"""Gaussian diffusion over tokens; a transformer without a causal mask predicts the clean ones.

    .. math:: x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \epsilon, \quad
        L = \| f(x_t, t, c) - x_0 \|^2 / (N E)

    with :math:`\bar\alpha_t` falling as a squared cosine and :math:`x_0` the tokens times :math:`\sqrt E`. For a share
    of the rows the condition c is a learned one that says nothing.

    Parameters
    ----------
    n_tokens, width : int
        N and E.
    layers : int
    steps : int
        Of noise, all of which are gone through in sampling.
    drop : float
        Share of the rows whose condition is left out.
    skip : bool
        Add the condition to the prediction, token by token, so that attention need not learn first which token of the
        condition belongs to which of the picture.

    References
    ----------
    Scotti et al. 2023 (MindEye), and its code, `src/models.py`; Ramesh et al. 2022 for the prior; Nichol and Dhariwal
    2021 for the schedule; Ho et al. 2020 for sampling.
    """

    alpha: torch.Tensor

    def __init__(
        self,
        n_tokens: int,
        width: int,
        layers: int = 6,
        steps: int = 100,
        drop: float = 0.2,
        skip: bool = False,
    ) -> None:
        super().__init__()
        self.steps, self.drop, self.skip, self.scale = steps, drop, skip, width**0.5
        heads = max(1, width // HEAD)
        if width % heads:
            heads = 1
        block = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, functional.gelu, batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(
            block, layers, nn.LayerNorm(width), enable_nested_tensor=False
        )
        self.place = nn.Parameter(0.02 * torch.randn(2 * n_tokens + 1, width))
        self.nothing = nn.Parameter(0.02 * torch.randn(n_tokens, width))
        self.time = nn.Embedding(steps, width)
        self.out = nn.Linear(width, width)
        self.register_buffer("alpha", cosine_schedule(steps), persistent=False)

    def forward(
        self, noisy: torch.Tensor, condition: torch.Tensor, step: torch.Tensor
    ) -> torch.Tensor:
        """Clean tokens, scaled: noisy ones (n, N, E), conditions (n, N, E) and steps (n,) to (n, N, E)."""
        condition = condition * self.scale
        tokens = torch.cat([condition, self.time(step)[:, None], noisy], 1) + self.place
        said = self.out(self.blocks(tokens)[:, -noisy.shape[1] :])
        return said + condition if self.skip else said

    def loss(self, condition: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """Mean squared error of the clean tokens at steps and noise that are drawn, both (n, N, E)."""
        n = len(tokens)
        clean = tokens.float() * self.scale
        step = torch.randint(self.steps, (n,), device=tokens.device)
        kept = self.alpha[step][:, None, None]
        noisy = kept.sqrt() * clean + (1 - kept).sqrt() * torch.randn_like(clean)
        silent = torch.rand(n, device=tokens.device) < self.drop
        condition = torch.where(silent[:, None, None], self.nothing, condition)
        return functional.mse_loss(self(noisy, condition, step).float(), clean)

    @torch.no_grad()
    def sample(self, condition: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Tokens (n, N, E) for conditions (n, N, E), with noise from a generator of the CPU."""

        def noise() -> torch.Tensor:
            return torch.randn(condition.shape, generator=generator).to(condition.device)

        x = noise()
        for t in reversed(range(self.steps)):
            now = self.alpha[t]
            before = self.alpha[t - 1] if t else torch.ones_like(now)
            ratio = now / before
            clean = self(x, condition, torch.full((len(x),), t, device=x.device)).float()
            x = (before.sqrt() * (1 - ratio) * clean + ratio.sqrt() * (1 - before) * x) / (1 - now)
            if t:
                x = x + ((1 - before) / (1 - now) * (1 - ratio)).sqrt() * noise()
        return x / self.scale


def cosine_schedule(steps: int) -> torch.Tensor:
    r"""Share of the signal's variance that is left after each step, tensor (steps,).

    .. math:: \bar\alpha_t = \prod_{s \le t} \max\left(\frac{f(s + 1)}{f(s)},\, .001\right), \quad
        f(s) = \cos^2\left(\frac{s / T + .008}{1.008} \cdot \frac{\pi}{2}\right)

    References
    ----------
    Nichol and Dhariwal 2021, equation 17.
    """
    angle = [math.pi / 2 * (k / steps + OFFSET) / (1 + OFFSET) for k in range(steps + 1)]
    left = torch.tensor([math.cos(a) ** 2 for a in angle], dtype=torch.float64)
    return (left[1:] / left[:-1]).clamp(min=0.001).cumprod(0).float()
