"""The metric network of the small world: SceneNet, a CNN trained on scene attributes, never used as a target.

Its early and late layers stand where the paper scores with AlexNet and Inception; they keep their own names. The paper's
networks are in `metric_networks`; `metric_family` gives the ones that a profile names.
"""

import json
from pathlib import Path

import torch
from torch import nn

from neurovl.family.scene_pictures import SIZE, Pictures, images_to_tensor
from neurovl.foundation.metric_networks import Member, caption_member, paper_family
from neurovl.foundation.source import device_for, load_or_explain, resolve
from neurovl.smallworld import scenes
from neurovl.training.loop import Schedule, batch_rows, fit

CATEGORIES = tuple(scenes.CATEGORIES)
SCHEDULE = Schedule(steps=3000, lr=2e-3, weight_decay=0.02, precision="bf16")


class SceneNet(nn.Module):
    """Convolutions at 32, 16, 8 and 4 pixels; heads for the categories present (several) and the background (one).

    Parameters
    ----------
    width : int
        Channels of the first stage.
    """

    def __init__(self, width: int = 16):
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

    def forward(self, x):
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

    def __init__(self, net: SceneNet, device: str):
        self.net, self.device = net.eval().to(device), device

    @torch.no_grad()
    def features(self, images) -> dict:
        """Features by layer: 'scenenet_early' (n, 8*8*channels) and 'scenenet_late' (n, channels), float32 arrays."""
        early, late, _, _ = self._run(images)
        small = nn.functional.adaptive_avg_pool2d(early, 8).flatten(1)
        return {"scenenet_early": small.numpy(), "scenenet_late": late.numpy()}

    @torch.no_grad()
    def contents(self, images) -> dict:
        """Probability of each category in each picture, array (n, n_categories), and the likeliest background."""
        _, _, categories, background = self._run(images)
        return {
            "categories": categories.sigmoid().numpy(),
            "background": [scenes.BACKGROUNDS[i] for i in background.argmax(1).tolist()],
        }

    def _run(self, images):
        pixels = images_to_tensor(images, SIZE).to(self.device)
        parts = [self.net(x) for x in pixels.split(128)]
        return [torch.cat(p).float().cpu() for p in zip(*parts, strict=True)]


def load_metric(spec: str = "tiny", device: str = "auto") -> MetricNetwork:
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


def metric_family(spec: str = "tiny", device: str = "auto") -> list[Member]:
    """The networks that score reconstructed pictures; each is loaded when it is needed.

    Parameters
    ----------
    spec : str
        'tiny' for SceneNet of the small world, 'paper' for the paper's networks with weights where torch and the hub
        keep them, or a folder: of a SceneNet, or of the paper's networks' weights.
    """
    home, small = _home(spec)
    if not small:
        return paper_family(home, device)
    scores = ("two_way_scenenet_early", "two_way_scenenet_late")
    return [Member("SceneNet", scores, lambda: load_metric(spec, device))]


def caption_network(spec: str = "tiny", device: str = "auto") -> Member | None:
    """The CLIP of CLIP-S where the paper's networks are named; the small world has none, as its CLIP is the target."""
    home, small = _home(spec)
    return None if small else caption_member(home, device)


def _home(spec: str) -> tuple[str | None, bool]:
    """Folder of the weights, None where torch and the hub keep them, and whether it is a SceneNet's."""
    if spec == "paper":
        return None, False
    folder = Path(resolve(spec, "metric"))
    return str(folder), (folder / "config.json").exists()


def attributes(scene) -> tuple[torch.Tensor, int]:
    """Targets of a scene: categories present (0/1 each) and the index of its background."""
    present = {o.category for o in scene.objects}
    return torch.tensor([float(c in present) for c in CATEGORIES]), scenes.BACKGROUNDS.index(
        scene.background
    )


def train_metric(
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

    def loss_at(model, step, part):
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

    schedule = Schedule(**{**SCHEDULE.__dict__, "steps": steps})
    curve = fit(
        net,
        loss_at,
        schedule,
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
