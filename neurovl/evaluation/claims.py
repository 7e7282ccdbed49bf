"""The paper's claims as checks on per-image scores: a paired difference, its interval over images, and what follows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from neurovl.metrics.protocol import bootstrap
from neurovl.results import Claim, verdict

LATE = ("two_way_inception", "two_way_scenenet_late")


@dataclass(frozen=True)
class Comparison:
    """A claim that one system's score lies above another's, as (system, protocol) pairs on one metric."""

    claim: str
    task: str
    metric: str
    better: tuple[tuple[str, str], ...]
    worse: tuple[tuple[str, str], ...]


def _one(system: str, protocol: str = "average"):
    return ((system, protocol),)


def comparisons(betas: list[float], plain: str, late: str) -> list[Comparison]:
    """All claims of the paper that are differences between systems.

    Parameters
    ----------
    betas : list of float
        Noise strengths of the ablation, rising.
    plain : str
        System that is ViT3D as the paper has it.
    late : str
        Metric of what a picture shows: two-way identification by the last layer of a network.
    """
    out = [
        Comparison(
            "one model for all subjects beats one each",
            "alignment",
            m,
            _one("neurovl"),
            _one("per-subject"),
        )
        for m in ("two_way_clip", "two_way_vae")
    ]
    out += [
        Comparison("ViT3D beats flattened voxels", "alignment", m, _one(plain), _one("flat"))
        for m in ("two_way_clip", "two_way_vae")
    ]
    out += [
        Comparison(
            "one model for all subjects beats ridge for each (ours)",
            "alignment",
            m,
            _one("neurovl", protocol),
            _one("ridge", protocol),
        )
        for m in ("two_way_clip", "two_way_vae")
        for protocol in ("average", "single")
    ]
    out += [
        Comparison(
            "the VAE feature improves the layout",
            "reconstruction",
            "pixcorr",
            _one("neurovl"),
            _one("no-vae"),
        ),
        Comparison(
            "the language model improves the content",
            "reconstruction",
            late,
            _one("neurovl"),
            _one("no-llm"),
        ),
        Comparison(
            "the average of repeats beats a single trial",
            "alignment",
            "two_way_clip",
            _one("neurovl"),
            _one("neurovl", "single"),
        ),
        Comparison(
            "the average of repeats beats a single trial",
            "reconstruction",
            late,
            _one("neurovl"),
            _one("neurovl", "single"),
        ),
    ]
    out += [
        Comparison(
            "averaging volumes beats averaging embeddings (ours)",
            "alignment",
            m,
            _one("neurovl"),
            _one("embeddings-averaged"),
        )
        for m in ("correlation_clip", "correlation_vae")
    ]
    if 1.0 in betas:
        # The other reading of "without the VAE feature": the same encoder, nothing of its latent kept.
        out.append(
            Comparison(
                "the VAE feature improves the layout",
                "reconstruction",
                "pixcorr",
                _one("neurovl"),
                _one("neurovl beta=1"),
            )
        )
    if len(betas) >= 3:
        at = [(f"neurovl beta={b:g}", "average") for b in betas]
        ends, middle = (at[0], at[-1]), tuple(at[1:-1])
        out += [
            Comparison(
                "PixCorr peaks at a middle beta", "reconstruction", "pixcorr", middle, (end,)
            )
            for end in ends
        ]
        out.append(
            Comparison(
                "the semantic score rises with beta", "reconstruction", late, (at[-1],), (at[0],)
            )
        )
    out += [
        Comparison(
            "zeroing located voxels removes the concept",
            "localization",
            "drop_located",
            _one("neurovl"),
            _one("random-voxels"),
        ),
        Comparison(
            "the located voxels are the true ones",
            "localization",
            "auc",
            _one("neurovl"),
            _one("shuffled"),
        ),
        Comparison(
            "the located voxels are the true ones",
            "localization",
            "auc",
            _one("pattern"),
            _one("shuffled-pattern"),
        ),
        Comparison(
            "zeroing located voxels removes the concept",
            "localization",
            "drop_located",
            _one("pattern"),
            _one("random-voxels"),
        ),
        *(
            Comparison(
                "early visual areas weigh more for the layout than for the content (ours)",
                "importance",
                metric,
                _one("vae-head"),
                _one("clip-head"),
            )
            for metric in ("early_minus_ventral", "drop_early_minus_ventral")
        ),
        Comparison(
            "captions depend on the brain",
            "caption",
            "meteor_sentence",
            _one("neurovl"),
            _one("no-brain"),
        ),
    ]
    return out


def claims(images: pd.DataFrame, data: str, seed: int, resamples: int) -> list[Claim]:
    """Judge every claim that the scores allow; one whose systems were not run is undecided.

    Parameters
    ----------
    images : DataFrame
        Per-image scores: system, task, protocol, subject, metric, image_id, value.

    Returns
    -------
    list of Claim
        The statistic is the mean over images of the difference, averaged over subjects before.
    """
    betas = sorted(
        {
            float(s.split("beta=")[1])
            for s in images.system.unique()
            if s.startswith("neurovl beta=")
        }
    )
    systems, metrics = set(images.system), set(images.metric)
    plain = "plain" if "plain" in systems else "neurovl"
    late = next((m for m in LATE if m in metrics), LATE[0])
    out = []
    for c in comparisons(betas, plain, late) if "alignment" in set(images.task) else []:
        statistic = f"{c.metric}: {_name(c.better)} - {_name(c.worse)}"
        difference = _difference(images[(images.task == c.task) & (images.metric == c.metric)], c)
        if difference is None:
            out.append(Claim(c.claim, data, statistic, None, None, None, None, seed, "undecided"))
            continue
        mean, low, high = bootstrap(difference, seed, resamples)
        out.append(
            Claim(
                c.claim, data, statistic, mean, low, high, len(difference), seed, verdict(low, high)
            )
        )
    return out


def _name(pairs) -> str:
    return " + ".join(s if p == "average" else f"{s} ({p})" for s, p in pairs)


def _difference(scores: pd.DataFrame, c: Comparison) -> np.ndarray | None:
    """Per image, the mean over subjects and systems of better minus worse, on what both have."""

    def mean_of(pairs):
        parts = [scores[(scores.system == s) & (scores.protocol == p)] for s, p in pairs]
        return (
            None
            if any(x.empty for x in parts)
            else pd.concat(parts).groupby(["image_id", "subject"]).value.mean()
        )

    better, worse = mean_of(c.better), mean_of(c.worse)
    if better is None or worse is None:
        return None
    paired = (better - worse).dropna()
    return paired.groupby("image_id").mean().to_numpy() if len(paired) > 1 else None
