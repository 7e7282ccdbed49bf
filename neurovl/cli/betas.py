"""The verb that estimates single-trial betas from preprocessed time series."""

from typing import Annotated

import typer

from neurovl.cli.options import (
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


@app.command()
def betas(
    data: Source,
    out: Table,
    derivative: Annotated[
        str | None,
        typer.Option(help="Folder of the preprocessed BOLD: below derivatives/, or its path."),
    ] = None,
    select: Annotated[
        str | None, typer.Option(help="Entities of the BOLD's names: task=things,space=T1w.")
    ] = None,
    stimulus: Stimulus = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            help="Pictures or trial types that are modelled and are no trials, such as 'catch*'; repeatable."
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(help="Events that are not modelled at all, such as rest; repeatable."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="lss (least squares separate), lsa (least squares all) or glmsingle, if it is installed."
        ),
    ] = "lss",
    hrf: Annotated[str, typer.Option(help="Haemodynamic response: glover or spm.")] = "glover",
    high_pass: Annotated[
        float, typer.Option(help="Cutoff of the cosine drift model in Hz; 0 for none.")
    ] = 0.01,
    drift_order: Annotated[
        int | None, typer.Option(help="Drift as polynomials up to this degree, instead of cosines.")
    ] = None,
    confounds: Annotated[
        str | None,
        typer.Option(help="Columns of the confounds for the model: 'trans_*,rot_*'; else none."),
    ] = None,
    units: Annotated[
        str,
        typer.Option(
            help="percent of the voxel's mean in the run, or series (as the time series are)."
        ),
    ] = "percent",
    tr: Annotated[
        float | None, typer.Option(help="Seconds between volumes, where the files leave it open.")
    ] = None,
    slice_time_ref: Annotated[
        float | None,
        typer.Option(
            help="When within the TR values hold, 0 to 1; else StartTime of the JSON, else 0.5."
        ),
    ] = None,
    mask: Mask = None,
    roi: Roi = None,
    stimuli: Stimuli = None,
    test_images: TestImages = None,
    test_where: TestWhere = None,
    test_shared: TestShared = False,
    test_repeated: TestRepeated = None,
    test_fraction: TestFraction = None,
    seed: SplitSeed = 0,
    zscore: Zscore = "session",
) -> None:
    """Single-trial betas from preprocessed BOLD of a BIDS data set (fMRIPrep), as a table."""
    from neurovl.recordings.splits import Split
    from neurovl.recordings.timeseries import BetasChoice, estimate_betas

    one_of("--zscore", zscore, ("session", "subject"))
    columns = [one.strip() for one in (confounds or "").split(",")]
    choice = BetasChoice(
        derivative=derivative,
        select=selected(select),
        stimulus=stimulus,
        drop=tuple(drop or ()),
        ignore=tuple(ignore or ()),
        confounds=tuple(one for one in columns if one),
        method=method,
        hrf=hrf,
        high_pass=high_pass,
        drift_order=drift_order,
        units=units,
        tr=tr,
        slice_time_ref=slice_time_ref,
        mask=mask,
        rois=region_patterns(roi),
        stimuli=stimuli,
    )
    split = Split(test_images, test_where, test_shared, test_repeated, test_fraction, seed)
    estimate_betas(data, out, split, choice, zscore)
    say(f"wrote a table to {out}: neurovl preprocess --data {out} --out RUN")
