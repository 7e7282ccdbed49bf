"""Verbs that train models and put them to use."""

import contextlib
from pathlib import Path
from typing import Annotated

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
    folds,
    foundation_app,
    output,
    say,
    train_app,
)
from neurovl.errors import ConfigError


@train_app.command("encoder")
def train_encoder(
    run: RunDir,
    system: Annotated[
        str | None, typer.Option(help="One system, e.g. main; by default all.")
    ] = None,
) -> None:
    """Train the encoders of a run."""
    from neurovl import pipeline
    from neurovl.training.devices import leader_first, leads

    for fold in folds(run):
        with leader_first(fold.profile.device):
            pipeline.write_tokens(fold)
        if system is not None and system not in fold.variants():
            raise ConfigError(
                f"there is no system {system!r} in this run's profile, expected one of "
                f"{', '.join(fold.variants())}: choose one of them with --variant"
            )
        with leader_first(fold.profile.device):
            pipeline.embed_targets(fold)
        for name in [system] if system else fold.variants():
            pipeline.train_encoder(fold, name)
    if leads():
        say(f"wrote {run / 'encoders'}")


@train_app.command("llm")
def train_llm(run: RunDir) -> None:
    """Train projector and language model of a run."""
    from neurovl import pipeline
    from neurovl.training.devices import leads

    for fold in folds(run):
        pipeline.train_language(fold)
    if leads():
        say(f"wrote {run / 'llm'}")


@foundation_app.command("train")
def foundation_train(
    out: Out,
    members: Annotated[
        str, typer.Option(help="Some of vae,clip,metric,llm,unclip.")
    ] = "vae,clip,metric,llm,unclip",
    pictures: Annotated[int | None, typer.Option(help="Number of scenes to train on.")] = None,
    seed: Seed = None,
    device: Device = None,
) -> None:
    """Train the tiny family from scratch; an interrupted training continues."""
    import os
    from dataclasses import replace

    from neurovl.family.build import Recipe, train_family

    changes = {k: v for k, v in {"pictures": pictures, "seed": seed}.items() if v is not None}
    scores = train_family(
        out,
        replace(Recipe(), **changes),
        tuple(members.split(",")),
        device or "auto",
        n_jobs=os.cpu_count() or 1,
    )
    for member, values in scores.items():
        say(f"{member}: " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))
    say(f"wrote {out}")


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


def _embedding(run: Path, subject: str, image_id: str, single: bool):
    from neurovl.encoder.vit3d import load_encoder
    from neurovl.tokens.store import TokenStore

    store = TokenStore(run / "tokens")
    encoder = load_encoder(run / "encoders" / "main")
    return encoder(store.tokens(subject, image_id, repeat=0 if single else None))


@app.command()
def caption(run: RunDir, subject: Subject, image_id: ImageId, single_trial: Single = False) -> None:
    """Say in a sentence what the subject saw."""
    from neurovl.language import BrainLLM
    from neurovl.language.dialogues import PROMPTS

    z = _embedding(run, subject, image_id, single_trial)
    say(BrainLLM.from_pretrained(run / "llm").chat(z).ask(PROMPTS["brief"][0]))


@app.command()
def chat(run: RunDir, subject: Subject, image_id: ImageId, single_trial: Single = False) -> None:
    """Talk about what the subject saw; an empty line ends."""
    from neurovl.language import BrainLLM

    talk = BrainLLM.from_pretrained(run / "llm").chat(
        _embedding(run, subject, image_id, single_trial)
    )
    while question := typer.prompt("you", default="", show_default=False).strip():
        say(talk.ask(question))


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
    from neurovl.evaluation.painting import prompts_from
    from neurovl.language import BrainLLM
    from neurovl.reconstruction.reconstructor import Reconstructor
    from neurovl.settings.profile_files import run_profile

    with output(out, (".png", ".jpg", ".jpeg")) as part:
        z = _embedding(run, subject, image_id, single_trial)
        prompt = prompts_from(BrainLLM.from_pretrained(run / "llm"), z, 64)[0]
        strength = run_profile(run).reconstruction.beta if beta is None else beta
        draw = Reconstructor.from_pretrained(run)
        draw(z, prompt=prompt, beta=strength, seed=seed or 0).save(part)
    say(f"wrote {out} (prompt: {prompt})")


@app.command()
def locate(
    run: RunDir,
    subject: Subject,
    concept: Annotated[str, typer.Option(help="A word or a sentence, e.g. dog.")],
    image_id: Annotated[
        str | None,
        typer.Option(
            "--image-id", help="One picture; by default all test pictures with the concept."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="NIfTI file to write.")] = Path("heatmap.nii.gz"),
) -> None:
    """Show where a concept is in a subject's brain."""
    import nibabel

    from neurovl.evaluation.locating import locate_in_run
    from neurovl.pipeline import open_run

    with output(out, (".nii.gz", ".nii")) as part:
        opened = open_run(run)
        heat = locate_in_run(opened, concept, subject, image_id)
        table = heat.roi_table(opened.recordings.rois(heat.subject)).head(8).round(3)
        nibabel.save(heat.to_nifti(), part)
    say(table.to_string(index=False))
    say(f"wrote {out}")
