"""Language from brain tokens: what the encoder reads in the place of a picture.

Any causal language model of transformers will do. `BrainLLM` answers and chats, `fit_language`
trains it; the dialogues come from `neurovl.language.dialogues`.
Imports foundation, training and what lies below; never reconstruction, localization or `run`.
"""

from neurovl.language.chat import Chat
from neurovl.language.conversations import Conversations, Speaking
from neurovl.language.model import BrainLLM, Projector
from neurovl.language.prediction_tokens import PredictionTokens
from neurovl.language.train import fit_language

__all__ = [
    "BrainLLM",
    "Chat",
    "Conversations",
    "PredictionTokens",
    "Projector",
    "Speaking",
    "fit_language",
]
