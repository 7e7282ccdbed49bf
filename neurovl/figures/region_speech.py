"""What regions say: the test pictures that drive each most, and what is painted of the embedding that drives it.

Left out: finding these (`neurovl.evaluation.region_words`).
"""

from collections.abc import Sequence

import pandas as pd
import torch
from matplotlib.figure import Figure

from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.evaluation.region_words import pictures_of_region
from neurovl.figures.inputs import seen
from neurovl.figures.reconstructions import grid
from neurovl.run import Run

SEEN, PAINTED, SAID = 4, 2, 3  # pictures and words of a region


def region_speech(
    run: Run, words: pd.DataFrame, subject: str, regions: Sequence[str], source: str = ""
) -> Figure | None:
    """A row a region: its words, the test pictures whose things should drive it most, and paintings of what drives it.

    Parameters
    ----------
    run : Run
        With pictures and a diffusion model.
    words : DataFrame
        localization/regions.csv.
    subject : str
    regions : sequence of str
        Those without words are left out.

    Returns
    -------
    Figure or None
        None where no region has words.
    """
    own = words[(words.subject == subject) & (words.method == "tuning")]
    rows, painter = {}, run.reconstructor()
    for region in [r for r in regions if r in set(own.roi)]:
        said = own[own.roi == region].nlargest(SAID, "value").concept
        expected, drive = pictures_of_region(run, subject, region)
        embedding = torch.as_tensor(drive, dtype=torch.float32).expand(PAINTED, -1)
        z = BrainEmbedding(embedding, None, embedding)
        painted = painter.batch(z, beta=1.0, seeds=range(PAINTED))
        label = f"{region}: {', '.join(said)}"
        rows[label] = [*seen(run.recordings, list(expected.index[:SEEN])), *painted]
    if not rows:
        return None
    below = [f"drives it most, {k + 1}" for k in range(SEEN)]
    below += [f"painted, {k + 1}" for k in range(PAINTED)]
    return grid(rows, below, source)
