"""Verbs that fetch open data."""

from pathlib import Path
from typing import Annotated

import typer

from neurovl.cli.options import download_app, numbers, say, words
from neurovl.errors import ConfigError, NeurovlError

To = Annotated[Path, typer.Option(help="Folder.")]


@download_app.command("haxby")
def download_haxby(
    to: To,
    subjects: Annotated[str, typer.Option(help="Comma separated, 1 to 6.")] = "1",
) -> None:
    """Fetch Haxby et al. 2001 through nilearn."""
    from neurovl.recordings.fetching import download_haxby as fetch

    say(f"wrote Haxby 2001 to {fetch(to, numbers(subjects))}")


@download_app.command("nsd")
def download_nsd(
    to: To,
    subjects: Annotated[str, typer.Option(help="Comma separated, 1 to 8.")] = "1,2,5,7",
    sessions: Annotated[
        str | None,
        typer.Option(
            help="40: the first 40 that a subject has; 1-3,7 or 7-7: just these. By default all."
        ),
    ] = None,
    betas: Annotated[
        str, typer.Option(help="betas_fithrf_GLMdenoise_RR (version 3) or betas_fithrf (2).")
    ] = "betas_fithrf_GLMdenoise_RR",
    form: Annotated[str, typer.Option("--format", help="Of the betas: nii.gz or hdf5.")] = "nii.gz",
    annotations: Annotated[
        bool, typer.Option(help="Also COCO's captions and boxes of the pictures.")
    ] = True,
    tests: Annotated[
        str, typer.Option(help="Also further sessions, comma separated: imagery, synthetic.")
    ] = "",
    accept_terms: Annotated[
        bool, typer.Option("--accept-terms", help="You have accepted NSD's terms.")
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Read what is there and fetch what is broken."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be fetched; write nothing.")
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, max=64, help="Connections at a time.")] = 8,
    endpoint: Annotated[str | None, typer.Option(envvar="NEUROVL_S3_ENDPOINT", hidden=True)] = None,
    coco: Annotated[str | None, typer.Option(envvar="NEUROVL_COCO_URL", hidden=True)] = None,
) -> None:
    """Fetch NSD from its public bucket, for those who have accepted its terms.

    A broken transfer goes on where it stopped: run the same command again.
    """
    from neurovl.download.servers import Settings
    from neurovl.recordings.fetching import TERMS, fetch_plan, plan_nsd
    from neurovl.recordings.nsd.coco import COCO

    say(TERMS)
    if not (accept_terms or dry_run):
        raise NeurovlError(
            "NSD may be used only by those who accepted its terms and filled in the access form on "
            "naturalscenesdataset.org; if you have, call again with --accept-terms"
        )
    try:
        plan = plan_nsd(
            to,
            numbers(subjects),
            session_numbers(sessions),
            betas=betas,
            form=form,
            verify=verify,
            annotations=annotations,
            tests=words(tests),
            endpoint=endpoint,
            coco=coco or COCO,
            settings=Settings(jobs=jobs),
        )
        say(str(plan))
        if dry_run:
            say("nothing was written (--dry-run)")
            return
        say(f"wrote NSD to {fetch_plan(plan)}")
    except KeyboardInterrupt as problem:
        raise NeurovlError(
            "stopped; what has come is kept: the same command goes on where it stopped"
        ) from problem


def session_numbers(text: str | None) -> int | list[int] | None:
    """``'40'`` as 40 (the first so many), ``'1-3,7'`` as ``[1, 2, 3, 7]``."""
    if text is None:
        return None
    if text.strip().isdigit():
        return int(text)
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdigit() or (dash and not last.isdigit()) or int(last or first) < int(first):
            raise ConfigError(
                f"sessions are {text!r}, expected a number such as 40 (the first so many) or "
                "numbers and ranges such as 1-3,7"
            )
        found += range(int(first), min(int(last or first), 100) + 1)
    return found
