r"""What fitting each published system takes: ridge regressions by arithmetic, networks counted on torch's meta device.

A ridge regression of n rows and V voxels, :math:`k = \min(n, V)`, to T values of each of N pictures computes at a penalties

.. math:: 2 n V k + 2 m n V + a \left(k^3 / 3 + 2 m k^2\right) + 2 m N T

for its Gram matrix and for what it says of m rows (`baselines.linear_maps`); where it chooses among penalties it says so of all
its own rows besides, and of each penalty. A network computes three times its forward pass for each row that it is trained on.

Assumed: all subjects have the mean number of voxels; early and ventral areas are a third of them each; settings are the
profile's, not those of `neurovl search`. Left out: losses, the ridge regression inside UMBRAE, and what networks compute as they
predict, which is a tenth of the training where MindEye's prior goes through all its steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from neurovl.baselines import colour_ridge, linear_maps
from neurovl.baselines.linear_decoder import RescaledRidges
from neurovl.baselines.picture_features import CAPTIONS
from neurovl.baselines.registry import find
from neurovl.doctor.operations import llm_operations
from neurovl.doctor.sizes import ADAMW, F32, vae_sizes
from neurovl.foundation.model_facts import configurations, parameters
from neurovl.language.answer_batches import TEXT
from neurovl.settings.sections import Profile

ROWS = 4  # that a network is counted on: a share of a batch is at least one of them, and a batch norm needs two
THIRD = 1 / 3  # of the voxels, in early and in ventral areas
GRAM = 8  # bytes of an entry: float64


@dataclass(frozen=True)
class Seen:
    """What a system is fitted to, and asked.

    Attributes
    ----------
    subjects : int
    voxels : int
        V, the mean over the subjects' own masks.
    trials, pictures : float
        For training, of one subject.
    asked : int
        Rows of one subject that a system says something of: averages, single trials, noisy averages, the mean brain.
    mask : bool array, shape (x, y, z)
        Of one subject.
    """

    subjects: int
    voxels: int
    trials: float
    pictures: float
    asked: int
    mask: np.ndarray


@dataclass(frozen=True)
class Fit:
    """A system's fit to all subjects.

    Attributes
    ----------
    operations : float
    held : float
        Bytes of the device: rows, matrices, weights with their gradients and moments.
    kept : float
        Bytes for the way back, in float32.
    """

    operations: float
    held: float
    kept: float = 0.0


@dataclass(frozen=True)
class Trained:
    """A network, what it is given of `given` rows, how many rows it is trained on, and how many at a time."""

    network: nn.Module
    inputs: tuple
    rows: float
    batch: int
    given: int = ROWS


def feature_shapes(profile: Profile) -> dict[str, tuple[int, ...]]:
    """The shape of every feature of `baselines.picture_features.FEATURES`, for one picture."""
    clip = configurations(profile.models.clip, "clip")["clip"]
    tower, width = clip["vision_cfg"], clip["embed_dim"]
    patches = (tower["image_size"] // tower["patch_size"]) ** 2
    unclip = configurations(profile.models.unclip, "unclip")
    text, channels = unclip["text_encoder"], unclip["vae"]["latent_channels"]
    side = round((vae_sizes(profile)[2] / channels) ** 0.5)
    return {
        "clip_image": (width,),
        "clip_text": (width,),
        "clip_texts": (CAPTIONS, width),
        "image_tokens": (1 + patches, width),
        "patch_tokens": (patches, tower["width"]),
        "text_states": (text["max_position_embeddings"], text["hidden_size"]),
        "vae": (channels, side, side),
        "palette": (3, 4, 4),
    }


def settings_of(profile: Profile, name: str) -> dict[str, Any]:
    """A system's settings, as published where the profile says nothing."""
    return {**find(name).defaults, **profile.leaderboard.settings.get(name, {})}


def fit_of(name: str, profile: Profile, s: Seen) -> Fit:
    """What one built-in system's fit takes.

    Raises
    ------
    KeyError
        There is no built-in system of this name.
    """
    own, shapes = settings_of(profile, name), feature_shapes(profile)
    values = {feature: prod(shape) for feature, shape in shapes.items()}
    if name == "takagi":
        few, many = len(own["penalties"]), len(own["token_penalties"])
        parts = [(THIRD, "vae", few), (THIRD, "text_states", few), (1, "patch_tokens", many)]
        ridges = [
            _ridge(s, s.trials, share * s.voxels, values[feature], n, s.asked)
            for share, feature, n in parts
        ]
        return Fit(sum(one.operations for one in ridges), sum(one.held for one in ridges))
    if issubclass(find(name), RescaledRidges):
        total = sum(values[feature] for feature in find(name).penalties)
        # Of its own rows and of single trials it says what is measured for the rescaling.
        asked = s.asked + s.pictures + s.trials
        return _ridge(s, s.pictures, s.voxels, total, 1, asked)
    networks = [_of_network(one, s) for one in NETWORKS[name](own, shapes, s, profile)]
    operations = sum(one.operations for one in networks)
    if name == "dream":
        operations += _colours(s, values["vae"] + values["palette"])
    if name == "onellm":
        operations += s.subjects * s.pictures * own["epochs"] * _read(profile, own["queries"])
    largest = max(networks, key=lambda one: one.held + one.kept)
    return replace(largest, operations=operations)


def ridge_operations(
    rows: float, voxels: float, pictures: float, values: float, penalties: int, asked: float
) -> float:
    """Of one subject's regression, and of what it says of some rows; see the module's formula.

    Parameters
    ----------
    rows, voxels : float
        n and V.
    pictures, values : float
        N and T.
    penalties : int
        a; several are chosen from by cross-validation.
    asked : float
        m.
    """
    k = min(rows, voxels)

    def solved(m: float) -> float:
        return 2 * m * rows * voxels + penalties * (k**3 / 3 + 2 * m * k**2)

    found = 2 * rows * voxels * k + solved(asked) + 2 * asked * pictures * values
    if penalties > 1:
        found += linear_maps.FOLDS * solved(rows / linear_maps.FOLDS)
        found += penalties * 2 * rows * pictures * values
    return found


def _ridge(s: Seen, rows: float, voxels: float, values: float, penalties: int, asked: float) -> Fit:
    """Of all subjects; their rows and Gram matrices stay, three further matrices are those that are solved."""
    one = ridge_operations(rows, voxels, s.pictures, values, penalties, asked)
    gram = GRAM * min(rows, voxels) ** 2
    return Fit(s.subjects * one, s.subjects * (F32 * rows * voxels + gram) + 3 * gram)


def _colours(s: Seen, values: float) -> float:
    """DREAM's regression by scikit-learn: fitted to each fold's others and to all, with its weights."""
    n, v = s.pictures, s.voxels
    k = min(n, v)
    one = 2 * n * v * k + k**3 / 3 + 2 * k**2 * values + 2 * n * v * values
    return s.subjects * (colour_ridge.FOLDS + 1) * one


def _read(profile: Profile, tokens: int) -> float:
    """Forward and back through a frozen language model that reads some tokens and a caption, of one row."""
    spec = profile.models.llm
    config, n = configurations(spec, "llm")["llm"], parameters(spec, "llm").get("llm") or 0
    return 2 * llm_operations(config, n, tokens + TEXT)


def _of_network(one: Trained, s: Seen) -> Fit:
    network = one.network
    learned = sum(p.numel() for p in network.parameters() if p.requires_grad)
    fixed = sum(p.numel() for p in network.parameters()) - learned
    operations, kept = one_pass(network, *one.inputs)
    return Fit(
        3 * operations / one.given * one.rows,
        ADAMW * learned + F32 * fixed,
        min(one.batch, s.subjects * s.trials) * kept / one.given,
    )


class WithoutMaps(TorchFunctionMode):
    """Attention as devices compute it, in blocks: no map of all pairs is kept."""

    def __torch_function__(
        self, func: Callable, types: Sequence[type], args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention(*args[:3])[0]
        return func(*args, **(kwargs or {}))


def one_pass(network: nn.Module, *inputs: Any) -> tuple[float, float]:
    """Operations of a forward pass, and bytes that it keeps for the way back beside the network's own numbers."""
    own = {t.untyped_storage()._cdata for t in (*network.parameters(), *network.buffers())}
    kept = dict[int, Tensor]()

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage()._cdata
        if place not in own:
            kept[place] = tensor  # held, so that no later one takes its place
        return tensor

    saved = saved_tensors_hooks(keep, lambda tensor: tensor)
    with FlopCounterMode(display=False) as counter, saved, WithoutMaps():
        network(*inputs)
    return float(counter.get_total_flops()), float(
        sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    )


def _given(*shape: int) -> Tensor:
    return torch.empty(ROWS, *shape, device="meta")


Settings, Shapes = Mapping[str, Any], Mapping[str, tuple[int, ...]]


def _mindeye(own: Settings, shapes: Shapes, s: Seen, profile: Profile) -> list[Trained]:
    from neurovl.baselines.low_level import LatentMLP
    from neurovl.baselines.mindeye import MindEyeModel

    tokens, rows = shapes["image_tokens"], s.subjects * s.pictures
    low = [own[k] for k in ("low_width", "blocks", "low_channels", "low_dropout")]
    with torch.device("meta"):
        high = MindEyeModel(s.voxels, tokens, own)
        latents = LatentMLP(s.voxels, shapes["vae"], *low, own["low_block_dropout"])
    both = _given(s.voxels), _given(*tokens)
    return [
        Trained(high, both, rows * own["epochs"], own["batch_size"]),
        Trained(latents, both[:1], rows * own["low_epochs"], own["low_batch_size"]),
    ]


def _dream(own: Settings, shapes: Shapes, s: Seen, profile: Profile) -> list[Trained]:
    from neurovl.baselines.dream import SemanticModel

    with torch.device("meta"):
        model = SemanticModel(s.voxels, *shapes["clip_text"], own)
    rows = s.subjects * s.pictures * own["epochs"]
    return [Trained(model, (_given(s.voxels),), rows, own["batch_size"])]


def _mindbridge(own: Settings, shapes: Shapes, s: Seen, profile: Profile) -> list[Trained]:
    from neurovl.baselines.mindbridge import TARGETS
    from neurovl.baselines.subject_bridge import BridgeModel

    names = [f"s{k}" for k in range(s.subjects)]
    with torch.device("meta"):
        model = BridgeModel(names, {name: shapes[name] for name in TARGETS}, own)
    inputs = {name: _given(own["length"]) for name in names}, (names[0], names[-1])
    rows, batch = s.subjects * s.pictures * own["epochs"], s.subjects * own["batch_size"]
    return [Trained(model, inputs, rows, batch, ROWS * s.subjects)]


def _mind_reader(own: Settings, shapes: Shapes, s: Seen, profile: Profile) -> list[Trained]:
    from neurovl.baselines.mind_reader import TARGETS, VoxelMapper

    sizes = [own[k] for k in ("channels", "blocks", "hidden")]
    with torch.device("meta"):
        model = VoxelMapper(s.voxels, *shapes["clip_image"], *sizes)
    rows = len(TARGETS) * s.subjects * s.trials * own["epochs"]
    return [Trained(model, (_given(s.voxels),), rows, own["batch_size"])]


def _gu(own: Settings, shapes: Shapes, s: Seen, profile: Profile) -> list[Trained]:
    from neurovl.baselines.gu import Details, Semantics, VoxelTrunk

    mask = s.mask[tuple(slice(k.min(), k.max() + 1) for k in np.nonzero(s.mask))]
    width, rows = shapes["clip_image"][0], s.subjects * s.pictures
    with torch.device("meta"):
        trunks = [VoxelTrunk(mask, own["width"], own["dropout"]) for _ in range(2)]
        semantics = Semantics(trunks[0], width)
        details = Details(trunks[1], own["code"], width, np.zeros(shapes["vae"]))
    volumes, seen = _given(*mask.shape), _given(width)
    return [
        Trained(semantics, (volumes,), rows * own["epochs"], own["batch_size"]),
        Trained(details, (volumes, seen), rows * own["detail_epochs"], own["detail_batch_size"]),
    ]


def _umbrae(own: Settings, shapes: Shapes, s: Seen, profile: Profile) -> list[Trained]:
    from neurovl.baselines.umbrae import BrainX, Perceiver, Tokenizer

    patches, width = shapes["patch_tokens"]
    sizes = [own[k] for k in ("width", "layers", "heads", "head_width")]
    with torch.device("meta"):
        each = [Tokenizer(s.voxels, own["tokens"], own["width"]) for _ in range(s.subjects)]
        model = BrainX(each, Perceiver(patches, np.zeros(width), *sizes))
    pair = min(2, s.subjects)  # subjects a step, each with a batch of its own
    rows, batch = pair * s.trials * own["epochs"], pair * own["batch_size"]
    return [Trained(model, (_given(s.voxels), 0), rows, batch)]


def _onellm(own: Settings, shapes: Shapes, s: Seen, profile: Profile) -> list[Trained]:
    from neurovl.baselines.onellm import ClipTrunk, FmriBranch, OwnTrunk
    from neurovl.foundation.skeleton import clip_skeleton

    frozen, width = own["frozen_clip"], shapes["patch_tokens"][1]
    tower = clip_skeleton(profile.models.clip).model.visual if frozen else None
    sizes = [own[k] for k in ("queries", "experts", "expert_blocks", "heads")]
    with torch.device("meta"):
        trunk = ClipTrunk(tower) if frozen else OwnTrunk(own["width"], own["heads"], own["blocks"])
        moments = np.zeros(width), np.ones(width)
        model = FmriBranch(s.voxels, own["tokens"], trunk, *sizes, *moments)
    rows = s.subjects * s.pictures * own["epochs"]
    return [Trained(model, (_given(s.voxels),), rows, own["batch_size"])]


NETWORKS = {
    "mindeye": _mindeye,
    "dream": _dream,
    "mindbridge": _mindbridge,
    "mind-reader": _mind_reader,
    "gu": _gu,
    "umbrae": _umbrae,
    "onellm": _onellm,
}
