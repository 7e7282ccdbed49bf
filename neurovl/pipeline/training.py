"""The stages up to trained networks: tokens, targets, encoders, annotations, language model."""

import logging
import shutil
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import torch

from neurovl.pipeline.hidden_states import fit_reading, hidden_states, picture_states
from neurovl.pipeline.starting import profile_for, start
from neurovl.recordings import Recordings
from neurovl.recordings.copies import refuse_copies
from neurovl.run import Run
from neurovl.settings.profile_files import load_profile
from neurovl.tokens.store import TokenStore
from neurovl.training.devices import agree, leader_first, leads
from neurovl.training.validation import tune_pictures

logger = logging.getLogger(__name__)


def write_tokens(run: Run) -> None:
    """RUN/tokens: standardised, resized voxels of every trial (paper section 3.1).

    Sessions that the store had already are kept where nothing that they rest on changed.
    """
    from neurovl.tokens.writing import write_store

    settings = run.profile.preprocessing
    with run.stage("tokens", write_tokens, settings) as s:
        if not s.done:
            refuse_copies(run.recordings)
            write_store(
                run.recordings,
                s.dir,
                patches=settings.patches,
                target=settings.target,
                off_mask=settings.off_mask,
                n_jobs=run.profile.compute.at_a_time(),
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


def annotate_pictures(run: Run) -> None:
    """RUN/annotations: captions and objects of the pictures by the profile's captioner and detector.

    Not made where the profile lacks one of them. COCO's captions are of whole photographs, NSD shows crops, so the paper
    annotated them anew, with BLIP-2 and DETR. Of the training pictures they are what the language model is taught; the
    captions of the test pictures are a second set of references.
    """
    from neurovl.foundation.annotators import annotate, load_captioner, load_detector

    models, device = run.profile.models, run.profile.compute.device
    if models.captioner is None or models.detector is None or not run.recordings.has_images:
        return
    with run.stage("annotations", annotate_pictures, {}, models=("captioner", "detector")) as s:
        if not s.done:
            trials = run.recordings.trials
            ids = trials.sort_values("split", ascending=False, kind="stable").image_id.unique()
            pictures = [(str(i), lambda i=i: run.recordings.image(i)) for i in ids]
            annotate(
                pictures,
                s.dir / "annotations.jsonl",
                load_captioner(models.captioner, device),
                load_detector(models.detector, device),
                seed=run.profile.seed,
            )


def train_language(run: Run, name: str = "main") -> None:
    """RUN/llm: projector and language model, stage 1 then stage 2 (paper section 3.2), and their training curves.

    Another variant than 'main' lies in RUN/llms/NAME, see `language.variants`. The processes of `accelerate launch` train them together.
    """

    from neurovl.foundation.llm import load_llm
    from neurovl.language import BrainLLM, Projector, fit_language
    from neurovl.language.adapters import merge_adapters
    from neurovl.language.llm_variants import language_variant
    from neurovl.language.talks import talks

    p, variant = run.profile, language_variant(name)
    settings, adapted = asdict(p.language), p.language.method == "lora"
    del settings["max_new_tokens"], settings["variants"]  # of answers, and of other models
    settings["reads"] = variant.reads or p.language.reads if variant.encoder else ""
    if adapted:
        settings["lora"] = asdict(p.lora)
    with leader_first(p.compute.device):
        annotate_pictures(run)
    annotations = run.annotations()
    inputs = ["tokens", "targets", *([f"encoders/{variant.encoder}"] if variant.encoder else [])]
    inputs += ["annotations"] if annotations else []
    models = (variant.model,) if variant.encoder else (variant.model, "clip")
    stage = run.stage(variant.stage, train_language, settings, tuple(inputs), models)
    with stage if leads() else nullcontext() as s:
        folder = agree(None if s is None or s.done else s.dir, p.compute.device)
        if folder is None:
            return
        trials = run.store.trials[run.store.trials.split == "train"]
        if not variant.tune:
            trials = trials[~trials.image_id.isin(tune_pictures(trials.image_id))]
        pictures, file = list(trials.image_id), folder / "checkpoint" / "hidden.npy"
        rows, reading = trials.index.to_numpy(), None
        with leader_first(p.compute.device):
            if variant.encoder:
                if settings["reads"] == "predictions":
                    reading = fit_reading(run, rows, variant.encoder)
                hidden = hidden_states(run, rows, file, variant.encoder, reading)
            else:
                pictures = list(dict.fromkeys(pictures))
                hidden = picture_states(run, pictures, file)
        held = p.lora.base if adapted else "auto"
        llm, tokenizer = load_llm(p.models.spec(variant.model), p.compute.device, held)
        torch.manual_seed(p.seed)
        width = llm.get_input_embeddings().embedding_dim
        model = BrainLLM(llm, tokenizer, Projector(hidden.shape[-1], width), reading)
        curve = fit_language(
            model,
            hidden,
            pictures,
            talks(run.recordings, pictures, annotations, p.seed, p.language.checks),
            p.language,
            lora=p.lora,
            seed=p.seed,
            checkpoint=folder / "checkpoint",
            checkpointing=p.compute.checkpointing,
            device=p.compute.device,
            trackers=p.compute.trackers,
            logs=run.folder / "logs",
        )
        if s is not None:
            model = model.cpu().float()  # where merging has room
            merge_adapters(model.llm)
            model.save_pretrained(s.dir)
            pd.DataFrame(curve).to_csv(s.dir / "curve.csv", index=False)
            _drop_checkpoint(s.dir)


def _drop_checkpoint(folder: Path) -> None:
    shutil.rmtree(folder / "checkpoint", ignore_errors=True)


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

    Examples
    --------
    >>> store = neurovl.preprocess(data, out=folder / "run", profile=tiny)
    >>> store.subjects, store.layouts
    (['subj01'], ['p5', 'p4', 'flat'])
    """
    folder = data.root if isinstance(data, Recordings) else data
    run = start(folder, out, load_profile(profile_for(folder, profile)))
    for fold in run.all_folds():
        write_tokens(fold)
    return run.store
