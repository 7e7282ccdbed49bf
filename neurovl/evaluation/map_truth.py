"""Maps of a simulated subject against the voxels that were made to answer to a concept; only these scores may open the truth.

'True voxels' of a concept are the tenth of the subject's mask with the largest true response to it. Chance is what maps of other concepts
reach, and the same map turned around the middle of the mask; the ceiling is the generating model itself, fitted to as many trials.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from neurovl.localization.heat import LEVEL, Heat, in_own_space, on_grid
from neurovl.localization.picture_responses import PictureResponses
from neurovl.run import Run
from neurovl.tokens.resize import resize_nearest

TRUE = 0.9  # quantile of the true map from which on a voxel counts as tuned
NOTHING = 0.03  # of the largest true response: below, a voxel has nothing to do with the concept
PENALTIES = np.geomspace(
    1e-2, 1e3, 16
)  # of the ceiling, in units of the mean squared singular value


def true_maps(run: Run, subject: str) -> dict[str, np.ndarray]:
    """The simulation's true maps by concept, arrays (x, y, z); none for other data."""
    if not run.recordings.simulated:
        return {}
    from neurovl.smallworld.subjects import truth

    return truth(run.recordings.root, subject)


def true_heats(run: Run, subject: str, names: Sequence[str]) -> dict[str, Heat]:
    """The true maps of concepts, scaled to the largest response."""
    maps, affine = true_maps(run, subject), run.recordings.affine(subject)
    return {
        c: Heat(c, subject, (maps[c] / (maps[c].max() or 1)).astype(np.float32), affine)
        for c in names
        if c in maps
    }


def true_areas(run: Run, subject: str, heats: dict[str, Heat]) -> pd.DataFrame:
    """Areas under the ROC curve of each map against the true voxels of each concept: subject, concept, map, auc."""
    maps, mask = true_maps(run, subject), run.recordings.mask(subject)
    known = [c for c in heats if c in maps]
    if not known:
        return pd.DataFrame(columns=["subject", "concept", "map", "auc"])
    tuned = np.stack([_tuned(maps[c][mask]) for c in known])
    found = areas(tuned, np.stack([heats[c].values[mask] for c in known]))
    rows = [
        (subject, c, shown, float(found[n, k]))
        for k, shown in enumerate(known)
        for n, c in enumerate(known)
    ]
    return pd.DataFrame(rows, columns=["subject", "concept", "map", "auc"])


def areas(true: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Areas under the ROC curve, (T, M): the chance that a true voxel is hotter than another one, ties counting half.

    Parameters
    ----------
    true : bool array, shape (T, n)
    values : array, shape (M, n)
    """
    from scipy.stats import rankdata

    ones = true.sum(1)[:, None]
    ranks = true.astype(float) @ rankdata(values, axis=1).T
    return (ranks - ones * (ones + 1) / 2) / (ones * (true.shape[1] - ones))


def _tuned(response: np.ndarray) -> np.ndarray:
    return response > np.quantile(response, TRUE)


def truth_scores(run: Run, subject: str, heats: dict[str, Heat]) -> list[dict]:
    """Of each concept's map: a dict with subject, concept and the scores below; none where there is no truth.

    ====================  ==========================================================================================
    average_precision     area under precision over recall of the true voxels
    dice                  overlap of as many of the hottest voxels as there are true ones with these
    peak_distance         from the hottest voxel to the nearest true one, mm
    map_correlation       with the true response, over the mask
    auc_turned            area under the ROC curve of the map turned by half a turn around the vertical axis
    false_discoveries     share of the voxels found at a false discovery rate of 5 % that have nothing to do with the concept
    true_voxels_found     share of the true voxels that is found so
    family_discoveries    the same as false_discoveries, of voxels found at p <= .05 over the family of all voxels
    ====================  ==========================================================================================
    """
    from sklearn.metrics import average_precision_score

    maps, mask = true_maps(run, subject), run.recordings.mask(subject)
    places = np.argwhere(mask) @ np.abs(run.recordings.affine(subject)[:3, :3]).T
    rows = []
    for concept, heat in heats.items():
        if concept not in maps:
            continue
        response, values = maps[concept][mask], heat.values[mask]
        true, hot = _tuned(response), np.argsort(-values, kind="stable")
        top = np.zeros(len(true), bool)
        top[hot[: true.sum()]] = True
        distance = np.linalg.norm(places[true] - places[hot[0]], axis=1).min()
        row = {
            "subject": subject,
            "concept": concept,
            "average_precision": float(average_precision_score(true, values)),
            "dice": float((top & true).sum() / true.sum()),
            "peak_distance": float(distance),
            "map_correlation": _correlation(response, values),
            "auc_turned": float(areas(true[None], turned(heat.values, mask)[None])[0, 0]),
        }
        if heat.p is not None and heat.p_family is not None:
            nothing = response < NOTHING * response.max()
            found, family = heat.significant(mask)[mask], heat.p_family[mask] <= LEVEL
            row["false_discoveries"] = float(nothing[found].mean()) if found.any() else np.nan
            row["true_voxels_found"] = float(found[true].mean())
            row["family_discoveries"] = float(nothing[family].mean()) if family.any() else np.nan
        rows.append(row)
    return rows


def turned(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """A map turned by half a turn around the mask's vertical axis: in each voxel of the mask (C order) the value of the one nearest to where it came from."""
    from scipy.spatial import cKDTree

    at = np.argwhere(mask).astype(float)
    back = 2 * at.mean(0) - at
    back[:, 2] = at[:, 2]
    return values[mask][cKDTree(at).query(back)[1]]


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if not a.std() or not b.std():
        return 0.0
    return float(np.corrcoef(a, b)[0, 1])


def ceiling_maps(run: Run, names: Sequence[str], responses: PictureResponses) -> dict[str, Heat]:
    """Maps by the generating model itself, fitted to the same trials: what remains to be lost is noise alone.

    Its form is known (which voxels see pixels, each voxel's receptive field, how a thing in it drives the voxel), its weights are
    not: ridge regression, with each voxel's penalty at the maximum of the marginal likelihood.
    """
    from neurovl.smallworld.subjects import known_model

    store, subject = run.store, responses.subject
    model = known_model(run.recordings.root, subject, responses.image_ids)
    number = np.full(model.sees.shape, -1)
    number[model.sees] = np.arange(model.sees.sum())
    at = resize_nearest(number, store.target).ravel()[store.region]
    known = np.flatnonzero((at >= 0) & responses.voxels.any(0) & store.measured(subject))
    weights = np.zeros((len(model.concepts), store.n_voxels), np.float32)
    for column in known:
        weights[:, column] = ridge(model.drives(at[column]), responses.voxels[:, column])
    tuned = dict(zip(model.concepts, np.maximum(weights, 0), strict=True))
    return {
        c: in_own_space(c, store, subject, on_grid(store, tuned[c])) for c in names if c in tuned
    }


def ridge(features: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Weights (C,) of features (n, C) for values (n,), with the penalty of the largest marginal likelihood."""
    u, s, v = np.linalg.svd(features - features.mean(0), full_matrices=False)
    values = values - values.mean()
    inside = u.T @ values
    outside = max(float(values @ values - inside @ inside), 1e-9)
    penalties = PENALTIES * max(float((s**2).mean()), 1e-12)
    variance = s[:, None] ** 2 / penalties + 1  # (K, P), in units of the noise's
    misfit = (inside[:, None] ** 2 / variance).sum(0) + outside
    evidence = -0.5 * (len(values) - 1) * np.log(misfit) - 0.5 * np.log(variance).sum(0)
    penalty = penalties[int(np.argmax(evidence))]
    return (v.T @ (s * inside / (s**2 + penalty))).astype(np.float32)
