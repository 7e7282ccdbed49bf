"""The encoders that are compared with one another, each by what it changes (paper section 4.4)."""

from dataclasses import dataclass, replace

from .config import Alignment, EncoderShape, Profile


@dataclass(frozen=True)
class System:
    """One encoder to train: what it reads, from whom, and how.

    Attributes
    ----------
    name : str
        Its folder below RUN/encoders.
    layout : str
        Layout of the tokens.
    subjects : list of str, or None
        None: all subjects.
    """

    name: str
    layout: str
    shape: EncoderShape
    settings: Alignment
    subjects: list[str] | None = None
    use_vae: bool = True


def expand(names, store) -> list[str]:
    """Systems by name; 'per-subject' stands for one a subject, 'patches' for one for each further patch size."""
    several = {
        "per-subject": [f"per-subject-{subject}" for subject in store.subjects],
        "patches": list(store.plans)[1:],
    }
    return [one for name in names for one in several.get(name, [name])]


def describe(name: str, profile: Profile, store) -> System:
    """The system of a name.

    'main' is as the profile says. 'common' has no parameters of a subject. 'plain' is the paper's ViT3D: one linear map
    for all patches and subjects, measured trials alone; 'flat' is the same on voxels in one row, cut in as many tokens.
    'no-vae' has no VAE head; 'per-subject-subj01' saw one subject; 'p4' reads patches of another size.
    """
    main = System(name, store.layouts[0], profile.encoder, profile.alignment)
    plain = replace(
        main,
        shape=replace(profile.encoder, evidence=0, embedding="shared"),
        settings=replace(profile.alignment, synthetic=0.0),
    )
    if name == "common":
        return replace(main, shape=replace(profile.encoder, evidence_of="all"))
    if name == "plain":
        return plain
    if name == "flat":
        return replace(plain, layout="flat")
    if name == "no-vae":
        return replace(main, use_vae=False)
    if name.startswith("per-subject-"):
        return replace(main, subjects=[name.removeprefix("per-subject-")])
    return replace(main, layout=name) if name in store.plans else main
