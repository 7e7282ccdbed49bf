"""Profiles: every setting of a run in frozen dataclasses, read from YAML; nothing below here asks which world it is in."""

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path

from .errors import ConfigError, MissingError

PROFILES = Path(__file__).parent / "profiles"


@dataclass(frozen=True)
class Simulation:
    """The simulated NSD that is made where no data are given: sessions of 750 trials, grid = NSD's divided by `scale`."""

    subjects: tuple[int, ...] = (1, 2, 5, 7)
    sessions: int = 2
    scale: float = 3.0


@dataclass(frozen=True)
class Preprocessing:
    """What is read, and the tokens that are made of it.

    Parameters
    ----------
    subjects : tuple of int, optional
        All by default.
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
        'zero' or 'keep', see `PatchPlan`.
    """

    subjects: tuple[int | str, ...] | None = None
    split: str | None = None
    betas: str | None = None
    patches: tuple[int | str | tuple[int, int, int], ...] = ("25.2mm", "21.6mm", "18mm")
    target: tuple[int, int, int] | None = None
    off_mask: str = "zero"


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
        BLIP-2 and DETR, which annotate the training pictures anew; without both, captions and boxes are the data's own.
    """

    clip: str | tuple[str, ...] = "tiny"
    unclip: str | tuple[str, ...] = "tiny"
    llm: str | tuple[str, ...] = "tiny"
    metric: str = "tiny"
    image_size: int | None = None
    captioner: str | tuple[str, ...] | None = None
    detector: str | tuple[str, ...] | None = None


@dataclass(frozen=True)
class EncoderShape:
    """Size of ViT3D; the defaults are the paper's where it states them (16 layers, width 768, head hidden 1024).

    Heads, MLP ratio, pre-norm, GELU and learned positions by grid cell are not stated: those of ViT-B are taken.
    Our additions: `embedding` is 'shared' by all patches as in a plain ViT, or 'local', a linear map for each patch;
    `evidence` is the number of target components that a linear decoder, solved in closed form, reads from each patch
    (0: none, as in the paper); it is fitted to each 'subject', or to 'all' at once (`evidence_of`).
    """

    width: int = 768
    layers: int = 16
    heads: int = 12
    mlp_ratio: float = 4.0
    head_hidden: int = 1024
    dropout: float = 0.0
    embedding: str = "shared"
    evidence: int = 0
    evidence_of: str = "subject"

    def network(self) -> dict:
        """The arguments of `encoder.BrainEncoder` that these settings give."""
        return {k: v for k, v in self.__dict__.items() if k != "evidence_of"}


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
    systems : tuple of str
        Encoders to train: 'main', 'flat', 'no-vae', 'per-subject' for one a subject, 'patches' for one for each
        further patch size, which are called 'p12', 'p10', ...
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
    systems: tuple[str, ...] = ("main", "patches", "flat", "no-vae", "per-subject")


@dataclass(frozen=True)
class Language:
    """Steps, batch and learning rate of stage 1 (projector alone) and stage 2 (projector and language model)."""

    steps: tuple[int, int] = (300, 1200)
    batch_size: tuple[int, int] = (32, 24)
    lr: tuple[float, float] = (1e-3, 5e-4)
    max_new_tokens: int = 64
    precision: str = "bf16"


@dataclass(frozen=True)
class Reconstruction:
    """Sampling, and what the beta ablation covers; `subjects_for_betas` of None means all."""

    beta: float = 0.93
    betas: tuple[float, ...] = (0.6, 0.75, 0.9, 0.98, 1.0)
    steps: int = 20
    guidance: float = 10.0
    noise_level: int = 0
    rescale: str = "none"
    images: int | None = None
    ablation_images: int | None = None
    ablation_subjects: int | None = None


@dataclass(frozen=True)
class Localization:
    """Concepts with at least `min_images` test pictures, at most `max_concepts` of them; `share` of voxels to zero."""

    min_images: int = 4
    max_concepts: int = 12
    share: float = 0.15


@dataclass(frozen=True)
class Evaluation:
    """Bootstrap resamples, permutations for chance, and pictures a subject for the text tasks (None: all)."""

    bootstrap: int = 2000
    permutations: int = 20
    caption_images: int | None = None


@dataclass(frozen=True)
class Profile:
    """All settings of a run."""

    name: str
    seed: int = 0
    device: str = "auto"
    simulation: Simulation | None = field(default_factory=Simulation)
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    models: Models = field(default_factory=Models)
    encoder: EncoderShape = field(default_factory=EncoderShape)
    alignment: Alignment = field(default_factory=Alignment)
    language: Language = field(default_factory=Language)
    reconstruction: Reconstruction = field(default_factory=Reconstruction)
    localization: Localization = field(default_factory=Localization)
    evaluation: Evaluation = field(default_factory=Evaluation)

    def to_dict(self) -> dict:
        """Plain nested dict, as JSON holds it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


_SECTIONS = {
    "simulation": Simulation,
    "preprocessing": Preprocessing,
    "models": Models,
    "encoder": EncoderShape,
    "alignment": Alignment,
    "language": Language,
    "reconstruction": Reconstruction,
    "localization": Localization,
    "evaluation": Evaluation,
}


def profile_names() -> list[str]:
    """Profiles that come with the package."""
    return sorted(p.stem for p in PROFILES.glob("*.yaml"))


def load_profile(name: str = "demo", **overrides) -> Profile:
    """A profile by name, or from a YAML file of your own.

    Parameters
    ----------
    name : str
        'smoke', 'demo', 'paper', 'haxby', or the path of a YAML file with the same keys.
    **overrides
        Top-level settings, e.g. ``seed=3``; None leaves the profile's value.

    Raises
    ------
    ConfigError
        An unknown profile, section or key, or a value of another kind than the default.
    """
    import yaml

    path = PROFILES / f"{name}.yaml"
    if not path.exists():
        path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"no profile {name!r}, expected one of {', '.join(profile_names())} or the path of a YAML file: "
            "give one of them with --profile"
        )
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(
            f"{path.name} is not YAML ({str(error).splitlines()[0]}), expected text such as 'seed: 3'; "
            "compare it with the profiles in the package"
        ) from error
    _require_known(content, Profile, path.name)
    return profile_from_dict(
        {"name": path.stem, **content, **{k: v for k, v in overrides.items() if v is not None}}
    )


def profile_from_dict(content: dict) -> Profile:
    """Build a profile from nested dicts; unknown keys and values of another kind are refused."""
    _require_known(content, Profile, "profile")
    values = {}
    for key, value in content.items():
        if key in _SECTIONS and value is not None:
            _require_known(value, _SECTIONS[key], f"section {key}")
            value = {k: _tuples(v) for k, v in value.items()}
            _require_kinds(value, _SECTIONS[key], f"section {key}")
            value = _SECTIONS[key](**value)
        values[key] = value
    _require_kinds(values, Profile, "profile")
    return Profile(**values)


def _require_known(content, kind, where: str) -> None:
    known = [f.name for f in dataclasses.fields(kind)]
    if not isinstance(content, dict):
        raise ConfigError(
            f"{where} is {content!r}, expected a setting a line: write KEY: VALUE, with keys among "
            f"{', '.join(known)}"
        )
    unknown = sorted(set(content) - set(known))
    if unknown:
        raise ConfigError(
            f"{where} has an unknown key {unknown[0]!r}, expected one of {', '.join(known)}; check the spelling"
        )


def _require_kinds(values: dict, section, where: str) -> None:
    hints = typing.get_type_hints(section)
    for key, value in values.items():
        if not _fits(value, hints[key]):
            raise ConfigError(
                f"{where} has {key} {json.dumps(value)}, expected {_words(hints[key])}; correct it in the profile"
            )


def _fits(value, kind) -> bool:
    """Whether a value is of the kind that a dataclass states; a whole number is a number, a bool is neither."""
    args = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return any(_fits(value, one) for one in args)
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = args[:1] * len(value) if args[-1] is Ellipsis else args
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    if kind in (int, float):
        return isinstance(value, (int, kind)) and not isinstance(value, bool)
    return isinstance(value, kind)


def _words(kind) -> str:
    """The kind of a setting in words."""
    names = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
    args = typing.get_args(kind)
    if isinstance(kind, types.UnionType):
        return " or ".join(_words(one) for one in args)
    if typing.get_origin(kind) is tuple:
        many = "" if args[-1] is Ellipsis else f"{len(args)} times "
        return f"a list of {many}({_words(args[0])})"
    if kind is types.NoneType:
        return "null"
    return names.get(kind, "a section of settings")


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value


def write_run(run: Path, profile: Profile, data_folder: str, facts: dict) -> None:
    """Record in RUN/run.json which profile and data a run was started with.

    Parameters
    ----------
    data_folder : str
        Folder of the data, relative to the run folder, so that no machine's path is stored.
    facts : dict
        What the book needs to know: data (its name), simulated, licence, terms, publish_images, device, commit, date.
    """
    if data_folder == ".":
        raise ConfigError(
            f"--out {run} is the data folder, expected a folder of its own for the run: choose another name"
        )
    try:
        run.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise ConfigError(
            f"--out {run} cannot be a run folder ({problem.strerror}), expected a folder or a new name: choose another"
        ) from problem
    partial = run / ".run.json.partial"
    content = {
        "profile": profile.name,
        "seed": profile.seed,
        "settings": profile.to_dict(),
        "data_folder": data_folder,
        **facts,
    }
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(run / "run.json")


def read_run(run) -> dict:
    """Content of RUN/run.json, with the settings as a `Profile`.

    Raises
    ------
    MissingError
        The folder is not a run.
    """
    path = Path(run) / "run.json"
    if not path.exists():
        raise MissingError(
            f"{Path(run).name}/ is not a run folder (run.json is missing); make one: neurovl reproduce --out {Path(run).name}"
        )
    try:
        content = json.loads(path.read_text())
        settings, _, _ = (content[key] for key in ("settings", "folds", "data_folder"))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise ConfigError(
            f"{Path(run).name}/run.json cannot be read ({type(problem).__name__}: {problem}), expected what neurovl "
            f"preprocess writes there: write it again with neurovl preprocess --data DIR --out {Path(run).name}"
        ) from problem
    return {**content, "settings": profile_from_dict(settings)}


def run_profile(run) -> Profile:
    """The profile that a run was started with."""
    return read_run(run)["settings"]
