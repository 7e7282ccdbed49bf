"""Whether verdicts of the leaderboard hold on brains and trainings that nothing was chosen on.

    python benchmarks/verdicts.py --runs runs          # about 45 minutes on 2 cores; what is made already is read

Compared are ours and the systems that come closest: in the profile's simulation again with other seeds (`simulated-SEED`), where
brains, noise and pictures differ, and on the profile's own simulation with other seeds of the training (`trained-SEED`), for ours
and for the rivals that are trained by steps. verdicts.csv has one row a score: ours, the best rival, and the verdict on it;
verdicts_by_run.csv counts them.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

import neurovl
from neurovl.leaderboard.ranks import NO_DECODERS, OURS, lower_is_better
from neurovl.pipeline import compare
from neurovl.results import unvaried

RIVALS = "brain-diffuser,takagi,braincap,dream,mindeye"
TRAINED = (
    "braincap,dream"  # braincap is solved in closed form; it lends the words that are compared
)
KEYS = ["protocol", "task", "metric"]
NUMBERS = ["difference", "difference_low", "difference_high"]
FOLDER = Path(__file__).parent


def best_rivals(board: pd.DataFrame) -> pd.DataFrame:
    """The best system besides ours in each score over all subjects, and how it stands beside ours.

    Parameters
    ----------
    board : DataFrame
        leaderboard.csv.

    Returns
    -------
    DataFrame
        Columns protocol, task, metric, ours, rival, value, difference and its interval, verdict.
    """
    rows = unvaried(board.assign(condition=board.condition.fillna("")))
    rows = rows[(rows.subject == "all") & rows.value.notna() & rows.verdict.notna()]
    rows = rows[~rows.system.isin([*NO_DECODERS, "plain"])]
    found = []
    for key, part in rows.groupby(KEYS, sort=False):
        ours, rivals = part[part.system == OURS], part[part.system != OURS]
        if not len(ours) or not len(rivals):
            continue
        best = rivals.sort_values("value", ascending=lower_is_better(key[-1])).iloc[0]
        about = dict(zip(KEYS, key, strict=True)) | {"ours": ours.value.iloc[0]}
        about |= {"rival": best.system, "value": best.value, "verdict": best.verdict}
        found.append(about | {name: best[name] for name in NUMBERS})
    columns = [*KEYS, "ours", "rival", "value", *NUMBERS, "verdict"]
    return pd.DataFrame(found, columns=columns)


def by_run(table: pd.DataFrame) -> pd.DataFrame:
    """How often the best rival is worse than ours, tied, undecided or better, run by run; and in which scores it is better."""
    rows = []
    for (run, protocol), part in table.groupby(["run", "protocol"], sort=False):
        beaten = part[part.verdict == "better"]
        words = [f"{one.metric} ({one.rival} {one.difference:+.3f})" for one in beaten.itertuples()]
        verdicts = ("worse", "tied", "undecided", "better")
        counts = {name: int((part.verdict == name).sum()) for name in verdicts}
        rows.append(
            {"run": run, "protocol": protocol, "scores": len(part)}
            | counts
            | {"better in": ", ".join(words)}
        )
    return pd.DataFrame(rows)


def compared(
    folder: Path, profile: str, systems: str, seed: int, data: Path | None
) -> pd.DataFrame:
    """The leaderboard of a run, which is made where it is not there."""
    run = neurovl.start_run(folder, profile=profile, data=data, seed=seed)
    compare(run, systems)
    return pd.read_csv(run.folder / "leaderboard" / "board" / "leaderboard.csv")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--simulations", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--trainings", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--systems", default=RIVALS)
    parser.add_argument("--trained", default=TRAINED, help="systems of other trainings")
    parser.add_argument("--out", type=Path, default=FOLDER)
    chosen = parser.parse_args(arguments)
    runs, profile = chosen.runs, chosen.profile
    own = neurovl.start_run(runs / profile, profile=profile)
    tables = {profile: compared(own.root, profile, chosen.systems, own.profile.seed, None)}
    for seed in chosen.simulations:
        name = f"simulated-{seed}"
        tables[name] = compared(runs / name, profile, chosen.systems, seed, None)
    for seed in chosen.trainings:
        name = f"trained-{seed}"
        tables[name] = compared(runs / name, profile, chosen.trained, seed, own.data_folder)
    parts = [best_rivals(board).assign(run=name) for name, board in tables.items()]
    table = pd.concat(parts)[["run", *parts[0].columns.drop("run")]]
    table.to_csv(chosen.out / "verdicts.csv", index=False, float_format="%.4g")
    by_run(table).to_csv(chosen.out / "verdicts_by_run.csv", index=False)
    print(f"wrote {chosen.out / 'verdicts.csv'} and verdicts_by_run.csv")


if __name__ == "__main__":
    main(sys.argv[1:])
