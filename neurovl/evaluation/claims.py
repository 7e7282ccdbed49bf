"""The paper's claims as checks on per-image scores: a paired difference, its interval over images, and what follows."""

from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd

from neurovl.metrics.protocol import bootstrap
from neurovl.results import PROTOCOLS, Claim, condition, condition_value, peer_results, verdict

LATE = ("two_way_inception", "two_way_scenenet_late")
TWO_WAY = ("two_way_clip", "two_way_vae")
CORRELATION = ("correlation_clip", "correlation_vae")
RETRIEVED = ("image_top1", "brain_top1")
WEIGHTS = ("early_minus_ventral", "drop_early_minus_ventral")


class Scored(NamedTuple):
    """Whose scores: a system's, under a protocol and, where something is varied within the system, a condition."""

    system: str
    protocol: str = "average"
    condition: str = ""

    def __str__(self) -> str:
        protocol = "" if self.protocol == "average" else f"({self.protocol})"
        return " ".join(filter(None, (self.system, self.condition, protocol)))


@dataclass(frozen=True)
class Comparison:
    """A claim that the scores of some systems lie above those of others, on one metric."""

    claim: str
    task: str
    metric: str
    better: list[Scored]
    worse: list[Scored]

    def __str__(self) -> str:
        better, worse = (" + ".join(map(str, side)) for side in (self.better, self.worse))
        return f"{self.metric}: {better} - {worse}"


def comparisons(betas: list[float], plain: str, late: str, pool: str = "") -> list[Comparison]:
    """All claims of the paper that are differences between systems.

    Parameters
    ----------
    betas : list of float
        Noise strengths of the ablation, rising.
    plain : str
        System that is ViT3D as the paper has it.
    late : str
        Metric of what a picture shows: two-way identification by the last layer of a network.
    pool : str
        Condition of retrieval.
    """
    ours, single = [Scored("neurovl")], [Scored("neurovl", "single")]
    at = [Scored("neurovl", condition=condition(beta=b)) for b in betas]
    ends = [at[:1], at[-1:]] if len(at) >= 3 else []
    pictures, maps = "reconstruction", "localization"

    def zeroed(system: str, voxels: str) -> Scored:
        return Scored(system, condition=condition(zeroed=voxels))

    table = {  # claim: task, metrics, what is better, than what
        "one model for all subjects beats one each": [
            ("alignment", TWO_WAY, ours, [Scored("per-subject")]),
        ],
        "ViT3D beats flattened voxels": [
            ("alignment", TWO_WAY, [Scored(plain)], [Scored("flat")]),
        ],
        "one model for all subjects beats ridge for each (ours)": [
            ("alignment", TWO_WAY, ours, [Scored("ridge")]),
            ("alignment", TWO_WAY, single, [Scored("ridge", "single")]),
            (
                "retrieval",
                RETRIEVED,
                [Scored("neurovl", condition=pool)],
                [Scored("ridge", condition=pool)],
            ),
        ],
        "the VAE feature improves the layout": [
            (pictures, ["pixcorr"], ours, [Scored("no-vae")]),
            # The other reading: the same encoder, nothing of its latent kept.
            *((pictures, ["pixcorr"], ours, at[k : k + 1]) for k, b in enumerate(betas) if b == 1),
        ],
        "the language model improves the content": [
            (pictures, [late], ours, [Scored("no-llm")]),
        ],
        "the average of repeats beats a single trial": [
            ("alignment", ["two_way_clip"], ours, single),
            (pictures, [late], ours, single),
        ],
        "averaging volumes beats averaging embeddings (ours)": [
            ("alignment", CORRELATION, ours, [Scored("embeddings-averaged")]),
        ],
        "PixCorr peaks at a middle beta": [(pictures, ["pixcorr"], at[1:-1], end) for end in ends],
        "the semantic score rises with beta": (
            [(pictures, [late], at[-1:], at[:1])] if ends else []
        ),
        "zeroing located voxels removes the concept": [
            (maps, ["drop"], [zeroed(system, "located")], [zeroed(system, voxels)])
            for system in ("neurovl", "pattern", "tuning")
            for voxels in ("moved", "other")
        ],
        "with silent voxels the thing goes from picture and words": [
            (maps, [thing], [zeroed("neurovl", "moved")], [zeroed("neurovl", "located")])
            for thing in ("thing_painted", "thing_said")
        ],
        "the located voxels are the true ones": [
            (maps, ["auc"], ours, [Scored("shuffled")]),
            (maps, ["auc"], [Scored("pattern")], [Scored("shuffled-pattern")]),
            (maps, ["auc"], [Scored("tuning")], [Scored("shuffled-tuning")]),
        ],
        "tuning finds the true voxels better than a contrast (ours)": [
            (maps, ["auc"], [Scored("tuning")], [Scored("contrast")]),
            (maps, ["auc"], [Scored("tuning")], [Scored("noise-ceiling")]),
        ],
        "early visual areas weigh more for the layout than for the content (ours)": [
            ("importance", WEIGHTS, [Scored("vae-head")], [Scored("clip-head")]),
        ],
        "predictions tell a language model more than hidden states (ours)": [
            ("caption", ["meteor_sentence"], [Scored("neurovl", k)], [Scored("hidden-states", k)])
            for k in PROTOCOLS
        ],
        "captions depend on the brain": [
            ("caption", ["meteor_sentence"], ours, [Scored("no-brain")]),
        ],
    }
    return [
        Comparison(claim, task, metric, better, worse)
        for claim, rows in table.items()
        for task, metrics, better, worse in rows
        for metric in metrics
    ]


def claims(
    images: pd.DataFrame, data: str, seed: int, resamples: int, as_published: bool = False
) -> list[Claim]:
    """Judge every claim that the scores allow; one whose systems were not run is undecided.

    Parameters
    ----------
    images : DataFrame
        Per-image scores, see `score_table.PER_IMAGE`.
    data : str
        Name of the data set.
    seed, resamples : int
        Of the bootstrap.
    as_published : bool
        Whether data and split are those on which other systems print their numbers.

    Returns
    -------
    list of Claim
        The statistic is the mean over images of the difference, averaged over subjects before.
    """
    if "alignment" not in set(images.task):
        return []
    varied = images.condition[images.system == "neurovl"].unique()
    betas = {condition_value(one, "beta") for one in varied} - {None}
    plain = "plain" if "plain" in set(images.system) else "neurovl"
    late = next((m for m in LATE if m in set(images.metric)), LATE[0])
    pools = images.condition[images.task == "retrieval"]
    pool = pools.mode().iloc[0] if len(pools) else ""
    compared = comparisons(sorted(betas), plain, late, pool)
    judged = [_judged(c, images, data, seed, resamples) for c in compared]
    return judged + _beside_peers(images, data, seed, resamples, as_published)


def _beside_peers(
    images: pd.DataFrame, data: str, seed: int, resamples: int, as_published: bool
) -> list[Claim]:
    """Retrieval of ours above the numbers that peers print; undecided where data, split or pool are others."""
    found = []
    for peer in peer_results().query("task == 'retrieval'").itertuples():
        ours = Scored("neurovl", peer.protocol, condition(pool=peer.pool))
        statistic = f"{peer.metric}: {ours} - {peer.value:g} ({peer.system})"
        about = ("brains and pictures find each other as MindEye prints it", data, statistic)
        scores = images[(images.task == peer.task) & (images.metric == peer.metric)]
        above = (_means(scores, [ours]) - peer.value).groupby("image_id").mean()
        if not as_published or len(above) < 2:
            found.append(Claim(*about, None, None, None, None, seed, "undecided"))
            continue
        mean, low, high = bootstrap(above.to_numpy(), seed, resamples)
        found.append(Claim(*about, mean, low, high, len(above), seed, verdict(low, high)))
    return found


def _judged(c: Comparison, images: pd.DataFrame, data: str, seed: int, resamples: int) -> Claim:
    scores = images[(images.task == c.task) & (images.metric == c.metric)]
    paired = (_means(scores, c.better) - _means(scores, c.worse)).dropna()
    if len(paired) < 2:
        return Claim(c.claim, data, str(c), None, None, None, None, seed, "undecided")
    difference = paired.groupby("image_id").mean().to_numpy()
    mean, low, high = bootstrap(difference, seed, resamples)
    return Claim(c.claim, data, str(c), mean, low, high, len(difference), seed, verdict(low, high))


def _means(scores: pd.DataFrame, which: list[Scored]) -> pd.Series:
    """Mean score by image and subject; of no image where one of `which` was not scored."""
    parts = [
        scores[
            (scores.system == one.system)
            & (scores.protocol == one.protocol)
            & (scores.condition == one.condition)
        ]
        for one in which
    ]
    whole = scores.head(0) if any(part.empty for part in parts) else pd.concat(parts)
    return whole.groupby(["image_id", "subject"]).value.mean()
