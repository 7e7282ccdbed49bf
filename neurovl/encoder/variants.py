"""The encoders that are compared with one another, each by what it changes (paper section 4.4)."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Protocol

from neurovl.errors import ConfigError
from neurovl.settings.sections import Alignment, EncoderShape, Profile
from neurovl.training.validation import HELD_OUT

ONE_EACH = ("per-subject", "per-subject-flat")  # of a subject each


@dataclass(frozen=True)
class Variant:
    """One encoder to train: what it reads, from whom, and how.

    Attributes
    ----------
    name : str
        Its folder below RUN/encoders.
    layout : str
        Layout of the tokens.
    subjects : list of str, or None
        None: all subjects.
    tune : bool
        Whether the tune pictures are among those that it learns from.

    Raises
    ------
    ConfigError
        Settings that no encoder can have.
    """

    name: str
    layout: str
    shape: EncoderShape
    settings: Alignment
    subjects: list[str] | None = None
    use_vae: bool = True
    tune: bool = True

    def __post_init__(self) -> None:
        share, e = self.settings.synthetic, self.shape
        if e.readout_of not in ("subject", "all"):
            raise ConfigError(
                f"encoder.readout_of is {e.readout_of!r}, expected 'subject' or 'all'; correct it in the profile"
            )
        if not 0 <= share <= 1 or e.readout < 0:
            raise ConfigError(
                f"alignment.synthetic is {share} and encoder.readout {e.readout}, expected a share from 0 to 1 and a number "
                "of components; correct it in the profile"
            )
        if share and not e.readout:
            raise ConfigError(
                f"alignment.synthetic is {share} and encoder.readout 0, expected a readout, whose encoding models the "
                "responses are drawn from; set encoder.readout, to 128 for example, or alignment.synthetic to 0"
            )


class Layouts(Protocol):
    """What is chosen among: subjects, layouts of tokens (the main one first), and those cut in patches."""

    subjects: list[str]
    layouts: list[str]
    plans: Iterable[str]


@dataclass(frozen=True)
class Choice:
    """Layouts without a token store, for those who only count."""

    layouts: list[str]
    plans: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()


def expand(names: Iterable[str], store: Layouts) -> list[str]:
    """Variants by name; those of `ONE_EACH` stand for one a subject, 'patches' for one for each further patch size."""
    several = {
        **{one: [f"{one}-{subject}" for subject in store.subjects] for one in ONE_EACH},
        "patches": list(store.plans)[1:],
    }
    return [one for name in names for one in several.get(name, [name])]


def system_name(variant: str) -> str:
    """What results.csv calls a variant: one system, whose encoders may be several, one a subject.

    Examples
    --------
    >>> from neurovl.encoder.variants import system_name
    >>> [system_name(name) for name in ("main", "per-subject-flat-subj01", "p4")]
    ['neurovl', 'per-subject-flat', 'p4']
    """
    own = (one for one in reversed(ONE_EACH) if variant.startswith(f"{one}-"))
    return "neurovl" if variant == "main" else next(own, variant)


def encoder_for(system: str, subject: str) -> str:
    """The encoder of a system that reads a subject: the other way round than `system_name`.

    Examples
    --------
    >>> from neurovl.encoder.variants import encoder_for
    >>> encoder_for("neurovl", "subj01"), encoder_for("per-subject", "subj01")
    ('main', 'per-subject-subj01')
    """
    if system in ONE_EACH:
        return f"{system}-{subject}"
    return "main" if system == "neurovl" else system


def describe(name: str, profile: Profile, store: Layouts) -> Variant:
    """The variant of a name.

    'main' is as the profile says. 'common' has no parameters of a subject. 'plain' is the paper's ViT3D: one linear map
    for all patches and subjects, measured trials alone; 'flat' is the same on voxels in one row, cut in as many tokens.
    'held-out' never saw the tune pictures. 'no-vae' has no VAE head; 'per-subject-subj01' saw one subject, 'per-subject-flat-subj01' its flat voxels; 'p4' reads
    patches of another size.

    Raises
    ------
    ConfigError
        There is no such variant.
    """
    main = Variant(name, store.layouts[0], profile.encoder, profile.alignment)
    plain = replace(
        main,
        shape=replace(profile.encoder, readout=0),
        settings=replace(profile.alignment, synthetic=0.0, token_dropout=0.0),
    )
    if name == "common":
        return replace(main, shape=replace(profile.encoder, readout_of="all"))
    if name == "plain":
        return plain
    if name == "flat":
        return replace(plain, layout="flat")
    if name == HELD_OUT:
        return replace(main, tune=False)
    if name == "no-vae":
        return replace(main, use_vae=False)
    for one, of_one in zip(ONE_EACH, (main, replace(plain, layout="flat")), strict=True):
        subject = name.removeprefix(f"{one}-")
        if subject != name and subject in store.subjects:
            return replace(of_one, subjects=[subject])
    if name in store.plans:
        return replace(main, layout=name)
    if name != "main":
        raise ConfigError(
            f"no variant {name!r}, expected main, common, plain, flat, no-vae, per-subject, per-subject-flat, patches, or "
            f"one of these subjects and patch sizes: {', '.join([*store.subjects, *store.plans])}; correct alignment.variants of the profile"
        )
    return main
