"""The simulated experiment's files, to the letter of NSD: design, pictures, annotations, behaviour.

Scenes stand in for COCO's photos: nsdId i shows scene i of the stream ``nsd``. All constants that
programs for NSD hard-code are kept (30,000 trials in `masterordering`, 73,000 pictures, 1,000 shared
slots); slots of pictures that nobody saw stay unwritten. Responses to the memory task are random.
"""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from neurovl.files import replacing
from neurovl.smallworld import scenes

N_IMAGES, N_SUBJECTS, N_SHARED, N_SLOTS = 73_000, 8, 1000, 10_000
SESSIONS, TRIALS = 40, 750  # of a whole experiment; trials of a session
PER_SESSION = 250  # pictures, three trials each
SIZE = 425
RUNS = np.tile([63, 62], 6)  # stimulus trials of a session's twelve runs
FIRST_COCO_ID = 1_000_000  # above every id of COCO's own
CROP = (0.0, 0.0, 0.125, 0.125)  # top, bottom, left, right: the middle square of 640 x 480
COCO_SIZE = (640, 480)
EXPERIMENT = Path("nsddata/experiments/nsd")
STIMULI = Path("nsddata_stimuli/stimuli/nsd")


def make_design(sessions: int, seed: int) -> dict[str, np.ndarray]:
    """Draw who sees which picture when.

    The first `sessions` sessions hold whole triplets of 250 * sessions pictures, a fifth of them
    shared by all subjects (at most 1,000); the slots left over fill the sessions after them.

    Returns
    -------
    dict with NSD's variables
        masterordering (1, 30000), subjectim (8, 10000), sharedix (1, 1000): 1-based;
        basiccnt (3, 40); stimpattern (40, 12, 75)
    """
    rng = np.random.default_rng([seed, 0, 0])
    ids = rng.permutation(N_IMAGES)
    shared, own = np.sort(ids[:N_SHARED]), ids[N_SHARED:].reshape(N_SUBJECTS, -1)
    subjectim = np.hstack([np.tile(shared, (N_SUBJECTS, 1)), own]) + 1
    n_shared = min(N_SHARED, PER_SESSION * sessions // 5)
    first = np.concatenate(
        [
            1 + rng.permutation(N_SHARED)[:n_shared],
            1 + N_SHARED + rng.permutation(N_SLOTS - N_SHARED)[: PER_SESSION * sessions - n_shared],
        ]
    )
    later = np.setdiff1d(np.arange(1, N_SLOTS + 1), first)
    order = np.concatenate([_shuffled_triplets(part, rng) for part in (first, later)])
    counts = np.zeros((3, SESSIONS), np.int32)
    for session, trials in enumerate(order.reshape(SESSIONS, TRIALS)):
        shown = np.unique(trials, return_counts=True)[1]
        counts[:, session] = [(shown == n).sum() for n in (1, 2, 3)]
    pattern = np.zeros((SESSIONS, len(RUNS), 75), np.uint8)
    for run, n_trials in enumerate(RUNS):
        blank = np.linspace(10, 68, 75 - 7 - n_trials).round().astype(int)
        pattern[:, run, np.setdiff1d(np.arange(3, 71), blank)] = 1
    return {
        "masterordering": order[None].astype(np.int32),
        "subjectim": subjectim.astype(np.int32),
        "sharedix": shared[None].astype(np.int32) + 1,
        "basiccnt": counts,
        "stimpattern": pattern,
    }


def _shuffled_triplets(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every picture three times in random order, never twice in a row."""
    order = rng.permutation(np.repeat(pictures, 3))
    if len(pictures) < 3:
        return order
    while len(twice := np.flatnonzero(order[1:] == order[:-1]) + 1):
        for i in twice:
            j = rng.integers(len(order))
            order[i], order[j] = order[j], order[i]
    return order


def seen_images(design: dict[str, np.ndarray], subject: int, sessions: int) -> np.ndarray:
    """The 0-based nsdId of each trial of a subject, in presentation order."""
    slots = design["masterordering"][0, : sessions * TRIALS]
    return design["subjectim"][subject - 1, slots - 1] - 1


def write_experiment(root: Path, design: dict[str, np.ndarray]) -> None:
    """Write nsd_expdesign.mat and the table of all pictures."""
    from scipy.io import savemat

    folder = root / EXPERIMENT
    with replacing(folder / "nsd_expdesign.mat") as part:
        savemat(part, design, appendmat=False, do_compression=True)
    table = _picture_table(design)
    with replacing(folder / "nsd_stim_info_merged.csv") as part:
        table.to_csv(part)
    table["cropBox"] = [CROP] * len(table)
    with replacing(folder / "nsd_stim_info_merged.pkl") as part:
        table.to_pickle(part)


def _picture_table(design: dict[str, np.ndarray]) -> pd.DataFrame:
    """All 73,000 pictures with NSD's columns."""
    ids = np.arange(N_IMAGES)
    split = np.where(ids % 20 == 0, "val2017", "train2017").astype(object)
    columns = {
        "cocoId": FIRST_COCO_ID + ids,
        "cocoSplit": pd.Series(split, dtype=object),
        "cropBox": pd.Series([str(CROP)] * N_IMAGES, dtype=object),
        "loss": 0.0,
        "nsdId": ids,
        "flagged": False,
        "BOLD5000": False,
        "shared1000": np.isin(ids, design["sharedix"] - 1),
    }
    order = design["masterordering"][0]
    by_slot = np.argsort(order, kind="stable").reshape(N_SLOTS, 3) + 1  # three trials of each slot
    for s in range(N_SUBJECTS):
        columns[f"subject{s + 1}"] = np.isin(ids, design["subjectim"][s] - 1).astype(int)
    for s in range(N_SUBJECTS):
        trials = np.zeros((N_IMAGES, 3), int)
        trials[design["subjectim"][s] - 1] = by_slot
        for repeat in range(3):
            columns[f"subject{s + 1}_rep{repeat}"] = trials[:, repeat]
    table = pd.DataFrame(columns, index=ids)
    table.columns = table.columns.astype(object)
    return table


def write_stimuli(root: Path, ids: Sequence[int] | np.ndarray, n_jobs: int) -> None:
    """Render the pictures `ids` into their slots of imgBrick; the other slots are never allocated."""
    import h5py
    from joblib import Parallel, delayed
    from tqdm.auto import tqdm

    path = root / STIMULI / "nsd_stimuli.hdf5"
    if path.is_file():
        return
    parts = np.array_split(np.asarray(ids), max(1, len(ids) // 25))

    with replacing(path) as beside, h5py.File(beside, "w") as file:
        brick = file.create_dataset(
            "imgBrick",
            (N_IMAGES, SIZE, SIZE, 3),
            np.uint8,
            chunks=(1, SIZE, SIZE, 3),
            compression="gzip",
            compression_opts=1,
        )
        tasks = Parallel(n_jobs, return_as="generator")(delayed(_render)(p) for p in parts)
        rendered = zip(parts, tasks, strict=True)
        for part, chunks in tqdm(rendered, "pictures", len(parts), disable=None):
            for nsd_id, chunk in zip(part, chunks, strict=True):
                brick.id.write_direct_chunk((int(nsd_id), 0, 0, 0), chunk)


def _render(ids: Sequence[int] | np.ndarray) -> list[bytes]:
    """Pictures as HDF5's gzip filter stores them."""
    return [
        zlib.compress(
            np.asarray(scenes.render(scenes.make_scene("nsd", int(i)), SIZE)).tobytes(), 1
        )
        for i in ids
    ]


def write_annotations(root: Path, ids: Sequence[int] | np.ndarray) -> None:
    """Write captions and object boxes of the pictures `ids` in COCO's format."""
    kinds = [one for one in scenes.CATEGORIES.values() if one.coco_id is not None]
    categories = [
        {"id": one.coco_id, "name": one.name, "supercategory": one.supercategory} for one in kinds
    ]
    info = {"description": "SIMULATED scenes, not COCO", "version": "1.0", "year": 2024}
    for split in ("train2017", "val2017"):
        images, captions, instances = [], [], []
        for nsd_id in (int(i) for i in ids if (i % 20 == 0) == (split == "val2017")):
            coco_id = FIRST_COCO_ID + nsd_id
            width, height = COCO_SIZE
            images.append(
                {
                    "id": coco_id,
                    "file_name": f"{coco_id:012d}.jpg",
                    "width": width,
                    "height": height,
                }
            )
            scene = scenes.make_scene("nsd", nsd_id)
            for number, caption in enumerate(scenes.captions(scene)):
                captions.append(
                    {"id": 10 * nsd_id + number, "image_id": coco_id, "caption": caption}
                )
            for number, one in enumerate(scene.objects):
                category = scenes.CATEGORIES[one.category]
                if category.coco_id is not None:
                    instances.append(
                        _instance(10 * nsd_id + number, coco_id, category.coco_id, one.box)
                    )
        common = {"info": info, "licenses": [], "images": images}
        for name, content in {
            "captions": {**common, "annotations": captions},
            "instances": {**common, "annotations": instances, "categories": categories},
        }.items():
            with replacing(root / STIMULI / "annotations" / f"{name}_{split}.json") as part:
                part.write_text(json.dumps(content))


def _instance(
    number: int, image_id: int, category_id: int, box: tuple[float, float, float, float]
) -> dict:
    """A box of the unit square as COCO writes it, in pixels of the 640 x 480 picture."""
    width, height = COCO_SIZE
    x0, x1 = ((x * height + (width - height) / 2) for x in (box[0], box[2]))
    y0, y1 = box[1] * height, box[3] * height
    area = (x1 - x0) * (y1 - y0)
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)],
        "area": round(area, 2),
        "iscrowd": 0,
        "segmentation": [[round(v, 2) for v in (x0, y0, x1, y0, x1, y1, x0, y1)]],
    }


def write_behaviour(
    root: Path, design: dict[str, np.ndarray], subject: int, sessions: int, seed: int
) -> None:
    """Write responses.tsv: the order of the trials, and random answers of a fair memory."""
    rng = np.random.default_rng([seed, subject, 3])
    slots = design["masterordering"][0, : sessions * TRIALS]
    n = len(slots)
    session = np.repeat(np.arange(1, sessions + 1), TRIALS)
    trial_index = np.arange(n)
    frame = pd.DataFrame({"slot": slots, "session": session, "at": trial_index})
    last, first = (getattr(frame.groupby("slot")["at"], f)() for f in ("shift", "cummin"))
    old = last.notna().to_numpy()
    in_session = frame.groupby(["slot", "session"])["at"].cumcount().to_numpy() > 0
    right = rng.random(n) < 0.85
    missing = rng.random(n) < 0.005
    answer = np.where(right == old, 2, 1)
    runs = np.tile(np.repeat(np.arange(1, 13), RUNS), sessions)
    within = np.tile(np.concatenate([np.arange(1, k + 1) for k in RUNS]), sessions)
    seconds = 300 * (runs - 1) + 4 * within
    responses = pd.DataFrame(
        {
            "SUBJECT": subject,
            "SESSION": session,
            "RUN": runs,
            "TRIAL": within,
            "73KID": seen_images(design, subject, sessions) + 1,
            "10KID": slots,
            "TIME": 737_000 + 7 * session + seconds / 86_400,
            "ISOLD": old.astype(int),
            "ISCORRECT": np.where(missing, np.nan, right),
            "RT": np.where(missing, np.nan, rng.normal(950, 200, n).clip(250, 3900).round(3)),
            "CHANGEMIND": np.where(missing, np.nan, rng.random(n) < 0.03),
            "MEMORYRECENT": (trial_index - last - 1).to_numpy(),
            "MEMORYFIRST": np.where(old, trial_index - first - 1, np.nan),
            "ISOLDCURRENT": in_session.astype(int),
            "ISCORRECTCURRENT": np.where(missing, np.nan, (answer == 2) == in_session),
            "TOTAL1": np.where(missing, 0, answer == 1).astype(int),
            "TOTAL2": np.where(missing, 0, answer == 2).astype(int),
            "BUTTON": np.where(missing, np.nan, answer),
            "MISSINGDATA": missing.astype(int),
        }
    )
    with replacing(root / f"nsddata/ppdata/subj{subject:02d}/behav/responses.tsv") as part:
        responses.to_csv(part, sep="\t", index=False, na_rep="NaN")
