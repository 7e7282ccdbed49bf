"""The parser of the captions' grammar: all that is written is derived, and what is not a sentence is not."""

import numpy as np
import pytest

from neurovl.smallworld import scenes
from neurovl.smallworld.scenes.grammar import grammatical, parse

STREAMS = ("foundation", "nsd", "grammar-test")


@pytest.fixture(scope="module")
def written() -> list[str]:
    return [c for s in STREAMS for i in range(80) for c in scenes.captions(scenes.make_scene(s, i))]


def words(tree) -> list[str]:
    return [tree] if isinstance(tree, str) else [w for part in tree[1:] for w in words(part)]


def test_every_caption_is_derived_word_by_word(written):
    for caption in written:
        tree = parse(caption)
        assert tree and " ".join(filter(None, words(tree))).replace(" ,", ",") == caption, caption


def test_captions_with_their_words_shuffled_are_refused(written):
    rng = np.random.default_rng(0)
    mixed = {" ".join(rng.permutation(c.split())) for c in written} - set(written)
    assert len(mixed) > 1000 and [c for c in mixed if grammatical(c)] == []


def test_captions_without_one_of_their_nouns_or_cut_short_are_refused(written):
    halves = {" ".join(c.split()[: len(c.split()) // 2]) for c in written}
    assert np.mean([grammatical(c) for c in halves]) < 0.1  # "a dog on the beach" is whole


def test_case_and_full_stop_do_not_matter():
    assert grammatical("Two brown dogs standing on the beach at night.")


@pytest.mark.parametrize(
    "wrong",
    [
        "two brown dog standing on the beach",  # number
        "a brown dogs standing on the beach",
        "an brown dog standing on the beach",  # article
        "a apple on a table",
        "a pink person in a park",  # people have clothes
        "a large large apple on a table",
        "a dog driving on the beach",  # no verb of dogs
        "a dog are standing on the beach",
        "there are a dog on the beach",
        "a red car on the beach the",
        "a car driving on the beach down",
        "a man in a red dog on the beach",
        "the dog on the beach is gray gray",
        "a pair of dogs on a table",
        "a dog and on the beach",
        "yes",
        "",
        ".",
    ],
)
def test_what_is_not_well_formed_is_refused(wrong):
    assert parse(wrong) is None
