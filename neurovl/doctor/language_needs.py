"""What training and asking a language model needs: its weights, what it keeps of dialogues, keys and values of answers."""

from neurovl.doctor.sizes import ADAMW, F16, F32, Need, Sizes, vae_sizes
from neurovl.encoder.variants import Choice, describe
from neurovl.errors import MissingError
from neurovl.foundation.model_facts import configurations, parameters
from neurovl.foundation.source import LARGE
from neurovl.language.answer_batches import TEXT, cached_bytes, rows_together
from neurovl.language.llm_variants import LanguageVariant
from neurovl.language.prediction_tokens import SIDE
from neurovl.settings.sections import Profile
from neurovl.training.loop import parts_of

FOUR_BIT = 0.516  # bytes a weight: nf4, and its scales, which are quantized themselves
ROWS_TOGETHER = 8  # dialogues that are computed at the same time, of the code


def language_needs(
    profile: Profile, s: Sizes, half: bool, variant: LanguageVariant, processes: int = 1
) -> list[Need]:
    """What stages 1 and 2 and the answers of a language model take, of the device of one of `processes`."""
    spec, settings = profile.models.spec(variant.model), profile.language
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
    tokens, width = tokens_read(profile, s, variant)
    projector = ADAMW * (width * h + h * h + 2 * h)
    length = tokens + TEXT
    held = _held_bytes(profile, config, n) if adapted else weight * n
    found = []
    parts = zip(settings.batch_size, settings.accumulate, strict=True)
    batches = (whole // parts_of(count, processes) for whole, count in parts)
    for stage, batch in enumerate(batches, 1):
        full = stage == 2 and not adapted
        a_layer = batch * length * llm_bytes(config, full, half)
        kept = a_layer * layers
        if profile.compute.checkpointing:
            # What goes into a layer, and one layer of dialogues that are padded together.
            kept = batch * length * layers * h * (F16 if half else F32)
            kept += a_layer * min(1, ROWS_TOGETHER / batch)
        logits = batch * length * vocabulary * (12 if half else 16)
        # Under autocast each weight has a copy in 16 bits besides.
        states, loading, words = held, 0.0, "weights"
        if full:
            states = (ADAMW + F16 * half) * n
            words = "weights, gradients and two moments in float32"
            if processes > 1:
                words += f", divided among {processes}"
                states = ADAMW * n / processes + _gathered(config, half)
                # Each loads all weights before they are divided, and has them all again at the end.
                loading = F32 * n * (1 + 1 / processes)
        elif stage == 2:
            states += ADAMW * adapter_parameters(config, profile.lora.rank)
            words = f"weights as {profile.lora.base}, adapters of rank {profile.lora.rank}"
        found.append(
            Need(
                of_variant(f"train llm {stage}", variant),
                device=projector + max(loading, states + kept + logits),
                memory=F32 * n if stage == 2 and adapted else 0,
                disk=F32 * n + F16 * s.train * tokens * width if stage == 2 else 0,
                how=f"{n / 1e9:,.2f} G parameters: {words}; batch {batch} x {length} tokens",
            )
        )
    room = length + settings.max_new_tokens
    batch = rows_together(config, room, weight)
    cache = batch * room * cached_bytes(config, weight)
    passing = 4 * batch * length * config["intermediate_size"] * weight
    words = f"weights at {weight} bytes"
    if adapted and profile.lora.base == "4bit":  # adapters stay beside the weights
        spoken, words = (
            held + F32 * adapter_parameters(config, profile.lora.rank),
            "weights as 4bit",
        )
    else:
        spoken = weight * n
    return [
        *found,
        Need(
            of_variant("answers", variant),
            device=spoken + cache + passing,
            how=f"{words}, keys and values of {batch} x {room} tokens",
        ),
    ]


def tokens_read(profile: Profile, s: Sizes, variant: LanguageVariant) -> tuple[int, int]:
    """How many tokens stand for a brain, or for a true picture, and their width."""
    if variant.encoder:
        encoder = describe(variant.encoder, profile, Choice(["main"])).shape
        width = encoder.width + encoder.readout
        if (variant.reads or profile.language.reads) == "hidden":
            return s.tokens + 1, width
        clip = configurations(profile.models.clip, "clip")["clip"]["embed_dim"]
        places = SIDE**2
        return 2 + places, width + clip + vae_sizes(profile)[2] // places + 1 + places
    tower = configurations(profile.models.clip, "clip")["clip"]["vision_cfg"]
    return (tower["image_size"] // tower["patch_size"]) ** 2, tower["width"]


def _gathered(config: dict, half: bool) -> float:
    """Bytes of whole weights and their gradients in float32 while they are computed: both tables, and two layers."""
    h, vocabulary = config["hidden_size"], config["vocab_size"]
    layer = sum(a * b for a, b in _matrices(config))
    tables = 1 if config.get("tie_word_embeddings") else 2
    return ((F16 if half else F32) + F32) * (tables * vocabulary * h + 2 * layer)


def of_variant(stage: str, variant: LanguageVariant) -> str:
    """A stage's name for one of several language models."""
    return stage if variant.name == "main" else f"{stage}, {variant.name}"


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
