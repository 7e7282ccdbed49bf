"""What is here and what is missing for a profile: packages, Java, memory, models, data; each finding with its fix."""

import importlib.metadata
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .config import Profile, load_profile
from .errors import MissingError, NeurovlError

PACKAGES = (
    "torch", "torchvision", "transformers", "diffusers", "open_clip_torch", "accelerate", "nibabel", "nilearn", "himalaya",
    "pycocoevalcap", "papermill", "jupyter-book",
)  # fmt: skip
MEMORY_GB = {"smoke": 4, "haxby": 4, "demo": 8, "paper": 64}
DISK_GB = {"smoke": 1, "haxby": 1, "demo": 4, "paper": 600}
GPU_GB = {"paper": 80}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at, and what to do where it is not as needed."""

    what: str
    ok: bool
    fix: str = ""

    def line(self) -> str:
        """The finding in one line."""
        return f"ok       {self.what}" if self.ok else f"MISSING  {self.what}: {self.fix}"


def examine(profile: str = "demo", data=None) -> list[Finding]:
    """Look for everything that a profile needs.

    Parameters
    ----------
    profile : str
    data : path, optional
        The data folder that would be used.
    """
    settings = load_profile(profile)
    return [
        *_packages(),
        _torchvision(),
        _java(),
        *_resources(settings.name),
        *_models(settings),
        _data(settings, data),
    ]


def _packages():
    for name in PACKAGES:
        try:
            yield Finding(f"{name} {importlib.metadata.version(name)}", True)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, False, f"pip install {name}")


def _torchvision() -> Finding:
    try:
        import torchvision  # noqa: F401

        return Finding("torch and torchvision are of one build", True)
    except (RuntimeError, ImportError) as error:
        return Finding(
            f"torchvision does not load ({error})",
            False,
            "install the pair together: pip install --force-reinstall torch torchvision",
        )


def _java() -> Finding:
    from .metrics.captions import find_java

    try:
        find_java()
        return Finding("Java for the caption metrics", True)
    except MissingError as error:
        return Finding("Java for the caption metrics", False, str(error))


def _resources(name: str):
    memory = (
        os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
        if hasattr(os, "sysconf")
        else float("inf")
    )
    need = MEMORY_GB.get(name, 8)
    yield Finding(
        f"memory {memory:.0f} GB of {need} GB needed",
        memory >= 0.9 * need,
        "use a machine with more memory, or a smaller profile",
    )
    free, need = shutil.disk_usage(".").free / 2**30, DISK_GB.get(name, 4)
    yield Finding(f"disk {free:.0f} GB free of {need} GB needed", free >= need, "free some space")
    if name in GPU_GB:
        import torch

        size = (
            torch.cuda.get_device_properties(0).total_memory / 2**30
            if torch.cuda.is_available()
            else 0
        )
        yield Finding(
            f"GPU memory {size:.0f} GB of {GPU_GB[name]} GB needed",
            size >= 0.9 * GPU_GB[name],
            "use a machine with such a GPU, or --profile demo",
        )


def _models(profile: Profile):
    from .foundation.source import TINY

    for part, spec in (
        ("clip", profile.models.clip),
        ("unclip", profile.models.unclip),
        ("llm", profile.models.llm),
        ("metric", profile.models.metric),
    ):
        folder = TINY / part if spec == "tiny" else Path(spec)
        here = folder.is_dir() or _cached(spec)
        yield Finding(
            f"{part} model {spec}",
            here,
            f"hf download {spec} (accept its licence first), or name a local folder in the profile",
        )


def _cached(spec: str) -> bool:
    """Whether the hub's cache holds a model's folder."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return (Path(HF_HUB_CACHE) / f"models--{spec.replace('/', '--')}").is_dir()


def _data(profile: Profile, data) -> Finding:
    from .recordings import open_recordings

    if data is None:
        ok = profile.simulation is not None
        return Finding(
            "data: simulated NSD is made when needed" if ok else "data",
            ok,
            "give --data DIR (NSD, Haxby or your own table)",
        )
    try:
        found = open_recordings(data, subjects=profile.preprocessing.subjects)
        return Finding(f"data: {found!r}", True)
    except NeurovlError as error:
        return Finding("data", False, str(error))
