"""One run of BOLD with all that its model needs, checked: times of the volumes, events, confounds."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import DataError
from neurovl.recordings.betas.nifti_volumes import Volumes
from neurovl.recordings.bids.bids_files import BidsFile, named_by, picture_column
from neurovl.recordings.region_files import open_here
from neurovl.recordings.table.table_files import read_table
from neurovl.recordings.timeseries.bold_files import going_with, sidecar, stem, the_closest
from neurovl.recordings.timeseries.choices import BetasChoice

logger = logging.getLogger(__name__)

LONGEST_TR = 30.0  # seconds
TIME_UNITS = {8: (1.0, "s"), 16: (1e-3, "ms"), 24: (1e-6, "us")}  # NIfTI's codes
MIDDLE = 0.5  # of the TR: what fMRIPrep corrects to, and the mean of slices that were not corrected


@dataclass(frozen=True, eq=False)
class BoldRun:
    """A run of one subject.

    Attributes
    ----------
    file : BidsFile
    bold : Volumes
    tr : float
        Seconds between volumes.
    times : array of shape (n_volumes,)
        When the volumes were measured, in seconds from the begin of the first.
    events : DataFrame
        ``onset``, ``duration`` (seconds), ``stimulus``, ``dropped`` (bool) and what else the table holds, in order of onset;
        without those that are ignored.
    confounds : array of shape (n_volumes, n_columns)
    notes : dict
        What was assumed, and where from.
    """

    file: BidsFile
    bold: Volumes
    tr: float
    times: np.ndarray
    events: pd.DataFrame
    confounds: np.ndarray
    notes: dict[str, str | int]

    @property
    def subject(self) -> str:
        return f"sub-{self.file['sub']}"

    @property
    def session(self) -> str:
        return self.file["ses"] or "1"

    @property
    def volume(self) -> str:
        """Path of its betas within the table."""
        session = f"/ses-{self.file['ses']}" if self.file["ses"] else ""
        return f"betas/{self.subject}{session}/{stem(self.file)}_betas.nii.gz"


def open_run(file: BidsFile, data: Path, folder: Path, choice: BetasChoice) -> BoldRun:
    """Read all of a run but its volumes.

    Raises
    ------
    MissingError, DataError
        One sentence for what is missing, or does not fit together.
    """
    roots = (data, folder)
    bold = open_here(file.path, data)
    n_volumes = bold.shape[3]
    if n_volumes < 4:
        raise DataError(
            f"{bold.name} holds {n_volumes} volumes, expected a time series: name the BOLD with --select"
        )
    said = sidecar(file, roots)
    tr, tr_from = repetition_time(bold, said, choice.tr)
    part, part_from = _slice_time(bold.name, said, tr, choice.slice_time_ref)
    events, counts = _events(file, roots, n_volumes * tr, choice)
    confounds, columns = _confounds(file, roots, n_volumes, choice.confounds)
    notes = {"TR": f"{tr:g} s ({tr_from})", "times of volumes": part_from, **counts}
    notes |= {"confounds": ", ".join(columns) or "none"}
    times = (np.arange(n_volumes) + part) * tr
    return BoldRun(file, bold, tr, times, events, confounds, notes)


def repetition_time(bold: Volumes, said: dict, stated: float | None) -> tuple[float, str]:
    """Seconds between volumes, and where that was read.

    The sidecar says it in seconds; the header's fourth zoom must agree where its unit is known.

    Raises
    ------
    DataError
        If neither the user nor the sidecar says it, or sidecar and header contradict each other.
    """
    header = bold.betas.header
    size, unit = TIME_UNITS.get(int(header["xyzt_units"]) & 56, (0.0, ""))
    zoom = float(header["pixdim"][4])
    in_header = zoom * size if unit and zoom > 0 else None
    written = f"{zoom:g} {unit}"
    tr = said.get("RepetitionTime") if stated is None else stated
    if tr is None:
        hint = f", its header {written}" if in_header else ""
        raise DataError(
            f"{bold.name} has no RepetitionTime in a JSON file beside it{hint}, expected the seconds between volumes: add it, or "
            "state it with --tr"
        )
    if not isinstance(tr, int | float) or isinstance(tr, bool) or not 0 < tr <= LONGEST_TR:
        raise DataError(
            f"{bold.name} has the repetition time {tr!r}, expected seconds, above 0 and at most {LONGEST_TR:g}: correct "
            "RepetitionTime in its JSON file, or state it with --tr"
        )
    tr = float(tr)
    if in_header is None:
        return tr, "stated" if stated is not None else "JSON; the header does not say it"
    if abs(in_header - tr) <= 1e-3 * tr:
        return tr, "stated, as the header says" if stated is not None else "JSON and header"
    if stated is not None:
        logger.warning("%s: its header says %s between volumes, --tr %g s", bold.name, written, tr)
        return tr, f"stated, against {written} in the header"
    raise DataError(
        f"{bold.name} has {written} between volumes in its header and {tr:g} s in its JSON file, expected the same: check which "
        "is true and state it with --tr"
    )


def _slice_time(name: str, said: dict, tr: float, stated: float | None) -> tuple[float, str]:
    if stated is not None:
        return stated, f"{stated:g} of the TR after its begin (stated)"
    start = said.get("StartTime")
    if start is None:
        return MIDDLE, "the middle of the TR (assumed; no StartTime in JSON)"
    if not isinstance(start, int | float) or isinstance(start, bool) or not 0 <= start <= tr:
        raise DataError(
            f"{name} has the StartTime {start!r}, expected seconds from 0 to the repetition time of {tr:g}: correct its JSON file, or "
            "state --slice-time-ref"
        )
    return start / tr, f"{start:g} s after its begin (StartTime in JSON)"


def _events(
    file: BidsFile, roots: Sequence[Path], seconds: float, choice: BetasChoice
) -> tuple[pd.DataFrame, dict[str, int]]:
    """The events that are modelled, and how many are dropped and ignored."""
    path = the_closest(
        going_with(file, ("events",), ".tsv", roots),
        file,
        "events",
        "_events.tsv",
        "give the root of the raw data with --data and the BOLD with --derivative",
    )
    table = read_table(path, ["onset", "duration"])
    name = path.name
    column = picture_column(table, name, choice.stimulus)
    own = {"subject", "session", "volume", "index", "image_id", "repeat", "trial", "stimulus"}
    rows = table.drop(columns=[c for c in table if c in own]).replace("n/a", "")
    rows = rows.assign(stimulus=table[column].replace("n/a", ""))
    ignored = named_by(rows, choice.ignore)
    rows = rows[~ignored]
    for what in ("onset", "duration"):
        numbers = pd.to_numeric(rows[what], errors="coerce")
        bad = ~np.isfinite(numbers) | ((numbers < 0) if what == "duration" else False)
        if bad.any():
            raise DataError(
                f"{name} has the {what} {table[what][rows.index[bad][0]]!r} in line {rows.index[bad][0]}, expected seconds: correct "
                "it, or leave such events out with --ignore"
            )
        rows = rows.assign(**{what: numbers})
    late = rows.index[rows.onset >= seconds]
    if len(late):
        raise DataError(
            f"{name} has the onset {rows.onset[late[0]]:g} in line {late[0]}, but {file.path.name} ends after {seconds:g} s, expected "
            "seconds from its first volume: correct the table"
        )
    dropped = named_by(rows, choice.drop)
    blank = rows.index[(rows.stimulus == "").to_numpy() & ~dropped]
    if len(blank):
        kind = f" ({rows.trial_type[blank[0]]})" if "trial_type" in rows else ""
        raise DataError(
            f"{name} has {len(blank)} events without a picture ({column}), the first in line {blank[0]}{kind}, expected one in each "
            "trial: name such events with --drop (modelled, no trial of the table) or --ignore (not modelled)"
        )
    rows = rows.assign(dropped=dropped).sort_values("onset", kind="stable")
    shown = rows[~rows.dropped]
    twice = shown.index[shown.onset.duplicated()]
    if len(twice):
        raise DataError(
            f"{name} has two trials with the onset {shown.onset[twice[0]]:g}, the second in line {twice[0]}, expected one trial at a "
            "time: drop one (--drop, --ignore), or correct the table"
        )
    return rows, {"dropped": int(dropped.sum()), "ignored": int(ignored.sum())}


def _confounds(
    file: BidsFile, roots: Sequence[Path], n_volumes: int, patterns: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Columns of the run's confounds that the patterns name."""
    if not patterns:
        return np.empty((n_volumes, 0)), []
    path = the_closest(
        going_with(file, ("timeseries", "regressors"), ".tsv", roots, ("confounds",)),
        file,
        "confounds",
        "_desc-confounds_timeseries.tsv",
        "leave out --confounds",
    )
    table = read_table(path)
    if len(table) != n_volumes:
        raise DataError(
            f"{path.name} has {len(table)} rows and {file.path.name} {n_volumes} volumes, expected as many: give the table that "
            "belongs to the run"
        )
    chosen: list[str] = []
    for pattern in patterns:
        found = [column for column in table if fnmatch(column, pattern)]
        if not found:
            raise DataError(
                f"{path.name} has no column {pattern!r}, only such as {', '.join(list(table)[:5])}: correct --confounds"
            )
        chosen += [column for column in found if column not in chosen]
    cells = table[chosen].to_numpy(object).copy()
    cells[0, np.isin(cells[0].astype(str), ["n/a", ""])] = "0"  # differences have no first value
    values = np.column_stack([pd.to_numeric(column, errors="coerce") for column in cells.T])
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise DataError(
            f"{path.name} has no number for {chosen[column]!r} in line {table.index[row]}, expected one in every line but the first: "
            "name other columns with --confounds"
        )
    return values, chosen
