"""The table of one trial's shapes, and the list of what did not fit."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neurovl.doctor.findings import Finding, readable
from neurovl.errors import NeurovlError

if TYPE_CHECKING:
    import numpy as np
    import torch

# What the libraries raise where shapes or configurations do not fit.
REFUSALS = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    OSError,
)


@dataclass(frozen=True)
class Row:
    """What a stage made: its shape, and the parameters of its network."""

    stage: str
    what: str
    shape: tuple[int, ...]
    parameters: int | None = None


@dataclass
class Trial:
    """The rows of the table in order, and what did not fit."""

    rows: list[Row] = field(default_factory=list)
    faults: list[Finding] = field(default_factory=list)

    def add(
        self,
        stage: str,
        what: str,
        shape: "torch.Tensor | np.ndarray | Sequence[int]",
        parameters: int | None = None,
    ) -> None:
        """Note a shape, of a tensor or given."""
        self.rows.append(Row(stage, what, tuple(getattr(shape, "shape", shape)), parameters))

    def check(self, stage: str, fits: bool, what: str, fix: str) -> bool:
        """Note a fault where two numbers do not agree."""
        if not fits:
            self.faults.append(Finding(f"{stage}: {what}", False, fix))
        return fits

    @contextlib.contextmanager
    def stage(self, name: str, settings: str) -> Iterator[None]:
        """What goes wrong in a stage becomes a fault that names the stage and its settings."""
        try:
            yield
        except NeurovlError as error:
            self.faults.append(Finding(f"{name} ({settings})", False, str(error)))
        except REFUSALS as error:
            first = (str(error).strip().splitlines() or [""])[0] or type(error).__name__
            self.faults.append(
                Finding(
                    f"{name}: the shapes do not fit ({first[:200]})",
                    False,
                    f"change {settings} of the profile",
                )
            )

    def verdict(self) -> Finding:
        """The finding where nothing was amiss."""
        return Finding(f"shapes: {len(self.rows)} shapes of one trial fit together", True)

    def table(self) -> list[str]:
        """The rows as lines of text, with the memory of the parameters in bf16 (2 bytes each)."""
        cells = [("stage", "what", "shape", "parameters", "in bf16")]
        for row in self.rows:
            n = row.parameters
            sizes = ("", "") if n is None else (f"{n:,}", readable(2 * n))
            shape = " x ".join(map(str, row.shape)) or "one number"
            cells.append((row.stage, row.what, shape, *sizes))
        total = sum(row.parameters or 0 for row in self.rows)
        cells.append(("", "all networks", "", f"{total:,}", readable(2 * total)))
        wide = [max(len(row[i]) for row in cells) for i in range(5)]
        return [
            f"{a:<{wide[0]}}  {b:<{wide[1]}}  {c:<{wide[2]}}  {d:>{wide[3]}}  {e:>{wide[4]}}".rstrip()
            for a, b, c, d, e in cells
        ]
