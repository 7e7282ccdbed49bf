"""Conversations with a cache that lasts over the turns, against passes without any cache."""

import json
from functools import wraps

import pytest
import torch
from test_language import QUESTIONS, D, N, brains, make_model
from transformers.cache_utils import DynamicCache

from neurovl.errors import ConfigError, DataError
from neurovl.language import Conversations, Speaking, answer_batches
from neurovl.language.conversations import RoomyLayer
from neurovl.language.dialogues import prompt_ids

LATER = ["And why?", "Where is it, then, in the picture?", "What?"]


def by_full_passes(model, hidden, turns, question, n_tokens, context=""):
    """The greedy answer without any cache: the whole conversation is read again for every token."""
    ids = prompt_ids(model.tokenizer, turns, question, hidden.shape[1], context)
    start = len(ids)
    with torch.no_grad():
        for _ in range(n_tokens):
            embeds = model.embed(torch.tensor([ids]), hidden)
            scores = model.llm(inputs_embeds=embeds, use_cache=False).logits[0, -1]
            scores[model.image_id] = -torch.inf
            ids = [*ids, int(scores.argmax())]
            if ids[-1] in model.end_ids:
                break
    return model.tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def test_turns_side_by_side_equal_full_passes():
    """Three rows, questions of several lengths, three turns; the third row ends early."""
    model, hidden = make_model(), brains(3)
    talks = Conversations(model, hidden, Speaking(7))
    expected = [[] for _ in hidden]
    for questions in (QUESTIONS, LATER, QUESTIONS[::-1]):
        for k, question in enumerate(questions):
            said = by_full_passes(model, hidden[k : k + 1], expected[k], question, 7)
            expected[k].append((question, said))
        assert talks.ask(questions) == [turns[-1][1] for turns in expected]
    assert talks.turns == expected
    assert len({turns[-1][1] for turns in expected}) > 1


def test_rows_that_have_ended_are_read_no_more(monkeypatch):
    """Of four rows those that end early leave the batch, and are all there again for the next question."""
    model, hidden, sizes = make_model(), brains(4), []
    questions = [*QUESTIONS, "Is there a dog?"]
    *_, free = Conversations(model, hidden, Speaking(8))._speak(questions)
    early = [{t for t in ids[:3]} for ids in free]
    (end, *_) = [t for t in set().union(*early) if 2 <= sum(t in ids for ids in free) < 4]
    model.end_ids = [*model.end_ids, end]
    expected = [[] for _ in hidden]
    talks, original = Conversations(model, hidden, Speaking(8)), model.llm.forward

    @wraps(original)
    def watched(inputs_embeds=None, **more):
        sizes.append(len(inputs_embeds))
        return original(inputs_embeds=inputs_embeds, **more)

    for asked in (questions, questions[::-1]):
        for k, question in enumerate(asked):
            said = by_full_passes(model, hidden[k : k + 1], expected[k], question, 8)
            expected[k].append((question, said))
        with monkeypatch.context() as patch:
            patch.setattr(model.llm, "forward", watched)
            assert talks.ask(asked) == [turns[-1][1] for turns in expected]
    assert sizes[0] == 4 and min(sizes) < 4
    assert 4 in sizes[sizes.index(min(sizes)) :]  # the second question is read to all


def test_a_brain_is_read_once_for_many_questions():
    model, hidden = make_model(), brains(2)
    begun = Conversations(model, hidden, Speaking(6))
    rows = [1, 0, 1]
    assert begun.take(rows).ask(QUESTIONS) == model.generate(hidden[rows], QUESTIONS, None, 6)
    # What the copies said is not in the rows that they were taken from.
    assert begun.turns == [[], []]
    assert begun.ask(QUESTIONS[:2]) == model.generate(hidden, QUESTIONS[:2], None, 6)


def test_a_later_turn_reads_its_own_tokens_alone(monkeypatch):
    model, read = make_model(), []
    original = model.llm.forward

    @wraps(original)
    def watched(inputs_embeds=None, **more):
        read.append(inputs_embeds.shape[1])
        assert more["logits_to_keep"] == 1  # no scores of the prompt's places
        return original(inputs_embeds=inputs_embeds, **more)

    monkeypatch.setattr(model.llm, "forward", watched)
    chat = model.chat(brains(1), Speaking(3))
    chat.ask("What is in the picture?")
    first, chat_turn = sum(read), len(read)
    chat.ask("What?")
    whole = prompt_ids(model.tokenizer, chat.turns[:1], "What?", N + 1)
    assert first >= N + 1 and sum(read[chat_turn:]) < len(whole) - N


def test_an_answer_that_is_spelled_in_other_tokens_is_forgotten():
    """The cache holds an answer as it was said; the prompt of the next turn spells its text in other tokens."""
    model, hidden = make_model(), brains(1)
    talks = Conversations(model, hidden, Speaking(4))
    talks.ask(["What?"])
    talks.turns[0][0] = ("What?", "Is it a picture of a dog?")
    expected = by_full_passes(model, hidden, talks.turns[0], "Why?", 4)
    assert talks.ask(["Why?"]) == [expected]


def test_earlier_turns_may_be_given():
    model, hidden = make_model(), brains(2)
    turns = [[("What?", "a dog")], [("Is it?", "no"), ("Why?", "it is a cat")]]
    expected = [by_full_passes(model, hidden[k : k + 1], turns[k], "Where?", 5) for k in range(2)]
    assert Conversations(model, hidden, Speaking(5), turns).ask(["Where?"] * 2) == expected


def test_a_system_prompt_stands_before_the_first_question():
    model, hidden = make_model(), brains(1)
    talks = Conversations(model, hidden, Speaking(6, system="Is it a dog?"))
    first = by_full_passes(model, hidden, [], "What?", 6, "Is it a dog?")
    assert talks.ask(["What?"]) == [first]
    second = by_full_passes(model, hidden, [("What?", first)], "Why?", 6, "Is it a dog?")
    assert talks.ask(["Why?"]) == [second]


def test_answers_end_before_a_stop():
    model, hidden = make_model(), brains(1)
    (whole,) = Conversations(model, hidden, Speaking(12)).ask(["What?"])
    middle = whole[len(whole) // 2 :][:2]
    (cut,) = Conversations(model, hidden, Speaking(12, stop=(middle,))).ask(["What?"])
    assert cut == whole.partition(middle)[0].strip()


def test_draws_follow_the_softmax_and_the_seed():
    """The first token of 2,000 rows against its probabilities; the same seed, the same words; a row's do not hang on the others."""
    model, n = make_model(), 2000
    ids = prompt_ids(model.tokenizer, [], "What?", N + 1)
    with torch.no_grad():
        scores = model.llm(inputs_embeds=model.embed(torch.tensor([ids]), brains(1))).logits[0, -1]
    scores[model.image_id] = -torch.inf
    p = (scores / 0.5).softmax(-1)
    begun = Conversations(model, brains(1), Speaking(1, temperature=0.5)).take([0] * n)
    for said in begun._speak(["What?"] * n):
        found = torch.bincount(torch.tensor(said)[:, 0], minlength=len(p))
    error = (p * (1 - p) / n).sqrt()
    assert ((found / n - p).abs() < 5 * error + 1e-9).all() and (found > 0).sum() > 5

    def three(seed, rows=(0, 0, 0)):
        how = Speaking(6, temperature=2.0, seed=seed)
        return Conversations(model, brains(1), how).take(rows).ask(["What?"] * len(rows))

    assert three(0) == three(0) and three(0) != three(1)
    assert three(0, (0,)) == three(0)[:1] and len(set(three(0))) > 1


def test_an_answer_is_streamed_as_it_is_found():
    model = make_model()
    chat, whole = model.chat(brains(1), Speaking(8)), model.chat(brains(1), Speaking(8))
    pieces = list(chat.stream("What?"))
    assert "".join(pieces) == whole.ask("What?") == chat.turns[0][1] and len(pieces) > 2
    assert chat.ask("Why?") == whole.ask("Why?")


def test_an_answer_that_was_broken_off_is_no_turn():
    model = make_model()
    chat, other = model.chat(brains(1), Speaking(8)), model.chat(brains(1), Speaking(8))
    next(iter(chat.stream("What is in the picture?")))
    assert chat.turns == []
    assert chat.ask("What?") == other.ask("What?")


def test_a_transcript_says_what_was_said_and_how(tmp_path):
    chat = make_model().chat(brains(1), Speaking(4, seed=3))
    chat.ask("What?")
    chat.save(tmp_path / "talk.json", {"subject": "subj01"})
    found = json.loads((tmp_path / "talk.json").read_text())
    assert found["about"] == {"subject": "subj01"} and found["speaking"]["seed"] == 3
    assert found["turns"] == [{"question": "What?", "answer": chat.turns[0][1]}]


def test_a_layer_with_room_holds_what_transformers_own_holds():
    torch.manual_seed(0)
    ours, theirs = RoomyLayer(), DynamicCache()
    for n in (5, 1, 1, 90, 1):
        new = torch.randn(2, 3, n, 4), torch.randn(2, 3, n, 4)
        for a, b in zip(ours.update(*new), theirs.update(*new, 0), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)
    taken = ours.taken(torch.tensor([1, 1]))
    taken.update(*(torch.zeros(2, 3, 1, 4) for _ in range(2)))
    assert taken.get_seq_length() == 99 and ours.get_seq_length() == 98
    torch.testing.assert_close(taken.keys[0, :, :98], ours.keys[1])


def test_errors_say_what_was_expected():
    with pytest.raises(DataError, match="got 1 questions, expected 2"):
        Conversations(make_model(), torch.zeros(2, N + 1, D)).ask(["What?"])
    for wrong in ({"max_new_tokens": 0}, {"temperature": -1.0}, {"stop": ("",)}):
        with pytest.raises(ConfigError, match="expected at least 1"):
            Speaking(**wrong)


def test_how_likely_each_token_was_equals_full_passes():
    """`likelihoods` of two turns, rows of unequal length, against one pass over each whole conversation without any cache."""
    model, hidden = make_model(), brains(3)
    talks = Conversations(model, hidden, Speaking(5))
    for questions in (QUESTIONS, LATER):
        said = list(talks._speak(questions))[-1]
        for k, question in enumerate(questions):
            found = by_hand(model, hidden[k : k + 1], talks.turns[k][:-1], question, said[k])
            assert talks.likelihoods[k] == pytest.approx(found, abs=1e-4)


def by_hand(model, hidden, turns, question, said):
    """The likelihood of each token of an answer, from one pass over the whole conversation."""
    ids = prompt_ids(model.tokenizer, turns, question, hidden.shape[1])
    with torch.no_grad():
        embeds = model.embed(torch.tensor([[*ids, *said]]), hidden)
        scores = model.llm(inputs_embeds=embeds, use_cache=False).logits[0]
    scores[:, model.image_id] = -torch.inf
    known = scores.log_softmax(-1)[len(ids) - 1 : -1]
    return [float(row[one]) for row, one in zip(known, said, strict=True)]


def test_conversations_side_by_side_fit_into_a_fixed_room(monkeypatch):
    model = make_model()
    talks = Conversations(model, brains(3), Speaking(4))
    talks.ask(QUESTIONS)
    kept = sum(layer.keys.nbytes + layer.values.nbytes for layer in talks._cache.layers)
    columns = talks._cache.layers[0].keys.shape[2]
    assert kept == 3 * columns * answer_batches.cached_bytes(model.llm.config.to_dict(), 4)

    length = N + 1 + answer_batches.TEXT + 4
    a_row = kept // 3 // columns * length
    monkeypatch.setattr(answer_batches, "CACHE_BYTES", 5 * a_row + a_row - 1)
    assert answer_batches.conversations_together(model.llm, N + 1, 4) == 5
    monkeypatch.setattr(answer_batches, "CACHE_BYTES", 1)
    assert answer_batches.conversations_together(model.llm, N + 1, 4) == 1
