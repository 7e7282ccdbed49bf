"""Verbs that bring other data sets and masks into the form of one's own table."""

from pathlib import Path
from typing import Annotated

import typer

from neurovl.cli.options import (
    Atlas,
    Labels,
    Mask,
    Roi,
    Source,
    SplitSeed,
    Stimuli,
    Stimulus,
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
    selected,
)

convert_app = typer.Typer(no_args_is_help=True, help="Write another data set as a table.")
app.add_typer(convert_app, name="convert")


@convert_app.command("bids")
def convert_bids(
    data: Source,
    out: Table,
    derivative: Annotated[
        str | None, typer.Option(help="Folder of the betas below derivatives/.")
    ] = None,
    select: Annotated[
        str | None, typer.Option(help="Entities of the betas' names: task=things,space=T1w.")
    ] = None,
    suffix: Annotated[
        str | None, typer.Option(help="End of the betas' names; betas, beta or betaseries.")
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="End of the trial tables' names; conditions, trials or events."),
    ] = None,
    stimulus: Stimulus = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(help="Pictures or trial types to leave out, such as 'catch*'; repeatable."),
    ] = None,
    mask: Mask = None,
    roi: Roi = None,
    atlas: Atlas = None,
    labels: Labels = None,
    stimuli: Stimuli = None,
    order: Annotated[
        str | None,
        typer.Option(help="Order of the volumes where onsets leave it open: onset or rows."),
    ] = None,
    test_images: TestImages = None,
    test_where: TestWhere = None,
    test_shared: TestShared = False,
    test_repeated: TestRepeated = None,
    test_fraction: TestFraction = None,
    seed: SplitSeed = 0,
    zscore: Zscore = "session",
) -> None:
    """BIDS derivatives with single-trial betas (GLMsingle; as THINGS-fMRI has) to a table."""
    from neurovl.recordings.bids import BidsChoice
    from neurovl.recordings.bids import convert_bids as convert
    from neurovl.recordings.splits import Split

    one_of("--zscore", zscore, ("session", "subject"))
    one_of("--order", order, (None, "onset", "rows"))
    choice = BidsChoice(
        derivative=derivative,
        suffix=suffix,
        table=table,
        select=selected(select),
        stimulus=stimulus,
        drop=tuple(drop or ()),
        mask=mask,
        rois=region_patterns(roi),
        atlas=atlas,
        labels=labels,
        stimuli=stimuli,
        order=order,
    )
    split = Split(test_images, test_where, test_shared, test_repeated, test_fraction, seed)
    convert(data, out, split, choice, zscore)
    say(f"wrote a table to {out}: neurovl preprocess --data {out} --out RUN")


@convert_app.command("laion")
def convert_laion(
    data: Source,
    out: Table,
    split: Annotated[
        str,
        typer.Option(
            help="A split of the package laion-fmri, such as shared/tau, shared/cluster_k5_0 or sub-01/ood, or its file."
        ),
    ],
    mask: Annotated[
        str | None, typer.Option(help="Masks as for bids; by default the data set's own.")
    ] = None,
    roi: Annotated[
        list[str] | None,
        typer.Option(
            help="A region: hV4='derivatives/rois/{subject}/retinotopy/*_label-hV4_mask.nii.gz'; repeatable."
        ),
    ] = None,
) -> None:
    """LAION-fMRI's single-trial betas, pictures and captions to a table."""
    from neurovl.recordings.bids import convert_laion as convert

    convert(data, out, split, mask, region_patterns(roi))
    say(f"wrote a table to {out}: neurovl preprocess --data {out} --out RUN")


@convert_app.command("haxby")
def convert_haxby(
    data: Source,
    out: Table,
    fold: Annotated[int, typer.Option(help="0 to 3: which quarter of the runs is tested.")],
    subjects: Annotated[
        str | None, typer.Option(help="Comma separated; by default all that are there.")
    ] = None,
) -> None:
    """Haxby et al. 2001 to a table of block means."""
    from neurovl.recordings.haxby.haxby_to_table import convert_haxby as convert

    convert(data, out, fold, subjects.split(",") if subjects else None)
    say(f"wrote a table to {out}: neurovl preprocess --data {out} --out RUN --profile haxby")


@app.command()
def resample(
    mask: Annotated[Path, typer.Option(help="NIfTI mask or atlas.")],
    like: Annotated[Path, typer.Option(help="NIfTI file with the grid wanted, 3-D or 4-D.")],
    out: Annotated[Path, typer.Option(help="NIfTI file to write.")],
) -> None:
    """Bring a mask to the grid of the data, by nearest voxel in millimetres; labels are kept."""
    from neurovl.recordings.resampling import resample_mask

    before, after = resample_mask(mask, like, out)
    say(f"wrote {out}: {after} voxels above 0, {before} in {mask}")
