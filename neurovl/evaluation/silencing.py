"""What the encoder loses of a concept when voxels are silent: those located for it, others, more of them or fewer; and what else it loses."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from neurovl.encoder.alignment import predict
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.evaluation.score_table import Table
from neurovl.localization.heat import Heat
from neurovl.localization.zeroing import (
    CONTROLS,
    located_voxels,
    moved_voxels,
    presence,
    silence,
)
from neurovl.results import condition
from neurovl.settings.sections import Localization
from neurovl.tokens.store import TokenStore

ZEROED = ("located", "moved", "other")


def over_doses(
    store: TokenStore,
    encoder: BrainEncoder,
    heats: dict[str, Heat],
    voxels: np.ndarray,
    holds: dict[str, np.ndarray],
    text: dict[str, torch.Tensor],
    settings: Localization,
    seed: int,
) -> tuple[pd.DataFrame, pd.Series]:
    """`zeroing` at `settings.share`, and with fewer controls at each of `settings.doses`; a column ``share`` says which, and the Jaccard indices are those of the first."""
    about = (voxels, holds, text)
    lost, overlap = zeroing(store, encoder, heats, *about, settings.share, seed)
    tables = [lost.assign(share=settings.share)]
    for dose in sorted({*settings.doses} - {settings.share}):
        lost, _ = zeroing(store, encoder, heats, *about, dose, seed, controls=1)
        tables.append(lost.assign(share=dose))
    return pd.concat(tables), overlap


def zeroing(
    store: TokenStore,
    encoder: BrainEncoder,
    heats: dict[str, Heat],
    voxels: np.ndarray,
    holds: dict[str, np.ndarray],
    text: dict[str, torch.Tensor],
    share: float,
    seed: int,
    controls: int = CONTROLS,
) -> tuple[pd.DataFrame, pd.Series]:
    """How much of each concept is lost with a subject's located voxels, with these moved, and with those of other concepts.

    The concept's presence (see `localization.zeroing.presence`) is to come to 0, so that what located voxels leave counts by
    its size: below 0 the encoder contradicts the concept rather than forgets it, and so does one that never knew the
    concept when the voxels that happen to speak for it are silenced. What the controls leave counts as it is. So the located
    voxels' advantage is rather too small than too large. Moved voxels are the mean over `controls` sets, other concepts'
    over as many of those that share the fewest pictures with this one.

    Specific is what takes this concept and leaves the others: `drop_beside` is what the same located voxels take of the other
    concepts in the same picture, counted as the controls are.

    Parameters
    ----------
    heats : dict of str to Heat
        By concept.
    voxels : array, shape (n, V)
        Of all test pictures.
    holds : dict of str to bool array (n,)
        Which of the pictures hold the concept; one that all hold is left out.

    Returns
    -------
    DataFrame
        One row a concept and picture that holds it: concept, row (of `voxels`), presence, drop_located, drop_moved,
        drop_other (none where there is one concept alone), drop_beside (none where the picture holds nothing else).
    Series
        By concept, the Jaccard index of its located voxels with those of the other concepts above.
    """
    subject = next(iter(heats.values())).subject
    measured = store.measured(subject) & voxels.any(0)
    located = {c: located_voxels(store, heat, measured, share) for c, heat in heats.items()}

    def said(columns: np.ndarray) -> torch.Tensor:
        return predict(encoder, store.cut(silence(voxels, columns), encoder.layout)).clip

    whole, without = said(np.zeros_like(measured)), {c: said(v) for c, v in located.items()}
    names, lost, overlap = list(located), [], {}
    for k, c in enumerate(names):
        if holds[c].all():
            continue
        rng = np.random.default_rng([seed, k, 3])
        moved = moved_voxels(store, located[c], measured, rng, controls)
        others = names[k + 1 :] + names[:k]
        apart = sorted(others, key=lambda o: (holds[o] & holds[c]).sum())[:controls]
        there, left = (presence(z, text[c], holds[c]) for z in (whole, without[c]))
        drops = {
            "located": there - left * (np.sign(left.mean()) or 1),
            "moved": there - _mean_presence(map(said, moved), text[c], holds[c]),
            "other": there - _mean_presence([without[o] for o in apart], text[c], holds[c]),
            "beside": _lost_beside(whole, without[c], c, others, holds, text),
        }
        about = {"concept": c, "row": np.flatnonzero(holds[c]), "presence": there}
        lost.append(pd.DataFrame(about | {f"drop_{name}": v for name, v in drops.items()}))
        shared = [(located[c] & located[o]).sum() / (located[c] | located[o]).sum() for o in apart]
        overlap[c] = np.mean(shared) if shared else np.nan
    columns = ["concept", "row", "presence", *(f"drop_{name}" for name in (*ZEROED, "beside"))]
    table = pd.concat(lost) if lost else pd.DataFrame(columns=columns)
    return table, pd.Series(overlap, dtype=float)


def _mean_presence(
    said: Iterable[torch.Tensor], text: torch.Tensor, holds: np.ndarray
) -> np.ndarray:
    """Over sets of silenced voxels; not a number where there is none."""
    sets = [presence(z, text, holds) for z in said]
    return np.mean(sets, axis=0) if sets else np.full(holds.sum(), np.nan)


def _lost_beside(
    whole: torch.Tensor,
    without: torch.Tensor,
    concept: str,
    others: list[str],
    holds: dict[str, np.ndarray],
    text: dict[str, torch.Tensor],
) -> np.ndarray:
    """What each picture with the concept loses of the others that it holds, their mean; not a number where it holds none."""
    total, n = np.zeros(len(whole)), np.zeros(len(whole))
    for other in others:
        if not holds[other].all():
            total[holds[other]] += presence(whole, text[other], holds[other])
            total[holds[other]] -= presence(without, text[other], holds[other])
            n += holds[other]
    return np.divide(total, n, out=np.full(len(n), np.nan), where=n > 0)[holds[concept]]


def score_zeroing(
    table: Table, system: str, subject: str, zeroed: pd.DataFrame, share: float
) -> None:
    """How much of their concepts is in the predictions of the pictures, and what is lost with which voxels.

    Rows at other shares than `share` have it in their condition.

    Parameters
    ----------
    zeroed : DataFrame
        Columns image_id, share, presence, drop_located, drop_moved, drop_other, drop_beside; see `zeroing`. The score of a
        picture is the mean over the concepts in it.
    """
    place = (system, "localization", "average", subject)
    for dose, part in zeroed.groupby("share"):
        means = part.groupby("image_id").mean(numeric_only=True)
        varied = {} if dose == share else {"share": dose}
        if system == "neurovl" and not varied:  # the encoder's own, the same for every method
            table.add(*place, "presence", means.index, means.presence, 0.0)
        for name in ZEROED:
            values = means[f"drop_{name}"].dropna()
            if len(values):
                chance = float(means.drop_moved.mean()) if name == "located" else None
                silent = condition(zeroed=name, **varied)
                table.add(*place, "drop", values.index, values, chance, condition=silent)
        beside = means.drop_beside.dropna()
        if len(beside) > 1:
            silent = condition(zeroed="located", **varied)
            table.add(*place, "drop_beside", beside.index, beside, condition=silent)
