"""What `neurovl compare --systems all` takes beside a run, and what `--controls` adds to it: a coarse count.

Counted: features of all pictures, the captioner, the fit of every built-in system (`system_fits`), pictures and captions of
averages, of single trials and as published; with `--controls` the trainings of every system that predicts a CLIP embedding, and
pictures of mean brains. Left out: features of captions, systems of other packages, scores, reading and writing files; of
memory, OneLLM's frozen language model, since the captioner trains the same one and needs more.

Assumed: features and captioner are made on one card, and several cards share all else evenly, though each system is fitted and
painted on one; ridge regressions reach the rate of networks, though they compute in float32 and float64.
"""

from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING

from neurovl.baselines.decoder import Decoder
from neurovl.baselines.registry import BUILT_IN, find
from neurovl.doctor.encoder_needs import encoder_need
from neurovl.doctor.heads import masks_for
from neurovl.doctor.language_needs import language_needs, tokens_read
from neurovl.doctor.needs import PNG, sampling
from neurovl.doctor.operations import (
    Work,
    clip_operations,
    encoder_work,
    language_work,
    picture_operations,
    spoken,
    unclip_operations,
)
from neurovl.doctor.sizes import F16, F32, SHOWN, Need, Sizes, vae_sizes
from neurovl.doctor.system_fits import Fit, Seen, feature_shapes, fit_of, settings_of
from neurovl.foundation.model_facts import configurations, parameters
from neurovl.language.llm_variants import language_variant
from neurovl.leaderboard.controls import MEAN_PICTURES
from neurovl.leaderboard.ours import ENCODERS
from neurovl.leaderboard.retraining import REGIONS
from neurovl.settings.language import Language
from neurovl.settings.sections import Profile

if TYPE_CHECKING:
    from neurovl.recordings.base import Recordings

COMPARE, CONTROLS = "compare", "compare --controls"
PICTURES = "pictures"  # the variant of the language model that reads what the captioner does
TRAININGS = 1 + len(REGIONS)  # of the controls: without two categories, and from some regions alone
# Written of each picture: dealt out, of a mean brain, the nearest of training, blurred.
CONTROL_PICTURES = 4
HALVED = 0.57  # of what is kept for the way back, where matrices are multiplied in 16 bits


@dataclass(frozen=True)
class System:
    """What the comparison does with one system.

    Attributes
    ----------
    name : str
    fit : Fit
        Of one training.
    trainings : int
        0 of ours, which the run trained.
    embeds : bool
        Whether it predicts a CLIP embedding, so that the controls train it again.
    values : int
        Numbers that it says of a row.
    published : bool
        Whether it has a row as published.
    samples : int
        Pictures that are painted of each test picture and subject; 0 of a system without pictures.
    share : float
        Of the sampler's steps that are done.
    asked, tokens : float
        Questions to the language model, and the tokens of each that stand for the picture.
    """

    name: str
    fit: Fit
    trainings: int
    embeds: bool
    values: int
    published: bool
    samples: int
    share: float
    asked: float
    tokens: int


def comparison(
    profile: Profile, sizes: Sizes, recordings: "Recordings | None" = None
) -> "Comparison | None":
    """The comparison of a profile; None without pictures, or without tokens of them: CLIP's tower is no vision transformer."""
    tower = configurations(profile.models.clip, "clip")["clip"]["vision_cfg"]
    possible = sizes.has_images and {"patch_size", "width"} <= set(tower)
    return Comparison(profile, sizes, recordings) if possible else None


class Comparison:
    """Both stages' work and needs; `comparison` says whether there is one.

    Parameters
    ----------
    profile : Profile
    sizes : Sizes
    recordings : Recordings, optional
        Of the data that would be used; without them the sizes of the data that the profile names are taken.
    """

    def __init__(
        self, profile: Profile, sizes: Sizes, recordings: "Recordings | None" = None
    ) -> None:
        self.profile, self.sizes = profile, sizes
        self.images = min(sizes.test, profile.leaderboard.images or sizes.test)
        self.seen = _seen(profile, sizes, recordings)
        self.llm = parameters(profile.models.llm, "llm").get("llm") or 0
        self.values = {k: prod(shape) for k, shape in feature_shapes(profile).items()}
        ours = [k for k, encoder in ENCODERS.items() if encoder in profile.alignment.variants]
        self.systems = [*map(self._ours, ours), *map(self._other, BUILT_IN)]

    def works(self) -> list[Work]:
        """What both stages compute; several parts of the first."""
        p, s, unclip = self.profile, self.sizes, unclip_operations(self.profile)
        features = s.pictures * (clip_operations(p) + unclip["encoder"])
        captioner = language_work(self._captioner(), s, PICTURES)[:2]
        alone = features + sum(one.operations for one in captioner)
        shared = sum(one.trainings * one.fit.operations for one in self.systems)
        again = TRAININGS * sum(one.fit.operations for one in self.systems if one.embeds)
        for one in self.systems:
            picture = s.subjects * picture_operations(p, unclip, one.share)
            shared += one.samples * self.images * picture
            again += min(MEAN_PICTURES, self.images) * picture * (one.samples > 0)
        said = [
            spoken(COMPARE, p, p.models.llm, one.asked, one.tokens)
            for one in self.systems
            if one.asked
        ]
        return [
            Work(COMPARE, alone),
            Work(COMPARE, shared, shared=True),
            *(replace(one, shared=True) for one in said),
            Work(CONTROLS, again, shared=True),
        ]

    def needs(self, half: bool) -> list[Need]:
        """Memory and disk of both stages; `half` says whether the device computes in bf16."""
        p, s, v = self.profile, self.sizes, self.values
        captioner = language_needs(self._captioner(), s, half, language_variant(PICTURES))
        halved = HALVED if half else 1
        fits = [one.fit.held + halved * one.fit.kept for one in self.systems if one.trainings]
        again = [one.fit.held + halved * one.fit.kept for one in self.systems if one.embeds]
        painting = sampling(p, s, half).device
        painters = [one for one in self.systems if one.samples]
        # The pictures of one system and protocol; what each system says of a row of every subject.
        png = PNG * 3 * vae_sizes(p)[0] ** 2 * s.subjects * self.images
        said = {one.name: F16 * s.subjects * one.values for one in self.systems}
        disk = F16 * (s.pictures * sum(v.values()) + s.trials * self.seen.voxels) + F32 * self.llm
        disk += png * sum(2 + one.published for one in painters)
        for one in self.systems:
            disk += said[one.name] * (self.seen.asked + 2 * s.test * one.published)
        trained = TRAININGS * s.test * sum(said[one.name] for one in self.systems if one.embeds)
        return [
            Need(
                COMPARE,
                device=max(*(one.device for one in captioner), *fits, painting),
                # The captioner's tokens of the training pictures, as they are read.
                memory=(F32 + F16) * (s.pictures - s.test) * v["patch_tokens"],
                disk=disk,
            ),
            Need(
                CONTROLS,
                device=max(*again, painting),
                disk=png * CONTROL_PICTURES * len(painters) + trained,
            ),
        ]

    def _captioner(self) -> Profile:
        """The profile as the captioner is trained, see `leaderboard.shared_inputs.train_captioner`."""
        own = self.profile.leaderboard
        batch = (own.captioner_batch_size,) * 2
        return replace(self.profile, language=Language(own.captioner_steps, batch_size=batch))

    def _ours(self, name: str) -> System:
        """One of our encoders, and the words of the run's language model for what it reads."""
        p, s, encoder = self.profile, self.sizes, ENCODERS[name]
        alone = replace(s, encoders={encoder: 1})
        fit = Fit(encoder_work(p, alone).operations, encoder_need(p, alone).device)
        strength = p.leaderboard.settings.get(name, {}).get("strength", 1.0)
        return System(
            name,
            fit,
            trainings=0,
            embeds=True,
            values=self.values["clip_image"] + self.values["vae"],
            published=False,
            samples=2,
            share=strength,
            asked=2 * s.subjects * (2 * s.test + 1) * (name == "neurovl"),
            tokens=tokens_read(p, s, language_variant("main"))[0],
        )

    def _other(self, name: str) -> System:
        p, s, kind = self.profile, self.sizes, find(name)
        own, published = settings_of(p, name), bool(kind.card.as_published)
        asked, tokens = 0, feature_shapes(p)["patch_tokens"][0]
        if kind.speaks_from is not Decoder.speaks_from:
            asked = s.subjects * self.images * (2 + published)
        elif kind.captions is not Decoder.captions:  # by itself, of all that it is asked
            asked, tokens = s.subjects * (2 * s.test + 1), own["queries"]
        paints = kind.conditions is not Decoder.conditions
        return System(
            name,
            fit_of(name, p, self.seen),
            trainings=1 + (published and kind.published_refit),
            embeds="clip_image" in kind.needs,
            values=sum(self.values[one] for one in kind.needs),
            published=published,
            samples=paints * (2 + published * own.get("samples", 1)),
            share=own.get("strength", 1.0),
            asked=asked,
            tokens=tokens,
        )


def _seen(profile: Profile, s: Sizes, recordings: "Recordings | None") -> Seen:
    masks = list(masks_for(profile, recordings)[0].values())
    voxels = round(sum(int(mask.sum()) for mask in masks) / len(masks))
    trials, pictures = s.train / s.subjects, s.train / s.subjects / SHOWN
    if recordings is not None:
        seen = recordings.trials[recordings.trials.split == "train"]
        pictures = float(seen.groupby("subject").image_id.nunique().mean())
    asked = (2 + len(profile.leaderboard.noise)) * s.test + 1
    return Seen(s.subjects, voxels, trials, pictures, asked, masks[0])
