"""From recordings to a run folder: each stage once, skipped while nothing it depends on has changed.

Stages read from the stages before them and write below RUN/; how they are scored is in `evaluation`.
"""

import logging
import os
import time
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import ConfigError
from neurovl.recordings import Recordings, open_recordings
from neurovl.run import Run, write_record
from neurovl.settings.profile_files import load_profile
from neurovl.settings.sections import Profile
from neurovl.tokens.store import TokenStore

logger = logging.getLogger(__name__)


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


def profile_for(data: Path | str | None, profile: str | None) -> str:
    """Name of the profile: the one asked for, else the one that fits the data."""
    if profile is not None:
        return profile
    return "haxby" if data is not None and open_recordings(data).name == "haxby" else "demo"


def start(data: Path | str | None, out: Path | str, profile: Profile) -> Run:
    """Open the data (simulated where none are given) and record the run; `Run.all_folds` gives its folds."""
    out = Path(out)
    folder = Path(data) if data is not None else simulate_for(profile, out.parent / "data")
    wanted = profile.preprocessing
    if data is None and wanted.subjects is None:
        wanted = replace(wanted, subjects=profile.simulation.subjects)
        profile = replace(profile, preprocessing=wanted)
    run = Run(out, profile, folder)
    first = run.recordings
    facts = {
        "data": first.name,
        "simulated": first.simulated,
        "licence": first.licence,
        "terms": first.terms,
        "publish_images": first.publish_images,
        "folds": first.n_folds,
        "device": profile.compute.device,
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }
    write_record(out, profile, os.path.relpath(folder, out), facts)
    run.folds = first.n_folds
    return run


def preprocess(
    data: Recordings | Path | str, out: Path | str, profile: str | None = None
) -> TokenStore:
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
    run = start(folder, out, load_profile(profile_for(folder, profile)))
    for fold in run.all_folds():
        write_tokens(fold)
    return run.store


def write_tokens(run: Run, n_jobs: int = 1) -> None:
    """RUN/tokens: standardised, resized voxels of every trial (paper section 3.1).

    Sessions that the store had already are kept where nothing that they rest on changed.
    """
    from neurovl.tokens.writing import write_store

    settings = run.profile.preprocessing
    with run.stage("tokens", write_tokens, settings) as s:
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

    models, device = run.profile.models, run.profile.compute.device
    settings = {"image_size": models.image_size}
    with run.stage("targets", embed_targets, settings, models=("clip", "unclip/vae")) as s:
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

    p, variant = run.profile, describe(name, run.profile, run.store)
    settings = asdict(variant)
    del settings["settings"]["variants"]
    stage = run.stage(f"encoders/{name}", train_encoder, settings, ("tokens", "targets"))
    with stage if leads() else nullcontext() as s:
        folder = agree(None if s is None or s.done else s.dir, p.compute.device)
        if folder is None:
            return
        encoder, curve = fit_encoder(
            run.store,
            run.targets,
            variant,
            seed=p.seed,
            checkpoint=folder / "checkpoint",
            compute=p.compute,
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
    with run.stage(
        "llm", train_language, settings, ("tokens", "targets", "encoders/main"), ("llm",)
    ) as s:
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
        llm, tokenizer = load_llm(p.models.llm, p.compute.device)
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
                accelerator=accelerator_for(settings.precision, p.compute.device),
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
    for variant in run.variants():
        train_encoder(run, variant)
    if run.has_captions:
        train_language(run)


def evaluate(run: Run) -> None:
    """Answers, pictures, maps and the importance of regions of every fold, the new subject's curve, results.csv and claims.csv."""
    from neurovl import evaluation

    folds = run.all_folds()
    for fold in folds:
        if fold.has_captions:
            evaluation.answer(fold)
            evaluation.reconstruct(fold)
        if evaluation.concepts(fold):
            evaluation.localize(fold)
        if evaluation.regions(fold):
            evaluation.measure_importance(fold)
    evaluation.score(folds)


def reproduce(
    data: Path | str | None = None,
    out: Path | str = "runs/demo",
    profile: str | None = None,
    seed: int | None = None,
    device: str | None = None,
) -> Run:
    """Everything from data to results.csv and claims.csv; a second call does only what is not up to date.

    Parameters
    ----------
    data : path, optional
        NSD folder, Haxby folder or table; simulated NSD where none is given.
    out : path
        The run folder.
    profile : str, optional
        Name or YAML file; by default 'demo', and 'haxby' for that data set.
    seed, device : optional
        Instead of the profile's own.
    """
    run = start(data, out, load_profile(profile_for(data, profile), seed=seed, device=device))
    for fold in run.all_folds():
        train(fold)
    evaluate(run)
    return run
