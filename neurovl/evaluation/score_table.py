"""Per-image scores and the rows of results.csv that follow from them."""

import numpy as np
import pandas as pd

from neurovl.metrics import protocol
from neurovl.results import Row

PER_IMAGE = ["data", "system", "task", "protocol", "subject", "metric", "image_id", "value"]


class Table:
    """Collects per-image scores and turns them into rows of results.csv; each names the split of its test pictures."""

    def __init__(self, data: str, split: str, seed: int, resamples: int):
        self.data, self.split, self.seed, self.resamples = data, split, seed, resamples
        self.images: list[pd.DataFrame] = []
        self.rows: list[Row] = []

    def add(
        self,
        system,
        task,
        proto,
        subject,
        metric,
        image_ids,
        values,
        chance=None,
        ceiling=None,
    ) -> None:
        """One metric of one system: a row, and a score for each image."""
        values = np.asarray(values, float)
        fields = {
            "data": self.data,
            "system": system,
            "task": task,
            "protocol": proto,
            "subject": subject,
            "metric": metric,
        }
        self.images.append(
            pd.DataFrame(
                {**fields, "image_id": list(image_ids), "value": values},
                columns=PER_IMAGE,
            )
        )
        self._row(fields, values, chance, ceiling)

    def add_embeddings(self, said, task, proto, subject, ids, targets, permutations: int) -> None:
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
                self.add(system, task, proto, subject, f"two_way_{part}", ids, scores, chance, 1.0)

    def _row(self, fields, values, chance, ceiling):
        mean, low, high = protocol.bootstrap(values, self.seed, self.resamples)
        self.rows.append(
            Row(
                **fields,
                value=mean,
                ci_low=low,
                ci_high=high,
                n=len(values),
                chance=chance,
                ceiling=ceiling,
                note=f"split {self.split}" if self.split else "",
            )
        )

    def add_all_subjects(self) -> None:
        """Rows for subject 'all': the mean over subjects of each image's score, resampled by image."""
        table = pd.concat(self.images) if self.images else pd.DataFrame(columns=PER_IMAGE)
        keys = ["system", "task", "protocol", "metric"]
        for (system, task, proto, metric), part in table.groupby(keys, sort=False):
            if (part.subject == "all").any() or metric.endswith("_sentence"):
                continue  # a sentence score is no published number: it serves the claims alone
            like = [
                r
                for r in self.rows
                if (r.system, r.task, r.protocol, r.metric) == (system, task, proto, metric)
            ]
            chance, ceiling = (_mean([getattr(r, f) for r in like]) for f in ("chance", "ceiling"))
            fields = {
                "data": self.data,
                "system": system,
                "task": task,
                "protocol": proto,
                "subject": "all",
                "metric": metric,
            }
            self._row(fields, part.groupby("image_id").value.mean().to_numpy(), chance, ceiling)

    def frame(self) -> pd.DataFrame:
        """All per-image scores."""
        return pd.concat(self.images, ignore_index=True)


def _mean(values):
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None
