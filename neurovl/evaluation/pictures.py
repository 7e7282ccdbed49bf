"""Reconstructed test pictures, with and without each part, and over beta: RUN/reconstructions/."""

import numpy as np
import pandas as pd

from ..encoder import BrainEmbedding
from ..instructions import PROMPTS
from ..metrics import protocol
from ..reconstruction import Reconstructor
from .brains import chosen_images, derangement, held_out
from .table import Table


def reconstruct(run) -> None:
    """Reconstruct test pictures and list them in samples.csv.

    Systems: 'neurovl', 'no-llm' (empty prompt), 'no-vae' (start from noise), 'true-embedding' (the ceiling: true CLIP
    embedding, true latent, a true caption). The beta ablation adds every beta with and without the language model.
    """
    from ..language import BrainLLM

    p, settings = run.profile, run.profile.reconstruction
    inputs = ["llm", "encoders/main", "targets", "tokens"]
    has_no_vae = "no-vae" in p.alignment.systems
    with run.stage(
        "reconstructions", settings, (*inputs, *(["encoders/no-vae"] if has_no_vae else []))
    ) as s:
        if s.done:
            return
        sampler = Reconstructor.from_pretrained(run.folder, p.device)
        llm = BrainLLM.from_pretrained(run.folder / "llm")
        book = _Album(s.dir, sampler, p.seed)
        subjects = run.store.subjects
        for k, subject in enumerate(subjects):
            for protocol in ("average", "single"):
                ids, z = held_out(run, "main", subject, protocol)
                few = chosen_images(ids, settings.images, p.seed)
                z = z.take([ids.index(i) for i in few])
                prompts = prompts_from(llm, z, p.language.max_new_tokens)
                book.add("neurovl", protocol, subject, few, z, prompts, settings.beta)
                if protocol == "single":
                    continue
                book.add("no-llm", protocol, subject, few, z, [""] * len(few), settings.beta)
                if has_no_vae:
                    all_ids, plain = held_out(run, "no-vae", subject, protocol)
                    plain = plain.take([all_ids.index(i) for i in few])
                    book.add("no-vae", protocol, subject, few, plain, prompts, 1.0)
                if settings.ablation_subjects is None or k < settings.ablation_subjects:
                    some = slice(settings.ablation_images)
                    for beta in settings.betas:
                        part = BrainEmbedding(z.clip[some], z.vae[some], z.hidden[some])
                        book.add("neurovl", "beta", subject, few[some], part, prompts[some], beta)
                        book.add("no-llm", "beta", subject, few[some], part, [""] * len(part), beta)
        _add_ceiling(run, book, few)
        pd.DataFrame(book.rows).to_csv(s.dir / "samples.csv", index=False)


def prompts_from(llm, z, max_new_tokens: int) -> list[str]:
    """The language model's prompt for the diffusion model, one a brain (instruction reconstruction)."""
    return llm.generate(
        z.hidden, [PROMPTS["reconstruction"][0]] * len(z), max_new_tokens=max_new_tokens
    )


def _add_ceiling(run, book, ids) -> None:
    original = {str(i): i for i in run.recordings.trials.image_id.unique()}
    rows = run.targets.rows(ids)
    true = BrainEmbedding(run.targets.clip[rows], run.targets.vae[rows], run.targets.clip[rows])
    prompts = [run.recordings.captions(original[i])[0] for i in ids]
    book.add(
        "true-embedding", "average", "all", ids, true, prompts, run.profile.reconstruction.beta
    )


class _Album:
    """Writes pictures beside a list of what they are."""

    def __init__(self, folder, sampler, seed: int):
        self.folder, self.sampler, self.seed, self.rows = folder, sampler, seed, []

    def add(self, system, protocol, subject, ids, z, prompts, beta) -> None:
        seeds = [self.seed * 100_003 + k for k in range(len(ids))]
        place = self.folder / f"{system}-{protocol}-{beta:g}" / subject
        place.mkdir(parents=True, exist_ok=True)
        for image_id, prompt, picture in zip(
            ids, prompts, self.sampler.batch(z, prompts, beta, seeds), strict=True
        ):
            picture.save(place / f"{image_id}.png")
            self.rows.append(
                {
                    "system": system,
                    "protocol": protocol,
                    "beta": beta,
                    "subject": subject,
                    "image_id": image_id,
                    "file": (place / f"{image_id}.png").relative_to(self.folder).as_posix(),
                    "prompt": prompt,
                }
            )


def read_samples(run_folder) -> pd.DataFrame:
    """samples.csv of a run."""
    return pd.read_csv(
        run_folder / "reconstructions" / "samples.csv",
        dtype={"image_id": str},
        keep_default_na=False,
    )


def score_pictures(run, table: Table) -> None:
    """PixCorr, SSIM, two-way identification by the metric network and objects found; at every beta for the ablation."""
    from ..foundation.metric import load_metric
    from ..metrics import pixcorr, ssim

    network = load_metric(run.profile.models.metric, run.profile.device)
    samples, folder = read_samples(run.folder), run.folder / "reconstructions"
    original = {str(i): i for i in run.recordings.trials.image_id.unique()}
    pictures = {i: run.recordings.image(original[i]) for i in samples.image_id.unique()}
    features = {
        i: f for i, f in zip(pictures, _feature_rows(network, list(pictures.values())), strict=True)
    }
    held = {i: [o["category"] for o in run.recordings.objects(original[i])] for i in pictures}
    ceiling: dict[str, float] = {}
    groups = samples.groupby(["system", "protocol", "beta", "subject"], sort=False)
    for (system, proto, beta, subject), part in sorted(
        groups, key=lambda g: g[0][0] != "true-embedding"
    ):
        made = [_open(folder / f) for f in part.file]
        ids = part.image_id.tolist()
        true = [pictures[i] for i in ids]
        own = _feature_rows(network, made)
        scores = {"pixcorr": pixcorr(made, true), "ssim": ssim(made, true)}
        order = derangement(len(ids), run.profile.seed)
        blind = {
            "pixcorr": pixcorr([made[k] for k in order], true).mean(),
            "ssim": ssim([made[k] for k in order], true).mean(),
        }
        for layer in own[0]:
            a, b = np.stack([f[layer] for f in own]), np.stack([features[i][layer] for i in ids])
            scores[f"two_way_{layer}"] = protocol.two_way(a, b)
            blind[f"two_way_{layer}"] = protocol.two_way_chance(
                a, b, table.seed, run.profile.evaluation.permutations
            ).value
        scores["objects_found"] = _found(network, made, [held[i] for i in ids])
        blind["objects_found"] = _found(
            network, [made[k] for k in order], [held[i] for i in ids]
        ).mean()
        for metric, values in scores.items():
            if system == "true-embedding":
                ceiling[metric] = float(np.mean(values))
            name, rule = (
                (f"{system} beta={beta:g}", "average") if proto == "beta" else (system, proto)
            )
            table.add(
                name,
                "reconstruction",
                rule,
                subject,
                metric,
                ids,
                values,
                float(blind[metric]),
                ceiling.get(metric),
            )


def _open(path):
    from PIL import Image

    with Image.open(path) as image:
        return image.convert("RGB")


def _feature_rows(network, images) -> list[dict]:
    layers = network.features(images)
    return [{name: values[i] for name, values in layers.items()} for i in range(len(images))]


def _found(network, images, held) -> np.ndarray:
    """Share of a picture's true categories that the network sees with a probability of at least .5; 0 without objects."""
    from ..foundation.metric import CATEGORIES

    seen = network.contents(images)["categories"] >= 0.5
    return np.array(
        [
            np.mean([seen[i, CATEGORIES.index(c)] for c in cs]) if cs else 0.0
            for i, cs in enumerate(held)
        ]
    )
