"""Verbs that make, fetch and prepare data."""

from pathlib import Path
from typing import Annotated

import typer

from ..errors import NeurovlError
from .options import Data, Out, ProfileName, Seed, app, download_app, numbers, say


@app.command()
def simulate(
    out: Out,
    subjects: Annotated[str, typer.Option(help="Subjects, comma separated, 1 to 8.")] = "1,2,5,7",
    sessions: Annotated[int, typer.Option(help="Sessions of 750 trials.")] = 2,
    scale: Annotated[float, typer.Option(help="NSD's grid is divided by this.")] = 3.0,
    seed: Seed = None,
) -> None:
    """Write simulated brain data in NSD's own layout."""
    from ..datasets.simulation import simulate as write

    write(
        out,
        subjects=numbers(subjects),
        sessions=sessions,
        scale=scale,
        seed=seed or 0,
    )
    say(f"wrote simulated NSD to {out}")


@download_app.command("haxby")
def download_haxby(
    to: Annotated[Path, typer.Option(help="Folder.")],
    subjects: Annotated[str, typer.Option(help="Comma separated, 1 to 6.")] = "1",
) -> None:
    """Fetch Haxby et al. 2001 through nilearn."""
    from ..datasets.download import download_haxby as fetch

    say(f"wrote Haxby 2001 to {fetch(to, [int(s) for s in subjects.split(',')])}")


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
    from ..datasets.download import download_nsd as fetch

    if not accept_terms:
        raise NeurovlError(
            "NSD may be used only by those who accepted its terms and filled in the access form on "
            "naturalscenesdataset.org; if you have, call again with --accept-terms"
        )
    say(f"wrote NSD to {fetch(to, numbers(subjects), sessions, verify=verify)}")


@app.command()
def resample(
    mask: Annotated[Path, typer.Option(help="NIfTI mask or atlas.")],
    like: Annotated[Path, typer.Option(help="NIfTI file with the grid wanted, 3-D or 4-D.")],
    out: Annotated[Path, typer.Option(help="NIfTI file to write.")],
) -> None:
    """Bring a mask to the grid of the data, by nearest voxel in millimetres."""
    import nibabel
    from nilearn.image import resample_img

    from ..datasets.base import load_nifti

    source, grid = load_nifti(mask), load_nifti(like)
    moved = resample_img(source, grid.affine, grid.shape[:3], interpolation="nearest")
    nibabel.save(moved, out)
    say(f"wrote {out}")


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

    from ..config import load_profile
    from ..pipeline import profile_for, start, write_tokens

    settings = load_profile(profile_for(data, profile), seed=seed)
    changes = {} if subjects is None else {"subjects": numbers(subjects)}
    changes |= {} if patch is None else {"patches": (patch,)}
    settings = replace(settings, preprocessing=replace(settings.preprocessing, **changes))
    runs = start(data, out, settings)
    for run in runs:
        write_tokens(run)
    say(f"wrote {', '.join(str(r.folder / 'tokens') for r in runs)}")
