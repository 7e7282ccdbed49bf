"""What is known of a model before it is loaded: where it lies, its configuration, size and licence; no weights are read.

Configurations come from the model's folder, from the hub's cache, or from the published facts in `published/`, each of
which names its source.
"""

import importlib.util
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path

from neurovl.errors import DataError, MissingError
from neurovl.foundation.source import TINY, alternatives, cached_snapshot
from neurovl.settings.sections import Models

PUBLISHED = Path(__file__).parent / "published"
COMPONENTS = {
    "clip": ("clip",),
    "unclip": (
        "unet",
        "vae",
        "text_encoder",
        "image_encoder",
        "image_normalizer",
        "scheduler",
        "image_noising_scheduler",
        "feature_extractor",
    ),
    "llm": ("llm",),
    "metric": ("metric",),
    "captioner": ("captioner",),
    "detector": ("detector",),
}
RANDOM = "RANDOM_WEIGHTS.md"  # in the folder of a model in which nothing was learned
_FILES = {
    "clip": "open_clip_config.json",
    "llm": "config.json",
    "metric": "config.json",
    "feature_extractor": "feature_extractor/preprocessor_config.json",
    "scheduler": "scheduler/scheduler_config.json",
    "image_noising_scheduler": "image_noising_scheduler/scheduler_config.json",
}
WEIGHTS = (".safetensors", ".bin", ".pt")


@dataclass(frozen=True)
class Facts:
    """What was published of a model.

    Attributes
    ----------
    title, licence, hub : str
        `hub` is the id that it is fetched by today.
    ids : tuple of str
        Names by which a profile may call it.
    kind : str
        'clip', 'unclip', 'llm', 'captioner' or 'detector'.
    gated : bool
        Whether its licence must be accepted on the hub first.
    source : tuple of str
    configs : dict
        Component to its configuration.
    parameters : dict
        Component to its number of parameters.
    tokenizer : dict
        Of a language model: `length` and `chat_template`.
    withdrawn : dict
        Ids that no longer exist, and since when.
    """

    title: str
    kind: str
    ids: tuple[str, ...]
    hub: str
    licence: str
    gated: bool
    source: tuple[str, ...]
    configs: dict
    parameters: dict
    tokenizer: dict = field(default_factory=dict)
    withdrawn: dict = field(default_factory=dict)


@cache
def published() -> tuple[Facts, ...]:
    """All published models that the package knows."""
    found = [json.loads(path.read_text()) for path in sorted(PUBLISHED.glob("*.json"))]
    return tuple(
        Facts(**{**one, "ids": tuple(one["ids"]), "source": tuple(one["source"])}) for one in found
    )


def find_facts(spec: str | Sequence[str]) -> Facts | None:
    """The published facts of a model that a profile names (the first known of several names), else None."""
    names = [one.partition("@")[0] for one in alternatives(spec)]
    return next((facts for one in names for facts in published() if one in facts.ids), None)


def find_folder(spec: str | Sequence[str], part: str) -> Path | None:
    """Where a model's files lie on this machine: the tiny family, a folder, or the hub's cache; None if nowhere.

    Parameters
    ----------
    spec : str or sequence of str
        As in a profile; of several names the first that is here.
    part : str
        'clip', 'unclip', 'llm' or 'metric'.
    """
    for one in alternatives(spec):
        folder = TINY / part if one == "tiny" else Path(one).expanduser()
        if folder.is_dir():
            return folder
        facts = find_facts(one)
        name = facts.hub if facts and facts.kind == "clip" else one.removeprefix("hf-hub:")
        if name.count("/") == 1 and (cached := cached_snapshot(name)) is not None:
            return cached
    return None


def with_random_weights(models: Models) -> list[str]:
    """The models of a profile whose folders say that nothing was learned in them, as those of a rehearsal do."""
    named = {f.name: getattr(models, f.name) for f in fields(models) if f.name in COMPONENTS}
    named |= {f"llms/{name}": spec for name, spec in models.llms.items()}
    folders = {part: find_folder(spec, part) for part, spec in named.items() if spec is not None}
    return [part for part, folder in folders.items() if folder and (folder / RANDOM).is_file()]


def configurations(spec: str | Sequence[str], part: str) -> dict:
    """The configuration of each component of a model: from its folder, else open_clip's or as published.

    Raises
    ------
    MissingError
        The model is neither here nor a known one.
    DataError
        A configuration that is no JSON object, or a folder without one.
    """
    folder, facts = find_folder(spec, part), find_facts(spec)
    architecture = _architecture(spec) if part == "clip" else None
    if architecture is not None:
        return {"clip": architecture}
    if folder is None:
        if facts is None or facts.kind != part:
            known = ", ".join(one.ids[-1] for one in published() if one.kind == part)
            raise MissingError(
                f"nothing is known of the {part} model {alternatives(spec)[0]}: it is in no folder, nor in the hub's cache, "
                f"nor among those whose configuration was published ({known or 'none'}); fetch it, or name another one "
                f"with models.{part} of the profile"
            )
        return facts.configs
    found = {name: _read(folder / _config_of(name), part) for name in COMPONENTS[part]}
    if part == "clip":
        found["clip"] = found["clip"].get("model_cfg", found["clip"])
    return found


def _architecture(spec: str | Sequence[str]) -> dict | None:
    """open_clip's own configuration of an 'ARCHITECTURE/TAG', read without importing it."""
    package = importlib.util.find_spec("open_clip")
    for one in alternatives(spec):
        facts = find_facts(one)
        name = (facts.ids[0] if facts else one).partition("/")[0]
        for root in package.submodule_search_locations if package else ():
            path = Path(root) / "model_configs" / f"{name}.json"
            if path.is_file():
                return _read(path, "clip")
    return None


def _config_of(component: str) -> str:
    """File of a component's configuration, relative to the model's folder."""
    return _FILES.get(component, f"{component}/config.json")


def _read(path: Path, part: str) -> dict:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as problem:
        raise DataError(
            f"{path} cannot be read ({type(problem).__name__}), expected the configuration of the {part} model in the "
            f"hub's format; fetch the model again, or name another one with models.{part} of the profile"
        ) from problem
    if not isinstance(content, dict):
        raise DataError(
            f"{path} holds {type(content).__name__}, expected an object of settings; fetch the {part} model again"
        )
    return content


def parameters(spec: str | Sequence[str], part: str) -> dict[str, int]:
    """Number of parameters of each component, from the headers of its weights, else as published; {} if unknown."""
    folder, facts = find_folder(spec, part), find_facts(spec)
    if folder is not None:
        found = {}
        for name in COMPONENTS[part]:
            place = folder / name if part == "unclip" else folder
            shapes = weight_shapes(place)
            if shapes:
                found[name] = sum(math.prod(shape) for shape in shapes.values())
        if found:
            return found
    return dict(facts.parameters) if facts is not None else {}


def weight_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of every tensor in a folder's weights: of safetensors from their headers alone, of torch's without values.

    Raises
    ------
    DataError
        A file that is cut short or no safetensors file.
    """
    found = {}
    for path in _weight_files(folder):
        if path.suffix != ".safetensors":
            found |= _torch_shapes(path)
            continue
        try:
            with open(path, "rb") as file:
                size = int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(size)) if size < 1 << 28 else None
            ends = [
                one["data_offsets"][1] for name, one in header.items() if name != "__metadata__"
            ]
            if path.stat().st_size != 8 + size + max(ends, default=0):
                raise ValueError(
                    f"{path.stat().st_size} bytes, {8 + size + max(ends, default=0)} by its header"
                )
        except (OSError, ValueError, TypeError, AttributeError, KeyError) as problem:
            raise DataError(
                f"{path} is not whole ({problem}), expected weights in the safetensors format; fetch the model again"
            ) from problem
        found |= {n: tuple(one["shape"]) for n, one in header.items() if n != "__metadata__"}
    return found


def _torch_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Of a file that torch wrote; of one of its first years, which no memory map reads, nothing."""
    import pickle
    import zipfile

    import torch

    if path.suffix != ".bin" or not zipfile.is_zipfile(path):
        return {}
    try:
        state = torch.load(path, map_location="meta", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, pickle.UnpicklingError, ValueError, OSError) as problem:
        raise DataError(
            f"{path} cannot be read ({str(problem).splitlines()[0][:100]}), expected a state dict of tensors; fetch the "
            "model again"
        ) from problem
    return {name: tuple(value.shape) for name, value in state.items()}


def _weight_files(folder: Path) -> list[Path]:
    """The weights that a loader would take: one kind, one variant, and open_clip's own where there are others beside."""
    for suffix in WEIGHTS:
        files = sorted(p for p in folder.glob(f"*{suffix}") if p.name.count(".") == 1)
        if files:
            return [p for p in files if p.name.startswith("open_clip")] or files
    return []


def lacking(spec: str | Sequence[str], part: str) -> list[str]:
    """Files that a model's folder should hold and does not, such as 'unet/config.json'; [] where it is whole.

    Raises
    ------
    DataError
        Weights that are cut short.
    """
    folder = find_folder(spec, part)
    missing = []
    for name in COMPONENTS[part]:
        place = folder / name if part == "unclip" else folder
        if not (folder / _config_of(name)).is_file() and not (part == "clip" and find_facts(spec)):
            missing.append(_config_of(name))
        if name.endswith(("scheduler", "extractor")):
            continue
        index = next(iter(sorted(place.glob("*.index.json"))), None)
        if index is not None:
            shards = set(_read(index, part).get("weight_map", {}).values())
            missing += [f"{s}" for s in sorted(shards) if not (place / s).is_file()]
        elif not _weight_files(place):
            missing.append((place / "*.safetensors").relative_to(folder).as_posix())
        weight_shapes(place)
    if part in ("llm", "unclip"):
        words = folder / "tokenizer" if part == "unclip" else folder
        if not any(
            (words / n).is_file() for n in ("tokenizer.json", "tokenizer.model", "vocab.json")
        ):
            missing.append((words / "tokenizer.json").relative_to(folder).as_posix())
    return missing
