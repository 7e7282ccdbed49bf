"""Concepts located in every subject, what zeroing them does, and the true maps where they are known: RUN/localization/."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.evaluation.score_table import Table
from neurovl.localization.concept_maps import TEMPLATE, Heat, locate
from neurovl.localization.zeroing import (
    CONTROLS,
    located_voxels,
    moved_voxels,
    presence,
    silence,
)
from neurovl.results import condition, read_named
from neurovl.run import Run
from neurovl.tokens.store import TokenStore

METHODS = ("gradcam", "pattern")
ZEROED = ("located", "moved", "other")
HALF = np.float64(0.5)  # two-way identification without information


def localize(run: Run) -> None:
    """Locate the commonest concepts of the test pictures by GradCAM, as the paper does, and by activation patterns.

    Each method has a folder with NIfTI heatmaps (GradCAM's is the stage's own), rois.csv, scores.csv, areas.csv and zeroing.csv.
    scores.csv has, for each subject and concept, the area under the ROC curve of the heatmap against the voxels that are
    truly tuned to the concept (simulation only), the mean of the same against the maps of the other concepts, the share of
    other concepts whose map it fits less well (two-way identification, chance .5), and the means of what zeroing.csv has
    for each picture that holds the concept, see `zeroing`. areas.csv has the area of every concept's map against every concept's
    true voxels.

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
        encoders = [run.encoder(x, p.compute.device) for x in variants]
        for method in METHODS:
            folder = s.dir if method == "gradcam" else s.dir / method
            folder.mkdir(exist_ok=True)
            _locate_all(run, method, folder, shown, text, encoders)


def _locate_all(
    run: Run, method: str, folder: Path, shown: dict, text: dict, encoders: list
) -> None:
    import nibabel

    store, seed = run.store, run.profile.seed
    scores, tables, zeroed, areas = [], [], [], []
    for subject in store.tested:
        ids, voxels = held_out_voxels(store, subject, "average")
        heats, rows = {}, []
        for concept, images in shown.items():
            chosen = [ids.index(i) for i in images if i in ids]
            if not chosen:
                continue
            heat = locate(
                concept,
                store=store,
                encoders=encoders if method == "gradcam" else encoders[:1],
                text=text[concept],
                subject=subject,
                voxels=voxels[chosen] if method == "gradcam" else voxels,
                method=method,
            )
            nibabel.save(heat.to_nifti(), folder / f"{subject}_{concept.replace(' ', '-')}.nii.gz")
            table = heat.roi_table(run.recordings.rois(subject))
            tables.append(table.assign(subject=subject, concept=concept))
            heats[concept] = heat
            rows.append({"subject": subject, "concept": concept, "n_images": len(chosen)})
        if not heats:
            continue
        holds = {c: np.isin(ids, shown[c]) for c in heats}
        share = run.profile.localization.share
        lost, overlap = zeroing(store, encoders[0], heats, voxels, holds, text, share, seed)
        lost["image_id"] = np.array(ids)[lost.pop("row")]
        zeroed.append(lost.assign(subject=subject))
        areas.append(_true_areas(run, subject, heats))
        _add_truth(areas[-1], rows)
        means = lost.groupby("concept").mean(numeric_only=True).assign(jaccard=overlap)
        scores.append(pd.DataFrame(rows).join(means, on="concept"))
    pd.concat(tables).to_csv(folder / "rois.csv", index=False)
    pd.concat(scores).to_csv(folder / "scores.csv", index=False)
    pd.concat(areas).to_csv(folder / "areas.csv", index=False)
    pd.concat(zeroed).to_csv(folder / "zeroing.csv", index=False)


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


def zeroing(
    store: TokenStore,
    encoder: BrainEncoder,
    heats: dict[str, Heat],
    voxels: np.ndarray,
    holds: dict[str, np.ndarray],
    text: dict[str, torch.Tensor],
    share: float,
    seed: int,
) -> tuple[pd.DataFrame, pd.Series]:
    """How much of each concept is lost with a subject's located voxels, with these moved, and with those of other concepts.

    The concept's presence (see `localization.zeroing.presence`) is to come to 0, so that what located voxels leave counts by
    its size: below 0 the encoder contradicts the concept rather than forgets it, and so does one that never knew the
    concept when the voxels that happen to speak for it are silenced. What the controls leave counts as it is. So the located
    voxels' advantage is rather too small than too large. Moved voxels are the mean over `CONTROLS` sets, other concepts'
    over as many of those that share the fewest pictures with this one.

    Parameters
    ----------
    heats : dict of str to Heat
        By concept.
    voxels : array, shape (n, V)
        Of all test pictures.
    holds : dict of str to bool array (n,)
        Which of the pictures hold the concept; one that all hold is left out.

    Returns
    -------
    DataFrame
        One row a concept and picture that holds it: concept, row (of `voxels`), presence, drop_located, drop_moved,
        drop_other (none where there is one concept alone).
    Series
        By concept, the Jaccard index of its located voxels with those of the other concepts above.
    """
    subject = next(iter(heats.values())).subject
    measured = store.measured(subject) & voxels.any(0)
    located = {c: located_voxels(store, heat, measured, share) for c, heat in heats.items()}

    def said(columns: np.ndarray) -> torch.Tensor:
        return predict(encoder, store.cut(silence(voxels, columns), encoder.layout)).clip

    whole, without = said(np.zeros_like(measured)), {c: said(v) for c, v in located.items()}
    names, lost, overlap = list(located), [], {}
    for k, c in enumerate(names):
        if holds[c].all():
            continue
        moved = moved_voxels(store, located[c], measured, np.random.default_rng([seed, k, 3]))
        others = names[k + 1 :] + names[:k]
        others = sorted(others, key=lambda o: (holds[o] & holds[c]).sum())[:CONTROLS]
        there, left = (presence(z, text[c], holds[c]) for z in (whole, without[c]))
        drops = {
            "located": there - left * (np.sign(left.mean()) or 1),
            "moved": there - _mean_presence(map(said, moved), text[c], holds[c]),
            "other": there - _mean_presence([without[o] for o in others], text[c], holds[c]),
        }
        about = {"concept": c, "row": np.flatnonzero(holds[c]), "presence": there}
        lost.append(pd.DataFrame(about | {f"drop_{name}": v for name, v in drops.items()}))
        shared = [(located[c] & located[o]).sum() / (located[c] | located[o]).sum() for o in others]
        overlap[c] = np.mean(shared) if shared else np.nan
    columns = ["concept", "row", "presence", *(f"drop_{name}" for name in ZEROED)]
    table = pd.concat(lost) if lost else pd.DataFrame(columns=columns)
    return table, pd.Series(overlap, dtype=float)


def _mean_presence(
    said: Iterable[torch.Tensor], text: torch.Tensor, holds: np.ndarray
) -> np.ndarray:
    """Over sets of silenced voxels; not a number where there is none."""
    sets = [presence(z, text, holds) for z in said]
    return np.mean(sets, axis=0) if sets else np.full(holds.sum(), np.nan)


def _true_areas(run: Run, subject: str, heats: dict[str, Heat]) -> pd.DataFrame:
    """Areas under the ROC curve of each map against the truly tuned voxels of each concept: subject, concept, map, auc."""
    from sklearn.metrics import roc_auc_score

    maps, mask = _true_maps(run, subject), run.recordings.mask(subject)
    known = [c for c in heats if c in maps]
    tuned = {c: maps[c][mask] > np.quantile(maps[c][mask], 0.9) for c in known}
    rows = [
        (subject, c, shown, float(roc_auc_score(tuned[c], heats[shown].values[mask])))
        for shown in known
        for c in known
    ]
    return pd.DataFrame(rows, columns=["subject", "concept", "map", "auc"])


def _add_truth(areas: pd.DataFrame, rows: list[dict]) -> None:
    """The area of each concept's own map, the mean against other concepts' voxels, and two-way identification."""
    own = {name: part.set_index("concept").auc for name, part in areas.groupby("map")}
    for row in rows if len(own) > 1 else []:
        if row["concept"] in own:
            others = own[row["concept"]].drop(row["concept"])
            row["auc"] = own[row["concept"]][row["concept"]]
            row["auc_other"] = float(others.mean())
            row["two_way"] = identified(own[row["concept"]], row["concept"])


def identified(areas: pd.Series, concept: str) -> float:
    """Share of the other concepts whose voxels a map fits less well than this one's; ties count half.

    Parameters
    ----------
    areas : Series
        Of one map, by concept.
    """
    others = areas.drop(concept)
    return float(np.mean((areas[concept] > others) + 0.5 * (areas[concept] == others)))


def _true_maps(run: Run, subject: str) -> dict:
    """The simulation's tuning maps; only this score may open them."""
    if not run.recordings.simulated:
        return {}
    from neurovl.smallworld.subjects import truth

    return truth(run.recordings.root, subject)


def score_maps(run: Run, table: Table) -> None:
    """Heatmaps against the true maps and one another, where an 'image' is a concept, and the effect of zeroing."""
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
            known = part[part.jaccard.notna()]
            if len(known):
                share = run.profile.localization.share
                add(system, "jaccard", known, known.jaccard, np.float64(share / (2 - share)))
        zeroed = read_named(folder / "zeroing.csv")
        for subject, part in zeroed.groupby("subject", sort=False):
            score_zeroing(table, system, subject, part)


def score_zeroing(table: Table, system: str, subject: str, zeroed: pd.DataFrame) -> None:
    """How much of their concepts is in the predictions of the pictures, and what is lost with which voxels.

    Parameters
    ----------
    zeroed : DataFrame
        Columns image_id, presence, drop_located, drop_moved, drop_other; see `zeroing`. The score of a picture is the mean
        over the concepts in it.
    """
    means = zeroed.groupby("image_id").mean(numeric_only=True)
    place = (system, "localization", "average", subject)
    if system == "neurovl":  # the encoder's own, the same for every method
        table.add(*place, "presence", means.index, means.presence, 0.0)
    for name in ZEROED:
        values = means[f"drop_{name}"].dropna()
        if len(values):
            chance = float(means.drop_moved.mean()) if name == "located" else None
            varied = condition(zeroed=name)
            table.add(*place, "drop", values.index, values, chance, condition=varied)
