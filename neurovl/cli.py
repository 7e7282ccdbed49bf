"""The command line: each verb a few lines around the package; every error one sentence, without a traceback."""

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

from .errors import NeurovlError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Brain recordings to language and pictures.",
)
train_app = typer.Typer(no_args_is_help=True, help="Train one part of a run.")
download_app = typer.Typer(no_args_is_help=True, help="Fetch open data.")
foundation_app = typer.Typer(no_args_is_help=True, help="The tiny family of foundation models.")
app.add_typer(train_app, name="train")
app.add_typer(download_app, name="download")
app.add_typer(foundation_app, name="foundation")

Data = Annotated[
    Path | None,
    typer.Option(
        help="NSD folder, Haxby folder or a folder with trials.tsv; simulated NSD if not given."
    ),
]
Out = Annotated[Path, typer.Option(help="Run folder.")]
RunDir = Annotated[Path, typer.Option("--run", help="Run folder.")]
ProfileName = Annotated[
    str | None,
    typer.Option(
        "--profile", help="smoke, demo, haxby, paper or a YAML file; by default what fits the data."
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed; by default the profile's.")]
Device = Annotated[
    str | None, typer.Option(help="auto, cpu, cuda or mps; by default the profile's.")
]
Subject = Annotated[str, typer.Option(help="Subject, e.g. 1.")]
ImageId = Annotated[str, typer.Option("--image-id", help="Image id, as in RUN/tokens/trials.csv.")]
Single = Annotated[
    bool,
    typer.Option("--single-trial", help="The first repeat alone instead of the mean of repeats."),
]


def main() -> None:
    """Entry point: runs the verb; exits with 1 and one sentence where something is not as it should be."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "root", "papermill", "nilearn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app()
    except NeurovlError as error:
        sys.exit(f"neurovl: {error}")
    except KeyboardInterrupt:
        sys.exit("neurovl: interrupted; the same command continues where it stopped")


def _say(text: str) -> None:
    typer.echo(text)


@app.command()
def doctor(profile: ProfileName = None, data: Data = None) -> None:
    """Say what is here and what is missing for a profile; exit 1 if it cannot run."""
    from .doctor import examine

    findings = examine(profile or "demo", data)
    for finding in findings:
        _say(finding.line())
    missing = sum(not f.ok for f in findings)
    _say(
        f"{len(findings) - missing} of {len(findings)} checks passed for profile {profile or 'demo'}"
    )
    if missing:
        raise typer.Exit(1)


@app.command()
def simulate(
    out: Out,
    subjects: Annotated[str, typer.Option(help="Subjects, comma separated, 1 to 8.")] = "1,2,5,7",
    sessions: Annotated[int, typer.Option(help="Sessions of 750 trials.")] = 2,
    scale: Annotated[float, typer.Option(help="NSD's grid is divided by this.")] = 3.0,
    seed: Seed = None,
) -> None:
    """Write simulated brain data in NSD's own layout."""
    from .datasets.simulation import simulate as write

    write(
        out,
        subjects=_numbers(subjects),
        sessions=sessions,
        scale=scale,
        seed=seed or 0,
    )
    _say(f"wrote simulated NSD to {out}")


@download_app.command("haxby")
def download_haxby(
    to: Annotated[Path, typer.Option(help="Folder.")],
    subjects: Annotated[str, typer.Option(help="Comma separated, 1 to 6.")] = "1",
) -> None:
    """Fetch Haxby et al. 2001 through nilearn."""
    from .datasets.download import download_haxby as fetch

    _say(f"wrote Haxby 2001 to {fetch(to, [int(s) for s in subjects.split(',')])}")


@download_app.command("nsd")
def download_nsd(
    to: Annotated[Path, typer.Option(help="Folder.")],
    subjects: Annotated[str, typer.Option(help="Comma separated, 1 to 8.")] = "1,2,5,7",
    sessions: Annotated[int | None, typer.Option(help="The first so many; by default all.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compare sizes and fetch broken files again.")
    ] = False,
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="You have accepted NSD's terms.")
    ] = False,
) -> None:
    """Fetch NSD from its public bucket, for those who have accepted its terms."""
    from .datasets.download import download_nsd as fetch

    if not accept_terms:
        raise NeurovlError(
            "NSD may be used only by those who accepted its terms and filled in the access form on "
            "naturalscenesdataset.org; if you have, call again with --accept-terms"
        )
    _say(f"wrote NSD to {fetch(to, _numbers(subjects), sessions, verify=verify)}")


def _numbers(text: str) -> tuple[int, ...]:
    """'1,2,5' as numbers."""
    parts = [p.strip() for p in text.split(",")]
    if not all(p.isdigit() for p in parts):
        raise NeurovlError(
            f"subjects are {text!r}, expected numbers separated by commas, such as 1,2,5,7"
        )
    return tuple(int(p) for p in parts)


@app.command()
def resample(
    mask: Annotated[Path, typer.Option(help="NIfTI mask or atlas.")],
    like: Annotated[Path, typer.Option(help="NIfTI file with the grid wanted, 3-D or 4-D.")],
    out: Annotated[Path, typer.Option(help="NIfTI file to write.")],
) -> None:
    """Bring a mask to the grid of the data, by nearest voxel in millimetres."""
    import nibabel
    from nilearn.image import resample_img

    from .datasets.base import load_nifti

    source, grid = load_nifti(mask), load_nifti(like)
    moved = resample_img(source, grid.affine, grid.shape[:3], interpolation="nearest")
    nibabel.save(moved, out)
    _say(f"wrote {out}")


@app.command()
def preprocess(
    out: Out,
    data: Data = None,
    subjects: Annotated[
        str | None, typer.Option(help="Subjects, comma separated; by default the profile's.")
    ] = None,
    patch: Annotated[
        int | None,
        typer.Option(help="Main patch size in voxels; by default the profile's sizes."),
    ] = None,
    profile: ProfileName = None,
    seed: Seed = None,
) -> None:
    """Turn recordings into the token store of a run."""
    from dataclasses import replace

    from .config import load_profile
    from .pipeline import profile_for, start, write_tokens

    settings = load_profile(profile_for(data, profile), seed=seed)
    changes = {} if subjects is None else {"subjects": _numbers(subjects)}
    changes |= {} if patch is None else {"patches": (patch,)}
    settings = replace(settings, preprocessing=replace(settings.preprocessing, **changes))
    runs = start(data, out, settings)
    for run in runs:
        write_tokens(run)
    _say(f"wrote {', '.join(str(r.folder / 'tokens') for r in runs)}")


@train_app.command("encoder")
def train_encoder(
    run: RunDir,
    system: Annotated[
        str | None, typer.Option(help="One system, e.g. main; by default all.")
    ] = None,
) -> None:
    """Train the encoders of a run."""
    from . import pipeline

    for fold in _folds(run):
        pipeline.write_tokens(fold)
        pipeline.embed_targets(fold)
        for name in [system] if system else fold.systems():
            pipeline.train_encoder(fold, name)
    _say(f"wrote {run / 'encoders'}")


@train_app.command("llm")
def train_llm(run: RunDir) -> None:
    """Train projector and language model of a run."""
    from . import pipeline

    for fold in _folds(run):
        pipeline.train_language(fold)
    _say(f"wrote {run / 'llm'}")


def _folds(run):
    from .config import read_run
    from .pipeline import open_run

    return [open_run(run, fold) for fold in range(read_run(run)["folds"])]


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

    from .foundation.family import Recipe, train_family

    changes = {k: v for k, v in {"pictures": pictures, "seed": seed}.items() if v is not None}
    scores = train_family(
        out,
        replace(Recipe(), **changes),
        tuple(members.split(",")),
        device or "auto",
        n_jobs=os.cpu_count() or 1,
    )
    for member, values in scores.items():
        _say(f"{member}: " + ", ".join(f"{k} {v:.3f}" for k, v in values.items()))
    _say(f"wrote {out}")


def _embedding(run: Path, subject: str, image_id: str, single: bool):
    from .encoder import BrainEncoder
    from .tokens import TokenStore

    store = TokenStore(run / "tokens")
    encoder = BrainEncoder.from_pretrained(run / "encoders" / "main").eval()
    return encoder(store.tokens(subject, image_id, repeat=0 if single else None))


@app.command()
def caption(run: RunDir, subject: Subject, image_id: ImageId, single_trial: Single = False) -> None:
    """Say in a sentence what the subject saw."""
    from .instructions import PROMPTS
    from .language import BrainLLM

    z = _embedding(run, subject, image_id, single_trial)
    _say(BrainLLM.from_pretrained(run / "llm" / "model").chat(z).ask(PROMPTS["brief"][0]))


@app.command()
def chat(run: RunDir, subject: Subject, image_id: ImageId, single_trial: Single = False) -> None:
    """Talk about what the subject saw; an empty line ends."""
    from .language import BrainLLM

    talk = BrainLLM.from_pretrained(run / "llm" / "model").chat(
        _embedding(run, subject, image_id, single_trial)
    )
    while question := typer.prompt("you", default="", show_default=False).strip():
        _say(talk.ask(question))


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
    from .config import run_profile
    from .evaluation.pictures import prompts_from
    from .language import BrainLLM
    from .reconstruction import Reconstructor

    z = _embedding(run, subject, image_id, single_trial)
    prompt = prompts_from(BrainLLM.from_pretrained(run / "llm" / "model"), z, 64)[0]
    strength = run_profile(run).reconstruction.beta if beta is None else beta
    Reconstructor.from_pretrained(run)(z, prompt=prompt, beta=strength, seed=seed or 0).save(out)
    _say(f"wrote {out} (prompt: {prompt})")


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

    from .evaluation.maps import locate_in_run
    from .pipeline import open_run

    opened = open_run(run)
    heat = locate_in_run(opened, concept, subject, image_id)
    nibabel.save(heat.to_nifti(), out)
    _say(
        heat.roi_table(opened.recordings.rois(heat.subject)).head(8).round(3).to_string(index=False)
    )
    _say(f"wrote {out}")


@app.command()
def evaluate(run: RunDir) -> None:
    """Score a trained run: results.csv and claims.csv."""
    from .pipeline import evaluate as score

    score(_folds(run), run)
    _say(f"wrote {run / 'results' / 'results.csv'}")


@app.command()
def reproduce(
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/PROFILE.")] = None,
    profile: ProfileName = None,
    seed: Seed = None,
    device: Device = None,
) -> None:
    """Everything from data to the rendered book; a second call does only what has changed."""
    from .book import render
    from .notebooks import NOTEBOOKS
    from .pipeline import profile_for
    from .pipeline import reproduce as run_all

    name = profile_for(data, profile)
    out = out or Path("runs") / Path(name).stem
    run_all(data, out, name, seed, device)
    index = render(out, notebooks=NOTEBOOKS if name != "haxby" else ["09_real_brains"])
    _say(f"wrote {index}")


@app.command()
def book(
    run: RunDir,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Refuse what the data set's terms forbid to publish, and faulty pages."
        ),
    ] = False,
) -> None:
    """Render the book of a run again."""
    from .book import render
    from .book_checks import check_book, check_terms

    index = render(run)
    if check:
        check_terms(run, index.parent)
        faults = check_book(index.parent)
        if faults:
            raise NeurovlError("the book has faults: " + "; ".join(faults[:5]))
    _say(f"wrote {index}")


@app.command()
def explore(
    run: RunDir = Path("runs/demo"),
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8866,
) -> None:
    """Open the interactive notebook as an app on 127.0.0.1."""
    import os
    import subprocess

    from .notebooks import find_root

    notebook = find_root() / "notebooks" / "08_explore.ipynb"
    command = [
        sys.executable,
        "-m",
        "voila",
        str(notebook),
        f"--port={port}",
        "--Voila.ip=127.0.0.1",
    ]
    _say(f"the app opens on http://127.0.0.1:{port}")
    raise typer.Exit(
        subprocess.call(command, env={**os.environ, "NEUROVL_RUN": str(run.resolve())})
    )
