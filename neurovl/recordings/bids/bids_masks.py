"""Masks and regions of a BIDS data set, brought together on the grid of the betas; never resampled."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurovl.errors import DataError, MissingError
from neurovl.recordings.betas.nifti_volumes import Volumes, lie_alike
from neurovl.recordings.bids.bids_files import BidsFile, brain_masks
from neurovl.recordings.region_files import matching, on_grid, open_here, region_of

logger = logging.getLogger(__name__)


def masks_of(
    subject: str, like: Volumes, files: Sequence[BidsFile], data: Path, pattern: str | None
) -> list[Volumes]:
    """The headers of a subject's masks, all on the betas' grid."""
    if pattern is not None:
        found = [open_here(path, data) for path in matching(pattern, subject, data)]
        if not found:
            raise MissingError(
                f"--mask {pattern} names no file of {subject} in {data}: correct the pattern, it may "
                "hold {subject} and *"
            )
        on_grid(found, like, f"the mask of {subject}")
        return found
    kinds = [[open_here(f.path, data) for f in kind] for kind in brain_masks(subject, files)]
    if not kinds:
        raise MissingError(
            f"{subject} has no brain mask (such as {subject}_desc-brain_mask.nii.gz): name one with "
            "--mask 'masks/{subject}_mask.nii.gz'"
        )
    on_betas = [[mask for mask in kind if lie_alike(mask, like)] for kind in kinds]
    fitting = next(filter(None, on_betas), [])
    if not fitting:
        on_grid(kinds[0], like, f"the mask of {subject}")
    values = [region_of([mask], like, all) for mask in fitting]
    if any(not np.array_equal(one, values[0]) for one in values[1:]):
        names = ", ".join(mask.name for mask in fitting[:3])
        raise DataError(
            f"{subject} has {len(fitting)} masks that differ ({names}), expected one: name it with "
            "--mask; a pattern with * takes the voxels that all of its files share"
        )
    logger.info("mask of %s, by its name: %s", subject, fitting[0].name)
    return fitting[:1]
