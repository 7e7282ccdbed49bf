"""Verbs for arrays that people have already, and for atlases: both become parts of one's own table."""

from pathlib import Path
from typing import Annotated

import typer

from neurovl.cli.convert import Source, Table, convert_app, pairs
from neurovl.cli.options import app, say
from neurovl.errors import ConfigError


@convert_app.command("arrays")
def convert_arrays(
    data: Source,
    out: Table,
    mask: Annotated[
        str, typer.Option(help="NIfTI masks below DATA, such as 'masks/{subject}.nii.gz'.")
    ],
    betas: Annotated[
        str | None,
        typer.Option(help="Arrays below DATA: 'sub{subject}.npy', with {session} if one each."),
    ] = None,
    trials: Annotated[
        str | None,
        typer.Option(help="Table below DATA: subject, session, image_id, in the arrays' order."),
    ] = None,
    units: Annotated[
        str | None, typer.Option(help="Of the values: 'percent signal change', 'z-scores' etc.")
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(help="trials,voxels or x,y,z,trials and turned; where sizes leave it open."),
    ] = None,
    voxel_order: Annotated[
        str | None,
        typer.Option(help="Of flat arrays: C (numpy, nilearn) or F (find(mask) in MATLAB)."),
    ] = None,
    variable: Annotated[
        str | None, typer.Option(help="Array in a .mat or HDF5 file, where there are several.")
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(help="A region: NAME='rois/{subject}_*FFA*.nii.gz'; repeatable."),
    ] = None,
    atlas: Annotated[
        str | None, typer.Option(help="Atlases below DATA, such as 'atlas/{subject}.nii.gz'.")
    ] = None,
    labels: Annotated[
        str | None, typer.Option(help="Of the atlas: V1:1,V2:2, or a .tsv with index and name.")
    ] = None,
    stimuli: Annotated[
        Path | None, typer.Option(help="Folder with IMAGE_ID.png, .jpg or the like.")
    ] = None,
    mindeye: Annotated[
        bool, typer.Option("--mindeye", help="DATA is MindEye2's release; its form is known.")
    ] = False,
    subjects: Annotated[
        str | None, typer.Option(help="With --mindeye, such as 1,2; by default all there.")
    ] = None,
    test_images: Annotated[
        str | None, typer.Option(help="Test pictures: a text file, or names with commas.")
    ] = None,
    test_where: Annotated[
        str | None, typer.Option(help="Test pictures by a column, such as shared=1.")
    ] = None,
    test_shared: Annotated[
        bool, typer.Option("--test-shared", help="Test the pictures that every subject saw.")
    ] = False,
    test_repeated: Annotated[
        int | None, typer.Option(help="Test the pictures that subjects saw so often or more.")
    ] = None,
    test_fraction: Annotated[
        float | None, typer.Option(help="Test this share of the pictures, drawn with --seed.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of --test-fraction.")] = 0,
    zscore: Annotated[
        str, typer.Option(help="Scale voxels within each session, or over a subject's sessions.")
    ] = "session",
) -> None:
    """Arrays (.npy, .mat, HDF5; GLMsingle's results, MindEye2's release) with a mask to a table."""
    from neurovl.recordings import arrays
    from neurovl.recordings.splits import Split

    if zscore not in ("session", "subject"):
        raise ConfigError(f"--zscore is {zscore!r}, expected session or subject: choose one")
    split = Split(test_images, test_where, test_shared, test_repeated, test_fraction, seed)
    needed = {"--betas": betas, "--trials": trials, "--units": units}
    known = needed | {"--axes": axes, "--voxel-order": voxel_order, "--variable": variable}
    known |= {"--stimuli": stimuli, "--test-...": None if split == Split(seed=seed) else split}
    if mindeye and (given := [name for name, value in known.items() if value is not None]):
        raise ConfigError(f"{given[0]} and --mindeye were given, expected one: --mindeye knows it")
    if not mindeye and subjects is not None:
        raise ConfigError(
            "--subjects was given without --mindeye, expected the subjects in --trials: remove rows there"
        )
    if not mindeye and (missing := [name for name, value in needed.items() if value is None]):
        raise ConfigError(
            f"{missing[0]} is missing, expected it beside --mask, because arrays do not say it: see neurovl convert arrays --help"
        )
    rois = pairs(roi or [], "--roi", "FFA='rois/{subject}_FFA.nii.gz'")
    choice = arrays.ArraysChoice(
        betas=betas or "",
        mask=mask,
        trials=trials or "",
        units=units or "",
        axes=axes,
        order=voxel_order,
        variable=variable,
        rois=rois,
        atlas=atlas,
        labels=labels,
        stimuli=stimuli,
    )
    if mindeye:
        names = subjects.split(",") if subjects else None
        arrays.convert_mindeye(data, out, choice, names, zscore)
    else:
        arrays.convert_arrays(data, out, choice, split, zscore)
    say(f"wrote a table to {out}: neurovl preprocess --data {out} --out RUN")


@app.command()
def regions(
    data: Annotated[Path, typer.Option(help="Folder with your own table; subjects.tsv grows.")],
    atlas: Annotated[
        str, typer.Option(help="Atlases, such as 'rois/{subject}_atlas.nii.gz', below DATA.")
    ],
    labels: Annotated[
        str, typer.Option(help="V1:1,V2:2, or a .tsv below DATA with the columns index and name.")
    ],
) -> None:
    """Write the labels of an atlas as regions into your own table."""
    from neurovl.recordings.atlas_regions import add_regions

    found = add_regions(data, atlas, labels)
    words = ", ".join(f"{name} ({n})" for name, n in list(found.items())[:8])
    say(f"wrote {len(found)} regions (subjects that have them) to {data}: {words}")
