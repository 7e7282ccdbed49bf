"""Verbs that make and prepare data."""

from typing import Annotated

import typer

from neurovl.cli.options import Data, Out, ProfileName, Seed, app, numbers, say


@app.command()
def simulate(
    out: Out,
    subjects: Annotated[
        str | None, typer.Option(help="Comma separated, 1 to 8; by default the profile's.")
    ] = None,
    sessions: Annotated[
        int | None, typer.Option(help="Sessions of 750 trials; by default the profile's.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="NSD's grid is divided by this; by default the profile's.")
    ] = None,
    surfaces: Annotated[
        bool,
        typer.Option(
            "--surfaces", help="Betas on fsaverage besides: 0.5 GB a hemisphere and session."
        ),
    ] = False,
    tests: Annotated[
        str | None,
        typer.Option(
            help="Further sessions, comma separated: imagery, synthetic; by default the profile's."
        ),
    ] = None,
    profile: ProfileName = None,
    seed: Seed = None,
) -> None:
    """Write simulated brain data in NSD's own layout, as a profile (demo by default) simulates them."""
    from dataclasses import asdict

    from neurovl.download.engine import readable
    from neurovl.pipeline import profile_for, world_of
    from neurovl.settings.profile_files import load_profile
    from neurovl.smallworld.subjects import simulate as write
    from neurovl.smallworld.subjects.surface_betas import surface_bytes

    settings = load_profile(profile_for(None, profile), seed=seed)
    wanted = {
        "subjects": None if subjects is None else numbers(subjects),
        "sessions": sessions,
        "scale": scale,
        "tests": None
        if tests is None
        else [one.strip() for one in tests.split(",") if one.strip()],
    }
    wanted = {name: value for name, value in wanted.items() if value is not None}
    world = asdict(world_of(settings)) | wanted
    if surfaces:
        size = readable(surface_bytes(len(world["subjects"]), world["sessions"]))
        say(f"the betas on fsaverage take {size}, besides those in the volume")
    write(out, **world, seed=settings.seed, surfaces=surfaces)
    say(f"wrote simulated NSD to {out}")


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
    jobs: Annotated[
        int | None,
        typer.Option(
            min=1, help="Sessions at the same time, up to 1.5 GB each; by default one a core."
        ),
    ] = None,
    profile: ProfileName = None,
    seed: Seed = None,
) -> None:
    """Turn recordings into the token store of a run."""
    from dataclasses import replace

    from neurovl.pipeline import profile_for, start, write_tokens
    from neurovl.settings.profile_files import load_profile

    settings = load_profile(profile_for(data, profile), seed=seed)
    changes = {} if subjects is None else {"subjects": numbers(subjects)}
    changes |= {} if patch is None else {"patches": (patch,)}
    settings = replace(settings, preprocessing=replace(settings.preprocessing, **changes))
    if jobs is not None:
        settings = replace(settings, compute=replace(settings.compute, processes=jobs))
    folds = start(data, out, settings).all_folds()
    for fold in folds:
        write_tokens(fold)
    say(f"wrote {', '.join(str(fold.folder / 'tokens') for fold in folds)}")
