"""Rows on retrieval: which picture was seen, told by the brain, and which brain saw it, told by the picture."""

from collections import defaultdict

import numpy as np

from neurovl.encoder.targets import Targets
from neurovl.evaluation.score_table import Table
from neurovl.metrics import retrieval, retrieval_rank
from neurovl.results import condition

POOL = 300  # MindEye's
TOP = (1, 5)


class Retrieval:
    """Adds the rows of retrieval to a table, subject by subject.

    Metrics `image_top1` and `image_top5` are the share of brains that find their picture among the first in a pool,
    `brain_top1` and `brain_top5` of pictures that find their brain; the size of the pool is in `condition`.
    `image_median_rank` and `brain_median_rank` are medians of the rank among all test pictures, 1 being the best.
    """

    def __init__(self, table: Table, targets: Targets, task: str = "retrieval") -> None:
        self.table, self.targets, self.task = table, targets, task
        self._ranks: dict[tuple, dict] = defaultdict(dict)

    def add(
        self,
        said: dict[str, dict],
        proto: str,
        subject: str,
        ids: list[str],
        varied: str = "",
        true: np.ndarray | None = None,
    ) -> None:
        """Rows of one subject, for each system.

        Parameters
        ----------
        said : dict of str to dict
            As for `Table.add_embeddings`; of each system its 'clip' is used, (n, E).
        varied : str
            Condition besides the size of the pool.
        true : array, shape (n, E), optional
            What the brains are compared with; by default the pictures' CLIP embeddings.
        """
        if len(ids) < 2:
            return
        if true is None:
            true = self.targets.clip[self.targets.rows(ids)].flatten(1).numpy()
        pool = min(POOL, len(ids))
        for system, parts in said.items():
            brains = np.asarray(parts["clip"]).reshape(len(ids), -1)
            for what, pair in (("image", (brains, true)), ("brain", (true, brains))):
                for k in (k for k in TOP if k <= pool):
                    self.table.add(
                        system,
                        self.task,
                        proto,
                        subject,
                        f"{what}_top{k}",
                        ids,
                        retrieval(*pair, k, pool),
                        k / pool,
                        1.0,
                        f"{varied} {condition(pool=pool)}".strip(),
                    )
                ranks = self._ranks[system, proto, f"{what}_median_rank", varied]
                ranks[subject] = ids, retrieval_rank(*pair)

    def finish(self) -> None:
        """The median ranks, of each subject and, as a mean over subjects, of all."""
        for (system, proto, metric, varied), ranks in self._ranks.items():
            self.table.add_medians(system, self.task, proto, metric, ranks, varied)
