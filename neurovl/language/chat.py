"""A conversation about one brain's picture."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from neurovl.files import replacing
from neurovl.language.confidence import CANNOT_TELL, Confidence, Evidence
from neurovl.language.conversations import GREEDY, Conversations, Speaking

if TYPE_CHECKING:
    from neurovl.language.model import BrainLLM


@dataclass(frozen=True)
class Verdict:
    """On an answer: the probability that it is right, and whether that is enough to speak."""

    confidence: float
    speaks: bool

    def __str__(self) -> str:
        sure = f"{self.confidence:.0%} sure"
        return sure if self.speaks else f"{CANNOT_TELL} ({sure})"


class Chat:
    """A conversation about one brain's picture that remembers its turns: a later question costs its own tokens alone.

    Parameters
    ----------
    model : BrainLLM
    hidden : Tensor (1, N + 1, D)
    speaking : Speaking
        Temperature, length, stop, system prompt.
    confidence : Confidence, optional
        By which each answer is judged.
    brain : (float, float)
        Its signal and strength, see `encoder.signal`; read by `confidence`.

    Attributes
    ----------
    verdicts : list of Verdict
        On the answers so far; empty where nothing judges them.

    Examples
    --------
    >>> chat = run.llm().chat(run.encode(subject=1, image_id=run.test_images(1)[0]))
    >>> answers = [chat.ask("What is in the picture?"), chat.ask("Why?")]
    >>> [question for question, answer in chat.turns]
    ['What is in the picture?', 'Why?']
    >>> "".join(chat.stream("What is in the picture?")) == chat.turns[-1][1]
    True
    """

    def __init__(
        self,
        model: "BrainLLM",
        hidden: Tensor,
        speaking: Speaking = GREEDY,
        confidence: Confidence | None = None,
        brain: Sequence[float] = (0.0, 0.0),
    ) -> None:
        self._row = Conversations(model, hidden, speaking)
        self._confidence, self._brain, self.verdicts = confidence, brain, list[Verdict]()

    @property
    def turns(self) -> list[tuple[str, str]]:
        """The questions and answers so far, in pairs."""
        return self._row.turns[0]

    def ask(self, question: str, max_new_tokens: int | None = None) -> str:
        """The answer to the next question, all earlier turns given."""
        for _ in self.stream(question, max_new_tokens):
            pass
        return self.turns[-1][1]

    def stream(self, question: str, max_new_tokens: int | None = None) -> Iterator[str]:
        """The same answer piece by piece, as it is found; the turn is remembered with the last piece, and judged after it."""
        whole = self._row.speaking
        if max_new_tokens is not None:
            self._row.speaking = replace(whole, max_new_tokens=max_new_tokens)
        try:
            shown = ""
            for (text,) in self._row.stream([question]):
                # A character of several tokens is not whole before its last.
                if text.startswith(shown) and not text.endswith("\ufffd"):
                    yield text[len(shown) :]
                    shown = text
            if text != shown and text.startswith(shown):
                yield text[len(shown) :]
            if self._confidence is not None:
                evidence = Evidence.of(self._row.likelihoods[0], self._brain)
                verdict = Verdict(self._confidence.of(evidence), self._confidence.speaks(evidence))
                self.verdicts.append(verdict)
        finally:
            self._row.speaking = whole

    def save(self, path: str | Path, about: Mapping[str, object]) -> None:
        """Write the transcript as JSON: what the conversation is about, how answers were given, and the turns.

        Parameters
        ----------
        path : path
        about : mapping
            Where the brain and the model come from; numbers and texts by name.
        """
        turns: list[dict] = [{"question": q, "answer": a} for q, a in self.turns]
        for turn, verdict in zip(turns, self.verdicts, strict=False):
            turn |= asdict(verdict)
        record = {"about": dict(about), "speaking": asdict(self._row.speaking), "turns": turns}
        with replacing(Path(path)) as part:
            part.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
