"""Controls that train every system again: without two categories, and from some regions alone. RUN/leaderboard/retrained/NAME."""

import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurovl.baselines.decoder import Decoder
from neurovl.baselines.registry import find
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError
from neurovl.leaderboard.fitting import chosen_settings, system_code
from neurovl.leaderboard.ours import Ours, ours_in, stored_voxels
from neurovl.leaderboard.shared_inputs import (
    FEATURES,
    PLACE,
    VOXELS,
    features_of,
    parts_of,
    voxels_of,
)
from neurovl.leaderboard.statements import Statement, read_statement
from neurovl.run import Run

REGIONS = {
    "early": ("early",),
    "higher": ("midventral", "midlateral", "midparietal", "ventral", "lateral", "parietal"),
}
HELD_OUT = "held-out categories"
NOTE = "note.txt"


def retrained_place(name: str) -> str:
    """The stage of a system's controls that train again."""
    return f"{PLACE}/retrained/{name}"


def held_out_categories(run: Run) -> list[str]:
    """The two categories that brain maps do not see: those of the profile, else the two whose share of the test pictures is closest to a tenth.

    Raises
    ------
    DataError
        The pictures' objects are not known, or a category of the profile is in no training and test picture.
    """
    return run.once("held-out categories", lambda: _held_out_categories(run))


def _held_out_categories(run: Run) -> list[str]:
    trials, data = run.recordings.trials, run.recordings
    pictures = trials.drop_duplicates("image_id")
    held = {i: {o["category"] for o in data.objects(i)} for i in pictures.image_id}
    counts = {
        split: Counter(c for i in pictures.image_id[pictures.split == split] for c in held[i])
        for split in ("train", "test")
    }
    both = sorted(set(counts["train"]) & set(counts["test"]))
    wanted = list(run.profile.leaderboard.held_out)
    unknown = [one for one in wanted if one not in both]
    if unknown or len(both) < 2:
        raise DataError(
            f"{data.name} has no category {unknown[0] if unknown else ''!r} among the objects of training and test pictures, "
            f"expected two of {', '.join(both) or '(none)'}: correct leaderboard.held_out of the profile"
        )
    tenth = (pictures.split == "test").sum() / 10
    return wanted or sorted(both, key=lambda one: (abs(counts["test"][one] - tenth), one))[:2]


def pictures_with(run: Run, categories: list[str]) -> set[str]:
    """The pictures that hold one of some categories."""
    return {
        i
        for i in run.recordings.trials.image_id.unique()
        if set(categories) & set(run.categories(i))
    }


def retrain_system(run: Run, name: str) -> None:
    """RUN/leaderboard/retrained/NAME: what a system says whose maps never saw two categories, or read some regions alone."""
    ours = name in ours_in(run)
    held = held_out_categories(run)
    kind = Ours if ours else find(name)
    settings = {
        "held_out": held,
        "settings": chosen_settings(run, name),
        "code": system_code(kind),
    }
    inputs = ("tokens", "targets") if ours else (VOXELS, FEATURES)
    with run.stage(retrained_place(name), retrain_system, settings, inputs) as s:
        if s.done:
            return
        read = stored_voxels if ours else voxels_of
        train, test = read(run, "train"), read(run, "test")
        unseen = list(pictures_with(run, held))
        others = {k: v.take(~np.isin(v.image_ids, unseen)) for k, v in train.items()}
        _again(run, name, s.dir, HELD_OUT, others, test)
        for region, names in REGIONS.items():
            job = f"only={region}"
            try:
                parts = [{k: only_region(v, names) for k, v in p.items()} for p in (train, test)]
            except DataError as problem:  # a data set without these regions
                (s.dir / job).mkdir(exist_ok=True)
                (s.dir / job / NOTE).write_text(str(problem))
                continue
            _again(run, name, s.dir, job, *parts)
        shutil.rmtree(s.dir / "checkpoint", ignore_errors=True)


def _again(
    run: Run,
    name: str,
    folder: Path,
    job: str,
    train: Mapping[str, SubjectVoxels],
    test: Mapping[str, SubjectVoxels],
) -> None:
    """Fit a system to other trials and write what it says of the test pictures' averages, where that was not done."""
    done = folder / job / "done"
    if done.is_file():
        return
    parts = replace(parts_of(run), checkpoint=folder / "checkpoint" / job)
    decoder = _new(run, name).fit(train, features_of(run), parts)
    for subject, voxels in test.items():
        average = voxels.averaged()
        said = {k: v for k, v in decoder.predict(average).items() if k != "hidden"}
        Statement(average.image_ids.tolist(), said).write(folder / job / subject)
    done.touch()


def read_again(run: Run, name: str, job: str) -> tuple[dict[str, Statement], str]:
    """What a system said of each subject's test pictures after a training of `retrain_system`; or nothing, and the reason."""
    folder = run.folder / retrained_place(name) / job
    if (folder / NOTE).is_file():
        return {}, (folder / NOTE).read_text()
    return {f.stem: read_statement(f.with_suffix("")) for f in sorted(folder.glob("*.json"))}, ""


def _new(run: Run, name: str) -> Decoder:
    chosen = chosen_settings(run, name)
    return Ours(run, name, **chosen) if name in ours_in(run) else find(name)(**chosen)


def only_region(voxels: SubjectVoxels, names: tuple[str, ...]) -> SubjectVoxels:
    """The responses of some regions, all others set to 0, which is the mean."""
    kept = voxels.region(*names)
    return voxels.with_values(np.where(kept, voxels.values, 0).astype(np.float16))
