"""CLIP-S of what was said about the test pictures: the one text score that needs a network."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurovl.errors import DataError, MissingError
from neurovl.evaluation.answering import OF_MAIN, read_answers
from neurovl.evaluation.score_table import Table
from neurovl.evaluation.text_scores import TEXT_TASKS
from neurovl.recordings import Recordings
from neurovl.results import Row
from neurovl.run import Run

if TYPE_CHECKING:
    from neurovl.foundation.clip import Clip


class ClipS:
    """CLIP-S of texts about some pictures; each picture is embedded once, not once for each text.

    Parameters
    ----------
    clip : Clip
        The network of `foundation.metric.caption_network`.
    recordings : Recordings
    image_ids : sequence of str
        The pictures that there are texts about.
    """

    def __init__(self, clip: "Clip", recordings: Recordings, image_ids: Sequence[str]) -> None:
        self.clip = clip
        self.images = clip.embed_images([recordings.image(i) for i in image_ids])
        self.row = {i: k for k, i in enumerate(image_ids)}

    def __call__(self, image_ids: Iterable[str], texts: Iterable[str]) -> np.ndarray:
        """The score of each text with its picture, (n,)."""
        from neurovl.foundation.metric_networks import clip_s

        return clip_s(self.clip, self.images[[self.row[i] for i in image_ids]], list(texts))


def score_clip_s(run: Run, table: Table) -> None:
    """CLIP-S of captions, descriptions and reasoning where the profile names the paper's metric networks.

    Chance is what is said without a brain; the ceiling of captions is each picture's first true one.
    """
    from neurovl.foundation.metric import caption_network

    member = caption_network(run.profile.models.metric, run.profile.compute.device)
    if member is None:
        return
    answers = read_answers(run.folder)
    answers = answers[answers.type.isin(list(TEXT_TASKS)) & (answers.turn == 0)]
    try:
        clip = member.load()
    except (MissingError, DataError) as problem:
        for kind, system, proto in answers.groupby(["type", "system", "protocol"]).groups:
            place = table.place(system, TEXT_TASKS[kind], proto, "all", "clip_s")
            table.rows.append(Row(**place, note=str(problem)))
        return
    ids = answers.image_id.unique().tolist()
    judge = ClipS(clip, run.recordings, ids)
    answers = answers.assign(score=judge(answers.image_id, answers.answer))
    ceiling = {"caption": float(judge(ids, [run.recordings.captions(i)[0] for i in ids]).mean())}
    blind = answers[answers.system == "no-brain"].groupby(["type", "subject"]).score.mean()
    keys = ["type", "system", "protocol", "subject"]
    for (kind, system, proto, subject), own in answers.groupby(keys, sort=False):
        task = TEXT_TASKS[kind]
        table.add(
            system,
            task,
            proto,
            subject,
            "clip_s",
            own.image_id,
            own.score,
            float(blind[kind, subject]) if system in OF_MAIN else None,
            ceiling.get(task),
        )
