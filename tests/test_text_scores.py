"""Text scores of subjects: each a corpus of its own, 'all' their mean, resampled by picture."""

import pandas as pd
import pytest

from neurovl import metrics
from neurovl.errors import MissingError
from neurovl.evaluation.score_table import Table
from neurovl.evaluation.text_scores import _score_open
from neurovl.metrics.captions import METRICS, find_java
from neurovl.metrics.meteor import Meteor

COLOURS = ["red", "blue", "green", "white", "black", "brown", "yellow", "grey"]
THINGS = ["dog", "car", "kite", "boat", "chair", "horse", "cup", "bus"]
PLACES = ["on the beach", "in a kitchen", "under a tree", "near the old bridge"]
SCENES = [(c, t, p) for c, t in zip(COLOURS, THINGS, strict=True) for p in PLACES]
REFERENCES = {
    str(k): [f"a {c} {t} {p}", f"there is one {t} {p} and it is {c}"]
    for k, (c, t, p) in enumerate(SCENES)
}
SCORED = [m for m in METRICS if m != "spice"]


@pytest.fixture(autouse=True, scope="module")
def _java():
    try:
        find_java()
    except MissingError:
        pytest.skip("no Java here")


def answers_of(said: dict[tuple[str, str], dict[str, str]]) -> pd.DataFrame:
    """answers.csv with the captions of each (system, subject) by picture."""
    about = {"protocol": "average", "type": "brief", "turn": 0, "truth": ""}
    return pd.DataFrame(
        [
            {"system": system, "subject": subject, "image_id": i, "answer": text, **about}
            for (system, subject), texts in said.items()
            for i, text in texts.items()
        ]
    )


def rows_of(said: dict[tuple[str, str], dict[str, str]]) -> tuple[dict, Table]:
    """Rows by system, subject and metric."""
    table = Table("toy", "", seed=0, resamples=300)
    _score_open(answers_of(said), {"caption": REFERENCES}, table)
    return {(r.system, r.subject, r.metric): r for r in table.rows}, table


def some(n: int, shift: int = 0) -> dict[str, str]:
    """Captions of n pictures: the first reference, or that of the picture `shift` further on."""
    ids = list(REFERENCES)[:n]
    return {i: REFERENCES[ids[(k + shift) % n]][0] for k, i in enumerate(ids)}


@pytest.fixture(scope="module")
def two():
    """Subject a is often right and saw 12 pictures; subject b is wrong and saw 5 of them."""
    a = some(12) | {"1": "a dog", "5": "a blue thing in a kitchen"}
    b = some(5, shift=1)
    said = {("neurovl", "a"): a, ("neurovl", "b"): b}
    said |= {
        ("no-brain", s): dict.fromkeys(x, "a dog on the beach") for s, x in (("a", a), ("b", b))
    }
    return said, *rows_of(said)


def test_a_subjects_scores_are_pycocoevalcaps_on_its_corpus(two):
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    said, rows, _ = two
    for (system, subject), texts in said.items():
        hyps = {i: [text] for i, text in texts.items()}
        refs = {i: REFERENCES[i] for i in texts}
        bleu, _ = Bleu(4).compute_score(refs, hyps, verbose=0)
        expected = dict(zip(["bleu1", "bleu2", "bleu3", "bleu4"], bleu, strict=True))
        expected |= {"cider": Cider().compute_score(refs, hyps)[0]}
        expected |= {"rouge": Rouge().compute_score(refs, hyps)[0]}
        for metric, value in expected.items():
            row = rows[system, subject, metric]
            assert row.value == pytest.approx(value, abs=1e-6), (system, subject, metric)
            assert row.n == len(texts)


def test_several_corpora_at_once_score_as_each_alone(two):
    said, rows, _ = two
    texts = said["neurovl", "a"]
    ids = sorted(texts)  # the order in which pictures are resampled
    alone = metrics.captions([texts[i] for i in ids], [REFERENCES[i] for i in ids])
    for metric in SCORED:
        row, expected = rows["neurovl", "a", metric], alone[metric].interval(0, 300)
        assert (row.value, row.ci_low, row.ci_high) == pytest.approx(expected)


@pytest.mark.parametrize("metric", SCORED)
def test_all_is_the_mean_over_subjects_and_not_one_pool(two, metric):
    said, rows, _ = two
    for field in ("value", "chance"):
        a, b, both = (getattr(rows["neurovl", s, metric], field) for s in ("a", "b", "all"))
        assert both == pytest.approx((a + b) / 2) and abs(a - b) > 0.01
    assert rows["neurovl", "a", metric].chance == pytest.approx(rows["no-brain", "a", metric].value)
    row = rows["neurovl", "all", metric]
    assert row.n == 12 and row.ci_low <= row.value <= row.ci_high
    pool = [(text, REFERENCES[i]) for s in "ab" for i, text in said["neurovl", s].items()]
    pooled = metrics.captions(*zip(*pool, strict=True))[metric].value
    assert abs(pooled - row.value) > 0.01


def test_subjects_are_resampled_together_by_picture():
    """Twice the same subject says no more than once: the interval must not shrink, as that of a pool does."""
    texts = some(12) | {"1": "a dog", "5": "a blue thing in a kitchen", "7": "a cup"}
    rows, _ = rows_of({("neurovl", s): texts for s in "ab"})
    for metric in SCORED:
        one, both = rows["neurovl", "a", metric], rows["neurovl", "all", metric]
        ends = (both.ci_low, both.ci_high)
        assert ends == pytest.approx((one.ci_low, one.ci_high)) and ends[0] < ends[1]


def test_shuffled_brains_score_at_chance_and_true_ones_above():
    n = len(REFERENCES)
    said = {("neurovl", subject): some(n) for subject in "ab"}
    # Captions of other pictures, of another thing at another place.
    said |= {("shuffled", "a"): some(n, 5), ("shuffled", "b"): some(n, 9)}
    said |= {("no-brain", "a"): some(n, 13), ("no-brain", "b"): some(n, 17)}
    rows, _ = rows_of(said)
    for metric in SCORED:
        for subject in ("a", "b", "all"):
            control, true = (rows[s, subject, metric] for s in ("shuffled", "neurovl"))
            assert control.ci_low - 0.03 < control.chance < control.ci_high + 0.03
            assert true.ci_low > control.chance + 0.2


def test_sentences_are_kept_for_the_claims_and_are_no_rows(two):
    _, rows, table = two
    images = table.frame()
    own = images[(images.system == "neurovl") & (images.metric == "meteor_sentence")]
    assert own.groupby("subject").size().to_dict() == {"a": 12, "b": 5}
    before = len(table.rows)
    table.add_all_subjects()
    assert len(table.rows) == before
    assert not any(metric.endswith("_sentence") for _, _, metric in rows)


def test_meteor_scores_a_pair_once(monkeypatch):
    asked = []
    ask = Meteor.ask
    monkeypatch.setattr(
        Meteor, "ask", lambda self, line, *n: (asked.append(line), ask(self, line, *n))[1]
    )
    texts = some(3)
    rows_of({("neurovl", s): texts for s in "abc"})
    assert sum(line.startswith("SCORE") for line in asked) == 3
    assert sum(line.startswith("EVAL") for line in asked) == 3


def test_without_java_one_row_gives_the_reason(monkeypatch):
    import sys

    def none() -> str:
        raise MissingError("no Java runs here")

    monkeypatch.setattr(sys.modules["neurovl.metrics.captions"], "find_java", none)
    rows, _ = rows_of({("neurovl", s): some(3) for s in "ab"})
    assert set(rows) == {("neurovl", "all", metric) for metric in METRICS}
    assert all(r.value is None and r.note == "no Java runs here" for r in rows.values())


def test_captions_are_also_compared_with_the_captioner_s(two):
    said, rows, _ = two
    said = said | {("flat", s): texts for (system, s), texts in said.items() if system == "neurovl"}
    words = {i: [" ".join(reversed(REFERENCES[i][0].split()))] for i in REFERENCES}
    table = Table("toy", "", seed=0, resamples=300)
    _score_open(answers_of(said), {"caption": REFERENCES, "caption-blip2": words}, table)
    found = {(r.task, r.system, r.subject, r.metric): r for r in table.rows}
    for (system, subject, metric), row in rows.items():
        assert found["caption", system, subject, metric] == row
        assert metric == "spice" or found["caption-blip2", system, subject, metric].n == row.n
    # The same words in another order: no pair of them is left, but each word is.
    turned = [found["caption-blip2", "neurovl", "a", f"bleu{k}"].value for k in (1, 2)]
    assert turned[0] > 0.5 and turned[1] < 0.01
    blind = found["caption-blip2", "neurovl", "all", "meteor"].chance
    assert blind == pytest.approx(found["caption-blip2", "no-brain", "all", "meteor"].value)
    assert (
        found["caption", "flat", "all", "meteor"].chance is None
    )  # it was not asked without a brain
    assert found["caption-blip2", "flat", "all", "clip_s"].note.startswith("CLIP-S compares")


def test_meteor_is_the_same_where_numbers_are_written_with_commas(monkeypatch):
    corpora = [(["a dog on the grass"], [["a dog runs on green grass"]])]
    values = []
    for options in ("", "-Duser.language=de -Duser.country=DE"):
        monkeypatch.setenv("JAVA_TOOL_OPTIONS", options)
        Meteor.stop()
        (scores,) = metrics.caption_corpora(corpora)
        values.append(scores["meteor"].value)
    Meteor.stop()
    assert values[0] == values[1] and 0 < values[0] < 1
