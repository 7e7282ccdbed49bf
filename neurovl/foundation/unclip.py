"""Stable unCLIP: pictures from an image embedding, a text and a start latent."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from neurovl.foundation.source import alternatives, device_for, load_or_explain, resolve

if TYPE_CHECKING:
    from diffusers import StableUnCLIPImg2ImgPipeline


def load_unclip(
    spec: str | Sequence[str] = "tiny", device: str = "auto"
) -> "StableUnCLIPImg2ImgPipeline":
    """Load a `StableUnCLIPImg2ImgPipeline` from the tiny family, a folder or a hub id, or the first that is here of several.

    Raises
    ------
    MissingError
        The model is not here and could not be fetched.

    Examples
    --------
    >>> from neurovl.foundation.unclip import load_unclip
    >>> type(load_unclip("tiny", device="cpu")).__name__
    'StableUnCLIPImg2ImgPipeline'
    """
    from diffusers import StableUnCLIPImg2ImgPipeline

    source = resolve(spec, "unclip")
    pipeline = load_or_explain(
        lambda: StableUnCLIPImg2ImgPipeline.from_pretrained(source, dtype=torch.float32),
        spec,
        "unCLIP",
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device_for(device, f"unCLIP {alternatives(spec)[0]}"))
