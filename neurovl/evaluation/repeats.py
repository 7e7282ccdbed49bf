"""What repeats of a picture are worth: one trial, volumes averaged, embeddings averaged, and what noise leaves possible."""

import numpy as np

from neurovl.encoder.alignment import predict
from neurovl.evaluation.embeddings import derangement
from neurovl.evaluation.score_table import Table
from neurovl.metrics import protocol
from neurovl.results import Row
from neurovl.run import Run

AVERAGED = "embeddings-averaged"


def score_repeats(run: Run, table: Table) -> None:
    """Rows on the repeats of the test pictures, for every subject whose pictures have two or more.

    `embeddings-averaged` embeds each trial and averages, where `neurovl` averages volumes. `correlation_*` is the mean
    over pictures of the correlation between predicted and true embedding, both centred over the pictures; its ceiling is
    that of endless repeats, r / sqrt(R) with R = n q / (1 + (n - 1) q), where q is the correlation between the
    predictions from two repeats and n the number of trials averaged (Spearman 1904; Brown 1910). `noise_ceiling` of
    `voxels` is the mean over voxels of the share of a response's variance that the picture explains,
    ncsnr^2 / (ncsnr^2 + 1 / n) (Allen et al. 2022).
    """
    store, p = run.store, run.profile
    encoder = run.encoder("main", p.compute.device)
    for subject in store.subjects:
        own = store.trials[store.trials.subject == subject].reset_index(drop=True)
        test = own[own.split == "test"].sort_values("repeat")
        rows = {i: np.asarray(r) for i, r in test.groupby("image_id").groups.items() if len(r) > 1}
        if len(rows) < 2:
            continue
        ids = sorted(rows)
        n = 1 / np.mean([1 / len(rows[i]) for i in ids])
        trials = [store.voxels(subject, rows[i]) for i in ids]
        counts = np.array([len(x) for x in trials])
        every = predict(encoder, store.cut(np.concatenate(trials), encoder.layout))
        mean = predict(encoder, store.cut(np.stack([x.mean(0) for x in trials]), encoder.layout))
        said = {}
        for part in ("clip", "vae"):
            if getattr(every, part) is None:
                continue
            single = getattr(every, part).flatten(1).numpy()
            first = np.cumsum(counts) - counts
            embeddings = np.add.reduceat(single, first) / counts[:, None]
            true = getattr(run.targets, part)[run.targets.rows(ids)].flatten(1).numpy()
            q = float(correlation(single[first], single[first + 1]).mean())
            for system, proto, values, averaged in (
                ("neurovl", "single", single[first], 1),
                ("neurovl", "average", getattr(mean, part).flatten(1).numpy(), n),
                (AVERAGED, "average", embeddings, n),
            ):
                r = correlation(values, true)
                chance = float(correlation(values, true[derangement(len(ids), p.seed)]).mean())
                ceiling = endless(float(r.mean()), q, averaged)
                table.add(
                    system,
                    "alignment",
                    proto,
                    subject,
                    f"correlation_{part}",
                    ids,
                    r,
                    chance,
                    ceiling,
                )
            said[part] = embeddings
        table.add_embeddings(
            {AVERAGED: said},
            "alignment",
            "average",
            subject,
            ids,
            run.targets,
            p.evaluation.permutations,
        )
        _noise_ceilings(run, table, subject, n)


def correlation(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pearson correlation of each row of a with the same row of b, after centring each column; (n, d) to (n,)."""
    a, b = a - a.mean(0), b - b.mean(0)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def endless(r: float, q: float, n: float) -> float | None:
    """The correlation that endless repeats would give where n of them give r, and two single ones agree by q; at most 1."""
    if q <= 0:
        return None
    return min(1.0, r / np.sqrt(n * q / (1 + (n - 1) * q)))


def _noise_ceilings(run: Run, table: Table, subject: str, n: float) -> None:
    mask, p = run.recordings.mask(subject), run.profile
    for proto, trials in (("single", 1), ("average", n)):
        ceiling = run.recordings.noise_ceiling(subject, trials)
        if ceiling is not None:
            mean, low, high = protocol.bootstrap(
                np.asarray(ceiling)[mask], p.seed, p.evaluation.bootstrap
            )
            place = table.place("voxels", "alignment", proto, subject, "noise_ceiling")
            about = {"n": int(mask.sum()), "note": "n and interval are over voxels"}
            table.rows.append(Row(**place, value=mean, ci_low=low, ci_high=high, **about))
