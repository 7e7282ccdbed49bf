"""What a run says of one of its encoders: its records, its scores and the terms of its recordings.

Refuses what does not belong together, so that no card speaks of another training.
"""

import json
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import nibabel

from neurovl.encoder.variants import ONE_EACH, system_name
from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.results import read_results
from neurovl.run import read_record
from neurovl.stages import PROVENANCE, provenance_key
from neurovl.tokens.store import TokenStore

if TYPE_CHECKING:
    import pandas as pd

OWN_TASKS = ("alignment", "classification")  # the others take a language model or a generator too
REFERENCES = ("ridge", "shuffled")
RETRAIN = "neurovl train encoder --run RUN"


@dataclass(frozen=True)
class TrainedEncoder:
    """What a run says of one of its encoders.

    Attributes
    ----------
    folder : Path
        RUN/encoders/SYSTEM.
    store : TokenStore
    axes : str
        Which way the axes of the common grid run.
    run : dict
        Content of run.json.
    records : dict of str to dict
        provenance.json of the stages 'encoder', 'tokens', 'targets' and, where there are scores, 'results'.
    keys : dict of str to str
        What the card rests on.
    results : DataFrame or None
        results.csv; None where it was not computed from this training.
    fold : int
    """

    folder: Path
    store: TokenStore
    axes: str
    run: dict
    records: dict
    keys: dict
    results: object
    fold: int

    @classmethod
    def read(cls, run: str | Path, system: str, fold: int) -> "TrainedEncoder":
        """Read a run's records, and refuse what does not belong together.

        Raises
        ------
        MissingError, DataError, ConfigError
            See `hub.export_encoder`.
        """
        about = read_record(run)
        if not 0 <= fold < about["folds"]:
            raise ConfigError(
                f"fold {fold} was asked for, this run has folds 0 to {about['folds'] - 1}: choose one of them with --fold"
            )
        place = Path(run) / f"fold{fold}" if about["folds"] > 1 else Path(run)
        folder = place / "encoders" / system
        if not (folder / "model.safetensors").is_file():
            known = sorted(p.parent.name for p in place.glob("encoders/*/model.safetensors"))
            raise MissingError(
                f"encoder {system!r} is not in this run, expected {f'one of {known}' if known else 'a trained one'}; "
                f"choose one with --variant, or train it: {RETRAIN}"
            )
        records = {"encoder": _record(folder)}
        for name in ("tokens", "targets"):
            records[name] = _record(place / name)
        own = records["encoder"]
        if "shape" not in own["settings"]["settings"]:
            raise ConfigError(
                f"encoders/{system} was not trained but adapted to a new subject, expected a trained one such as main; "
                "export that, and let others adapt it: neurovl adapt"
            )
        for name in ("tokens", "targets"):
            if own["inputs"].get(name) != records[name]["key"]:
                raise DataError(
                    f"encoders/{system} was trained on other {name} than those that lie in the run now, expected its own; "
                    f"train it again: {RETRAIN}"
                )
        if own["data"]["name"] != about.get("data"):
            raise DataError(
                f"encoders/{system} was trained on {own['data']['name']}, run.json states the terms of {about.get('data')}, "
                f"expected one data set; train it again: {RETRAIN}"
            )
        keys, results = {"encoder": own["key"]}, None
        scored = Path(run) / "results"
        if (scored / PROVENANCE).is_file():
            record = _record(scored)
            if record["inputs"].get(f"{fold}/encoders/{system}") == own["key"]:
                results, records["results"] = read_results(scored / "results.csv"), record
                keys["results"] = record["key"]
        store = TokenStore(place / "tokens")
        image = nibabel.load(store.folder / f"{store.subjects[0]}_mask.nii.gz")
        axes = "".join(nibabel.aff2axcodes(image.affine))
        return cls(folder, store, axes, about, records, keys, results, fold)

    @property
    def record(self) -> dict:
        """Provenance of the encoder."""
        return self.records["encoder"]

    @property
    def system(self) -> dict:
        """What was trained, see `encoder.variants.Variant`."""
        return self.record["settings"]["settings"]

    @property
    def subjects(self) -> list[str]:
        """Subjects that it was trained on."""
        return self.system["subjects"] or self.store.subjects

    @property
    def data(self) -> dict:
        """Name, checksum, licence and terms of the recordings."""
        about = {name: self.run.get(name) or "not stated" for name in ("licence", "terms")}
        return {**self.record["data"], "simulated": bool(self.run.get("simulated")), **about}

    def scores(self) -> "pd.DataFrame":
        """Rows of results.csv on this encoder and on the references, empty where there are none."""
        from pandas import DataFrame

        name = system_name(self.folder.name)
        subject = self.subjects[0] if name in ONE_EACH else "all"
        if self.results is None:
            return DataFrame(columns=["system", "task"])
        rows = self.results[(self.results.subject == subject) & (self.results.condition == "")]
        own = rows.task.isin(OWN_TASKS)
        return rows[(rows.system == name) | (own & rows.system.isin(REFERENCES))]


def public_models(models: dict) -> dict:
    """Names of models for others to read: hub ids as they are, of a folder's path the last part alone."""
    if isinstance(models, dict):
        return {name: public_models(value) for name, value in models.items()}
    if isinstance(models, list | tuple):
        return [public_models(one) for one in models]
    is_path = isinstance(models, str) and (
        models.startswith((".", "/", "~")) or models.count("/") > 1
    )
    return PurePath(models).name if is_path else models


def _record(folder: Path) -> dict:
    """provenance.json of a stage, with no more of a path than its name."""
    provenance_key(folder)
    record = json.loads((folder / PROVENANCE).read_text())
    if "models" in record["settings"]:
        record["settings"]["models"] = public_models(record["settings"]["models"])
    return record
