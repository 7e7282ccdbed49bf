"""How well a subject that no training saw is decoded: as it is, adapted with few trials, and by ridge on these trials."""

import logging
from collections.abc import Iterable
from dataclasses import asdict, fields

import pandas as pd
import torch

from neurovl.adaptation.adapting import (
    add_subject,
    fine_tune,
    has_readout,
    pooled_noise,
    require_readout,
)
from neurovl.adaptation.new_subject import (
    NewTrials,
    choose_pictures,
    embed_subject,
    open_subject,
    read_trials,
    volumes_identity,
)
from neurovl.encoder.alignment import held_out_voxels, predict
from neurovl.encoder.targets import Targets
from neurovl.encoder.vit3d import BrainEncoder
from neurovl.errors import ConfigError, NeurovlError
from neurovl.evaluation.embeddings import fit_ridge, own_voxels
from neurovl.evaluation.score_table import Table
from neurovl.recordings import Recordings
from neurovl.results import PROTOCOLS, Row, condition
from neurovl.run import Run

logger = logging.getLogger(__name__)

SYSTEMS = ("neurovl", "fine-tuned", "ridge")
INPUTS = ("tokens", "targets", "encoders/main")
WHOLE = "encoders/main holds no linear readout of each subject, so there is none to add to"


def adapt(
    run: Run,
    subject: str,
    recordings: Recordings,
    *,
    share: float | None = None,
    trials: int | None = None,
    seed: int | None = None,
) -> tuple[str, pd.DataFrame]:
    """RUN/encoders/adapted-SUBJECT-PERCENT: the main encoder with a readout of a new subject, and its scores.

    Parameters
    ----------
    run : Run
    subject : str
    recordings : Recordings
        Both from `new_subject.open_subject`.
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
        Rows as in RUN/adaptation/SUBJECT/curve.csv, of neurovl and ridge with these trials and of neurovl with none.

    Raises
    ------
    ConfigError
        The run's encoder holds no readout for each subject.

    Examples
    --------
    >>> from neurovl.adaptation.new_subject import open_subject
    >>> from neurovl.evaluation.new_subject_curve import adapt
    >>> name, recordings = open_subject(run, 2)
    >>> encoder, scores = adapt(run, name, recordings, trials=60)
    >>> encoder, sorted(scores.system.unique())
    ('adapted-subj02-60-trials', ['neurovl', 'ridge'])
    """
    encoder = require_readout(run)
    share = 1.0 if share is None and trials is None else share
    seed = run.profile.seed if seed is None else seed
    chosen = choose_pictures(recordings, subject, seed, share, trials)
    run = run.on_data(recordings)
    targets = embed_subject(run, recordings, subject)
    name = (
        f"adapted-{subject}-{100 * share:.4g}"
        if trials is None
        else f"adapted-{subject}-{trials}-trials"
    )
    settings = _identity(run, recordings, subject) | {"pictures": chosen}
    inputs = (*INPUTS, f"targets-{subject}")
    with run.stage(f"encoders/{name}", adapt, settings, inputs) as s:
        if not s.done:
            sets = read_trials(recordings, subject, run.store, [[], chosen])
            grown = add_subject(run, encoder, sets[1], targets, pooled_noise(run, encoder))
            if len(grown.readout.offset) == 1:
                logger.warning(
                    "%s measured the same voxels as a subject of the run, so that a volume does not say whose it is: %s reads "
                    "volumes of %s alone",
                    *(subject, name, subject),
                )
            rows = score(run, subject, sets[0], {"neurovl": encoder}, targets)
            rows += score(run, subject, sets[1], {"neurovl": grown}, targets)
            grown.save_pretrained(s.dir)
            pd.DataFrame(rows).to_csv(s.dir / "scores.csv", index=False, float_format="%.6g")
    return name, pd.read_csv(run.folder / "encoders" / name / "scores.csv")


def curve(
    run: Run,
    subject: str,
    recordings: Recordings,
    *,
    shares: tuple[float, ...] | None = None,
    seed: int | None = None,
) -> pd.DataFrame:
    """RUN/adaptation/SUBJECT/curve.csv: scores over the share of a new subject's training pictures.

    Of the encoder with a readout fitted to these trials (neurovl), the same trained on them (fine-tuned), and ridge on them; with
    no trial also of the encoders of this run that hold nothing of single subjects.
    Columns are those of results.csv and `share, pictures, trials`, the training pictures and trials used. What cannot be
    computed has a row without a value and with the reason, as the shares above 0 of an encoder without one have.

    Parameters
    ----------
    shares : tuple of float, optional
        By default the profile's.
    """
    shares = run.profile.adaptation.shares if shares is None else shares
    seed = run.profile.seed if seed is None else seed
    choices, dropped = choose_shares(recordings, subject, seed, shares)
    run = run.on_data(recordings)
    targets = embed_subject(run, recordings, subject)
    settings = _identity(run, recordings, subject) | {"shares": shares, "seed": seed}
    inputs = (*INPUTS, f"targets-{subject}", *(f"encoders/{name}" for name in _common(run)))
    with run.stage(f"adaptation/{subject}", curve, settings, inputs) as s:
        if not s.done:
            encoder, rows = run.encoder("main"), []
            noise = pooled_noise(run, encoder) if has_readout(run, encoder) else None
            every = read_trials(recordings, subject, run.store, list(choices.values()))
            for share, one in zip(choices, every, strict=True):
                if share:
                    networks = _adapted(run, encoder, one, targets, noise)
                else:
                    networks = {"neurovl": encoder} | {s: run.encoder(s) for s in _common(run)}
                rows += score(run, subject, one, networks, targets, share)
            for share, reason in dropped.items():
                rows += without_value(run, subject, SYSTEMS, reason, share)
            rows.sort(key=lambda row: row["share"])
            pd.DataFrame(rows).to_csv(s.dir / "curve.csv", index=False, float_format="%.6g")
    return pd.read_csv(run.folder / "adaptation" / subject / "curve.csv")


def curve_of_profile(run: Run) -> pd.DataFrame | None:
    """The curve of the subject that the profile names; None where it names none, or one that is not outside the run."""
    found = subject_of_profile(run)
    return None if found is None else curve(run, *found)


def subject_of_profile(run: Run) -> tuple[str, Recordings] | None:
    """The subject that the profile names, opened; None where it names none, or one that is not outside the run."""
    wanted = run.profile.adaptation.subject
    if wanted is None:
        return None
    try:
        return open_subject(run, wanted)
    except NeurovlError as problem:
        logger.warning("adaptation.subject of the profile is left out: %s", problem)
        return None


def choose_shares(
    recordings: Recordings, subject: str, seed: int, shares: Iterable[float]
) -> tuple[dict[float, list[str]], dict[float, str]]:
    """The pictures of each share of a subject's training pictures, see `choose_pictures`; and of each that holds too few, why."""
    chosen, dropped = {}, {}
    for share in shares:
        try:
            chosen[share] = choose_pictures(recordings, subject, seed, share) if share else []
        except ConfigError as problem:
            dropped[share] = str(problem)
            logger.warning("share %g is left out: %s", share, problem)
    return chosen, dropped


def rows_of(curve: pd.DataFrame) -> list[Row]:
    """Rows of results.csv: the condition says the share, as in 'share=0.25', and the note how many trials."""
    made = []
    for record in curve.astype(object).where(curve.notna(), None).to_dict("records"):
        words = [
            record["note"],
            f"{record['pictures']} training pictures, {record['trials']} trials",
        ]
        about = {
            "note": "; ".join(filter(None, words)),
            "n": None if record["n"] is None else int(record["n"]),
        }
        made.append(Row(**{f.name: record[f.name] for f in fields(Row)} | about))
    return made


def _identity(run: Run, recordings: Recordings, subject: str) -> dict:
    """What scores of a subject rest on besides the stages that are read and its choice of pictures."""
    return {"volumes": volumes_identity(recordings, subject), "evaluation": run.profile.evaluation}


def _common(run: Run) -> list[str]:
    """Trained encoders of the run, besides the main one, that treat all subjects alike."""
    names = ("common", "plain")
    return [n for n in names if (run.folder / "encoders" / n / "provenance.json").is_file()]


def _adapted(
    run: Run, encoder: BrainEncoder, one: NewTrials, targets: Targets, noise: torch.Tensor | None
) -> dict:
    """Encoders that few trials were adapted with, in closed form and, from there, by training; None where there is none."""
    grown = None if noise is None else add_subject(run, encoder, one, targets, noise)
    return {"neurovl": grown, "fine-tuned": fine_tune(run, grown or encoder, one, targets)}


def score(
    run: Run,
    subject: str,
    one: NewTrials,
    networks: dict[str, BrainEncoder | None],
    targets: Targets,
    share: float | None = None,
) -> list[dict]:
    """Two-way identification of a new subject's test pictures by encoders, and by ridge on the trials they adapted with.

    Parameters
    ----------
    one : NewTrials
    networks : dict of str to BrainEncoder
        Encoders by system; None where readout would have to be added to an encoder that holds none.
    share : float, optional
        Of the training pictures; by default that of the trials at hand.

    Returns
    -------
    list of dict
        One for each system, protocol and metric.
    """
    rows, said = one.training, {}
    shown = one.trials.image_id.iloc[rows].to_numpy()
    fitted = None
    if len(rows):
        fitted = fit_ridge(own_voxels(one, rows, one.measured), targets, shown, shown)
    for proto in PROTOCOLS:
        ids, voxels = held_out_voxels(one, subject, proto)
        parts = {}
        for system, network in networks.items():
            if network is not None:
                z = predict(network, run.store.cut(voxels, network.layout))
                parts[system] = {"clip": z.clip, "vae": z.vae}
        if fitted is not None:
            parts["ridge"] = targets.parts(fitted.predict(voxels[:, one.measured]))
        said[proto] = ids, parts
    made = score_said(run, subject, one, said, targets, share)
    absent = [system for system, network in networks.items() if network is None]
    made += without_value(run, subject, absent, WHOLE, share, one)
    if fitted is None:
        reason = "ridge has no trials to be fitted to"
        made += without_value(run, subject, ("ridge",), reason, share, one)
    return made


def score_said(
    run: Run,
    subject: str,
    one: NewTrials,
    said: dict[str, tuple[list[str], dict[str, dict]]],
    targets: Targets,
    share: float | None = None,
) -> list[dict]:
    """Two-way identification of a new subject's test pictures by what systems say of them.

    Parameters
    ----------
    run : Run
        With the subject's recordings.
    one : NewTrials
        That the systems adapted with.
    said : dict of str to (image_ids, dict)
        For each protocol the test pictures and, by system, embeddings as `Table.add_embeddings` takes them.
    targets, share
        See `score`.

    Returns
    -------
    list of dict
        One for each system, protocol and metric.
    """
    p = run.profile
    table = Table(run.recordings.name, run.recordings.split_name, p.seed, p.evaluation.bootstrap)
    for proto, (ids, parts) in said.items():
        table.add_embeddings(
            parts, "adaptation", proto, subject, ids, targets, p.evaluation.permutations
        )
    n, alone = one.trials.session.nunique(), len(one.transductive)
    words = f"transductive: {alone} of {n} sessions standardised without labels" if alone else ""
    about = _varied(share) | _used(one)
    return [
        asdict(row) | {"note": "; ".join(x for x in (row.note, words) if x)} | about
        for row in table.rows
    ]


def _used(one: NewTrials | None) -> dict:
    """How many training pictures and trials there were."""
    if one is None:
        return {"pictures": 0, "trials": 0}
    used = one.trials.iloc[one.training]
    return {"pictures": used.image_id.nunique(), "trials": len(used)}


def _varied(share: float | None) -> dict:
    if share is None:
        return {"condition": "", "share": float("nan")}
    return {"condition": condition(share=share), "share": share}


def sentence(table: pd.DataFrame) -> str:
    """The scores of `adapt` in a line: two-way identification by the CLIP embedding, repeats averaged."""
    rows = table[(table.metric == "two_way_clip") & (table.protocol == "average")]
    rows = rows[rows.value.notna()]
    none = rows[rows.trials == 0].iloc[0]
    own, ridge = (
        rows[(rows.trials > 0) & (rows.system == system)].iloc[0] for system in ("neurovl", "ridge")
    )

    def words(row: pd.Series) -> str:
        return f"{row.value:.3f} ({row.ci_low:.3f} to {row.ci_high:.3f})"

    return (
        f"two-way CLIP of {own.n:.0f} test pictures {words(own)}, adapted with {own.trials:.0f} trials of "
        f"{own.pictures:.0f} pictures; without any {words(none)}; ridge on the same trials {words(ridge)}; chance "
        f"{own.chance:.3f}"
    )


def without_value(
    run: Run,
    subject: str,
    systems: Iterable[str],
    reason: str,
    share: float | None,
    one: NewTrials | None = None,
    metrics: Iterable[str] | None = None,
) -> list[dict]:
    """Rows that say why there is no score: of each system, protocol and metric, by default those of the run's targets."""
    if metrics is None:
        metrics = ["two_way_clip"] + ([] if run.targets.vae is None else ["two_way_vae"])
    return [
        asdict(Row(run.recordings.name, system, "adaptation", proto, subject, metric, note=reason))
        | _varied(share)
        | _used(one)
        for system in systems
        for proto in PROTOCOLS
        for metric in metrics
    ]
