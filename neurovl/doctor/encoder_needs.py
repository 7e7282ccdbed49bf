"""What training the encoders needs: weights, activations, readouts, and the encoding models that they start from."""

from collections.abc import Iterator

from neurovl.doctor.sizes import ADAMW, F32, Need, Sizes, vae_sizes
from neurovl.encoder.variants import ONE_EACH, Choice, Variant, describe
from neurovl.foundation.model_facts import configurations
from neurovl.settings.sections import EncoderShape, Profile

BASIS = 6  # arrays of all targets while their components are computed
COVARIANCES = 16  # bytes a pair of voxels: two matrices in float64


def trained_encoders(profile: Profile, s: Sizes) -> Iterator[tuple[Variant, int, bool]]:
    """What the profile trains: a variant, how many alike, and whether each is of one subject."""
    alike = {"patches": "main", "per-subject": "main", "per-subject-flat": "flat"}
    for name, count in s.encoders.items():
        variant = describe(alike.get(name, name), profile, Choice(["main"]))
        yield variant, count, name in ONE_EACH


def encoder_need(profile: Profile, s: Sizes) -> Need:
    settings = profile.alignment
    latent = vae_sizes(profile)[2] if s.has_images else 0
    clip = configurations(profile.models.clip, "clip")["clip"]["embed_dim"]
    device = memory = disk = 0.0
    how = ""
    for system, count, one_subject in trained_encoders(profile, s):
        e, values = system.shape, clip + latent * system.use_vae
        common = e.readout_of == "all"
        n = encoder_parameters(e, s.tokens, s.token_size, clip, values - clip)
        subjects = 1 if common or one_subject else s.subjects
        fixed = readout_bytes(e, subjects, s.tokens, s.token_size, values)
        weights = (ADAMW + F32 * (settings.ema > 0)) * n + fixed
        kept = e.layers * e.width * activation_bytes(e.mlp_ratio)
        kept *= settings.batch_size * (s.tokens + 1)
        disk += count * (F32 * n + fixed)
        if weights + kept > device:
            device = weights + kept
            how = f"{n / 1e6:,.1f} M parameters, batch {settings.batch_size} x {s.tokens} tokens"
        if e.readout:
            seen = s.train / s.subjects if one_subject else s.train
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
