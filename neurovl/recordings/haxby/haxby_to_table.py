"""From a Haxby folder to a table: the block means of ``recordings.py``, as NIfTI files.

One partition is written, because a table has one; whole runs are tested, so voxels are scaled over all
training runs of a subject.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurovl.errors import ConfigError, MissingError
from neurovl.recordings.haxby.haxby_folder import HINT, HaxbyRecordings, find
from neurovl.recordings.table.table_writer import new_table, write_tables


def convert_haxby(
    data: Path, out: Path, fold: int, subjects: Sequence[str | int] | None = None
) -> Path:
    """Write a table with the block means of Haxby et al. 2001.

    Parameters
    ----------
    data : Path
        Folder as `HaxbyRecordings` takes it.
    out : Path
        New folder; it appears when it is whole.
    fold : int
        0 to 3: which quarter of the runs is the test set.
    subjects : sequence of str or int, optional

    Raises
    ------
    MissingError
        If `data` is no Haxby folder, or lacks a subject.
    ConfigError
        For a fold that does not exist.
    """
    import nibabel

    n_folds = HaxbyRecordings.n_folds
    if not find(data):
        raise MissingError(f"{data} holds no subj*/bold.nii.gz: {HINT}")
    if not 0 <= fold < n_folds:
        raise ConfigError(f"fold {fold} was asked for, expected 0 to {n_folds - 1}: choose one")
    source = HaxbyRecordings(data, subjects=subjects, fold=fold)
    rows, files = [], []
    with new_table(out) as table:
        for folder in ("betas", "masks"):
            (table / folder).mkdir()
        for subject in source.subjects:
            affine = source.affine(subject)
            name = f"betas/{subject}.nii.gz"
            blocks = np.moveaxis(source.volumes(subject), 0, -1)
            nibabel.save(nibabel.Nifti1Image(blocks, affine), table / name)
            row = {"subject": subject}
            for region, voxels in source.rois(subject).items():
                row[region] = f"masks/{subject}_{re.sub(r'[^A-Za-z0-9]+', '-', region)}.nii.gz"
                image = nibabel.Nifti1Image(voxels.astype(np.uint8), affine)
                nibabel.save(image, table / row[region])
            files.append(row)
            own = source.subject_trials(subject)
            rows += own.assign(volume=name, index=own.trial).to_dict("records")
        captions = [
            (i, text) for i in source.trials.image_id.unique() for text in source.captions(i)
        ]
        about = {
            "name": f"{source.name}-fold{fold}",
            "units": source.units,
            "licence": source.licence,
            "terms": source.terms,
            "publish_images": False,
            "zscore": source.zscore,
            "split": f"fold {fold} of {n_folds}, by runs",
        }
        write_tables(table, rows, files, about, captions)
    return Path(out)
