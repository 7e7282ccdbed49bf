"""The brain language model against torch by hand, with a randomly initialised Llama of two layers."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.language import BrainLLM, Projector, fit_language
from neurovl.language.dialogues import CHAT_TEMPLATE, Dialogue, encode_dialogue, prompt_ids
from neurovl.language.train import Lessons
from neurovl.settings.sections import Language
from neurovl.training.loop import Schedule
from neurovl.training.state import TrainingState
from neurovl.training.validation import split_pictures

D, N = 12, 4
ANSWERS = ("dog", "chair", "red car", "two cats", "beach", "pizza", "a boat", "many people")


def make_tokenizer(template=CHAT_TEMPLATE):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<pad>", "<s>", "</s>", "<human>", "<bot>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([f"What is in the picture? {a}" for a in ANSWERS], trainer)
    out = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    out.chat_template = template
    return out


def make_model(template=CHAT_TEMPLATE, seed=0, tied=False):
    tokenizer = make_tokenizer(template)
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=tied,
    )
    return BrainLLM(LlamaForCausalLM(config), tokenizer, Projector(D, 32)).eval()


def brains(n, seed=1):
    return torch.randn(n, N + 1, D, generator=torch.Generator().manual_seed(seed))


DIALOGUES = [
    Dialogue("brief", i, (("What is in the picture?", answer),), True)
    for i, answer in enumerate(ANSWERS)
]
LONG = Dialogue("conversation", 9, (("Is it?", "yes"), ("What is in the picture?", "a dog")), True)
TALK = {d.image_id: [d] for d in DIALOGUES}


def settings(steps, batch_size=8, lr=1e-3, precision="no", accumulate=1, **more):
    """The same for both stages."""
    pairs = dict(steps=steps, batch_size=batch_size, lr=lr, accumulate=accumulate)
    twice = {name: (value, value) for name, value in pairs.items()}
    return Language(**twice, precision=precision, **more)


def losses(curve):
    return [point["loss"] for point in curve]


def test_projector_is_linear_gelu_linear():
    projector, x = Projector(D, 32), brains(2)
    w1, b1, w2, b2 = projector.parameters()
    z = x @ w1.T + b1
    expected = (z * 0.5 * (1 + torch.erf(z / 2**0.5))) @ w2.T + b2
    torch.testing.assert_close(projector(x), expected)


def test_brain_tokens_change_the_logits_after_them_and_only_those():
    model = make_model()
    ids = torch.tensor([prompt_ids(model.tokenizer, [], "What?", N + 1)])
    with torch.no_grad():
        one, two = (model.llm(inputs_embeds=model.embed(ids, brains(1, s))).logits for s in (1, 2))
    first = ids[0].tolist().index(model.image_id)
    torch.testing.assert_close(one[:, :first], two[:, :first])
    assert (one[:, first:] - two[:, first:]).abs().amax(-1).min() > 1e-4


def test_splice_puts_each_token_in_its_place():
    model = make_model()
    hidden = brains(2)
    ids = torch.tensor([prompt_ids(model.tokenizer, [], "What?", N + 1)] * 2)
    embeds = model.embed(ids, hidden)
    at = ids[0] == model.image_id
    torch.testing.assert_close(embeds[:, at], model.projector(hidden))
    torch.testing.assert_close(embeds[:, ~at], model.llm.get_input_embeddings()(ids[:, ~at]))


def test_wrong_number_of_places_is_refused():
    model = make_model()
    ids = torch.tensor([prompt_ids(model.tokenizer, [], "What?", N)])
    with pytest.raises(DataError, match="<image> tokens"):
        model.embed(ids, brains(1))


def test_loss_is_cross_entropy_of_the_answers_by_hand():
    """Nineteen dialogues of several lengths, more than are padded to one length, and their gradient."""
    model = make_model()
    chosen = [*DIALOGUES, LONG, *DIALOGUES, DIALOGUES[2], LONG]
    hidden = brains(len(chosen))
    total, count = 0.0, 0
    for h, dialogue in zip(hidden, chosen, strict=True):
        ids, labels = encode_dialogue(model.tokenizer, dialogue, N + 1)
        logits = model.llm(inputs_embeds=model.embed(torch.tensor([ids]), h[None])).logits[0]
        log_p = logits.log_softmax(-1)
        for t, label in enumerate(labels):
            if label != -100:
                total = total - log_p[t - 1, label]
                count += 1
    parameters = dict(model.named_parameters())
    expected = torch.autograd.grad(total / count, parameters.values())
    loss = model.loss(hidden, chosen)
    torch.testing.assert_close(loss, (total / count).detach())
    found = torch.autograd.grad(loss, parameters.values())
    for name, a, b in zip(parameters, found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6, msg=name)


QUESTIONS = ["What?", "What is in the picture, and where is it?", "Is there a dog?"]


def test_batched_answers_equal_single_ones():
    model = make_model()
    hidden = brains(3)
    history = [[], [("What?", "a dog")], []]
    together = model.generate(hidden, QUESTIONS, history, max_new_tokens=12)
    alone = [
        model.generate(hidden[i : i + 1], QUESTIONS[i : i + 1], history[i : i + 1], 12)[0]
        for i in range(3)
    ]
    assert together == alone
    assert len(set(together)) > 1


def test_where_memory_is_short_fewer_answers_are_given_at_a_time(monkeypatch, caplog):
    model, hidden, tried = make_model(), brains(3), []
    together = model.generate(hidden, QUESTIONS, max_new_tokens=12)
    original = model.embed

    def short(input_ids, hidden):
        tried.append(len(hidden))
        if len(hidden) > 1:
            raise torch.OutOfMemoryError("full")
        return original(input_ids, hidden)

    monkeypatch.setattr(model, "embed", short)
    monkeypatch.setattr("neurovl.language.answer_batches.MOST", 4)
    assert model.generate(hidden, QUESTIONS, max_new_tokens=12) == together
    assert tried == [3, 2, 1, 1, 1] and "1 answers at a time" in caplog.text


def test_cached_greedy_equals_full_passes():
    model = make_model()
    hidden = brains(1)
    with torch.no_grad():
        embeds = model.embed(
            torch.tensor([prompt_ids(model.tokenizer, [], "What?", N + 1)]), hidden
        )
        new = []
        for _ in range(12):
            logits = model.llm(inputs_embeds=embeds, use_cache=False).logits[0, -1]
            logits[model.image_id] = -torch.inf
            new.append(int(logits.argmax()))
            if new[-1] == model.tokenizer.eos_token_id:
                break
            embed = model.llm.get_input_embeddings()(torch.tensor([[new[-1]]]))
            embeds = torch.cat([embeds, embed], 1)
    expected = model.tokenizer.decode(new, skip_special_tokens=True).strip()
    assert model.generate(hidden, ["What?"], max_new_tokens=12) == [expected]


def test_steps_with_their_cache_are_the_softmax_of_full_passes():
    model = make_model()
    places = torch.tensor([prompt_ids(model.tokenizer, [], "What?", N + 1)])
    with torch.no_grad():
        embeds = model.embed(places, brains(1))
        further = model.llm.get_input_embeddings()(torch.tensor([[7]]))
        whole = torch.cat([embeds, further], 1)
        first, past = model.step(embeds)
        second, _ = model.step(further, past)
        for probability, rows in ((first, embeds), (second, whole)):
            scores = model.llm(inputs_embeds=rows, use_cache=False).logits[:, -1]
            scores[:, model.image_id] = -torch.inf
            torch.testing.assert_close(probability, scores.softmax(-1))


@pytest.mark.parametrize("stage", [1, 2])
def test_stage_decides_what_is_trained(stage):
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    asked = []
    model.llm.register_forward_pre_hook(lambda llm, _: asked.append((llm.training, model.training)))
    curve = fit_language(
        model, brains(8).half(), range(8), TALK, settings(3, 4), stages=[stage], device="cpu"
    )
    changed = {
        k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, before[k])
    }
    assert [(p["stage"], p["step"]) for p in curve] == [(stage, k) for k in (1, 2, 3)]
    assert asked == [(stage == 2, True)] * 3  # a frozen model drops nothing out
    assert not model.training
    assert changed == ({"projector"} if stage == 1 else {"projector", "llm"})
    llm_grads = [p.requires_grad for p in model.llm.parameters()]
    assert not any(llm_grads) if stage == 1 else all(llm_grads)


def test_a_large_model_in_bf16_is_read_by_a_projector_in_float32():
    """As a language model of several GB is loaded on a GPU: the losses are those of float32."""
    curves = []
    for dtype in (torch.float32, torch.bfloat16):
        model = make_model()
        model.llm.to(dtype)
        curves.append(
            losses(
                fit_language(
                    model,
                    brains(8),
                    range(8),
                    TALK,
                    settings(30, lr=1e-2),
                    stages=[1],
                    device="cpu",
                )
            )
        )
    assert curves[1] == pytest.approx(curves[0], abs=0.02) and curves[0][-1] < curves[0][0] - 0.04
    assert model.projector.first.weight.dtype == torch.float32
    assert next(model.llm.parameters()).dtype == torch.bfloat16
    assert len(model.generate(brains(2), ["What?"] * 2, max_new_tokens=3)) == 2


@pytest.fixture(scope="module")
def trained():
    model, hidden = make_model(), brains(8)
    both = Language(steps=(20, 150), batch_size=(8, 8), lr=(1e-3, 5e-3), precision="no")
    curve = fit_language(model, hidden, range(8), TALK, both, device="cpu")
    second = losses(p for p in curve if p["stage"] == 2)
    assert second[-1] < 0.1 < second[0]
    return model, hidden


def test_answers_come_from_the_brain(trained):
    model, hidden = trained
    questions = ["What is in the picture?"] * 8
    assert model.generate(hidden, questions) == list(ANSWERS)
    # Shuffled brains give the shuffled answers, so every one is wrong.
    assert model.generate(hidden.roll(1, 0), questions) == [ANSWERS[-1], *ANSWERS[:-1]]


def test_same_seed_same_training():
    curves = [
        fit_language(
            make_model(),
            brains(8),
            range(8),
            {d.image_id: [d, LONG] for d in DIALOGUES},
            settings(4, batch_size=3),
            stages=[2],
            seed=seed,
            device="cpu",
        )
        for seed in (5, 5, 6)
    ]
    assert curves[0] == curves[1] != curves[2]


# Answers of very different lengths, so that parts of a batch have unequal numbers of tokens.
UNEVEN = {i: [d, LONG] if i % 3 else [LONG] for i, d in enumerate(DIALOGUES)}


def test_accumulated_parts_are_the_whole_batch():
    whole, parts = make_model(), make_model()
    curves = [
        fit_language(
            model,
            brains(8),
            range(8),
            UNEVEN,
            settings(6, batch_size=8, accumulate=count),
            device="cpu",
        )
        for model, count in ((whole, 1), (parts, 4))
    ]
    assert losses(curves[1]) == pytest.approx(losses(curves[0]), rel=1e-5)
    for a, b in zip(whole.state_dict().values(), parts.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_step_is_the_mean_over_the_tokens_of_its_batch():
    """The first loss, before any weight moved, against `loss` of the batch: all trials, each with its one dialogue."""
    talk = {i: [d if i % 2 else LONG] for i, d in enumerate(DIALOGUES)}
    curve = fit_language(
        make_model(), brains(8), range(8), talk, settings(1, accumulate=2), stages=[1], device="cpu"
    )
    with torch.no_grad():
        expected = make_model().loss(brains(8), [one for (one,) in talk.values()])
    assert curve[0]["loss"] == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("stage", [1, 2])
def test_an_interruption_in_either_stage_changes_nothing(stage, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingState, "may_save", lambda self: True)
    monkeypatch.setattr("neurovl.language.train.Schedule", partial(Schedule, checkpoint_every=3))
    wanted = settings(8, batch_size=3)
    whole = make_model()
    curve = fit_language(whole, brains(8), range(8), UNEVEN, wanted, seed=4, device="cpu")

    broken, steps = make_model(), []

    def count(module, inputs):
        steps.append(module.llm.training)
        if len(steps) == 8 * (stage - 1) + 6:
            raise KeyboardInterrupt

    broken.register_forward_pre_hook(count)
    place = dict(seed=4, checkpoint=tmp_path, device="cpu")
    with pytest.raises(KeyboardInterrupt):
        fit_language(broken, brains(8), range(8), UNEVEN, wanted, **place)

    resumed, again = make_model(), []
    resumed.register_forward_pre_hook(lambda module, _: again.append(module.llm.training))
    same = fit_language(resumed, brains(8), range(8), UNEVEN, wanted, **place)
    # Stage 1 has the language model in evaluation mode; what it gave is not trained again.
    assert again.count(False) == (5 if stage == 1 else 0)
    assert again.count(True) == (8 if stage == 1 else 5)
    assert same == curve
    for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_checkpoint_holds_no_frozen_weights(tmp_path):
    fit_language(
        make_model(tied=True),
        brains(8),
        range(8),
        TALK,
        settings(1),
        checkpoint=tmp_path,
        device="cpu",
    )
    kept = [
        set(torch.load(tmp_path / f"stage{k}" / "checkpoint.pt", weights_only=True)["model"])
        for k in (1, 2)
    ]
    model = make_model(tied=True)
    assert kept[0] == {f"projector.{name}" for name in model.projector.state_dict()}
    assert kept[1] == set(model.state_dict())


def test_the_watched_loss_is_that_of_pictures_left_out():
    model = make_model()
    pictures = [k % 8 for k in range(16)]
    wanted = settings(6, batch_size=4, validation=0.25)
    curve = fit_language(model, brains(16), pictures, TALK, wanted, seed=2, device="cpu")
    assert [p["step"] for p in curve if "validation" in p] == [3, 6] * 2  # 12 trials, 3 batches
    trials = pd.DataFrame({"image_id": pictures})
    _, watched = split_pictures(trials, 0.25, seed=2)
    assert len(watched) == 4
    with torch.no_grad():
        expected = model.loss(
            brains(16)[watched.index.to_list()], [TALK[k][0] for k in watched.image_id]
        )
    assert curve[-1]["validation"] == pytest.approx(float(expected), rel=1e-5)


def test_a_stage_ends_where_the_watched_loss_grows():
    """Random answers to random brains: what is learned of some does not hold for others."""
    model = make_model()
    wanted = settings(200, batch_size=6, lr=3e-2, validation=0.25, patience=2)
    curve = fit_language(model, brains(8), range(8), TALK, wanted, stages=[2], device="cpu")
    seen = [p["validation"] for p in curve if "validation" in p]
    assert len(seen) < 200 and seen[-3] == min(seen)
    _, watched = split_pictures(pd.DataFrame({"image_id": range(8)}), 0.25, seed=0)
    with torch.no_grad():
        kept = model.loss(
            brains(8)[watched.index.to_list()], [TALK[k][0] for k in watched.image_id]
        )
    assert float(kept) == pytest.approx(min(seen), rel=1e-5)


def test_brain_tokens_may_lie_on_disk(tmp_path):
    hidden = brains(8).half()
    np.save(tmp_path / "hidden.npy", hidden.numpy())
    curves = [
        fit_language(make_model(), given, range(8), TALK, settings(2, 4), device="cpu")
        for given in (hidden, np.load(tmp_path / "hidden.npy", mmap_mode="r"))
    ]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("epoch, lessons", [("trials", 8), ("pairs", 8 + 8 + 1)])
def test_an_epoch_is_each_trial_once_or_each_of_its_dialogues_once(epoch, lessons, monkeypatch):
    # Every picture with two dialogues, one of them with three.
    talk = {i: [*own, replace(LONG, image_id=i)] for i, own in TALK.items()}
    talk[3] = [*talk[3], replace(talk[3][0], turns=(("Caption?", "a cow"),))]
    seen = []
    original = Lessons._loss

    def watched(self, model, rows, encoded):
        seen.extend(zip(rows.tolist(), (tuple(ids) for ids, _ in encoded), strict=True))
        return original(self, model, rows, encoded)

    monkeypatch.setattr(Lessons, "_loss", watched)
    one = Language(steps=None, epoch=epoch, batch_size=(1, 4), precision="no")
    curve = fit_language(make_model(), brains(8), range(8), talk, one, device="cpu")
    steps = [sum(point["stage"] == stage for point in curve) for stage in (1, 2)]
    assert steps == [lessons, round(lessons / 4)]
    first = seen[:lessons]  # stage 1
    assert {row for row, _ in first} == set(range(8))
    assert len(set(first)) == lessons  # no trial, or no pair, comes twice
    doctor = one.steps_for(lessons)
    assert doctor == tuple(steps)


def test_both_stages_go_to_a_tracker(tmp_path):
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    curve = fit_language(
        make_model(),
        brains(8),
        range(8),
        TALK,
        settings(3, 4, validation=0.25),
        device="cpu",
        trackers=("tensorboard",),
        logs=tmp_path,
    )
    for stage in (1, 2):
        read = events.EventAccumulator(str(tmp_path / f"language-stage-{stage}"))
        read.Reload()
        for name in ("loss", "validation"):
            logged = {e.step: e.value for e in read.Scalars(name)}
            own = {p["step"]: p[name] for p in curve if p["stage"] == stage and name in p}
            assert own and logged == pytest.approx(own, rel=1e-5)


def test_chat_keeps_its_turns(trained):
    model, hidden = trained
    chat = model.chat(hidden[:1])
    assert chat.ask("What is in the picture?") == "dog"
    second = chat.ask("Where is it?", max_new_tokens=6)
    assert chat.turns == [("What is in the picture?", "dog"), ("Where is it?", second)]
    assert second == model.generate(hidden[:1], ["Where is it?"], [chat.turns[:1]], 6)[0]
    with pytest.raises(DataError, match="one picture"):
        model.chat(hidden)


def test_saved_and_read_again(trained, tmp_path):
    model, hidden = trained
    for _ in range(2):
        model.save_pretrained(tmp_path / "llm")
    files = {p.name for p in (tmp_path / "llm").iterdir()}
    assert files == {"projector.safetensors", "config.json", "llm"}
    assert [p.name for p in tmp_path.iterdir()] == ["llm"]
    again = BrainLLM.from_pretrained(tmp_path / "llm")
    questions = ["What is in the picture?"] * 8
    assert again.generate(hidden, questions) == list(ANSWERS)
    other = BrainLLM.from_pretrained(tmp_path / "llm", llm=(model.llm, model.tokenizer))
    assert other.generate(hidden, questions) == list(ANSWERS)
    with pytest.raises(MissingError, match="neurovl train llm"):
        BrainLLM.from_pretrained(tmp_path / "nothing")


@pytest.mark.parametrize("tied", [False, True])
def test_a_tokenizer_without_placeholder_gets_one(tied):
    model = make_model(template=None, tied=tied)
    vocabulary = model.llm.get_input_embeddings().weight
    assert model.tokenizer.convert_tokens_to_ids("<image>") == model.image_id == len(vocabulary) - 1
    torch.testing.assert_close(vocabulary[-1], vocabulary[:-1].mean(0))
    assert model.llm.get_output_embeddings().weight.shape == vocabulary.shape
    assert len(model.generate(brains(1), ["What?"], max_new_tokens=4)) == 1


def test_errors_say_what_was_expected():
    with pytest.raises(ConfigError, match="expected 32"):
        BrainLLM(make_model().llm, make_tokenizer(), Projector(D, 16))
    model = make_model()
    with pytest.raises(DataError, match=r"\(1, N \+ 1, 12\)"):
        model.generate(torch.zeros(1, N + 1, D + 1), ["What?"])
    with pytest.raises(DataError, match="history"):
        model.generate(brains(1), ["What?"], [[], []])
    with pytest.raises(ConfigError, match="stage"):
        fit_language(model, brains(1), [0], {0: [LONG]}, settings(1, 1), stages=[3])
    with pytest.raises(DataError, match="no dialogue"):
        fit_language(model, brains(1), [0], {1: [LONG]}, settings(1, 1), stages=[1])
    with pytest.raises(DataError, match=r"shape \(2, 5, 12\), expected \(1, N"):
        fit_language(model, brains(2), [0], {0: [LONG]}, settings(1, 1))
    with pytest.raises(ConfigError, match="batch size is 3, expected a multiple of 2"):
        fit_language(model, brains(1), [0], {0: [LONG]}, settings(1, 3, accumulate=2), device="cpu")
    with pytest.raises(ConfigError, match="language.validation is 0.1, which is 0 of 1"):
        fit_language(model, brains(1), [0], {0: [LONG]}, settings(1, 1, validation=0.1))
