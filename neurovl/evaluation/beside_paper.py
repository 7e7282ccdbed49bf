"""Whether the paper's number may stand beside one of a run: only where data, references and networks are the paper's."""

from dataclasses import dataclass, replace

from neurovl.foundation.model_facts import find_facts
from neurovl.results import ADAPTED, Row, paper_value, unadapted
from neurovl.run import Run
from neurovl.settings.profile_files import load_profile
from neurovl.settings.sections import EncoderShape, Models

# What the answers of a task are compared with, where that is not what the paper compares with.
OTHER_TRUTHS = dict.fromkeys(
    ("description", "reasoning"), "the truths are written by rule, the paper's by GPT-3.5"
)
NETWORK_SCORES = ("two_way_", "distance_", "clip_s")


@dataclass(frozen=True)
class Basis:
    """What the scores of a run rest on.

    Attributes
    ----------
    data, split : str
        Name of the data set, and of its split.
    subjects : tuple of str
    pictures : int
        In the test set.
    models : Models
    encoder : EncoderShape
    """

    data: str
    split: str
    subjects: tuple[str, ...]
    pictures: int
    models: Models
    encoder: EncoderShape

    @classmethod
    def of(cls, run: Run) -> "Basis":
        """That of a run."""
        trials, profile = run.recordings.trials, run.profile
        return cls(
            run.recordings.name,
            run.recordings.split_name,
            tuple(run.store.subjects),
            trials.image_id[trials.split == "test"].nunique(),
            profile.models,
            profile.encoder,
        )


def differences(row: Row, basis: Basis) -> list[str]:
    """In what a number differs from the paper's of the same name; nothing where the two can be compared."""
    paper = load_profile("paper")
    said = []
    said += other_data(basis)
    if not said and row.n is not None and row.n != basis.pictures:
        said.append(f"{row.n} of {basis.pictures} test pictures")
    if ADAPTED in row.condition:
        said.append(
            "the language model was trained with adapters, the paper's with all its weights"
        )
    if row.task in OTHER_TRUTHS:
        said.append(OTHER_TRUTHS[row.task])
    own = [name for name in basis.models.llms if row.system.removesuffix("-brief") == name]
    parts = ["clip", "unclip", f"llms/{own[0]}" if own else "llm"]
    parts += ["captioner"] if row.task == "caption-blip2" else []
    other = [part for part in parts if not _same(part, basis.models, paper.models)]
    if basis.encoder != paper.encoder:
        other.insert(0, "encoder")
    if row.metric.startswith(NETWORK_SCORES) and basis.models.metric != paper.models.metric:
        other.append("metric")
    if other:
        said.append(f"other networks than the paper's: {', '.join(other)}")
    return said


def other_data(basis: Basis) -> list[str]:
    """In what data and split differ from the paper's, which are those of its peers too."""
    paper = load_profile("paper").preprocessing
    if basis.data != "nsd":
        return [f"the data are {basis.data}, the paper's NSD"]
    subjects = tuple(f"subj{number:02d}" for number in paper.subjects)
    if (basis.split, basis.subjects) != (paper.split, subjects):
        return [
            f"split {basis.split} of {', '.join(basis.subjects)}, the paper's "
            f"{paper.split} of {', '.join(subjects)}"
        ]
    return []


def _same(part: str, models: Models, paper: Models) -> bool:
    """Whether both name one published model; a folder of one's own is not known to hold it."""
    if part.startswith("llms/") and part.partition("/")[2] not in paper.llms:
        return False
    spec = models.spec(part)
    own = None if spec is None else find_facts(spec)
    return own is not None and own.title == find_facts(paper.spec(part)).title


def with_paper(row: Row, basis: Basis) -> Row:
    """The row with the paper's number beside it, or with the reason why not in its note."""
    number = paper_value(row.system, row.task, row.protocol, row.metric)
    if number is None or row.subject != "all" or unadapted(row.condition):
        return row
    said = differences(row, basis)
    if not said:
        return replace(row, paper=number)
    if row.value is None:
        return row  # its note says why it is empty
    reason = f"not comparable with the paper's: {'; '.join(said)}"
    return replace(row, note=f"{row.note}; {reason}" if row.note else reason)
