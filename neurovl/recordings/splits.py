"""Choosing the test pictures of a data set that does not come with a partition; always by picture.

One way must be named; the only one taken without being named is what the data set itself says, a column
``trial_type`` or ``split`` with the value test.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.errors import ConfigError, DataError, MissingError

logger = logging.getLogger(__name__)

OPTIONS = (
    "--test-images FILE, --test-where COLUMN=VALUE, --test-shared, --test-repeated N or "
    "--test-fraction F"
)


@dataclass(frozen=True)
class Partition:
    """Training and test pictures that a data set comes with, by their names in the tables of trials."""

    name: str
    train: frozenset[str]
    test: frozenset[str]

    def __post_init__(self) -> None:
        if both := self.train & self.test:
            raise DataError(
                f"the split {self.name} has {len(both)} pictures for training and for testing, the first is {min(both)!r}, "
                "expected each in one of the two: correct it, or choose another"
            )


@dataclass(frozen=True)
class Split:
    """Which pictures are tested; exactly one way is chosen.

    Attributes
    ----------
    images : str, optional
        A text file with one picture a line, or pictures separated by commas.
    where : str, optional
        ``COLUMN=VALUE`` of the tables of trials.
    shared : bool
        The pictures that every subject saw.
    repeated : int, optional
        The pictures that each of their subjects saw at least so often.
    fraction : float, optional
        So many of all pictures, drawn with `seed`.
    seed : int
    partition : Partition, optional
        Pictures that it does not name are left out.
    """

    images: str | None = None
    where: str | None = None
    shared: bool = False
    repeated: int | None = None
    fraction: float | None = None
    seed: int = 0
    partition: Partition | None = None

    def keep(self, trials: pd.DataFrame) -> pd.DataFrame:
        """The trials whose pictures are for training or for testing."""
        if self.partition is None:
            return trials
        kept = trials.stimulus.isin(self.partition.train | self.partition.test)
        if not kept.any():
            raise DataError(
                f"the split {self.partition.name} names none of the pictures that were shown, such as {trials.stimulus.iloc[0]!r}, "
                "expected some: choose the split of these subjects"
            )
        logger.info(
            "split %s: %d trials of pictures that it does not name are left out",
            self.partition.name,
            int((~kept).sum()),
        )
        return trials[kept].reset_index(drop=True)

    def choose(self, trials: pd.DataFrame) -> tuple[set[str], str]:
        """The test pictures, and one line that says how they were chosen.

        Parameters
        ----------
        trials : DataFrame
            ``subject``, ``image_id``, ``stimulus`` and all columns of the tables of trials.
        """
        given = [self.images, self.where, self.shared or None, self.repeated, self.fraction]
        given.append(self.partition)
        if sum(one is not None for one in given) > 1:
            raise ConfigError(
                f"the test pictures were chosen twice, expected one of {OPTIONS}: remove the others"
            )
        if self.images is not None:
            test, how = _listed(trials, self.images), "a given list"
        elif self.where is not None:
            test, how = _marked(trials, *_condition(self.where)), f"trials with {self.where}"
        elif self.shared:
            test, how = _shared(trials), "pictures that every subject saw"
        elif self.repeated is not None:
            test, how = _repeated(trials, self.repeated), f"seen {self.repeated} times or more"
        elif self.fraction is not None:
            test = _fraction(trials, self.fraction, self.seed)
            how = f"a random {self.fraction:g} of the pictures, seed {self.seed}"
        elif self.partition is not None:
            test = set(trials.image_id[trials.stimulus.isin(self.partition.test)])
            how = f"the split {self.partition.name}"
        else:
            test, how = _said_by_the_data(trials)
        n_images = trials.image_id.nunique()
        if not 0 < len(test) < n_images:
            raise DataError(
                f"{len(test)} of {n_images} pictures would be tested ({how}), expected some and not "
                f"all: choose with {OPTIONS}"
            )
        return test, f"{how}: {len(test)} of {n_images} pictures"


def _condition(text: str) -> tuple[str, str]:
    column, found, value = text.partition("=")
    if not found or not column or not value:
        raise ConfigError(
            f"--test-where is {text!r}, expected COLUMN=VALUE: write it as trial_type=test"
        )
    return column.strip(), value.strip()


def _listed(trials: pd.DataFrame, images: str) -> set[str]:
    path = Path(images)
    if path.is_file():
        try:
            wanted = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError as problem:
            raise DataError(
                f"{path.name} is no text in UTF-8 ({problem}), expected one picture a line"
            ) from problem
    elif re.search(r"\.(txt|tsv|csv)$", images):
        raise MissingError(f"--test-images names {images}, which is missing: expected a text file")
    else:
        wanted = images.split(",")
    wanted = [one.strip() for one in wanted if one.strip()]
    by_name = {**dict(zip(trials.stimulus, trials.image_id, strict=True))}
    by_name |= {image_id: image_id for image_id in trials.image_id}
    unknown = [one for one in wanted if one not in by_name]
    if unknown:
        raise DataError(
            f"--test-images names {unknown[0]!r} and {len(unknown) - 1} more that no subject saw, "
            f"expected pictures such as {trials.image_id.iloc[0]!r}: correct the list"
        )
    return {by_name[one] for one in wanted}


def _marked(trials: pd.DataFrame, column: str, value: str) -> set[str]:
    if column not in trials:
        raise DataError(
            f"the tables of trials have no column {column!r}, only "
            f"{', '.join(str(c) for c in trials.columns if c)}: name another with --test-where"
        )
    marks = trials[column].astype(str).str.lower() == value.lower()
    mixed = marks.groupby(trials.image_id).nunique()
    mixed = mixed.index[mixed > 1]
    if len(mixed):
        raise DataError(
            f"{len(mixed)} pictures have {column}={value} in some trials only, the first is "
            f"{mixed[0]!r}, expected the split by picture: choose another way, {OPTIONS}"
        )
    return set(trials.image_id[marks])


def _shared(trials: pd.DataFrame) -> set[str]:
    n_subjects = trials.subject.nunique()
    if n_subjects < 2:
        raise DataError(
            "there is one subject, expected two or more for --test-shared: choose another way, "
            f"{OPTIONS}"
        )
    seen = trials.groupby("image_id").subject.nunique()
    return set(seen.index[seen == n_subjects])


def _repeated(trials: pd.DataFrame, times: int) -> set[str]:
    if times < 2:
        raise ConfigError(f"--test-repeated is {times}, expected 2 or more: choose another number")
    seen = trials.groupby(["image_id", "subject"]).size().groupby("image_id").min()
    return set(seen.index[seen >= times])


def _fraction(trials: pd.DataFrame, fraction: float, seed: int) -> set[str]:
    if not 0 < fraction < 1:
        raise ConfigError(
            f"--test-fraction is {fraction:g}, expected a number between 0 and 1: choose another"
        )
    images = sorted(trials.image_id.unique())
    n_test = max(1, round(fraction * len(images)))
    return set(np.random.default_rng(seed).permutation(images)[:n_test].tolist())


def _said_by_the_data(trials: pd.DataFrame) -> tuple[set[str], str]:
    found = {
        column: _marked(trials, column, "test")
        for column in ("trial_type", "split")
        if column in trials and (trials[column].astype(str).str.lower() == "test").any()
    }
    if len(found) == 2 and found["trial_type"] != found["split"]:
        raise DataError(
            f"the tables of trials mark {len(found['trial_type'])} pictures with trial_type=test and {len(found['split'])} with "
            "split=test, not the same, expected one mark: choose with --test-where trial_type=test or --test-where split=test"
        )
    if found:
        column, test = next(iter(found.items()))
        return test, f"trials with {column}=test"
    raise DataError(
        "the tables of trials do not say which pictures are for testing (no trial_type=test): "
        f"choose with {OPTIONS}"
    )
