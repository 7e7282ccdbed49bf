"""SceneNet, the metric network of the small world: a CNN that names what is in a scene, never used as a target.

Its early and late layers stand where the paper scores with AlexNet and Inception; they keep their own names.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn

from neurovl.foundation.pixels import SIZE, images_to_tensor
from neurovl.foundation.source import device_for, load_or_explain, resolve
from neurovl.smallworld import scenes

if TYPE_CHECKING:
    from PIL import Image

CATEGORIES = tuple(scenes.CATEGORIES)


class SceneNet(nn.Module):
    """Convolutions at 32, 16, 8 and 4 pixels; heads for the categories present (several) and the background (one).

    Parameters
    ----------
    width : int
        Channels of the first stage.
    """

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = (width, 2 * width, 3 * width, 5 * width)
        stages, before = [], 3
        for w in widths:
            stages.append(
                nn.Sequential(
                    nn.Conv2d(before, w, 3, stride=2, padding=1),
                    nn.GroupNorm(4, w),
                    nn.GELU(),
                    nn.Conv2d(w, w, 3, padding=1),
                    nn.GELU(),
                )
            )
            before = w
        self.stages = nn.ModuleList(stages)
        self.categories = nn.Linear(before, len(CATEGORIES))
        self.background = nn.Linear(before, len(scenes.BACKGROUNDS))

    def forward(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        early = None
        for i, stage in enumerate(self.stages):
            x = stage(x)
            early = x if i == 1 else early
        late = x.amax(dim=(2, 3))
        return early, late, self.categories(late), self.background(late)


class MetricNetwork:
    """Features and perceived contents of pictures.

    Attributes
    ----------
    name : str
        'scenenet'
    """

    name = "scenenet"

    def __init__(self, net: SceneNet, device: str) -> None:
        self.net, self.device = net.eval().to(device), device

    @torch.no_grad()
    def features(self, images: "Sequence[Image.Image]") -> dict[str, np.ndarray]:
        """Features by layer, float32 arrays: 'scenenet_early', shape (n, 8 * 8 * channels), 'scenenet_late', shape (n, channels)."""
        early, late, _, _ = self._run(images)
        small = nn.functional.adaptive_avg_pool2d(early, 8).flatten(1)
        return {"scenenet_early": small.numpy(), "scenenet_late": late.numpy()}

    @torch.no_grad()
    def contents(self, images: "Sequence[Image.Image]") -> dict:
        """Probability of each category in each picture, array, shape (n, n_categories), and the likeliest background."""
        _, _, categories, background = self._run(images)
        return {
            "categories": categories.sigmoid().numpy(),
            "background": [scenes.BACKGROUNDS[i] for i in background.argmax(1).tolist()],
        }

    def _run(self, images: "Sequence[Image.Image]") -> list[torch.Tensor]:
        pixels = images_to_tensor(images, SIZE).to(self.device)
        parts = [self.net(x) for x in pixels.split(128)]
        return [torch.cat(p).float().cpu() for p in zip(*parts, strict=True)]


def load_scenenet(spec: str | Sequence[str] = "tiny", device: str = "auto") -> MetricNetwork:
    """Load the metric network of the small world, SceneNet, from its folder."""
    from safetensors.torch import load_file

    device = device_for(device, "SceneNet")
    folder = Path(resolve(spec, "metric"))
    net = load_or_explain(
        lambda: SceneNet(**json.loads((folder / "config.json").read_text())["arguments"]),
        spec,
        "metric",
    )
    weights = load_or_explain(lambda: load_file(folder / "model.safetensors"), spec, "metric")
    net.load_state_dict({k: v.float() for k, v in weights.items()})
    return MetricNetwork(net, device)
