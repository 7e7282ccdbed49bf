"""What each stage needs: memory of the device, memory of the machine and disk, computed from the profile's shapes.

Parameters times bytes is exact. Activations are counted by short formulas, whose constants were read off the real networks
on torch's meta device (tests/test_doctor.py reads them again): bytes kept a token and layer, maps kept a pixel.
"""

from neurovl.doctor.encoder_needs import encoder_need
from neurovl.doctor.language_needs import language_needs
from neurovl.doctor.sizes import F16, F32, Need, Sizes, vae_sizes
from neurovl.errors import MissingError
from neurovl.evaluation.painting import painters
from neurovl.foundation.annotators import TOGETHER
from neurovl.foundation.model_facts import configurations, parameters
from neurovl.foundation.source import LARGE, alternatives
from neurovl.foundation.vae import pictures_at_once
from neurovl.language.llm_variants import language_variant
from neurovl.settings.sections import Profile

ENCODER_MAPS, DECODER_MAPS = 5.1, 6.1  # of a VAE: first-level maps at full size, float32
CAPTIONS = 0.44e9  # bytes of 8 captions in BLIP-2 (OPT 2.7B) as they are drawn, float32: more than DETR's maps
UNET_MAPS = 27  # first-level maps at the latent's size
PNG = 0.6  # of a picture's bytes, about


def needs(profile: Profile, sizes: Sizes, half: bool, jobs: int, processes: int = 1) -> list[Need]:
    """Every stage's needs, in the order of a run.

    Parameters
    ----------
    half : bool
        Whether the device computes in bf16, so that large language models are loaded in 16 bits.
    jobs : int
        Sessions that are preprocessed at the same time.
    processes : int
        That train a language model together, each on a device of its own.

    Raises
    ------
    MissingError
        Nothing is known of a model of the profile.
    """
    found = [_preprocess(sizes, jobs)]
    found.append(_targets(profile, sizes))
    found.append(encoder_need(profile, sizes))
    if sizes.has_images:
        found += _annotators(profile, half)
        for variant in profile.language.variants:
            found += language_needs(profile, sizes, half, language_variant(variant), processes)
        found.append(sampling(profile, sizes, half))
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


def painted(profile: Profile, s: Sizes) -> int:
    """Pictures that a run paints: each system's, the ablation's, and those of true embeddings."""
    r = profile.reconstruction
    images = min(s.test, r.images or s.test)
    ablated = min(images, r.ablation_images or images)
    subjects = s.subjects if r.ablation_subjects is None else min(s.subjects, r.ablation_subjects)
    varied = 2 * len(r.betas) + 2  # each beta with and without words, and two sets of silent voxels
    # Each system from averages, the main one also from single trials, and the true embeddings.
    return images * (s.subjects * (len(painters(profile)) + 1) + 1) + subjects * ablated * varied


def sampling(profile: Profile, s: Sizes, half: bool) -> Need:
    """Of painting a run's pictures."""
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
