"""A trial without values through the whole system: real code and real configurations on torch's meta device, no weights.

Every stage takes what the stage before gave, so a width or a shape that does not fit is found in seconds and named.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from neurovl.doctor.trial import Trial
from neurovl.language.llm_variants import language_variant
from neurovl.settings.sections import Profile

if TYPE_CHECKING:
    import torch
    from diffusers import StableUnCLIPImg2ImgPipeline

    from neurovl.encoder.vit3d import BrainEmbedding
    from neurovl.foundation.clip import Clip
    from neurovl.recordings.base import Recordings

QUESTION, ANSWER = "What is in the picture?", "A dog sits on a beach."
STEPS = 1  # of sampling; its shapes do not depend on their number


def pass_shapes(profile: Profile, recordings: "Recordings | None" = None) -> Trial:
    """Build the system of a profile without weights and push one trial through it.

    Parameters
    ----------
    profile : Profile
    recordings : Recordings, optional
        Their masks decide how many tokens there are; else those of `heads.masks_for`.

    Returns
    -------
    Trial
        The table, and the faults: none where everything fits.
    """
    import torch

    from neurovl.foundation import skeleton

    trial, models = Trial(), profile.models
    tokens = clip = pipeline = targets = z = None
    with torch.no_grad(), skeleton.ShapesOnly():
        with trial.stage("preprocess", "preprocessing.patches and preprocessing.target"):
            tokens = _preprocess(trial, profile, recordings)
        with trial.stage("targets", "models.clip"):
            clip = skeleton.clip_skeleton(models.clip)
        pictures = recordings is None or recordings.has_images
        if pictures:
            with trial.stage("targets", "models.unclip"):
                pipeline = skeleton.unclip_skeleton(models.unclip)
        if tokens is None or clip is None or (pictures and pipeline is None):
            return trial
        with trial.stage("targets", "models.clip, models.unclip and models.image_size"):
            targets = _embed(trial, models.image_size, clip, pipeline)
        if targets is None:
            return trial
        with trial.stage("encoder", "the section encoder"):
            z = _encode(trial, profile, tokens, *targets)
        if z is None or not pictures:
            return trial
        with trial.stage("language", "models.llm"):
            speakers = map(language_variant, profile.language.variants)
            for model in dict.fromkeys(speaker.model for speaker in speakers):
                _speak(trial, profile, model, z)
        with trial.stage("reconstruct", "models.clip, models.unclip and models.image_size"):
            _draw(trial, profile, z, clip, pipeline)
    return trial


def _preprocess(trial: Trial, profile: Profile, recordings: "Recordings") -> dict:
    """Tokens of a volume of zeros by layout, made by the patch plans; 'flat' as the token store cuts it."""
    import numpy as np
    import torch

    from neurovl.doctor.heads import masks_for, plans_for, union_region

    masks, edges, source = masks_for(profile, recordings)
    plans = plans_for(profile, masks, edges)
    last = list(masks)[-1]
    trial.add("preprocess", f"volume of {last} ({source})", masks[last].shape)
    found = {}
    for name, plan in plans.items():
        made = plan.tokens(np.zeros((1, *masks[last].shape), np.float32), n_jobs=1)
        n = int(np.prod(plan.candidates))
        trial.add("preprocess", f"tokens {name}, {plan.n_tokens} of {n} patches kept", made)
        found[name] = torch.from_numpy(made).to("meta")
    if "flat" in profile.alignment.variants:
        n, region = next(iter(plans.values())).n_tokens, union_region(plans)
        found["flat"] = torch.empty(1, n, -(-len(region) // n), device="meta")
        trial.add("preprocess", "tokens flat", found["flat"])
    return found


def _embed(
    trial: Trial, size: int | None, clip: "Clip", pipeline: "StableUnCLIPImg2ImgPipeline | None"
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor | None] | None":
    """Targets of a picture and of a word: text embedding, CLIP target, VAE target; None where the sizes do not fit."""
    from PIL import Image

    from neurovl.foundation.skeleton import codec_skeleton, count

    text = clip.embed_texts(["dog"])
    trial.add("targets", "CLIP text embedding of a concept", text, count(clip.model))
    if pipeline is None:
        return text, text, None
    factor = pipeline.vae_scale_factor
    if size is not None and not trial.check(
        "targets",
        size % factor == 0,
        f"pictures have {size} pixels (models.image_size), the VAE makes one latent of {factor} pixels",
        f"set models.image_size to a multiple of {factor}, such as {max(1, round(size / factor)) * factor}",
    ):
        return None
    codec, picture = codec_skeleton(pipeline, size), [Image.new("RGB", (425, 425))]
    image, latent = clip.embed_images(picture), codec.encode(picture)
    trial.add("targets", "CLIP image embedding", image)
    trial.add(
        "targets", f"VAE latent of {codec.size} x {codec.size} pixels", latent, count(codec.vae)
    )
    fits = trial.check(
        "targets",
        tuple(latent.shape[1:]) == codec.shape,
        f"the VAE's latent is {tuple(latent.shape[1:])}, its configuration says {codec.shape}",
        "name another model with models.unclip",
    )
    return (text, image, latent) if fits else None


def _encode(
    trial: Trial,
    profile: Profile,
    tokens: dict,
    text: "torch.Tensor",
    image: "torch.Tensor",
    latent: "torch.Tensor | None",
) -> "BrainEmbedding | None":
    """Every encoder of the profile, the loss and a concept's heat; returns what the main encoder reads.

    The linear readout is that of one subject, as what it holds of the others does not change a shape.
    """
    import torch

    from neurovl.encoder.alignment import alignment_loss
    from neurovl.encoder.variants import ONE_EACH, Choice, describe
    from neurovl.encoder.vit3d import BrainEncoder
    from neurovl.foundation.skeleton import count
    from neurovl.localization.encoder_maps import gradcam

    shape, main = profile.encoder, None
    if not trial.check(
        "encoder",
        shape.width % shape.heads == 0,
        f"its width {shape.width} (encoder.width) is not a multiple of its {shape.heads} heads (encoder.heads)",
        "change encoder.width or encoder.heads of the profile",
    ):
        return None
    vae_shape = None if latent is None else tuple(latent.shape[1:])
    plans = [layout for layout in tokens if layout != "flat"]
    store = Choice(plans, tuple(plans))
    names = ["main", *list(tokens)[1:]]
    others = (*names, "patches", *ONE_EACH)
    names += [n for n in profile.alignment.variants if n not in others]
    for system in [describe(name, profile, store) for name in names]:
        if system.name in ("common", "no-vae"):  # no other shapes than the main encoder's
            continue
        layout, x = system.layout, tokens[system.layout]
        with torch.device("meta"):
            encoder = BrainEncoder(
                *x.shape[1:], image.shape[1], vae_shape, layout, **system.shape.network()
            )
        z, title = encoder(x), f"{layout}{' plain' * (system.name == 'plain')}"
        trial.add("encoder", f"ViT3D {title}, penultimate layer", z.hidden, count(encoder))
        if encoder.readout is not None:
            trial.add("encoder", f"readout {title}", encoder.readout.weight[0])
        if layout in plans:
            trial.add("locate", f"heat of a concept, {title}", gradcam(encoder, x, text[0]))
        if main is None:
            main = z
            trial.add("encoder", "CLIP head", z.clip)
            if z.vae is not None:
                trial.add("encoder", "VAE head", z.vae)
            loss = alignment_loss(z, image, latent, profile.alignment)["loss"]
            trial.add("encoder", "loss", loss)
    return main


def _speak(trial: Trial, profile: Profile, part: str, z: "BrainEmbedding") -> None:
    """Projector, splice into the embeddings of a prompt, and the language model's logits."""
    import torch

    from neurovl.foundation.skeleton import count, llm_skeleton
    from neurovl.language import BrainLLM, PredictionTokens, Projector
    from neurovl.language.dialogues import Dialogue, collate, encode_dialogue

    llm, tokenizer = llm_skeleton(profile.models.spec(part))
    of = "" if part == "llm" else f", {part.partition('/')[2]}"
    reading = PredictionTokens.fit(z) if profile.language.reads == "predictions" else None
    hidden = z.hidden if reading is None else reading(z)
    with torch.device("meta"):
        projector = Projector(hidden.shape[-1], llm.get_input_embeddings().embedding_dim)
    model = BrainLLM(llm, tokenizer, projector, reading)
    trial.add("language", f"projected brain tokens{of}", projector(hidden), count(projector))
    n_brain, wanted = hidden.shape[1], profile.language.max_new_tokens
    dialogue = Dialogue("brief", None, ((QUESTION, ANSWER),))
    batch = collate([encode_dialogue(tokenizer, dialogue, n_brain)], tokenizer.pad_token_id)
    embeds = model.embed(batch["input_ids"], hidden)
    trial.add("language", f"prompt with {n_brain} brain tokens spliced in{of}", embeds)
    logits = llm(
        inputs_embeds=embeds, attention_mask=batch["attention_mask"].to("meta"), use_cache=False
    ).logits
    trial.add("language", f"logits{of}", logits, count(llm))
    room, n = getattr(llm.config, "max_position_embeddings", None), embeds.shape[1]
    trial.check(
        "language",
        room is None or n + wanted <= room,
        f"a prompt of {n} tokens, {n_brain} of them from the brain, and {wanted} new ones (language.max_new_tokens) are "
        f"{n + wanted}, the language model has {room} positions",
        "lower language.max_new_tokens, take larger patches (preprocessing.patches), or another models.llm",
    )


def _draw(
    trial: Trial,
    profile: Profile,
    z: "BrainEmbedding",
    clip: "Clip",
    pipeline: "StableUnCLIPImg2ImgPipeline",
) -> None:
    """The start latent and the conditions, the UNet, the decoded picture, and the networks that score it."""
    from neurovl.foundation.skeleton import count
    from neurovl.reconstruction.reconstructor import Reconstructor

    settings, models = profile.reconstruction, profile.models
    draw = Reconstructor(
        pipeline, STEPS, settings.guidance, settings.noise_level, 1.0, models.image_size
    )
    unet, width = pipeline.unet.config, pipeline.image_normalizer.config.embedding_dim
    expected = unet.projection_class_embeddings_input_dim
    context, text = unet.cross_attention_dim, pipeline.text_encoder.config.hidden_size
    fits = [
        trial.check(
            "reconstruct",
            clip.width == width,
            f"the CLIP embedding has {clip.width} values (models.clip), the unCLIP's image normalizer expects {width}",
            f"set models.clip to a CLIP of width {width}, or models.unclip to one that was trained for {clip.width}",
        ),
        trial.check(
            "reconstruct",
            expected == 2 * width,
            f"the noised embedding with its level has {2 * width} values, the UNet's class embedding expects {expected}",
            "name another model with models.unclip",
        ),
        trial.check(
            "reconstruct",
            context == text,
            f"the text encoder gives {text} values a token, the UNet's cross-attention expects {context}",
            "name another model with models.unclip",
        ),
        trial.check(
            "reconstruct",
            z.vae.shape[1:] == draw.latent_shape,
            f"the encoder predicts a VAE latent of {tuple(z.vae.shape[1:])}, the UNet starts from {draw.latent_shape}",
            f"set models.image_size to {unet.sample_size * pipeline.vae_scale_factor}, or name another models.unclip",
        ),
    ]
    if not all(fits):
        return
    seen = _Watch(pipeline)
    start = (1, *draw.latent_shape)
    pixels = draw.pixels(z, [ANSWER], settings.beta, [0])
    trial.add("reconstruct", f"start latent, beta {settings.beta:g}", start)
    trial.add("reconstruct", "text condition", seen.text, count(pipeline.text_encoder))
    trial.add("reconstruct", "noised embedding and level", seen.condition)
    branches = ", both guidance branches" if settings.guidance > 1 else ""
    trial.add("reconstruct", f"UNet{branches}", seen.latent, count(pipeline.unet))
    trial.add("reconstruct", "picture", pixels)
    side = models.image_size or pipeline.vae.config.sample_size
    trial.check(
        "reconstruct",
        tuple(pixels.shape[2:]) == (side, side),
        f"pictures come out as {tuple(pixels.shape[2:])} pixels, expected {side} (models.image_size)",
        "change models.image_size",
    )
    with trial.stage("score", "models.metric"):
        _score(trial, models.metric)


class _Watch:
    """Shapes of what reaches the UNet in a call of the pipeline."""

    def __init__(self, pipeline: "StableUnCLIPImg2ImgPipeline") -> None:
        self.latent = self.text = self.condition = ()
        pipeline.unet.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module: "torch.nn.Module", args: tuple, kwargs: dict) -> None:
        self.latent = tuple(args[0].shape)
        self.text = tuple(kwargs["encoder_hidden_states"].shape)
        self.condition = tuple(kwargs["class_labels"].shape)


def _score(trial: Trial, spec: str | Sequence[str]) -> None:
    """The pictures' features by every metric network."""
    from PIL import Image

    from neurovl.foundation.skeleton import metric_skeletons

    side = trial.rows[-1].shape[-1]
    for name, n_parameters, network in metric_skeletons(spec):
        for feature, values in network.features([Image.new("RGB", (side, side))]).items():
            trial.add("score", f"{name}: {feature}", values, n_parameters)
            n_parameters = None
