"""What every system of the comparison is: a card, a fit, a prediction, and what it gives to the generators.

A new system is one file with a subclass of `Decoder`, here or in a package of its own (`registry`).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import ConfigError
from neurovl.settings.sections import Models

if TYPE_CHECKING:
    from neurovl.foundation.clip import Clip
    from neurovl.foundation.vae import LatentCodec
    from neurovl.language import BrainLLM

# What a decoder says of n pictures: float arrays (n, ...) named as the features are that they predict.
Predictions = dict[str, np.ndarray]


@dataclass(frozen=True)
class Choice:
    """One thing that a system's publication settles, or leaves open, and what is done here.

    Attributes
    ----------
    what : str
        Such as 'loss'.
    published : str
        As it was published; empty where nothing is said.
    here : str
        As it is done here; empty where it is the same.
    source : str
        'code', 'paper', or 'chosen' where it is ours.
    """

    what: str
    published: str
    here: str = ""
    source: str = "code"


@dataclass(frozen=True)
class Card:
    """Who published a system, and how it is re-done here.

    Attributes
    ----------
    title, reference, code : str
        Its name, the publication, the repository ('' where none is known).
    choices : tuple of Choice
        Input, map, loss, training, what it predicts, generator, selection, number of models.
    as_published : str
        What a second row does otherwise, as the publication does, and why the main row does not; '' where there is no
        difference.
    lacking : tuple of str
        Parts that do not exist here, such as a generator.
    """

    title: str
    reference: str
    code: str
    choices: tuple[Choice, ...]
    as_published: str = ""
    lacking: tuple[str, ...] = ()


@dataclass
class Conditions:
    """What a system gives to the generator for n pictures; what is None it does not say.

    Attributes
    ----------
    image : array, shape (n, E)
        CLIP image embeddings.
    text : array, shape (n, T, D)
        States in the place of the generator's text encoder's.
    prompts : list of str
        Words instead.
    says_caption : bool
        The prompt is the system's own caption; whoever has made the captions fills `prompts` in.
    start : array, shape (n, c, h, w)
        Latents to begin with.
    strength : float
        Noise strength from 0 to 1, of no meaning without `start`.
    reading : {'strength', 'mix'}
        See `foundation.start_latents.sample`.
    samples : int
        How many are painted of each picture.
    kept_by : str
        Which sample is kept: '' the first, 'clip_image' that whose embedding is closest to the one predicted,
        'true picture' that which is closest to what was seen, which only a system `as_published` may do.
    """

    image: np.ndarray | None = None
    text: np.ndarray | None = None
    prompts: list[str] | None = None
    says_caption: bool = False
    start: np.ndarray | None = None
    strength: float = 1.0
    reading: str = "strength"
    samples: int = 1
    kept_by: str = ""


@dataclass
class FrozenParts:
    """The frozen networks that a system may use, loaded when first asked for, and where it computes.

    Attributes
    ----------
    models : Models
        Which they are.
    device : str
    seed : int
    captioner : callable, optional
        Gives the language model that speaks of a picture's `patch_tokens`, see `leaderboard.shared_inputs`.
    captions : callable, optional
        Gives the captions of a training picture, by its id.
    checkpoint : Path, optional
        Folder in which a training that was interrupted goes on.
    """

    models: Models = field(default_factory=Models)
    device: str = "cpu"
    seed: int = 0
    captioner: "Callable[[], BrainLLM] | None" = None
    captions: Callable[[str], list[str]] | None = None
    checkpoint: Path | None = None

    def clip(self) -> "Clip":
        """CLIP."""
        from neurovl.foundation.clip import load_clip

        return load_clip(self.models.clip, self.device)

    def vae(self) -> "LatentCodec":
        """The generator's autoencoder."""
        from neurovl.foundation.vae import load_vae

        return load_vae(self.models.unclip, self.device, self.models.image_size)


class Decoder(ABC):
    """A system: fitted to the training trials of some subjects, it predicts features of pictures from brains.

    Parameters
    ----------
    as_published : bool
        Do as published where that differs from the main row, see `Card.as_published`.
    **settings
        Sizes and hyperparameters by name, instead of those in `defaults`.

    Attributes
    ----------
    name : str
        In tables.
    card : Card
    defaults : dict
        Every setting as published.
    search : dict of str to tuple
        Hyperparameters that `neurovl search` chooses, and among what.
    needs : tuple of str
        Features without which it cannot be fitted.
    published_refit : bool
        Whether `fit` differs where it does as published; if not, the fitted one is asked again with `as_published` set.
    n_parameters : int
        Numbers that `fit` set, of all models together.
    n_models : int
        How many models it consists of for all subjects together.

    Raises
    ------
    ConfigError
        A setting that it does not have, or of another kind.
    """

    name: ClassVar[str]
    card: ClassVar[Card]
    defaults: ClassVar[dict[str, Any]] = {}
    search: ClassVar[dict[str, tuple]] = {}
    needs: ClassVar[tuple[str, ...]] = ("clip_image",)
    published_refit: ClassVar[bool] = False
    n_parameters: int = 0
    n_models: int = 0

    def __init__(self, as_published: bool = False, **settings: Any) -> None:
        if unknown := sorted(set(settings) - set(self.defaults)):
            raise ConfigError(
                f"the system {self.name} has no setting {unknown[0]!r}, expected one of "
                f"{', '.join(self.defaults) or '(none)'}: correct leaderboard.settings of the profile"
            )
        for setting, value in settings.items():
            if not _is_like(value, self.defaults[setting]):
                raise ConfigError(
                    f"the setting {setting} of {self.name} is {value!r}, expected something like "
                    f"{self.defaults[setting]!r}: correct leaderboard.settings of the profile (in YAML 5e3 is text, write 5000.0)"
                )
        self.as_published = as_published
        self.settings: dict[str, Any] = {**self.defaults, **settings}

    @abstractmethod
    def fit(
        self,
        voxels: Mapping[str, SubjectVoxels],
        targets: PictureFeatures,
        parts: FrozenParts,
    ) -> Self:
        """Learn from training trials.

        Parameters
        ----------
        voxels : dict of str to SubjectVoxels
            For each subject its training trials, single; averaging them is the system's own affair.
        targets : PictureFeatures
            Of all pictures; those of other trials than `voxels` must not be asked for.
        parts : FrozenParts
        """

    def fit_new_subject(
        self, voxels: SubjectVoxels, targets: PictureFeatures, parts: FrozenParts
    ) -> "Decoder":
        """Learn one more subject, after `fit` to others; optional.

        A system that defines it stands in the curve of a new subject, see `leaderboard.system_adaptation`.

        Parameters
        ----------
        voxels : SubjectVoxels
            Training trials of that subject, single, as few as two pictures.
        targets : PictureFeatures
            Of its training pictures alone.
        parts : FrozenParts
            `checkpoint` is a folder of this training alone.

        Returns
        -------
        Decoder
            One that predicts that subject, this one or another. Asked again, it begins anew from what `fit` learned.

        Raises
        ------
        ConfigError
            The system has no recipe for a new subject.
        """
        raise ConfigError(
            f"the system {self.name} has no recipe for a new subject, expected one that defines fit_new_subject: leave it out "
            "of the new subject's curve"
        )

    @classmethod
    def adapts(cls) -> bool:
        """Whether it has a recipe for a new subject, `fit_new_subject`."""
        return cls.fit_new_subject is not Decoder.fit_new_subject

    @abstractmethod
    def predict(self, voxels: SubjectVoxels) -> Predictions:
        """What it says of each row: float32 arrays (n, ...), named as the features are."""

    def conditions(self, said: Predictions) -> Conditions | None:
        """What the generator gets; None for a system that makes no pictures."""
        return None

    def speaks_from(self, said: Predictions) -> np.ndarray | None:
        """Patch tokens (n, P, W) of which the frozen language model speaks; None for a system without words."""
        return None

    def captions(self, said: Predictions, parts: FrozenParts) -> Sequence[str] | None:
        """Captions of a system that has a language model of its own; None for the others."""
        return None


def _is_like(value: object, default: object) -> bool:
    """Whether a setting is of the kind of its default; a whole number is a number, nothing else is another."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float)
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple) and all(_is_like(one, default[0]) for one in value)
    return isinstance(value, type(default))
