"""Verbs that hand parts of a run to others."""

from pathlib import Path
from typing import Annotated

import typer

from neurovl.cli.options import RunDir, app, one_of, say
from neurovl.results import PROTOCOLS

export_app = typer.Typer(no_args_is_help=True, help="Hand a part of a run to others.")
app.add_typer(export_app, name="export")


@export_app.command("encoder")
def export_encoder(
    run: RunDir,
    out: Annotated[Path, typer.Option(help="New folder, ready for the hub.")],
    variant: Annotated[str, typer.Option(help="Which encoder of the run.")] = "main",
    fold: Annotated[
        int, typer.Option(help="Train/test partition, where the data set has several.")
    ] = 0,
    push: Annotated[
        str | None, typer.Option(help="Send the folder to this hub repository: owner/name.")
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Push to a private repository.")
    ] = False,
    accept_terms: Annotated[
        bool,
        typer.Option(
            "--accept-terms",
            help="The terms of the recordings allow to publish what is made from them.",
        ),
    ] = False,
) -> None:
    """Weights, patch plan and model card of a trained encoder, which `neurovl.load_published` opens."""
    from neurovl.hub import export_encoder as export
    from neurovl.hub import push_encoder

    export(run, out, variant, fold, push)
    say(f"wrote {out}: read README.md, the model card, before you pass it on")
    if push:
        address = push_encoder(out, push, private=private, accept_terms=accept_terms)
        say(f"sent {out} to {address}")


@export_app.command("maps")
def export_maps(
    run: RunDir,
    out: Annotated[Path, typer.Option(help="New folder: a BIDS derivative data set.")],
    fold: Annotated[
        int, typer.Option(help="Train/test partition, where the data set has several.")
    ] = 0,
) -> None:
    """Concept maps and importance maps as NIfTI, each with a JSON file that says what it is."""
    from neurovl.hub import export_maps as export
    from neurovl.run import open_run

    files = export(open_run(run, fold), out)
    say(f"wrote {len(files)} maps to {out}")


@export_app.command("brainhub")
def export_brainhub(
    run: RunDir,
    system: Annotated[str, typer.Option(help="Whose pictures and captions.")],
    out: Annotated[Path, typer.Option(help="New folder; the pictures that were seen lie in it.")],
    protocol: Annotated[str, typer.Option(help="average or single.")] = "average",
) -> None:
    """Pictures and captions of a system in BrainHub's layout, with the true ones, as its programs read them."""
    one_of("--protocol", protocol, PROTOCOLS)
    from neurovl.leaderboard.brainhub import export_brainhub as export
    from neurovl.leaderboard.gallery_tables import gallery_with
    from neurovl.run import open_run

    opened = open_run(run)
    made = export(opened.recordings, gallery_with(opened, system), system, out, protocol)
    say(f"wrote {made}")
