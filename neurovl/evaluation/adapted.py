"""How well a subject that no training saw is decoded: as it is, adapted with few trials, and by ridge on the same trials."""

import logging
from dataclasses import asdict

import numpy as np
import pandas as pd

from ..adaptation import add_subject, pooled_noise
from ..alignment import held_out_voxels, predict
from ..errors import ConfigError
from ..metrics import protocol
from ..new_subject import (
    choose_pictures,
    embed_subject,
    on_data,
    read_trials,
    require_evidence,
    volumes_identity,
)
from ..results import PROTOCOLS, Row
from .brains import fit_ridge
from .table import Table

log = logging.getLogger(__name__)

SHARES = (0.0, 0.01, 0.05, 0.25, 1.0)
INPUTS = ("tokens", "targets", "encoders/main")


def adapt(run, subject: str, recordings, *, share=None, trials=None, seed=None) -> tuple[str, pd.DataFrame]:  # fmt: skip
    """RUN/encoders/adapted-SUBJECT-PERCENT: the main encoder with evidence of a new subject, and its scores.

    Parameters
    ----------
    run : pipeline.Run
    subject : str
    recordings : Recordings
        Both from `adaptation.open_subject`.
    share : float, optional
        Of the subject's training pictures; all of them if neither `share` nor `trials` is given.
    trials : int, optional
        At most so many training trials.
    seed : int, optional
        Chooses the pictures; by default the profile's.

    Returns
    -------
    str
        Name of the encoder in the run.
    DataFrame
        Rows as in RUN/adaptation/curve.csv, of neurovl and ridge with these trials and of neurovl with none.
    """
    share = 1.0 if share is None and trials is None else share
    seed = run.profile.seed if seed is None else seed
    chosen = choose_pictures(recordings, subject, seed, share, trials)
    run = on_data(run, recordings)
    targets = embed_subject(run, recordings, subject)
    name = f"adapted-{subject}-{100 * share:.4g}" if trials is None else f"adapted-{subject}-{trials}-trials"  # fmt: skip
    settings = {"pictures": chosen, "volumes": volumes_identity(recordings, subject)}
    with run.stage(f"encoders/{name}", settings, (*INPUTS, f"targets-{subject}")) as s:
        if not s.done:
            sets = read_trials(recordings, subject, run.store, [[], chosen])
            encoder, rows = require_evidence(run), []
            grown = add_subject(run, encoder, sets[1], targets, pooled_noise(run, encoder))
            if len(grown.evidence.offset) == 1:
                log.warning(
                    "%s measured the same voxels as a subject of the run, so that a volume does not say whose it is: %s reads "
                    "volumes of %s alone",
                    *(subject, name, subject),
                )
            for one, network in zip(sets, (encoder, grown), strict=True):
                rows += score(run, subject, one, network, targets)
            grown.save_pretrained(s.dir)
            pd.DataFrame(rows).to_csv(s.dir / "scores.csv", index=False, float_format="%.6g")
    return name, pd.read_csv(run.folder / "encoders" / name / "scores.csv")


def curve(run, subject: str, recordings, *, shares=SHARES, seed=None) -> pd.DataFrame:
    """RUN/adaptation/curve.csv: scores over the share of a new subject's training pictures, of neurovl and ridge.

    Columns are those of results.csv and `share, pictures, trials`, the training pictures and trials used. The folder holds
    the subject that was asked for last.
    """
    seed = run.profile.seed if seed is None else seed
    choices, kept, dropped = [], [], {}
    for share in shares:
        try:
            choices.append(choose_pictures(recordings, subject, seed, share) if share else [])
            kept.append(share)
        except ConfigError as problem:
            dropped[share] = str(problem)
            log.warning("share %g is left out: %s", share, problem)
    run = on_data(run, recordings)
    targets = embed_subject(run, recordings, subject)
    settings = {"subject": subject, "shares": shares, "seed": seed, "volumes": volumes_identity(recordings, subject)}  # fmt: skip
    with run.stage("adaptation", settings, (*INPUTS, f"targets-{subject}")) as s:
        if not s.done:
            encoder, rows = require_evidence(run), []
            noise = pooled_noise(run, encoder)
            for share, one in zip(kept, read_trials(recordings, subject, run.store, choices), strict=True):  # fmt: skip
                network = add_subject(run, encoder, one, targets, noise) if share else encoder
                rows += score(run, subject, one, network, targets, share)
            for share, reason in dropped.items():
                rows += _without_value(run, subject, ("neurovl", "ridge"), reason, {"share": share})
            rows.sort(key=lambda row: row["share"])
            pd.DataFrame(rows).to_csv(s.dir / "curve.csv", index=False, float_format="%.6g")
    return pd.read_csv(run.folder / "adaptation" / "curve.csv")


def score(run, subject: str, one, encoder, targets, share=None) -> list[dict]:
    """Two-way identification of a new subject's test pictures by an encoder, and by ridge on the trials it adapted with.

    Parameters
    ----------
    one : NewTrials
    share : float, optional
        Of the training pictures; by default that of the trials at hand.

    Returns
    -------
    list of dict
        One for each system, protocol and metric.
    """
    p, rows = run.profile, one.training
    used = one.trials.iloc[rows]
    about = {
        "share": float("nan") if share is None else share,
        "pictures": used.image_id.nunique(),
        "trials": len(rows),
    }
    table = Table(run.recordings.name, run.recordings.split_name, p.seed, p.evaluation.bootstrap)
    shown = used.image_id.to_numpy()
    fitted = fit_ridge(one.voxels("", rows), targets, shown, shown) if len(rows) else None
    for proto in PROTOCOLS:
        ids, voxels = held_out_voxels(one, subject, proto)
        z = predict(encoder, run.store.cut(voxels, encoder.layout))
        said = {"neurovl": {"clip": z.clip, "vae": z.vae}}
        if fitted:
            said["ridge"] = {k: model.predict(voxels) for k, model in fitted.items()}
        seen = targets.rows(ids)
        for system, parts in said.items():
            for part, values in parts.items():
                if values is None:
                    continue
                a, b = np.asarray(values).reshape(len(ids), -1), getattr(targets, part)[seen]
                b = b.flatten(1).numpy()
                chance = protocol.two_way_chance(a, b, p.seed, p.evaluation.permutations).value
                table.add(system, "alignment", proto, subject, f"two_way_{part}", ids,
                          protocol.two_way(a, b), chance, 1.0)  # fmt: skip
    n, alone = one.trials.session.nunique(), len(one.transductive)
    words = f"transductive: {alone} of {n} sessions standardised without labels" if alone else ""
    made = []
    for row in table.rows:
        made.append(asdict(row) | {"note": "; ".join(x for x in (row.note, words) if x)} | about)
    if not fitted:
        made += _without_value(run, subject, ("ridge",), "ridge has no trials to be fitted to", about)  # fmt: skip
    return made


def sentence(table: pd.DataFrame) -> str:
    """The scores of `adapt` in a line: two-way identification by the CLIP embedding, repeats averaged."""
    rows = table[(table.metric == "two_way_clip") & (table.protocol == "average")]
    rows = rows[rows.value.notna()]
    none = rows[rows.trials == 0].iloc[0]
    own, ridge = (
        rows[(rows.trials > 0) & (rows.system == system)].iloc[0] for system in ("neurovl", "ridge")
    )

    def words(row):
        return f"{row.value:.3f} ({row.ci_low:.3f} to {row.ci_high:.3f})"

    return (
        f"two-way CLIP of {own.n:.0f} test pictures {words(own)}, adapted with {own.trials:.0f} trials of "
        f"{own.pictures:.0f} pictures; without any {words(none)}; ridge on the same trials {words(ridge)}; chance "
        f"{own.chance:.3f}"
    )


def _without_value(run, subject: str, systems, reason: str, about: dict) -> list[dict]:
    metrics = ["two_way_clip"] + ([] if run.targets.vae is None else ["two_way_vae"])
    return [
        asdict(Row(run.recordings.name, system, "alignment", proto, subject, metric, note=reason))
        | {"pictures": 0, "trials": 0}
        | about
        for system in systems
        for proto in PROTOCOLS
        for metric in metrics
    ]
