"""Reconstructed test pictures, with and without each part, and over beta: RUN/reconstructions/."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.errors import DataError, MissingError
from neurovl.evaluation.clip_score import score_clip_s
from neurovl.evaluation.embeddings import chosen_images, derangement, held_out
from neurovl.evaluation.erasing import ERASED, brains_without_a_thing, commonest_thing
from neurovl.evaluation.score_table import Table
from neurovl.files import Journal
from neurovl.foundation.metric_networks import ClipFeatures, ImageNetwork
from neurovl.foundation.scenenet import MetricNetwork
from neurovl.language import BrainLLM
from neurovl.language.dialogues import PROMPTS
from neurovl.metrics import protocol
from neurovl.reconstruction.reconstructor import BATCH, Reconstructor
from neurovl.results import Row, condition
from neurovl.run import Run
from neurovl.settings.sections import Profile

if TYPE_CHECKING:
    from PIL.Image import Image

PROMPTS_MADE, PAINTED = "prompts.jsonl", "painted.jsonl"  # while the stage is being made


def reconstruct(run: Run) -> None:
    """Reconstruct test pictures and list them in samples.csv.

    Systems: 'neurovl', 'no-llm' (empty prompt), 'no-vae' (start from noise), 'true-embedding' (the ceiling: true CLIP
    embedding, true latent, a true caption). The ablations are conditions of the first two systems: every beta with and
    without the language model, and 'neurovl' with the voxels of something in the picture silent (`evaluation.erasing`).

    Examples
    --------
    >>> from neurovl import evaluation
    >>> evaluation.reconstruct(run)
    >>> (run.folder / "reconstructions" / "samples.csv").is_file()
    True
    """
    p, settings = run.profile, run.profile.reconstruction
    inputs = ["llm", "targets", "tokens", *(f"encoders/{one}" for one in run.patch_variants())]
    has_no_vae = "no-vae" in p.alignment.variants
    with run.stage(
        "reconstructions",
        reconstruct,
        {
            "reconstruction": settings,
            "localization": p.localization,
            "max_new_tokens": p.language.max_new_tokens,
            "image_size": p.models.image_size,
        },
        (*inputs, *(["encoders/no-vae"] if has_no_vae else [])),
        ("unclip", "clip"),
    ) as s:
        if s.done:
            return
        groups = _groups(run)
        asked = _write_prompts(run, Journal(s.dir / PROMPTS_MADE), groups)
        album = _Album(s.dir, run.reconstructor(), p.seed)
        for group, ids in groups.items():
            subject, protocol, erased = group
            z, said = _brains(run, group, ids), asked[group]
            album.add("neurovl", protocol, subject, ids, z, said, settings.beta, erased)
            if protocol == "single" or erased:
                continue
            album.add("no-llm", protocol, subject, ids, z, [""] * len(ids), settings.beta)
            if has_no_vae:
                plain = _brains(run, group, ids, "no-vae")
                album.add("no-vae", protocol, subject, ids, plain, said, 1.0)
            if subject in _ablated(run):
                some = slice(settings.ablation_images)
                part, about = z.take(some), (protocol, subject, ids[some])
                for beta in settings.betas:
                    varied = condition(beta=beta)
                    album.add("neurovl", *about, part, said[some], beta, varied)
                    album.add("no-llm", *about, part, [""] * len(part), beta, varied)
        _add_ceiling(run, album, ids=_few(run, run.store.subjects[-1]))
        pd.DataFrame(album.journal.records).to_csv(s.dir / "samples.csv", index=False)
        for name in (PROMPTS_MADE, PAINTED):
            (s.dir / name).unlink()


# A subject, a protocol and, where voxels are silent, which: `zeroed=located` or `zeroed=moved`
Group = tuple[str, str, str]


def _groups(run: Run) -> dict[Group, list[str]]:
    """The test pictures of which the language model says what to paint, by whose brain it reads."""
    groups: dict[Group, list[str]] = {}
    for subject in run.store.subjects:
        few = _few(run, subject)
        groups |= {(subject, protocol, ""): few for protocol in ("average", "single")}
        some = few[: run.profile.reconstruction.ablation_images]
        held = [i for i in some if commonest_thing(run, i) is not None]
        if held and subject in _ablated(run):
            groups |= {(subject, "average", condition(zeroed=which)): held for which in ERASED}
    return groups


def _few(run: Run, subject: str) -> list[str]:
    ids = run.test_images(subject)
    return chosen_images(ids, run.profile.reconstruction.images, run.profile.seed)


def _ablated(run: Run) -> list[str]:
    return run.store.subjects[: run.profile.reconstruction.ablation_subjects]


def _brains(run: Run, group: Group, ids: list[str], variant: str = "main") -> BrainEmbedding:
    subject, protocol, erased = group
    if erased:
        return brains_without_a_thing(run, subject, ids, erased.removeprefix("zeroed="))
    every, z = held_out(run, variant, subject, protocol)
    return z.take([every.index(i) for i in ids])


def _write_prompts(
    run: Run, journal: Journal, groups: dict[Group, list[str]]
) -> dict[Group, list[str]]:
    """The language model's prompts; when all are there it has left the memory."""
    done = {tuple(one["group"]) for one in journal.records}
    for group, ids in groups.items():
        if group not in done:
            z = _brains(run, group, ids)
            said = prompts_from(run.llm(), z, run.profile.language.max_new_tokens)
            journal.add([{"group": group, "prompts": said}])
    run.forget("llm")
    return {tuple(one["group"]): one["prompts"] for one in journal.records}


def prompts_from(llm: BrainLLM, z: BrainEmbedding, max_new_tokens: int) -> list[str]:
    """The language model's prompt for the diffusion model, one a brain (instruction reconstruction)."""
    return llm.generate(
        z.hidden, [PROMPTS["reconstruction"][0]] * len(z), max_new_tokens=max_new_tokens
    )


def _add_ceiling(run: Run, album: "_Album", ids: list[str]) -> None:
    rows = run.targets.rows(ids)
    true = BrainEmbedding(run.targets.clip[rows], run.targets.vae[rows], run.targets.clip[rows])
    prompts = [run.recordings.captions(i)[0] for i in ids]
    album.add(
        "true-embedding", "average", "all", ids, true, prompts, run.profile.reconstruction.beta
    )


# (system, condition, protocol, subject) and the rows of samples.csv
Groups = list[tuple[tuple[str, ...], pd.DataFrame]]


class _Album:
    """Writes pictures beside a list of what they are; those that an earlier start painted are left alone."""

    def __init__(self, folder: Path, sampler: Reconstructor, seed: int) -> None:
        self.folder, self.sampler, self.seed = folder, sampler, seed
        self.journal = Journal(folder / PAINTED)
        self.done = {one["file"] for one in self.journal.records}

    def add(
        self,
        system: str,
        protocol: str,
        subject: str,
        ids: list[str],
        z: BrainEmbedding,
        prompts: list[str],
        beta: float,
        condition: str = "",
    ) -> None:
        place = f"{'-'.join(filter(None, (system, protocol, condition)))}/{subject}"
        (self.folder / place).mkdir(parents=True, exist_ok=True)
        about = {"system": system, "condition": condition, "protocol": protocol, "beta": beta}
        # In the same batches each time: a picture may differ by a rounding from one batch to another.
        for start in range(0, len(ids), BATCH):
            part = range(start, min(start + BATCH, len(ids)))
            files = [f"{place}/{ids[k]}.png" for k in part]
            if self.done.issuperset(files):
                continue
            said, seeds = [prompts[k] for k in part], [self.seed * 100_003 + k for k in part]
            pictures = self.sampler.batch(z.take(list(part)), said, beta, seeds)
            for file, picture in zip(files, pictures, strict=True):
                picture.save(self.folder / file)
            self.journal.add(
                {
                    **about,
                    "subject": subject,
                    "image_id": ids[k],
                    "file": file,
                    "prompt": prompts[k],
                }
                for k, file in zip(part, files, strict=True)
            )


def read_samples(run_folder: Path) -> pd.DataFrame:
    """samples.csv of a run."""
    return pd.read_csv(
        run_folder / "reconstructions" / "samples.csv",
        dtype={"image_id": str},
        keep_default_na=False,
    )


def score_pictures(run: Run, table: Table) -> None:
    """PixCorr, SSIM, the scores of the metric networks and objects found, at every beta for the ablation; then CLIP-S.

    A network whose weights are not here leaves its cells empty, with the reason.
    """
    from neurovl.foundation.metric import metric_family
    from neurovl.metrics import Likeness

    samples = read_samples(run.folder)
    keys = ["system", "condition", "protocol", "subject"]
    groups = sorted(samples.groupby(keys, sort=False), key=lambda g: g[0][0] != "true-embedding")
    seen = {i: run.recordings.image(i) for i in samples.image_id.unique()}
    found: dict[tuple, dict] = {key: {} for key, _ in groups}
    likeness = Likeness(seen.__getitem__)
    for key, part in groups:
        order = derangement(len(part), run.profile.seed)
        found[key] |= likeness(_made(run, part), part.image_id.tolist(), order)
    missing: dict[str, str] = {}
    for member in metric_family(run.profile.models.metric, run.profile.compute.device):
        try:
            network = member.load()
        except (MissingError, DataError) as problem:
            missing |= dict.fromkeys(member.scores, str(problem))
            continue
        _score_by(network, member.scores, run, groups, seen, found)
    _fill(table, groups, found, missing)
    score_clip_s(run, table)


def _score_by(
    network: ImageNetwork | ClipFeatures | MetricNetwork,
    scores: Sequence[str],
    run: Run,
    groups: Groups,
    seen: dict,
    found: dict,
) -> None:
    """Add one network's scores of every group, (values, chance) by metric."""
    features = network.features(list(seen.values()))
    row = {i: k for k, i in enumerate(seen)}
    held = {i: [o["category"] for o in run.recordings.objects(i)] for i in seen}
    for key, part in groups:
        made, ids = _made(run, part), part.image_id.tolist()
        order = derangement(len(ids), run.profile.seed)
        own = network.features(made)
        for score in scores:
            kind = next(k for k in COMPARISONS if score.startswith(f"{k}_"))
            feature = score.removeprefix(f"{kind}_")
            a, b = own[feature], features[feature][[row[i] for i in ids]]
            found[key][score] = COMPARISONS[kind](a, b, order, run.profile)
        if hasattr(network, "contents"):
            there = [held[i] for i in ids]
            blind = _found(network, [made[k] for k in order], there).mean()
            found[key]["objects_found"] = _found(network, made, there), blind


def _two_way(
    made: np.ndarray, true: np.ndarray, order: np.ndarray, profile: Profile
) -> tuple[np.ndarray, float]:
    permutations = profile.evaluation.permutations
    chance = protocol.two_way_chance(made, true, profile.seed, permutations).value
    return protocol.two_way(made, true), chance


def _distance(
    made: np.ndarray, true: np.ndarray, order: np.ndarray, profile: Profile
) -> tuple[np.ndarray, float]:
    blind = protocol.correlation_distance(made[order], true).mean()
    return protocol.correlation_distance(made, true), blind


COMPARISONS = {"two_way": _two_way, "distance": _distance}


def _fill(table: Table, groups: Groups, found: dict, missing: dict) -> None:
    """Rows of the table; those of true embeddings come first and give the ceiling."""
    ceiling: dict[str, float] = {}
    empty: dict[tuple, None] = {}
    for key, part in groups:
        system, varied, proto, subject = key
        empty |= {(system, varied, proto): None}
        for metric, (values, blind) in found[key].items():
            if system == "true-embedding":
                ceiling[metric] = float(np.mean(values))
            table.add(
                system,
                "reconstruction",
                proto,
                subject,
                metric,
                part.image_id.tolist(),
                values,
                float(blind),
                ceiling.get(metric),
                varied,
            )
    for system, varied, proto in empty:
        for metric, reason in missing.items():
            place = table.place(system, "reconstruction", proto, "all", metric, varied)
            table.rows.append(Row(**place, note=reason))


def _made(run: Run, part: pd.DataFrame) -> list:
    return [_open(run.folder / "reconstructions" / file) for file in part.file]


def _open(path: Path) -> "Image":
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB")


def _found(network: MetricNetwork, images: list["Image"], held: list[list[str]]) -> np.ndarray:
    """Share of a picture's true categories that the network sees with a probability of at least .5; 0 without objects."""
    from neurovl.foundation.scenenet import CATEGORIES

    seen = network.contents(images)["categories"] >= 0.5
    return np.array(
        [
            np.mean([seen[i, CATEGORIES.index(c)] for c in cs]) if cs else 0.0
            for i, cs in enumerate(held)
        ]
    )
