"""A subject that a run never saw: opened, its pictures chosen and embedded, its volumes brought to the run's region.

The volumes are resized to the run's common grid and region, to which the subject's mask did not contribute, or stay as they
are for systems that read its own mask. They are standardised as if it had been scanned for the chosen training trials and the
test trials alone.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.baselines.own_masks import file_order, z_scores
from neurovl.encoder.targets import Targets, write_targets
from neurovl.errors import ConfigError, DataError
from neurovl.recordings.base import Recordings, digest, find_subject
from neurovl.recordings.missing_voxels import usable_mask
from neurovl.recordings.opening import open_recordings
from neurovl.run import Run
from neurovl.tokens.resize import Resizer
from neurovl.tokens.store import TokenStore
from neurovl.tokens.writing import (
    MIN_TRAINING_TRIALS,
    all_moments,
    measured_columns,
    own_columns,
    pack,
    standardisation,
)


@dataclass(frozen=True)
class NewTrials:
    """Voxels of a new subject's chosen training trials and its test trials; read like a `TokenStore`.

    Attributes
    ----------
    trials : DataFrame
        As in a store, in presentation order.
    stored : float16 array, shape (n, V)
    transductive : list of str
        Sessions with fewer than 20 chosen trials, standardised by all of these trials, whatever their pictures.
    measured : bool array, shape (V,)
        Which of the voxels lie in the subject's own mask.
    """

    trials: pd.DataFrame
    stored: np.ndarray
    transductive: list[str]
    measured: np.ndarray

    @property
    def n_voxels(self) -> int:
        """V, the number of voxels."""
        return self.stored.shape[1]

    def voxels(self, subject: str, rows: np.ndarray) -> np.ndarray:
        """z-scores, float32 (n, V); there is one subject alone."""
        return self.voxels_at(rows)

    def voxels_at(self, index: np.ndarray) -> np.ndarray:
        """z-scores of trials by their number, float32 (n, V)."""
        return self.stored[np.asarray(index)].astype(np.float32)

    @property
    def training(self) -> np.ndarray:
        """Rows of the chosen training trials."""
        return np.flatnonzero(self.trials.split == "train")


def open_subject(run: Run, subject: str | int, data: Path | None = None) -> tuple[str, Recordings]:
    """A subject outside the run, by its name, in the run's data folder or another one.

    Raises
    ------
    ConfigError
        The subject is in the run's store, or the pictures have labels.
    MissingError, DataError
        The data do not have the subject, its axes run otherwise than those of the run, or a picture of its test trials
        was one to train on.

    Examples
    --------
    >>> from neurovl.adaptation.new_subject import open_subject
    >>> name, recordings = open_subject(run, 2)
    >>> name
    'subj02'
    """
    store, wanted = run.store, run.profile.preprocessing
    known = [name for name in store.subjects if _same(name, subject)]
    if known:
        raise ConfigError(
            f"{known[0]} is in this run's token store already, expected a subject that the run never saw; choose another "
            "with --subject, or make a run without it: neurovl preprocess --subjects"
        )
    folder = run.recordings.root if data is None else data
    recordings = open_recordings(
        folder, [subject], 0, wanted.split, wanted.betas, wanted.max_missing_voxels
    )
    name = recordings.subjects[0]
    if recordings.label(recordings.trials.image_id.iloc[0]) is not None:
        raise ConfigError(
            f"the pictures of {recordings.name} stand for categories, expected pictures of their own, among which "
            "identification is scored; adapt to a data set with pictures"
        )
    _require_same_axes(store, name, recordings.affine(name))
    if recordings.name == run.recordings.name:
        seen = store.trials[store.trials.split == "train"].image_id
        both = set(seen) & set(_pictures(recordings, name, "test"))
        if both:
            raise DataError(
                f"{len(both)} test pictures of {name} are training pictures of this run, the first is image {min(both)}, "
                "expected one split by picture for all subjects; give both the same split"
            )
    return name, recordings


def choose_pictures(
    recordings: Recordings,
    subject: str,
    seed: int,
    share: float | None = None,
    trials: int | None = None,
) -> list[str]:
    """Training pictures of a subject to adapt with, all repeats of a picture together; the same seed gives nested sets.

    Parameters
    ----------
    share : float, optional
        Of its training pictures.
    trials : int, optional
        At most so many trials.

    Raises
    ------
    ConfigError
        A share outside 0 to 1, or fewer than 2 pictures.
    """
    own = recordings.subject_trials(subject)
    counts = own[own.split == "train"].image_id.value_counts().sort_index()
    counts = counts.iloc[np.random.default_rng([seed, 17]).permutation(len(counts))]
    if share is not None and not 0 < share <= 1:
        raise ConfigError(
            f"--share is {share:g}, expected more than 0 and at most 1; choose another"
        )
    n = round(len(counts) * share) if trials is None else int((counts.cumsum() <= trials).sum())
    if n < 2:
        asked = f"a share of {share:.3g} holds" if trials is None else f"{trials} trials hold"
        raise ConfigError(
            f"{asked} {n} of the {len(counts)} training pictures of {subject} with all repeats ({counts.sum()} trials), "
            "expected 2 or more to fit an encoding model to; take more with --trials or --share"
        )
    return sorted(counts.index[:n])


def read_trials(
    recordings: Recordings, subject: str, store: TokenStore, choices: list[list[str]]
) -> list[NewTrials]:
    """Standardised, resized trials of a subject, one set for every choice of training pictures; reads each session once.

    A set holds the trials of the chosen pictures and the test trials, and no other trial has a part in it: z-scores are
    taken from the chosen trials of the session (of all sessions where `recordings.zscore` is 'subject'), and where these
    are fewer than 20 from the set's trials of the session, as in the token store.
    """
    usable = usable_mask(recordings, subject)
    mask = usable.voxels
    measured = measured_columns(mask, store.target, store.region)
    inside = own_columns(mask, store.target, store.region, store.off_mask)
    resizer = Resizer(mask.shape, store.target, store.region[inside])
    gone = usable.missing.ravel(order="F")[resizer.inputs]

    def stored(values: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
        return pack(resizer, inside, values, np.where(gone, 0, scale), shift)

    return _read(recordings, subject, choices, resizer.inputs, stored, measured)


def read_own_mask(
    recordings: Recordings, subject: str, choices: list[list[str]]
) -> tuple[np.ndarray, list[NewTrials]]:
    """The trials of `read_trials` as published systems read them: at the voxels of the subject's own mask, nothing resized.

    Returns
    -------
    mask : bool array, shape (x, y, z)
    list of NewTrials
        For every choice, its V voxels those of the mask in C order.

    Raises
    ------
    DataError
        A z-score that float16 cannot hold.
    """
    mask = usable_mask(recordings, subject).voxels
    inside, order = file_order(mask)

    def stored(values: np.ndarray, scale: np.ndarray, shift: np.ndarray) -> np.ndarray:
        return z_scores(values, scale, shift, subject)[:, order].astype(np.float16)

    found = _read(recordings, subject, choices, inside, stored, np.ones(len(inside), bool))
    return mask, found


def _read(
    recordings: Recordings,
    subject: str,
    choices: list[list[str]],
    inputs: np.ndarray,
    stored: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray],
    measured: np.ndarray,
) -> list[NewTrials]:
    """Each set standardised at the voxels `inputs`, and brought to `stored(values, scale, shift)`."""
    sets = [_restricted(recordings, subject, chosen) for chosen in choices]
    across = recordings.zscore == "subject"
    moments = [all_moments(_measured(one), subject, inputs) if across else None for one in sets]
    voxels: list[list] = [[] for _ in sets]
    rows: list[list] = [[] for _ in sets]
    alone: list[list] = [[] for _ in sets]
    for session in dict.fromkeys(sets[0].trials.session if sets else ()):
        values = recordings.session_voxels(subject, session, inputs)
        for k, one in enumerate(sets):
            own = one.trials[one.trials.session == session]
            used, is_train = (own.split != "unused").to_numpy(), (own.split == "train").to_numpy()
            if not used.any():
                continue
            if not across and is_train.sum() < MIN_TRAINING_TRIALS:
                alone[k].append(str(session))
                is_train = used
            block, of = values[used], is_train[used]
            voxels[k].append(stored(block, *standardisation(block, of, moments[k])))
            rows[k].append(own[used])
    return [
        NewTrials(pd.concat(r, ignore_index=True), np.concatenate(v), a, measured)
        for r, v, a in zip(rows, voxels, alone, strict=True)
    ]


def embed_subject(run: Run, recordings: Recordings, subject: str) -> Targets:
    """RUN/targets-SUBJECT: embeddings of all pictures that the subject saw."""
    from neurovl.foundation.clip import load_clip
    from neurovl.foundation.vae import load_vae

    models, device = run.profile.models, run.profile.compute.device
    view = copy.copy(recordings)
    view.trials = recordings.subject_trials(subject)
    with_vae = run.targets.vae is not None and recordings.has_images
    settings = {"vae": with_vae, "image_size": models.image_size}
    with run.stage(
        f"targets-{subject}", embed_subject, settings, models=("clip", "unclip/vae")
    ) as s:
        if not s.done:
            vae = load_vae(models.unclip, device, models.image_size) if with_vae else None
            write_targets(view, s.dir, load_clip(models.clip, device), vae)
    return Targets.load(run.folder / f"targets-{subject}")


def volumes_identity(recordings: Recordings, subject: str) -> str:
    """Changes when a subject's responses may have changed."""
    sessions = dict.fromkeys(recordings.subject_trials(subject).session)
    return digest(*(recordings.session_identity(subject, session) for session in sessions))


def _restricted(recordings: Recordings, subject: str, chosen: list[str]) -> Recordings:
    """The recordings of one subject in which only the chosen training pictures are for training, others 'unused'."""
    view = copy.copy(recordings)
    own = recordings.subject_trials(subject).copy()
    left = (own.split == "train") & ~own.image_id.isin(chosen)
    view.trials = own.assign(split=own.split.mask(left, "unused"))
    return view


def _measured(view: Recordings) -> Recordings:
    """The same recordings where all trials that are used standardise, if fewer than 20 are for training."""
    if (view.trials.split == "train").sum() >= MIN_TRAINING_TRIALS:
        return view
    view = copy.copy(view)
    view.trials = view.trials.assign(split=view.trials.split.replace("test", "train"))
    return view


def _pictures(recordings: Recordings, subject: str, split: str) -> list[str]:
    own = recordings.subject_trials(subject)
    return sorted(own.image_id[own.split == split].unique())


def _same(name: str, subject: str | int) -> bool:
    try:
        return find_subject(subject, [name], "") == name
    except DataError:
        return False


def _require_same_axes(store: TokenStore, subject: str, affine: np.ndarray) -> None:
    """Patches must lie at the same place of the brain."""
    import nibabel

    first = store.subjects[0]
    theirs = nibabel.aff2axcodes(nibabel.load(store.folder / f"{first}_mask.nii.gz").affine)
    own = nibabel.aff2axcodes(affine)
    if own != theirs:
        raise DataError(
            f"the axes of {subject} run to {''.join(own)}, expected {''.join(theirs)} as those of {first} in this run; write "
            "its mask in that orientation, or put the subject in the run's own data set"
        )
