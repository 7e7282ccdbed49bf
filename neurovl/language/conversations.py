"""Conversations about several brains side by side, with one key-value cache that lasts over the turns.

What was read and said stays in the cache: a further question costs its own tokens alone. Rows need not be equally long; a
column that is no row's token is masked there, and positions are counted without it.

Left out: how a brain becomes embeddings (`model`), one conversation for a person (`chat`).
"""

import functools
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicLayer

from neurovl.errors import ConfigError, DataError
from neurovl.language.dialogues import prompt_ids

if TYPE_CHECKING:
    from neurovl.encoder.vit3d import BrainEmbedding
    from neurovl.language.model import BrainLLM

ROOM = 24  # columns; a buffer that is full grows by half, at least by so many


@dataclass(frozen=True)
class Speaking:
    """How answers are given.

    Parameters
    ----------
    max_new_tokens : int
        Where an answer is cut off.
    temperature : float
        0: the likeliest token at each step; else tokens are drawn from softmax(scores / temperature).
    stop : tuple of str
        An answer ends before the first of these.
    system : str
        Said to the language model after the picture, before the first question.
    seed : int
        With a row's place it fixes every draw.

    Raises
    ------
    ConfigError
        No token, a temperature below 0, or an empty text to stop at.

    Examples
    --------
    >>> from neurovl.language import Speaking
    >>> Speaking(max_new_tokens=20, temperature=0.7, stop=(".",)).seed
    0
    """

    max_new_tokens: int = 80
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    system: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_new_tokens < 1 or self.temperature < 0 or "" in self.stop:
            raise ConfigError(
                f"max_new_tokens is {self.max_new_tokens}, temperature {self.temperature} and stop {list(self.stop)}, expected "
                "at least 1, at least 0, and no empty text"
            )


GREEDY = Speaking()


class Conversations:
    """Conversations about some brains, a row each.

    The brains are read when the conversations begin. `take` copies rows, also several times: many questions about a brain
    read it once.

    Parameters
    ----------
    model : BrainLLM
    z : BrainEmbedding or Tensor (n, N + 1, D)
        What the encoder reads, or brain tokens.
    speaking : Speaking
    turns : sequence of turns ((question, answer), ...), optional
        What was said before in each.

    Attributes
    ----------
    turns : list of list of (question, answer)
        What was said so far, row by row.
    likelihoods : list of list of float
        Of the last answers, row by row: the logarithm of the probability that each token had, the one that ends it included.

    Examples
    --------
    >>> from neurovl.language import Conversations, Speaking
    >>> z = run.encode(subject=1, image_id=run.test_images(1)[0])
    >>> begun = Conversations(run.llm(), z, Speaking(max_new_tokens=4))
    >>> both = begun.take([0, 0])
    >>> len(both.ask(["Is there a dog?", "Is there a car?"]))
    2
    """

    def __init__(
        self,
        model: "BrainLLM",
        z: "BrainEmbedding | Tensor",
        speaking: Speaking = GREEDY,
        turns: Sequence[Sequence[tuple[str, str]]] | None = None,
    ) -> None:
        self.model, self.speaking = model.eval(), speaking
        hidden = model.read(z)
        self.n_brain = hidden.shape[1]
        self.turns = [list(row) for row in turns] if turns else [[] for _ in hidden]
        self.likelihoods: list[list[float]] = [[] for _ in hidden]
        self._ids: list[list[int]] = [[] for _ in hidden]  # of each row's columns that count
        self._mask = torch.zeros(len(hidden), 0, dtype=torch.bool, device=model.device)
        self._cache = Cache(layer_class_to_replicate=RoomyLayer)
        first = prompt_ids(model.tokenizer, (), "?", self.n_brain, context=speaking.system)
        shared = len(first) - first[::-1].index(model.image_id)
        self._read([first[:shared]] * len(hidden), hidden)

    def __len__(self) -> int:
        return len(self.turns)

    def take(self, rows: Sequence[int]) -> Self:
        """A copy of some rows as they stand."""
        other = object.__new__(type(self))
        other.model, other.speaking, other.n_brain = self.model, self.speaking, self.n_brain
        other.turns = [list(self.turns[k]) for k in rows]
        other.likelihoods = [list(self.likelihoods[k]) for k in rows]
        other._ids = [list(self._ids[k]) for k in rows]
        index = torch.as_tensor(list(rows), device=self._mask.device)
        other._mask = self._mask[index]
        other._cache = Cache(layers=[layer.taken(index) for layer in self._cache.layers])
        return other

    def ask(self, questions: Sequence[str]) -> list[str]:
        """Ask each row a question; the answers, which the rows remember."""
        for _ in self._speak(questions):
            pass
        return [row[-1][1] for row in self.turns]

    def stream(self, questions: Sequence[str]) -> Iterator[list[str]]:
        """The answers of `ask` as they grow: after each token the whole text so far, row by row."""
        for said in self._speak(questions):
            yield [self._text(ids) for ids in said]
        yield [row[-1][1] for row in self.turns]

    @torch.inference_mode()
    def _speak(self, questions: Sequence[str]) -> Iterator[list[list[int]]]:
        """The ids of the answers after each token; at last the turn is remembered."""
        if len(questions) != len(self):
            raise DataError(f"got {len(questions)} questions, expected {len(self)}, one a row")
        how, ends = self.speaking, set(self.model.end_ids)
        rngs = [
            np.random.default_rng([how.seed, k, len(turns)])
            for k, turns in enumerate(self.turns)
            if how.temperature
        ]
        scores = self._listen(questions)
        said: list[list[int]] = [[] for _ in questions]
        self.likelihoods = [[] for _ in questions]
        part, rows = self, list(range(len(self)))  # who is still read, and which rows these are
        live = set(rows)
        for step in range(how.max_new_tokens):
            chosen = self._choose(scores, [rngs[k] for k in rows if rngs])
            known = scores.log_softmax(-1).gather(1, chosen[:, None])[:, 0].tolist()
            chosen = chosen.tolist()
            for k, token, likelihood in zip(rows, chosen, known, strict=True):
                if k in live:
                    said[k].append(token)
                    self.likelihoods[k].append(likelihood)
                    if token in ends or self._stopped(said[k]):
                        live.remove(k)
            yield said
            if not live or step + 1 == how.max_new_tokens:
                break
            if 2 * len(live) <= len(rows):
                # What is read from here on is not in the cache of `self`; a next turn reads it again.
                kept = [at for at, k in enumerate(rows) if k in live]
                part, rows = part.take(kept), [rows[at] for at in kept]
                chosen = [chosen[at] for at in kept]
            # A row that has ended reads on, which costs nothing here; a next turn forgets it, as it is not in the prompt.
            scores = part._read([[token] for token in chosen])
        for row, question, ids in zip(self.turns, questions, said, strict=True):
            row.append((question, self._text(ids)))

    def _listen(self, questions: Sequence[str]) -> Tensor:
        """Read what is new of each row's prompt; the scores of what may follow."""

        @functools.cache
        def prompt(question: str, *turns: tuple[str, str]) -> list[int]:
            system = self.speaking.system
            return prompt_ids(self.model.tokenizer, turns, question, self.n_brain, context=system)

        new = []
        for k, question in enumerate(questions):
            ids = prompt(question, *map(tuple, self.turns[k]))
            both = zip(ids, self._ids[k], strict=False)
            same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], both))
            self._forget(k, same)
            new.append(ids[same:])
        return self._read(new)

    def _forget(self, row: int, kept: int) -> None:
        """Mask what a row holds after its first tokens: an answer's text may be written in other tokens than it was said in."""
        if kept < len(self._ids[row]):
            self._mask[row, self._mask[row].nonzero()[kept:, 0]] = False
            self._ids[row] = self._ids[row][:kept]

    @torch.inference_mode()
    def _read(self, new: Sequence[Sequence[int]], hidden: Tensor | None = None) -> Tensor:
        """Take further tokens into the cache; float32 scores (n, vocabulary) of what follows each row's last.

        `<image>`, which is never said, has no probability.
        """
        model, width = self.model, max(map(len, new))
        pad = model.tokenizer.pad_token_id
        ids = torch.tensor([[*[pad] * (width - len(row)), *row] for row in new]).to(model.device)
        counts = torch.tensor([[False] * (width - len(row)) + [True] * len(row) for row in new])
        for known, row in zip(self._ids, new, strict=True):
            known += row
        self._mask = torch.cat([self._mask, counts.to(model.device)], 1)
        places = (self._mask.cumsum(1) - 1).clamp(min=0)[:, -width:]
        words = model.llm.get_input_embeddings()
        embeds = words(ids) if hidden is None else model.embed(ids, hidden)
        out = model.llm(
            inputs_embeds=embeds,
            attention_mask=None if self._mask.all() else self._mask.long(),
            use_cache=True,
            logits_to_keep=1,
            **_named(model.llm, self._cache, places),
        )
        scores = out.logits[:, -1].float()
        scores[:, model.image_id] = -torch.inf
        return scores

    def _choose(self, scores: Tensor, rngs: Sequence[np.random.Generator]) -> Tensor:
        if not self.speaking.temperature:
            return scores.argmax(-1)
        sums = (scores / self.speaking.temperature).softmax(-1).double().cumsum(-1).cpu().numpy()
        pairs = zip(sums, rngs, strict=True)
        drawn = [int((row <= rng.random() * row[-1]).sum()) for row, rng in pairs]
        return torch.tensor(drawn, device=scores.device)

    def _stopped(self, ids: list[int]) -> bool:
        if not self.speaking.stop:
            return False
        text = self.model.tokenizer.decode(ids, skip_special_tokens=True)
        return any(one in text for one in self.speaking.stop)

    def _text(self, ids: list[int]) -> str:
        text = self.model.tokenizer.decode(ids, skip_special_tokens=True)
        for one in self.speaking.stop:
            text = text.partition(one)[0]
        return text.strip()


def _named(llm: torch.nn.Module, cache: Cache, places: Tensor) -> dict[str, Any]:
    """Cache and positions by the names that a model's `forward` has for them."""
    known = inspect.signature(llm.forward).parameters
    found: dict[str, Any] = {"cache" if "cache" in known else "past_key_values": cache}
    return found | ({"position_ids": places} if "position_ids" in known else {})


class RoomyLayer(DynamicLayer):
    """Keys and values of a layer in a buffer with room for more: a token is written, where transformers' own copies all before it."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor]:
        """Write further columns, (n, heads, columns, width); all so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.buffers = (key_states[:, :, :0], value_states[:, :, :0])
        start = self.get_seq_length()
        end = start + key_states.shape[-2]
        if end > self.buffers[0].shape[-2]:
            room = end + max(ROOM, end // 2)
            self.buffers = tuple(_with_room(one, start, room) for one in self.buffers)
        for buffer, states in zip(self.buffers, (key_states, value_states), strict=True):
            buffer[:, :, start:end] = states
        self.keys, self.values = (buffer[:, :, :end] for buffer in self.buffers)
        return self.keys, self.values

    def taken(self, rows: Tensor) -> "RoomyLayer":
        """A copy of some rows."""
        other = type(self)()
        other.lazy_initialization(self.keys, self.values)
        end = self.get_seq_length()
        other.buffers = tuple(buffer[rows] for buffer in self.buffers)
        other.keys, other.values = (buffer[:, :, :end] for buffer in other.buffers)
        return other


def _with_room(buffer: Tensor, used: int, room: int) -> Tensor:
    n, heads, _, width = buffer.shape
    larger = buffer.new_empty(n, heads, room, width)
    larger[:, :, :used] = buffer[:, :, :used]
    return larger
