"""Maps of concepts in a subject, by one interface for all methods: GradCAM as the paper has it, and those beside it.

A method either asks what the *encoder* reads in pictures that hold the concept, or what each *voxel* does over many pictures with and
without it. The first says what a decoder uses, the second which voxels answer to the concept; only the second can be tested by exchanging
brains.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from neurovl.encoder.alignment import predict
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.errors import ConfigError, DataError
from neurovl.localization.concept_tuning import ConceptTuning
from neurovl.localization.encoder_maps import (
    gradcam,
    integrated_gradients,
    occlusion,
    patch_sets,
    rollout,
    to_grid,
)
from neurovl.localization.heat import Heat, in_own_space, on_grid
from neurovl.localization.map_tests import chance, exchanged, halves
from neurovl.localization.picture_responses import PictureResponses
from neurovl.localization.voxel_maps import contrast, searchlight, word_responses
from neurovl.tokens.store import TokenStore

TEMPLATE = "a picture of a {}"  # what a concept is to CLIP


@dataclass(frozen=True)
class SubjectPictures:
    """What maps of one subject's concepts are made of.

    Attributes
    ----------
    store : TokenStore
    subject : str
    names : list of str, length C
        The concepts.
    texts : tensor, shape (C, E)
        Their CLIP text embeddings.
    encoders : list of BrainEncoder
        One for each patch size (the paper: 14, 12 and 10), the main one first.
    voxels : array, shape (n, V)
        Stored voxels of test pictures, for methods that ask the encoder.
    holds : bool array, shape (n, C)
        Which of these hold which concept.
    responses : callable, optional
        Gives the `PictureResponses` to training pictures, for methods that ask the voxels; the others need not read all trials.
    regions : list of bool array (V,)
        Regions of interest, for 'occlusion-roi'.
    seed : int
        Of exchanged brains and halves.

    Examples
    --------
    >>> from neurovl.run.mapped_pictures import mapped_pictures
    >>> pictures = mapped_pictures(run, ["person"], subject=1)
    >>> pictures.holds.shape == (len(pictures.voxels), 1)
    True
    """

    store: TokenStore
    subject: str
    names: list[str]
    texts: torch.Tensor
    encoders: list[BrainEncoder]
    voxels: np.ndarray
    holds: np.ndarray
    responses: Callable[[], PictureResponses] | None = None
    regions: Sequence[np.ndarray] = ()
    seed: int = 0


def _gradcam(s: SubjectPictures, at: int) -> np.ndarray:
    """Mean over pictures of their GradCAM maps, each with the peak 1, and over encoders, on the common grid."""
    grids = []
    for encoder in s.encoders:
        tokens = s.store.cut(s.voxels[s.holds[:, at]], encoder.layout)
        cam = gradcam(encoder, tokens, s.texts[at])
        peak = cam.amax(1, keepdim=True).clamp(min=1e-12)
        grids.append(to_grid(s.store, encoder.layout, (cam / peak).mean(0)))
    return np.sum(grids, axis=0)


def _rollout(s: SubjectPictures, at: int) -> np.ndarray:
    encoder = s.encoders[0]
    tokens = s.store.cut(s.voxels[s.holds[:, at]], encoder.layout)
    return to_grid(s.store, encoder.layout, rollout(encoder, tokens).mean(0))


def _integrated(s: SubjectPictures, at: int) -> np.ndarray:
    held = s.voxels[s.holds[:, at]]
    found = integrated_gradients(s.encoders[0], s.store, held, s.texts[at])
    return on_grid(s.store, np.maximum(found.mean(0), 0))


def _pattern(s: SubjectPictures, at: int) -> np.ndarray:
    """Correlation over pictures of each voxel with the decoded presence of the concept, where it is positive."""
    encoder = s.encoders[0]
    z = predict(encoder, s.store.cut(s.voxels, encoder.layout)).clip
    score = torch.nn.functional.cosine_similarity(z, s.texts[at][None], dim=-1).double().numpy()
    x = np.asarray(s.voxels, np.float64)
    x, score = x - x.mean(0), score - score.mean()
    norm = np.linalg.norm(x, axis=0) * np.linalg.norm(score)
    pattern = np.divide(score @ x, norm, out=np.zeros(x.shape[1]), where=norm > 0)
    return on_grid(s.store, np.maximum(pattern, 0))


def _occluded(s: SubjectPictures, sets: np.ndarray) -> list[np.ndarray]:
    lost = occlusion(s.encoders[0], s.store, s.voxels, s.texts, s.holds, sets)
    return [on_grid(s.store, np.maximum(one, 0)) for one in lost]


ENCODER_MAPS: dict[str, Callable[[SubjectPictures], list[np.ndarray]]] = {
    "gradcam": lambda s: [_gradcam(s, k) for k in range(len(s.names))],
    "integrated-gradients": lambda s: [_integrated(s, k) for k in range(len(s.names))],
    "rollout": lambda s: [_rollout(s, k) for k in range(len(s.names))],
    "occlusion": lambda s: _occluded(s, patch_sets(s.store, s.encoders[0].layout)),
    "occlusion-roi": lambda s: _occluded(s, np.array(s.regions, bool)),
    "pattern": lambda s: [_pattern(s, k) for k in range(len(s.names))],
}


Find = Callable[
    [np.ndarray], np.ndarray
]  # from voxels (n, V) to maps (C, V) of the names asked for


def _rows(s: SubjectPictures, r: PictureResponses, find: Find) -> Find:
    """Maps of the concepts of `r` as rows of those asked for; zeros for what too few pictures hold."""
    pairs = [(k, r.names.index(name)) for k, name in enumerate(s.names) if name in r.names]
    to, at = np.array(pairs, int).reshape(-1, 2).T

    def asked(voxels: np.ndarray) -> np.ndarray:
        out = np.zeros((len(s.names), voxels.shape[1]), np.float32)
        out[to] = find(voxels)[at]
        return out

    return asked


def _contrast(s: SubjectPictures, r: PictureResponses) -> Find:
    return _rows(s, r, lambda voxels: contrast(r.holds, voxels))


def _word_responses(s: SubjectPictures, r: PictureResponses) -> Find:
    return lambda voxels: word_responses(r.clip, s.texts, voxels)


def _searchlight(s: SubjectPictures, r: PictureResponses) -> Find:
    measured = s.store.measured(s.subject)
    return _rows(s, r, lambda voxels: searchlight(r.sizes, voxels, s.store.places, measured))


def _tuning(s: SubjectPictures, r: PictureResponses) -> Find:
    return _rows(s, r, ConceptTuning(r.sizes, r.latents).weights)


VOXEL_MAPS: dict[str, Callable[[SubjectPictures, PictureResponses], Find]] = {
    "contrast": _contrast,
    "word-responses": _word_responses,
    "searchlight": _searchlight,
    "tuning": _tuning,
}
UNTESTED = (
    "searchlight",
)  # a decoder for each voxel, which exchanged brains would train forty times more
METHODS = (*ENCODER_MAPS, *VOXEL_MAPS)


def find_maps(method: str, pictures: SubjectPictures) -> dict[str, Heat]:
    """Heatmaps of all concepts in a subject by one method of `METHODS`.

    ====================  ==========================================================================================
    gradcam               the paper's: gradient times hidden state of the encoder's penultimate layer
    integrated-gradients  what each voxel brings the predicted embedding towards the word
    rollout               what attention reads, whatever the word: a control
    occlusion             what of the word is lost without the voxels of a patch
    occlusion-roi         what of the word is lost without a region
    pattern               correlation of each voxel with the decoded presence of the word (Haufe et al. 2014, NeuroImage 87:96)
    contrast              pictures with against without the concept: t of a univariate GLM
    word-responses        what an encoding model of CLIP's embedding expects for the word
    searchlight           how well the ball around a voxel tells where the concept is
    tuning                all concepts at once beside the pictures' looks, see `ConceptTuning`; ours
    ====================  ==========================================================================================

    'contrast', 'word-responses' and 'tuning' have a p for each voxel (`map_tests.chance`).

    Parameters
    ----------
    method : str
    pictures : SubjectPictures

    Raises
    ------
    ConfigError
        The method is unknown.
    DataError
        What the method rests on is not there: test pictures with the concept, or training pictures.

    Examples
    --------
    >>> from neurovl.localization.concept_maps import find_maps
    >>> from neurovl.run.mapped_pictures import mapped_pictures
    >>> heats = find_maps("gradcam", mapped_pictures(run, ["person"], subject=1))
    >>> float(heats["person"].values.max())
    1.0
    """
    store, names, subject = pictures.store, pictures.names, pictures.subject
    if method not in METHODS:
        raise ConfigError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    if method in ENCODER_MAPS:
        least = 3 if method == "pattern" else 1
        for name, held in zip(names, pictures.holds.T, strict=True):
            n = len(held) if method == "pattern" else held.sum()
            if n < least:
                raise DataError(
                    f"{n} pictures were given to locate {name!r} by {method}, expected at least {least}; choose pictures that "
                    "this subject saw, for patterns with and without the concept"
                )
        grids = ENCODER_MAPS[method](pictures)
        return {c: in_own_space(c, store, subject, g) for c, g in zip(names, grids, strict=True)}
    responses = _require_responses(method, pictures)
    measured, find = store.measured(subject), VOXEL_MAPS[method](pictures, responses)
    found = find(responses.voxels)
    tests: list = [(None, None)] * len(names)
    if method not in UNTESTED:
        null = exchanged(find, responses.voxels, pictures.seed)
        tests = list(zip(*chance(found, null, measured), strict=True))
    heats = {}
    for name, values, (alone, family) in zip(names, found, tests, strict=True):
        grid = on_grid(store, np.maximum(values, 0))
        p = None if alone is None else on_grid(store, alone, 1)
        p_family = None if family is None else on_grid(store, family, 1)
        heats[name] = in_own_space(name, store, subject, grid, p, p_family)
    return heats


def reliability(method: str, pictures: SubjectPictures) -> np.ndarray:
    """Split-half correlation of each concept's map over the subject's measured voxels, (C,); of methods that ask the voxels.

    See `map_tests.halves`.
    """
    responses = _require_responses(method, pictures)

    def of_half(rows: np.ndarray) -> np.ndarray:
        half = responses.take(rows)
        return VOXEL_MAPS[method](pictures, half)(half.voxels)

    measured = pictures.store.measured(pictures.subject)
    return halves(of_half, len(responses.image_ids), measured, pictures.seed)


def _require_responses(method: str, pictures: SubjectPictures) -> PictureResponses:
    if pictures.responses is None:
        raise DataError(
            f"{pictures.subject} has no responses to training pictures, which maps by {method} rest on, expected some; use a "
            "method that asks the encoder, such as gradcam"
        )
    return pictures.responses()
