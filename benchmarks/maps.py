"""How tuning is set, side by side in simulations that are not the reported one; nothing of a run is needed, and no network is trained.

    python benchmarks/maps.py           # about 5 minutes on 2 cores
    python benchmarks/maps.py --small   # one small simulation, every way, to see that it works; the figures mean nothing

Two simulations with seeds of their own, four subjects, as large as `demo`. Each way is `ConceptTuning` but for one thing, and beside it the
contrast and the generating model. What is scored: the area under the ROC curve of a word's map against its true voxels, that of other words'
maps against the same, and two-way identification among words. maps.csv has a row for each way.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
from measuring import keep, parse, processor, short

import neurovl
from neurovl.evaluation.locating import concepts, identified
from neurovl.evaluation.map_truth import ceiling_maps, true_areas
from neurovl.localization import concept_tuning
from neurovl.localization.concept_tuning import ConceptTuning
from neurovl.localization.heat import Heat, in_own_space, on_grid
from neurovl.localization.picture_responses import PictureResponses
from neurovl.localization.voxel_maps import contrast
from neurovl.pipeline.starting import start
from neurovl.pipeline.training import embed_targets, write_tokens
from neurovl.run import Run
from neurovl.settings.profile_files import load_profile

SIMULATIONS = ((101, (1, 5)), (103, (2, 7)))  # seed and subjects

Maps = Callable[[PictureResponses], np.ndarray]


def tuning(**settings: object) -> Maps:
    """`ConceptTuning` with some of its module's constants or functions replaced."""

    def find(responses: PictureResponses) -> np.ndarray:
        with contextlib.ExitStack() as stack:
            for name, value in settings.items():
                stack.enter_context(mock.patch.object(concept_tuning, name, value))
            return ConceptTuning(responses.sizes, responses.latents).weights(responses.voxels)

    return find


def presence(responses: PictureResponses) -> np.ndarray:
    return ConceptTuning(responses.holds, responses.latents).weights(responses.voxels)


def without_looks(responses: PictureResponses) -> np.ndarray:
    return ConceptTuning(responses.sizes).weights(responses.voxels)


def only(kernel: str) -> Maps:
    """Looks by one of the two kernels alone."""

    def alike(latents: np.ndarray) -> np.ndarray:
        made = getattr(concept_tuning, kernel)(torch.as_tensor(latents, dtype=torch.float32))
        return concept_tuning._centred(made)

    return tuning(alike=alike)


WAYS: dict[str, Maps] = {
    "tuning": tuning(),
    "without looks": without_looks,
    "looks: surfaces alone": only("_surfaces"),
    "looks: edges alone": only("_edges"),
    "presence in the place of size": presence,
    "one penalty for all voxels": tuning(BY_CONCEPTS=(0.08,), BY_LOOKS=(1.0,)),
    "a finer grid of penalties": tuning(
        BY_CONCEPTS=(0.0, 0.005, 0.02, 0.04, 0.08, 0.16, 0.3, 0.6, 1.2),
        BY_LOOKS=(0.0, 0.12, 0.25, 0.5, 1.0, 2.0, 4.0),
    ),
    "contrast": lambda responses: contrast(responses.holds, responses.voxels),
}


def simulations(folder: Path, small: bool) -> Iterator[Run]:
    """Runs with tokens and targets alone."""
    for seed, subjects in SIMULATIONS[:1] if small else SIMULATIONS:
        profile = load_profile("smoke" if small else "demo")
        size = profile.simulation
        data = neurovl.simulate(
            folder / f"data{seed}",
            subjects=subjects[:1] if small else subjects,
            sessions=size.sessions,
            scale=size.scale,
            seed=seed,
        )
        settings = replace(profile, seed=seed)
        run = start(data, folder / f"run{seed}", settings)
        write_tokens(run)
        embed_targets(run)
        yield run


def heats(run: Run, responses: PictureResponses, names: list[str], found: np.ndarray) -> dict:
    def one(name: str) -> Heat:
        values = np.maximum(found[responses.names.index(name)], 0)
        return in_own_space(name, run.store, responses.subject, on_grid(run.store, values))

    return {name: one(name) for name in names}


def scored(run: Run, responses: PictureResponses, maps: dict[str, Heat]) -> dict[str, float]:
    areas = true_areas(run, responses.subject, maps)
    table = areas.pivot(index="concept", columns="map", values="auc")
    own = np.array([table[name][name] for name in table])
    others = (table.sum(axis=1) - pd.Series(own, table.columns)) / (len(table) - 1)
    return {
        "auc": own.mean(),
        "other words' maps": others.mean(),
        "two-way": np.mean([identified(table[name], name) for name in table]),
    }


def main(arguments: list[str] | None = None) -> None:
    chosen, rows = parse(__doc__, arguments), []
    with tempfile.TemporaryDirectory() as folder:
        for run in simulations(Path(folder), chosen.small):
            for subject in run.store.tested:
                objects = run.recordings.objects
                responses = PictureResponses.of(run.store, run.targets, subject, objects)
                names = [name for name in concepts(run) if name in responses.names]
                found = {w: heats(run, responses, names, f(responses)) for w, f in WAYS.items()}
                found["the generating model"] = ceiling_maps(run, names, responses)
                rows += [{"what": w} | scored(run, responses, m) for w, m in found.items()]
    means = pd.DataFrame(rows).groupby("what", sort=False).mean()
    rows = [{"what": w} | {k: short(v) for k, v in row.items()} for w, row in means.iterrows()]
    about = {"date": time.strftime("%Y-%m-%d", time.gmtime()), "device": f"{processor()}, demo"}
    keep(rows, about, chosen.out, "maps.csv")


if __name__ == "__main__":
    main()
