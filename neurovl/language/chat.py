"""A conversation about one brain's picture."""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Answerer(Protocol):
    """What answers questions about brains: `BrainLLM`, or anything with its `generate`."""

    def generate(
        self,
        hidden: Tensor,
        questions: Sequence[str],
        history: Sequence[Sequence[tuple[str, str]]] | None = None,
        max_new_tokens: int = 80,
    ) -> list[str]:
        """One answer a question, see `BrainLLM.generate`."""


class Chat:
    """A conversation about one brain's picture that remembers its turns.

    Parameters
    ----------
    model : Answerer
    hidden : Tensor (1, N + 1, D)

    Examples
    --------
    >>> chat = run.llm().chat(run.encode(subject=1, image_id=run.test_images(1)[0]))
    >>> answers = [chat.ask("What is in the picture?"), chat.ask("Why?")]
    >>> [question for question, answer in chat.turns]
    ['What is in the picture?', 'Why?']
    """

    def __init__(self, model: Answerer, hidden: Tensor) -> None:
        self.model, self.hidden = model, hidden
        self.turns: list[tuple[str, str]] = []

    def ask(self, question: str, max_new_tokens: int = 80) -> str:
        """The answer to the next question, all earlier turns given."""
        answer = self.model.generate(self.hidden, [question], [self.turns], max_new_tokens)[0]
        self.turns.append((question, answer))
        return answer
