"""Test sets beyond the run's own: NSD-Imagery and NSD-synthetic, read by a trained run that knows nothing of them.

No trial of these sessions is trained on. Voxels are z-scored within the session's runs by their own trials, without labels, as the
benchmark does it, so every row is transductive.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from neurovl.adaptation.new_subject import read_trials, volumes_identity
from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.encoder.targets import Targets, write_targets
from neurovl.encoder.variants import encoder_for, system_name
from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.errors import MissingError
from neurovl.evaluation.embeddings import derangement, linear_part, ridge_of
from neurovl.evaluation.retrieving import Retrieval
from neurovl.evaluation.score_table import Table
from neurovl.recordings import Recordings
from neurovl.recordings.nsd.further_sessions import find_session, require_session
from neurovl.recordings.nsd.imagery_pictures import nsd_number
from neurovl.recordings.nsd.nsd_files import BETAS
from neurovl.recordings.nsd.nsd_imagery import (
    TASKS,
    ImageryRecordings,
    picture_set,
)
from neurovl.recordings.nsd.nsd_synthetic import SyntheticRecordings
from neurovl.results import PROTOCOLS, Row, condition, read_results, write_results
from neurovl.run import Run

SETS = ("imagery", "synthetic")


@dataclass(frozen=True)
class FurtherSet:
    """One test set: its recordings, and what is varied in it, such as ``task=seen``."""

    recordings: Recordings
    varied: str = ""

    def parts(self, ids: list[str]) -> Iterator[tuple[str, list[int]]]:
        """What is scored together: a condition, and which of the pictures; those of one kind among each other."""
        if not isinstance(self.recordings, ImageryRecordings):
            yield self.varied, list(range(len(ids)))
            return
        kinds = [picture_set(one) for one in ids]
        for kind in dict.fromkeys(kinds):
            rows = [k for k, own in enumerate(kinds) if own == kind]
            yield f"{self.varied} {condition(set=kind)}", rows


def available_sets(run: Run) -> list[str]:
    """The test sets of which all subjects of a run have data."""
    root, betas = run.recordings.root, run.profile.preprocessing.betas or BETAS
    wanted = set(run.recordings.subjects)
    return [name for name in SETS if wanted <= set(find_session(root, name, betas))]


def open_sets(run: Run, name: str) -> list[FurtherSet]:
    """A test set of a run's data; imagery has two tasks.

    Raises
    ------
    MissingError
        A subject of the run has no such data.
    """
    root, betas = run.recordings.root, run.profile.preprocessing.betas or BETAS
    if not (root / "nsddata").is_dir():
        raise MissingError(
            f"{run.recordings.name} has no test set {name!r}, expected NSD's folder: only NSD has these sessions"
        )
    subjects = run.store.subjects
    require_session(root, name, subjects, betas)
    if name == "synthetic":
        return [FurtherSet(SyntheticRecordings(root, subjects, betas))]
    return [
        FurtherSet(ImageryRecordings(root, subjects, betas, task), condition(task=task))
        for task in TASKS
    ]


def evaluate_imagery(run: Run) -> None:
    """RUN/imagery: how well pictures seen and imagined in NSD-Imagery are identified; results.csv and per_image.csv."""
    _evaluate(run, "imagery")


def evaluate_synthetic(run: Run) -> None:
    """RUN/synthetic: the same for NSD-synthetic."""
    _evaluate(run, "synthetic")


def _evaluate(run: Run, name: str) -> None:
    sets = open_sets(run, name)
    targets = embed_sets(run, name, sets[0].recordings)
    volumes = [volumes_identity(one.recordings, s) for one in sets for s in one.recordings.subjects]
    own = run.on_data(sets[0].recordings)
    inputs = ("tokens", "targets", f"targets-{name}", *(f"encoders/{s}" for s in run.variants()))
    settings = {"evaluation": run.profile.evaluation, "volumes": volumes}
    work = {"imagery": evaluate_imagery, "synthetic": evaluate_synthetic}[name]
    with own.stage(name, work, settings, inputs, ("metric", "clip")) as s:
        if s.done:
            return
        p, rows, images = run.profile, [], []
        for one in sets:
            table = Table(one.recordings.name, "", p.seed, p.evaluation.bootstrap)
            _score(run, name, one, targets, table)
            table.add_all_subjects()
            rows += table.rows
            images.append(table.frame())
        note = "transductive: voxels standardised by the session's own trials, without labels"
        write_results([_noted(row, note) for row in rows], s.dir / "results.csv")
        pd.concat(images).to_csv(s.dir / "per_image.csv", index=False)


def embed_sets(run: Run, name: str, recordings: Recordings) -> Targets:
    """RUN/targets-NAME: embeddings of the pictures of a test set."""
    from neurovl.foundation.clip import load_clip
    from neurovl.foundation.vae import load_vae

    models, device = run.profile.models, run.profile.compute.device
    with_vae = run.targets.vae is not None
    settings = {"vae": with_vae, "image_size": models.image_size}
    own = run.on_data(recordings)
    with own.stage(f"targets-{name}", embed_sets, settings, models=("clip", "unclip/vae")) as s:
        if not s.done:
            vae = load_vae(models.unclip, device, models.image_size) if with_vae else None
            write_targets(recordings, s.dir, load_clip(models.clip, device), vae)
    return Targets.load(run.folder / f"targets-{name}")


def embeddings(
    run: Run, recordings: Recordings, subject: str, proto: str = "average", system: str = "main"
) -> tuple[list[str], BrainEmbedding]:
    """What an encoder of a run says of a subject's trials in a further session: pictures and embeddings."""
    (trials,) = read_trials(recordings, recordings.subject_name(subject), run.store, [[]])
    ids, voxels = held_out_voxels(trials, subject, proto)
    return ids, _embed(run, voxels, system)


def imagined(run: Run, subject: str) -> tuple[list[str], BrainEmbedding]:
    """Pictures with captions that a subject imagined and no training saw, by their nsdId, and what the main encoder reads."""
    wanted = condition(task="imagined")
    recordings = next(one.recordings for one in open_sets(run, "imagery") if one.varied == wanted)
    trained = set(run.store.trials.image_id[run.store.trials.split == "train"])
    ids, z = embeddings(run, recordings, subject)
    numbers = [nsd_number(one) for one in ids]
    own = [
        k
        for k, number in enumerate(numbers)
        if number and number not in trained and run.recordings.captions(number)
    ]
    return [numbers[k] for k in own], z.take(own)


def _embed(run: Run, voxels: np.ndarray, system: str) -> BrainEmbedding:
    """What an encoder of a run says of stored voxels (n, V)."""
    encoder = run.encoder(system, run.profile.compute.device)
    return predict(encoder, run.store.cut(voxels, encoder.layout))


def _score(run: Run, name: str, one: FurtherSet, targets: Targets, table: Table) -> None:
    trained = set(run.store.trials.image_id[run.store.trials.split == "train"])
    found = Retrieval(table, targets, name)
    for subject in run.store.subjects:
        (trials,) = read_trials(one.recordings, subject, run.store, [[]])
        ridge = ridge_of(run, subject)
        for proto in PROTOCOLS:
            ids, voxels = held_out_voxels(trials, subject, proto)
            said: dict[str, dict] = {}
            for system in run.variants():
                if system != encoder_for(system_name(system), subject):
                    continue
                z = _embed(run, voxels, system)
                said[system_name(system)] = {"clip": z.clip, "vae": z.vae}
                if system == "main" and (linear := linear_part(run, z)) is not None:
                    said["linear-readout"] = linear
            said["ridge"] = run.targets.parts(ridge.predict(voxels[:, trials.measured]))
            known = [k for k, i in enumerate(ids) if nsd_number(i) not in trained]
            for varied, rows in one.parts([ids[k] for k in known]):
                chosen = [known[k] for k in rows]
                if len(chosen) < 2:
                    continue
                part = _taken(said, chosen)
                order = derangement(len(chosen), run.profile.seed)
                part["shuffled"] = _taken({"": part["neurovl"]}, order)[""]
                pictures = [ids[k] for k in chosen]
                table.add_embeddings(
                    part,
                    name,
                    proto,
                    subject,
                    pictures,
                    targets,
                    run.profile.evaluation.permutations,
                    varied,
                )
                found.add(part, proto, subject, pictures, varied)
    found.finish()


def _taken(said: dict[str, dict], rows: list[int] | np.ndarray) -> dict[str, dict]:
    return {
        system: {part: None if v is None else v[rows] for part, v in parts.items()}
        for system, parts in said.items()
    }


def _noted(row: Row, note: str) -> Row:
    return replace(row, note="; ".join(filter(None, (row.note, note))))


def rows_of_sets(run: Run) -> list[Row]:
    """The rows of the test sets that a run's data have."""
    rows = []
    for name in available_sets(run):
        table = read_results(run.folder / name / "results.csv")
        for record in table.astype(object).where(table.notna(), None).to_dict("records"):
            rows.append(Row(**record))
    return rows
