"""What a system says of test pictures, on the disk: predictions, conditions for the generator, words."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from neurovl.baselines.decoder import Conditions, Predictions
from neurovl.errors import DataError

ARRAYS = ("image", "text", "start")  # of Conditions


@dataclass
class Statement:
    """What one system says of one subject's test pictures under one protocol.

    Attributes
    ----------
    image_ids : list of str
    said : dict of str to array, shape (n, ...)
        By the name of the feature.
    conditions : Conditions or None
        For the generator; None of a system that makes no pictures.
    tokens : array, shape (n, P, W), or None
        Patch tokens of which the common language model speaks.
    captions : list of str or None
        Of a system with a language model of its own.
    """

    image_ids: list[str]
    said: Predictions
    conditions: Conditions | None = None
    tokens: np.ndarray | None = None
    captions: list[str] | None = None

    def __post_init__(self) -> None:
        n = len(self.image_ids)
        arrays = {f"prediction {k}": v for k, v in self.said.items()}
        if self.conditions is not None:
            arrays |= {f"condition {k}": getattr(self.conditions, k) for k in ARRAYS}
        arrays |= {"tokens": self.tokens, "captions": self.captions}
        for name, values in arrays.items():
            if values is None:
                continue
            if len(values) != n:
                raise DataError(f"{name} has {len(values)} rows, expected {n}, one a picture")
            if name != "captions" and not np.isfinite(values).all():
                raise DataError(
                    f"{name} holds numbers that are not finite, expected finite ones: the system did not learn; lower its "
                    "learning rate in leaderboard.settings of the profile"
                )

    def take(self, rows: Sequence[int]) -> "Statement":
        """Some rows alone."""
        rows = list(rows)
        given = self.conditions
        if given is not None:
            given = replace(
                given, **{k: _rows(getattr(given, k), rows) for k in (*ARRAYS, "prompts")}
            )
        said = {k: v[rows] for k, v in self.said.items()}
        parts = [_rows(v, rows) for v in (self.tokens, self.captions)]
        return Statement([self.image_ids[k] for k in rows], said, given, *parts)

    def write(self, path: Path) -> None:
        """Write PATH.safetensors, arrays as float16, and PATH.json."""
        from safetensors.numpy import save_file

        arrays, words = {f"said/{k}": v for k, v in self.said.items()}, {}
        if self.conditions is not None:
            given = {f.name: getattr(self.conditions, f.name) for f in fields(Conditions)}
            arrays |= {f"conditions/{k}": given.pop(k) for k in ARRAYS}
            words["conditions"] = given
        arrays["tokens"] = self.tokens
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {k: np.ascontiguousarray(v, np.float16) for k, v in arrays.items() if v is not None},
            path.with_suffix(".safetensors"),
        )
        words |= {"image_ids": self.image_ids, "captions": self.captions}
        path.with_suffix(".json").write_text(json.dumps(words))


def _rows(values: np.ndarray | list | None, rows: list[int]) -> np.ndarray | list | None:
    return (
        [values[k] for k in rows]
        if isinstance(values, list)
        else (None if values is None else values[rows])
    )


def read_statement(path: Path) -> Statement:
    """What `Statement.write` wrote, arrays as float32."""
    from safetensors.numpy import load_file

    arrays = {
        k: v.astype(np.float32) for k, v in load_file(path.with_suffix(".safetensors")).items()
    }
    words = json.loads(path.with_suffix(".json").read_text())
    conditions = None
    if "conditions" in words:
        given = {k: arrays.get(f"conditions/{k}") for k in ARRAYS}
        conditions = Conditions(**given, **words["conditions"])
    said = {k.removeprefix("said/"): v for k, v in arrays.items() if k.startswith("said/")}
    return Statement(words["image_ids"], said, conditions, arrays.get("tokens"), words["captions"])


@dataclass
class Facts:
    """What a system cost, in system.json.

    Attributes
    ----------
    n_models, n_parameters : int
    train_seconds, predict_seconds : float
    trials_per_subject : float
        Training trials, the mean over subjects.
    settings : dict
    """

    n_models: int
    n_parameters: int
    train_seconds: float
    predict_seconds: float
    trials_per_subject: float
    settings: dict

    def write(self, folder: Path) -> None:
        """Write system.json."""
        (folder / "system.json").write_text(json.dumps(asdict(self), indent=1) + "\n")


def read_facts(folder: Path) -> Facts:
    """What `Facts.write` wrote."""
    return Facts(**json.loads((folder / "system.json").read_text()))
