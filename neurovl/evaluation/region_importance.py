"""Importance of regions for the CLIP and the VAE head, against regions moved at random: RUN/importance/ and its rows."""

import logging
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neurovl.encoder.alignment import held_out_voxels
from neurovl.encoder.targets import Targets
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.evaluation.score_table import Table
from neurovl.localization.encoder_maps import to_grid
from neurovl.localization.importance import (
    agreement,
    attributions,
    moved_pairs,
    moved_regions,
    p_value,
    places,
)
from neurovl.localization.zeroing import silence
from neurovl.results import read_named
from neurovl.run import Run
from neurovl.tokens.resize import resize_linear, resize_nearest
from neurovl.tokens.store import TokenStore

logger = logging.getLogger(__name__)

EARLY = ("V1", "V2", "V3", "hV4")
VENTRAL = (
    "OFA",
    "FFA-1",
    "FFA-2",
    "EBA",
    "FBA-1",
    "FBA-2",
    "OPA",
    "PPA",
    "RSC",
    "OWFA",
    "VWFA-1",
    "VWFA-2",
)
DRAWS = 2000  # of moved regions
HEADS = ("clip-head", "vae-head")
DIFFERENCE = "vae-minus-clip"
CONTRASTS = ("early_minus_ventral", "drop_early_minus_ventral")
COLUMNS = "subject system metric voxels n value ci_low ci_high chance null_low null_high p".split()
ROWS = ("share_early", "share_ventral", "drop_early", "drop_ventral", *CONTRASTS)


def regions(run: Run) -> dict[str, dict[str, np.ndarray]]:
    """For each subject with early and with category-selective regions, what stored voxels (V,) belong to which.

    'early' is V1 to hV4, 'ventral' what the localizers found for faces, bodies, places and words in ventral and lateral
    cortex, 'own' the subject's mask, in which all regions lie. None where no subject has both, or no picture has a latent.
    """
    return run.once("regions", lambda: _regions(run))


def _regions(run: Run) -> dict[str, dict[str, np.ndarray]]:
    found = {}
    for subject in run.store.tested if run.recordings.has_images else ():
        own = run.store.measured(subject)
        rois = run.recordings.rois(subject)
        rois = {r: _columns(run.store, rois[r]) & own for r in (*EARLY, *VENTRAL) if r in rois}
        rois = {name: roi for name, roi in rois.items() if roi.any()}
        early, ventral = (
            np.any([rois[r] for r in group if r in rois], axis=0) for group in (EARLY, VENTRAL)
        )
        ventral = ventral & ~early
        if early.any() and ventral.any():
            found[subject] = {**rois, "early": early, "ventral": ventral, "own": own}
    if not found:
        logger.info(
            "the importance of regions is left out: it needs pictures, and a subject with early (%s) and with "
            "category-selective regions (%s)",
            ", ".join(EARLY),
            ", ".join(VENTRAL),
        )
    return found


def _columns(store: TokenStore, mask: np.ndarray) -> np.ndarray:
    return resize_nearest(np.asarray(mask, bool), store.target).ravel()[store.region]


def measure_importance(run: Run) -> None:
    """How much of what each head reads comes from which region, over the test pictures.

    per_image.csv has, for each subject, head, picture and region, the region's part of the head's gain as a share of the
    subject's mean gain (`importance.attributions`), and for the early and the ventral regions also what part of the
    subject's mean agreement (`importance.agreement`) is lost when they are set to zero. regions.csv has the means with
    95 % bootstrap intervals over pictures, the mean and the 95 % range of the same for moved regions, and the two-sided p,
    not corrected for the number of regions. NIfTI maps in each subject's own space, by voxel and by token, are 1 where a
    voxel weighs as much as on average in the mask.

    Examples
    --------
    >>> from neurovl import evaluation
    >>> evaluation.measure_importance(run)
    >>> (run.folder / "importance" / "provenance.json").is_file()
    True
    """
    p = run.profile
    if not regions(run):
        return
    with run.stage(
        "importance",
        measure_importance,
        {"bootstrap": p.evaluation.bootstrap},
        ("tokens", "targets", "encoders/main"),
    ) as s:
        if s.done:
            return
        encoder = run.encoder("main", p.compute.device)
        means, found = _means(run), regions(run)
        images, nulls, sizes = [], {}, {}
        to = _places(run, found)
        for subject, columns in found.items():
            ids, voxels = held_out_voxels(run.store, subject, "average")
            rows = run.targets.rows(ids)
            deviations = {h: _flat(run.targets)[h][rows] - m for h, m in means.items()}
            read = attributions(encoder, run.store, voxels, deviations)
            totals = {head: float(a.sum(1).mean()) for head, a in read.items()}
            if min(totals.values()) <= 0:
                logger.warning(
                    "%s is left out of the importance of regions: a head gains nothing", subject
                )
                continue
            shares = {head: np.divide(a, totals[head], out=a) for head, a in read.items()}
            values = _by_region(shares, columns)
            values |= _by_zeroing(encoder, run.store, voxels, columns, deviations, means)
            images.append(_frame(subject, ids, values))
            nulls[subject] = _null(shares, columns, run.store.places[columns["own"]], to)
            sizes[subject] = {f"share_{r}": int(c.sum()) for r, c in columns.items()}
            _save_maps(run, s.dir, subject, shares, columns["own"], encoder.layout)
        table = pd.concat(images) if images else _frame("", [], {})
        table.to_csv(s.dir / "per_image.csv", index=False, float_format="%.6g")
        summary = _summary(table, nulls, sizes, p.seed, p.evaluation.bootstrap)
        summary.to_csv(s.dir / "regions.csv", index=False, float_format="%.6g")


def _flat(targets: Targets) -> dict[str, torch.Tensor]:
    return dict(zip(HEADS, (targets.clip, targets.vae.flatten(1)), strict=True))


def _means(run: Run) -> dict[str, torch.Tensor]:
    trials = run.store.trials
    seen = run.targets.rows(trials.image_id[trials.split == "train"].unique())
    return {head: values[seen].mean(0) for head, values in _flat(run.targets).items()}


def _by_region(shares: dict, columns: dict) -> dict:
    """(head, metric) -> values of the pictures."""
    values = {
        (head, f"share_{region}"): a[:, c].sum(1)
        for (head, a), (region, c) in product(shares.items(), columns.items())
    }
    for head in shares:
        early, ventral = values[head, "share_early"], values[head, "share_ventral"]
        values[head, "early_minus_ventral"] = early - ventral
    return values


def _by_zeroing(
    encoder: BrainEncoder,
    store: TokenStore,
    voxels: np.ndarray,
    columns: dict,
    deviations: dict,
    means: dict,
) -> dict:
    whole = agreement(encoder, store, voxels, deviations, means)
    values = {}
    for region in ("early", "ventral"):
        left = agreement(encoder, store, silence(voxels, columns[region]), deviations, means)
        for head in whole:
            values[head, f"drop_{region}"] = (whole[head] - left[head]) / abs(whole[head].mean())
    for head in whole:
        early, ventral = values[head, "drop_early"], values[head, "drop_ventral"]
        values[head, "drop_early_minus_ventral"] = early - ventral
    return values


def _frame(subject: str, ids: list[str], values: dict) -> pd.DataFrame:
    """Values by subject, system, metric and image_id, with those of the VAE head minus the CLIP head."""
    for metric in dict.fromkeys(metric for _, metric in values):
        values[DIFFERENCE, metric] = values[HEADS[1], metric] - values[HEADS[0], metric]
    parts = [
        pd.DataFrame({"subject": subject, "system": s, "metric": m, "image_id": ids, "value": v})
        for (s, m), v in values.items()
    ]
    names = ["subject", "system", "metric", "image_id", "value"]
    return pd.concat(parts) if parts else pd.DataFrame(columns=names)


def _places(run: Run, found: dict) -> np.ndarray:
    """Where the regions of all subjects are moved to, see `importance.places`."""
    anyone = np.any([columns["own"] for columns in found.values()], axis=0)
    share = np.mean([c["early"].sum() / c["own"].sum() for c in found.values()])
    return places(
        run.store.places[anyone], share, np.random.default_rng([run.profile.seed, 17]), DRAWS
    )


def _null(shares: dict, columns: dict, where: np.ndarray, to: np.ndarray) -> dict:
    """(system, metric) -> what moved regions hold, shape (DRAWS,)."""
    clip, vae = (shares[head].mean(0)[columns["own"]] for head in HEADS)
    maps, systems = np.stack([clip, vae, vae - clip]), (*HEADS, DIFFERENCE)
    names = [r for r in columns if r != "own"]
    sizes = {r: int(columns[r].sum()) for r in names}
    moved = moved_regions(maps, where, list(sizes.values()), to[:, 0])
    out = {
        (system, f"share_{region}"): moved[:, i, j]
        for (i, system), (j, region) in product(enumerate(systems), enumerate(names))
    }
    pairs = moved_pairs(maps, where, sizes["early"], sizes["ventral"], to)
    return out | {(s, "early_minus_ventral"): pairs[:, i] for i, s in enumerate(systems)}


def _summary(
    images: pd.DataFrame, nulls: dict, sizes: dict, seed: int, resamples: int
) -> pd.DataFrame:
    """One row for each subject, and for all of them, system and metric."""
    rows = []
    for subject in [*nulls, "all"] if nulls else []:
        known = list(nulls) if subject == "all" else [subject]
        part = images[images.subject.isin(known)]
        wide = part.pivot_table("value", "image_id", ["system", "metric"], sort=False)
        values, rng = wide.to_numpy(), np.random.default_rng(seed)
        drawn = [
            np.nanmean(values[rng.integers(len(values), size=len(values))], axis=0)
            for _ in range(resamples)
        ]
        low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
        for i, (system, metric) in enumerate(wide):
            value = np.nanmean(values[:, i])
            null = [nulls[s][system, metric] for s in known if (system, metric) in nulls[s]]
            moved = np.mean(null, axis=0) if null else np.array([np.nan])
            voxels = [sizes[s][metric] for s in known if metric in sizes[s]]
            rows.append(
                (
                    subject,
                    system,
                    metric,
                    np.mean(voxels) if voxels else np.nan,
                    np.isfinite(values[:, i]).sum(),
                    value,
                    low[i],
                    high[i],
                    moved.mean(),
                    *np.quantile(moved, [0.025, 0.975]),
                    p_value(moved, value) if null else np.nan,
                )
            )
    return pd.DataFrame(rows, columns=COLUMNS)


def _save_maps(
    run: Run, folder: Path, subject: str, shares: dict, own: np.ndarray, layout: str
) -> None:
    """SUBJECT_HEAD.nii.gz by voxel, and SUBJECT_HEAD_tokens.nii.gz with the mean over each token's voxels."""
    import nibabel

    store, mask = run.store, run.recordings.mask(subject)
    affine, columns = run.recordings.affine(subject), store.columns(layout)
    for head, a in shares.items():
        density = a.mean(0) * own.sum() * own
        grid = np.zeros(int(np.prod(store.target)), np.float32)
        grid[store.region] = density
        filled = np.append(own, False)[columns]
        tokens = (np.append(density, 0)[columns] * filled).sum(1) / np.maximum(filled.sum(1), 1)
        coarse = to_grid(store, layout, torch.from_numpy(tokens))
        for name, common in (("", grid.reshape(store.target)), ("_tokens", coarse)):
            volume = resize_linear(common, mask.shape) * mask
            image = nibabel.Nifti1Image(volume.astype(np.float32), affine)
            nibabel.save(image, folder / f"{subject}_{head}{name}.nii.gz")


def score_importance(run: Run, table: Table) -> None:
    """Shares and drops of the early and the ventral regions; chance is the mean of the moved regions."""
    folder = run.folder / "importance"
    images = read_named(folder / "per_image.csv")
    chance = pd.read_csv(folder / "regions.csv").set_index(["subject", "system", "metric"]).chance
    for key, part in images.groupby(["subject", "system", "metric"], sort=False):
        subject, system, metric = key
        if metric in (CONTRASTS if system == DIFFERENCE else ROWS):
            level = None if np.isnan(chance[key]) else float(chance[key])
            table.add(
                system, "importance", "average", subject, metric, part.image_id, part.value, level
            )


def with_p(rows: list, run: Run) -> list:
    """The rows of results.csv, those of importance with p in their note."""
    known = pd.read_csv(run.folder / "importance" / "regions.csv")
    known = known.dropna(subset=["p"]).set_index(["subject", "system", "metric"]).p
    out = []
    for row in rows:
        key = (row.subject, row.system, row.metric)
        if row.task == "importance" and key in known.index:
            said = f"p = {known[key]:.2g} by {DRAWS} moved regions"
            row = replace(row, note=f"{row.note}; {said}" if row.note else said)
        out.append(row)
    return out
