"""The model cards of the tiny family: README.md of every member, written from its provenance.json.

Left out: measuring the scores (`scores`) and recording them (`family`).
"""

import json
from pathlib import Path

from neurovl.family.member_scores import TARGETS

TITLES = {
    "clip": "CLIP (open_clip)",
    "unclip": "Stable unCLIP with its VAE",
    "llm": "Llama",
    "metric": "SceneNet",
}
MEMBERS_OF = {
    "clip": ("clip",),
    "unclip": ("vae", "unclip"),
    "llm": ("llm",),
    "metric": ("metric",),
}
_TRAINING = {
    "clip": "Image and text towers by the symmetric contrastive loss, one of five captions of a scene drawn at each step; "
    "its byte-level tokenizer is of its own.",
    "vae": "The autoencoder (`vae/`) by squared and absolute error with a slight pull of the posterior to a normal one.",
    "unclip": "The UNet and its text encoder by velocity prediction on the VAE's latents (noise levels by "
    "their min-SNR weights, conditions dropped at random, a quarter of the embeddings noised), on three times as many scenes; "
    "VAE, image encoder and normalizer were frozen.",
    "llm": "A causal language model on dialogues written by rule from captions and boxes, 70 % of them with the scene in "
    "words before the first question; loss on the answers alone.",
    "metric": "A convolutional network by cross-entropy on the categories that are present and on the background, with flips and "
    "shifts of brightness. It is a judge of pictures and never a target.",
}
_LIMITS = {
    "clip": "Captions up to 40 tokens in the words of the scenes. Where a scene has several objects, the largest weighs most, so "
    "a single prompt misses small ones.",
    "unclip": "Pictures of 64 x 64 pixels. Small objects come out smeared or are left out; compare the share of objects found "
    "with that of the VAE's round trips, which no sample can be expected to pass.",
    "llm": "It knows a few hundred words and answers nothing but questions of the kinds it was trained on. A well-formed answer "
    "may be false.",
    "metric": "It knows 46 categories and 19 backgrounds. What is painted in another style it may not recognise.",
}
_SAYS = {
    "recall@1": "a true caption is first of 100",
    "recall@5": "a true caption is among the first five of 100",
    "zero_shot_auc": "is there a <category>, by many captions that name it",
    "zero_shot_auc_plain": "is there a <category>, by one prompt each",
    "psnr": "round trips, in dB",
    "latent_std": "standard deviation of scaled latents",
    "two_way_early": "sample identified by SceneNet's early layer, chance .5",
    "two_way_late": "sample identified by SceneNet's late layer, chance .5",
    "objects": "objects that SceneNet finds in samples",
    "objects_vae": "objects that SceneNet finds in VAE round trips",
    "objects_true": "objects that SceneNet finds in the true pictures",
    "perplexity": "answers in held-out dialogues, scene in words",
    "grammatical": "captions sampled at temperature 1 that the scene grammar derives, scene in words",
    "grammatical_no_context": "the same with nothing before the question",
    "grammatical_t0.5": "the same as the first at temperature .5",
    "category_auc": "mean over categories",
    "background_accuracy": "one of 19",
}


def target_text(member: str, score: str) -> str:
    """'at least 0.97', '0.8 to 1.2', or nothing where there is no target."""
    low, high = TARGETS.get((member, score), (None, None))
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return (
        f"at least {low:g}" if low is not None else f"at most {high:g}" if high is not None else ""
    )


def meaning(score: str) -> str:
    """A score's name in words."""
    if score.startswith("pixcorr"):
        _, reading, beta = score.split("_", 2)
        kind = {"mix": "literal mix", "strength": "image-to-image strength"}[reading]
        if beta == "largest_rise":
            return f"largest rise of PixCorr from one beta to the next, {kind}"
        return f"PixCorr from the true latent at beta {beta}, {kind}"
    return _SAYS.get(score, "")


def write_cards(out: Path) -> list[Path]:
    """Write README.md of every member folder in `out` that has a provenance.json; the same record gives the same card."""
    written = []
    for folder in TITLES:
        record = out / folder / "provenance.json"
        if record.is_file():
            card = out / folder / "README.md"
            card.write_text(_card(out, folder, json.loads(record.read_text())), encoding="utf-8")
            written.append(card)
    return written


def _note(record: dict) -> str:
    """What else is to be known of a training, such as a schedule changed on the way."""
    return f" ({record['note']}.)" if "note" in record else ""


def _card(out: Path, folder: str, facts: dict) -> str:
    recipe, members = facts["recipe"], MEMBERS_OF[folder]
    training = [
        f"{_TRAINING[m]} {recipe[m]:,} steps, {facts['members'][m]['seconds']:,} s, loss of the last step "
        f"{facts['members'][m]['last_loss']:.3g}.{_note(facts['members'][m])}"
        for m in members
    ]
    rows = [
        f"| {m} | {name} | {value:.4g} | {facts['members'][m]['n'][name]:,} | {target_text(m, name)} | {meaning(name)} |"
        for m in members
        for name, value in facts["members"][m]["scores"].items()
    ]
    stream = facts["stream"]
    return "\n".join(
        [
            "---",
            "license: bsd-3-clause",
            "library_name: neurovl",
            "---",
            f"# {TITLES[folder]}, tiny",
            "",
            "Part of the small world of neurovl, where it stands in the place of a large model in the same format. "
            f"{_parameters(out / folder):,} parameters.",
            "",
            "## Data",
            "",
            f"{recipe['pictures']:,} rendered scenes of 64 x 64 pixels (stream `foundation`) with five captions each, all made by "
            "`neurovl.smallworld.scenes`. They share no scene with the pictures of the simulated brains. No photograph and "
            "no text of people was used.",
            "",
            "## Training",
            "",
            "From scratch. " + " ".join(training) + f" Seed {recipe['seed']}.",
            "",
            "## Scores",
            "",
            f"On scenes of the stream `{stream}`, which no member was trained on; n is the number of scenes.",
            "",
            "| member | score | value | n | target | what it is |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "`neurovl foundation evaluate` finds them again on fresh scenes.",
            "",
            "## Limits",
            "",
            "It knows nothing of photographs, and is of use only in this small world. Its scores say nothing about "
            f"the large models. {_LIMITS[folder]}",
            "",
            "## Licence",
            "",
            "BSD 3-Clause, as the package. Made by `neurovl foundation train`; settings and versions are in provenance.json.",
            "",
        ]
    )


def _parameters(folder: Path) -> int:
    """Numbers in the safetensors files of a folder, from their headers."""
    from safetensors import safe_open

    total = 0
    for path in sorted(folder.rglob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (not a mapping)
                count = 1
                for side in file.get_slice(name).get_shape():
                    count *= side
                total += count
    return total
