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


@torch.no_grad()
def text_states(
    pipeline: "StableUnCLIPImg2ImgPipeline", texts: Sequence[str], batch_size: int = 256
) -> torch.Tensor:
    """States of the generator's text encoder, as its UNet attends to them, float32 tensor, shape (n_texts, T, D).

    Parameters
    ----------
    pipeline : diffusers.StableUnCLIPImg2ImgPipeline
    texts : sequence of str
        What is longer than the text encoder reads is cut.

    Examples
    --------
    >>> from neurovl.foundation.unclip import load_unclip, text_states
    >>> text_states(load_unclip("tiny", device="cpu"), ["a dog", "a house"]).shape
    torch.Size([2, 40, 48])
    """
    out = []
    for i in range(0, len(texts), batch_size):
        states, _ = pipeline.encode_prompt(
            list(texts[i : i + batch_size]), pipeline.device, 1, do_classifier_free_guidance=False
        )
        out.append(states.float().cpu())
    return torch.cat(out)
