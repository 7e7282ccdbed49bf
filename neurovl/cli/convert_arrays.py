"""Verbs for arrays that people have already, and for atlases: both become parts of one's own table."""

from pathlib import Path
from typing import Annotated

import typer

from neurovl.cli.convert import convert_app
from neurovl.cli.options import (
    Atlas,
    Labels,
    Roi,
    Source,
    SplitSeed,
    Table,
    TestFraction,
    TestImages,
    TestRepeated,
    TestShared,
    TestWhere,
    Zscore,
    app,
    one_of,
    region_patterns,
    say,
)
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
    roi: Roi = None,
    atlas: Atlas = None,
    labels: Labels = None,
    stimuli: Annotated[
        Path | None, typer.Option(help="Folder with IMAGE_ID.png, .jpg or the like.")
    ] = None,
    mindeye: Annotated[
        bool, typer.Option("--mindeye", help="DATA is MindEye2's release; its form is known.")
    ] = False,
    subjects: Annotated[
        str | None, typer.Option(help="With --mindeye, such as 1,2; by default all there.")
    ] = None,
    test_images: TestImages = None,
    test_where: TestWhere = None,
    test_shared: TestShared = False,
    test_repeated: TestRepeated = None,
    test_fraction: TestFraction = None,
    seed: SplitSeed = 0,
    zscore: Zscore = "session",
) -> None:
    """Arrays (.npy, .mat, HDF5; GLMsingle's results, MindEye2's release) with a mask to a table."""
    from neurovl.recordings import arrays
    from neurovl.recordings.splits import Split

    one_of("--zscore", zscore, ("session", "subject"))
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
    rois = region_patterns(roi)
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
