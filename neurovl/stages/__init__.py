"""Stages of a run: whole or not at all, done again only when something that they rest on changed. Imports errors alone."""

from neurovl.stages.code import code_hash
from neurovl.stages.stage_folder import (
    PROVENANCE,
    NotUpToDate,
    Stage,
    look_only,
    package_versions,
    provenance_key,
    stage,
)

__all__ = [
    "PROVENANCE",
    "NotUpToDate",
    "Stage",
    "code_hash",
    "look_only",
    "package_versions",
    "provenance_key",
    "stage",
]
