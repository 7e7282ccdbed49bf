"""What can be set in a run: every setting in frozen dataclasses, each section a part of a profile.

The defaults are the paper's where it states them. How profiles are read is in `config`.
"""

import dataclasses
import json
from dataclasses import dataclass, field

from neurovl.errors import ConfigError
from neurovl.settings.language import Language, Lora
from neurovl.settings.leaderboard import Leaderboard
from neurovl.settings.refusals import PRECISIONS, require, require_one_of

TAKEN = frozenset(  # names that results.csv gives to systems, which no further language model may have
    "main neurovl flat common plain ridge no-vae no-llm no-brain shuffled per-subject per-subject-flat true-embedding true-picture "
    "hidden-states pictures held-out scrambled noise brief-prompt flat-brief".split()
)


@dataclass(frozen=True)
class Simulation:
    """The simulated NSD that is made where no data are given: sessions of 750 trials, grid = NSD's divided by `scale`.

    `tests` are NSD's further sessions: 'imagery' and 'synthetic'.
    """

    subjects: tuple[int, ...] = (1, 2, 5, 7)
    sessions: int = 2
    scale: float = 3.0
    tests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Preprocessing:
    """What is read, and the tokens that are made of it.

    Parameters
    ----------
    subjects : tuple of int, optional
        All by default; `simulation.subjects` of the data that the profile makes.
    split : str, optional
        Named partition of a data set that has several: NSD's 'shared1000' or 'shared982'. The first by default.
    betas : str, optional
        Version of NSD's betas; 'betas_fithrf_GLMdenoise_RR' by default.
    patches : tuple
        Sizes in voxels of the common grid, or in millimetres such as '25.2mm' (14 voxels of NSD's 1.8 mm); the main
        one first.
    target : tuple of int, optional
        Common grid; the first subject's by default.
    off_mask : str
        'keep', 'zero' or 'own', see `preprocessing.write_store`.
    max_missing_voxels : float
        Share of a subject's mask that may be not finite (NaN or infinite) in some session; these voxels are left out of the
        mask in all sessions and counted in plan.json. More are refused; 0 refuses any.
    """

    subjects: tuple[int | str, ...] | None = None
    split: str | None = None
    betas: str | None = None
    patches: tuple[int | str | tuple[int, int, int], ...] = ("25.2mm", "21.6mm", "18mm")
    target: tuple[int, int, int] | None = None
    off_mask: str = "own"
    max_missing_voxels: float = 0.05

    def __post_init__(self) -> None:
        if not 0 <= self.max_missing_voxels < 1:
            raise ConfigError(
                f"preprocessing.max_missing_voxels is {self.max_missing_voxels}, expected a share from 0 to below 1, such as "
                "0.05; correct it in the profile"
            )


@dataclass(frozen=True)
class Models:
    """Foundation models by 'tiny', local folder or hub id; of several, such as a repository and its mirrors, the first here.

    Parameters
    ----------
    metric : str
        'tiny' (SceneNet), 'paper' (the paper's networks, where torch and the hub keep their weights), or a folder of one
        or the other.
    image_size : int, optional
        Side of a reconstructed picture in pixels.
    captioner, detector : str, optional
        BLIP-2 and DETR, which annotate the pictures anew; without both, captions and boxes are the data's own.
    llms : dict of str to str
        Further language models, by the name that results call the system, such as 'vicuna-13b'; `language.variants` names
        those that are trained.
    """

    clip: str | tuple[str, ...] = "tiny"
    unclip: str | tuple[str, ...] = "tiny"
    llm: str | tuple[str, ...] = "tiny"
    metric: str = "tiny"
    image_size: int | None = None
    captioner: str | tuple[str, ...] | None = None
    detector: str | tuple[str, ...] | None = None
    llms: dict[str, str | tuple[str, ...]] = field(default_factory=dict)

    def spec(self, part: str) -> str | tuple[str, ...] | None:
        """What a profile calls a model: 'llm', 'unclip/vae' (a part of 'unclip'), 'llms/vicuna-13b', ..."""
        name, _, below = part.partition("/")
        return self.llms[below] if name == "llms" else getattr(self, name)


@dataclass(frozen=True)
class EncoderShape:
    """Size of ViT3D; the defaults are the paper's where it states them (16 layers, width 768, head hidden 1024).

    Heads, MLP ratio, pre-norm, GELU and learned positions by grid cell are not stated: those of ViT-B are taken.
    Our addition: `readout` is the number of target components that a linear decoder, solved in closed form, reads from each patch
    (0: none, as in the paper); it is fitted to each 'subject', or to 'all' at once (`readout_of`).
    """

    width: int = 768
    layers: int = 16
    heads: int = 12
    mlp_ratio: float = 4.0
    head_hidden: int = 1024
    dropout: float = 0.0
    readout: int = 0
    readout_of: str = "subject"

    def network(self) -> dict:
        """The arguments of `encoder.BrainEncoder` that these settings give."""
        return {k: v for k, v in self.__dict__.items() if k != "readout_of"}


@dataclass(frozen=True)
class Alignment:
    """Training of the encoder; stated by the paper: alpha 1/64, MixUp, lr 5e-4, 30 epochs, batch 32.

    Parameters
    ----------
    alpha : float
        Weight of the VAE term.
    reduction : str
        'sum' over the values of a target as Eq. 2 is written, or 'mean'.
    mixup : bool
        Mix two trials of the same subject and image, x = l x1 + (1 - l) x2 with l ~ U(0, 1).
    token_dropout : float
        Share of tokens set to zero while training; 0 in the paper.
    synthetic : float
        Share of a batch drawn from encoding models instead of measured trials; 0 in the paper.
    ema : float
        Decay of the moving average of the weights; 0 in the paper.
    precision : str
        'bf16', 'no' (float32), or 'auto': bfloat16 where the device multiplies in it. Weights are float32 in any case.
    accumulate : int
        Parts that a batch is read in, one after the other, before an optimizer step; for small memories.
    validation : float
        Share of the training pictures on which the loss is watched instead, after every epoch; 0 in the paper.
    patience : int
        Epochs without a smaller validation loss after which training ends and the best epoch's weights are kept; 0: the
        last epoch's, always.
    variants : tuple of str
        Encoders to train: 'main', 'flat', 'no-vae', 'per-subject' and 'per-subject-flat' for one a subject, 'patches' for
        one for each further patch size, which are called 'p12', 'p10', ...
    """

    alpha: float = 1 / 64
    reduction: str = "sum"
    mixup: bool = True
    token_dropout: float = 0.0
    synthetic: float = 0.0
    ema: float = 0.0
    epochs: int = 30
    batch_size: int = 32
    lr: float = 5e-4
    weight_decay: float = 1e-2
    precision: str = "bf16"
    accumulate: int = 1
    validation: float = 0.0
    patience: int = 0
    variants: tuple[str, ...] = ("main", "patches", "flat", "no-vae", "per-subject")

    def __post_init__(self) -> None:
        require_one_of("alignment.precision", self.precision, PRECISIONS)


@dataclass(frozen=True)
class Reconstruction:
    """Sampling, and what the beta ablation covers: `images` and `ablation_subjects` of None mean all.

    Parameters
    ----------
    precision : str
        As `alignment.precision`, of the text encoder and the UNet; the decoder computes in float32.
    prompts : tuple of str
        What the language model is asked for before a picture is painted: 'instruction', a prompt for the diffusion model,
        and 'brief', a caption, as a system of its own.
    """

    beta: float = 0.93
    betas: tuple[float, ...] = (0.6, 0.75, 0.9, 0.98, 1.0)
    steps: int = 20
    guidance: float = 10.0
    noise_level: int = 0
    rescale: str = "none"
    images: int | None = None
    ablation_images: int | None = None
    ablation_subjects: int | None = None
    precision: str = "auto"
    prompts: tuple[str, ...] = ("instruction",)

    def __post_init__(self) -> None:
        require_one_of("reconstruction.precision", self.precision, PRECISIONS)
        for prompt in self.prompts:
            require_one_of("reconstruction.prompts", prompt, ("instruction", "brief"))
        require("reconstruction.prompts", "instruction", self.prompts)


@dataclass(frozen=True)
class Localization:
    """Concepts with at least `min_images` test pictures, at most `max_concepts` of them; `share` of a subject's measured voxels to zero, at most 0.5.

    Parameters
    ----------
    doses : tuple of float
        Further shares to zero, for the curve of what is lost over how much is silent.
    """

    min_images: int = 4
    max_concepts: int = 12
    share: float = 0.15
    doses: tuple[float, ...] = (0.02, 0.05, 0.3)


@dataclass(frozen=True)
class Adaptation:
    """A subject outside `preprocessing.subjects`, decoded as it is and adapted to; None leaves it out.

    Parameters
    ----------
    subject : int or str, optional
        Of the data; it is simulated where the profile's data are. Left out where the data do not have it or the run has it.
    shares : tuple of float
        Of its training pictures; 0 stands for no adaptation.
    """

    subject: int | str | None = None
    shares: tuple[float, ...] = (0.0, 0.01, 0.05, 0.25, 1.0)


@dataclass(frozen=True)
class Evaluation:
    """How results are scored.

    Parameters
    ----------
    bootstrap : int
        Resamples.
    permutations : int
        For chance.
    caption_images : int, optional
        Pictures a subject for the text tasks; all where none is given.
    check_pairs : int
        Balanced pairs of closed questions a subject and type, see `language.dialogues.balanced_checks`.
    """

    bootstrap: int = 2000
    permutations: int = 20
    caption_images: int | None = None
    check_pairs: int = 30


@dataclass(frozen=True)
class Compute:
    """Where and how fast. Nothing here changes a result, so no stage is done again for it.

    Parameters
    ----------
    device : str
        'auto', 'cpu', 'cuda' or 'mps'.
    processes : int, optional
        Encoders that are trained at the same time, and sessions that are read; one a core, or one a GPU, by default.
    together : int, optional
        Processes that train one language model and paint the pictures together; one a GPU by default. A batch has to
        divide among them.
    workers : int
        Threads that read training batches ahead.
    compile : bool
        Use `torch.compile` on a CUDA device; the result is the same up to rounding.
    checkpointing : bool
        Compute the language model's layers a second time on the way back instead of keeping what they computed: a third more
        time, for a fraction of that memory.
    trackers : tuple of str
        Trackers of Accelerate that training is logged to, such as 'tensorboard'.
    """

    device: str = "auto"
    processes: int | None = None
    together: int | None = None
    workers: int = 0
    compile: bool = False
    checkpointing: bool = False
    trackers: tuple[str, ...] = ()

    def at_a_time(self) -> int:
        """How many processes work at the same time."""
        from joblib import cpu_count  # counts the cores that this process may use

        return self.processes or cpu_count()


@dataclass(frozen=True)
class Profile:
    """All settings of a run."""

    name: str
    seed: int = 0
    compute: Compute = field(default_factory=Compute)
    simulation: Simulation | None = field(default_factory=Simulation)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    models: Models = field(default_factory=Models)
    encoder: EncoderShape = field(default_factory=EncoderShape)
    alignment: Alignment = field(default_factory=Alignment)
    language: Language = field(default_factory=Language)
    lora: Lora = field(default_factory=Lora)
    reconstruction: Reconstruction = field(default_factory=Reconstruction)
    localization: Localization = field(default_factory=Localization)
    evaluation: Evaluation = field(default_factory=Evaluation)
    adaptation: Adaptation = field(default_factory=Adaptation)
    leaderboard: Leaderboard = field(default_factory=Leaderboard)

    def __post_init__(self) -> None:
        for name in self.language.variants:
            require_one_of(
                "language.variants",
                name,
                ("main", "flat", "hidden-states", "pictures", "held-out", *self.models.llms),
            )
        require("language.variants", "main", self.language.variants)
        if "flat" in self.language.variants and "flat" not in self.alignment.variants:
            raise ConfigError(
                "language.variants has 'flat' and alignment.variants has not, expected the encoder that this language model "
                "reads; add flat to alignment.variants, or leave it out of language.variants"
            )
        if taken := sorted(TAKEN.intersection(self.models.llms)):
            raise ConfigError(
                f"models.llms has the name {taken[0]!r}, which stands for something else; choose another name in the profile"
            )

    def with_own(self, seed: int | None = None, device: str | None = None) -> "Profile":
        """The profile with another seed or device, where one is given."""
        compute = (
            self.compute if device is None else dataclasses.replace(self.compute, device=device)
        )
        seed = self.seed if seed is None else seed
        return dataclasses.replace(self, seed=seed, compute=compute)

    def to_dict(self) -> dict:
        """Plain nested dict, as JSON holds it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))
