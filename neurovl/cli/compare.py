"""Verbs that set systems side by side."""

from pathlib import Path
from typing import Annotated

import typer

from neurovl.cli.options import RunDir, app, one_of, say
from neurovl.results import PROTOCOLS

Systems = Annotated[
    str, typer.Option(help="Names between commas, linear, or all; ours are always among them.")
]


@app.command()
def compare(
    run: RunDir,
    systems: Systems = "all",
    controls: Annotated[
        bool,
        typer.Option(
            "--controls",
            help="Also what trains systems again: without two categories, from some regions alone, and for the new subject of "
            "the profile.",
        ),
    ] = False,
) -> None:
    """Set published systems beside ours under one protocol; leaderboard.csv. What is up to date is left alone."""
    from neurovl.leaderboard.board import BOARD
    from neurovl.pipeline import compare as compare_systems
    from neurovl.run import open_run

    opened = open_run(run)
    names = compare_systems(opened, systems, controls)
    say(f"compared {', '.join(names)}")
    say(f"wrote {opened.folder / BOARD / 'leaderboard.csv'}")


@app.command()
def search(run: RunDir, systems: Systems = "all") -> None:
    """Choose the hyperparameters of systems by one search with one budget, on pictures held out of training."""
    from neurovl.leaderboard.searching import SEARCH
    from neurovl.pipeline import search as search_systems
    from neurovl.run import open_run

    opened = open_run(run)
    search_systems(opened, systems)
    say(f"wrote {opened.folder / SEARCH / 'search.csv'}; neurovl compare uses what it chose")


@app.command()
def score(
    run: RunDir,
    name: Annotated[str, typer.Option(help="The system's name in tables.")],
    pictures: Annotated[
        Path | None,
        typer.Option(help="Folder with subj01/IMAGE_ID.png, or sub01/0.png with --order."),
    ] = None,
    captions: Annotated[
        Path | None,
        typer.Option(
            help="A .csv with subject, image_id, caption; or BrainHub's JSON, or their folder."
        ),
    ] = None,
    protocol: Annotated[
        str, typer.Option(help="What they were made from: average or single trials.")
    ] = "average",
    order: Annotated[
        Path | None,
        typer.Option(help="Text file: the image id of each number, one a line, from number 0."),
    ] = None,
) -> None:
    """Score anybody's pictures and captions of a run's test pictures; the leaderboard has them from then on."""
    one_of("--protocol", protocol, PROTOCOLS)
    from neurovl.leaderboard.outside import score_outside
    from neurovl.run import open_run

    rows = score_outside(open_run(run), name, pictures, captions, protocol, order)
    for row in rows:
        if row.subject == "all" and row.system == name and row.value is not None:
            say(f"{row.task} {row.metric} {row.value:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]")
    say(f"wrote {run / 'leaderboard' / 'outside' / name}")
