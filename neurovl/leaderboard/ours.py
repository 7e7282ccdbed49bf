"""Our own encoders as systems of the comparison: the same interface, on the stored voxels of the common grid."""

import json
import time
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from neurovl.baselines.decoder import Card, Choice, Conditions, Decoder, FrozenParts, Predictions
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.encoder.alignment import fit_encoder, predict
from neurovl.encoder.variants import Variant, describe
from neurovl.encoder.vit3d import BrainEmbedding, BrainEncoder
from neurovl.language.dialogues import PROMPTS
from neurovl.leaderboard.fitting import MAIN, chosen_settings, questions, say, system_place
from neurovl.leaderboard.statements import Facts
from neurovl.run import Run
from neurovl.settings.sections import Alignment
from neurovl.stages import PROVENANCE
from neurovl.tokens.resize import Resizer, resize_nearest
from neurovl.tokens.store import TokenPlan

ENCODERS = {"neurovl": "main", "plain": "plain"}  # system -> encoder
REFERENCE = "Shen et al. 2024, NeurIPS"
COMMON = (
    Choice(
        "input",
        "volumes resized to one grid, 3-D patches of 14 voxels",
        "patches as the profile says",
    ),
    Choice("targets", "CLIP image embedding and VAE latent, squared errors with weight 1/64"),
    Choice(
        "generator", "unCLIP, start latent mixed with noise, beta .93, words of the language model"
    ),
    Choice("selection", "none is mentioned", "none", "paper"),
    Choice("number of models", "one for all subjects"),
)
CARDS = {
    "neurovl": Card(
        "neurovl",
        REFERENCE,
        "",
        (
            *COMMON,
            Choice(
                "map",
                "ViT3D of 16 layers, width 768",
                "ViT3D beside a linear readout of each subject, solved in closed form",
                "chosen",
            ),
            Choice(
                "training",
                "MixUp over the repeats of a picture",
                "besides, responses drawn from encoding models and a moving average of the weights",
                "chosen",
            ),
        ),
    ),
    "plain": Card(
        "The paper's ViT3D",
        REFERENCE,
        "",
        (
            *COMMON,
            Choice("map", "ViT3D of 16 layers, width 768", "sizes as the profile says", "paper"),
            Choice("training", "MixUp over the repeats of a picture", "", "paper"),
        ),
    ),
}


class GivenVoxels:
    """Training trials of some subjects as `encoder.alignment.fit_encoder` reads a token store."""

    def __init__(self, plan: TokenPlan, voxels: Mapping[str, SubjectVoxels]) -> None:
        self.plan, self.given = plan, list(voxels.values())
        self.n_voxels = len(plan.region)
        self.trials = pd.concat(
            [
                pd.DataFrame(
                    {"subject": one.subject, "image_id": one.image_ids, "repeat": one.repeats}
                )
                for one in self.given
            ],
            ignore_index=True,
        ).assign(split="train", session=1)
        self._first = np.cumsum([0, *map(len, self.given)])
        self.shape, self.columns, self.cut = plan.shape, plan.columns, plan.cut

    def voxels_at(self, index: np.ndarray) -> np.ndarray:
        """z-scores of trials, float32 (n, V), in the order asked for."""
        index = np.asarray(index)
        out = np.empty((len(index), self.n_voxels), np.float32)
        which = np.searchsorted(self._first, index, side="right") - 1
        for k in np.unique(which):
            rows = which == k
            out[rows] = self.given[k].read(index[rows] - self._first[k])
        return out


class Ours(Decoder):
    """An encoder of a run, or one that is trained anew in the same way on other trials.

    Parameters
    ----------
    run : Run
        Its token store, targets and settings.
    system : str
        'neurovl' or 'plain'.
    as_published : bool
        Of no meaning here.
    **settings
        Settings of `alignment` or `encoder` of the profile by name, instead of the run's; and `strength`, the noise strength of
        the start latent by the share of the sampler's steps that are done, instead of the paper's mixing by beta.
    """

    def __init__(self, run: Run, system: str, as_published: bool = False, **settings: Any) -> None:
        self.run, self.name, self.card = run, system, CARDS[system]
        self.as_published, self.settings = as_published, settings
        self.plan, self.encoder, self.speaks = run.store, None, False
        self.search = (
            SEARCH if system == "neurovl" else {k: SEARCH[k] for k in ("lr", "weight_decay")}
        )

    def variant(self) -> Variant:
        """What is trained, and how."""
        made = describe(ENCODERS[self.name], self.run.profile, self.run.store)
        ours = {f.name for f in fields(Alignment)}
        how = {k: v for k, v in self.settings.items() if k in ours}
        shape = {k: v for k, v in self.settings.items() if k not in ours and k != "strength"}
        return replace(
            made, settings=replace(made.settings, **how), shape=replace(made.shape, **shape)
        )

    def fit(
        self, voxels: Mapping[str, SubjectVoxels], targets: PictureFeatures, parts: FrozenParts
    ) -> Self:
        """Train an encoder on these trials; the targets are the run's own."""
        run = self.run
        self.encoder, _ = fit_encoder(
            GivenVoxels(self.plan, voxels),
            run.targets,
            self.variant(),
            seed=run.profile.seed,
            checkpoint=parts.checkpoint,
            compute=run.profile.compute,
        )
        return self._with(self.encoder, speaks=False)

    def take(self, encoder: BrainEncoder) -> Self:
        """Use the encoder of the run, whose hidden states the run's language model reads; it reads no others'."""
        return self._with(encoder, speaks=self.name == "neurovl" and self.run.has_captions)

    def _with(self, encoder: BrainEncoder, speaks: bool) -> Self:
        self.encoder, self.speaks = encoder, speaks
        self.n_models, self.n_parameters = 1, sum(q.numel() for q in encoder.parameters())
        return self

    def predict(self, voxels: SubjectVoxels) -> Predictions:
        """Embedding, latent and, for the language model, hidden states."""
        z = predict(self.encoder, self.plan.cut(voxels.read(), self.encoder.layout))
        said = {"clip_image": z.clip.numpy(), "hidden": z.hidden.numpy()}
        return said if z.vae is None else said | {"vae": z.vae.numpy()}

    def conditions(self, said: Predictions) -> Conditions:
        """The embedding, the words of the run's language model, and the latent: mixed with noise as the paper has it, or noised to `strength`."""
        start, strength = said.get("vae"), self.settings.get("strength")
        beta = self.run.profile.reconstruction.beta if start is not None else 1.0
        return Conditions(
            image=said["clip_image"],
            prompts=self._words(said, "reconstruction"),
            start=start,
            strength=beta if strength is None else strength,
            reading="mix" if strength is None else "strength",
        )

    def captions(self, said: Predictions, parts: FrozenParts) -> list[str] | None:
        """Brief captions by the run's language model, which reads the main encoder alone."""
        return self._words(said, "brief")

    def _words(self, said: Predictions, kind: str) -> list[str] | None:
        if not self.speaks:
            return None
        clip, vae, hidden = (
            torch.from_numpy(said[k]) if k in said else None
            for k in ("clip_image", "vae", "hidden")
        )
        longest = self.run.profile.language.max_new_tokens
        asked = [PROMPTS[kind][0]] * len(hidden)
        z = BrainEmbedding(clip, vae, hidden)
        return self.run.llm().generate(z, asked, max_new_tokens=longest)


SEARCH = {
    "lr": (5e-4, 1e-3, 2e-3),
    "weight_decay": (0.02, 0.2),
    "synthetic": (0.5, 0.8),
    "token_dropout": (0.0, 0.1),
}


def ours_in(run: Run) -> list[str]:
    """Which of our systems a run has."""
    return [name for name, encoder in ENCODERS.items() if encoder in run.profile.alignment.variants]


def stored_voxels(run: Run, split: str) -> dict[str, SubjectVoxels]:
    """The run's token store, subject by subject: resized voxels of the region that all subjects share."""
    store, found = run.store, {}
    mask = np.zeros(store.target, bool)
    mask.reshape(-1)[store.region] = True
    for subject in store.subjects:
        own = store.trials[(store.trials.subject == subject) & (store.trials.split == split)]
        if not len(own):
            continue
        rois = {
            name: resize_nearest(roi, store.target).reshape(-1)[store.region]
            for name, roi in run.recordings.rois(subject).items()
        }
        found[subject] = SubjectVoxels(
            subject,
            store.voxels_at(own.index.to_numpy()).astype(np.float16),
            own.image_id.to_numpy(str),
            own.repeat.to_numpy(int),
            mask,
            rois,
        )
    return found


def fit_ours(run: Run, name: str) -> None:
    """RUN/leaderboard/systems/neurovl or plain: what an encoder of the run says, which the run trained."""
    p, encoder = run.profile, ENCODERS[name]
    inputs = ["tokens", "targets", f"encoders/{encoder}"]
    inputs += ["llm"] if run.has_captions and name == "neurovl" else []
    strength = chosen_settings(run, name).get("strength")
    settings = {
        "noise": p.leaderboard.noise,
        "beta": p.reconstruction.beta,
        "strength": strength,
        "max_new_tokens": p.language.max_new_tokens,
    }
    with run.stage(system_place(name), fit_ours, settings, tuple(inputs)) as s:
        if s.done:
            return
        start = time.perf_counter()
        train, test = stored_voxels(run, "train"), stored_voxels(run, "test")
        drawn = {} if strength is None else {"strength": strength}
        decoder = Ours(run, name, **drawn).take(run.encoder(encoder, p.compute.device))
        noise_of = partial(resized_noise, run)
        asked = dict(questions(train, test, p.leaderboard.noise, p.seed, noise_of))
        say(decoder, FrozenParts(p.models, p.compute.device, p.seed), asked, s.dir / MAIN)
        trained = json.loads((run.folder / "encoders" / encoder / PROVENANCE).read_text())
        Facts(
            decoder.n_models,
            decoder.n_parameters,
            float(trained["seconds"]),
            time.perf_counter() - start,
            float(np.mean([len(one) for one in train.values()])),
            {"encoder": p.encoder.network(), "alignment": p.alignment.__dict__, **drawn},
        ).write(s.dir)


def resized_noise(run: Run, voxels: SubjectVoxels, rng: np.random.Generator) -> np.ndarray:
    """White noise on a subject's own grid, resized as its volumes are, float32 (n, V)."""
    store, subject = run.store, voxels.subject
    inside = store.measured(subject)
    resizer = Resizer(run.recordings.mask(subject).shape, store.target, store.region[inside])
    n_inputs = len(resizer.inputs)
    out = np.zeros((len(voxels), len(store.region)), np.float32)
    drawn = rng.standard_normal((len(voxels), n_inputs), np.float32)
    one, none = np.ones(n_inputs, np.float32), np.zeros(n_inputs, np.float32)
    out[:, inside] = resizer.from_inputs(drawn, one, none)
    return out
