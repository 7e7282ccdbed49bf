"""The paper's metric networks: AlexNet, Inception v3, EfficientNet-B1, SwAV, CLIP ViT-L/14 and, for CLIP-S, ViT-B/32.

Sizes, layers and comparisons are those of the code of MindEye (Scotti et al. 2023), which the paper's peers share, and of
BrainHub for CLIP-S. Nothing is downloaded: weights lie in torch's hub folder or in a folder of one's own.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from neurovl.errors import DataError, MissingError
from neurovl.foundation.source import device_for, fetch_command

if TYPE_CHECKING:
    from PIL import Image

    from neurovl.foundation.clip import Clip

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SWAV_URL = "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar"
CLIP_S_WEIGHT, CLIP_S_PREFIX = 2.5, "A photo depicts "


class ImageNetwork:
    """Features of pictures at named nodes of a network, each picture resized and normalised as the network wants it.

    Parameters
    ----------
    model : torch.nn.Module
        Takes (n, 3, size, size).
    nodes : dict
        Node of the network, as torchvision's `get_graph_node_names` lists it, to the name of the feature.
    size : int
        Side in pixels; pictures are resized bilinearly, and those that are not square cropped in their middle.
    mean, std : tuple of float
        Of each channel, for pixels from 0 to 1.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        nodes: dict[str, str],
        size: int,
        mean: Sequence[float],
        std: Sequence[float],
        device: str = "cpu",
    ) -> None:
        from torchvision.models.feature_extraction import create_feature_extractor

        net = create_feature_extractor(model.eval(), nodes, suppress_diff_warning=True)
        self.net = net.requires_grad_(False)
        self.size, self.mean, self.std, self.device = size, mean, std, device

    def preprocess(self, images: "Sequence[Image.Image]") -> torch.Tensor:
        """PIL pictures as the network takes them, float32 tensor, shape (n, 3, size, size)."""
        return preprocess(images, self.size, self.mean, self.std)

    @torch.no_grad()
    def features(
        self, images: "Sequence[Image.Image]", batch_size: int = 32
    ) -> dict[str, np.ndarray]:
        """Features by name, float32 arrays, shape (n_images, n_features)."""
        self.net.to(self.device)
        parts: dict[str, list] = {}
        for i in range(0, len(images), batch_size):
            found = self.net(self.preprocess(images[i : i + batch_size]).to(self.device))
            for name, values in found.items():
                parts.setdefault(name, []).append(values.flatten(1).float().cpu())
        return {name: torch.cat(p).numpy() for name, p in parts.items()}


class ClipFeatures:
    """The projected image embedding of a CLIP as the feature 'clip', with bilinear resizing as in the field's code."""

    def __init__(self, clip: "Clip") -> None:
        self.clip = clip
        self.config = clip.model.visual.preprocess_cfg

    @torch.no_grad()
    def features(
        self, images: "Sequence[Image.Image]", batch_size: int = 32
    ) -> dict[str, np.ndarray]:
        """{'clip': float32 array, shape (n_images, width)}."""
        size = self.config["size"]
        size = size if isinstance(size, int) else size[0]
        parts = []
        for i in range(0, len(images), batch_size):
            batch = images[i : i + batch_size]
            pixels = preprocess(batch, size, self.config["mean"], self.config["std"])
            parts.append(self.clip.model.encode_image(pixels.to(self.clip.device)).float().cpu())
        return {"clip": torch.cat(parts).numpy()}


def preprocess(
    images: "Sequence[Image.Image]", size: int, mean: Sequence[float], std: Sequence[float]
) -> torch.Tensor:
    """PIL pictures as a normalised float32 tensor, shape (n, 3, size, size), the shorter side resized to `size`, cropped square."""
    from torchvision.transforms import v2

    steps = v2.Compose(
        [
            v2.Resize(size, v2.InterpolationMode.BILINEAR),
            v2.CenterCrop(size),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(mean, std),
        ]
    )
    return torch.stack([steps(im.convert("RGB")) for im in images])


@dataclass(frozen=True)
class Member:
    """One network of a metric family, loaded when its scores are wanted.

    Attributes
    ----------
    scores : tuple of str
        The comparison and the feature: 'two_way_alexnet2' is two-way identification by the feature 'alexnet2',
        'distance_swav' the correlation distance by 'swav'.
    load : callable
        Gives the network; MissingError where its weights are not here.
    """

    name: str
    scores: tuple[str, ...]
    load: Callable


def paper_family(folder: Path | str | None = None, device: str = "auto") -> list[Member]:
    """The networks behind the paper's Table 2.

    Parameters
    ----------
    folder : path, optional
        Holds the weights under their own file names, and the CLIP as 'ViT-L-14/' in open_clip's format. By default the
        former are looked for in torch's hub folder, and the CLIP in the hub's cache.

    Returns
    -------
    list of Member
    """
    return [
        Member(name, scores, lambda make=make: make(folder, device))
        for name, scores, make in (
            ("AlexNet", ("two_way_alexnet2", "two_way_alexnet5"), _alexnet),
            ("Inception v3", ("two_way_inception",), _inception),
            ("CLIP ViT-L/14", ("two_way_clip",), _clip_image),
            ("EfficientNet-B1", ("distance_effnet",), _efficientnet),
            ("SwAV ResNet-50", ("distance_swav",), _swav),
        )
    ]


def _alexnet(folder: Path | str | None, device: str) -> ImageNetwork:
    from torchvision.models import AlexNet_Weights, alexnet

    nodes = {"features.4": "alexnet2", "features.11": "alexnet5"}
    return _network(alexnet, AlexNet_Weights.IMAGENET1K_V1.url, nodes, 256, folder, device)


def _inception(folder: Path | str | None, device: str) -> ImageNetwork:
    from torchvision.models import Inception_V3_Weights, inception_v3

    # As torchvision makes it with these weights: they want pixels from -1 to 1, which the network itself sees to.
    def build() -> nn.Module:
        return inception_v3(transform_input=True, aux_logits=True, init_weights=False)

    url = Inception_V3_Weights.IMAGENET1K_V1.url
    return _network(build, url, {"avgpool": "inception"}, 342, folder, device)


def _efficientnet(folder: Path | str | None, device: str) -> ImageNetwork:
    from torchvision.models import EfficientNet_B1_Weights, efficientnet_b1

    url = EfficientNet_B1_Weights.IMAGENET1K_V2.url
    return _network(efficientnet_b1, url, {"avgpool": "effnet"}, 255, folder, device)


def _swav(folder: Path | str | None, device: str) -> ImageNetwork:
    from torchvision.models import resnet50

    return _network(resnet50, SWAV_URL, {"avgpool": "swav"}, 224, folder, device)


def caption_member(folder: Path | str | None = None, device: str = "auto") -> Member:
    """The CLIP ViT-B/32 of CLIP-S, from the hub's cache or 'ViT-B-32/' in a folder."""
    return Member("CLIP ViT-B/32", ("clip_s",), lambda: _clip("ViT-B-32", folder, device))


def _clip_image(folder: Path | str | None, device: str) -> ClipFeatures:
    return ClipFeatures(_clip("ViT-L-14", folder, device))


def _clip(architecture: str, folder: Path | str | None, device: str) -> "Clip":
    import open_clip

    from neurovl.foundation.clip import load_clip

    if folder is None:
        return load_clip(f"{architecture}/openai", device)
    place = Path(folder) / architecture
    if not place.is_dir():
        hub_id = open_clip.get_pretrained_cfg(architecture, "openai")["hf_hub"].rstrip("/")
        raise MissingError(
            f"{architecture}/ is not in {folder}; fetch it: {fetch_command(hub_id)} --local-dir {place}"
        )
    return load_clip(str(place), device)


def clip_s(clip: "Clip", images: torch.Tensor, captions: list[str]) -> np.ndarray:
    r"""CLIP-S of captions, :math:`2.5 \max(\cos(E_{image}, E_{text}), 0)`, with the prefix "A photo depicts".

    Parameters
    ----------
    clip : Clip
    images : tensor, shape (n_images, width)
        Embeddings by the same CLIP, with its own preprocessing.
    captions : list of n_images str

    Returns
    -------
    array, shape (n_images,)

    References
    ----------
    Hessel et al. 2021.
    """
    texts = clip.embed_texts([CLIP_S_PREFIX + text for text in captions])
    cosine = torch.nn.functional.cosine_similarity(images.double(), texts.double())
    return CLIP_S_WEIGHT * cosine.clamp(min=0).numpy()


def _network(
    build: Callable[[], torch.nn.Module],
    url: str,
    nodes: dict,
    size: int,
    folder: Path | str | None,
    device: str,
) -> ImageNetwork:
    """A torchvision network with the weights that `url` names; only the layers below its nodes are filled."""
    with torch.device("meta"):
        model = build()
    if device == "meta":  # a network without weights, for its shapes and the name of its file
        network = ImageNetwork(model, nodes, size, *IMAGENET, device)
        network.url = url
        return network
    file = weights_file(url, folder)
    device = device_for(device, file.name)
    state = _read(file)
    known = model.state_dict()
    usable = {k: v for k, v in state.items() if k in known and v.shape == known[k].shape}
    # Counters of training, which older files lack and evaluation does not read.
    counters = [k for k in known if k.endswith("num_batches_tracked")]
    usable = dict.fromkeys(counters, torch.zeros(())) | usable
    model.load_state_dict(usable, strict=False, assign=True)
    network = ImageNetwork(model.float(), nodes, size, *IMAGENET, device)
    empty = [name for name, value in network.net.state_dict().items() if value.is_meta]
    if empty:
        raise DataError(
            f"{file.name} has no weights for {empty[0]} ({len(empty)} are missing), expected those of torchvision's "
            f"network; fetch it again: {_command(url, folder)}"
        )
    return network


def weights_file(url: str, folder: Path | str | None) -> Path:
    name = url.rsplit("/", 1)[1]
    home = Path(torch.hub.get_dir()) / "checkpoints" if folder is None else Path(folder)
    if not (home / name).is_file():
        place = "torch's hub folder" if folder is None else str(folder)
        raise MissingError(f"{name} is not in {place}; fetch it: {_command(url, folder)}")
    return home / name


def _command(url: str, folder: Path | str | None) -> str:
    if folder is None:
        home = "$TORCH_HOME" if "TORCH_HOME" in os.environ else "~/.cache/torch"
        folder = f"{home}/hub/checkpoints"
    return f"curl -L --create-dirs -o {folder}/{url.rsplit('/', 1)[1]} {url}"


def _read(file: Path) -> dict[str, np.ndarray]:
    """State dict of a file, memory-mapped where its format allows; names without DataParallel's prefix."""
    import pickle
    import zipfile

    try:
        state = torch.load(
            file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file)
        )
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, OSError) as error:
        raise DataError(
            f"{file.name} cannot be read ({str(error).splitlines()[0][:100]}), expected a state dict of tensors; "
            "remove it and fetch it again"
        ) from error
    return {k.removeprefix("module."): v for k, v in state.get("state_dict", state).items()}
