"""How much each stage computes, and what it reads of its weights where it speaks one word after the other.

Operations are multiplications and additions of matrices: a product of (n, k) with (k, m) counts 2 n k m, forward and
backward three times forward. Those of convolutional networks are counted on torch's meta device, without weights; those of
transformers by formulas (tests/test_plan.py counts them again on the real classes). Left out: reading files, captions' own
metrics, the book.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from neurovl.doctor.encoder_needs import trained_encoders
from neurovl.doctor.language_needs import of_variant, tokens_read
from neurovl.doctor.needs import painted
from neurovl.doctor.sizes import F16, Sizes, vae_sizes
from neurovl.foundation.annotators import TOGETHER
from neurovl.foundation.model_facts import configurations, parameters
from neurovl.language.answer_batches import TEXT, rows_together
from neurovl.language.llm_variants import language_variant
from neurovl.settings.sections import EncoderShape, Profile

CAPTIONS, CAPTION = 8, 16  # that are drawn of a picture, and their tokens, about
DIALOGUES_TAUGHT = 9  # about a picture, about
DIALOGUES = 5  # asked about a picture by each system, about
ANSWER = 32  # tokens of an answer, about; the longest is a setting
# That the main model answers: for itself, shuffled and absent brains, and brief captions from single trials.
SYSTEMS = 3.2


@dataclass(frozen=True)
class Work:
    """What a stage computes.

    Attributes
    ----------
    stage : str
    operations : float
    read : float
        Bytes of weights that are read for one token after the other.
    volumes : float
        Volumes that are resized, on the machine's cores.
    shared : bool
        Whether the processes of `accelerate launch` share it.
    """

    stage: str
    operations: float = 0.0
    read: float = 0.0
    volumes: float = 0.0
    shared: bool = False


def work(profile: Profile, sizes: Sizes) -> list[Work]:
    """Every stage's work, by the names of `needs.needs`."""
    found = [Work("preprocess", volumes=sizes.trials), encoder_work(profile, sizes)]
    if not sizes.has_images:
        return found
    unclip = unclip_operations(profile)
    seen = clip_operations(profile) + unclip["encoder"]
    found.insert(1, Work("targets", sizes.pictures * seen))
    if profile.models.captioner is not None and profile.models.detector is not None:
        found.append(_annotations(profile, sizes))
    pictures = painted(profile, sizes) * picture_operations(profile, unclip)
    return [
        *found,
        *(one for v in profile.language.variants for one in language_work(profile, sizes, v)),
        Work("reconstruct", pictures, shared=True),
    ]


def encoder_operations(
    e: EncoderShape, tokens: int, token_size: int, clip: int, latent: int
) -> float:
    """Of one trial through a ViT3D with both heads, forward."""
    w, n = e.width, tokens + 1
    embed = 2 * tokens * token_size * (e.readout or w)
    layer = n * (8 * w * w + 4 * w * int(e.mlp_ratio * w)) + 4 * n * n * w
    heads = 4 * w * e.head_hidden + 2 * e.head_hidden * (clip + latent)
    return embed + e.layers * layer + heads


def llm_operations(config: dict, n_parameters: int, tokens: int) -> float:
    """Of one row of tokens through a Llama, forward; the table of embeddings is looked up, not multiplied."""
    h, layers = config["hidden_size"], config["num_hidden_layers"]
    tied = config.get("tie_word_embeddings", False)
    table = 0 if tied else config["vocab_size"] * h
    return 2 * tokens * (n_parameters - table) + 4 * tokens**2 * h * layers


def encoder_work(profile: Profile, s: Sizes) -> Work:
    """Of the training of all encoders in `s.encoders`."""
    clip = configurations(profile.models.clip, "clip")["clip"]["embed_dim"]
    latent = vae_sizes(profile)[2] if s.has_images else 0
    whole = 0.0
    for variant, count, one_subject in trained_encoders(profile, s):
        one = encoder_operations(
            variant.shape, s.tokens, s.token_size, clip, latent * variant.use_vae
        )
        # Encoders of one subject each read a subject's trials: all of them together read every trial once.
        times = 1 if one_subject else count
        whole += 3 * one * times * s.train * variant.settings.epochs
    return Work("train encoder", whole, shared=True)


def _counted(module: torch.nn.Module, *args: torch.Tensor, **kwargs: torch.Tensor) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*args, **kwargs)
    return float(counter.get_total_flops())


def clip_operations(profile: Profile) -> float:
    """Of one picture through CLIP's image tower."""
    from neurovl.foundation.skeleton import clip_skeleton

    clip = clip_skeleton(profile.models.clip)
    side = configurations(profile.models.clip, "clip")["clip"]["vision_cfg"]["image_size"]
    return _counted(clip.model.visual, torch.empty(1, 3, side, side, device="meta"))


def unclip_operations(profile: Profile) -> dict[str, float]:
    """Of one picture through the VAE's encoder and decoder, and of one step of the UNet."""
    from neurovl.foundation.skeleton import unclip_skeleton

    pipeline = unclip_skeleton(profile.models.unclip)
    vae, unet = pipeline.vae, pipeline.unet
    side = profile.models.image_size or vae.config.sample_size
    small = side // pipeline.vae_scale_factor
    c, text = unet.config.in_channels, unet.config.cross_attention_dim
    about = unet.config.projection_class_embeddings_input_dim
    with torch.device("meta"):
        picture, latent = torch.empty(1, 3, side, side), torch.empty(1, c, small, small)
        words, labels = torch.empty(1, 77, text), torch.empty(1, about)
        step = torch.tensor(3)
    return {
        "encoder": _counted(vae.encoder, picture),
        "decoder": _counted(vae.decoder, latent),
        "unet": _counted(unet, latent, step, encoder_hidden_states=words, class_labels=labels),
    }


def picture_operations(profile: Profile, unclip: dict[str, float], share: float = 1.0) -> float:
    """Of painting one picture, by the counts of `unclip_operations`; `share` of the steps are done."""
    settings = profile.reconstruction
    steps = int(settings.steps * share + 1e-6) * (1 + (settings.guidance > 1))
    return steps * unclip["unet"] + unclip["decoder"]


def _annotations(profile: Profile, s: Sizes) -> Work:
    """Each token of the captions that are drawn together reads the captioner once."""
    n = parameters(profile.models.captioner, "captioner").get("captioner") or 0
    seen = s.pictures - s.test
    read = seen / TOGETHER * CAPTION * 2.0 * n
    return Work("annotate", seen * CAPTIONS * CAPTION * 2.0 * n, read)


def _epoch(profile: Profile, s: Sizes) -> int:
    """What the language model sees once in an epoch."""
    return s.train * (DIALOGUES_TAUGHT if profile.language.epoch == "pairs" else 1)


def language_work(profile: Profile, s: Sizes, name: str) -> list[Work]:
    """Both stages of a language model's training, and its answers."""
    settings = profile.language
    variant = language_variant(name)
    spec = profile.models.spec(variant.model)
    config = configurations(spec, "llm")["llm"]
    n = parameters(spec, "llm").get("llm") or 0
    tokens = tokens_read(profile, s, variant)[0]
    forward = llm_operations(config, n, tokens + TEXT)
    again = profile.compute.checkpointing
    found = []
    for stage, (steps, batch) in enumerate(
        zip(settings.steps_for(_epoch(profile, s)), settings.batch_size, strict=True), 1
    ):
        # Weights that stay have no gradient of their own, but what lies before them has.
        passes = 2 + again + (stage == 2 and settings.method == "full")
        named = of_variant(f"train llm {stage}", variant)
        found.append(Work(named, steps * batch * passes * forward, shared=True))
    images = min(s.test, profile.evaluation.caption_images or s.test)
    asked = s.subjects * images * DIALOGUES * (SYSTEMS if name == "main" else 1)
    return [*found, spoken(of_variant("answers", variant), profile, spec, asked, tokens)]


def spoken(
    stage: str, profile: Profile, spec: str | Sequence[str], asked: float, tokens: int
) -> Work:
    """Answers of a language model to questions about brains or pictures of so many tokens each."""
    config = configurations(spec, "llm")["llm"]
    n = parameters(spec, "llm").get("llm") or 0
    answer = min(ANSWER, profile.language.max_new_tokens)
    operations = asked * llm_operations(config, n, tokens + TEXT + answer)
    together = rows_together(config, tokens + TEXT + profile.language.max_new_tokens, F16)
    return Work(stage, operations, asked / together * answer * 2.0 * n)
