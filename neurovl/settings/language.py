"""What can be set of the language model's training, and of its adapters."""

from dataclasses import dataclass

from neurovl.errors import ConfigError
from neurovl.settings.refusals import PRECISIONS, require_one_of


@dataclass(frozen=True)
class Language:
    """Training of the language model; of two numbers one is for stage 1 (projector alone), one for stage 2 (both).

    Stated by the paper: batch 32 and 24, one epoch a stage, lr 2e-5 (8 B parameters).

    Parameters
    ----------
    steps : tuple of int, optional
        One epoch a stage where none are given, see `steps_for`.
    epoch : str
        What comes once in an epoch: 'trials', each with one of its picture's dialogues, drawn anew each time; or 'pairs',
        each trial with each of them, which is about nine times as much. The paper does not say which it means.
    method : str
        How stage 2 trains the language model: 'full', all its weights, or 'lora', adapters as in the section `lora`.
    lr : tuple of float
        Peak learning rates; no weight decay. Of stage 2 with adapters: `lora.lr`.
    accumulate : tuple of int
        Parts at least that a batch is computed in before an optimizer step, for small memories; several processes share them.
    validation : float
        Share of the training pictures on which the loss is watched instead, after every epoch; 0 in the paper. The
        encoder's pictures where `alignment.validation` is the same share.
    patience : int
        Epochs without a smaller validation loss after which a stage ends and the best epoch's weights are kept; 0: the
        last epoch's, always.
    max_new_tokens : int
        Longest answer.
    precision : str
        As `alignment.precision`; on a CPU small language models are slower in bfloat16, so profiles for it say 'no'.
    reads : str
        What the language model gets of the encoder: 'hidden', the hidden states of its penultimate layer, as in the paper; or
        'predictions', its class token, CLIP embedding and VAE latent (`language.PredictionTokens`).
    checks : bool
        Teach closed questions in balanced pairs too (`language.dialogues.balanced_checks`); the paper has six types of dialogue
        alone.
    variants : tuple of str
        Language models to train: 'main' reads the main encoder, 'flat' the encoder of flat voxels, 'hidden-states' reads these whatever `reads` says, 'pictures' CLIP's patch
        tokens of the true pictures, the upper bound; 'held-out' never saw the tune pictures, and on these how sure answers are is
        calibrated; a name of `models.llms` is that language model, reading the main encoder.
    """

    steps: tuple[int, int] | None = (300, 1200)
    epoch: str = "trials"
    batch_size: tuple[int, int] = (32, 24)
    lr: tuple[float, float] = (1e-3, 5e-4)
    accumulate: tuple[int, int] = (1, 1)
    validation: float = 0.0
    patience: int = 0
    max_new_tokens: int = 64
    precision: str = "bf16"
    method: str = "full"
    reads: str = "hidden"
    checks: bool = False
    variants: tuple[str, ...] = ("main",)

    def __post_init__(self) -> None:
        require_one_of("language.method", self.method, ("full", "lora"))
        require_one_of("language.precision", self.precision, PRECISIONS)
        require_one_of("language.reads", self.reads, ("hidden", "predictions"))
        require_one_of("language.epoch", self.epoch, ("trials", "pairs"))

    def steps_for(self, n: int) -> tuple[int, int]:
        """Steps of both stages where an epoch is of `n` trials, or pairs: those given, or one epoch."""
        first, second = (max(1, round(n / size)) for size in self.batch_size)
        return self.steps or (first, second)


@dataclass(frozen=True)
class Lora:
    """Adapters of the language model (`language.method: lora`): x W + (alpha / rank) x A B beside linear layers W that stay.

    The paper has none; rank, alpha, dropout and rate are LLaVA-1.5's, whose projector is the paper's too.

    Parameters
    ----------
    targets : tuple of str
        Names of the layers, such as 'q_proj'; none given: all linear ones but the output.
    lr : float
        Peak learning rate of stage 2, of adapters and projector.
    base : str
        How the weights that stay are held: 'bf16', 'float32', or '4bit' (needs bitsandbytes). Adapters are float32.
    """

    rank: int = 128
    alpha: float = 256.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ()
    lr: float = 2e-4
    base: str = "bf16"

    def __post_init__(self) -> None:
        require_one_of("lora.base", self.base, ("bf16", "float32", "4bit"))
        if self.rank < 1:
            raise ConfigError(f"lora.rank is {self.rank}, expected 1 or more; correct the profile")
