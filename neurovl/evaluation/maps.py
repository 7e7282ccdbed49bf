"""Concepts located in every subject, what zeroing them does, and the true maps where they are known: RUN/localization/."""

import numpy as np
import pandas as pd
import torch

from ..alignment import held_out_voxels, predict
from ..errors import DataError
from ..localization import locate, zero_located
from .brains import derangement
from .table import Table

TEMPLATE = "a picture of a {}"


def localize(run) -> None:
    """Locate the commonest concepts of the test pictures; write NIfTI heatmaps, rois.csv and scores.csv.

    scores.csv has, for each subject and concept, the area under the ROC curve of the heatmap against the voxels that are
    truly tuned to the concept (simulation only), the same against the maps of other concepts, and how far the predicted
    embedding moves from the concept when the located voxels, or as many random ones, are set to zero.
    """
    import nibabel

    from ..foundation.clip import load_clip

    p, settings = run.profile, run.profile.localization
    systems = patch_systems(run)
    with run.stage(
        "localization", settings, ("tokens", "targets", *(f"encoders/{x}" for x in systems))
    ) as s:
        if s.done:
            return
        encoders, store = [run.encoder(x) for x in systems], run.store
        shown = concepts(run)
        text = load_clip(p.models.clip, p.device).embed_texts([TEMPLATE.format(c) for c in shown])
        scores, tables = [], []
        for subject in store.subjects:
            ids, voxels = held_out_voxels(store, subject, "average")
            heats = {}
            for k, (concept, images) in enumerate(shown.items()):
                rows = [ids.index(i) for i in images if i in ids]
                if not rows:
                    continue
                heat = locate(
                    concept,
                    store=store,
                    encoders=encoders,
                    text=text[k],
                    subject=subject,
                    voxels=voxels[rows],
                )
                nibabel.save(
                    heat.to_nifti(), s.dir / f"{subject}_{concept.replace(' ', '-')}.nii.gz"
                )
                tables.append(
                    heat.roi_table(run.recordings.rois(subject)).assign(
                        subject=subject, concept=concept
                    )
                )
                heats[concept] = heat
                effect = _zeroing(
                    store, encoders[0], heat, voxels[rows], text[k], settings.share, p.seed + k
                )
                scores.append(
                    {"subject": subject, "concept": concept, "n_images": len(rows), **effect}
                )
            _add_truth(run, subject, heats, [r for r in scores if r["subject"] == subject], p.seed)
        pd.concat(tables).to_csv(s.dir / "rois.csv", index=False)
        pd.DataFrame(scores).to_csv(s.dir / "scores.csv", index=False)


def patch_systems(run) -> list[str]:
    """The main encoder and those with other patch sizes, whose maps are averaged."""
    return ["main", *(x for x in run.systems() if x in run.store.plans)]


def locate_in_run(run, concept: str, subject, image_id: str | None = None):
    """Locate a concept with a run's own models, in one test picture or in all that hold the concept.

    Raises
    ------
    DataError
        No test picture of the subject holds the concept, or the subject did not see the picture.
    """
    from ..foundation.clip import load_clip

    store, subject = run.store, run.store.subject_name(subject)
    ids, voxels = held_out_voxels(store, subject, "average")
    held = {
        str(i): {o["category"] for o in run.recordings.objects(i)}
        for i in run.recordings.trials.image_id.unique()
    }
    wanted = [i for i in ids if (i == str(image_id) if image_id else concept in held[i])]
    if not wanted:
        what = f"image {image_id}" if image_id else f"pictures with {concept!r}"
        raise DataError(
            f"{subject} has no test trials for {what}, expected one at least; choose an image of the test split with --image-id"
        )
    text = load_clip(run.profile.models.clip, run.profile.device).embed_texts(
        [TEMPLATE.format(concept)]
    )[0]
    encoders = [run.encoder(x) for x in patch_systems(run)]
    return locate(
        concept,
        store=store,
        encoders=encoders,
        text=text,
        subject=subject,
        voxels=voxels[[ids.index(i) for i in wanted]],
    )


def concepts(run) -> dict[str, list[str]]:
    """The commonest categories among the test pictures, each with the pictures that hold it."""
    trials, settings = run.recordings.trials, run.profile.localization
    found: dict[str, list[str]] = {}
    for image in trials.image_id[trials.split == "test"].unique():
        for category in {o["category"] for o in run.recordings.objects(image)}:
            found.setdefault(category, []).append(str(image))
    common = sorted(found, key=lambda c: (-len(found[c]), c))[: settings.max_concepts]
    return {c: sorted(found[c]) for c in common if len(found[c]) >= settings.min_images}


def _zeroing(store, encoder, heat, voxels, text, share: float, seed: int) -> dict:
    """Cosine of the predicted embedding with the concept: as measured, located voxels zeroed, random voxels zeroed."""
    rng = np.random.default_rng([seed, 3])
    located = zero_located(store, heat, voxels, share)
    random = np.array(voxels)
    random[:, rng.permutation(voxels.shape[1])[: max(1, round(share * voxels.shape[1]))]] = 0

    def cosine(x):
        z = predict(encoder, store.cut(x, encoder.layout)).clip
        return float(torch.nn.functional.cosine_similarity(z, text[None]).mean())

    whole = cosine(voxels)
    return {"drop_located": whole - cosine(located), "drop_random": whole - cosine(random)}


def _add_truth(run, subject: str, heats: dict, rows: list[dict], seed: int) -> None:
    """Areas under the ROC curve against the true maps, of the same concept and of the others."""
    from sklearn.metrics import roc_auc_score

    maps = _true_maps(run, subject)
    mask = run.recordings.mask(subject)
    known = [r["concept"] for r in rows if r["concept"] in maps]
    positive = {c: maps[c][mask] > np.quantile(maps[c][mask], 0.9) for c in known}
    if len(known) < 2:
        return
    other = dict(zip(known, [known[i] for i in derangement(len(known), seed)], strict=True))
    for row in rows:
        if row["concept"] in positive:
            values = heats[row["concept"]].values[mask]
            row["auc"] = float(roc_auc_score(positive[row["concept"]], values))
            row["auc_other"] = float(roc_auc_score(positive[other[row["concept"]]], values))


def _true_maps(run, subject: str) -> dict:
    """The simulation's tuning maps; only this score may open them."""
    if not run.recordings.simulated:
        return {}
    from ..datasets.simulation import truth

    return truth(run.recordings.root, subject)


def score_maps(run, table: Table) -> None:
    """Heatmaps against the true maps, and the effect of zeroing; an 'image' is a concept here."""
    scores = pd.read_csv(run.folder / "localization" / "scores.csv")
    for subject, part in scores.groupby("subject", sort=False):
        if "auc" in part and part.auc.notna().any():
            known = part[part.auc.notna()]
            table.add(
                "neurovl",
                "localization",
                "average",
                subject,
                "auc",
                known.concept,
                known.auc,
                float(known.auc_other.mean()),
            )
            table.add(
                "shuffled",
                "localization",
                "average",
                subject,
                "auc",
                known.concept,
                known.auc_other,
                float(known.auc_other.mean()),
            )
        table.add(
            "neurovl",
            "localization",
            "average",
            subject,
            "drop_located",
            part.concept,
            part.drop_located,
            float(part.drop_random.mean()),
        )
        table.add(
            "random-voxels",
            "localization",
            "average",
            subject,
            "drop_located",
            part.concept,
            part.drop_random,
            float(part.drop_random.mean()),
        )
