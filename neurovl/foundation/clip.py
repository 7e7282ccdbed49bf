"""CLIP: image and text embeddings by open_clip."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from neurovl.errors import ConfigError, MissingError
from neurovl.foundation.source import (
    alternatives,
    cached_snapshot,
    device_for,
    fetch_command,
    first_here,
    load_or_explain,
    resolve,
)

if TYPE_CHECKING:
    from PIL import Image


class Clip:
    """An open_clip model with its preprocessing and tokenizer.

    Attributes
    ----------
    width : int
        Size of the projected embedding.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        preprocess: "Callable[[Image.Image], torch.Tensor]",
        tokenizer: Callable[[list[str]], torch.Tensor],
        device: str,
    ) -> None:
        self.model, self.preprocess, self.tokenizer, self.device = (
            model.eval().to(device),
            preprocess,
            tokenizer,
            device,
        )
        self.width = int(model.text_projection.shape[-1])

    @torch.no_grad()
    def embed_images(self, images: "Sequence[Image.Image]", batch_size: int = 128) -> torch.Tensor:
        """Projected, un-normalised image embeddings E_c(x) (paper section 3.1).

        Parameters
        ----------
        images : list of PIL.Image

        Returns
        -------
        float32 tensor, shape (n_images, width)
        """
        out = []
        for i in range(0, len(images), batch_size):
            pixels = torch.stack(
                [self.preprocess(im.convert("RGB")) for im in images[i : i + batch_size]]
            )
            out.append(self.model.encode_image(pixels.to(self.device)).float().cpu())
        return torch.cat(out) if out else torch.zeros(0, self.width)

    @torch.no_grad()
    def image_tokens(
        self, images: "Sequence[Image.Image]", batch_size: int = 128
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens of the image tower, a vision transformer.

        Parameters
        ----------
        images : list of PIL.Image

        Returns
        -------
        float32 tensor, shape (n_images, 1 + P, width)
            All tokens of the last layer, normed and projected as the first is; the first is the embedding.
        float32 tensor, shape (n_images, P, W)
            The patch tokens of the penultimate layer.

        Raises
        ------
        ConfigError
            The image tower is no vision transformer.
        """
        tower = self.model.visual
        if not hasattr(tower, "forward_intermediates") or not hasattr(tower, "ln_post"):
            raise ConfigError(
                f"CLIP's image tower is a {type(tower).__name__}, expected a vision transformer, whose tokens decoders learn: "
                "name another CLIP in the profile"
            )
        final = tower.transformer.layers
        last, before = [], []
        for i in range(0, len(images), batch_size):
            pixels = torch.stack(
                [self.preprocess(im.convert("RGB")) for im in images[i : i + batch_size]]
            )
            out = tower.forward_intermediates(
                pixels.to(self.device),
                indices=[final - 2, final - 1],
                output_fmt="NLC",
                output_extra_tokens=True,
                intermediates_only=True,
            )
            penultimate, tokens = out["image_intermediates"]
            tokens = torch.cat([out["image_intermediates_prefix"][1], tokens], 1)
            last.append((tower.ln_post(tokens) @ tower.proj).float().cpu())
            before.append(penultimate.float().cpu())
        return torch.cat(last), torch.cat(before)

    @torch.no_grad()
    def embed_texts(self, texts: list[str], batch_size: int = 256) -> torch.Tensor:
        """Projected, un-normalised text embeddings, float32 tensor, shape (n_texts, width)."""
        out = []
        for i in range(0, len(texts), batch_size):
            out.append(
                self.model.encode_text(self.tokenizer(texts[i : i + batch_size]).to(self.device))
                .float()
                .cpu()
            )
        return torch.cat(out) if out else torch.zeros(0, self.width)


def load_clip(spec: str | Sequence[str] = "tiny", device: str = "auto") -> Clip:
    """Load a CLIP model from files that are here.

    Parameters
    ----------
    spec : str or sequence of str
        'tiny', a folder with `open_clip_config.json`, the hub id of one, or 'ARCHITECTURE/TAG' as open_clip lists them
        ('ViT-L-14/openai'). Of several, the first that is here.

    Raises
    ------
    MissingError
        The model is not here; the message holds the command that fetches it.

    Examples
    --------
    >>> from neurovl.foundation.clip import load_clip
    >>> clip = load_clip("tiny", device="cpu")
    >>> clip.embed_texts(["a dog", "a house"]).shape
    torch.Size([2, 64])
    """
    import open_clip

    device = device_for(device, f"CLIP {alternatives(spec)[0]}")
    source, options = first_here(spec, _find)
    model, _, preprocess = load_or_explain(
        lambda: open_clip.create_model_and_transforms(source, require_pretrained=True, **options),
        spec,
        "CLIP",
    )
    return Clip(model, preprocess, open_clip.get_tokenizer(source), device)


def _find(spec: str) -> tuple[str, dict]:
    """open_clip's name of a model and the options that make it; its weights are in the hub's cache, or MissingError."""
    import open_clip

    spec = spec.removeprefix("hf-hub:")
    name, _, tag = spec.partition("/")
    known = open_clip.get_pretrained_cfg(name, tag) if name in open_clip.list_models() else {}
    if not known:
        folder = resolve(spec, "clip")
        if not (Path(folder) / "open_clip_config.json").is_file():
            raise MissingError(
                f"the CLIP model {spec} has no open_clip_config.json, expected a CLIP in open_clip's format; name one, "
                "such as ViT-L-14/openai"
            )
        return f"local-dir:{folder}", {}
    hub_id, _, file = known["hf_hub"].rpartition("/")
    if "hf_tokenizer_name" in open_clip.get_model_config(name)["text_cfg"]:
        return "local-dir:" + resolve(hub_id, "clip"), {}  # its tokenizer is of the hub, too
    folder = cached_snapshot(hub_id)
    wanted = [file] if file else ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"]
    weights = [folder / f for f in wanted if folder and (folder / f).is_file()]
    if not weights:
        raise MissingError(
            f"the CLIP model {spec} is not in the hub's cache, expected {wanted[0]} of {hub_id} there; fetch it with "
            f"`{fetch_command(hub_id)}` or name a local folder in the profile"
        )
    # A file instead of the tag leaves open_clip without the tag's settings. OpenAI's weights need QuickGELU, which it
    # would not set for the tag either.
    return name, {
        "pretrained": str(weights[0]),
        "force_quick_gelu": known.get("quick_gelu", False),
        **{f"image_{k}": known[k] for k in ("mean", "std", "interpolation", "resize_mode")},
    }
