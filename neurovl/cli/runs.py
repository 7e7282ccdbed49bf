"""Verbs for whole runs: look, score, reproduce, render, explore."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from neurovl.cli.options import Data, Device, ProfileName, RunDir, Seed, app, say
from neurovl.errors import ConfigError, MissingError, NeurovlError
from neurovl.publishing.app import PLACES

if TYPE_CHECKING:
    from neurovl.run import Run


@app.command()
def doctor(
    profile: ProfileName = None,
    data: Data = None,
    shapes: Annotated[
        bool,
        typer.Option(
            "--shapes",
            help="Also build the system without weights and push one trial through every stage.",
        ),
    ] = False,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Instead: hours, memory and disk of each stage, on this machine and on cards of 80 and 24 GB.",
        ),
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the run would lie, for its disk.")] = Path(),
) -> None:
    """Say what is here and what is missing for a profile; exit 1 if it cannot run.

    With --shapes alone the widths of the models decide: it needs no weights and no data, as --plan does.
    """
    from neurovl.doctor import examine
    from neurovl.pipeline import profile_for
    from neurovl.settings.profile_files import load_profile

    settings = load_profile(profile_for(data, profile))
    if plan:
        from neurovl.doctor.heads import open_for
        from neurovl.doctor.plan import plan as plan_of

        for line in plan_of(settings, open_for(settings, data)):
            say(line)
        return
    if shapes:
        from neurovl.doctor.heads import open_for
        from neurovl.doctor.shapes import pass_shapes

        trial = pass_shapes(settings, open_for(settings, data))
        for line in trial.table():
            say(line)
        findings = trial.faults or [trial.verdict()]
    else:
        findings = examine(settings, data, out)
    for finding in findings:
        say(finding.line())
    stops = sum(f.stops for f in findings)
    notes = sum(not f.ok for f in findings) - stops
    say(
        f"profile {settings.name}: {len(findings)} checks, {stops} missing"
        + (f", {notes} to note" if notes else "")
    )
    if stops:
        raise typer.Exit(1)


@app.command()
def evaluate(
    run: RunDir,
    on: Annotated[
        str | None,
        typer.Option(help="A further test set of NSD alone: imagery or synthetic."),
    ] = None,
) -> None:
    """Score a trained run: results.csv and claims.csv."""
    from neurovl.evaluation.further_sets import SETS, open_sets
    from neurovl.pipeline import make as make_stage
    from neurovl.run import open_run

    stage, opened = "results", open_run(run)
    if on is not None:
        if on not in SETS:
            raise ConfigError(f"--on is {on!r}, expected {' or '.join(SETS)}: choose one")
        open_sets(opened, on)  # says what is missing
        stage = on
    make_stage(opened, stage)
    say(f"wrote {opened.folder / stage / 'results.csv'}")


@app.command()
def make(
    stage: Annotated[
        str,
        typer.Argument(
            help="tokens, targets, encoders, encoders/main, llm, llms, captions, reconstructions, localization, importance, "
            "adaptation or results."
        ),
    ],
    run: RunDir,
    fold: Annotated[int | None, typer.Option(hidden=True)] = None,
) -> None:
    """Make a stage of a run and those that it reads; what is up to date is left alone."""
    from neurovl.pipeline import make as make_stage
    from neurovl.run import open_run
    from neurovl.training.devices import leads

    opened = open_run(run)
    make_stage(opened, stage, fold=fold)
    if leads():
        say(f"made {stage} in {opened.root}")


@app.command()
def reproduce(
    data: Data = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; by default runs/PROFILE.")] = None,
    profile: ProfileName = None,
    seed: Seed = None,
    device: Device = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although something is missing or too small.")
    ] = False,
) -> None:
    """Everything from data to the rendered book; a second call does only what has changed.

    First what `neurovl doctor` looks at: models, licences, memory and disk, so that nothing is found missing after hours.
    """
    from neurovl.pipeline import make as make_stage
    from neurovl.pipeline import profile_for, reproduced, start_run, up_to_date
    from neurovl.publishing.book import render

    name = profile_for(data, profile)
    out = out or Path("runs") / Path(name).stem
    run = start_run(out, name, data, seed, device)
    last = reproduced(run)
    if not force and not all(up_to_date(run, one) for one in last):
        _require_nothing_missing(run)
    make_stage(run, *last)
    say(f"wrote {render(out, n_jobs=run.profile.compute.at_a_time())}")


def _require_nothing_missing(run: "Run") -> None:
    """Print what the doctor finds missing for a run, and stop there."""
    from neurovl.doctor import examine

    missing = [one for one in examine(run.profile, run.data_folder, run.root) if one.stops]
    for one in missing:
        say(one.line())
    if missing:
        things = "1 thing is" if len(missing) == 1 else f"{len(missing)} things are"
        raise MissingError(
            f"{things} missing for profile {run.profile.name}, see above; mend them and start again, or go on all the same "
            "with --force"
        )


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
    """Render the book of a run again, RUN/book/html, where it is not up to date."""
    from neurovl.publishing.book import render
    from neurovl.publishing.book_checks import check_book, check_terms

    index = render(run)
    if check:
        check_terms(run)
        faults = check_book(index.parent)
        if faults:
            raise NeurovlError("the book has faults: " + "; ".join(faults[:5]))
    say(f"wrote {index}")


@app.command()
def explore(
    run: RunDir = Path("runs/demo"),
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1.")] = 8866,
    places: Annotated[
        int,
        typer.Option(
            min=1,
            help="Pages at the same time; each has a kernel of its own, which takes 0.7 GB with the tiny models.",
        ),
    ] = PLACES,
) -> None:
    """Open the interactive notebook as an app on 127.0.0.1, for who has the printed address."""
    import importlib.util
    import webbrowser

    from neurovl.pipeline import ensure
    from neurovl.publishing.app import serving
    from neurovl.publishing.notebooks import find_root
    from neurovl.run import open_run

    if importlib.util.find_spec("voila") is None:
        raise MissingError(
            "voila is not installed, expected it for the app: pip install 'neurovl[explore]'"
        )
    ensure(open_run(run), "llm")  # here, where its progress is seen; the app shows none
    notebook = find_root() / "notebooks" / "08_explore.ipynb"
    with serving(notebook, run, port, places) as (server, address):
        say(f"the app opens on {address}")
        webbrowser.open(address)
        raise typer.Exit(server.wait())
