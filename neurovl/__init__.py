"""Brain recordings to language and pictures: one Vision Transformer 3D for every subject.

Names are imported when they are first used, so that `import neurovl` is instant.
"""

from importlib import import_module

__version__ = "0.1.0"

_WHERE = {
    "open_recordings": "recordings",
    "preprocess": "pipeline",
    "reproduce": "pipeline",
    "start_run": "pipeline",
    "make": "pipeline",
    "ensure": "pipeline",
    "Run": "run",
    "open_run": "run",
    "simulate": "smallworld.subjects",
    "PatchPlan": "tokens.patch_plan",
    "TokenStore": "tokens.store",
    "BrainEncoder": "encoder.vit3d",
    "BrainEmbedding": "encoder.vit3d",
    "BrainLLM": "language",
    "Reconstructor": "reconstruction.reconstructor",
    "load_profile": "settings.profile_files",
    "load_published": "hub",
    "NeurovlError": "errors",
}
_MODULES = ("metrics", "foundation", "figures", "widgets")

__all__ = [*_WHERE, *_MODULES, "__version__"]


def __getattr__(name: str) -> object:
    if name in _WHERE:
        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'neurovl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
