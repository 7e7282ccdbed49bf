"""The tiny family as a whole: train every member from a seed, score it on scenes it has not seen, keep the record."""

import json
import logging
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from neurovl.family import member_scores as measure
from neurovl.family.model_cards import MEMBERS_OF, target_text, write_cards
from neurovl.family.scene_pictures import Pictures
from neurovl.foundation.source import TINY

if TYPE_CHECKING:
    import pandas as pd
    from diffusers import StableUnCLIPImg2ImgPipeline
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from neurovl.foundation.clip import Clip
    from neurovl.foundation.scenenet import MetricNetwork
    from neurovl.foundation.vae import LatentCodec

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How much each member is trained: number of scenes (the diffusion model sees three times as many), and steps by member."""

    pictures: int = 16000
    clip: int = 2200
    vae: int = 4000
    unclip: int = 14000
    llm: int = 3000
    metric: int = 1200
    seed: int = 0


MEMBERS = ("vae", "clip", "metric", "llm", "unclip")
HELDOUT, N_HELDOUT = "foundation-heldout", 1000
N_SAMPLED = 100  # for unCLIP, the slow one


def train_family(
    out: Path | str,
    recipe: Recipe = Recipe(),
    members: Sequence[str] = MEMBERS,
    device: str = "auto",
    n_jobs: int = 1,
) -> dict[str, dict[str, float]]:
    """Train members of the tiny family; one that is finished in `out` is not trained again.

    Parameters
    ----------
    out : path
        Receives clip/, unclip/, llm/, metric/ in the hub's formats, and checkpoints/ and pictures/, which may be deleted.
    recipe : Recipe
    members : tuple of str
        Some of 'vae', 'clip', 'metric', 'llm', 'unclip'; unclip needs vae, clip and metric.

    Returns
    -------
    dict
        Scores by member, on scenes of the stream 'foundation-heldout'.
    """
    from neurovl.family import tiny_clip, tiny_llm, tiny_scenenet, tiny_unclip, tiny_vae

    out = Path(out)
    pictures = Pictures(out / "pictures", recipe.pictures, n_jobs=n_jobs)
    common = {"seed": recipe.seed, "device": device}
    train = {
        "vae": lambda: tiny_vae.train_vae(out / "unclip/vae", pictures, steps=recipe.vae, **common),
        "clip": lambda: tiny_clip.train_clip(out / "clip", pictures, steps=recipe.clip, **common),
        "metric": lambda: tiny_scenenet.train_scenenet(
            out / "metric", pictures, steps=recipe.metric, **common
        ),
        "llm": lambda: tiny_llm.train_llm(out / "llm", pictures, steps=recipe.llm, **common),
        "unclip": lambda: tiny_unclip.train_unclip(
            out / "unclip",
            Pictures(out / "pictures", 3 * recipe.pictures, n_jobs=n_jobs),
            out / "clip",
            steps=recipe.unclip,
            **common,
        ),
    }
    records = {}
    for member in members:
        record = out / "checkpoints" / f"{member}.json"
        if not record.exists():
            start = time.time()
            curve = train[member]()
            result = {"seconds": round(time.time() - start), "last_loss": curve[-1]["loss"]}
            result |= as_record(score_heldout(out, member, device, n_jobs))
            record.write_text(json.dumps(result))
            logger.info("%s: %s", member, result)
        records[member] = json.loads(record.read_text())
    if set(records) == set(MEMBERS):
        write_provenance(out, recipe, records)
        write_cards(out)
    return {member: r["scores"] for member, r in records.items()}


class Family:
    """The members of a family, each loaded when it is asked for.

    Parameters
    ----------
    models : str or path
        'tiny', or a folder that `train_family` wrote.

    Attributes
    ----------
    codec, clip, network, unclip
        VAE, CLIP, SceneNet and the unCLIP pipeline.
    llm : (model, tokenizer)
    """

    def __init__(self, models: Path | str = "tiny", device: str = "auto") -> None:
        self.models, self.device = models, device

    def _spec(self, part: str) -> str:
        return "tiny" if str(self.models) == "tiny" else str(Path(self.models) / part)

    @cached_property
    def codec(self) -> "LatentCodec":
        from neurovl.foundation.vae import load_vae

        return load_vae(self._spec("unclip"), self.device)

    @cached_property
    def clip(self) -> "Clip":
        from neurovl.foundation.clip import load_clip

        return load_clip(self._spec("clip"), self.device)

    @cached_property
    def network(self) -> "MetricNetwork":
        from neurovl.foundation.scenenet import load_scenenet

        return load_scenenet(self._spec("metric"), self.device)

    @cached_property
    def llm(self) -> "tuple[PreTrainedModel, PreTrainedTokenizerBase]":
        from neurovl.foundation.llm import load_llm

        return load_llm(self._spec("llm"), self.device)

    @cached_property
    def unclip(self) -> "StableUnCLIPImg2ImgPipeline":
        from neurovl.foundation.unclip import load_unclip

        return load_unclip(self._spec("unclip"), self.device)

    def score(self, member: str, pictures: Pictures) -> dict[str, measure.Score]:
        """Scores of one member on `pictures`: name -> Score."""
        if member == "vae":
            return measure.score_vae(self.codec, pictures)
        if member == "clip":
            return measure.score_clip(self.clip, pictures)
        if member == "metric":
            return measure.score_metric(self.network, pictures)
        if member == "llm":
            return measure.score_llm(*self.llm, pictures)
        return measure.score_unclip(self.unclip, self.codec, self.clip, self.network, pictures)


def score_heldout(
    out: Path, member: str, device: str = "auto", n_jobs: int = 1
) -> dict[str, measure.Score]:
    """Scores of a trained member for its card."""
    n = N_SAMPLED if member == "unclip" else N_HELDOUT
    return Family(out, device).score(member, Pictures(out / "pictures", n, HELDOUT, n_jobs))


def as_record(scores: dict[str, measure.Score]) -> dict[str, dict]:
    """Scores as provenance.json holds them."""
    return {
        "scores": {name: s.value for name, s in scores.items()},
        "n": {name: s.n for name, s in scores.items()},
    }


def write_provenance(out: Path, recipe: Recipe, records: dict) -> None:
    """provenance.json of every member folder: recipe, scores, seconds, package versions."""
    from neurovl.stages import code_hash, package_versions

    for folder, members in MEMBERS_OF.items():
        facts = {
            "recipe": recipe.__dict__,
            "stream": HELDOUT,
            "members": {m: records[m] for m in members},
            "code": code_hash(train_family),
            "packages": package_versions(),
        }
        (out / folder / "provenance.json").write_text(json.dumps(facts, indent=1))


def rescore(
    out: Path | str, members: Sequence[str] = MEMBERS, device: str = "auto", n_jobs: int = 1
) -> None:
    """Measure members of a finished family again for their cards; weights and all other records stay as they are."""
    out = Path(out)
    family = Family(out, device)
    with tempfile.TemporaryDirectory() as folder:
        for name, within in MEMBERS_OF.items():
            path = out / name / "provenance.json"
            facts = json.loads(path.read_text())
            for member in set(within) & set(members):
                n = N_SAMPLED if member == "unclip" else N_HELDOUT
                pictures = Pictures(Path(folder), n, HELDOUT, n_jobs)
                facts["members"][member] |= as_record(family.score(member, pictures))
            facts["stream"] = HELDOUT
            path.write_text(json.dumps(facts, indent=1))
    write_cards(out)


def card_scores(models: Path | str = "tiny") -> dict[tuple[str, str], tuple[float, int]]:
    """What the cards say: (member, score) -> (value, number of scenes); nothing where a member has no record."""
    root = TINY if str(models) == "tiny" else Path(models)
    out = {}
    for folder in MEMBERS_OF:
        path = root / folder / "provenance.json"
        facts = json.loads(path.read_text()) if path.is_file() else {"members": {}}
        for member, record in facts["members"].items():
            for name, value in record["scores"].items():
                out[member, name] = value, record["n"][name]
    return out


def evaluate_family(
    models: Path | str = "tiny",
    seed: int = 0,
    n: int = 100,
    members: Sequence[str] = MEMBERS,
    device: str = "auto",
) -> "pd.DataFrame":
    """Find the scores of the cards again on fresh scenes, those of the stream 'foundation-evaluation-SEED'.

    Parameters
    ----------
    models : str or path
        'tiny', or a folder that `train_family` wrote.
    n : int
        Number of scenes, 2 or more; 100 at least for all but the slow members, LLM and unCLIP.

    Returns
    -------
    DataFrame
        member, score, value, se (standard error over scenes), n, target, met, card.
    """
    import pandas as pd

    from neurovl.errors import ConfigError, MissingError

    if n < 2:
        raise ConfigError(f"n is {n}, expected 2 scenes or more; choose a larger --n")
    if str(models) != "tiny" and not Path(models).is_dir():
        raise MissingError(
            f"there is no folder {models}, expected one with clip, unclip, llm and metric; make it with `neurovl "
            "foundation train --out DIR`, or choose tiny"
        )
    family, cards, rows = Family(models, device), card_scores(models), []
    with tempfile.TemporaryDirectory() as folder:
        for member in members:
            count = n if member in ("llm", "unclip") else max(n, 100)
            logger.info("scoring %s on %d scenes", member, count)
            pictures = Pictures(Path(folder), count, f"foundation-evaluation-{seed}")
            for name, s in family.score(member, pictures).items():
                low, high = measure.TARGETS.get((member, name), (None, None))
                met = (low is None or s.value >= low) and (high is None or s.value <= high)
                target = target_text(member, name)
                card = cards.get((member, name), (None, 0))[0]
                rows.append(
                    (member, name, s.value, s.se, s.n, target, met if target else None, card)
                )
    columns = ["member", "score", "value", "se", "n", "target", "met", "card"]
    return pd.DataFrame(rows, columns=columns)
