"""Per-image scores and the rows of results.csv that follow from them."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from neurovl.encoder.targets import Targets
from neurovl.metrics import CaptionScore, protocol
from neurovl.results import Row

PLACE = ["data", "system", "condition", "task", "protocol", "subject", "metric"]
PER_IMAGE = [*PLACE, "image_id", "value"]

# Scores of resampled corpora, (k,), from how often each picture was drawn, (k, n_images).
Resampled = Callable[[np.ndarray], np.ndarray]
# Of each subject the pictures that something was said about, and the score of what was said.
Corpora = dict[str, tuple[Sequence[str], CaptionScore]]


class Table:
    """Collects per-image scores and turns them into rows of results.csv; each names the split of its test pictures."""

    def __init__(self, data: str, split: str, seed: int, resamples: int) -> None:
        self.data, self.split, self.seed, self.resamples = data, split, seed, resamples
        self.images: list[pd.DataFrame] = []
        self.rows: list[Row] = []

    def place(
        self, system: str, task: str, proto: str, subject: str, metric: str, condition: str = ""
    ) -> dict[str, str]:
        """Which number: the columns of a `Row` that say so."""
        names = (self.data, system, condition, task, proto, subject, metric)
        return dict(zip(PLACE, names, strict=True))

    def keep(self, place: dict, image_ids: Iterable[str], values: Sequence[float]) -> None:
        """A score for each image without a row; values of `place` may be arrays as long."""
        self.images.append(pd.DataFrame({**place, "image_id": list(image_ids), "value": values}))

    def add(
        self,
        system: str,
        task: str,
        proto: str,
        subject: str,
        metric: str,
        image_ids: Iterable[str],
        values: Sequence[float],
        chance: float | None = None,
        ceiling: float | None = None,
        condition: str = "",
    ) -> None:
        """One metric of one system: a row, and a score for each image."""
        values = np.asarray(values, float)
        place = self.place(system, task, proto, subject, metric, condition)
        self.keep(place, image_ids, values)
        self._row(place, values, chance, ceiling)

    def add_embeddings(
        self,
        said: dict[str, dict],
        task: str,
        proto: str,
        subject: str,
        ids: list[str],
        targets: Targets,
        permutations: int,
        condition: str = "",
    ) -> None:
        """Two-way identification of predicted embeddings among the test pictures, for each system and target.

        Parameters
        ----------
        said : dict of str to dict
            System to its embeddings of the pictures, 'clip' (n, E) and 'vae' (n, c, h, w) or flat; None where it has none.
        ids : list of str
            The pictures, in the same order.
        targets : Targets
        permutations : int
            For chance, see `protocol.two_way_chance`.
        condition : str
            What is varied.
        """
        rows = targets.rows(ids)
        true = {part: getattr(targets, part) for part in ("clip", "vae")}
        true = {k: v[rows].flatten(1).numpy() for k, v in true.items() if v is not None}
        for system, parts in said.items():
            for part, values in parts.items():
                if values is None:
                    continue
                a, b = np.asarray(values).reshape(len(ids), -1), true[part]
                chance = protocol.two_way_chance(a, b, self.seed, permutations).value
                scores = protocol.two_way(a, b)
                metric = f"two_way_{part}"
                self.add(
                    *(system, task, proto, subject, metric, ids, scores, chance, 1.0, condition)
                )

    def add_corpora(
        self,
        system: str,
        task: str,
        proto: str,
        metric: str,
        corpora: Corpora,
        chance: dict[str, float | None],
        condition: str = "",
    ) -> None:
        """A text score of each subject's corpus, and for 'all' the mean over subjects, resampled by picture.

        Its sentence scores are kept for the claims, as `metric` with the ending ``_sentence``.

        Parameters
        ----------
        corpora : dict of str to (image_ids, CaptionScore)
            For each subject.
        chance : dict of str to float
            For each subject, the score of what is said without a brain.
        """
        for _, score in corpora.values():
            if score.value is None:
                place = self.place(system, task, proto, "all", metric, condition)
                self.rows.append(Row(**place, note=score.reason))
                return
        for subject, (images, score) in corpora.items():
            place = self.place(system, task, proto, subject, metric, condition)
            self.keep(place | {"metric": f"{metric}_sentence"}, images, score.per_image)
            self._corpus_row(place, {subject: (images, score.resampled)}, chance.get(subject))
        known = _mean([chance.get(subject) for subject in corpora])
        parts = {subject: (ids, score.resampled) for subject, (ids, score) in corpora.items()}
        self._corpus_row(self.place(system, task, proto, "all", metric, condition), parts, known)

    def add_medians(
        self,
        system: str,
        task: str,
        proto: str,
        metric: str,
        ranks: dict[str, tuple[Sequence[str], np.ndarray]],
        condition: str = "",
    ) -> None:
        """The median rank of each subject's pictures, and for 'all' the mean of these, resampled by picture.

        Parameters
        ----------
        ranks : dict of str to (image_ids, ranks)
            For each subject, from 1; chance is the middle of all ranks.
        """
        parts = {who: (ids, resampled_median(values)) for who, (ids, values) in ranks.items()}
        middle = {who: (len(ids) + 1) / 2 for who, (ids, _) in ranks.items()}
        self.add_resampled(system, task, proto, metric, parts, condition, middle, 1.0)

    def add_resampled(
        self,
        system: str,
        task: str,
        proto: str,
        metric: str,
        parts: dict[str, tuple[Sequence[str], Resampled]],
        condition: str = "",
        chance: dict[str, float] | None = None,
        ceiling: float | None = None,
    ) -> None:
        """A score that is no mean over pictures, of each subject, and for 'all' the mean of these, resampled by picture.

        Parameters
        ----------
        parts : dict of str to (image_ids, Resampled)
            For each subject.
        chance : dict of str to float, optional
            For each subject.
        """
        chance = chance or {}
        for who in parts:
            place = self.place(system, task, proto, who, metric, condition)
            self._corpus_row(place, {who: parts[who]}, chance.get(who), ceiling)
        place = self.place(system, task, proto, "all", metric, condition)
        self._corpus_row(place, parts, _mean(list(chance.values())), ceiling)

    def _corpus_row(
        self,
        place: dict,
        corpora: dict[str, tuple[Sequence[str], Resampled]],
        chance: float | None,
        ceiling: float | None = None,
    ) -> None:
        images, mean = mean_over_subjects(corpora)
        interval = protocol.bootstrap_corpus(mean, len(images), self.seed, self.resamples)
        self._append(place, interval, len(images), chance, ceiling)

    def _row(
        self, place: dict, values: np.ndarray, chance: float | None, ceiling: float | None
    ) -> None:
        interval = protocol.bootstrap(values, self.seed, self.resamples)
        self._append(place, interval, len(values), chance, ceiling)

    def _append(
        self,
        place: dict,
        interval: protocol.Interval,
        n: int,
        chance: float | None,
        ceiling: float | None = None,
    ) -> None:
        value, low, high = interval
        note = f"split {self.split}" if self.split else ""
        self.rows.append(
            Row(
                **place,
                value=value,
                ci_low=low,
                ci_high=high,
                n=n,
                chance=chance,
                ceiling=ceiling,
                note=note,
            )
        )

    def add_all_subjects(self) -> None:
        """Rows for subject 'all': the mean over subjects of each image's score, resampled by image."""
        table = pd.concat(self.images) if self.images else pd.DataFrame(columns=PER_IMAGE)
        keys = ["system", "task", "protocol", "metric", "condition"]
        for key, part in table.groupby(keys, sort=False):
            system, task, proto, metric, condition = key
            if (part.subject == "all").any() or metric.endswith("_sentence"):
                continue  # a sentence score is no published number: it serves the claims alone
            like = [r for r in self.rows if tuple(getattr(r, k) for k in keys) == key]
            chance, ceiling = (_mean([getattr(r, f) for r in like]) for f in ("chance", "ceiling"))
            place = self.place(system, task, proto, "all", metric, condition)
            self._row(place, part.groupby("image_id").value.mean().to_numpy(), chance, ceiling)

    def frame(self) -> pd.DataFrame:
        """All per-image scores."""
        return pd.concat(self.images, ignore_index=True)


def mean_over_subjects(
    corpora: dict[str, tuple[Sequence[str], Resampled]],
) -> tuple[list[str], Resampled]:
    """The mean over subjects of scores of their corpora, and the pictures, in order of name, that it resamples."""
    images = pd.Index(sorted({i for ids, _ in corpora.values() for i in ids}))
    parts = [(images.get_indexer(ids), resampled) for ids, resampled in corpora.values()]

    def mean(drawn: np.ndarray) -> np.ndarray:
        scores = np.full((len(parts), len(drawn)), np.nan)
        for own, (columns, resampled) in zip(scores, parts, strict=True):
            some = drawn[:, columns].any(axis=1)  # pictures of this subject
            own[some] = resampled(drawn[np.ix_(some, columns)])
        return np.nanmean(scores, axis=0)

    return images.tolist(), mean


def resampled_median(values: np.ndarray) -> Resampled:
    """The median of resamples of `values`, from how often each was drawn."""
    values = np.asarray(values, float)
    order = np.argsort(values)

    def medians(drawn: np.ndarray) -> np.ndarray:
        passed = np.cumsum(drawn[:, order], axis=1)
        half = passed[:, -1:] / 2
        lower, upper = (passed < half).sum(1), (passed <= half).sum(1)
        return (values[order][lower] + values[order][upper]) / 2

    return medians


def _mean(values: list[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
