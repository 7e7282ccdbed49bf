"""The command line: each verb a few lines around the package; every error one sentence, without a traceback.

A verb takes --profile where it begins something, and --seed where it begins or draws something; what is done with a run
follows the profile and the seed that the run was begun with.
Imports every room, inside the verbs.
"""

import logging
import os
import sys

from neurovl.cli import (  # noqa: F401  (they register their verbs)
    adapt,
    betas,
    compare,
    convert,
    convert_arrays,
    data,
    download,
    export,
    models,
    runs,
    talking,
)
from neurovl.cli.options import app
from neurovl.errors import ConfigError, NeurovlError

SHARED = (["train", "encoder"], ["train", "llm"])  # and `make`, which says which stages


def main() -> None:
    """Entry point: runs the verb; exits with 1 and one sentence where something is not as it should be."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("neurovl").setLevel(logging.INFO)
    try:
        _require_one_process()
        app()
    except NeurovlError as error:
        sys.exit(f"neurovl: {error}")
    except KeyboardInterrupt:
        sys.exit("neurovl: interrupted; the same command continues where it stopped")


def _require_one_process() -> None:
    several = int(os.environ.get("WORLD_SIZE", "1")) > 1
    if several and sys.argv[1:2] != ["make"] and sys.argv[1:3] not in SHARED:
        raise ConfigError(
            f"neurovl {' '.join(sys.argv[1:3])} was started in {os.environ['WORLD_SIZE']} processes, expected one: only train "
            "encoder, train llm, make llm, make llms and make reconstructions share their work among processes; start this one without "
            "accelerate launch"
        )
