"""The way back: an encoder that somebody published reads volumes on any grid."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurovl.encoder.alignment import predict
from neurovl.encoder.vit3d import BrainEmbedding, BrainEncoder, load_encoder
from neurovl.errors import DataError, MissingError, NeurovlError
from neurovl.foundation.source import cached_snapshot, fetch_command
from neurovl.recordings.volume_checks import clean_voxels
from neurovl.tokens.resize import Resizer
from neurovl.tokens.store import TokenPlan
from neurovl.tokens.writing import own_columns, pack, standardisation

if TYPE_CHECKING:
    from nibabel.spatialimages import SpatialImage


@dataclass(frozen=True)
class PublishedEncoder:
    """An encoder with the plan that cuts its tokens from volumes on any grid.

    Attributes
    ----------
    encoder : BrainEncoder
    plan : TokenPlan
    axes : str
        Which way the axes of the common grid run, such as 'RAS'; images are turned to it.

    Examples
    --------
    >>> from neurovl.hub import export_encoder
    >>> published = neurovl.load_published(export_encoder(run.root, folder / "mine"))
    >>> published.encoder.layout, published.plan.layouts
    ('p5', ['p5', 'p4', 'flat'])
    """

    encoder: BrainEncoder
    plan: TokenPlan
    axes: str

    def tokens(
        self,
        image: "SpatialImage | str | Path",
        train: Sequence[int] | np.ndarray | None = None,
        mask: "SpatialImage | str | Path | np.ndarray | None" = None,
    ) -> torch.Tensor:
        """Tokens of one subject's session, as the token store holds them.

        z = (beta - mean) / sd for each voxel, with mean and sd over the chosen trials, 0 where a voxel is constant;
        then the volume is resized to the common grid, rounded to float16 and cut.

        Parameters
        ----------
        image : NIfTI image or path
            Single-trial responses (x, y, z, n) in any unit, on a grid and in an orientation of its own.
        train : bool array (n,) or sequence of int, optional
            Trials that mean and sd are taken over; never those that a score is computed on. All by default.
        mask : NIfTI image, path or bool array (x, y, z), optional
            The subject's region, on the grid of `image`; its voxels are checked as those of a data set are. Needed by
            encoders with off_mask 'own'.

        Returns
        -------
        float32 tensor, shape (n, N, C)
            The mean over the rows of a picture is its token for averaged repeats.

        Raises
        ------
        DataError
            Not four axes, fewer than two trials, a mask that is missing or of another grid, values that are not finite, or a
            fifth of the mask's voxels constant.
        """
        image, mask = self._turned(image, mask)
        values = np.asanyarray(image.dataobj)
        if values.ndim != 4 or values.shape[3] < 2:
            raise DataError(
                f"the image has the shape {values.shape}, expected (x, y, z, trials) with two trials or more; give the trials "
                "of a session together, as each voxel is standardised over them"
            )
        shape, plan = values.shape[:3], self.plan
        if mask is None and plan.off_mask == "own":
            raise DataError(
                "there is no mask, expected the subject's region, as this encoder was trained on each subject's own alone "
                "(off_mask own); pass mask="
            )
        if mask is not None and mask.shape != shape:
            raise DataError(
                f"the mask has the grid {mask.shape}, expected {shape} as the image; bring it there: neurovl resample"
            )
        inside = own_columns(mask, plan.target, plan.region, plan.off_mask)
        resizer = Resizer(shape, plan.target, plan.region[inside])
        values = values.reshape(-1, values.shape[3], order="F")[resizer.inputs].T
        if mask is None:  # voxels that are empty or constant in all trials are no signal
            measured = np.isfinite(values).any(0) & ~(values == values[:1]).all(0)
        else:
            measured = mask.ravel(order="F")[resizer.inputs]
        values = clean_voxels(values, measured, "the image")
        scale, shift = standardisation(values, _chosen(train, len(values)))
        stored = pack(resizer, inside, values, scale, shift)
        if not np.isfinite(stored).all():
            trial = int(np.argmin(np.isfinite(stored).all(axis=1)))
            raise DataError(
                f"trial {trial} (from 0) lies more than 65504 standard deviations from the mean of the chosen trials, expected "
                "responses of one scale; look at this trial, or leave it out"
            )
        return plan.cut(stored, self.encoder.layout)

    @torch.inference_mode()
    def __call__(
        self,
        image: "SpatialImage | str | Path",
        train: Sequence[int] | np.ndarray | None = None,
        mask: "SpatialImage | str | Path | np.ndarray | None" = None,
    ) -> BrainEmbedding:
        """Embeddings of every trial; for arguments and errors see `tokens`."""
        return predict(self.encoder, self.tokens(image, train, mask))

    def _turned(
        self,
        image: "SpatialImage | str | Path",
        mask: "SpatialImage | str | Path | np.ndarray | None",
    ) -> "tuple[SpatialImage, np.ndarray | None]":
        """Image and mask (bool, or None) with their axes as those of the common grid."""
        import nibabel
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        image = nibabel.load(image) if isinstance(image, (str, os.PathLike)) else image
        turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(self.axes))
        if isinstance(mask, (str, os.PathLike)):
            mask = nibabel.load(mask)
        elif mask is not None and not hasattr(mask, "dataobj"):
            mask = nibabel.Nifti1Image(np.asarray(mask, np.uint8), image.affine)
        if mask is not None:
            mask = np.asanyarray(mask.as_reoriented(turn).dataobj) > 0
        return image.as_reoriented(turn), mask


def load_published(place: str | Path) -> PublishedEncoder:
    """An encoder that somebody published, ready to read volumes; asks no network.

    Parameters
    ----------
    place : path or str
        A folder that `export_encoder` wrote, or a hub id whose files were fetched with `hf download owner/name`.

    Raises
    ------
    MissingError
        Neither a folder nor a hub id whose files are here.
    DataError
        Files that lack, are damaged, or do not belong together.

    Examples
    --------
    >>> import nibabel
    >>> from neurovl.hub import export_encoder
    >>> published = neurovl.load_published(export_encoder(run.root, folder / "mine"))
    >>> volumes = np.moveaxis(data.volumes(1, rows=range(6)), 0, -1)
    >>> z = published(nibabel.Nifti1Image(volumes, data.affine(1)), mask=data.mask(1))
    >>> len(z)
    6
    """
    folder = Path(place).expanduser()
    if not folder.is_dir():
        folder = cached_snapshot(str(place))
    if folder is None:
        raise MissingError(
            f"no encoder at {place}, expected a folder that neurovl export encoder wrote, or a hub id whose files are here; "
            f"fetch one with `{fetch_command(str(place))}`"
        )
    try:
        encoder, plan = load_encoder(folder), TokenPlan(folder)
        about = json.loads((folder / "plan.json").read_text())
        require_fit(encoder, plan, folder.name)
        return PublishedEncoder(encoder, plan, about["axes"])
    except (NeurovlError, KeyError) as problem:
        cause = " ".join(str(problem.__cause__ or problem).split())
        raise DataError(
            f"{folder.name}/ cannot be read as a published encoder ({cause[:200]}), expected config.json, model.safetensors, "
            "plan.json and plan.npz of one export; fetch it again, or write it again: neurovl export encoder --run RUN --out DIR"
        ) from problem


def _chosen(train: Sequence[int] | np.ndarray | None, n: int) -> np.ndarray:
    chosen = np.zeros(n, bool)
    try:
        chosen[slice(None) if train is None else np.asarray(train)] = True
    except IndexError as problem:
        raise DataError(
            f"train does not fit {n} trials ({problem}), expected a bool for each trial, or numbers from 0; correct it"
        ) from problem
    if chosen.sum() < 2:
        raise DataError(
            f"train chooses {chosen.sum()} of {n} trials, expected two or more to take mean and sd over; choose more"
        )
    return chosen


def require_fit(encoder: BrainEncoder, plan: TokenPlan, name: str) -> None:
    """The plan must give the tokens that the encoder was built for."""
    wanted = (encoder.n_tokens, encoder.token_size)
    if encoder.layout not in plan.layouts or plan.shape(encoder.layout) != wanted:
        raise DataError(
            f"{name} reads {wanted[0]} tokens of {wanted[1]} values in layout {encoder.layout!r}, which the patch plan does not "
            "give, expected both of one run; train the encoder again: neurovl train encoder --run RUN"
        )
