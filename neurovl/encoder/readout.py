"""The linear readout of each patch: a decoder in closed form that the transformer starts from (our addition)."""

import contextlib

import torch
from torch import nn


class LinearReadout(nn.Module):
    """What each patch says about the target, linearly, in closed form; never trained (see `responses`).

    e_n = x_n W_sn for the patches n of subject s, u = b_s + sum_n e_n, target = m + u P. A volume belongs to the subject
    whose measured voxels agree best with its own (the largest Jaccard index), so that nobody need say whose it is; a
    subject never seen is read as the one whose region is most alike.

    Attributes
    ----------
    weight : tensor, shape (S, N, C, K)
    offset : tensor, shape (S, K)
    measured : bool tensor, shape (S, N, C)
        Voxels of each subject's own region.
    components : tensor, shape (K, T), and mean : tensor, shape (T,)
        From readout to the CLIP embedding and, behind it, the flat VAE latent.
    """

    def __init__(
        self, n_subjects: int, n_tokens: int, token_size: int, size: int, n_targets: int
    ) -> None:
        super().__init__()
        place = (n_subjects, n_tokens, token_size)
        self.register_buffer("weight", torch.zeros(*place, size))
        self.register_buffer("offset", torch.zeros(n_subjects, size))
        self.register_buffer("measured", torch.zeros(place, dtype=torch.bool))
        self.register_buffer("components", torch.zeros(size, n_targets))
        self.register_buffer("mean", torch.zeros(n_targets))

    def subject(self, tokens: torch.Tensor) -> torch.Tensor:
        """Number of the subject that each volume (B, N, C) belongs to."""
        if len(self.measured) == 1:
            return torch.zeros(len(tokens), dtype=torch.long, device=tokens.device)
        present = (tokens != 0).flatten(1).float()
        measured = self.measured.flatten(1).float()
        both = present @ measured.T
        either = present.sum(1, keepdim=True) + measured.sum(1) - both
        return (both / either.clamp(min=1)).argmax(1)

    @torch.compiler.disable
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """LinearReadout (B, N + 1, K) of tokens (B, N, C): the subject's offset, then each patch's."""
        whose, x = self.subject(tokens), tokens.float()
        with _in_float32(tokens.device):
            if len(self.weight) == 1:
                patches = torch.einsum("bnc,nck->bnk", x, self.weight[0])
            else:
                patches = x.new_empty(*x.shape[:2], self.weight.shape[-1])
                for s in whose.unique():
                    rows = whose == s
                    patches[rows] = torch.einsum("bnc,nck->bnk", x[rows], self.weight[s])
        return torch.cat([self.offset[whose, None], patches], dim=1)

    def decode(self, readout: torch.Tensor) -> torch.Tensor:
        """Targets (B, T) from the readout (B, K) of whole volumes."""
        with _in_float32(readout.device):
            return readout.float() @ self.components + self.mean


def _in_float32(device: torch.device) -> contextlib.AbstractContextManager:
    # The meta device knows no autocast.
    meta = device.type == "meta"
    return contextlib.nullcontext() if meta else torch.autocast(device.type, enabled=False)
