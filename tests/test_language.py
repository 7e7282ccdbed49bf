"""The brain language model against torch by hand, with a randomly initialised Llama of two layers."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from neurovl.errors import ConfigError, DataError, MissingError
from neurovl.language import BrainLLM, Projector, fit_language
from neurovl.language.dialogues import CHAT_TEMPLATE, Dialogue, encode_dialogue, prompt_ids

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
    model = make_model()
    hidden, chosen = brains(3), [DIALOGUES[0], LONG, DIALOGUES[7]]
    total, count = 0.0, 0
    with torch.no_grad():
        for h, dialogue in zip(hidden, chosen, strict=True):
            ids, labels = encode_dialogue(model.tokenizer, dialogue, N + 1)
            logits = model.llm(inputs_embeds=model.embed(torch.tensor([ids]), h[None])).logits[0]
            log_p = logits.log_softmax(-1)
            for t, label in enumerate(labels):
                if label != -100:
                    total -= float(log_p[t - 1, label])
                    count += 1
        # Padded to one length, in a batch.
        torch.testing.assert_close(model.loss(hidden, chosen), torch.tensor(total / count))


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


@pytest.mark.parametrize("stage", [1, 2])
def test_stage_decides_what_is_trained(stage):
    model = make_model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    losses = fit_language(
        model,
        brains(8).half(),
        list(range(8)),
        {d.image_id: [d] for d in DIALOGUES},
        stage=stage,
        steps=3,
        batch_size=4,
        lr=1e-3,
        seed=0,
    )
    changed = {
        k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, before[k])
    }
    assert len(losses) == 3
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
            fit_language(
                model,
                brains(8),
                list(range(8)),
                {d.image_id: [d] for d in DIALOGUES},
                stage=1,
                steps=30,
                batch_size=8,
                lr=1e-2,
            )
        )
    assert curves[1] == pytest.approx(curves[0], abs=0.02) and curves[0][-1] < curves[0][0] - 0.04
    assert model.projector.first.weight.dtype == torch.float32
    assert next(model.llm.parameters()).dtype == torch.bfloat16
    assert len(model.generate(brains(2), ["What?"] * 2, max_new_tokens=3)) == 2


@pytest.fixture(scope="module")
def trained():
    model, hidden = make_model(), brains(8)
    dialogues = {d.image_id: [d] for d in DIALOGUES}
    settings = dict(batch_size=8, seed=0)
    rows = list(range(8))
    fit_language(model, hidden, rows, dialogues, stage=1, steps=20, lr=1e-3, **settings)
    losses = fit_language(model, hidden, rows, dialogues, stage=2, steps=150, lr=5e-3, **settings)
    assert losses[-1] < 0.1 < losses[0]
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
            list(range(8)),
            {d.image_id: [d, LONG] for d in DIALOGUES},
            stage=2,
            steps=4,
            batch_size=3,
            lr=1e-3,
            seed=seed,
        )
        for seed in (5, 5, 6)
    ]
    assert curves[0] == curves[1] != curves[2]


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
    settings = dict(steps=1, batch_size=1, lr=1e-3)
    with pytest.raises(ConfigError, match="stage"):
        fit_language(model, brains(1), [0], {0: [LONG]}, stage=3, **settings)
    with pytest.raises(DataError, match="no dialogue"):
        fit_language(model, brains(1), [0], {1: [LONG]}, stage=1, **settings)
