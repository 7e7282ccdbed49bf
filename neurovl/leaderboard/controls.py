"""Controls of every system: what its scores are worth. RUN/leaderboard/controls.

Brains dealt out among pictures, one mean brain for all, the nearest training picture in the place of a painted one, noise, the
distance of a test picture from those of training, and the trainings of `retraining`.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.evaluation.embeddings import derangement
from neurovl.evaluation.score_table import Table
from neurovl.leaderboard.fitting import MAIN, system_place
from neurovl.leaderboard.gallery_tables import read_gallery, write_gallery
from neurovl.leaderboard.generating import paint, sample_place
from neurovl.leaderboard.picture_board import score_gallery_pictures
from neurovl.leaderboard.retraining import (
    HELD_OUT,
    REGIONS,
    held_out_categories,
    pictures_with,
    read_again,
    retrained_place,
)
from neurovl.leaderboard.shared_inputs import (
    FEATURES,
    PLACE,
    features_of,
    rows_for,
    training_pictures,
)
from neurovl.leaderboard.statements import Statement, read_statement
from neurovl.metrics import two_way
from neurovl.metrics.protocol import resamples
from neurovl.results import condition
from neurovl.run import Run
from neurovl.stages import provenance_key

if TYPE_CHECKING:
    from PIL.Image import Image

CONTROLS = f"{PLACE}/controls"
COLUMNS = "system control task protocol subject metric value ci_low ci_high n chance note".split()
METRIC, PROTOCOL = "two_way_clip", "average"
PERMUTED, MEAN, NEAREST, BLURRED, SEEN = (
    "permuted",
    "mean brain",
    "nearest training picture",
    "blurred",
    "the same categories seen",
)
BLUR = 1 / 16  # standard deviation, in widths of the picture
MEAN_PICTURES = 8  # painted of a mean brain, from as many seeds, and dealt out in turn


def run_controls(run: Run, names: Sequence[str]) -> None:
    """RUN/leaderboard/controls: controls.csv and distance.csv of systems that predict a CLIP embedding or paint."""
    places = [place for n in names for place in (system_place(n), sample_place(n))]
    places += [retrained_place(n) for n in embedding_systems(run, names)]
    keys = {one: provenance_key(run.folder / one) for one in (*places, FEATURES)}
    settings = {"evaluation": run.profile.evaluation, "noise": run.profile.leaderboard.noise}
    with run.stage(CONTROLS, run_controls, settings, keys, ("unclip", "clip", "metric")) as s:
        if s.done:
            return
        rows, far = [], []
        for name in names:
            rows += _of_predictions(run, name)
            rows += _of_pictures(run, name, s.dir / "pictures" / name)
            found = distance_scores(run, name)
            far.append(found)
            rows += _correlations(run, name, found)
        pd.DataFrame(rows, columns=COLUMNS).to_csv(s.dir / "controls.csv", index=False)
        pd.concat(far, ignore_index=True).to_csv(s.dir / "distance.csv", index=False)


def answers(run: Run, name: str, question: str = PROTOCOL) -> dict[str, Statement]:
    """What a system says of every subject, asked one of `fitting.questions`."""
    folder = run.folder / system_place(name) / MAIN / question
    return {f.stem: read_statement(f.with_suffix("")) for f in sorted(folder.glob("*.json"))}


def embedding_systems(run: Run, names: Sequence[str]) -> list[str]:
    """Those of some fitted systems that predict a CLIP image embedding, by which the controls that train again are scored."""
    return [name for name in names if _embeds(answers(run, name))]


def _embeds(own: Mapping[str, Statement]) -> bool:
    return all("clip_image" in one.said for one in own.values())


def identified(
    run: Run, one: Statement, embeddings: np.ndarray | None = None, pictures: set[str] | None = None
) -> pd.Series:
    """Two-way identification among a subject's test pictures, by picture.

    Parameters
    ----------
    embeddings : array, shape (n, E), optional
        Instead of the statement's own.
    pictures : set of str, optional
        Of these alone, still among all.
    """
    said = one.said["clip_image"] if embeddings is None else embeddings
    found = pd.Series(
        two_way(said, features_of(run).of("clip_image", one.image_ids)), one.image_ids
    )
    return found if pictures is None else found[found.index.isin(pictures)]


def _of_predictions(run: Run, name: str) -> list[dict]:
    """Rows of task 'alignment'."""
    own = answers(run, name)
    if not _embeds(own):
        return []
    seed, found = run.profile.seed, {}
    order = {k: derangement(len(v.image_ids), seed) for k, v in own.items()}
    found[PERMUTED] = {
        k: identified(run, v, v.said["clip_image"][order[k]]) for k, v in own.items()
    }
    mean = answers(run, name, MEAN)
    found[MEAN] = {
        k: identified(run, v, np.repeat(mean[k].said["clip_image"], len(v.image_ids), 0))
        for k, v in own.items()
    }
    every = features_of(run)
    found[NEAREST] = {
        k: identified(run, v, every.of("clip_image", nearest_training(run, k, v)))
        for k, v in own.items()
    }
    for level in run.profile.leaderboard.noise:
        noisy = answers(run, name, condition(noise=level))
        found[condition(noise=level)] = {k: identified(run, v) for k, v in noisy.items()}
    held = held_out_categories(run)
    shown = pictures_with(run, held)
    found[SEEN] = {k: identified(run, v, pictures=shown) for k, v in own.items()}
    notes = dict.fromkeys((SEEN, HELD_OUT), f"test pictures with {' or '.join(held)}")
    for job in (HELD_OUT, *(f"only={region}" for region in REGIONS)):
        again, note = read_again(run, name, job)
        some = shown if job == HELD_OUT else None
        found[job] = {k: identified(run, v, pictures=some) for k, v in again.items()}
        notes[job] = note or notes.get(job, "")
    rows = []
    for control, scores in found.items():
        rows += _rows(run, name, control, scores, notes.get(control, ""))
    return rows


def _rows(
    run: Run, name: str, control: str, scores: Mapping[str, pd.Series], note: str
) -> list[dict]:
    """A row for all subjects and one for each; one without a value where there are no scores."""
    about = {"system": name, "control": control, "task": "alignment", "protocol": PROTOCOL}
    about |= {"metric": METRIC, "note": note}
    if not scores:
        return [about | {"subject": "all"}]
    together = pd.concat(scores.values()).groupby(level=0).mean()
    rows, p = [], run.profile
    for subject, values in {"all": together, **scores}.items():
        if not len(values):
            continue
        drawn = np.concatenate(list(resamples(len(values), p.seed, p.evaluation.bootstrap)))
        low, high = np.quantile(drawn @ values.to_numpy() / len(values), [0.025, 0.975])
        measured = {"value": values.mean(), "ci_low": low, "ci_high": high, "n": len(values)}
        rows.append(about | {"subject": subject, "chance": 0.5} | measured)
    return rows


def nearest_training(run: Run, subject: str, one: Statement) -> list[str]:
    """The picture of a subject's training whose embedding has the largest cosine with each predicted one."""
    trials = run.recordings.trials
    own = trials.image_id[(trials.subject == subject) & (trials.split == "train")].unique()
    known = _unit(features_of(run).of("clip_image", own))
    return own[(_unit(one.said["clip_image"]) @ known.T).argmax(1)].tolist()


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def _of_pictures(run: Run, name: str, folder: Path) -> list[dict]:
    """Rows of task 'reconstruction': its own pictures dealt out and blurred, those of a mean brain, and the nearest of training."""
    painted = read_gallery(run.folder / sample_place(name))
    plain = painted.samples.query("condition == '' and protocol == @PROTOCOL")
    if not len(plain):
        return []
    samples, mean = [], answers(run, name, MEAN)
    for subject, statement in answers(run, name).items():
        listed = plain[plain.subject == subject]
        ids = listed.image_id.tolist()
        if not ids:
            continue
        own = _opened(painted.folder, listed.file)
        made = {PERMUTED: [own[k] for k in derangement(len(ids), run.profile.seed)]}
        made[MEAN] = _of_mean_brain(run, mean[subject], len(ids))
        made[BLURRED] = _blurred(own)
        if "clip_image" in statement.said:
            few = statement.take(rows_for(run, statement.image_ids, subject))
            made[NEAREST] = [run.recordings.image(i) for i in nearest_training(run, subject, few)]
        for control, pictures in made.items():
            place = f"{control.replace(' ', '-')}/{subject}"
            (folder / place).mkdir(parents=True, exist_ok=True)
            for image, picture in zip(ids, pictures, strict=True):
                file = f"{place}/{image}.png"
                picture.save(folder / file)
                samples.append(
                    {
                        "system": control,
                        "condition": "",
                        "protocol": PROTOCOL,
                        "subject": subject,
                        "image_id": image,
                        "file": file,
                    }
                )
    p, data = run.profile, run.recordings
    table = Table(data.name, data.split_name, p.seed, p.evaluation.bootstrap)
    gallery = write_gallery(folder, samples)
    score_gallery_pictures(table, run, gallery)
    table.add_all_subjects()
    kept = [one for one in table.rows if one.system in (PERMUTED, MEAN, NEAREST, BLURRED)]
    return [
        {"system": name, "control": row.system}
        | {k: getattr(row, k) for k in COLUMNS if k not in ("system", "control")}
        for row in kept
    ]


def _opened(folder: Path, files: Iterable[str]) -> "list[Image]":
    from PIL import Image

    return [Image.open(folder / file).convert("RGB") for file in files]


def _blurred(own: "list[Image]") -> "list[Image]":
    """Without all that is fine: what rises with it is no sign of a brain."""
    from PIL import ImageFilter

    return [one.filter(ImageFilter.GaussianBlur(BLUR * one.width)) for one in own]


def _of_mean_brain(run: Run, one: Statement, n: int) -> list:
    """Pictures that a system paints of its mean training brain."""
    repeated = one.take([0] * min(n, MEAN_PICTURES))
    made = paint(run, repeated, range(len(repeated.image_ids)))
    return [made[k % len(made)] for k in range(n)]


def distance_scores(run: Run, name: str) -> pd.DataFrame:
    """Each test picture's score, and its distance to the nearest training picture: 1 - cosine of their true embeddings."""
    every, parts = features_of(run), []
    known = _unit(every.of("clip_image", training_pictures(run)))
    for subject, one in answers(run, name).items():
        if "clip_image" not in one.said:
            continue
        far = 1 - (_unit(every.of("clip_image", one.image_ids)) @ known.T).max(1)
        parts.append(
            pd.DataFrame(
                {
                    "system": name,
                    "subject": subject,
                    "image_id": one.image_ids,
                    "distance": far,
                    METRIC: identified(run, one).to_numpy(),
                }
            )
        )
    return pd.concat(parts) if parts else pd.DataFrame()


def _correlations(run: Run, name: str, found: pd.DataFrame) -> list[dict]:
    """The rank correlation of score and distance over test pictures, subjects averaged first, with its interval."""
    from scipy.stats import spearmanr

    if not len(found):
        return []
    mean = found.groupby("image_id")[["distance", METRIC]].mean()
    rng, p = np.random.default_rng([run.profile.seed, 47]), run.profile
    rows = rng.integers(0, len(mean), (p.evaluation.bootstrap, len(mean)))
    drawn = [spearmanr(*mean.to_numpy()[some].T).statistic for some in rows]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return [
        {
            "system": name,
            "control": "distance",
            "task": "alignment",
            "protocol": PROTOCOL,
            "subject": "all",
            "metric": METRIC,
            "value": spearmanr(*mean.to_numpy().T).statistic,
            "ci_low": low,
            "ci_high": high,
            "n": len(mean),
            "chance": 0.0,
        }
    ]
