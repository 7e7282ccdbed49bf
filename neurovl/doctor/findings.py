"""What was looked at, and what to do where it is not as needed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what : str
    ok : bool
    fix : str
        The next step where it is not as needed.
    needed : bool
        Whether the profile cannot run without it.
    """

    what: str
    ok: bool
    fix: str = ""
    needed: bool = True

    def line(self) -> str:
        """The finding in one line."""
        if self.ok:
            return f"ok       {self.what}"
        return f"{'MISSING ' if self.needed else 'note    '} {self.what}: {self.fix}"

    @property
    def stops(self) -> bool:
        """Whether the profile cannot run because of it."""
        return self.needed and not self.ok


def readable(n_bytes: float) -> str:
    """``1536`` as ``1.5 kB``, in powers of 1000, as `neurovl download` counts."""
    from neurovl.download.engine import readable as in_units

    return in_units(n_bytes)
