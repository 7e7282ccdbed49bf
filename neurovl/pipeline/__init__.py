"""A run's stages in order: begun, made, skipped while nothing that they rest on changed. Imports evaluation and below."""

from neurovl.pipeline.comparing import compare, search
from neurovl.pipeline.making import (
    STAGES,
    ensure,
    is_possible,
    make,
    needs,
    reproduce,
    reproduced,
    stages_of,
    up_to_date,
)
from neurovl.pipeline.starting import profile_for, simulate_for, start, start_run, world_of
from neurovl.pipeline.training import (
    annotate_pictures,
    embed_targets,
    preprocess,
    train_encoder,
    train_language,
    write_tokens,
)

__all__ = [
    "STAGES",
    "annotate_pictures",
    "compare",
    "embed_targets",
    "ensure",
    "is_possible",
    "make",
    "needs",
    "preprocess",
    "profile_for",
    "reproduce",
    "reproduced",
    "search",
    "simulate_for",
    "stages_of",
    "start",
    "start_run",
    "train_encoder",
    "train_language",
    "up_to_date",
    "world_of",
    "write_tokens",
]
