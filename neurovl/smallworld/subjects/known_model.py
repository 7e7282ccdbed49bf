"""The form of the model that made a simulated subject's responses, without its weights: for the ceiling of localization only."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurovl.recordings.base import subject_label
from neurovl.smallworld import scenes
from neurovl.smallworld.subjects import voxel_model
from neurovl.smallworld.subjects.anatomy import make_anatomy
from neurovl.smallworld.subjects.simulation import MARK


@dataclass(frozen=True)
class KnownModel:
    """How things in pictures drive the voxels of one subject that see them.

    Attributes
    ----------
    concepts : list of str, length C
    sees : bool array, shape (x, y, z)
        Voxels that answer to things, not to pixels.
    maps : array, shape (n, C, cells)
        Where in each picture each concept is.
    fields : array, shape (cells, sees.sum())
        Receptive fields of these voxels.
    """

    concepts: list[str]
    sees: np.ndarray
    maps: np.ndarray
    fields: np.ndarray

    def drives(self, voxel: int) -> np.ndarray:
        """What drives a voxel, counted among those that see things: (n, C); its response is a weighted sum of these."""
        return np.sqrt(self.maps @ self.fields[:, voxel])


def known_model(data_root: Path | str, subject: int | str, image_ids: Sequence[str]) -> KnownModel:
    """That of a subject of a simulated NSD folder, for some pictures."""
    settings = json.loads((Path(data_root) / MARK).read_text())["settings"]
    number = int(subject_label(subject).removeprefix("subj"))
    anatomy = make_anatomy(number, settings["scale"], settings["seed"])
    seeing = anatomy.area == ""
    sees = np.zeros(anatomy.nsdgeneral.shape, bool)
    sees[anatomy.nsdgeneral] = seeing
    shown = [voxel_model.scene_features(scenes.make_scene("nsd", int(i))) for i in image_ids]
    maps = np.stack(shown).reshape(len(shown), len(shown[0]), -1)
    fields = voxel_model.receptive_fields(anatomy.prf[seeing], voxel_model.CELLS)
    return KnownModel(voxel_model.concept_names(), sees, maps, fields)
