"""Fit a system to the training trials of a run and keep what it says of the test pictures: RUN/leaderboard/systems/NAME."""

import hashlib
import inspect
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurovl.baselines.decoder import Decoder, FrozenParts
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.registry import find
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.leaderboard.found_settings import searched_settings
from neurovl.leaderboard.shared_inputs import (
    CAPTIONER,
    FEATURES,
    PLACE,
    VOXELS,
    features_of,
    parts_of,
    voxels_of,
)
from neurovl.leaderboard.statements import Facts, Statement
from neurovl.results import condition
from neurovl.run import Run
from neurovl.stages import code_hash

WORDS = ("clip_text", "clip_texts", "text_states", "captions")  # features that come of captions
MAIN, AS_PUBLISHED = "main", "as published"
UNSPOKEN = "noise="  # answers that are compared as predictions alone


def system_place(name: str) -> str:
    """The stage of a system."""
    return f"{PLACE}/systems/{name}"


def chosen_settings(run: Run, name: str) -> dict:
    """The settings of a system: the profile's, and over them what `neurovl search` chose for this run."""
    return {**run.profile.leaderboard.settings.get(name, {}), **searched_settings(run, name)}


def lacking(run: Run, name: str) -> list[str]:
    """The features that a system needs and a run's data cannot have."""
    words = () if run.has_captions else WORDS
    return [one for one in find(name).needs if one in words]


def fit_system(run: Run, name: str) -> None:
    """RUN/leaderboard/systems/NAME: what one system says, as main and as published, and what it cost.

    Beside the test pictures' averages and single trials: averages with noise, and the mean training brain, for the controls.
    """
    kind, own = find(name), run.profile.leaderboard
    chosen = chosen_settings(run, name)
    settings = {"settings": chosen, "code": system_code(kind), "noise": own.noise}
    inputs = (VOXELS, FEATURES, CAPTIONER) if run.has_captions else (VOXELS, FEATURES)
    with run.stage(system_place(name), fit_system, settings, inputs) as s:
        if s.done:
            return
        train, test = voxels_of(run, "train"), voxels_of(run, "test")
        features, parts = features_of(run), replace(parts_of(run), checkpoint=s.dir / "checkpoint")
        asked = dict(questions(train, test, own.noise, run.profile.seed))
        decoder = kind(**chosen)
        facts = fit_and_say(decoder, train, features, parts, asked, s.dir / MAIN)
        if kind.card.as_published:
            plain = {k: v for k, v in asked.items() if k.partition("/")[0] in ("average", "single")}
            decoder.as_published = True
            if kind.published_refit:
                parts = replace(parts, checkpoint=s.dir / "checkpoint" / AS_PUBLISHED)
                decoder = kind(as_published=True, **chosen)
                fit_and_say(decoder, train, features, parts, plain, s.dir / AS_PUBLISHED)
            else:
                say(decoder, parts, plain, s.dir / AS_PUBLISHED)
        shutil.rmtree(s.dir / "checkpoint", ignore_errors=True)
        facts.write(s.dir)


def questions(
    train: Mapping[str, SubjectVoxels],
    test: Mapping[str, SubjectVoxels],
    noise: tuple[float, ...],
    seed: int,
    noise_of: Callable[[SubjectVoxels, np.random.Generator], np.ndarray] | None = None,
) -> list[tuple[str, SubjectVoxels]]:
    """What every system is asked of every subject, by the name of the file that takes its answer.

    Parameters
    ----------
    train, test : dict of str to SubjectVoxels
    noise : tuple of float
        Standard deviations of the noise added to each trial, before repeats are averaged.
    seed : int
    noise_of : callable, optional
        Noise of standard deviation 1 for the rows of some voxels, (n, V); white by default.
    """
    noise_of, found = noise_of or white_noise, []
    for k, (subject, voxels) in enumerate(test.items()):
        found += [
            (f"average/{subject}", voxels.averaged()),
            (f"single/{subject}", voxels.first()),
            (f"mean brain/{subject}", mean_brain(train[subject])),
        ]
        for level in noise:
            rng = np.random.default_rng([seed, 41, k])
            values = voxels.read() + level * noise_of(voxels, rng)
            noisy = voxels.with_values(values).averaged()
            found.append((f"{condition(noise=level)}/{subject}", noisy))
    return found


def white_noise(voxels: SubjectVoxels, rng: np.random.Generator) -> np.ndarray:
    """Independent in each voxel and trial, float32 (n, V)."""
    return rng.standard_normal((len(voxels), voxels.n_voxels), np.float32)


def mean_brain(train: SubjectVoxels) -> SubjectVoxels:
    """One row: the mean over the training pictures of their mean trial."""
    average = train.averaged()
    # It stands for a picture's average, and is rescaled as one.
    trials = np.array([np.median(average.n_averaged)], int)
    mean = average.read().mean(0, keepdims=True)
    return train.with_values(mean, np.array(["mean"]), np.zeros(1, int), trials)


def fit_and_say(
    decoder: Decoder,
    train: Mapping[str, SubjectVoxels],
    features: PictureFeatures,
    parts: FrozenParts,
    asked: Mapping[str, SubjectVoxels],
    folder: Path,
) -> Facts:
    """Fit a system, write what it says of each row of `asked`, and give what it cost."""
    start = time.perf_counter()
    decoder.fit(train, features, parts)
    fitted = time.perf_counter()
    say(decoder, parts, asked, folder)
    return Facts(
        decoder.n_models,
        decoder.n_parameters,
        fitted - start,
        time.perf_counter() - fitted,
        float(np.mean([len(voxels) for voxels in train.values()])),
        decoder.settings,
    )


def say(
    decoder: Decoder, parts: FrozenParts, asked: Mapping[str, SubjectVoxels], folder: Path
) -> None:
    """Write what a fitted system says of each row of `asked`."""
    for name, voxels in asked.items():
        said = decoder.predict(voxels)
        speaks = not name.startswith(UNSPOKEN)
        words = decoder.captions(said, parts) if speaks else None
        Statement(
            voxels.image_ids.tolist(),
            {k: v for k, v in said.items() if k != "hidden"},  # for words alone, and large
            decoder.conditions(said) if speaks else None,
            decoder.speaks_from(said) if speaks else None,
            None if words is None else list(words),
        ).write(folder / name)


def system_code(kind: type[Decoder]) -> str:
    """Changes when the code of a system may have changed, of this package or of another."""
    if kind.__module__.partition(".")[0] == __name__.partition(".")[0]:
        return code_hash(kind)
    source = inspect.getsource(sys.modules[kind.__module__])
    return hashlib.sha256(source.encode()).hexdigest()
