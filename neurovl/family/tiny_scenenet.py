"""SceneNet's training: the categories that are present in a scene, and its background."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from neurovl.family.scene_pictures import Pictures
from neurovl.foundation.scenenet import CATEGORIES, SceneNet
from neurovl.smallworld import scenes
from neurovl.training.loop import Part, Schedule, batch_rows, fit

SCHEDULE = Schedule(steps=3000, lr=2e-3, weight_decay=0.02, precision="bf16")


def attributes(scene: scenes.Scene) -> tuple[torch.Tensor, int]:
    """Targets of a scene: categories present (0/1 each) and the index of its background."""
    present = {o.category for o in scene.objects}
    return torch.tensor([float(c in present) for c in CATEGORIES]), scenes.BACKGROUNDS.index(
        scene.background
    )


def train_scenenet(
    out: Path,
    pictures: Pictures,
    *,
    steps: int,
    seed: int,
    device: str = "auto",
    batch_size: int = 128,
) -> list[dict]:
    """Train SceneNet by cross-entropy on categories and background, with random flips and shifts of brightness."""
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    net = SceneNet()
    targets = [attributes(s) for s in pictures.scenes]
    present, place = torch.stack([t[0] for t in targets]), torch.tensor([t[1] for t in targets])

    def loss_at(model: nn.Module, step: int, part: Part) -> torch.Tensor:
        rows = part.of(batch_rows(pictures.n, batch_size, step, seed))
        device = next(model.parameters()).device
        x = pictures.images(rows).to(device)
        x = torch.where(torch.rand(len(x), 1, 1, 1, device=device) < 0.5, x.flip(-1), x)
        x = x + 0.1 * torch.randn(len(x), 3, 1, 1, device=device) + 0.1 * torch.randn_like(x)
        _, _, categories, background = model(x)
        objects = nn.functional.binary_cross_entropy_with_logits(
            categories.float(), present[rows].to(device)
        )
        return 10 * objects + nn.functional.cross_entropy(
            background.float(), place[rows].to(device)
        )

    curve = fit(
        net,
        loss_at,
        replace(SCHEDULE, steps=steps),
        seed=seed,
        checkpoint=out.parent / "checkpoints" / "metric",
        device=device,
        describe="SceneNet",
    )
    out.mkdir(parents=True, exist_ok=True)
    save_file(
        {k: v.half().contiguous().cpu() for k, v in net.state_dict().items()},
        out / "model.safetensors",
    )
    (out / "config.json").write_text(
        json.dumps(
            {
                "class": "SceneNet",
                "arguments": {"width": 16},
                "categories": CATEGORIES,
                "backgrounds": scenes.BACKGROUNDS,
            },
            indent=1,
        )
    )
    return curve
