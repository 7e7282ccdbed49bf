"""What the user of `neurovl betas` can state."""

from dataclasses import dataclass, field
from pathlib import Path

METHODS = ("lss", "lsa", "glmsingle")
HRFS = ("glover", "spm")
UNITS = ("percent", "series")


@dataclass(frozen=True)
class BetasChoice:
    """What to take of a BIDS data set's time series, and how the betas are estimated.

    Attributes
    ----------
    derivative : str, optional
        Folder of the preprocessed BOLD: its name below ``derivatives/``, or its path.
    select : dict
        Entities that the names of the BOLD must have, such as ``{'task': 'things', 'space': 'T1w'}``; ``desc`` is
        'preproc' if not given.
    stimulus : str, optional
        Column of the events that names the picture.
    drop : tuple of str
        Patterns (``catch*``) of pictures or trial types that are modelled and get no beta in the table.
    ignore : tuple of str
        Patterns of events that are not modelled, such as rest.
    confounds : tuple of str
        Patterns (``trans_*``) of columns of the confounds that the model gets.
    method : str
        'lss', 'lsa' or 'glmsingle'.
    hrf : str
        'glover' or 'spm'.
    high_pass : float
        Drifts slower than this (Hz) are modelled by cosines; 0 for the run's mean alone.
    drift_order : int, optional
        Drifts are modelled by polynomials up to this degree instead.
    units : str
        'percent' of the voxel's mean in the run, or those of the 'series'.
    tr : float, optional
        Seconds between volumes, where the files do not say it or contradict one another.
    slice_time_ref : float, optional
        When within the TR a volume's values hold, from 0 (begin) to 1 (end).
    mask : str, optional
        Pattern of the masks' paths with ``{subject}``; several files of a subject are intersected.
    rois : dict
        Name of a region to such a pattern; several files of a subject are united.
    stimuli : Path, optional
        Folder of the pictures; by default ``stimuli/`` of the data set.
    """

    derivative: str | None = None
    select: dict[str, str] = field(default_factory=dict)
    stimulus: str | None = None
    drop: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    confounds: tuple[str, ...] = ()
    method: str = "lss"
    hrf: str = "glover"
    high_pass: float = 0.01
    drift_order: int | None = None
    units: str = "percent"
    tr: float | None = None
    slice_time_ref: float | None = None
    mask: str | None = None
    rois: dict[str, str] = field(default_factory=dict)
    stimuli: Path | None = None
