"""The counts that needs and operations follow from: trials, pictures, tokens, encoders."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurovl.doctor.heads import masks_for, plans_for, union_region
from neurovl.encoder.variants import ONE_EACH
from neurovl.foundation.model_facts import configurations
from neurovl.settings.sections import Profile
from neurovl.training.validation import HELD_OUT

if TYPE_CHECKING:
    from neurovl.recordings.base import Recordings

F32, F16 = 4, 2
ADAMW = 16  # bytes a trained parameter in float32: weight, gradient, two moments
SHOWN = 3  # times that a picture is shown, about


@dataclass(frozen=True)
class Need:
    """What a stage takes, in bytes: of the device that computes, of the machine's memory beside it, of the disk.

    `how` says where the largest part comes from.
    """

    stage: str
    device: float = 0.0
    memory: float = 0.0
    disk: float = 0.0
    how: str = ""


@dataclass(frozen=True)
class Sizes:
    """What the needs follow from.

    Attributes
    ----------
    trials, train, pictures, test : int
        Trials in the store, trials to train with, different pictures, a subject's test pictures.
    region : int
        V, voxels stored of each trial.
    tokens, token_size : int
        N and C of the main layout.
    subjects : int
    encoders : dict of str to int
        How many the profile trains, by the name of the system.
    has_images : bool
        Without pictures there is neither VAE nor language model nor reconstruction.
    """

    trials: int
    train: int
    pictures: int
    test: int
    region: int
    tokens: int
    token_size: int
    subjects: int
    encoders: dict[str, int]
    has_images: bool = True


def sizes_for(profile: Profile, recordings: "Recordings | None" = None) -> Sizes:
    """Trials and tokens of the data, or, where none are given, of the data set that the profile speaks of."""
    masks, edges, _ = masks_for(profile, recordings)
    plans = plans_for(profile, masks, edges)
    main = next(iter(plans.values()))
    counts = _counts(profile, recordings, len(masks))
    several = {"patches": len(plans) - 1, **dict.fromkeys(ONE_EACH, len(masks))}
    held_out = [one for one in profile.language.variants if one == HELD_OUT]
    encoders = {name: several.get(name, 1) for name in (*profile.alignment.variants, *held_out)}
    size, region = int(np.prod(main.patch)), len(union_region(plans))
    has_images = recordings is None or recordings.has_images
    return Sizes(*counts, region, main.n_tokens, size, len(masks), encoders, has_images)


def _counts(
    profile: Profile, recordings: "Recordings | None", n_subjects: int
) -> tuple[int, int, int, int]:
    """Trials, training trials, pictures, and a subject's test pictures."""
    from neurovl.recordings.nsd import TRIALS, last_session

    if recordings is not None:
        table = recordings.trials
        test = table[table.split == "test"].groupby("subject").image_id.nunique().max()
        return len(table), int((table.split == "train").sum()), table.image_id.nunique(), int(test)
    if profile.simulation is not None:
        trials = n_subjects * profile.simulation.sessions * TRIALS
        return trials, trials, trials // SHOWN, trials // n_subjects // SHOWN // 5
    split = profile.preprocessing.split or "shared1000"
    names = [f"subj{int(str(s).removeprefix('subj')):02d}" for s in profile.preprocessing.subjects]
    trials = TRIALS * sum(min(40, last_session(name, split)) for name in names)
    return trials, round(0.9 * trials), trials // SHOWN, int(split.removeprefix("shared"))


def vae_sizes(profile: Profile) -> tuple[int, int, int]:
    """Side of a picture, channels of the VAE's first level, values of a latent."""
    config = configurations(profile.models.unclip, "unclip")["vae"]
    channels = config["block_out_channels"]
    side = profile.models.image_size or config["sample_size"]
    latent = config["latent_channels"] * (side // 2 ** (len(channels) - 1)) ** 2
    return side, channels[0], latent
