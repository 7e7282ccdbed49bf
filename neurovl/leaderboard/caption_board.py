"""Scores of a gallery's captions: the text scores of every run, each system's chance being its own captions of other pictures."""

import pandas as pd

from neurovl.errors import DataError, MissingError
from neurovl.evaluation.clip_score import ClipS
from neurovl.evaluation.embeddings import derangement
from neurovl.evaluation.picture_scores import KEYS
from neurovl.evaluation.score_table import Corpora, Table
from neurovl.evaluation.text_scores import Said, scored_corpora
from neurovl.recordings import Recordings
from neurovl.results import Row
from neurovl.settings.sections import Profile

# (system, condition, task, protocol, metric) and what each subject's captions score.
CaptionCorpora = dict[tuple[str, ...], Corpora]


def score_gallery_captions(
    table: Table,
    recordings: Recordings,
    captions: pd.DataFrame,
    profile: Profile,
    references: dict[str, dict[str, list[str]]],
) -> CaptionCorpora:
    """Add the text scores of captions to a table.

    Chance is what the system says of other pictures: its captions dealt out so that none keeps its own.

    Parameters
    ----------
    table : Table
    recordings : Recordings
    captions : DataFrame
        Columns system, condition, protocol, subject, image_id, caption.
    profile : Profile
        Says whether there is a network for CLIP-S.
    references : dict of str to dict
        Of each task the true captions of each picture, see `evaluation.text_scores.true_captions`.

    Returns
    -------
    dict of tuple to Corpora
        By system, condition, task, protocol and metric: what `ranks` resamples.
    """
    if not len(captions):
        return {}
    groups = list(captions.groupby(KEYS, sort=False))
    said: dict[tuple[str, ...], Said] = {}
    for task, true in references.items():
        for (system, varied, proto, subject), part in groups:
            place = (system, varied, task, proto, subject)
            known = [true[i] for i in part.image_id]
            said["own", *place] = part.image_id, part.caption, known
            if len(part) > 1:
                other = part.caption.to_numpy()[derangement(len(part), table.seed)]
                said["other", *place] = part.image_id, other, known
    scored = scored_corpora(said)
    corpora = {key[1:]: own for key, own in scored.items() if key[0] == "own"}
    for place, own in corpora.items():
        system, varied, task, proto, metric = place
        other = scored.get(("other", *place), {})
        chance = {subject: score.value for subject, (_, score) in other.items()}
        table.add_corpora(system, task, proto, metric, own, chance, varied)
    _add_clip_s(table, recordings, groups, profile)
    return corpora


def _add_clip_s(table: Table, recordings: Recordings, groups: list, profile: Profile) -> None:
    from neurovl.foundation.metric import caption_network

    member = caption_network(profile.models.metric, profile.compute.device)
    if member is None:
        return
    try:
        clip = member.load()
    except (MissingError, DataError) as problem:
        for system, varied, proto in dict.fromkeys(key[:3] for key, _ in groups):
            place = table.place(system, "caption", proto, "all", "clip_s", varied)
            table.rows.append(Row(**place, note=str(problem)))
        return
    ids = sorted({i for _, part in groups for i in part.image_id})
    judge = ClipS(clip, recordings, ids)
    ceiling = float(judge(ids, [recordings.captions(i)[0] for i in ids]).mean())
    for (system, varied, proto, subject), part in groups:
        own = judge(part.image_id, part.caption)
        chance = None
        if len(part) > 1:
            other = part.caption.to_numpy()[derangement(len(part), table.seed)]
            chance = float(judge(part.image_id, other).mean())
        about = (system, "caption", proto, subject, "clip_s", part.image_id, own)
        table.add(*about, chance, ceiling, varied)
