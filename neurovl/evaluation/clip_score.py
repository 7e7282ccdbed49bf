"""CLIP-S of what was said about the test pictures: the one text score that needs a network."""

from neurovl.errors import DataError, MissingError
from neurovl.evaluation.answering import OF_MAIN, TEXT_TASKS, read_answers
from neurovl.evaluation.score_table import Table
from neurovl.results import Row
from neurovl.run import Run


def score_clip_s(run: Run, table: Table) -> None:
    """CLIP-S of captions, descriptions and reasoning where the profile names the paper's metric networks.

    Chance is what is said without a brain; the ceiling of captions is each picture's first true one.
    """
    from neurovl.foundation.metric import caption_network
    from neurovl.foundation.metric_networks import clip_s

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
    # Each picture is embedded once, not once for each of its captions.
    images = clip.embed_images([run.recordings.image(i) for i in ids])
    row = {i: k for k, i in enumerate(ids)}
    answers = answers.assign(
        score=clip_s(clip, images[[row[i] for i in answers.image_id]], list(answers.answer))
    )
    true = [run.recordings.captions(i)[0] for i in ids]
    ceiling = {"caption": float(clip_s(clip, images, true).mean())}
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
