"""What is here and what is missing for a profile, and whether the widths of its models fit together."""

from .examination import examine
from .findings import Finding

__all__ = ["Finding", "examine"]
