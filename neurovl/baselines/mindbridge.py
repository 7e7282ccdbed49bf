"""MindBridge (Wang et al. 2024): one model for all subjects, with an embedder and a builder for each; new subjects."""

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from neurovl.baselines.decoder import (
    Card,
    Choice,
    Conditions,
    Decoder,
    FrozenParts,
    Predictions,
)
from neurovl.baselines.picture_features import PictureFeatures
from neurovl.baselines.repeat_batches import RepeatBatches, one_cycle, seeded
from neurovl.baselines.subject_bridge import BridgeModel, pooled, reading_loss
from neurovl.baselines.subject_voxels import SubjectVoxels
from neurovl.errors import DataError
from neurovl.training.devices import choose_device
from neurovl.training.loop import Part, fit

AT_A_TIME = 256  # rows predicted together
TARGETS = ("image_tokens", "text_states")


class MindBridge(Decoder):
    """One model of all subjects.

    References
    ----------
    Wang et al. 2024, MindBridge: a cross-subject brain decoding framework, CVPR;
    https://github.com/littlepure2333/MindBridge.
    """

    name = "mindbridge"
    card = Card(
        title="MindBridge",
        reference="Wang et al. 2024, MindBridge: a cross-subject brain decoding framework, CVPR",
        code="https://github.com/littlepure2333/MindBridge",
        choices=(
            Choice(
                "input",
                "nsdgeneral voxels, flattened, z-scored by session, max-pooled by order to 8192; training takes one "
                "repeat a batch, test the mean of three",
                "the subject's own mask, z-scored by training trials; the length is a setting",
            ),
            Choice(
                "map",
                "for each subject an embedder (adapter of 128, layer to 2048) and a builder back; shared 4 residual "
                "blocks of width 2048, linear heads to 257 image tokens and 77 text tokens",
                "heads to the tokens here",
            ),
            Choice(
                "loss",
                "for image and text SoftCLIP (temperature .005) + 1e4 times the squared error of flattened unit vectors; "
                "+ squared errors of rebuilt voxels and of the cycle through another subject",
                "the contrast is over the rows of all subjects together",
            ),
            Choice(
                "text",
                "one caption of the picture, its number that of the repeat",
                "the mean over its captions",
                "chosen",
            ),
            Choice(
                "training",
                "AdamW, OneCycle to 1.5e-4, 600 epochs of batches of 50 a subject; half precision",
                "warm-up of two epochs and half a cosine; gradients clipped to length 1; half precision where the "
                "device multiplies in it; an epoch is that of the subject with the most pictures",
            ),
            Choice(
                "augmentation",
                "of the picture, before CLIP: crops and colours",
                "left out: CLIP sees each picture once",
                "chosen",
            ),
            Choice(
                "predicts",
                "image tokens and text tokens, divided by the length of the first",
                "image tokens so; text states with the mean length of the training pictures' states; the first image token, "
                "with the mean length of embeddings, is the image embedding",
                "chosen",
            ),
            Choice(
                "generator",
                "Versatile Diffusion from image and text, .5 each, 20 steps, guidance 5, from noise",
                "the generator of all systems, from image embedding and text states, from noise",
            ),
            Choice(
                "selection",
                "of 8 samples the one closest to the picture that was seen",
                "as published: the same, a leak; main row: none",
            ),
            Choice(
                "new subject",
                "a new embedder and builder, all else frozen, 200 epochs, batches mixed with those of a known subject",
                "without batches of known subjects: the cycle goes through their frozen builders and embedders",
                "chosen",
            ),
            Choice("number of models", "one for all subjects"),
        ),
        as_published="of 8 samples the one closest to the true picture is kept, which nobody has who decodes; the main row "
        "has one sample as all systems",
        lacking=("Versatile Diffusion",),
    )
    defaults: ClassVar[dict[str, Any]] = {
        "length": 8192,
        "width": 2048,
        "adapter": 128,
        "blocks": 4,
        "dropout": 0.5,
        "block_dropout": 0.15,
        "temperature": 0.005,
        "regression_weight": 1e4,
        "lr": 1.5e-4,
        "weight_decay": 0.01,
        "epochs": 600,
        "batch_size": 50,
        "new_subject_epochs": 200,
        "samples": 8,
        "precision": "auto",
    }
    search: ClassVar[dict[str, tuple]] = {
        "lr": (1.5e-4, 5e-4, 1.5e-3),
        "dropout": (0.2, 0.5, 0.7),
        "regression_weight": (1e3, 1e4, 1e5),
    }
    needs = ("clip_image", *TARGETS)

    def fit(
        self, voxels: Mapping[str, SubjectVoxels], targets: PictureFeatures, parts: FrozenParts
    ) -> "MindBridge":
        """See `Decoder.fit`."""
        self.device = choose_device(parts.device)
        shapes = {name: targets.shape(name) for name in TARGETS}
        self.model = seeded(parts.seed, BridgeModel, list(voxels), shapes, self.settings)
        pictures = sorted({str(image) for own in voxels.values() for image in own.image_ids})
        self.lengths = {
            name: _mean_length(targets, name, pictures) for name in ("clip_image", "text_states")
        }
        self.trained_on = list(voxels)
        self.n_parameters = self._train(voxels, targets, parts, "epochs")
        self.n_models = 1
        return self

    def fit_new_subject(
        self, voxels: SubjectVoxels, targets: PictureFeatures, parts: FrozenParts
    ) -> "MindBridge":
        """See `Decoder.fit_new_subject`: an embedder and a builder are added to this one, all else stays as it is.

        Raises
        ------
        DataError
            The subject is one of those that the model was trained on.
        """
        subject = voxels.subject
        if subject in self.trained_on:
            raise DataError(
                f"{subject} is one of the subjects that MindBridge was trained on, expected another one than "
                f"{', '.join(self.trained_on)}: fit without it first"
            )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(parts.seed)
            self.model.requires_grad_(False).add(subject)
        self.n_parameters += self._train({subject: voxels}, targets, parts, "new_subject_epochs")
        return self

    def _train(
        self,
        voxels: Mapping[str, SubjectVoxels],
        targets: PictureFeatures,
        parts: FrozenParts,
        epochs: str,
    ) -> int:
        """Train what requires a gradient, of so many numbers."""
        one = self.settings
        batches = [
            RepeatBatches(own, targets, one["batch_size"], parts.seed) for own in voxels.values()
        ]
        steps = max(own.steps(one[epochs]) for own in batches)

        def loss_at(net: nn.Module, step: int, part: Part) -> dict[str, torch.Tensor]:
            device = next(net.parameters()).device
            chosen = [own.at(step, part) for own in batches]
            x = {
                own.voxels.subject: pooled(own.trials(rows, step), one["length"]).to(device)
                for own, rows in zip(batches, chosen, strict=True)
            }
            true = {
                name: torch.cat(
                    [own.target(name, rows) for own, rows in zip(batches, chosen, strict=True)]
                ).to(device)
                for name in TARGETS
            }
            said, rebuilt, cycle = net(x, _bridge(list(x), self.trained_on))
            read = reading_loss(said, true, one["temperature"], one["regression_weight"])
            return {"loss": read + rebuilt + cycle, "read": read, "built": rebuilt, "cycle": cycle}

        fit(
            self.model,
            loss_at,
            one_cycle(one, steps, one[epochs], one["lr"]),
            seed=parts.seed,
            checkpoint=parts.checkpoint,
            device=parts.device,
            describe=f"MindBridge, {', '.join(voxels)}",
        )
        self.model.cpu()
        return sum(p.numel() for p in self.model.parameters() if p.requires_grad)

    @torch.no_grad()
    def predict(self, voxels: SubjectVoxels) -> Predictions:
        """'image_tokens', divided by the length of the first, 'clip_image' from it, and 'text_states'."""
        known = list(self.model.embedders)
        if voxels.subject not in known:
            raise DataError(
                f"MindBridge has no embedder of {voxels.subject}, expected one of {', '.join(known)}: fit it to this subject "
                "too, or fit_new_subject"
            )
        model = self.model.to(self.device)
        found: dict[str, list[np.ndarray]] = {name: [] for name in TARGETS}
        for start in range(0, len(voxels), AT_A_TIME):
            rows = np.arange(start, min(start + AT_A_TIME, len(voxels)))
            x = pooled(torch.from_numpy(voxels.read(rows)), self.settings["length"])
            for name, value in model.read(
                model.embedders[voxels.subject](x.to(self.device))
            ).items():
                found[name].append(value.float().cpu().numpy())
        model.cpu()
        tokens, states = (np.concatenate(found[name]) for name in TARGETS)
        length = np.linalg.norm(tokens[:, :1], axis=2, keepdims=True)
        tokens = tokens / length
        whole = np.sqrt((states**2).sum((1, 2), keepdims=True))
        return {
            "image_tokens": tokens,
            "clip_image": tokens[:, 0] * self.lengths["clip_image"],
            "text_states": states / whole * self.lengths["text_states"],
        }

    def conditions(self, said: Predictions) -> Conditions:
        """The image embedding and the states of the text, from noise."""
        return Conditions(
            image=said["clip_image"],
            text=said["text_states"],
            samples=self.settings["samples"] if self.as_published else 1,
            kept_by="true picture" if self.as_published else "",
        )


def _mean_length(targets: PictureFeatures, name: str, pictures: list[str]) -> float:
    lengths = []
    for start in range(0, len(pictures), AT_A_TIME):
        some = targets.of(name, pictures[start : start + AT_A_TIME])
        lengths.append(np.linalg.norm(some.reshape(len(some), -1), axis=1))
    return float(np.concatenate(lengths).mean())


def _bridge(subjects: list[str], others: list[str]) -> tuple[str, str]:
    """From one subject of the batch to another one; to itself where there is no other."""
    begin = subjects[int(torch.randint(len(subjects), ()))]
    ends = [other for other in others if other != begin] or [begin]
    return begin, ends[int(torch.randint(len(ends), ()))]
