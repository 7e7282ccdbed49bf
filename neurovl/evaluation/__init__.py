"""What a trained run is asked to do on the test pictures, and how that is scored.

`answer`, `reconstruct`, `localize` and `weigh` write their outputs below the run folder; `score` reads them and writes
results.csv, per_image.csv and claims.csv.
"""

from .importance import regions, weigh
from .maps import concepts, localize
from .pictures import reconstruct
from .scores import score
from .text import answer

__all__ = ["answer", "concepts", "localize", "reconstruct", "regions", "score", "weigh"]
