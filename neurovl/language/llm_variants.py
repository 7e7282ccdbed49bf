"""The language models that are compared with one another: each reads one encoder (paper tables 1 and 7), or true pictures."""

from dataclasses import dataclass

from neurovl.training.validation import HELD_OUT


@dataclass(frozen=True)
class LanguageVariant:
    """One language model to train.

    Attributes
    ----------
    name : str
        As in `language.variants` of a profile.
    system : str
        What results.csv calls what it says.
    stage : str
        Its folder below the run's.
    encoder : str
        The encoder that it reads; '' for one that reads CLIP's patch tokens of the true pictures.
    model : str
        Which model of the profile it starts from, see `Models.spec`.
    reads : str
        What it reads of the encoder, as `language.reads`, which it overrules.
    tune : bool
        Whether the tune pictures are among those that it learns from.
    """

    name: str
    system: str
    stage: str
    encoder: str = "main"
    model: str = "llm"
    reads: str = ""
    tune: bool = True

    @property
    def asked(self) -> bool:
        """Whether it is a system, which is asked about test pictures."""
        return self.tune


def language_variant(name: str) -> LanguageVariant:
    """The variant of a name: 'main', 'flat' (without ViT3D), 'hidden-states' (all of them, the paper's recipe), 'pictures' (true ones, the upper bound), 'held-out', or a name of `models.llms`.

    Examples
    --------
    >>> from neurovl.language.llm_variants import language_variant
    >>> language_variant("flat").encoder, language_variant("vicuna-13b").model
    ('flat', 'llms/vicuna-13b')
    """
    if name == "main":
        return LanguageVariant(name, "neurovl", "llm")
    if name == "flat":
        return LanguageVariant(name, name, f"llms/{name}", encoder="flat")
    if name == "hidden-states":
        return LanguageVariant(name, name, f"llms/{name}", reads="hidden")
    if name == "pictures":
        return LanguageVariant(name, "true-picture", f"llms/{name}", encoder="")
    if name == HELD_OUT:
        return LanguageVariant(name, name, f"llms/{name}", encoder=HELD_OUT, tune=False)
    return LanguageVariant(name, name, f"llms/{name}", model=f"llms/{name}")
