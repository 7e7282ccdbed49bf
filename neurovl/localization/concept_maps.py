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


def gradcam(encoder: BrainEncoder, tokens: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    """GradCAM of the cosine between the predicted CLIP embedding and a concept's text embedding.

    cam_n = ReLU(sum_k w_k A_nk), with A the penultimate hidden states of the N patch tokens and w_k the mean over
    patches of d cos / d A_nk (Selvaraju et al. 2017). The last layer's patch tokens have no gradient, as only its class
    token is read.

    Parameters
    ----------
    tokens : tensor, shape (B, N, C)
    text : tensor, shape (E,)

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
    with torch.enable_grad():
        hidden = encoder(tokens.to(place)).hidden.detach().requires_grad_(True)
        clip = encoder.from_hidden(hidden).clip
        score = torch.nn.functional.cosine_similarity(clip, text.to(place)[None], dim=-1).sum()
        (gradient,) = torch.autograd.grad(score, hidden)
    weights = gradient[:, 1:].mean(1, keepdim=True)
    return torch.relu((weights * hidden[:, 1:]).sum(-1)).detach().float().cpu()


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


def locate(
    concept: str,
    *,
    store: TokenStore,
    encoders: list[BrainEncoder],
    text: torch.Tensor,
    subject: str | int,
    voxels: np.ndarray,
) -> Heat:
    """Heatmap of a concept in a subject, averaged over trials and patch sizes.

    Parameters
    ----------
    concept : str
    encoders : list of BrainEncoder
        One for each patch size (the paper: 14, 12 and 10).
    text : tensor, shape (E,)
        CLIP text embedding of the concept.
    voxels : array, shape (n_trials, V)
        Stored voxels of the trials to explain.

    Raises
    ------
    DataError
        No trial was given.

    Examples
    --------
    >>> from neurovl.foundation.clip import load_clip
    >>> from neurovl.localization.concept_maps import locate
    >>> text = load_clip("tiny", "cpu").embed_texts(["a photo of a person"])[0]
    >>> voxels = run.store.voxels(subject=1, rows=[0, 1])
    >>> heat = locate(
    ...     "person", store=run.store, encoders=[run.encoder()], text=text, subject=1, voxels=voxels
    ... )
    >>> float(heat.values.min()), float(heat.values.max())
    (0.0, 1.0)
    """
    if not len(voxels):
        raise DataError(
            f"no trial was given to locate {concept!r}, expected at least one; choose pictures that this subject saw"
        )
    total = np.zeros(store.target, np.float32)
    for encoder in encoders:
        cam = gradcam(encoder, store.cut(voxels, encoder.layout), text)
        peak = cam.amax(1, keepdim=True).clamp(min=1e-12)
        total += to_grid(store, encoder.layout, (cam / peak).mean(0))
    return in_own_space(concept, store, subject, total)


def locate_pattern(
    concept: str,
    *,
    store: TokenStore,
    encoder: BrainEncoder,
    text: torch.Tensor,
    subject: str | int,
    voxels: np.ndarray,
) -> Heat:
    """Heatmap by activation patterns: which voxels rise with the decoded presence of the concept.

    heat_v = max(0, corr_n(x_nv, cos(z_n, text))) over trials n, the pattern that belongs to the decoder's score (Haufe et
    al. 2014, NeuroImage 87:96). It is our addition: a gradient also weighs voxels that only cancel noise.

    Parameters
    ----------
    voxels : array, shape (n_trials, V)
        Stored voxels of many trials with and without the concept.

    Raises
    ------
    DataError
        Fewer than three trials.

    Examples
    --------
    >>> from neurovl.foundation.clip import load_clip
    >>> from neurovl.localization.concept_maps import locate_pattern
    >>> text = load_clip("tiny", "cpu").embed_texts(["a photo of a person"])[0]
    >>> voxels = run.store.voxels(subject=1)
    >>> heat = locate_pattern(
    ...     "person", store=run.store, encoder=run.encoder(), text=text, subject=1, voxels=voxels
    ... )
    >>> heat.subject, heat.values.shape == data.mask(1).shape
    ('subj01', True)
    """
    if len(voxels) < 3:
        raise DataError(
            f"{len(voxels)} trials were given to locate {concept!r} by patterns, expected at least 3; "
            "give trials with and without the concept, or use GradCAM"
        )
    z = predict(encoder, store.cut(voxels, encoder.layout)).clip
    score = torch.nn.functional.cosine_similarity(z, text[None], dim=-1).double().numpy()
    x = np.asarray(voxels, np.float64)
    x, score = x - x.mean(0), score - score.mean()
    norm = np.linalg.norm(x, axis=0) * np.linalg.norm(score)
    pattern = np.divide(score @ x, norm, out=np.zeros(x.shape[1]), where=norm > 0)
    grid = np.zeros(int(np.prod(store.target)), np.float32)
    grid[store.region] = np.maximum(pattern, 0)
    return in_own_space(concept, store, subject, grid.reshape(store.target))


def in_own_space(concept: str, store: TokenStore, subject: str | int, grid: np.ndarray) -> Heat:
    """A map on the common grid as a heatmap in the subject's mask, scaled from 0 to 1.

    Parameters
    ----------
    grid : array, shape `store.target`
    """
    import nibabel

    name = store.subject_name(subject)
    image = nibabel.load(store.folder / f"{name}_mask.nii.gz")
    mask = np.asarray(image.dataobj) > 0
    own = resize_linear(grid, mask.shape) * mask
    inside = own[mask]
    span = float(inside.max() - inside.min()) or 1.0
    return Heat(
        concept,
        name,
        np.where(mask, (own - inside.min()) / span, 0).astype(np.float32),
        image.affine,
    )


def zero_located(
    store: TokenStore, heat: Heat, voxels: np.ndarray, share: float = 0.1
) -> np.ndarray:
    """Set the hottest voxels to their mean, 0 in z-scores, the paper's check that the located voxels carry the concept.

    Parameters
    ----------
    voxels : array, shape (n_trials, V)
    share : float
        Share of the subject's region to set to zero.

    Returns
    -------
    array, shape (n_trials, V)

    Examples
    --------
    >>> from neurovl.localization.concept_maps import zero_located
    >>> voxels = run.store.voxels(subject=1, rows=[0])
    >>> silent = zero_located(run.store, run.locate("person", subject=1), voxels, share=0.5)
    >>> int((silent == 0).sum()) >= run.store.n_voxels // 2
    True
    """
    values = resize_linear(heat.values, store.target).ravel()[store.region]
    hottest = np.argsort(-values, kind="stable")[: max(1, round(share * len(values)))]
    out = np.array(voxels, np.float32)
    out[:, hottest] = 0
    return out
