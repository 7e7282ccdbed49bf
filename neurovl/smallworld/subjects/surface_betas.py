"""Simulated betas on fsaverage, as NSD has them, on demand: half a gigabyte a hemisphere and session.

Read from the volumes on disk through the subject's transforms: linear at three depths, averaged, the nearest vertex of fsaverage.
float32 in percent signal change; not a number where a vertex lies outside the volume.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurovl.download.engine import free_bytes, readable
from neurovl.errors import MissingError
from neurovl.files import replacing
from neurovl.recordings.nsd.surfaces import FSAVERAGE, HEMISPHERES, Surface, read_surface

logger = logging.getLogger(__name__)

TRIALS, UNIT = 750, 300  # of a session; int16 counts of one percent signal change


def surface_bytes(subjects: int, sessions: int) -> int:
    """Bytes of the betas on fsaverage: of 163,842 vertices, 750 trials and two hemispheres."""
    return subjects * sessions * len(HEMISPHERES) * FSAVERAGE * TRIALS * 4


def require_space(
    root: Path, subjects: Sequence[int], sessions: int, version: str, free: int | None = None
) -> None:
    """Refuse, by a MissingError, what the disk cannot hold; `free` bytes are looked up where they are not given."""
    need = surface_bytes(1, 1) * len(_absent(root, subjects, sessions, version))
    have = free_bytes(root) if free is None else free
    if need > have:
        raise MissingError(
            f"betas on fsaverage need {readable(need)} in {root}, its disk has {readable(have)} free: free "
            f"{readable(need - have)}, ask for fewer --subjects or --sessions, or leave --surfaces out"
        )


def write_surface_betas(root: Path, subjects: Sequence[int], sessions: int, version: str) -> None:
    """Write ``fsaverage/VERSION/{lh,rh}.betas_sessionNN.mgh`` and ``ncsnr.mgh``; what is there is kept.

    Parameters
    ----------
    root : Path
        A simulated NSD folder that is whole.
    subjects : sequence of int
    sessions : int
    version : str
        Of the betas.
    """
    import nibabel

    for subject, source, targets in _absent(root, subjects, sessions, version):
        logger.info("betas on fsaverage: subj%02d, %s", subject, source.name)
        betas = np.asarray(nibabel.load(source).dataobj)
        surface = read_surface(root, f"subj{subject:02d}", betas.shape[:3], "neurovl simulate")
        ncsnr = np.asarray(nibabel.load(source.with_name("ncsnr.nii.gz")).dataobj)[..., None]
        reliability = [path.with_name(f"{path.name[:2]}.ncsnr.mgh") for path in targets]
        _write_series(reliability, ncsnr, 1, surface)
        _write_series(targets, betas, UNIT, surface)


def _absent(
    root: Path, subjects: Sequence[int], sessions: int, version: str
) -> list[tuple[int, Path, list[Path]]]:
    """Subject, betas in the volume and files to write, for each session that is not whole on fsaverage."""
    found = []
    for subject in subjects:
        spaces = root / f"nsddata_betas/ppdata/subj{subject:02d}"
        for session in range(1, sessions + 1):
            name = f"betas_session{session:02d}"
            targets = [spaces / "fsaverage" / version / f"{h}.{name}.mgh" for h in HEMISPHERES]
            if not all(path.is_file() for path in targets):
                source = spaces / "func1pt8mm" / version / f"{name}.nii.gz"
                found.append((subject, source, targets))
    return found


def _write_series(targets: list[Path], volumes: np.ndarray, unit: float, surface: Surface) -> None:
    """Maps (x, y, z, n) as .mgh files of both hemispheres, (163842, 1, 1, n), one after the other so that memory holds one map."""
    from nibabel.freesurfer.mghformat import DATA_OFFSET, MGHHeader

    header = MGHHeader()
    header.set_data_shape((FSAVERAGE, 1, 1, volumes.shape[3]))
    header.set_data_dtype(np.float32)
    for hemi, path in zip(HEMISPHERES, targets, strict=True):
        own = Surface({hemi: surface.places[hemi]}, surface.nearest, surface.grid)
        with replacing(path) as part, open(part, "wb") as file:
            header.writehdr_to(file)
            file.seek(DATA_OFFSET)
            for trial in range(volumes.shape[3]):
                file.write((own.sample(volumes[..., trial])[hemi] / unit).astype(">f4").tobytes())
            header.writeftr_to(file)
