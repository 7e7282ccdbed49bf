"""The model card of a trained encoder: from which recordings under which terms, how it was trained, how well it reads.

Everything is taken from the run's records and results.csv; nothing is computed anew.
"""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from neurovl.encoder.vit3d import BrainEncoder
from neurovl.hub.facts import OWN_TASKS, REFERENCES, TrainedEncoder, public_models
from neurovl.recordings.nsd import BETAS

if TYPE_CHECKING:
    import pandas as pd


def model_card(facts: TrainedEncoder, encoder: BrainEncoder, repo: str | None) -> str:
    """README.md of a published encoder, with the header that the hub reads.

    Parameters
    ----------
    encoder : BrainEncoder
    repo : str, optional
        'owner/name' on the hub.
    """
    parts = [_header(facts), _title(facts, encoder), _data(facts), _preprocessing(facts)]
    parts += [_training(facts), _scores(facts), _use(facts, repo), _limits(facts), _origin(facts)]
    return "\n\n".join(parts) + "\n"


def _header(facts: TrainedEncoder) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    name, simulated = facts.data["name"], facts.data["simulated"]
    rows = facts.scores()
    rows = rows[rows.task.isin(OWN_TASKS) & ~rows.system.isin(REFERENCES)]
    found = (
        [
            EvalResult(
                task_type="feature-extraction",
                task_name=row.task,
                dataset_type=name,
                dataset_name=name,
                dataset_split="test",
                metric_type=row.metric,
                metric_name=f"{row.metric}, {row.protocol}",
                metric_value=row.value,
            )
            for row in rows[rows.value.notna()].itertuples()
        ]
        if len(rows)
        else []
    )
    terms = {"license": "bsd-3-clause"}
    if not simulated:
        terms = {"license": "other", "license_name": "terms-of-the-recordings"}
    data = ModelCardData(
        library_name="neurovl",
        pipeline_tag="feature-extraction",
        tags=["fmri", "brain-decoding", "neuroscience", *(["simulated-data"] if simulated else [])],
        model_name=f"neurovl encoder {facts.folder.name}" if found else None,
        eval_results=found or None,
        **terms,
    )
    return f"---\n{data.to_yaml()}\n---"


def _title(facts: TrainedEncoder, encoder: BrainEncoder) -> str:
    data, vae = facts.data, encoder.vae_shape
    n = sum(x.numel() for x in encoder.state_dict().values())
    width = encoder.clip_head[-1].out_features
    parts = [f"# neurovl encoder `{facts.folder.name}`, {data['name']}"]
    if data["simulated"]:
        parts.append(
            f"> **Simulated: {data['terms'].removeprefix('simulated: ')}.** The scores show that the code does what the method "
            "says; they say nothing about real brains, and this encoder reads none."
        )
    parts.append(
        f"A transformer over 3D patches of fMRI volumes, one for {_subjects(facts)}. From the response to a picture, in one trial or the "
        f"mean of several, it predicts the picture's CLIP embedding ({width} values)"
        + (f", its VAE latent ({_grid(vae)})" if vae else "")
        + f" and hidden states for a language model. {n:,} values. Language model and picture generator are not in this folder."
    )
    return "\n\n".join(parts)


def _data(facts: TrainedEncoder) -> str:
    data, trials = facts.data, facts.store.trials
    trials = trials[trials.subject.isin(facts.subjects)]
    alone = sum(len(v) for k, v in facts.store.transductive.items() if k in facts.subjects)
    rows = [
        ("data", data["name"] + (" (simulated)" if data["simulated"] else "")),
        ("checksum", data["checksum"]),
        ("licence of the recordings", data["licence"]),
        ("terms of the recordings", data["terms"]),
        ("subjects", ", ".join(facts.subjects)),
    ]
    for split, words in (("train", "training"), ("test", "held-out test")):
        part = trials[trials.split == split]
        rows.append((f"{words} trials", f"{len(part):,} of {part.image_id.nunique():,} pictures"))
    text = "Trials are split by picture: no trial of a test picture, of any subject, is trained on."
    if facts.run["folds"] > 1:
        text += f" This is fold {facts.fold} of {facts.run['folds']} (from 0); sessions or runs are held out."
    if alone:
        text += (
            f" {alone} sessions with fewer than 20 training trials are standardised by all their trials, without labels "
            "(transductive)."
        )
    if not data["simulated"]:
        text += (
            " Weights, patch plan and region are made from recordings of people, and the terms above reach what is made from "
            "them: read them before you pass anything on."
        )
    return f"## Training data\n\n{_table(('', ''), rows)}\n\n{text}"


def _preprocessing(facts: TrainedEncoder) -> str:
    plan, wanted = facts.store, facts.records["tokens"]["settings"]["settings"]
    layout = facts.system["layout"]
    n, size = plan.shape(layout)
    betas = wanted.get("betas") or (
        BETAS if facts.data["name"].endswith("nsd") else "the data set's own"
    )
    patch = (
        "voxels in one row, cut"
        if layout == "flat"
        else f"patches of {_grid(plan.plans[layout].patch)} voxels"
    )
    rows = [
        ("betas", betas),
        (
            "standardised",
            "z-scores of each voxel over the training trials of the session, or of the subject where sessions are held out",
        ),
        (
            "common grid",
            f"{_grid(plan.target)} voxels, axes {facts.axes}, trilinear; {len(plan.region):,} voxels carry values",
        ),
        ("tokens", f"{n} of {size} values: {patch}"),
        (
            "off_mask",
            f"{plan.off_mask} (keep: all voxels of a kept patch; zero: 0 outside the subjects' united region; own: 0 outside each subject's own)",
        ),
    ]
    models = public_models(asdict(facts.run["settings"].models))
    targets = [("CLIP target", _model(models["clip"]))]
    if facts.system["use_vae"]:
        targets.append(("VAE target", f"{_model(models['unclip'])}, scaled latent"))
    return (
        f"## Preprocessing\n\n{_table(('', ''), rows)}\n\n**Tokens are cut from z-scores, never from raw betas**; `neurovl.load_published` standardises.\n\n"
        f"## Targets\n\n{_table(('', ''), targets)}"
    )


def _training(facts: TrainedEncoder) -> str:
    import yaml

    shown = {"shape": facts.system["shape"], "settings": facts.system["settings"]}
    shown["settings"] = {k: v for k, v in shown["settings"].items() if v is not None}
    lines = yaml.safe_dump(shown | {"seed": facts.record["seed"]}, sort_keys=False).strip()
    return f"## Training\n\nProfile `{facts.record['profile']}`:\n\n```yaml\n{lines}\n```"


def _scores(facts: TrainedEncoder) -> str:
    rows = facts.scores()
    if rows.empty:
        return (
            "## Scores\n\nNone: this training was not evaluated. `neurovl evaluate --run RUN` computes them; export again "
            "afterwards."
        )
    protocol = (
        "On test pictures that no training saw. `average`: the z-scores of a picture's repeats are averaged; `single`: the first "
        "trial alone. `two_way`: share of the other test pictures that the true one beats, by correlation. n: test pictures (for maps: concepts); intervals: "
        "95 % bootstrap, which says nothing about other people; chance: computed without the pairing of brain and "
        "picture; ceiling: the same metric given the true embedding. `ridge`: a linear model a subject on the same trials; `shuffled`: "
        "the main encoder's predictions, dealt out to other pictures."
    )
    own = rows.task.isin(OWN_TASKS)
    notes = sorted({note.partition(";")[0] for note in rows.note if note.startswith("split ")})
    text = f"## Scores\n\n{protocol}" + (f" Named test set: {', '.join(notes)}." if notes else "")
    if own.any():
        text += f"\n\n{_score_table(rows[own])}"
    if not own.all():
        text += (
            "\n\nOther scores of this run; words and pictures also take its language model and generator, which are not in this "
            "folder:\n\n"
            f"{_score_table(rows[~own])}"
        )
    return text


def _score_table(rows: "pd.DataFrame") -> str:
    rows = rows.astype({"n": float})  # NaN where it is missing, as in the other columns

    def number(value: float, form: str = ".4g") -> str:
        return "" if value != value else format(value, form)

    lines = []
    for row in rows.itertuples():
        known = row.value == row.value
        interval = f"{number(row.ci_low)} to {number(row.ci_high)}" if known else ""
        names = (row.system, row.task, row.protocol, row.metric)
        numbers = (number(row.value), interval, number(row.n, ",.0f"), number(row.chance))
        lines.append((*names, *numbers, number(row.ceiling), "" if known else row.note))
    head = (
        "system",
        "task",
        "protocol",
        "metric",
        "value",
        "95 % interval",
        "n",
        "chance",
        "ceiling",
        "note",
    )
    return _table(head, lines)


def _use(facts: TrainedEncoder, repo: str | None) -> str:
    fetch = f"```\nhf download {repo}\n```\n\n" if repo else ""
    mask = ", mask=mask" if facts.store.off_mask == "own" else ""
    needs = " and the subject's region as a bool array `mask` (x, y, z)" if mask else ""
    return f"""## Use

{fetch}```python
import nibabel, neurovl

model = neurovl.load_published("{repo or "PATH/TO/THIS/FOLDER"}")
betas = nibabel.load("betas_session01.nii.gz")  # one session of one subject: (x, y, z, trials)
z = model(betas, train=is_train{mask})  # is_train: trials that mean and sd of each voxel are taken over
z.clip, z.vae, z.hidden
```

It needs single-trial responses on the subject's own grid, in any unit{needs}; axes are turned by the NIfTI header.
`model.tokens(...)` gives the tokens alone; their mean over a picture's trials is read as an averaged response."""


def _limits(facts: TrainedEncoder) -> str:
    return f"""## Intended use and limits

For research on vision and on methods, with people who agreed to be decoded and can withdraw.

- It reads responses to pictures that a person looks at in a scanner, awake, attending and willing, and it needs recordings
  of that person. It reads no thoughts, memories or intentions.
- It knows {_subjects(facts)}. Of anybody else, and of other scanners, tasks or ways to compute betas, the scores above say
  nothing; `neurovl adapt` adds a person from few trials in a run.
- The whole grid of a volume is stretched to the common grid: fields of view must be alike.
- What a generator draws or a language model says from these embeddings is a likeness out of their own training, and may be
  wrong in ways that look right. Show chance, ceiling and how a picture was chosen beside it.
- Not for readout, lie detection, hiring, insurance, schooling, policing or borders, and not for people who did not agree.
- The region (`plan.npz`) is an outline of the subjects' united cortical region on the common grid."""


def _origin(facts: TrainedEncoder) -> str:
    record = facts.record
    packages = ", ".join(f"{k} {v}" for k, v in record["packages"].items() if v)
    rows = [
        (
            "made by",
            f"neurovl {record['version'] or ''}, commit {record['commit'] or 'not recorded'}",
        ),
        ("finished", record["finished"]),
        ("device", record["device"]),
        ("seconds", record["seconds"]),
        ("Python", record["python"]),
        ("packages", packages),
    ]
    licence = "BSD 3-Clause, as the package."
    if not facts.data["simulated"]:
        licence = f"The code is BSD 3-Clause. For the weights, the terms of the recordings: {facts.data['licence']}; {_sentence(facts.data['terms'])}"
    return (
        f"## Licence\n\n{licence}\n\n## Citation\n\nCite the recordings as their terms ask, neurovl (CITATION.cff of the package), and the paper whose "
        "method it carries out: Shen et al., *Neuro-Vision to Language: Enhancing Brain Recording-based Visual Reconstruction "
        "and Language Interaction*, NeurIPS 2024, https://arxiv.org/abs/2404.19438\n\n"
        f"## Origin\n\n{_table(('', ''), rows)}\n\nRecords of every stage are in `provenance/`; this folder was written by "
        "`neurovl export encoder`."
    )


def _table(head: Iterable, rows: Iterable[Iterable]) -> str:
    def line(cells: Iterable) -> str:
        return "| " + " | ".join(" ".join(str(c).split()).replace("|", "\\|") for c in cells) + " |"

    return "\n".join([line(head), "|" + "---|" * len(head), *map(line, rows)])


def _model(spec: str | Sequence[str]) -> str:
    names = [spec] if isinstance(spec, str) else list(spec)
    names = ["neurovl's tiny family" if name == "tiny" else f"`{name}`" for name in names]
    return names[0] if len(names) == 1 else "the first that was here of " + ", ".join(names)


def _subjects(facts: TrainedEncoder) -> str:
    n = len(facts.subjects)
    kind = "simulated subject" if facts.data["simulated"] else "subject"
    return f"{n} {kind}{'s' if n > 1 else ''} ({', '.join(facts.subjects)})"


def _grid(sizes: Iterable[int]) -> str:
    return " x ".join(map(str, sizes))


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")
