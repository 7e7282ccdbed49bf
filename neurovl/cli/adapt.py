"""The verb that adds a subject to a trained run."""

from pathlib import Path
from typing import Annotated

import typer

from neurovl.cli.options import RunDir, Seed, Subject, app, say
from neurovl.errors import ConfigError


@app.command()
def adapt(
    run: RunDir,
    subject: Subject,
    data: Annotated[
        Path | None, typer.Option(help="Folder with the subject's data; by default the run's.")
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="At most so many of its training trials.")
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="Share of its training pictures, 0 to 1; by default all.")
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve", help="Score the profile's shares: 0, 1, 5, 25 and 100 %.")
    ] = False,
    seed: Seed = None,
) -> None:
    """Decode a subject that the run never saw, from few trials; nothing else of the run changes."""
    from neurovl.adaptation.new_subject import open_subject
    from neurovl.evaluation import new_subject_curve as adapted
    from neurovl.run import open_run

    if sum((trials is not None, share is not None, curve)) > 1:
        raise ConfigError(
            "--trials, --share and --curve were given together, expected one of them at most: leave the others out"
        )
    opened = open_run(run)
    name, recordings = open_subject(opened, subject, data)
    if curve:
        adapted.curve(opened, name, recordings, seed=seed)
        say(f"wrote {run / 'adaptation' / name / 'curve.csv'}")
        return
    folder, table = adapted.adapt(opened, name, recordings, share=share, trials=trials, seed=seed)
    say(f"wrote {run / 'encoders' / folder}: {adapted.sentence(table)}")
