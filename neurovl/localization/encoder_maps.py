"""Maps by what the encoder reads in the responses to pictures that hold a concept: GradCAM (paper section 3.4) and its kin."""

import numpy as np
import torch

from neurovl.encoder.alignment import predict
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.localization.zeroing import silence
from neurovl.tokens.resize import resize_linear
from neurovl.tokens.store import TokenStore

NODES = 8  # of the Gauss-Legendre rule of integrated gradients


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
    >>> from neurovl.localization.encoder_maps import gradcam
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
    >>> from neurovl.localization.encoder_maps import to_grid
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


def integrated_gradients(
    encoder: BrainEncoder,
    store: TokenStore,
    voxels: np.ndarray,
    text: torch.Tensor,
    batch_size: int = 64,
) -> np.ndarray:
    """How much each voxel brings the predicted CLIP embedding towards a word, from the mean response on, float32 (n, V).

    A_iv = x_iv int_0^1 d cos(f(a x_i), t) / d x_iv da: summed over voxels, what the cosine gains over that of the mean response
    (Sundararajan et al. 2017, ICML).

    Parameters
    ----------
    voxels : array, shape (n, V)
    text : tensor, shape (E,)
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    place = next(encoder.parameters()).device
    x, out = torch.as_tensor(voxels, dtype=torch.float32), []
    for block in x.split(batch_size):
        total = torch.zeros_like(block)
        for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
            with torch.enable_grad():
                point = (float(node) * block).requires_grad_(True)
                clip = encoder(store.cut(point, encoder.layout).to(place)).clip
                score = torch.nn.functional.cosine_similarity(clip, text.to(place)[None], dim=-1)
                (slope,) = torch.autograd.grad(score.sum(), point)
            total += float(weight) * slope
        out.append((total * block).numpy())
    return np.concatenate(out)


@torch.no_grad()
def rollout(encoder: BrainEncoder, tokens: torch.Tensor) -> torch.Tensor:
    """Attention rollout: how much of each patch reaches the class token, whatever the concept, float32 (B, N).

    The product over layers of (A + I) / 2 with A the attention averaged over heads (Abnar and Zuidema 2020, ACL). It knows
    no word, so that it is a control: a map of all that is read.

    Parameters
    ----------
    tokens : tensor, shape (B, N, C)
    """
    layers: list[torch.Tensor] = []
    hooks = [
        block.norm1.register_forward_hook(
            lambda _, given, read, block=block: layers.append(_attention(block, read))
        )
        for block in encoder.blocks
    ]
    try:
        encoder(tokens.to(next(encoder.parameters()).device))
    finally:
        for hook in hooks:
            hook.remove()
    reached = layers[-1][:, :1]  # the last layer's class token
    reached = (reached + torch.eye(reached.shape[-1], device=reached.device)[:1]) / 2
    for attention in layers[-2::-1]:
        reached = (reached @ attention + reached) / 2
    return reached[:, 0, 1:].float().cpu()


def _attention(block: torch.nn.Module, read: torch.Tensor) -> torch.Tensor:
    """(B, N + 1, N + 1), averaged over heads."""
    q, k, _ = block.qkv(read).unflatten(-1, (3, block.heads, -1)).permute(2, 0, 3, 1, 4)
    return (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1).mean(1)


def occlusion(
    encoder: BrainEncoder,
    store: TokenStore,
    voxels: np.ndarray,
    texts: torch.Tensor,
    holds: np.ndarray,
    sets: np.ndarray,
) -> np.ndarray:
    """How much of each concept is lost when a set of voxels is silent, float32 (C, V): the mean over the sets that hold a voxel.

    What is lost is presence, see `zeroing.presence`: the cosine with the word in pictures that hold the concept, less that in the others.

    Parameters
    ----------
    voxels : array, shape (n, V)
    texts : tensor, shape (C, E)
    holds : bool array, shape (n, C)
    sets : bool array, shape (S, V)
        Patches (`patch_sets`), or regions.
    """
    count = np.maximum(sets.sum(0), 1)
    with_it = holds / np.maximum(holds.sum(0), 1)
    without = ~holds / np.maximum((~holds).sum(0), 1)
    words = torch.nn.functional.normalize(texts.float().cpu(), dim=1)

    def there(given: np.ndarray) -> np.ndarray:
        said = predict(encoder, store.cut(given, encoder.layout)).clip.float()
        cosine = (torch.nn.functional.normalize(said, dim=1) @ words.T).numpy()
        return (cosine * (with_it - without)).sum(0)

    whole, total = there(voxels), np.zeros((len(texts), voxels.shape[1]), np.float32)
    for columns in sets:
        total += np.outer(whole - there(silence(voxels, columns)), columns)
    return total / count


def patch_sets(store: TokenStore, layout: str) -> np.ndarray:
    """Which stored voxels each patch of a layout holds, bool (N, V)."""
    columns = store.columns(layout).numpy()
    sets = np.zeros((len(columns), store.n_voxels + 1), bool)
    np.put_along_axis(sets, columns, True, axis=1)
    return sets[:, :-1]
