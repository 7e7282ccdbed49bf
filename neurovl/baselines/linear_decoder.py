"""What linear systems share: for each subject some ridge regressions, and predictions rescaled to the spread of the targets."""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from neurovl.baselines.decoder import Decoder, FrozenParts, Predictions
from neurovl.baselines.linear_maps import Ridge, TrainingRows
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.rescaling import Rescaling, rescalings
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError


class LinearDecoder(Decoder):
    """A system of ridge regressions; a subclass says of which voxels and with which penalties."""

    @abstractmethod
    def regressions(
        self, trials: SubjectVoxels, targets: PictureFeatures, parts: FrozenParts
    ) -> list[Ridge]:
        """Those of one subject, fitted to its training trials."""

    def fit(
        self, voxels: Mapping[str, SubjectVoxels], targets: PictureFeatures, parts: FrozenParts
    ) -> Self:
        """Fit every subject by itself."""
        self._targets = targets
        self._fitted = {
            subject: self.regressions(trials, targets, parts) for subject, trials in voxels.items()
        }
        every = [ridge for fitted in self._fitted.values() for ridge in fitted]
        self.n_parameters = sum(ridge.n_parameters for ridge in every)
        self.n_models = sum(len(ridge.names) for ridge in every)
        return self

    def predict(self, voxels: SubjectVoxels) -> Predictions:
        """What the subject's regressions say of each row.

        Raises
        ------
        DataError
            The system was not fitted to this subject.
        """
        if voxels.subject not in self._fitted:
            raise DataError(
                f"{self.name} was not fitted to {voxels.subject}, expected one of {', '.join(self._fitted)}: a linear system "
                "has a model for each subject; fit it to this one too"
            )
        out = {}
        for ridge in self._fitted[voxels.subject]:
            for name, said in ridge.predict(voxels).items():
                self.finish(name, said, voxels)
                out[name] = said.reshape(len(said), *self._targets.shape(name))
        return out

    def finish(self, name: str, said: np.ndarray, voxels: SubjectVoxels) -> None:
        """Change the predictions of one feature, (n, T), in place; as they are by default."""


class RescaledRidges(LinearDecoder):
    """Brain-Diffuser's recipe: regressions to averages over repeats with fixed penalties, rescaled.

    The penalties are those of a mask of `reference_voxels` standardised voxels. With V of them a penalty is multiplied by
    V / reference_voxels, as the squared length of a row is.

    Attributes
    ----------
    penalties : dict of str to str
        For each feature the setting that holds its penalty.
    """

    penalties: ClassVar[dict[str, str]] = {}

    def regressions(
        self, trials: SubjectVoxels, targets: PictureFeatures, parts: FrozenParts
    ) -> list[Ridge]:
        """One for all features with the same penalty; measures the spread of what they say as well."""
        averages = trials.averaged()
        rows = TrainingRows(averages, device=parts.device)
        together = defaultdict(list)
        for name, setting in self.penalties.items():
            together[float(self.settings[setting])].append(name)
        out = []
        for penalty, names in together.items():
            alpha = penalty * rows.n_voxels / self.settings["reference_voxels"]
            out.append(Ridge(rows, targets, names, (alpha,)))
            self._rescalings[trials.subject] |= rescalings(out[-1], averages, trials)
        return out

    def fit(
        self, voxels: Mapping[str, SubjectVoxels], targets: PictureFeatures, parts: FrozenParts
    ) -> Self:
        """Fit every subject by itself."""
        self._rescalings: dict[str, dict[str, Rescaling]] = {subject: {} for subject in voxels}
        return super().fit(voxels, targets, parts)

    def finish(self, name: str, said: np.ndarray, voxels: SubjectVoxels) -> None:
        """Rescale."""
        rescaling = self._rescalings[voxels.subject][name]
        if self.as_published:
            rescaling.apply_within(said)
        else:
            rescaling.apply(said, voxels.n_averaged)
