"""Verbs that bring other data sets and masks into the form of one's own table."""

from pathlib import Path
from typing import Annotated

import typer

from neurovl.cli.options import app, say
from neurovl.errors import ConfigError

convert_app = typer.Typer(no_args_is_help=True, help="Write another data set as a table.")
app.add_typer(convert_app, name="convert")

Source = Annotated[Path, typer.Option("--data", help="The data set's folder; it is only read.")]
Table = Annotated[Path, typer.Option("--out", help="New folder for the table.")]


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
    stimulus: Annotated[
        str | None, typer.Option(help="Column that names the picture; by default stim_file etc.")
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(help="Pictures or trial types to leave out, such as 'catch*'; repeatable."),
    ] = None,
    mask: Annotated[
        str | None, typer.Option(help="Masks, such as 'masks/{subject}_mask.nii.gz'.")
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
        Path | None, typer.Option(help="Folder of the pictures; by default DATA/stimuli.")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(help="Order of the volumes where onsets leave it open: onset or rows."),
    ] = None,
    test_images: Annotated[
        str | None, typer.Option(help="Test pictures: a text file, or names with commas.")
    ] = None,
    test_where: Annotated[
        str | None, typer.Option(help="Test pictures by a column, such as trial_type=test.")
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
    """BIDS derivatives with single-trial betas (GLMsingle; as THINGS-fMRI has) to a table."""
    from neurovl.recordings.bids import BidsChoice
    from neurovl.recordings.bids import convert_bids as convert
    from neurovl.recordings.splits import Split

    if zscore not in ("session", "subject"):
        raise ConfigError(f"--zscore is {zscore!r}, expected session or subject: choose one")
    if order not in (None, "onset", "rows"):
        raise ConfigError(f"--order is {order!r}, expected onset or rows: choose one")
    choice = BidsChoice(
        derivative=derivative,
        suffix=suffix,
        table=table,
        select=pairs(select.split(",") if select else [], "--select", "task=things"),
        stimulus=stimulus,
        drop=tuple(drop or ()),
        mask=mask,
        rois=pairs(roi or [], "--roi", "FFA='rois/{subject}_FFA.nii.gz'"),
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

    convert(data, out, split, mask, pairs(roi or [], "--roi", "FFA='rois/{subject}_FFA.nii.gz'"))
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


def pairs(texts: list[str], option: str, example: str) -> dict[str, str]:
    """{'task': 'things'} from 'task=things'."""
    found = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not (key and equals and value) or key in found:
            raise ConfigError(
                f"{option} is {text!r}, expected NAME=VALUE once: write it as {example}"
            )
        found[key] = value
    return found
