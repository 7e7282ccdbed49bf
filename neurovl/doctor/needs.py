"""What each stage needs: memory of the device, memory of the machine and disk, computed from the profile's shapes.

Parameters times bytes is exact. Activations are counted by short formulas, whose constants were read off the real networks
on torch's meta device (tests/test_doctor.py reads them again): bytes kept a token and layer, maps kept a pixel.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from neurovl.doctor.heads import masks_for, plans_for, union_region
from neurovl.errors import MissingError
from neurovl.foundation.annotators import TOGETHER
from neurovl.foundation.model_facts import configurations, parameters
from neurovl.foundation.source import LARGE, alternatives
from neurovl.foundation.vae import pictures_at_once
from neurovl.settings.sections import EncoderShape, Profile

if TYPE_CHECKING:
    from neurovl.recordings.base import Recordings

F32, F16 = 4, 2
ADAMW = 16  # bytes a trained parameter in float32: weight, gradient, two moments
FOUR_BIT = 0.516  # bytes a weight: nf4, and its scales, which are quantized themselves
ROWS_TOGETHER = 8  # dialogues that are computed at the same time, of the code
TEXT = 128  # tokens of a dialogue beside the brain's, about
SHOWN = 3  # times that a picture is shown, about
ANSWERS = 64  # batch of the code
ENCODER_MAPS, DECODER_MAPS = 5.1, 6.1  # of a VAE: first-level maps at full size, float32
BASIS = 6  # arrays of all targets while their components are computed
COVARIANCES = 16  # bytes a pair of voxels: two matrices in float64
CAPTIONS = 0.44e9  # bytes of 8 captions in BLIP-2 (OPT 2.7B) as they are drawn, float32: more than DETR's maps
UNET_MAPS = 27  # first-level maps at the latent's size
PNG = 0.6  # of a picture's bytes, about


@dataclass(frozen=True)
class Need:
    """What a stage takes, in bytes: of the device that computes, of the machine's memory beside it, of the disk.

    `how` says where the largest part comes from.
    """

    stage: str
    device: float = 0.0
    memory: float = 0.0
    disk: float = 0.0
    how: str = ""


@dataclass(frozen=True)
class Sizes:
    """What the needs follow from.

    Attributes
    ----------
    trials, train, pictures, test : int
        Trials in the store, trials to train with, different pictures, a subject's test pictures.
    region : int
        V, voxels stored of each trial.
    tokens, token_size : int
        N and C of the main layout.
    subjects : int
    encoders : dict of str to int
        How many the profile trains, by the name of the system.
    has_images : bool
        Without pictures there is neither VAE nor language model nor reconstruction.
    """

    trials: int
    train: int
    pictures: int
    test: int
    region: int
    tokens: int
    token_size: int
    subjects: int
    encoders: dict[str, int]
    has_images: bool = True


def sizes_for(profile: Profile, recordings: "Recordings | None" = None) -> Sizes:
    """Trials and tokens of the data, or, where none are given, of the data set that the profile speaks of."""
    masks, edges, _ = masks_for(profile, recordings)
    plans = plans_for(profile, masks, edges)
    main = next(iter(plans.values()))
    counts = _counts(profile, recordings, len(masks))
    several = {"patches": len(plans) - 1, "per-subject": len(masks)}
    encoders = {name: several.get(name, 1) for name in profile.alignment.variants}
    size, region = int(np.prod(main.patch)), len(union_region(plans))
    has_images = recordings is None or recordings.has_images
    return Sizes(*counts, region, main.n_tokens, size, len(masks), encoders, has_images)


def _counts(
    profile: Profile, recordings: "Recordings | None", n_subjects: int
) -> tuple[int, int, int, int]:
    """Trials, training trials, pictures, and a subject's test pictures."""
    from neurovl.recordings.nsd import TRIALS, last_session

    if recordings is not None:
        table = recordings.trials
        test = table[table.split == "test"].groupby("subject").image_id.nunique().max()
        return len(table), int((table.split == "train").sum()), table.image_id.nunique(), int(test)
    if profile.simulation is not None:
        trials = n_subjects * profile.simulation.sessions * TRIALS
        return trials, trials, trials // SHOWN, trials // n_subjects // SHOWN // 5
    split = profile.preprocessing.split or "shared1000"
    names = [f"subj{int(str(s).removeprefix('subj')):02d}" for s in profile.preprocessing.subjects]
    trials = TRIALS * sum(min(40, last_session(name, split)) for name in names)
    return trials, round(0.9 * trials), trials // SHOWN, int(split.removeprefix("shared"))


def needs(profile: Profile, sizes: Sizes, half: bool, jobs: int) -> list[Need]:
    """Every stage's needs, in the order of a run.

    Parameters
    ----------
    half : bool
        Whether the device computes in bf16, so that large language models are loaded in 16 bits.
    jobs : int
        Sessions that are preprocessed at the same time.

    Raises
    ------
    MissingError
        Nothing is known of a model of the profile.
    """
    found = [_preprocess(sizes, jobs)]
    found.append(_targets(profile, sizes))
    found.append(_encoder(profile, sizes))
    if sizes.has_images:
        found += _annotators(profile, half)
        found += [*_language(profile, sizes, half), _sampling(profile, sizes, half)]
    return found


def _preprocess(s: Sizes, jobs: int) -> Need:
    from neurovl.recordings.nsd import TRIALS

    session = TRIALS * s.region * F32
    return Need(
        "preprocess",
        memory=jobs * 2.5 * session,
        disk=s.trials * s.region * F16,
        how=f"{jobs} sessions of {TRIALS} x {s.region:,} voxels at a time; {s.trials:,} trials stored in float16",
    )


def _targets(profile: Profile, s: Sizes) -> Need:
    clip = sum(parameters(profile.models.clip, "clip").values())
    if not s.has_images:
        return Need("targets", device=F32 * clip, how=f"CLIP {clip / 1e6:,.1f} M parameters, texts")
    vae = parameters(profile.models.unclip, "unclip").get("vae", 0)
    side, base, latent = vae_sizes(profile)
    batch = min(pictures_at_once(side), s.pictures)
    maps = batch * ENCODER_MAPS * base * side**2 * F32
    return Need(
        "targets",
        device=F32 * (clip + vae) + maps,
        disk=s.pictures * (F32 * 1024 + F16 * latent),
        how=f"CLIP {clip / 1e6:,.1f} M and VAE {vae / 1e6:,.1f} M parameters, {batch} pictures of {side} x {side}",
    )


def vae_sizes(profile: Profile) -> tuple[int, int, int]:
    """Side of a picture, channels of the VAE's first level, values of a latent."""
    config = configurations(profile.models.unclip, "unclip")["vae"]
    channels = config["block_out_channels"]
    side = profile.models.image_size or config["sample_size"]
    latent = config["latent_channels"] * (side // 2 ** (len(channels) - 1)) ** 2
    return side, channels[0], latent


def _encoder(profile: Profile, s: Sizes) -> Need:
    from neurovl.encoder.variants import Choice, describe

    settings = profile.alignment
    latent = vae_sizes(profile)[2] if s.has_images else 0
    clip = configurations(profile.models.clip, "clip")["clip"]["embed_dim"]
    store = Choice(["main"])
    device = memory = disk = 0.0
    how = ""
    for name, count in s.encoders.items():
        several = name in ("patches", "per-subject")
        system = describe("main" if several else name, profile, store)
        e, values = system.shape, clip + latent * system.use_vae
        common = e.readout_of == "all"
        n = encoder_parameters(e, s.tokens, s.token_size, clip, values - clip)
        fixed = readout_bytes(
            e, 1 if common or name == "per-subject" else s.subjects, s.tokens, s.token_size, values
        )
        weights = (ADAMW + F32 * (settings.ema > 0)) * n + fixed
        kept = e.layers * e.width * activation_bytes(e.mlp_ratio)
        kept *= settings.batch_size * (s.tokens + 1)
        disk += count * (F32 * n + fixed)
        if weights + kept > device:
            device = weights + kept
            how = f"{n / 1e6:,.1f} M parameters, batch {settings.batch_size} x {s.tokens} tokens"
        if e.readout:
            seen = s.train / s.subjects if name == "per-subject" else s.train
            most = seen if common else s.train / s.subjects
            fit = fitting_bytes(seen, most, s.region)
            memory = max(memory, fit + BASIS * F32 * s.pictures * values)
    if memory:
        how += f"; encoding models of {s.region:,} voxels from {s.train:,} trials"
    targets = F32 * s.pictures * (clip + latent)
    batch = 4 * F32 * settings.batch_size * s.region
    return Need("train encoder", device, memory + targets + batch, disk, how)


def readout_bytes(e: EncoderShape, subjects: int, tokens: int, token_size: int, values: int) -> int:
    """Bytes of an encoder's readout, which is not trained: float32, and a bool a voxel.

    Parameters
    ----------
    values : int
        Of a target: CLIP embedding and VAE latent.
    """
    if not e.readout:
        return 0
    place, k = subjects * tokens * token_size, e.readout
    return F32 * (place * k + subjects * k + (k + 1) * values) + place


def fitting_bytes(trials: float, most: float, voxels: int) -> float:
    """Bytes while encoding models are fitted: residuals of all trials, and beside them the one subject that is being
    fitted, with `most` trials, or the covariances of a decoder.
    """
    one = 2 * F32 * most * voxels
    return F32 * trials * voxels + max(one, COVARIANCES * voxels**2)


def encoder_parameters(
    e: EncoderShape, tokens: int, token_size: int, clip: int, latent: int
) -> int:
    """Parameters of a ViT3D with both heads."""
    width, inner = e.width, int(e.width * e.mlp_ratio)
    embed = 2 * (e.readout + 1) * width if e.readout else token_size * width + width
    block = 4 * width * (width + 1) + inner * (2 * width + 1) + width + 4 * width
    heads = 2 * (width + 1) * e.head_hidden + (e.head_hidden + 1) * (clip + latent)
    return embed + (tokens + 2) * width + e.layers * block + 2 * width + heads


def activation_bytes(mlp_ratio: float) -> float:
    """Bytes that a transformer block keeps for the way back, a token and value of its width, in float32."""
    return 18 + 12 * mlp_ratio


def llm_bytes(config: dict, trained: bool, half: bool) -> float:
    """Bytes that a Llama layer keeps for the way back, a token."""
    h, i = config["hidden_size"], config["intermediate_size"]
    heads = config["num_attention_heads"]
    kv = (config.get("num_key_value_heads") or heads) * (config.get("head_dim") or h // heads)
    full = 48 * h + 12 * i + 4 * kv if trained else 24 * h + 10 * i + 6 * kv
    return full * (0.57 if half else 1)


def adapter_parameters(config: dict, rank: int) -> int:
    """Parameters of adapters beside the seven matrices of each of a Llama's layers."""
    return rank * config["num_hidden_layers"] * sum(a + b for a, b in _matrices(config))


def _matrices(config: dict) -> list[tuple[int, int]]:
    """Inputs and outputs of the matrices of a Llama's layer."""
    h, inner, heads = (
        config[k] for k in ("hidden_size", "intermediate_size", "num_attention_heads")
    )
    size = config.get("head_dim") or h // heads
    kv = (config.get("num_key_value_heads") or heads) * size
    return [(h, heads * size), (h, kv), (h, kv), (heads * size, h), *2 * [(h, inner)], (inner, h)]


def _held_bytes(profile: Profile, config: dict, n: int) -> float:
    """Bytes of the weights beside adapters. In 4 bits: the matrices of the layers, with a scale for each 64 weights."""
    if profile.lora.base != "4bit":
        return (F32 if profile.lora.base == "float32" else F16) * n
    matrices = config["num_hidden_layers"] * sum(a * b for a, b in _matrices(config))
    return FOUR_BIT * matrices + F16 * (n - matrices)


def _annotators(profile: Profile, half: bool) -> list[Need]:
    """Captioner and detector, both loaded while training pictures are annotated; nothing where a profile lacks one."""
    sizes = {}
    for part in ("captioner", "detector"):
        spec = getattr(profile.models, part)
        if spec is None:
            return []
        sizes[part] = parameters(spec, part).get(part)
        if sizes[part] is None:
            raise MissingError(
                f"the size of the {part} {alternatives(spec)[0]} is not known, expected weights in safetensors or a "
                f"published one; fetch it, or name another one with models.{part} of the profile"
            )
    weight = F16 if half and F16 * sizes["captioner"] >= LARGE else F32
    return [
        Need(
            "annotate",
            device=weight * sizes["captioner"]
            + F32 * sizes["detector"]
            + TOGETHER * CAPTIONS * weight / F32,
            how=f"captioner {sizes['captioner'] / 1e6:,.1f} M parameters at {weight} bytes, detector "
            f"{sizes['detector'] / 1e6:,.1f} M",
        )
    ]


def _language(profile: Profile, s: Sizes, half: bool) -> list[Need]:
    spec, settings = profile.models.llm, profile.language
    config = configurations(spec, "llm")["llm"]
    n = parameters(spec, "llm").get("llm")
    if n is None or "intermediate_size" not in config:
        raise MissingError(
            f"the size of the language model {spec} is not known, expected weights in safetensors or a published one"
        )
    adapted = settings.method == "lora"
    large = half and F16 * n >= LARGE  # loaded in 16 bits, and so are the answers given
    weight = F16 if large else F32
    half = large or adapted and profile.lora.base != "float32"
    h, layers, vocabulary = (config[k] for k in ("hidden_size", "num_hidden_layers", "vocab_size"))
    width = profile.encoder.width + profile.encoder.readout
    projector = ADAMW * (width * h + h * h + 2 * h)
    length = s.tokens + 1 + TEXT
    held = _held_bytes(profile, config, n) if adapted else weight * n
    found = []
    parts = zip(settings.batch_size, settings.accumulate, strict=True)
    for stage, batch in enumerate((whole // count for whole, count in parts), 1):
        full = stage == 2 and not adapted
        a_layer = batch * length * llm_bytes(config, full, half)
        kept = a_layer * layers
        if profile.compute.checkpointing:
            # What goes into a layer, and one layer of dialogues that are padded together.
            kept = batch * length * layers * h * (F16 if half else F32)
            kept += a_layer * min(1, ROWS_TOGETHER / batch)
        logits = batch * length * vocabulary * (12 if half else 16)
        # Under autocast each weight has a copy in 16 bits besides.
        states, words = held, "weights"
        if full:
            states = (ADAMW + F16 * half) * n
            words = "weights, gradients and two moments in float32"
        elif stage == 2:
            states += ADAMW * adapter_parameters(config, profile.lora.rank)
            words = f"weights as {profile.lora.base}, adapters of rank {profile.lora.rank}"
        found.append(
            Need(
                f"train llm {stage}",
                device=states + projector + kept + logits,
                memory=F32 * n if stage == 2 and adapted else 0,
                disk=F32 * n + F16 * s.train * (s.tokens + 1) * width if stage == 2 else 0,
                how=f"{n / 1e9:,.2f} G parameters: {words}; batch {batch} x {length} tokens",
            )
        )
    heads = config["num_attention_heads"]
    kv = (config.get("num_key_value_heads") or heads) * (config.get("head_dim") or h // heads)
    batch, room = ANSWERS, length + settings.max_new_tokens
    cache = 2 * batch * room * layers * kv * weight
    passing = 4 * batch * length * config["intermediate_size"] * weight
    return [
        *found,
        Need(
            "answers",
            device=weight * n + cache + passing,
            how=f"weights at {weight} bytes, keys and values of {batch} x {room} tokens",
        ),
    ]


def painted(profile: Profile, s: Sizes) -> int:
    """Pictures that a run paints: each system's, the ablation's, and those of true embeddings."""
    r, no_vae = profile.reconstruction, "no-vae" in profile.alignment.variants
    images = min(s.test, r.images or s.test)
    ablated = min(images, r.ablation_images or images)
    subjects = s.subjects if r.ablation_subjects is None else min(s.subjects, r.ablation_subjects)
    varied = 2 * len(r.betas) + 2  # each beta with and without words, and two sets of silent voxels
    return images * (s.subjects * (3 + no_vae) + 1) + subjects * ablated * varied


def _sampling(profile: Profile, s: Sizes, half: bool) -> Need:
    from neurovl.reconstruction.reconstructor import BATCH

    settings, spec = profile.reconstruction, profile.models.unclip
    parts, config = parameters(spec, "unclip"), configurations(spec, "unclip")["unet"]
    side, base, _ = vae_sizes(profile)
    levels = len(configurations(spec, "unclip")["vae"]["block_out_channels"]) - 1
    latent, halved = side // 2**levels, half and settings.precision != "no"
    # Under autocast each weight has a copy in 16 bits besides.
    weights = F32 * sum(parts.values()) + F16 * halved * (sum(parts.values()) - parts.get("vae", 0))
    unet = BATCH * (1 + (settings.guidance > 1)) * UNET_MAPS
    unet *= config["block_out_channels"][0] * latent**2 * (F16 if halved else F32)
    decoder = DECODER_MAPS * base * pictures_at_once(side) * side**2 * F32
    pictures = painted(profile, s)
    return Need(
        "reconstruct",
        device=weights + max(unet, decoder),
        disk=pictures * PNG * 3 * side**2,
        how=f"unCLIP {sum(parts.values()) / 1e6:,.1f} M parameters, {BATCH} of {pictures:,} pictures of {side} x {side} at a time",
    )
