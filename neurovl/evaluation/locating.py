"""Concepts located in every subject by every method, what zeroing them does, and how near the truth they lie where it is known."""

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from neurovl.encoder.vit3d import BrainEncoder
from neurovl.evaluation.map_truth import ceiling_maps, true_areas, true_heats, truth_scores
from neurovl.evaluation.region_words import score_regions, words_of_regions
from neurovl.evaluation.score_table import Table
from neurovl.evaluation.silencing import over_doses, score_zeroing
from neurovl.localization.concept_maps import (
    METHODS,
    VOXEL_MAPS,
    SubjectPictures,
    find_maps,
    reliability,
)
from neurovl.localization.heat import Heat
from neurovl.results import condition, read_named
from neurovl.run import Run
from neurovl.run.mapped_pictures import mapped_pictures

SILENCED = ("gradcam", "pattern", "tuning")  # methods whose voxels are zeroed
HALF = np.float64(0.5)  # two-way identification without information


def localize(run: Run) -> None:
    """Locate the commonest concepts of the test pictures by each method of `concept_maps.METHODS`; GradCAM is the paper's.

    Each method has a folder with NIfTI heatmaps (GradCAM's is the stage's own), where it has a p one with the ending ``_p``, rois.csv,
    scores.csv, areas.csv and, of `SILENCED`, zeroing.csv. scores.csv has, for each subject and concept, in simulations: the area under
    the ROC curve of the heatmap against the voxels that are truly tuned to the concept, the mean of the same over the maps of other
    concepts, the share of other concepts whose voxels it fits less well (two-way identification, chance .5), and what
    `map_truth.truth_scores` says; the split-half reliability of methods that ask the voxels; and the means of what zeroing.csv has
    for each picture that holds the concept, at the share of the profile, see `silencing.zeroing`. areas.csv has the area of every concept's map against every concept's true
    voxels. regions.csv says how much each region answers to each concept, see `region_words`. In simulations the folders 'ceiling' (the generating model), 'untrained' (GradCAM of random weights) and 'noise-ceiling' (one map for all concepts) have the same, and
    'truth' the true maps.

    Examples
    --------
    >>> from neurovl import evaluation
    >>> evaluation.localize(run)
    >>> (run.folder / "localization" / "scores.csv").is_file()
    True
    """
    p, variants = run.profile, run.patch_variants()
    inputs = ("tokens", "targets", *(f"encoders/{x}" for x in variants))
    with run.stage("localization", localize, p.localization, inputs, ("clip",)) as s:
        if s.done:
            return
        shown = concepts(run)
        tables: dict[tuple[str, str], list[pd.DataFrame]] = defaultdict(list)
        for subject in run.store.tested:
            seen = set(run.test_images(subject))
            names = [c for c, images in shown.items() if seen & set(images)]
            if not names:
                continue
            pictures = mapped_pictures(run, names, subject)
            for method in usable(pictures):
                heats = find_maps(method, pictures)
                _save(heats, folder_of(s.dir, method))
                for file, table in _tables(run, method, pictures, heats).items():
                    tables[method, file].append(table)
            if pictures.responses is not None:
                tables["gradcam", "regions"].append(words_of_regions(run, pictures))
            if run.recordings.simulated and pictures.responses is not None:
                _save(true_heats(run, subject, names), folder_of(s.dir, "truth"))
                for control, heats in _controls(run, pictures):
                    _save(heats, folder_of(s.dir, control))
                    for file, table in _against_truth(run, subject, heats).items():
                        tables[control, file].append(table)
        for (method, file), parts in tables.items():
            folder = folder_of(s.dir, method)
            folder.mkdir(exist_ok=True)
            pd.concat(parts).to_csv(folder / f"{file}.csv", index=False)


def folder_of(stage: Path, method: str) -> Path:
    """Where a method's maps and scores are; GradCAM's are the stage's own."""
    return stage if method == "gradcam" else stage / method


def usable(pictures: SubjectPictures) -> list[str]:
    """The methods for which a subject has what they rest on."""
    lacking = set() if pictures.responses is not None else set(VOXEL_MAPS)
    if not len(pictures.regions):
        lacking.add("occlusion-roi")
    return [method for method in METHODS if method not in lacking]


def _save(heats: dict[str, Heat], folder: Path) -> None:
    import nibabel

    folder.mkdir(exist_ok=True)
    for concept, heat in heats.items():
        name = f"{heat.subject}_{concept.replace(' ', '-')}"
        nibabel.save(heat.to_nifti(), folder / f"{name}.nii.gz")
        if heat.p is not None:
            nibabel.save(nibabel.Nifti1Image(heat.p, heat.affine), folder / f"{name}_p.nii.gz")


def _controls(run: Run, pictures: SubjectPictures) -> list[tuple[str, dict[str, Heat]]]:
    """Maps by the generating model; GradCAM of an encoder that was not trained; and one map for all concepts: each voxel's noise ceiling."""
    found = [("ceiling", ceiling_maps(run, pictures.names, pictures.responses()))]
    fresh = replace(pictures, encoders=[_untrained(run, pictures)])
    found.append(("untrained", find_maps("gradcam", fresh)))
    explained = run.recordings.noise_ceiling(pictures.subject)
    if explained is not None:
        heat = Heat("", pictures.subject, explained, run.recordings.affine(pictures.subject))
        found.append(("noise-ceiling", dict.fromkeys(pictures.names, heat)))
    return found


def _untrained(run: Run, pictures: SubjectPictures) -> BrainEncoder:
    """An encoder of the main one's shape with random weights, its readout, which training solves for, left out."""
    layout, shape = pictures.encoders[0].layout, run.profile.encoder.network() | {"readout": 0}
    size = (*run.store.shape(layout), pictures.texts.shape[1], None, layout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run.profile.seed)
        return BrainEncoder(*size, **shape).eval()


def _against_truth(run: Run, subject: str, heats: dict[str, Heat]) -> dict[str, pd.DataFrame]:
    areas = true_areas(run, subject, heats)
    rows = [{"subject": subject, "concept": concept} for concept in heats]
    _add_truth(areas, rows)
    scores = pd.DataFrame(rows)
    if more := truth_scores(run, subject, heats):
        scores = scores.merge(pd.DataFrame(more), "left", ["subject", "concept"])
    return {"areas": areas, "scores": scores}


def _tables(
    run: Run, method: str, pictures: SubjectPictures, heats: dict[str, Heat]
) -> dict[str, pd.DataFrame]:
    """rois, areas, scores and, for some methods, zeroing of one subject's maps."""
    store, subject, p = run.store, pictures.subject, run.profile
    rois = run.recordings.rois(subject)
    named = [heat.roi_table(rois).assign(concept=c) for c, heat in heats.items()]
    tables = {"rois": pd.concat(named).assign(subject=subject)}
    tables |= _against_truth(run, subject, heats)
    n = dict(zip(pictures.names, pictures.holds.sum(0), strict=True))
    scores = tables["scores"]
    scores.insert(2, "n_images", scores.concept.map(n))
    if method in VOXEL_MAPS:
        found = dict(zip(pictures.names, reliability(method, pictures), strict=True))
        scores["split_half"] = scores.concept.map(found)
    if method in SILENCED:
        holds = dict(zip(pictures.names, pictures.holds.T, strict=True))
        text = dict(zip(pictures.names, pictures.texts, strict=True))
        about = (pictures.voxels, holds, text, p.localization, p.seed)
        lost, overlap = over_doses(store, pictures.encoders[0], heats, *about)
        ids = np.array(run.test_images(subject))
        lost["image_id"] = ids[lost.pop("row").to_numpy(int)]
        tables["zeroing"] = lost.assign(subject=subject)
        means = lost[lost.share == p.localization.share].drop(columns="share")
        means = means.groupby("concept").mean(numeric_only=True).assign(jaccard=overlap)
        tables["scores"] = scores.join(means, on="concept")
    return tables


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


CONTROL_MAPS = ("ceiling", "untrained", "noise-ceiling")
PLAIN = (
    "average_precision",
    "dice",
    "peak_distance",
    "map_correlation",
    "false_discoveries",
    "true_voxels_found",
    "family_discoveries",
    "split_half",
)


def system_of(method: str) -> str:
    """A method's name among systems: GradCAM is the paper's and so `neurovl`."""
    return "neurovl" if method == "gradcam" else method


def score_maps(run: Run, table: Table) -> None:
    """Heatmaps against the true maps and one another, where an 'image' is a concept, and the effect of zeroing.

    Chance of `auc` is what maps of other concepts reach, its ceiling the generating model's area. Under ``control=turned`` the map is
    turned by half a turn.
    """
    stage = run.folder / "localization"
    found = {"gradcam": pd.read_csv(stage / "scores.csv")}
    for file in sorted(stage.glob("*/scores.csv")):
        found[file.parent.name] = pd.read_csv(file)
    if (stage / "regions.csv").is_file():
        score_regions(table, read_named(stage / "regions.csv"))
    best = found.get("ceiling", pd.DataFrame())
    ceilings = dict(best.groupby("subject").auc.mean()) if "auc" in best else {}
    for method, scores in found.items():
        system = system_of(method)
        for subject, part in scores.groupby("subject", sort=False):
            place = (system, "localization", "average", subject)
            known = part[part.auc.notna()] if "auc" in part else part[:0]
            if len(known):
                chance, ceiling = float(known.auc_other.mean()), ceilings.get(subject)
                names = known.concept
                table.add(*place, "auc", names, known.auc, chance, ceiling)
                table.add(*place, "two_way_true_map", names, known.two_way, HALF)
                if method not in CONTROL_MAPS:
                    control = f"shuffled{'' if method == 'gradcam' else f'-{method}'}"
                    table.add(control, *place[1:], "auc", names, known.auc_other, chance)
                    turned = condition(control="turned")
                    table.add(*place, "auc", names, known.auc_turned, condition=turned)
            for metric in PLAIN:
                rows = part[part[metric].notna()] if metric in part else part[:0]
                if len(rows) > 1:
                    table.add(*place, metric, rows.concept, rows[metric])
            rows = part[part.jaccard.notna()] if "jaccard" in part else part[:0]
            if len(rows):
                share = run.profile.localization.share
                chance = share / (2 - share)
                table.add(*place, "jaccard", rows.concept, rows.jaccard, chance)
    for method in SILENCED:
        file = folder_of(stage, method) / "zeroing.csv"
        for subject, part in (
            read_named(file).groupby("subject", sort=False) if file.is_file() else ()
        ):
            score_zeroing(table, system_of(method), subject, part, run.profile.localization.share)
