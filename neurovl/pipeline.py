"""From recordings to a run folder: each stage once, skipped while nothing it depends on has changed.

Stages read from the stages before them and write below RUN/; how they are scored is in `evaluation`.
"""

import logging
import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import ConfigError
from neurovl.recordings.opening import Recordings, open_recordings, require_both_splits
from neurovl.settings.profile_files import Profile, load_profile, read_run, write_run
from neurovl.stages import provenance_key, stage

logger = logging.getLogger(__name__)

# Edits elsewhere leave the store, and the encoders, as they are.
TOKENS_CODE = ("neurovl.tokens.writing", "neurovl.recordings.opening")
TARGETS_CODE = ("neurovl.encoder.targets", "neurovl.foundation.clip", "neurovl.foundation.vae")
ENCODER_CODE = ("neurovl.encoder.alignment", "neurovl.encoder.variants")


@dataclass
class Run:
    """A run folder with its data and settings; one fold of it where the data set has several.

    Attributes
    ----------
    folder : Path
        Where the stages of this fold lie.
    """

    folder: Path
    profile: Profile
    recordings: Recordings
    data: dict

    def stage(self, name: str, settings, inputs: tuple[str, ...] = (), code: tuple[str, ...] = ()):
        """A stage below the run folder; `inputs` are the stages it reads, `code` the modules it rests on."""
        keys = {i: provenance_key(self.folder / i) for i in inputs}
        p = self.profile
        (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
        return stage(
            self.folder / name,
            {"settings": settings, "models": p.models},
            keys,
            seed=p.seed,
            profile=p.name,
            data=self.data,
            device=p.device,
            code=code,
        )

    @cached_property
    def store(self):
        from neurovl.tokens.store import TokenStore

        return TokenStore(self.folder / "tokens")

    @cached_property
    def targets(self):
        from neurovl.encoder.targets import Targets

        return Targets(self.folder / "targets")

    def encoder(self, system: str):
        """A trained encoder by its system: 'main', 'p4', 'flat', 'no-vae', 'per-subject-subj01'."""
        from neurovl.encoder.vit3d import load_encoder

        return load_encoder(self.folder / "encoders" / system)

    def systems(self) -> list[str]:
        """Names of the encoders of the profile, see `encoder.variants.describe`."""
        from neurovl.encoder.variants import expand

        return expand(self.profile.alignment.variants, self.store)

    @property
    def has_captions(self) -> bool:
        """Whether the pictures have captions, from which the language model learns."""
        first = self.recordings.trials.image_id.iloc[0]
        return self.recordings.has_images and bool(self.recordings.captions(first))


def open_run(run, fold: int = 0) -> Run:
    """Open a run folder that `start` made, with its data."""
    run = Path(run)
    facts = read_run(run)
    recordings = _open(os.path.normpath(run / facts["data_folder"]), facts["settings"], fold)
    return _run(run, facts["settings"], recordings, fold)


def _open(folder, profile: Profile, fold: int = 0) -> Recordings:
    wanted = profile.preprocessing
    return require_both_splits(
        open_recordings(folder, wanted.subjects, fold, wanted.split, wanted.betas)
    )


def _run(out: Path, profile: Profile, recordings: Recordings, fold: int) -> Run:
    folder = out / f"fold{fold}" if recordings.n_folds > 1 else out
    return Run(
        folder, profile, recordings, {"name": recordings.name, "checksum": recordings.checksum()}
    )


def simulate_for(profile: Profile, beside: Path) -> Path:
    """The profile's simulated data folder, with the new subject where one is named; made where it is not there yet."""
    from neurovl.smallworld.subjects import simulate

    world, new = profile.simulation, profile.adaptation.subject
    if world is None:
        raise ConfigError(
            f"no data were given, and profile {profile.name} simulates none, expected a data set: give one with --data DIR"
        )
    subjects = [*world.subjects, *([] if new is None or new in world.subjects else [new])]
    folder = (
        beside / f"simulated-nsd-{'-'.join(map(str, subjects))}-s{world.sessions}-x{world.scale:g}"
    )
    simulate(
        folder,
        subjects=subjects,
        sessions=world.sessions,
        scale=world.scale,
        seed=profile.seed,
        n_jobs=os.cpu_count() or 1,
    )
    return folder


def profile_for(data, profile: str | None) -> str:
    """Name of the profile: the one asked for, else the one that fits the data."""
    if profile is not None:
        return profile
    return "haxby" if data is not None and open_recordings(data).name == "haxby" else "demo"


def start(data, out, profile: Profile) -> list[Run]:
    """Open the data (simulated where none are given), record the run, and return its folds."""
    out = Path(out)
    folder = Path(data) if data is not None else simulate_for(profile, out.parent / "data")
    wanted = profile.preprocessing
    if data is None and wanted.subjects is None:
        wanted = replace(wanted, subjects=profile.simulation.subjects)
        profile = replace(profile, preprocessing=wanted)
    first = _open(folder, profile)
    facts = {
        "data": first.name,
        "simulated": first.simulated,
        "licence": first.licence,
        "terms": first.terms,
        "publish_images": first.publish_images,
        "folds": first.n_folds,
        "device": profile.device,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    write_run(out, profile, os.path.relpath(folder, out), facts)
    folds = [first, *(_open(folder, profile, fold) for fold in range(1, first.n_folds))]
    return [_run(out, profile, r, k) for k, r in enumerate(folds)]


def preprocess(data, out, profile: str | None = None):
    """Turn recordings into the token store of a run folder (paper section 3.1).

    Parameters
    ----------
    data : Recordings or path
    out : path
        The run folder.
    profile : str, optional
        Name or YAML file; by default the one that fits the data.

    Returns
    -------
    TokenStore
        Of the first fold, where the data set has several.
    """
    folder = data.root if isinstance(data, Recordings) else data
    runs = start(folder, out, load_profile(profile_for(folder, profile)))
    for run in runs:
        write_tokens(run)
    return runs[0].store


def write_tokens(run: Run, n_jobs: int = 1) -> None:
    """RUN/tokens: standardised, resized voxels of every trial (paper section 3.1).

    Sessions that the store had already are kept where nothing that they rest on changed.
    """
    from neurovl.tokens.writing import write_store

    settings = run.profile.preprocessing
    with run.stage("tokens", settings, code=TOKENS_CODE) as s:
        if not s.done:
            write_store(
                run.recordings,
                s.dir,
                patches=settings.patches,
                target=settings.target,
                off_mask=settings.off_mask,
                n_jobs=n_jobs,
                previous=run.folder / "tokens",
            )


def embed_targets(run: Run) -> None:
    """RUN/targets: CLIP and VAE embeddings of the pictures."""
    from neurovl.encoder.targets import write_targets
    from neurovl.foundation.clip import load_clip
    from neurovl.foundation.vae import load_vae

    models, device = run.profile.models, run.profile.device
    with run.stage("targets", {}, code=TARGETS_CODE) as s:
        if not s.done:
            vae = (
                load_vae(models.unclip, device, models.image_size)
                if run.recordings.has_images
                else None
            )
            write_targets(run.recordings, s.dir, load_clip(models.clip, device), vae)


def train_encoder(run: Run, name: str) -> None:
    """RUN/encoders/NAME: one encoder and its training curve; the processes of `accelerate launch` train it together."""
    from neurovl.encoder.alignment import fit_encoder
    from neurovl.encoder.variants import describe
    from neurovl.training.devices import agree, leads

    p, system = run.profile, describe(name, run.profile, run.store)
    settings = {
        **asdict(system),
        "settings": {**asdict(system.settings), "variants": None, "workers": None},
    }
    stage = run.stage(f"encoders/{name}", settings, ("tokens", "targets"), ENCODER_CODE)
    with stage if leads() else nullcontext() as s:
        folder = agree(None if s is None or s.done else s.dir, p.device)
        if folder is None:
            return
        encoder, curve = fit_encoder(
            run.store,
            run.targets,
            system,
            seed=p.seed,
            checkpoint=folder / "checkpoint",
            device=p.device,
            trackers=p.trackers,
            logs=run.folder / "logs",
        )
        if s is not None:
            encoder.save_pretrained(s.dir)
            pd.DataFrame(curve).to_csv(s.dir / "curve.csv", index=False)
            _drop_checkpoint(s.dir)


def train_language(run: Run) -> None:
    """RUN/llm: projector and language model, stage 1 then stage 2 (paper section 3.2)."""
    import torch

    from neurovl.encoder.alignment import predict
    from neurovl.foundation.llm import load_llm
    from neurovl.language import BrainLLM, Projector, fit_language
    from neurovl.language.talks import talks
    from neurovl.training.devices import accelerator_for

    p, settings = run.profile, run.profile.language
    with run.stage("llm", settings, ("tokens", "targets", "encoders/main")) as s:
        if s.done:
            return
        store, encoder = run.store, run.encoder("main")
        trials = store.trials[store.trials.split == "train"]
        rows = trials.index.to_numpy()
        blocks = np.array_split(rows, max(1, len(rows) // 1024))
        hidden = torch.cat(
            [
                predict(encoder, store.cut(store.voxels_at(b), encoder.layout)).hidden.half()
                for b in blocks
            ]
        )
        talk = talks(run, list(trials.image_id))
        llm, tokenizer = load_llm(p.models.llm, p.device)
        torch.manual_seed(p.seed)
        model = BrainLLM(
            llm, tokenizer, Projector(hidden.shape[-1], llm.get_input_embeddings().embedding_dim)
        )
        curve = []
        for number in (1, 2):
            losses = fit_language(
                model,
                hidden,
                list(trials.image_id),
                talk,
                stage=number,
                steps=settings.steps[number - 1],
                batch_size=settings.batch_size[number - 1],
                lr=settings.lr[number - 1],
                seed=p.seed + number,
                accelerator=accelerator_for(settings.precision, p.device),
            )
            curve += [
                {"stage": number, "step": i + 1, "loss": loss} for i, loss in enumerate(losses)
            ]
        model.float().save_pretrained(s.dir)
        pd.DataFrame(curve).to_csv(s.dir / "curve.csv", index=False)


def _drop_checkpoint(folder: Path) -> None:
    file = folder / "checkpoint" / "checkpoint.pt"
    file.unlink(missing_ok=True)
    if file.parent.is_dir():
        file.parent.rmdir()


def train(run: Run) -> None:
    """Tokens, targets, every encoder of the profile, and the language model where there are captions."""
    write_tokens(run, os.cpu_count() or 1)
    embed_targets(run)
    for system in run.variants():
        train_encoder(run, system)
    if run.has_captions:
        train_language(run)


def evaluate(runs: list[Run], out) -> None:
    """Answers, pictures, maps and the importance of regions of every fold of a trained run, the new subject's curve, results.csv and claims.csv."""
    from neurovl import evaluation

    for run in runs:
        if run.has_captions:
            evaluation.answer(run)
            evaluation.reconstruct(run)
        if evaluation.concepts(run):
            evaluation.localize(run)
        if evaluation.regions(run):
            evaluation.measure_importance(run)
    evaluation.score(runs, Path(out))


def reproduce(
    data=None,
    out="runs/demo",
    profile: str | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> Path:
    """Everything from data to results.csv and claims.csv; a second call does only what is not up to date.

    Parameters
    ----------
    data : path, optional
        NSD folder, Haxby folder or table; simulated NSD where none is given.
    out : path
        The run folder.
    profile : str, optional
        Name or YAML file; by default 'demo', and 'haxby' for that data set.

    Returns
    -------
    Path
        The run folder.
    """
    settings = load_profile(profile_for(data, profile), seed=seed, device=device)
    runs = start(data, out, settings)
    for run in runs:
        train(run)
    evaluate(runs, out)
    return Path(out)
