"""What can be set of the comparison with published systems."""

from dataclasses import dataclass, field

from neurovl.errors import ConfigError

Value = int | float | str | bool | tuple[int | float | str, ...]


@dataclass(frozen=True)
class Leaderboard:
    """Published systems under one protocol.

    Parameters
    ----------
    systems : tuple of str
        Those that are compared without being asked for, by name, or 'linear' or 'all'.
    images : int, optional
        Test pictures of a subject that are painted and captioned; all by default.
    settings : dict of str to dict
        By the name of a system, what it has instead of its settings as published; chosen by `neurovl search`.
    captioner_steps, captioner_batch_size, captioner_lr
        Training of the language model that speaks of patch tokens: projector alone, then both.
    budget : int
        Settings that `neurovl search` tries for each system.
    search_subjects : int, optional
        It fits the first subjects alone, so many; all by default.
    noise : tuple of float
        Standard deviations, in those of a single trial, of the noise that `neurovl compare --controls` adds.
    held_out : tuple of str
        Categories that it leaves out of the training of every brain map; two of medium frequency by default.
    """

    systems: tuple[str, ...] = ("linear",)
    images: int | None = None
    settings: dict[str, dict[str, Value]] = field(default_factory=dict)
    captioner_steps: tuple[int, int] = (1000, 4000)
    captioner_batch_size: int = 32
    captioner_lr: tuple[float, float] = (2e-3, 1e-3)
    budget: int = 8
    search_subjects: int | None = None
    noise: tuple[float, ...] = (0.5, 1.0, 2.0)
    held_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.budget < 1:
            raise ConfigError(
                f"leaderboard.budget is {self.budget}, expected 1 or more settings to try; correct it in the profile"
            )
