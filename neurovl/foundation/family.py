"""The tiny family as a whole: train every member from a seed, score it on held-out scenes, write its model card."""

import json
import logging
import time
from dataclasses import dataclass
from pathlib import Path

from .pictures import Pictures

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How much each member is trained: number of scenes, and steps by member."""

    pictures: int = 16000
    clip: int = 2200
    vae: int = 4000
    unclip: int = 5000
    llm: int = 3000
    metric: int = 1200
    seed: int = 0


MEMBERS = ("vae", "clip", "metric", "llm", "unclip")
FOLDERS = {
    "vae": "unclip/vae",
    "clip": "clip",
    "metric": "metric",
    "llm": "llm",
    "unclip": "unclip",
}
CARDS = {
    "clip": ("CLIP (open_clip)", "clip"),
    "unclip": ("Stable unCLIP with its VAE", "unclip"),
    "llm": ("Llama", "llm"),
    "metric": ("SceneNet", "metric"),
}


def train_family(
    out, recipe: Recipe = Recipe(), members=MEMBERS, device: str = "auto", n_jobs: int = 1
) -> dict:
    """Train members of the tiny family; one that is finished in `out` is not trained again.

    Parameters
    ----------
    out : path
        Receives clip/, unclip/, llm/, metric/ in the hub's formats, and checkpoints/ and pictures/, which may be deleted.
    recipe : Recipe
    members : tuple of str
        Some of 'vae', 'clip', 'metric', 'llm', 'unclip'; unclip needs vae and clip.

    Returns
    -------
    dict
        Scores by member, on scenes of the stream 'foundation-heldout'.
    """
    from . import clip, llm, metric, unclip, vae

    out = Path(out)
    pictures = Pictures(out / "pictures", recipe.pictures, n_jobs=n_jobs)
    heldout = Pictures(out / "pictures", 1000, "foundation-heldout", n_jobs=n_jobs)
    common = {"seed": recipe.seed, "device": device}
    train = {
        "vae": lambda: vae.train_vae(out / "unclip/vae", pictures, steps=recipe.vae, **common),
        "clip": lambda: clip.train_clip(out / "clip", pictures, steps=recipe.clip, **common),
        "metric": lambda: metric.train_metric(
            out / "metric", pictures, steps=recipe.metric, **common
        ),
        "llm": lambda: llm.train_llm(out / "llm", pictures, steps=recipe.llm, **common),
        "unclip": lambda: unclip.train_unclip(
            out / "unclip", pictures, out / "clip", steps=recipe.unclip, **common
        ),
    }
    score = {
        "vae": lambda: vae.score_vae(vae.load_vae(str(out / "unclip"), device), heldout),
        "clip": lambda: clip.score_clip(clip.load_clip(str(out / "clip"), device), heldout),
        "metric": lambda: metric.score_metric(
            metric.load_metric(str(out / "metric"), device), heldout
        ),
        "llm": lambda: llm.score_llm(*llm.load_llm(str(out / "llm"), device), heldout),
        "unclip": lambda: unclip.score_unclip(out, heldout, device),
    }
    scores = {}
    for member in members:
        record = out / "checkpoints" / f"{member}.json"
        if not record.exists():
            start = time.time()
            curve = train[member]()
            result = {
                "scores": score[member](),
                "seconds": round(time.time() - start),
                "last_loss": curve[-1]["loss"],
            }
            record.write_text(json.dumps(result))
            log.info("%s: %s", member, result)
        scores[member] = json.loads(record.read_text())
    if set(scores) == set(MEMBERS):
        write_cards(out, recipe, scores)
    return {member: s["scores"] for member, s in scores.items()}


def write_cards(out: Path, recipe: Recipe, records: dict) -> None:
    """README.md (model card) and provenance.json of every member, with the scores that were measured."""
    from ..provenance import code_hash, package_versions

    for title, folder in CARDS.values():
        own = {m: records[m] for m in MEMBERS if FOLDERS[m].split("/")[0] == folder}
        facts = {
            "recipe": recipe.__dict__,
            "members": own,
            "code": code_hash(),
            "packages": package_versions(),
        }
        (out / folder / "provenance.json").write_text(json.dumps(facts, indent=1))
        lines = [f"| {m} | {k} | {v:.4g} |" for m, r in own.items() for k, v in r["scores"].items()]
        (out / folder / "README.md").write_text(
            f"---\nlicense: bsd-3-clause\nlibrary_name: neurovl\n---\n# {title}, tiny\n\n"
            f"Part of the small world of neurovl: trained from scratch on {recipe.pictures} rendered scenes of 64 x 64 pixels "
            "(stream `foundation`), which share no scene with the pictures of the simulated brains. It knows nothing of "
            "photographs and is of use only in this small world.\n\n"
            "Scores on 1,000 scenes of the stream `foundation-heldout`:\n\n| member | score | value |\n|---|---|---|\n"
            + "\n".join(lines)
            + "\n\nMade by `neurovl foundation train`; settings and versions are in provenance.json.\n"
        )
