"""Where a concept in words sits in the brain: GradCAM on the encoder's penultimate layer (paper section 3.4).

Maps of encoders with several patch sizes are averaged; the result is a NIfTI image in the subject's own space.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurovl.encoder.alignment import predict
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.errors import DataError
from neurovl.tokens.resize import resize_linear
from neurovl.tokens.store import TokenStore

if TYPE_CHECKING:
    import pandas as pd
    from nibabel import Nifti1Image

TEMPLATE = "a picture of a {}"  # what a concept is to CLIP


@dataclass(frozen=True)
class Heat:
    """Where a concept is, in one subject's space.

    Attributes
    ----------
    concept, subject : str
    values : float32 array, shape (x, y, z)
        0 to 1 within the subject's mask, 0 elsewhere.
    affine : array, shape (4, 4)
        Voxel to mm.

    Examples
    --------
    >>> heat = run.locate("person", subject=1)
    >>> heat.roi_table(data.rois(1)).columns.tolist()
    ['roi', 'voxels', 'mean', 'peak', 'share']
    >>> heat.to_nifti().shape == data.mask(1).shape
    True
    """

    concept: str
    subject: str
    values: np.ndarray
    affine: np.ndarray

    def to_nifti(self) -> "Nifti1Image":
        """The heatmap as a nibabel NIfTI image."""
        import nibabel

        return nibabel.Nifti1Image(self.values, self.affine)

    def roi_table(self, rois: dict[str, np.ndarray]) -> "pd.DataFrame":
        """Mean heat, peak and share of the total heat for each ROI, hottest first.

        Parameters
        ----------
        rois : dict of str to bool array (x, y, z)
        """
        import pandas as pd

        total = float(self.values.sum()) or 1.0
        rows = [
            {
                "roi": name,
                "voxels": int(roi.sum()),
                "mean": float(self.values[roi].mean()),
                "peak": float(self.values[roi].max()),
                "share": float(self.values[roi].sum()) / total,
            }
            for name, roi in rois.items()
            if roi.any()
        ]
        return pd.DataFrame(rows).sort_values("mean", ascending=False, ignore_index=True)


def gradcam(
    encoder: BrainEncoder, tokens: torch.Tensor, text: torch.Tensor, batch_size: int = 64
) -> torch.Tensor:
    """GradCAM of the cosine between the predicted CLIP embedding and a concept's text embedding.

    cam_n = ReLU(sum_k w_k A_nk), with A the penultimate hidden states of the N patch tokens and w_k the mean over
    patches of d cos / d A_nk (Selvaraju et al. 2017). The last layer's patch tokens have no gradient, as only its class
    token is read. Layers below A are run without gradients.

    Parameters
    ----------
    tokens : tensor, shape (B, N, C)
    text : tensor, shape (E,)
    batch_size : int
        Pictures in memory at a time.

    Returns
    -------
    float32 tensor, shape (B, N)

    Examples
    --------
    >>> from neurovl.localization.concept_maps import gradcam
    >>> tokens = run.store.batch(subject=1, rows=[0, 1])
    >>> gradcam(run.encoder(), tokens, text=torch.ones(64)).shape == tokens.shape[:2]
    True
    """
    place = next(encoder.parameters()).device
    cams = []
    for block in tokens.split(batch_size):
        with torch.no_grad():
            hidden = encoder(block.to(place)).hidden
        with torch.enable_grad():
            clip = encoder.from_hidden(hidden.requires_grad_(True)).clip
            score = torch.nn.functional.cosine_similarity(clip, text.to(place)[None], dim=-1).sum()
            (gradient,) = torch.autograd.grad(score, hidden)
        weights = gradient[:, 1:].mean(1, keepdim=True)
        cams.append(torch.relu((weights * hidden[:, 1:]).sum(-1)).detach().float().cpu())
    return torch.cat(cams)


def to_grid(store: TokenStore, layout: str, cam: torch.Tensor) -> np.ndarray:
    """Scatter values of the kept patches (N,) into the grid of patches and upsample it trilinearly to the common grid.

    Examples
    --------
    >>> from neurovl.localization.concept_maps import to_grid
    >>> cam = torch.ones(run.store.shape("p5")[0])
    >>> to_grid(run.store, "p5", cam).shape == run.store.target
    True
    """
    plan = store.plans[layout]
    coarse = np.zeros(int(np.prod(plan.candidates)), np.float32)
    coarse[plan.kept] = np.asarray(cam)
    padded = tuple(n * p for n, p in zip(plan.candidates, plan.patch, strict=True))
    fine = resize_linear(coarse.reshape(plan.candidates), padded)
    return fine[tuple(slice(n) for n in plan.target)]


def _gradcam_map(
    store: TokenStore, encoder: BrainEncoder, text: torch.Tensor, voxels: np.ndarray
) -> np.ndarray:
    """Mean over trials of their GradCAM maps, each with the peak 1, on the common grid."""
    cam = gradcam(encoder, store.cut(voxels, encoder.layout), text)
    peak = cam.amax(1, keepdim=True).clamp(min=1e-12)
    return to_grid(store, encoder.layout, (cam / peak).mean(0))


def _pattern_map(
    store: TokenStore, encoder: BrainEncoder, text: torch.Tensor, voxels: np.ndarray
) -> np.ndarray:
    """Correlation over trials of each voxel with the decoded presence of the concept, where it is positive."""
    z = predict(encoder, store.cut(voxels, encoder.layout)).clip
    score = torch.nn.functional.cosine_similarity(z, text[None], dim=-1).double().numpy()
    x = np.asarray(voxels, np.float64)
    x, score = x - x.mean(0), score - score.mean()
    norm = np.linalg.norm(x, axis=0) * np.linalg.norm(score)
    pattern = np.divide(score @ x, norm, out=np.zeros(x.shape[1]), where=norm > 0)
    grid = np.zeros(int(np.prod(store.target)), np.float32)
    grid[store.region] = np.maximum(pattern, 0)
    return grid.reshape(store.target)


_MAPS = {"gradcam": (_gradcam_map, 1), "pattern": (_pattern_map, 3)}  # and the trials it needs


def locate(
    concept: str,
    *,
    store: TokenStore,
    encoders: list[BrainEncoder],
    text: torch.Tensor,
    subject: str | int,
    voxels: np.ndarray,
    method: str = "gradcam",
) -> Heat:
    """Heatmap of a concept in a subject, averaged over encoders.

    'gradcam' is the paper's method. 'pattern' is our addition, as a gradient also weighs voxels that only cancel noise:
    which voxels rise with the decoded presence of the concept, heat_v = max(0, corr_n(x_nv, cos(z_n, text))) over trials n,
    the pattern that belongs to the decoder's score (Haufe et al. 2014, NeuroImage 87:96).

    Parameters
    ----------
    concept : str
    encoders : list of BrainEncoder
        One for each patch size (the paper: 14, 12 and 10).
    text : tensor, shape (E,)
        CLIP text embedding of the concept.
    voxels : array, shape (n_trials, V)
        Stored voxels: for 'gradcam' of the trials to explain, for 'pattern' of many trials with and without the concept.
    method : str
        'gradcam' or 'pattern'.

    Raises
    ------
    DataError
        Too few trials were given: none, or for 'pattern' less than three.

    Examples
    --------
    >>> from neurovl.foundation.clip import load_clip
    >>> from neurovl.localization.concept_maps import locate
    >>> text = load_clip("tiny", "cpu").embed_texts(["a photo of a person"])[0]
    >>> about = {"store": run.store, "encoders": [run.encoder()], "text": text, "subject": 1}
    >>> heat = locate("person", voxels=run.store.voxels(subject=1, rows=[0, 1]), **about)
    >>> float(heat.values.min()), float(heat.values.max())
    (0.0, 1.0)
    >>> heat = locate("person", voxels=run.store.voxels(subject=1), method="pattern", **about)
    >>> heat.subject, heat.values.shape == data.mask(1).shape
    ('subj01', True)
    """
    find, at_least = _MAPS[method]
    if len(voxels) < at_least:
        raise DataError(
            f"{len(voxels)} trials were given to locate {concept!r} by {method}, expected at least {at_least}; choose "
            "pictures that this subject saw, for patterns with and without the concept"
        )
    grid = np.sum([find(store, encoder, text, voxels) for encoder in encoders], axis=0)
    return in_own_space(concept, store, subject, grid)


def in_own_space(concept: str, store: TokenStore, subject: str | int, grid: np.ndarray) -> Heat:
    """A map on the common grid as a heatmap in the subject's mask, scaled from 0 to 1.

    Parameters
    ----------
    grid : array, shape `store.target`
    """
    image = store.mask(subject)
    mask = np.asarray(image.dataobj) > 0
    own = resize_linear(grid, mask.shape) * mask
    inside = own[mask]
    span = float(inside.max() - inside.min()) or 1.0
    return Heat(
        concept,
        store.subject_name(subject),
        np.where(mask, (own - inside.min()) / span, 0).astype(np.float32),
        image.affine,
    )
