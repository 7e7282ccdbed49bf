"""What a region says: the words and the pictures that it answers to most, and an embedding to paint.

The question of BrainSCUBA (Luo et al. 2024, ICLR) and BrainDiVE (Luo et al. 2023, NeurIPS), asked of a region's mean response. In
simulations the region's true preference is known: the mean true response of its voxels to each concept.
"""

import numpy as np
import pandas as pd

from neurovl.evaluation.map_truth import true_maps
from neurovl.evaluation.score_table import Table
from neurovl.localization.concept_maps import VOXEL_MAPS, SubjectPictures
from neurovl.localization.concept_tuning import ConceptTuning
from neurovl.localization.picture_responses import sizes_of, standard
from neurovl.run import Run
from neurovl.run.mapped_pictures import stored_regions, training_responses

WAYS = ("tuning", "contrast", "word-responses")
FEWEST = 20  # measured voxels of a region
SHARPNESS = (
    3.0  # how much more a picture counts for each standard deviation of its expected response
)


def region_means(run: Run, subject: str) -> tuple[list[str], np.ndarray]:
    """The regions of `FEWEST` measured voxels at least, and their mean responses to the training pictures, standardised, (n, R)."""
    responses, measured = training_responses(run, subject), run.store.measured(subject)
    names, means = [], []
    for name, region in stored_regions(run, subject).items():
        if (region & measured).sum() >= FEWEST:
            names.append(name)
            means.append(responses.voxels[:, region & measured].mean(1))
    return names, standard(np.array(means).reshape(len(names), -1).T)


def words_of_regions(run: Run, pictures: SubjectPictures) -> pd.DataFrame:
    """How much each region answers to each concept, by each of `WAYS`: subject, roi, method, concept, value, and in simulations truth."""
    names, means = region_means(run, pictures.subject)
    columns = ["subject", "roi", "method", "concept", "value", "truth"]
    if not names:
        return pd.DataFrame(columns=columns)
    maps = true_maps(run, pictures.subject)
    regions, mask = run.recordings.rois(pictures.subject), run.recordings.mask(pictures.subject)
    rows = []
    for method in WAYS:
        found = VOXEL_MAPS[method](pictures, pictures.responses())(means)
        for concept, values in zip(pictures.names, found, strict=True):
            for roi, value in zip(names, values, strict=True):
                true = maps[concept][regions[roi] & mask].mean() if concept in maps else np.nan
                rows.append((pictures.subject, roi, method, concept, float(value), float(true)))
    return pd.DataFrame(rows, columns=columns)


def score_regions(table: Table, words: pd.DataFrame) -> None:
    """Correlation over concepts of what regions say with their true preference, metric ``region_words``; an 'image' is a region.

    Chance is the correlation with the preferences of other regions.
    """
    known = words[words.truth.notna()]
    for (subject, method), part in known.groupby(["subject", "method"], sort=False):
        said = part.pivot(index="roi", columns="concept", values="value")
        true = part.pivot(index="roi", columns="concept", values="truth")
        varied = (said.std(axis=1) > 0) & (true.std(axis=1) > 0)
        if varied.sum() < 2 or said.shape[1] < 3:
            continue
        n = int(varied.sum())
        r = np.corrcoef(said[varied], true[varied])[:n, n:]
        chance = float((r.sum() - np.trace(r)) / (n * (n - 1)))
        place = (method, "localization", "average", subject, "region_words")
        table.add(*place, said.index[varied], np.diag(r), chance)


def pictures_of_region(run: Run, subject: str, roi: str) -> tuple[pd.Series, np.ndarray]:
    """What drives a region most, by its tuning: the things in a picture, as large as they are, times what it answers to each.

    Returns
    -------
    Series
        The expected response to each test picture, by picture, the largest first.
    array, shape (E,)
        A CLIP embedding to paint: that of the training pictures, weighted by the softmax of `SHARPNESS` times their expected response
        (standardised).
    """
    responses = training_responses(run, subject)
    tunings = run.once(f"tuning of regions of {subject}", lambda: _tunings(run, subject))
    tuning = tunings[roi] / responses.sizes.std(0)  # of sizes as they are
    ids = run.test_images(subject)
    held = [sizes_of(run.recordings.objects(image)) for image in ids]
    sizes = np.array([[one.get(name, 0.0) for name in responses.names] for one in held])
    drive = standard((responses.sizes @ tuning)[:, None])[:, 0]
    weights = np.exp(SHARPNESS * (drive - drive.max()))
    expected = pd.Series(sizes @ tuning, ids).sort_values(ascending=False)
    return expected, weights @ responses.clip / weights.sum()


def _tunings(run: Run, subject: str) -> dict[str, np.ndarray]:
    """By region, what it answers to of the concepts of the training pictures, (C,)."""
    responses, (names, means) = training_responses(run, subject), region_means(run, subject)
    found = ConceptTuning(responses.sizes, responses.latents).weights(means)
    return dict(zip(names, found.T, strict=True))
