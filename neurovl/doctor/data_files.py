"""The data files of a profile: which are here, how large, and whether they are whole as far as headers tell."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from neurovl.doctor.findings import Finding, readable
from neurovl.errors import NeurovlError
from neurovl.recordings.base import Recordings, subject_label
from neurovl.recordings.copies import exact_words, find_copies, near_words
from neurovl.recordings.volume_checks import RAISE
from neurovl.settings.sections import Profile

if TYPE_CHECKING:
    from neurovl.download.checksums import Manifest

SHORT = 0.5  # of the median size; a smaller session was cut short


def examine_data(profile: Profile, data: str | Path | None) -> list[Finding]:
    """The data set that would be used.

    Parameters
    ----------
    profile : Profile
    data : path or None
        As given with --data.
    """
    from neurovl.recordings.opening import open_recordings, require_both_splits

    world, wanted = profile.simulation, profile.preprocessing
    if data is None:
        if world is None:
            return [
                Finding(
                    "data: none were given, and this profile simulates none",
                    False,
                    "give --data DIR: NSD (neurovl download nsd --to DIR --dry-run says what would come), Haxby, or a "
                    "folder with trials.tsv",
                )
            ]
        names = ", ".join(f"subj{n:02d}" for n in world.subjects)
        new = profile.adaptation.subject
        names += "" if new is None else f" and, to adapt to, {subject_label(new)}"
        made = f"simulated NSD of {names}, {world.sessions} sessions each, is made when needed"
        return [Finding(f"data: {made}", True)]
    try:
        found = require_both_splits(
            open_recordings(
                data,
                wanted.subjects,
                0,
                wanted.split,
                wanted.betas,
                wanted.max_missing_voxels,
            )
        )
    except NeurovlError as error:
        return [Finding(f"data: {data} cannot be used", False, str(error))]
    kind = "simulated, " if found.simulated else ""
    about = Finding(
        f"data: {found.name}, {kind}{len(found.subjects)} subjects, {len(found.trials):,} trials of "
        f"{found.trials.image_id.nunique():,} pictures; licence {found.licence}",
        True,
    )
    if found.name in ("nsd", "simulated-nsd"):
        return [about, *_nsd(profile, found, Path(data))]
    return [about, *_subjects(found), *_pictures(found)]


def _nsd(profile: Profile, found: Recordings, root: Path) -> list[Finding]:
    """Sessions of each subject against those that its split uses; regions, pictures and annotations."""
    from neurovl.download.checksums import Manifest
    from neurovl.recordings.fetching import nsd_files
    from neurovl.recordings.nsd import SESSIONS, fetch_command, last_session

    rows, manifest = [], Manifest(root)
    for subject in found.subjects:
        last = min(SESSIONS[int(subject[-2:])], last_session(subject, found.split_name))
        here = {
            s: found.session_files(subject, s)[0]
            for s in found.subject_trials(subject).session.unique()
        }
        absent = [s for s in range(1, last + 1) if s not in here]
        size = sum(path.stat().st_size for path in here.values())
        broken = _broken(found, subject, here, manifest, root)
        fix = fetch_command(subject, verify=True)
        if found.simulated:
            last, absent, fix = len(here), [], "run neurovl simulate with the same settings again"
        rows += [Finding(f"data: {text}", False, fix) for text in broken]
        rows.append(
            Finding(
                f"data: {subject} has {len(here)} of {last} sessions of {found.betas}, {readable(size)}"
                + (f"; session {_ranges(absent)} missing" if absent else ""),
                not absent,
                f"{fetch_command(subject)} where you want them all; the run uses what is here",
                needed=False,
            )
        )
    files = nsd_files(found.subjects, betas=found.betas)
    for kind in ("regions", "surfaces", "design", "pictures"):
        absent = [
            f.path.as_posix() for f in files if f.kind == kind and not (root / f.path).is_file()
        ]
        some = (
            f"{absent[0]} and {len(absent) - 1} more are"
            if len(absent) > 1
            else f"{(absent or [''])[0]} is"
        )
        rows.append(
            Finding(
                f"data: {kind}" + (f", {some} missing" if absent else " complete"),
                not absent,
                "neurovl download nsd --to DIR; the run goes on without",
                needed=False,
            )
        )
    return [*rows, _words(root)]


def _broken(
    found: Recordings, subject: str, here: dict, manifest: "Manifest", root: Path
) -> list[str]:
    """What headers and sizes say of a subject's sessions."""
    from neurovl.recordings.nsd import open_session

    mask, texts = found.mask(subject), []
    usual = float(np.median([path.stat().st_size for path in here.values()]))
    for path in here.values():
        size, entry = path.stat().st_size, manifest.files.get(path.relative_to(root).as_posix(), {})
        if entry.get("size", size) != size:
            texts.append(
                f"{path.name} of {subject} has {size} bytes, {entry['size']} when it was fetched"
            )
        elif size < SHORT * usual:
            texts.append(
                f"{path.name} of {subject} has {readable(size)}, the others about {readable(usual)}"
            )
        else:
            try:
                open_session(path, subject, mask)
            except NeurovlError as error:
                texts.append(str(error))
    return texts


def _words(root: Path) -> Finding:
    from neurovl.recordings.nsd.coco import FILES, FOLDER

    absent = [name for name in FILES if not (root / FOLDER / name).is_file()]
    return Finding(
        "data: COCO's captions and boxes"
        + (f", {absent[0]} is missing" if absent else " complete"),
        not absent,
        "neurovl download nsd --to DIR; without them no language model is trained",
        needed=False,
    )


def _subjects(found: Recordings) -> list[Finding]:
    """The mask of every subject, which opens its file, and its voxels without a number in the first session."""
    rows = []
    for subject in found.subjects:
        try:
            mask = found.mask(subject)
            first = found.subject_trials(subject).session.iloc[0]
            voxels = np.flatnonzero(mask.ravel(order="F"))
            missing = int(found.not_finite(subject, first, voxels).sum())
        except NeurovlError as error:
            rows.append(Finding(f"data: mask of {subject}", False, str(error)))
            continue
        trials, shape = len(found.subject_trials(subject)), " x ".join(map(str, mask.shape))
        about = f"{subject}, {trials:,} trials, mask of {int(mask.sum()):,} voxels on {shape}"
        rows.append(Finding(f"data: {about}", True))
        if missing:
            share, limit = missing / len(voxels), found.max_missing_voxels
            rows.append(
                Finding(
                    f"data: {missing:,} of them ({share:.1%}) are not finite in session {first}, {limit:.1%} may be in any",
                    share <= limit,
                    f"shrink the mask of {subject}{RAISE}",
                )
            )
    return rows


def _pictures(found: Recordings) -> list[Finding]:
    """Whether there are pictures, and whether test pictures are among those for training."""
    what = "data: pictures" if found.has_images else "data: no pictures"
    fix = "without them labels or captions are the targets, and nothing is reconstructed"
    rows = [Finding(what, found.has_images, fix, needed=False)]
    try:
        copies = find_copies(found)
    except NeurovlError as error:
        return [*rows, Finding("data: a picture cannot be read", False, str(error))]
    if copies.exact:
        rows.append(Finding("data: test pictures", False, exact_words(copies)))
    if copies.near:
        rows.append(Finding("data: test pictures", False, near_words(copies), needed=False))
    return rows


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 7] as '1-3, 7'."""
    runs: list[list[int]] = []
    for n in numbers:
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
