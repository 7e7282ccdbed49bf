"""Concepts located in every subject, what zeroing them does, and the true maps where they are known: RUN/localization/."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.evaluation.score_table import Table
from neurovl.localization.concept_maps import TEMPLATE, Heat, locate, locate_pattern, zero_located
from neurovl.run import Run
from neurovl.tokens.store import TokenStore

METHODS = ("gradcam", "pattern")
HALF = np.float64(0.5)  # two-way identification without information


def localize(run: Run) -> None:
    """Locate the commonest concepts of the test pictures by GradCAM, as the paper does, and by activation patterns.

    Each method has a folder with NIfTI heatmaps (GradCAM's is the stage's own), rois.csv and scores.csv. scores.csv has, for
    each subject and concept, the area under the ROC curve of the heatmap against the voxels that are truly tuned to the
    concept (simulation only), the mean of the same against the maps of the other concepts, the share of other concepts whose
    map it fits less well (two-way identification, chance .5), and how far the predicted embedding moves
    from the concept when the located voxels, or as many random ones, are set to zero.

    Examples
    --------
    >>> from neurovl import evaluation
    >>> evaluation.localize(run)
    >>> (run.folder / "localization" / "scores.csv").is_file()
    True
    """
    from neurovl.foundation.clip import load_clip

    p, variants = run.profile, run.patch_variants()
    inputs = ("tokens", "targets", *(f"encoders/{x}" for x in variants))
    with run.stage("localization", localize, p.localization, inputs, ("clip",)) as s:
        if s.done:
            return
        shown = concepts(run)
        clip = load_clip(p.models.clip, p.compute.device)
        text = dict(zip(shown, clip.embed_texts([TEMPLATE.format(c) for c in shown]), strict=True))
        for method in METHODS:
            folder = s.dir if method == "gradcam" else s.dir / method
            folder.mkdir(exist_ok=True)
            _locate_all(run, method, folder, shown, text, [run.encoder(x) for x in variants])


def _locate_all(
    run: Run, method: str, folder: Path, shown: dict, text: dict, encoders: list
) -> None:
    import nibabel

    store, seed = run.store, run.profile.seed
    scores, tables = [], []
    for subject in store.subjects:
        ids, voxels = held_out_voxels(store, subject, "average")
        heats, rows = {}, []
        for k, (concept, images) in enumerate(shown.items()):
            chosen = [ids.index(i) for i in images if i in ids]
            if not chosen:
                continue
            common = {"store": store, "text": text[concept], "subject": subject}
            if method == "gradcam":
                heat = locate(concept, encoders=encoders, voxels=voxels[chosen], **common)
            else:
                heat = locate_pattern(concept, encoder=encoders[0], voxels=voxels, **common)
            nibabel.save(heat.to_nifti(), folder / f"{subject}_{concept.replace(' ', '-')}.nii.gz")
            table = heat.roi_table(run.recordings.rois(subject))
            tables.append(table.assign(subject=subject, concept=concept))
            heats[concept] = heat
            share = run.profile.localization.share
            effect = _zeroing(
                store, encoders[0], heat, voxels[chosen], text[concept], share, seed + k
            )
            rows.append({"subject": subject, "concept": concept, "n_images": len(chosen), **effect})
        _add_truth(run, subject, heats, rows)
        scores += rows
    pd.concat(tables).to_csv(folder / "rois.csv", index=False)
    pd.DataFrame(scores).to_csv(folder / "scores.csv", index=False)


def concepts(run: Run) -> dict[str, list[str]]:
    """The commonest categories among the test pictures, each with the pictures that hold it."""
    return run.once("concepts", lambda: _concepts(run))


def _concepts(run: Run) -> dict[str, list[str]]:
    trials, settings = run.recordings.trials, run.profile.localization
    found: dict[str, list[str]] = {}
    for image in trials.image_id[trials.split == "test"].unique():
        for category in run.categories(image):
            found.setdefault(category, []).append(image)
    common = sorted(found, key=lambda c: (-len(found[c]), c))[: settings.max_concepts]
    return {c: sorted(found[c]) for c in common if len(found[c]) >= settings.min_images}


def _zeroing(
    store: TokenStore,
    encoder: BrainEncoder,
    heat: Heat,
    voxels: np.ndarray,
    text: torch.Tensor,
    share: float,
    seed: int,
) -> dict:
    """Cosine of the predicted embedding with the concept: as measured, located voxels zeroed, random voxels zeroed."""
    rng = np.random.default_rng([seed, 3])
    located = zero_located(store, heat, voxels, share)
    random = np.array(voxels)
    random[:, rng.permutation(voxels.shape[1])[: max(1, round(share * voxels.shape[1]))]] = 0

    def cosine(x: np.ndarray) -> float:
        z = predict(encoder, store.cut(x, encoder.layout)).clip
        return float(torch.nn.functional.cosine_similarity(z, text[None]).mean())

    whole = cosine(voxels)
    return {"drop_located": whole - cosine(located), "drop_random": whole - cosine(random)}


def _add_truth(run: Run, subject: str, heats: dict, rows: list[dict]) -> None:
    """Areas under the ROC curve against the true maps, of the same concept and, on average, of the others."""
    from sklearn.metrics import roc_auc_score

    maps = _true_maps(run, subject)
    mask = run.recordings.mask(subject)
    known = [r["concept"] for r in rows if r["concept"] in maps]
    positive = {c: maps[c][mask] > np.quantile(maps[c][mask], 0.9) for c in known}
    for row in rows if len(known) > 1 else []:
        if row["concept"] in positive:
            values = heats[row["concept"]].values[mask]
            areas = {c: float(roc_auc_score(positive[c], values)) for c in known}
            row["auc"] = areas.pop(row["concept"])
            others = np.array(list(areas.values()))
            row["auc_other"] = float(others.mean())
            row["two_way"] = float(np.mean((row["auc"] > others) + 0.5 * (row["auc"] == others)))


def _true_maps(run: Run, subject: str) -> dict:
    """The simulation's tuning maps; only this score may open them."""
    if not run.recordings.simulated:
        return {}
    from neurovl.smallworld.subjects import truth

    return truth(run.recordings.root, subject)


def score_maps(run: Run, table: Table) -> None:
    """Heatmaps against the true maps, and the effect of zeroing; an 'image' is a concept here."""
    for method in METHODS:
        system = "neurovl" if method == "gradcam" else method
        control = "shuffled" if method == "gradcam" else f"shuffled-{method}"
        folder = run.folder / "localization" / ("" if method == "gradcam" else method)
        scores = pd.read_csv(folder / "scores.csv")
        for subject, part in scores.groupby("subject", sort=False):

            def add(
                name: str,
                metric: str,
                rows: pd.DataFrame,
                values: pd.Series,
                chance: pd.Series,
                subject: str = subject,
            ) -> None:
                table.add(
                    name,
                    "localization",
                    "average",
                    subject,
                    metric,
                    rows.concept,
                    values,
                    float(chance.mean()),
                )

            if "auc" in part and part.auc.notna().any():
                known = part[part.auc.notna()]
                add(system, "auc", known, known.auc, known.auc_other)
                add(control, "auc", known, known.auc_other, known.auc_other)
                add(system, "two_way_true_map", known, known.two_way, HALF)
            add(system, "drop_located", part, part.drop_located, part.drop_random)
            if method == "gradcam":
                add("random-voxels", "drop_located", part, part.drop_random, part.drop_random)
