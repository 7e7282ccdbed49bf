"""What each encoder that is compared changes, and what its name may be."""

from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from neurovl.encoder.variants import Variant, describe, encoder_for, expand, system_name
from neurovl.errors import ConfigError
from neurovl.language.llm_variants import language_variant
from neurovl.settings.profile_files import profile_from_dict
from neurovl.settings.sections import Alignment, EncoderShape, Profile

STORE = SimpleNamespace(
    layouts=["p5", "p4", "p3", "flat"], plans={"p5": 0, "p4": 0, "p3": 0}, subjects=["s1", "s2"]
)
PROFILE = Profile(
    "mine",
    encoder=EncoderShape(width=32, readout=16),
    alignment=Alignment(synthetic=0.5, ema=0.9, token_dropout=0.1),
)


def test_names_that_stand_for_several():
    names = expand(("main", "patches", "per-subject", "plain", "per-subject-flat"), STORE)
    each = ["per-subject-s1", "per-subject-s2"]
    flat = ["per-subject-flat-s1", "per-subject-flat-s2"]
    assert names == ["main", "p4", "p3", *each, "plain", *flat]
    systems = ["neurovl", "p4", "p3", *["per-subject"] * 2, "plain", *["per-subject-flat"] * 2]
    assert [system_name(name) for name in names] == systems
    own = {encoder_for(system, "s2") for system in systems}
    assert own == {"main", "p4", "p3", each[1], "plain", flat[1]}


PLAIN = {"shape": {"readout": 0}, "settings": {"synthetic": 0.0, "token_dropout": 0.0}}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("main", {}),
        ("common", {"shape": {"readout_of": "all"}}),
        ("plain", PLAIN),
        ("flat", PLAIN | {"layout": "flat"}),
        ("no-vae", {"use_vae": False}),
        ("held-out", {"tune": False}),
        ("p4", {"layout": "p4"}),
        ("per-subject-s2", {"subjects": ["s2"]}),
        ("per-subject-flat-s2", PLAIN | {"layout": "flat", "subjects": ["s2"]}),
    ],
)
def test_a_system_changes_what_it_says_and_nothing_else(name, changes):
    expected = {
        "name": name,
        "layout": "p5",
        "shape": asdict(PROFILE.encoder),
        "settings": asdict(PROFILE.alignment),
        "subjects": None,
        "use_vae": True,
        "tune": True,
    }
    for key, value in changes.items():
        expected[key] = expected[key] | value if isinstance(value, dict) else value
    assert asdict(describe(name, PROFILE, STORE)) == expected


@pytest.mark.parametrize(
    "name", ["mian", "p9", "per-subject-s3", "s1", "per-subject", "per-subject-flat-s3"]
)
def test_an_unknown_system_is_named(name):
    with pytest.raises(ConfigError, match=f"no variant '{name}'.*s1, s2, p5, p4, p3"):
        describe(name, PROFILE, STORE)


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        ({"readout_of": "both"}, {}, "readout_of is 'both', expected 'subject' or 'all'"),
        ({"readout": 0}, {}, "encoder.readout 0, expected a readout"),
        ({"readout": -1}, {}, "encoder.readout -1"),
        ({}, {"synthetic": 1.2}, "alignment.synthetic is 1.2"),
        ({}, {"synthetic": -0.1}, "alignment.synthetic is -0.1"),
    ],
)
def test_settings_that_no_encoder_can_have_are_refused(shape, settings, words):
    e, a = replace(PROFILE.encoder, **shape), replace(PROFILE.alignment, **settings)
    with pytest.raises(ConfigError, match=words):
        Variant("main", "p5", e, a)


def test_without_readout_nothing_need_be_drawn():
    profile = Profile("paper")
    for name in ("main", "common", "plain", "flat", "no-vae", "p3", "per-subject-s1"):
        assert describe(name, profile, STORE).shape.readout == 0


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (
            {"language": {"variants": ["main", "vicuna-13b"]}},
            "'vicuna-13b', expected one of main, flat",
        ),
        ({"language": {"variants": ["flat"]}}, "lacks 'main'"),
        (
            {"language": {"variants": ["main", "flat"]}, "alignment": {"variants": ["main"]}},
            "alignment.variants has not",
        ),
        ({"models": {"llms": {"ridge": "tiny"}}}, "'ridge', which stands for something else"),
        ({"models": {"llms": ["tiny"]}}, "expected names, each with text or a list"),
        ({"models": {"llms": {"mine": 3}}}, "expected names, each with text or a list"),
        ({"reconstruction": {"prompts": ["long"]}}, "expected one of instruction, brief"),
        ({"reconstruction": {"prompts": ["brief"]}}, "lacks 'instruction'"),
    ],
)
def test_language_models_that_cannot_be_trained_or_asked_are_refused(content, words):
    with pytest.raises(ConfigError, match=words):
        profile_from_dict({"name": "mine"} | content)


def test_further_language_models_are_found_by_their_names():
    content = {"models": {"llms": {"mine": ["org/a", "org/b"]}}}
    content |= {"language": {"variants": ["main", "mine", "flat"]}}
    profile = profile_from_dict({"name": "mine"} | content)
    assert profile_from_dict(profile.to_dict()) == profile
    models = [profile.models.spec(language_variant(v).model) for v in profile.language.variants]
    assert models == ["tiny", ("org/a", "org/b"), "tiny"]
    assert profile.models.spec("unclip/vae") == "tiny"
    stages = [language_variant(v).stage for v in profile.language.variants]
    assert stages == ["llm", "llms/mine", "llms/flat"]
