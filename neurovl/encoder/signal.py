r"""How much a prediction looks like a picture's embedding at all, whatever the picture.

Pictures' embeddings vary along all their principal components alike, once each is divided by its standard deviation. What a brain
says well are the leading ones, and a decoder shrinks what it does not know towards the mean; noise comes out of it the other way
round. So the signal of a prediction is

.. math:: s = \log \frac{\lVert f_{1 \ldots L} \rVert}{\lVert f_{K/2 \ldots K} \rVert}

with `f` its K components and L = K / 12. Its strength is

.. math:: a = \log \lVert f_{1 \ldots L} \rVert

which repeats do not raise: the mean of many responses to what was only imagined has a signal, but little strength.
"""

from pathlib import Path
from typing import Self

import torch

from neurovl.encoder.alignment import loss_weights
from neurovl.encoder.encoding_models import TargetBasis
from neurovl.encoder.targets import Targets
from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.settings.sections import Alignment

COMPONENTS, LEADING = 128, 1 / 12  # K, and the share of them that leads


class Signal:
    """Measures the signal of predictions.

    Parameters
    ----------
    mean : Tensor (T,)
    analysis : Tensor (T, K)
        From targets less their mean to components of unit variance.

    Examples
    --------
    >>> from neurovl.encoder.signal import Signal
    >>> signal = Signal.fit(run.targets, run.targets.image_ids, run.profile.alignment)
    >>> signal.of(run.encode(subject=1, image_id=run.test_images(1)[0])).shape
    torch.Size([1, 2])
    """

    def __init__(self, mean: torch.Tensor, analysis: torch.Tensor) -> None:
        self.mean, self.analysis = mean, analysis

    @classmethod
    def fit(cls, targets: Targets, image_ids: list[str], settings: Alignment) -> Self:
        """From the embeddings of some pictures, weighted as in the loss."""
        flat = targets.flat()
        weights = loss_weights(targets.clip.shape[1], flat.shape[1], settings)
        basis = TargetBasis.fit(flat[targets.rows(image_ids)], COMPONENTS, weights)
        return cls(basis.mean, basis.analysis)

    def of(self, z: BrainEmbedding) -> torch.Tensor:
        """Signal and strength of each prediction, shape (B, 2)."""
        vae = [] if z.vae is None else [z.vae.flatten(1)]
        f = (torch.cat([z.clip, *vae], 1).float().cpu() - self.mean) @ self.analysis
        n = f.shape[1]
        leading = f[:, : max(1, round(LEADING * n))].norm(dim=1).log()
        trailing = f[:, n // 2 :].norm(dim=1).log()
        return torch.stack([leading - trailing, leading], 1)

    def save(self, file: Path) -> None:
        """Write it as safetensors."""
        from safetensors.torch import save_file

        save_file({"mean": self.mean.contiguous(), "analysis": self.analysis.contiguous()}, file)

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read what `save` wrote."""
        from safetensors.torch import load_file

        return cls(**load_file(file))
