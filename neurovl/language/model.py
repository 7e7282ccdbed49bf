"""A causal language model that reads brain tokens: projector, splice, answers.

    answer ~ LLM([e(before <image>), P(h_0 ... h_N), e(after)]),   P(h) = W2 gelu(W1 h + b1) + b2

The h are the encoder's hidden states, as the paper has it, or `PredictionTokens`. Left out: how they are made (`neurovl.encoder.vit3d`), what the dialogues say (`neurovl.language.dialogues`).
"""

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.files import replacing
from neurovl.language.adapters import save_llm
from neurovl.language.answer_batches import conversations_together
from neurovl.language.chat import Chat
from neurovl.language.conversations import GREEDY, Conversations, Speaking
from neurovl.language.dialogues import (
    Dialogue,
    add_placeholder,
    collate,
    encode_dialogue,
)
from neurovl.language.dialogues.encoding import IGNORED
from neurovl.language.prediction_tokens import PredictionTokens
from neurovl.language.preparing import find_end_ids, fit_embeddings, greedy
from neurovl.training.batch_sizes import in_batches

if TYPE_CHECKING:
    from transformers import Cache, PreTrainedTokenizerBase

    from neurovl.encoder.vit3d import BrainEmbedding
    from neurovl.language.confidence import Confidence

READING = "reading.safetensors"
ROWS_TOGETHER = 8  # dialogues of a batch that are padded to one length while training


class Projector(nn.Module):
    """Brain tokens to the language model's width: Linear, GELU, Linear (LLaVA's mlp2x_gelu).

    Parameters
    ----------
    d_in : int
        Width D of the encoder's hidden states.
    d_out : int
        Width H of the language model.
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.first = nn.Linear(d_in, d_out)
        self.second = nn.Linear(d_out, d_out)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B, N + 1, D) to (B, N + 1, H)."""
        return self.second(nn.functional.gelu(self.first(hidden)))


class BrainLLM(nn.Module):
    """A causal language model that reads brain tokens in the place of a picture.

    Parameters
    ----------
    llm : transformers causal language model, e.g. LlamaForCausalLM
    tokenizer : PreTrainedTokenizerBase
        Gets an `<image>` token, and a padding token, where it lacks them.
    projector : Projector
        From the width of brain tokens to the language model's.
    reading : PredictionTokens, optional
        What makes brain tokens of a `BrainEmbedding`; by default its hidden states are read.

    Raises
    ------
    ConfigError
        When the projector's output is not the language model's width, or the tokenizer's chat
        template rewrites earlier turns.

    Examples
    --------
    >>> model = run.llm()
    >>> z = run.encode(subject=1, image_id=run.test_images(1)[0])
    >>> chat = model.chat(z)
    >>> isinstance(chat.ask("What is in the picture?"), str)
    True
    >>> len(model.generate(z, ["Is there a dog?"], max_new_tokens=4))
    1
    """

    def __init__(
        self,
        llm: nn.Module,
        tokenizer: "PreTrainedTokenizerBase",
        projector: Projector,
        reading: PredictionTokens | None = None,
    ) -> None:
        super().__init__()
        width = llm.get_input_embeddings().embedding_dim
        if projector.second.out_features != width:
            raise ConfigError(
                f"the projector ends in {projector.second.out_features} channels, expected {width}, "
                f"the width of the language model; make it Projector({projector.first.in_features}, "
                f"{width})"
            )
        self.llm, self.tokenizer, self.projector, self.reading = llm, tokenizer, projector, reading
        self.image_id = add_placeholder(tokenizer)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        fit_embeddings(llm, len(tokenizer))
        self.end_ids = find_end_ids(llm, tokenizer)
        llm.generation_config = greedy(self.end_ids, tokenizer.pad_token_id)

    @property
    def device(self) -> torch.device:
        """Where the projector is."""
        return self.projector.first.weight.device

    def train(self, mode: bool = True) -> "BrainLLM":
        """As of any module, but a language model that is frozen stays in evaluation mode."""
        super().train(mode)
        if not any(p.requires_grad for p in self.llm.parameters()):
            self.llm.eval()
        return self

    def read(self, z: "BrainEmbedding | Tensor") -> Tensor:
        """The brain tokens (B, N + 1, D) that this model reads of an embedding; tokens stay as they are."""
        if isinstance(z, Tensor):
            return z
        return z.hidden if self.reading is None else self.reading(z)

    def loss(self, hidden: Tensor, dialogues: Sequence[Dialogue]) -> Tensor:
        """Mean cross-entropy of the answers' tokens, all earlier turns given (paper Eq. 3).

        Parameters
        ----------
        hidden : Tensor (n_dialogues, N + 1, D)
        dialogues : sequence of Dialogue

        Returns
        -------
        Tensor, scalar
        """
        self.check_hidden(hidden.shape, len(dialogues), "dialogues")
        encoded = [encode_dialogue(self.tokenizer, d, hidden.shape[1]) for d in dialogues]
        return self(hidden, **collate(encoded, self.tokenizer.pad_token_id))

    def forward(
        self, hidden: Tensor, input_ids: Tensor, attention_mask: Tensor, labels: Tensor
    ) -> Tensor:
        """The loss of encoded dialogues, padded on the right; `loss` says what comes in."""
        lengths = attention_mask.sum(1)
        total = self.projector.first.weight.new_zeros((), dtype=torch.float32)
        for rows in lengths.argsort().split(ROWS_TOGETHER):
            part = slice(int(lengths[rows].max()))
            ids, wanted = (t[rows, part].to(self.device) for t in (input_ids, labels))
            total = total + self._summed_loss(hidden[rows], ids, wanted)
        return total / (labels[:, 1:] != IGNORED).sum()

    def _summed_loss(self, hidden: Tensor, input_ids: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of the answers' tokens, summed over some dialogues that are padded on the right."""
        # Scores are computed only at places that answer somewhere: most of a dialogue is prompt.
        places = (labels[:, 1:] != IGNORED).any(0).nonzero()[:, 0]
        out = self.llm(
            inputs_embeds=self.embed(input_ids, hidden),
            # Without a mask: none attends to what comes later, and padding comes last.
            use_cache=False,
            logits_to_keep=places,
        )
        return nn.functional.cross_entropy(
            out.logits.flatten(0, 1).float(),
            labels[:, places + 1].flatten(),
            ignore_index=IGNORED,
            reduction="sum",
        )

    def embed(self, input_ids: Tensor, hidden: Tensor) -> Tensor:
        """Embeddings of the ids, the projected brain tokens at the `<image>` tokens.

        Parameters
        ----------
        input_ids : LongTensor (n_dialogues, n_tokens)
        hidden : Tensor (n_dialogues, N + 1, D)

        Returns
        -------
        Tensor (n_dialogues, n_tokens, H)

        Raises
        ------
        DataError
            When a row has not exactly N + 1 `<image>` tokens.
        """
        mask = input_ids == self.image_id
        found = mask.sum(1)
        if (found != hidden.shape[1]).any():
            raise DataError(
                f"a prompt has {sorted(set(found.tolist()))} <image> tokens, expected "
                f"{hidden.shape[1]}, one for each brain token; encode it with n_brain={hidden.shape[1]}"
            )
        embeds = self.llm.get_input_embeddings()(input_ids)
        brain = self.projector(hidden.to(self.device, self.projector.first.weight.dtype))
        embeds = embeds.clone()
        embeds[mask] = brain.flatten(0, 1).to(embeds.dtype)
        return embeds

    def generate(
        self,
        z: "BrainEmbedding | Tensor",
        questions: Sequence[str],
        history: Sequence[Sequence[tuple[str, str]]] | None = None,
        max_new_tokens: int = 80,
    ) -> list[str]:
        """Answer one question for each brain, greedily, with a key-value cache.

        Parameters
        ----------
        z : BrainEmbedding or Tensor (n_questions, N + 1, D)
            What the encoder reads, or brain tokens.
        questions : sequence of str
        history : sequence of turns ((question, answer), ...), optional
            Earlier turns for each question.
        max_new_tokens : int

        Returns
        -------
        list of str

        Raises
        ------
        DataError
            When there are not as many brains, or histories, as questions.
        """
        hidden = self.read(z)
        self.check_hidden(hidden.shape, len(questions), "questions")
        history = [()] * len(questions) if history is None else history
        if len(history) != len(questions):
            raise DataError(
                f"history holds {len(history)} lists of turns, expected {len(questions)}, one for each "
                "question; give an empty list where there are no earlier turns"
            )

        def answer(part: slice) -> list[str]:
            begun = Conversations(self, hidden[part], Speaking(max_new_tokens), history[part])
            return begun.ask(questions[part])

        together = conversations_together(self.llm, hidden.shape[1], max_new_tokens)
        return in_batches(len(questions), together, answer, "answers")

    @torch.inference_mode()
    def step(self, embeds: Tensor, past: "Cache | None" = None) -> "tuple[Tensor, Cache]":
        """One step of an answer by hand: what may follow some rows.

        Parameters
        ----------
        embeds : Tensor (n, n_rows, H)
            The prompt's from `embed`; after it the last token's alone.
        past : Cache, optional
            What the step before gave, keys and values of all rows so far.

        Returns
        -------
        Tensor (n, vocabulary), Cache
            Probabilities of the next token, in which `<image>` has none, and keys and values with those of `embeds`.
        """
        known = inspect.signature(self.llm.forward).parameters
        name = "cache" if "cache" in known else "past_key_values"  # as transformers 4 calls it
        out = self.llm(inputs_embeds=embeds, use_cache=True, **{name: past})
        scores = out.logits[:, -1].float()
        scores[:, self.image_id] = -torch.inf
        return scores.softmax(-1), out.past_key_values

    def chat(
        self,
        z: "BrainEmbedding | Tensor",
        speaking: Speaking = GREEDY,
        confidence: "Confidence | None" = None,
        brain: Sequence[float] = (0.0, 0.0),
    ) -> Chat:
        """A conversation about one brain's picture.

        Parameters
        ----------
        z : BrainEmbedding or Tensor (1, N + 1, D)
        speaking : Speaking
            Temperature, length, stop, system prompt.
        confidence : Confidence, optional
            By which answers are judged, see `Run.confidence`.
        brain : (float, float)
            Its signal and strength, see `encoder.signal`; needed with `confidence`.

        Raises
        ------
        DataError
            When there is more than one brain.
        """
        hidden = self.read(z)
        hidden = hidden if hidden.ndim == 3 else hidden[None]
        if len(hidden) != 1:
            raise DataError(
                f"a chat is about one picture, got brain tokens of {len(hidden)}; pass z of one trial"
            )
        return Chat(self, hidden, speaking, confidence, brain)

    def save_pretrained(self, directory: str | Path) -> None:
        """Write `projector.safetensors`, `config.json`, `reading.safetensors` where there is one, and the language model in `llm/`; of one with adapters these alone.

        The config comes last: a folder that holds one is whole.
        """
        from safetensors.torch import save_file

        directory = Path(directory)
        (directory / "config.json").unlink(missing_ok=True)
        save_llm(self.llm, directory / "llm")
        self.tokenizer.save_pretrained(directory / "llm")
        state = {k: v.detach().cpu().contiguous() for k, v in self.projector.state_dict().items()}
        save_file(state, directory / "projector.safetensors")
        (directory / READING).unlink(missing_ok=True)
        if self.reading is not None:
            self.reading.save(directory / READING)
        config = {
            "model_type": "neurovl-brain-llm",
            "brain_width": self.projector.first.in_features,
            "llm_width": self.projector.second.out_features,
            "reads": "hidden" if self.reading is None else "predictions",
        }
        with replacing(directory / "config.json") as part:
            part.write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        llm: tuple | None = None,
        device: str = "auto",
        weights: str = "auto",
    ) -> "BrainLLM":
        """Read what `save_pretrained` wrote.

        Parameters
        ----------
        directory : path
        llm : (model, tokenizer), optional
            Used in the place of the folder `llm/`.
        device : str
            'auto', 'cpu', 'cuda' or 'mps'.
        weights : str
            How the language model's are held, see `foundation.llm.load_llm`.

        Raises
        ------
        MissingError
            When a file is not there.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from neurovl.foundation.llm import load_llm

        directory = Path(directory)
        for name in ("config.json", "projector.safetensors", *(() if llm else ("llm",))):
            if not (directory / name).exists():
                raise MissingError(
                    f"{directory} has no {name}, expected the folder that BrainLLM.save_pretrained "
                    "writes; train it: neurovl train llm"
                )
        try:
            config = json.loads((directory / "config.json").read_text())
            projector = Projector(config["brain_width"], config["llm_width"])
            projector.load_state_dict(load_file(directory / "projector.safetensors"))
            read = config["reads"] == "predictions"
            reading = PredictionTokens.load(directory / READING) if read else None
            model, tokenizer = llm or load_llm(str(directory / "llm"), device, weights)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError) as problem:
            raise DataError(
                f"{directory} cannot be read ({str(problem).splitlines()[0][:120]}), expected the folder that "
                "BrainLLM.save_pretrained writes; remove it and train it again: neurovl train llm --run RUN"
            ) from problem
        return cls(model, tokenizer, projector, reading).to(model.device).eval()

    def check_hidden(self, shape: Sequence[int], n: int, what: str) -> None:
        """Refuse brain tokens that are not (n, N + 1, D), one row for each of n `what`.

        Raises
        ------
        DataError
            When they have another shape.
        """
        width = self.projector.first.in_features
        if len(shape) != 3 or shape[0] != n or shape[2] != width:
            raise DataError(
                f"the brain tokens have shape {tuple(shape)}, expected ({n}, N + 1, {width}) "
                f"for {n} {what}; pass what the encoder reads that this model was trained with"
            )
