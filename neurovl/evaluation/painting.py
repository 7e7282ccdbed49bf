"""Reconstructed test pictures, with and without each part, and over beta: RUN/reconstructions/."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from neurovl.encoder.variants import ONE_EACH, encoder_for, system_name
from neurovl.encoder.vit3d import BrainEmbedding
from neurovl.evaluation.embeddings import chosen_images, held_out
from neurovl.evaluation.erasing import ERASED, brains_without_a_thing, commonest_thing
from neurovl.evaluation.locating import concepts
from neurovl.files import Journal, read_journal
from neurovl.language import BrainLLM
from neurovl.language.dialogues import PROMPTS
from neurovl.language.llm_variants import language_variant
from neurovl.reconstruction.reconstructor import BATCH, Reconstructor
from neurovl.results import condition, read_texts, write_texts
from neurovl.run import Run
from neurovl.settings.sections import Profile
from neurovl.training.devices import agree, leader_first, leads, share, wait_for_all

# While the stage is being made; of each process a list of what it painted.
PROMPTS_MADE, PAINTED = "prompts.jsonl", "painted-{}.jsonl"
ASKED = {
    "instruction": "reconstruction",
    "brief": "brief",
}  # reconstruction.prompts: types of prompt


@dataclass(frozen=True)
class Painter:
    """A system that paints what one encoder reads and one language model says.

    Attributes
    ----------
    system : str
        Its name in results.csv.
    encoder : str
        System whose encoder gives embedding and latent, see `encoder.variants.encoder_for`.
    speaker : str
        Variant of the language model whose words join them; empty: no words.
    prompt : str
        What it is asked for, one of `reconstruction.prompts`.
    from_noise : bool
        Whether painting starts without the latent.
    """

    system: str
    encoder: str = "neurovl"
    speaker: str = "main"
    prompt: str = "instruction"
    from_noise: bool = False


def painters(profile: Profile) -> list[Painter]:
    """The systems of the paper's tables 2 and 7 that a profile allows; the main one first.

    Encoders of one subject each, and the one without a VAE head, are painted with the words of the main language model.
    """
    encoders = profile.alignment.variants
    found = [Painter("neurovl"), Painter("no-llm", speaker="")]
    if "no-vae" in encoders:
        found.append(Painter("no-vae", encoder="no-vae", from_noise=True))
    found += [Painter(one, encoder=one) for one in ONE_EACH if one in encoders]
    for variant in map(language_variant, profile.language.variants):
        for prompt in profile.reconstruction.prompts if variant.asked and variant.encoder else ():
            brief = "brief-prompt" if variant.name == "main" else f"{variant.name}-brief"
            system = variant.system if prompt == "instruction" else brief
            if system != "neurovl":
                found.append(Painter(system, system_name(variant.encoder), variant.name, prompt))
    return found


def reconstruct(run: Run) -> None:
    """Reconstruct test pictures and list them in samples.csv.

    Systems: those of `painters`, such as 'neurovl', 'no-llm' (empty prompt), 'no-vae' (start from noise), and
    'true-embedding' (the ceiling: true CLIP embedding, true latent, a true caption). The ablations are conditions of the
    first two: every beta with and without the language model, and 'neurovl' with the voxels of something in the picture
    silent (`evaluation.erasing`). The processes of `accelerate launch` share the pictures.

    Examples
    --------
    >>> from neurovl import evaluation
    >>> evaluation.reconstruct(run)
    >>> (run.folder / "reconstructions" / "samples.csv").is_file()
    True
    """
    p, settings, systems = run.profile, run.profile.reconstruction, painters(run.profile)
    device, (rank, processes) = p.compute.device, share()
    stage = run.stage(
        "reconstructions",
        reconstruct,
        {
            "reconstruction": settings,
            "localization": p.localization,
            "max_new_tokens": p.language.max_new_tokens,
            "image_size": p.models.image_size,
        },
        _inputs(run, systems),
        ("unclip", "clip"),
    )
    with stage if leads() else nullcontext() as s:
        folder = agree(None if s is None or s.done else s.dir, device)
        if folder is None:
            return
        groups = _groups(run)
        read = lru_cache(maxsize=2)(partial(_brains, run, groups))
        with leader_first(device):  # it alone asks
            asked = _write_prompts(run, Journal(folder / PROMPTS_MADE), groups, systems, read)
        album = _Album(folder, run.reconstructor(), p.seed, rank, processes)
        for group, ids in groups.items():
            about = (group.protocol, group.subject)
            for one in systems if group == (group.subject, "average", "") else systems[:1]:
                said = _words(asked, group, one, len(ids))
                beta = 1.0 if one.from_noise else settings.beta
                z = read(group, one.encoder)
                album.add(one.system, *about, ids, z, said, beta, group.erased)
            if group.protocol == "average" and not group.erased and group.subject in _ablated(run):
                some = ids[: settings.ablation_images]
                z = read(group, "neurovl").take(range(len(some)))
                for beta in settings.betas:
                    for one in systems[:2]:
                        said = _words(asked, group, one, len(some))
                        album.add(one.system, *about, some, z, said, beta, condition(beta=beta))
        _add_ceiling(run, album, ids=_few(run, run.store.tested[-1]))
        wait_for_all(device)
        if s is not None:
            write_texts(pd.DataFrame(album.pictures), s.dir / "samples.csv")
            for path in (s.dir / PROMPTS_MADE, *s.dir.glob(PAINTED.format("*"))):
                path.unlink()


def _inputs(run: Run, systems: Iterable[Painter]) -> tuple[str, ...]:
    """The stages that are read."""
    encoders = {encoder_for(one.encoder, s) for one in systems for s in run.store.tested}
    speakers = {language_variant(one.speaker).stage for one in systems if one.speaker}
    encoders |= set(run.patch_variants())  # whose maps say which voxels to silence
    return ("targets", "tokens", *sorted(speakers), *(f"encoders/{e}" for e in sorted(encoders)))


class Group(NamedTuple):
    """Test pictures by whose brain is read and how; `erased` is '', or `zeroed=` and one of `erasing.ERASED`."""

    subject: str
    protocol: str
    erased: str = ""


def _groups(run: Run) -> dict[Group, list[str]]:
    """The test pictures that are painted."""
    groups: dict[Group, list[str]] = {}
    for subject in run.store.tested:
        few = _few(run, subject)
        groups |= {Group(subject, protocol): few for protocol in ("average", "single")}
        some = few[: run.profile.reconstruction.ablation_images]
        held = [i for i in some if commonest_thing(run, i) is not None]
        if held and subject in _ablated(run):
            alone = len(concepts(run)) == 1
            erased = [condition(zeroed=w) for w in ERASED if not (alone and w == "other")]
            groups |= {Group(subject, "average", which): held for which in erased}
    return groups


def _few(run: Run, subject: str) -> list[str]:
    ids = run.test_images(subject)
    return chosen_images(ids, run.profile.reconstruction.images, run.profile.seed)


def _ablated(run: Run) -> list[str]:
    return run.store.tested[: run.profile.reconstruction.ablation_subjects]


Read = Callable[[Group, str], BrainEmbedding]  # of a group and a system: what its encoder reads


def _brains(run: Run, groups: dict[Group, list[str]], group: Group, encoder: str) -> BrainEmbedding:
    ids = groups[group]
    if group.erased:
        which = group.erased.removeprefix("zeroed=")
        return brains_without_a_thing(run, group.subject, ids, which)
    every, z = held_out(run, encoder_for(encoder, group.subject), group.subject, group.protocol)
    return z.take([every.index(i) for i in ids])


# What a language model said, by its variant, what it was asked for, and the group of its brains.
Asked = dict[tuple[str, str, Group], list[str]]


def _write_prompts(
    run: Run, journal: Journal, groups: Iterable[Group], systems: Iterable[Painter], read: Read
) -> Asked:
    """The language models' prompts; when all are there none is left in the memory."""
    asked: Asked = {
        (one["speaker"], one["prompt"], Group(*one["group"])): one["prompts"]
        for one in journal.records
    }
    wanted = dict.fromkeys((one.speaker, one.prompt) for one in systems if one.speaker)
    for speaker, prompt in wanted:
        variant = language_variant(speaker)
        for group in groups:
            main = (speaker, prompt) == ("main", "instruction")
            if (speaker, prompt, group) in asked or not (main or group[1:] == ("average", "")):
                continue
            z, longest = (
                read(group, system_name(variant.encoder)),
                run.profile.language.max_new_tokens,
            )
            said = prompts_from(run.llm(speaker), z, longest, prompt)
            about = {"speaker": speaker, "prompt": prompt, "group": group}
            journal.add([about | {"prompts": said}])
            asked[speaker, prompt, group] = said
        run.forget(variant.stage)
    return asked


def _words(asked: Asked, group: Group, painter: Painter, n: int) -> list[str]:
    """What the language model says of the first `n` pictures of a group; nothing where a system has none."""
    if not painter.speaker:
        return [""] * n
    return asked[painter.speaker, painter.prompt, group][:n]


def prompts_from(
    llm: BrainLLM, z: BrainEmbedding, max_new_tokens: int, prompt: str = "instruction"
) -> list[str]:
    """What a language model says to paint, one text a brain, asked as `reconstruction.prompts` names it."""
    question = PROMPTS[ASKED[prompt]][0]
    return llm.generate(z, [question] * len(z), max_new_tokens=max_new_tokens)


def _add_ceiling(run: Run, album: "_Album", ids: list[str]) -> None:
    rows = run.targets.rows(ids)
    true = BrainEmbedding(run.targets.clip[rows], run.targets.vae[rows], run.targets.clip[rows])
    prompts = [run.recordings.captions(i)[0] for i in ids]
    album.add(
        "true-embedding", "average", "all", ids, true, prompts, run.profile.reconstruction.beta
    )


class _Album:
    """Pictures and the list of what they are; those that an earlier start painted, and other processes' are left alone.

    Attributes
    ----------
    pictures : list of dict
        The rows of samples.csv, whoever painted them.
    """

    def __init__(
        self, folder: Path, sampler: Reconstructor, seed: int, rank: int, processes: int
    ) -> None:
        self.folder, self.sampler, self.seed = folder, sampler, seed
        self.rank, self.processes, self.batches = rank, processes, 0
        self.journal, self.pictures = Journal(folder / PAINTED.format(rank)), list[dict]()
        lists = [read_journal(path) for path in folder.glob(PAINTED.format("*"))]
        self.done = {one["file"] for records in lists for one in records}

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
            self.pictures += [
                {
                    **about,
                    "subject": subject,
                    "image_id": ids[k],
                    "file": file,
                    "prompt": prompts[k],
                }
                for k, file in zip(part, files, strict=True)
            ]
            self.batches += 1
            if self.batches % self.processes != self.rank or self.done.issuperset(files):
                continue
            said, seeds = [prompts[k] for k in part], [self.seed * 100_003 + k for k in part]
            pictures = self.sampler.batch(z.take(list(part)), said, beta, seeds)
            for file, picture in zip(files, pictures, strict=True):
                picture.save(self.folder / file)
            self.journal.add({"file": file} for file in files)


def read_samples(run_folder: Path) -> pd.DataFrame:
    """samples.csv of a run."""
    return read_texts(run_folder / "reconstructions" / "samples.csv")
