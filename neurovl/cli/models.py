"""Verbs that train models and put them to use."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurovl.cli.options import (
    Device,
    ImageId,
    Out,
    RunDir,
    Seed,
    Single,
    Subject,
    app,
    foundation_app,
    output,
    say,
    train_app,
)
from neurovl.errors import ConfigError

if TYPE_CHECKING:
    from neurovl.encoder.vit3d import BrainEmbedding
    from neurovl.run import Run


@train_app.command("encoder")
def train_encoder(
    run: RunDir,
    variant: Annotated[
        str | None, typer.Option(help="One variant, e.g. main; by default all.")
    ] = None,
) -> None:
    """Train the encoders of a run."""
    from neurovl import pipeline
    from neurovl.run import open_run
    from neurovl.training.devices import leader_first, leads, several

    for fold in open_run(run).all_folds():
        with leader_first(fold.profile.compute.device):
            pipeline.write_tokens(fold)
        if variant is not None and variant not in fold.variants():
            raise ConfigError(
                f"there is no variant {variant!r} in this run's profile, expected one of "
                f"{', '.join(fold.variants())}: choose one of them with --variant"
            )
        with leader_first(fold.profile.compute.device):
            pipeline.embed_targets(fold)
        if variant is None and not several():
            pipeline.make(fold, "encoders")
        else:
            for name in [variant] if variant else fold.variants():
                pipeline.train_encoder(fold, name)
    if leads():
        say(f"wrote {run / 'encoders'}")


@train_app.command("llm")
def train_llm(
    run: RunDir,
    variant: Annotated[
        str | None, typer.Option(help="One of language.variants; all of them by default.")
    ] = None,
) -> None:
    """Train projector and language model of a run."""
    from neurovl import pipeline
    from neurovl.run import open_run
    from neurovl.training.devices import leads

    for fold in open_run(run).all_folds():
        known = fold.profile.language.variants
        if variant is not None and variant not in known:
            raise ConfigError(
                f"there is no language model {variant!r} in this run's profile, expected one of {', '.join(known)}: "
                "choose one of them with --variant"
            )
        for name in [variant] if variant else known:
            pipeline.train_language(fold, name)
    if leads():
        say(f"wrote {run / 'llm'}")


@foundation_app.command("train")
def foundation_train(
    out: Out,
    members: Annotated[
        str, typer.Option(help="Some of vae,clip,metric,llm,unclip.")
    ] = "vae,clip,metric,llm,unclip",
    pictures: Annotated[int | None, typer.Option(help="Number of scenes to train on.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the scenes and of the training.")] = 0,
    device: Device = None,
) -> None:
    """Train the tiny family from scratch; an interrupted training continues."""
    import os
    from dataclasses import replace

    from neurovl.family.build import Recipe, train_family

    recipe = Recipe(seed=seed)
    scores = train_family(
        out,
        recipe if pictures is None else replace(recipe, pictures=pictures),
        tuple(members.split(",")),
        device or "auto",
        n_jobs=os.cpu_count() or 1,
    )
    for member, values in scores.items():
        say(f"{member}: " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))
    say(f"wrote {out}")


@foundation_app.command("rehearse")
def foundation_rehearse(
    out: Out = Path("runs/rehearsal-models"),
    seed: Annotated[int, typer.Option(help="Seed of the weights.")] = 0,
) -> None:
    """Write small models with random weights for the profile rehearsal, in the formats of the paper's."""
    from neurovl.family.rehearsal_models import make_rehearsal_models

    say(f"wrote {make_rehearsal_models(out, seed)}")


@foundation_app.command("evaluate")
def foundation_evaluate(
    models: Annotated[
        str, typer.Option(help="tiny, or a folder that `foundation train` wrote.")
    ] = "tiny",
    seed: Annotated[int, typer.Option(help="Seed of the scenes.")] = 0,
    n: Annotated[int, typer.Option(help="Number of scenes.")] = 100,
    members: Annotated[
        str, typer.Option(help="Some of vae,clip,metric,llm,unclip.")
    ] = "vae,clip,metric,llm,unclip",
    out: Annotated[Path | None, typer.Option(help="CSV file to write.")] = None,
    cards: Annotated[
        bool, typer.Option(help="Write the cards of DIR anew instead, on their own scenes.")
    ] = False,
    device: Device = None,
) -> None:
    """Find the model cards' scores again on fresh scenes."""
    from neurovl.family.build import MEMBERS, evaluate_family, rescore

    chosen = tuple(members.split(","))
    if strangers := sorted(set(chosen) - set(MEMBERS)):
        raise ConfigError(
            f"--members names {', '.join(strangers)}, expected some of {', '.join(MEMBERS)}: choose among them"
        )
    if cards:
        if not (Path(models) / "clip" / "provenance.json").is_file():
            raise ConfigError(
                f"--models is {models}, expected a folder that `neurovl foundation train` wrote: --cards needs one"
            )
        rescore(models, chosen, device or "auto")
        say(f"wrote the cards in {models}")
        return
    with output(out, (".csv",)) if out else contextlib.nullcontext() as part:
        table = evaluate_family(models, seed, n, chosen, device or "auto")
        if part:
            table.to_csv(part, index=False)
    shown = table.assign(met=table.met.map({True: "yes", False: "no"}).fillna(""))
    say(shown.round(3).to_string(index=False, na_rep=""))
    if out:
        say(f"wrote {out}")


def _read(run: Path, subject: str, image_id: str, single: bool) -> "tuple[Run, BrainEmbedding]":
    """A run and what its main encoder reads of a subject who saw a picture."""
    from neurovl.run import open_run

    opened = open_run(run)
    return opened, opened.encode(subject, image_id, repeat=0 if single else None)


@app.command()
def caption(run: RunDir, subject: Subject, image_id: ImageId, single_trial: Single = False) -> None:
    """Say in a sentence what the subject saw."""
    from neurovl.language.dialogues import PROMPTS

    opened, z = _read(run, subject, image_id, single_trial)
    say(opened.llm().chat(z).ask(PROMPTS["brief"][0]))


@app.command()
def reconstruct(
    run: RunDir,
    subject: Subject,
    image_id: ImageId,
    out: Annotated[Path, typer.Option(help="Picture to write.")] = Path("reconstruction.png"),
    beta: Annotated[
        float | None, typer.Option(help="Noise strength, 0 to 1; by default the profile's.")
    ] = None,
    seed: Seed = None,
    single_trial: Single = False,
) -> None:
    """Draw what the subject saw."""
    with output(out, (".png", ".jpg", ".jpeg")) as part:
        opened, z = _read(run, subject, image_id, single_trial)
        prompt = opened.prompt(z)
        strength = opened.profile.reconstruction.beta if beta is None else beta
        draw = opened.reconstructor()
        chosen = opened.profile.seed if seed is None else seed
        draw(z, prompt=prompt, beta=strength, seed=chosen).save(part)
    say(f"wrote {out} (prompt: {prompt})")


@app.command()
def locate(
    run: RunDir,
    subject: Subject,
    concept: Annotated[
        str,
        typer.Option(
            help="A word, e.g. dog; with --image-id also what it is in that picture, e.g. 'the animal on the left'."
        ),
    ],
    image_id: Annotated[
        str | None,
        typer.Option(
            "--image-id", help="One picture; by default all test pictures with the concept."
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            help="NIfTI file to write, or a folder, where it gets a BIDS name; a JSON file comes beside it."
        ),
    ] = Path("."),
    method: Annotated[
        str,
        typer.Option(
            help="gradcam: what the encoder reads (the paper's); tuning: which voxels answer to the concept; or another of the book's."
        ),
    ] = "gradcam",
) -> None:
    """Show where a concept is in a subject's brain."""
    import nibabel

    from neurovl.hub.statmaps import HEAT, about_map, sources_of, statmap_name, write_sidecar
    from neurovl.run import open_run

    opened = open_run(run)
    if image_id is not None:
        request, concept = concept, opened.word_for(concept, opened.encode(subject, image_id))
        if concept != request:
            say(f"understood as: {concept}")
    if out.is_dir():
        name = opened.store.subject_name(subject)
        out = out / statmap_name(name, concept, method, opened.recordings.space)
    with output(out, (".nii.gz", ".nii")) as part:
        heat = opened.locate(concept, subject, image_id, method)
        table = heat.roi_table(opened.recordings.rois(heat.subject)).head(8).round(3)
        nibabel.save(heat.to_nifti(), part)
        sources = sources_of(opened, method)
        about = about_map(opened.recordings, heat.subject, concept, method, sources, HEAT)
        if image_id is not None:
            about["Picture"] = image_id
        write_sidecar(out, about)
    say(table.to_string(index=False))
    say(f"wrote {out}")
