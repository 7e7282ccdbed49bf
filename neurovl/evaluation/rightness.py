"""Whether answers are right: closed ones word for word, descriptions where they name something and make nothing up."""

import pandas as pd

from neurovl.language.dialogues.assertions import judge
from neurovl.language.dialogues.layout import Layout
from neurovl.run import Run

DESCRIBING = ("brief", "detailed")


def is_right(run: Run, answers: pd.DataFrame) -> pd.Series:
    """1 for an answer that is right, 0 for one that is wrong, not a number for one that cannot be judged.

    Parameters
    ----------
    answers : DataFrame
        Columns type, image_id, turn, answer, truth, closed.
    """
    data = run.recordings
    objects = {image: data.objects(image) for image in answers.image_id.unique()}
    names = sorted({thing["category"] for things in objects.values() for thing in things})
    layouts = {image: Layout.of(data.captions(image), things) for image, things in objects.items()}
    closed = answers.closed.astype(str) == "True"
    right = same_words(answers.answer, answers.truth)
    open_ones = answers.type.isin(DESCRIBING) & (answers.turn == 0) & ~closed
    for row in answers[open_ones & bool(names)].itertuples():
        found = judge(row.answer, layouts[row.image_id], names)
        right[row.Index] = float(bool(found.said) and found.said == found.right)
    return right.where(closed | (open_ones & bool(names)))


def same_words(said: pd.Series, true: pd.Series) -> pd.Series:
    """1 where two texts agree but for case and full stops, else 0."""
    return (_plain(said) == _plain(true)).astype(float)


def _plain(texts: pd.Series) -> pd.Series:
    return texts.str.lower().str.strip(" .")
