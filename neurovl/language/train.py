"""Training of the brain language model in the paper's two stages (section 3), on the one training loop.

The paper trains all weights of the language model in stage 2; adapters (LoRA) in their place are our addition.
"""

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from neurovl.errors import ConfigError, DataError
from neurovl.language.adapters import add_adapters, recomputed
from neurovl.language.dialogues import Dialogue, collate, encode_dialogue
from neurovl.language.dialogues.encoding import IGNORED
from neurovl.language.model import BrainLLM
from neurovl.settings.sections import Language, Lora
from neurovl.training.loop import Part, Schedule, Validation, batch_rows, fit
from neurovl.training.validation import split_pictures

Encoded = tuple[list[int], list[int]]  # ids and labels of a dialogue


def fit_language(
    brain_llm: BrainLLM,
    hidden: Tensor | np.ndarray,
    pictures: Sequence,
    dialogues: Mapping[object, Sequence[Dialogue]],
    settings: Language,
    *,
    lora: Lora = Lora(),
    stages: Sequence[int] = (1, 2),
    seed: int = 0,
    checkpoint: Path | None = None,
    checkpointing: bool = False,
    device: str = "auto",
    trackers: tuple[str, ...] = (),
    logs: Path | None = None,
) -> list[dict]:
    """Train in place: in stage 1 the projector alone, in stage 2 projector and language model.

    In stage 2 what is trained is float32, whatever it was loaded in: a step of 2e-5 is lost in the rounding of bf16. Computed
    is in `settings.precision`. With `settings.method` 'lora' adapters are trained in the language model's place and left
    beside its weights, see `adapters.merge_adapters`.

    A training that was interrupted continues from the checkpoint, in the stage where it was.

    Parameters
    ----------
    brain_llm : BrainLLM
    hidden : Tensor or array (n_trials, N + 1, D)
        The encoder's penultimate layer, or anything with that shape which gives the rows of an array of numbers, such
        as an array on disk; may be float16.
    pictures : sequence (n_trials,)
        For each trial the key of its picture in `dialogues`.
    dialogues : mapping of picture key to list of Dialogue
    settings : Language
    lora : Lora
        Of the adapters, where `settings.method` is 'lora'.
    stages : sequence of int
        Which of the two, in their order.
    seed : int
        Fixes trials and dialogues, and with `settings.validation` the pictures to watch: the encoder's, where it has the
        same seed and share.
    checkpoint : Path, optional
        Folder of the checkpoints, one a stage below it.
    checkpointing : bool
        Compute the language model's layers again on the way back instead of keeping what they computed.
    device, trackers, logs
        See `training.loop.fit`.

    Returns
    -------
    list of dict
        The curve of `training.loop.fit`, each point with its stage.

    Raises
    ------
    ConfigError
        Unknown stage, a batch that cannot be divided, or a share to watch that leaves nothing.
    DataError
        `pictures` does not fit `hidden`, or a picture has no dialogue.

    Examples
    --------
    >>> from neurovl.foundation.llm import load_llm
    >>> from neurovl.language import BrainLLM, Projector, fit_language
    >>> from neurovl.language.dialogues import dialogues
    >>> from neurovl.settings.sections import Language
    >>> hidden = run.encode(subject=1, image_id=run.test_images(1)[0]).hidden
    >>> llm, tokenizer = load_llm("tiny", device="cpu")
    >>> model = BrainLLM(llm, tokenizer, Projector(hidden.shape[-1], llm.config.hidden_size))
    >>> dog = {"category": "dog", "supercategory": "animal", "box": (0.1, 0.2, 0.6, 0.9)}
    >>> talks = dialogues(["A dog sleeps on the grass."], [dog], np.random.default_rng(0))
    >>> short = Language(steps=(1, 1), batch_size=(1, 1), precision="no")
    >>> curve = fit_language(model, hidden, ["a"], {"a": talks}, short, device="cpu")
    >>> sorted(curve[0])
    ['loss', 'lr', 'stage', 'step']
    """
    if not set(stages) <= {1, 2}:
        raise ConfigError(
            f"the stages are {list(stages)}, expected 1 (projector) or 2 (projector and LLM)"
        )
    lessons = Lessons(brain_llm, hidden, pictures, dialogues)
    trials = pd.DataFrame({"image_id": lessons.pictures})
    seen, watched = (
        part.index.to_numpy(copy=True)
        for part in split_pictures(trials, settings.validation, seed, "language")
    )
    lessons_seen = lessons.epoch(seen, settings.epoch)
    steps, curve = settings.steps_for(len(lessons_seen)), []
    for stage in stages:
        adapted = stage == 2 and settings.method == "lora"
        _choose_trained(brain_llm, stage, lora if adapted else None, seed)
        batch_size, own_seed = settings.batch_size[stage - 1], seed + stage
        validation = None
        if len(watched):
            loss = lessons.watched_loss(watched, batch_size, seed)
            validation = Validation(
                loss, max(1, len(lessons_seen) // batch_size), settings.patience
            )
        with recomputed(brain_llm.llm) if checkpointing else contextlib.nullcontext():
            points = fit(
                brain_llm,
                lessons.loss_at(lessons_seen, batch_size, own_seed),
                Schedule(
                    steps[stage - 1],
                    lora.lr if adapted else settings.lr[stage - 1],
                    weight_decay=0.0,
                    precision=settings.precision,
                    accumulate=settings.accumulate[stage - 1],
                ),
                seed=own_seed,
                checkpoint=None if checkpoint is None else checkpoint / f"stage{stage}",
                device=device,
                describe=f"language stage {stage}",
                validation=validation,
                trackers=trackers,
                logs=logs,
                # Eight devices of 80 GB hold what one, or a copy on each, cannot: 16 bytes a weight.
                divided=stage == 2 and not adapted,
            )
        curve += [{"stage": stage, **point} for point in points]
    return curve


def _choose_trained(brain_llm: BrainLLM, stage: int, lora: Lora | None, seed: int) -> None:
    """Give a gradient to the projector, and in stage 2 to the language model or its adapters, then in float32."""
    brain_llm.projector.requires_grad_(True)
    brain_llm.llm.requires_grad_(stage == 2 and lora is None)
    if lora is not None:
        add_adapters(brain_llm.llm, lora, seed)
    elif stage == 2:
        brain_llm.llm.float()


class Lessons:
    """Trials with dialogues about their pictures, as the language model learns from them.

    Parameters
    ----------
    brain_llm, hidden, pictures, dialogues
        See `fit_language`.
    """

    def __init__(
        self,
        brain_llm: BrainLLM,
        hidden: Tensor | np.ndarray,
        pictures: Sequence,
        dialogues: Mapping[object, Sequence[Dialogue]],
    ) -> None:
        self.hidden, self.pictures, self.dialogues = hidden, list(pictures), dialogues
        brain_llm.check_hidden(hidden.shape, len(self.pictures), "trials")
        bare = sorted({str(key) for key in self.pictures if not dialogues.get(key)})
        if bare:
            raise DataError(
                f"{len(bare)} pictures have no dialogue (first: {bare[0]}), expected one at least for each "
                "trial's picture; drop these trials or give the pictures captions"
            )
        tokenizer, n_brain = brain_llm.tokenizer, hidden.shape[1]
        self.pad_id = tokenizer.pad_token_id
        self._encode = functools.cache(lambda talk: encode_dialogue(tokenizer, talk, n_brain))

    def epoch(self, trials: np.ndarray, kind: str) -> np.ndarray:
        """What comes once in an epoch, array of int, shape (n, 2): a trial, and which of its picture's dialogues, -1 for any.

        Parameters
        ----------
        trials : array of int
        kind : str
            'trials', or 'pairs' of trial and dialogue.
        """
        if kind == "trials":
            return np.stack([trials, np.full_like(trials, -1)], 1)
        counts = [len(self.dialogues[self.pictures[row]]) for row in trials]
        return np.stack([np.repeat(trials, counts), np.concatenate([*map(np.arange, counts)])], 1)

    def loss_at(
        self, lessons: np.ndarray, batch_size: int, seed: int
    ) -> Callable[[nn.Module, int, Part], Tensor]:
        """The loss that `training.loop.fit` asks for: batches of `epoch` by seed and step alone.

        A part's mean over its tokens counts as much as it has of the batch's tokens, so that the mean over the parts is
        that over the whole batch.
        """

        def loss_of_part(model: nn.Module, step: int, part: Part) -> Tensor:
            rows, chosen = lessons[batch_rows(len(lessons), batch_size, step, seed)].T
            # Drawn for the whole batch, so that its parts together are the batch.
            whole = self._draw(rows, np.random.default_rng([seed, step, 1]), chosen)
            own = part.of(whole)
            weight = part.count * _answer_tokens(own) / _answer_tokens(whole)
            return weight * self._loss(model, part.of(rows), own)

        return loss_of_part

    def watched_loss(
        self, trials: np.ndarray, batch_size: int, seed: int
    ) -> Callable[[nn.Module], float]:
        """The mean loss over the answers' tokens of trials to watch, each with one dialogue that stays the same."""
        encoded = self._draw(trials, np.random.default_rng([seed, 29]))

        @torch.no_grad()
        def loss(model: nn.Module) -> float:
            total = 0.0
            for start in range(0, len(trials), batch_size):
                part = slice(start, start + batch_size)
                mean = float(self._loss(model, trials[part], encoded[part]))
                total += mean * _answer_tokens(encoded[part])
            return total / _answer_tokens(encoded)

        return loss

    def _draw(
        self, rows: np.ndarray, rng: np.random.Generator, chosen: np.ndarray | int = -1
    ) -> list[Encoded]:
        """For each trial one of its picture's dialogues: the one chosen, or where that is -1 any."""
        options = [self.dialogues[self.pictures[row]] for row in rows]
        chosen = np.where(chosen < 0, rng.integers([len(those) for those in options]), chosen)
        return [self._encode(those[k]) for those, k in zip(options, chosen, strict=True)]

    def _loss(self, model: nn.Module, rows: np.ndarray, encoded: Sequence[Encoded]) -> Tensor:
        return model(torch.as_tensor(self.hidden[rows]), **collate(encoded, self.pad_id))


def _answer_tokens(encoded: Sequence[Encoded]) -> int:
    return sum(label != IGNORED for _, labels in encoded for label in labels)
