"""The command line: each verb a few lines around the package; every error one sentence, without a traceback."""

import logging
import sys

from ..errors import NeurovlError
from . import adapt, convert, data, download, models, runs  # noqa: F401  (they register their verbs)
from .options import app


def main() -> None:
    """Entry point: runs the verb; exits with 1 and one sentence where something is not as it should be."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "root", "papermill", "nilearn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        app()
    except NeurovlError as error:
        sys.exit(f"neurovl: {error}")
    except KeyboardInterrupt:
        sys.exit("neurovl: interrupted; the same command continues where it stopped")
