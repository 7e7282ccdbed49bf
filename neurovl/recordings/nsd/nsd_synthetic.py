"""NSD-synthetic: 284 pictures that are no photographs of scenes, shown in one further session of NSD, as a test set.

744 betas, of eight runs of 93 trials, with two tasks by turns. ``masterordering`` of
``nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat`` names the picture of each, counted from 1: 220 are the same for all
subjects (``nsdsynthetic_stimuli.hdf5``), 64 have colours that were fitted to the subject (``nsdsynthetic_colorstimuli_subj0X.hdf5``). Both
hold light and not grey levels, 714 x 1360 pixels of which a picture's square is the middle; the root of what is stored is shown here.

Gifford et al. 2025 (NSD-synthetic, arXiv 2503.06286) and the code published with it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.recordings.nsd.further_sessions import FurtherSession

if TYPE_CHECKING:
    from PIL.Image import Image

DESIGN = Path("nsddata/experiments/nsdsynthetic/nsdsynthetic_expdesign.mat")
STIMULI = Path("nsddata_stimuli/stimuli/nsdsynthetic")
SHARED, COLOURED = 220, 64
HEIGHT, WIDTH = 714, 1360
SIDE = 425  # of a picture, as the core experiment's


class SyntheticRecordings(FurtherSession):
    """The pictures of NSD-synthetic; see `FurtherSession`.

    An `image_id` is the number of the picture, counted from 0; those from 220 on carry the subject, as in ``'220-subj01'``, whose
    colours they have.
    """

    session_name, n_volumes = "synthetic", 744

    def _trials_of(self, root: Path, subject: str) -> pd.DataFrame:
        order = read_order(root)
        shared = order < SHARED
        ids = [
            str(one) if same else f"{one}-{subject}"
            for one, same in zip(order, shared, strict=True)
        ]
        table = pd.DataFrame({"image_id": ids, "place": np.arange(len(order))})
        table["subject"], table["session"], table["split"] = subject, 1, "test"
        table["trial"] = range(len(table))
        table["repeat"] = table.groupby("image_id").cumcount()
        return table

    def image(self, image_id: str | int) -> "Image":
        """The middle square of a picture, as grey levels, 425 x 425."""
        import h5py
        from PIL import Image

        text, _, subject = str(image_id).partition("-")
        if (
            not text.isdigit()
            or int(text) >= SHARED + COLOURED
            or (int(text) < SHARED) == bool(subject)
        ):
            raise DataError(
                f"NSD-synthetic has no picture {image_id!r}: choose an image_id from trials"
            )
        number, name = int(text), "nsdsynthetic_stimuli.hdf5"
        if subject:
            number, name = number - SHARED, f"nsdsynthetic_colorstimuli_{subject}.hdf5"
        path = self.root / STIMULI / name
        fetch = "neurovl download nsd --tests synthetic --to DIR"
        if not path.is_file():
            raise MissingError(f"{path} is missing: {fetch}")
        try:
            with h5py.File(path, "r") as file:
                light = file["imgBrick"][number]
        except (OSError, KeyError, RuntimeError, ValueError) as problem:
            raise DataError(
                f"{name} cannot be read ({problem}), expected an HDF5 file with the dataset imgBrick; the file may be cut "
                f"short: {fetch} --verify"
            ) from problem
        if light.shape != (HEIGHT, WIDTH, 3) or light.dtype != np.uint8:
            raise DataError(
                f"{name} has pictures of {light.dtype} and shape {light.shape}, expected uint8 ({HEIGHT}, {WIDTH}, 3): "
                f"{fetch} --verify"
            )
        left = (WIDTH - HEIGHT) // 2
        square = light[:, left : left + HEIGHT]
        grey = np.rint(np.sqrt(square / 255) * 255).astype(np.uint8)
        return Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BOX)


def read_order(root: Path) -> np.ndarray:
    """The picture of each of the 744 trials, counted from 0: int array."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    path, n = root / DESIGN, SyntheticRecordings.n_volumes
    fetch = "neurovl download nsd --tests synthetic --to DIR"
    if not path.is_file():
        raise MissingError(f"{path} is missing: {fetch}")
    try:
        order = (
            loadmat(path, variable_names=("masterordering",))["masterordering"].ravel().astype(int)
        )
    except (MatReadError, KeyError, ValueError, TypeError, OSError, NotImplementedError) as problem:
        raise DataError(
            f"{path.name} cannot be read ({problem}), expected a MATLAB file with masterordering: {fetch} --verify"
        ) from problem
    if len(order) != n or order.min() < 1 or order.max() > SHARED + COLOURED:
        raise DataError(
            f"{path.name} holds masterordering of {len(order)} trials from {order.min()} to {order.max()}, expected {n} from 1 "
            f"to {SHARED + COLOURED}: {fetch} --verify"
        )
    return order - 1


def synthetic_files(subjects: Sequence[str]) -> list[Path]:
    """The files beside the betas that `SyntheticRecordings` reads, relative to the NSD folder."""
    names = ["nsdsynthetic_stimuli", *(f"nsdsynthetic_colorstimuli_{s}" for s in subjects)]
    return [DESIGN, *(STIMULI / f"{name}.hdf5" for name in names)]
