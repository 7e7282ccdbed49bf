"""What is here and what is missing for a profile, and whether the widths of its models fit together.

May import all rooms but hub and cli.
"""

from neurovl.doctor.examination import examine
from neurovl.doctor.findings import Finding

__all__ = ["Finding", "examine"]
