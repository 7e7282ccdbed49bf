"""A made-up comparison in a folder: numbers without meaning, in the files that `neurovl compare` writes."""

import json
from pathlib import Path

import pandas as pd
from PIL import Image

from neurovl.run import RunTables, write_record
from neurovl.settings.profile_files import Profile

SYSTEMS = ("neurovl", "takagi", "brain-diffuser", "toy")
LEAK = "rescaled by the statistics of the test pictures"
# system -> value, rank, verdict of SSIM and of a distance; the last has no SSIM
SSIM = {
    "neurovl": (0.3, 2, ""),
    "takagi": (0.2, 3, "worse"),
    "brain-diffuser": (0.31, 1, "tied"),
    "toy": (None, None, ""),
}
DISTANCE = {
    "neurovl": (0.5, 1, ""),
    "takagi": (10.0, 4, "worse"),
    "brain-diffuser": (0.7, 2, "undecided"),
    "toy": (2.0, 3, "worse"),
}


def score(system: str, metric: str, value: float | None, **more) -> dict:
    known = value is not None
    row = {"data": "simulated-nsd", "system": system, "condition": "", "task": "reconstruction"}
    row |= {"protocol": "average", "subject": "all", "metric": metric, "value": value}
    row |= {"ci_low": value - 0.05 if known else None, "ci_high": value + 0.05 if known else None}
    row |= {"n": 100 if known else None, "chance": 0.1, "ceiling": 0.8, "paper": None, "note": ""}
    row |= dict.fromkeys(("difference", "difference_low", "difference_high"))
    row |= {"verdict": "", "rank": None, "rank_low": None, "rank_high": None}
    row["normalised"] = value / 0.8 if known else None
    return row | more


def board() -> pd.DataFrame:
    """Four systems, two scores of pictures and one of words; single trials, and one row as published."""
    rows = []
    for metric, values in (("ssim", SSIM), ("distance_swav", DISTANCE)):
        for system, (value, rank, verdict) in values.items():
            more = {"note": "" if value is not None else "the toy was not painted"}
            if rank is not None:
                more |= {"rank": rank, "rank_low": max(1, rank - 1), "rank_high": rank + 1}
            if verdict:
                away = value - values["neurovl"][0]
                more |= {"verdict": verdict, "difference": away}
                more |= {"difference_low": away - 0.015, "difference_high": away + 0.015}
            rows.append(score(system, metric, value, **more))
    rows += [
        score("true-embedding", "ssim", 0.8, difference=0.5, verdict="better"),
        score("neurovl", "ssim", 0.25, protocol="single"),
        score("takagi", "ssim", 0.15, protocol="single"),
        score("brain-diffuser", "ssim", 0.4, condition="as published", note=LEAK),
        score("neurovl", "ssim", 0.29, subject="subj01"),
        score("neurovl", "bleu4", 0.2, task="caption"),
        score("toy", "bleu4", 0.1, task="caption"),
        score("neurovl", "image_top1", 0.4, task="retrieval", condition="pool=100"),
        score("toy", "meteor_sentence", 0.1, task="caption"),
    ]
    return pd.DataFrame(rows)


def controls() -> pd.DataFrame:
    rows = []
    for system, factor in (("neurovl", 1.0), ("takagi", 0.5)):
        values = {"permuted": 0.1, "mean brain": 0.12, "distance": -0.2 * factor}
        values |= {"noise=0.5": 0.2 * factor, "noise=2": 0.1 * factor, "only=early": 0.15}
        for control, value in values.items():
            about = {"system": system, "control": control, "task": "reconstruction"}
            about |= {"protocol": "average", "subject": "all", "metric": "ssim", "value": value}
            about |= {"ci_low": value - 0.02, "ci_high": value + 0.02, "n": 100, "chance": 0.1}
            rows.append(about | {"note": ""})
    return pd.DataFrame(rows)


def systems() -> pd.DataFrame:
    rows = []
    for number, system in enumerate(SYSTEMS):
        about = {"system": system, "title": f"The {system} system", "as_published": ""}
        about |= {"reference": "Someone 2023", "n_models": 1 + number}
        about |= {"n_parameters": 10 ** (7 - number), "train_seconds": 1500.0 + number}
        about |= {"predict_seconds": 0.5, "peak_memory_gb": None, "trials_per_subject": 1400}
        lacking = "its generator" if system == "takagi" else ""
        about |= {"settings": json.dumps({"alpha": 100}), "lacking": lacking}
        rows.append(about)
    return pd.DataFrame(rows)


def search() -> pd.DataFrame:
    rows = [
        {"system": system, "trial": trial, "settings": json.dumps({"alpha": 10**trial})}
        | {"score": score, "seconds": 2.0, "chosen": trial == 1}
        for system in ("neurovl", "takagi")
        for trial, score in enumerate((0.4, 0.6, 0.5))
    ]
    return pd.DataFrame(rows)


def samples(folder: Path) -> pd.DataFrame:
    """Pictures of one colour: red of ours, blue of the other; only ours painted the third picture."""
    rows = []
    for system, shade, n in (("takagi", "#0000ff", 2), ("neurovl", "#ff0000", 3)):
        for image_id in range(n):
            name = f"../samples/{system}-{image_id}.png"
            Image.new("RGB", (8, 8), shade).save(folder / name)
            about = {"system": system, "condition": "", "protocol": "average"}
            rows.append(about | {"subject": "subj01", "image_id": str(image_id), "file": name})
    return pd.DataFrame(rows)


def made_up(run: Path, compared: bool = True) -> RunTables:
    """The tables of a run folder, with a comparison or without."""
    facts = {"data": "simulated-nsd", "simulated": True, "folds": 1}
    write_record(run, Profile("smoke"), "../data", facts)
    if compared:
        place = run / "leaderboard"
        for name in ("board", "samples", "controls", "search"):
            (place / name).mkdir(parents=True)
        board().to_csv(place / "board" / "leaderboard.csv", index=False)
        systems().to_csv(place / "board" / "systems.csv", index=False)
        samples(place / "board").to_csv(place / "board" / "samples.csv", index=False)
        controls().to_csv(place / "controls" / "controls.csv", index=False)
        search().to_csv(place / "search" / "search.csv", index=False)
    return RunTables(run)
