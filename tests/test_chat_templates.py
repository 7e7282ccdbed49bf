"""Dialogues in the chat formats of Llama 3 and Vicuna: ids, place of the picture, loss on the answers alone."""

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from neurovl.errors import ConfigError
from neurovl.foundation.llm import VICUNA_TEMPLATE, load_llm
from neurovl.language import BrainLLM, Projector
from neurovl.language.dialogues import (
    Dialogue,
    add_placeholder,
    encode_dialogue,
    prompt_ids,
)

N = 5  # brain tokens
TURNS = (("Describe the picture briefly.", "A yellow dog."), ("Is it day?", "Yes, it is."))
DIALOGUE = Dialogue("conversation", 0, TURNS, False)
TEXTS = [text for turn in TURNS for text in turn] + ["a chat between a user and an assistant"]

LLAMA3_TEMPLATE = (
    "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}"
    "{{ message['content'] | trim }}{{ '<|eot_id|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
)
# As Llama 3's was in its first days: the next answer is opened whether or not one is asked for.
ALWAYS_OPEN = LLAMA3_TEMPLATE.replace("{% if add_generation_prompt %}", "{% if true %}")


def llama3_tokenizer(template=LLAMA3_TEMPLATE):
    """Byte-level BPE with Llama 3's special tokens, its way of splitting, and <|end_of_text|> as end of a text."""
    special = ["<|begin_of_text|>", "<|end_of_text|>"]
    special += ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    bpe = Tokenizer(models.BPE())
    words = (
        r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(
        [*TEXTS, "\n\n"] * 3,
        trainers.BpeTrainer(
            vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False
        ),
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=special[0], eos_token=special[1]
    )
    tokenizer.chat_template = template
    return tokenizer


def vicuna_tokenizer(template=VICUNA_TEMPLATE):
    """BPE over a text whose start and spaces are marked, as SentencePiece does for Llama 1 and 2."""
    bpe = Tokenizer(models.BPE(unk_token="<unk>"))
    bpe.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    bpe.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    letters = sorted({c for text in [*TEXTS, VICUNA_TEMPLATE] for c in text if c != " "} | {"▁"})
    trainer = trainers.BpeTrainer(
        vocab_size=200,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=letters,
        show_progress=False,
    )
    words = [w for text in [*TEXTS, "USER: ASSISTANT:"] for w in text.split()]
    bpe.train_from_iterator(words * 3, trainer)  # word by word: no token spans a space
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = template
    return tokenizer


CASES = {
    "Llama 3": (
        llama3_tokenizer,
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        ["A yellow dog.<|eot_id|>", "Yes, it is.<|eot_id|>"],
    ),
    "Llama 3, always open": (
        lambda: llama3_tokenizer(ALWAYS_OPEN),
        "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
        ["A yellow dog.<|eot_id|>", "Yes, it is.<|eot_id|>"],
    ),
    "Vicuna": (
        vicuna_tokenizer,
        "<s>A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the user's questions. USER: ",
        [" A yellow dog.</s>", " Yes, it is.</s>"],
    ),
}


@pytest.fixture(params=CASES)
def case(request):
    make, before, answers = CASES[request.param]
    tokenizer = make()
    return tokenizer, add_placeholder(tokenizer), before, answers


def text_of(tokenizer, ids) -> str:
    """Text of ids, with the spaces that the tokens mark."""
    known = tokenizer.get_added_vocab()
    return "".join(
        token if token in known else token.replace("▁", " ").replace("Ġ", " ").replace("Ċ", "\n")
        for token in tokenizer.convert_ids_to_tokens(ids)
    )


def test_the_picture_stands_at_the_start_of_the_first_question(case):
    tokenizer, image, before, _ = case
    ids, labels = encode_dialogue(tokenizer, DIALOGUE, N)
    first = ids.index(image)
    assert [i for i, token in enumerate(ids) if token == image] == list(range(first, first + N))
    assert text_of(tokenizer, ids[:first]).replace("<s> ", "<s>") == before
    assert text_of(tokenizer, ids[first + N :]).lstrip().startswith(TURNS[0][0])
    assert all(label == -100 for label in labels[: first + N])


def test_the_loss_is_on_the_answers_and_what_ends_them(case):
    tokenizer, _, _, answers = case
    ids, labels = encode_dialogue(tokenizer, DIALOGUE, N)
    runs, open_run = [], False
    for token, label in zip(ids, labels, strict=True):
        if label == -100:
            open_run = False
            continue
        assert label == token
        if not open_run:
            runs.append([])
        runs[-1].append(token)
        open_run = True
    assert [text_of(tokenizer, run) for run in runs] == answers


def test_ids_are_those_of_the_whole_text(case):
    """What a library would make of the rendered conversation in one piece."""
    tokenizer, _, _, _ = case
    messages = []
    for i, (question, answer) in enumerate(TURNS):
        content = "<image>" * N + " " + question if i == 0 else question
        messages += [
            {"role": "user", "content": content},
            {"role": "assistant", "content": answer},
        ]
    whole = tokenizer.apply_chat_template(messages, tokenize=False)
    if tokenizer.chat_template == ALWAYS_OPEN:
        whole = whole.removesuffix("<|start_header_id|>assistant<|end_header_id|>\n\n")
    ids, _ = encode_dialogue(tokenizer, DIALOGUE, N)
    assert ids == tokenizer.encode(whole, add_special_tokens=False)
    assert tokenizer.unk_token_id is None or tokenizer.unk_token_id not in ids


def test_a_prompt_is_the_start_of_the_dialogue(case):
    tokenizer, _, _, answers = case
    ids, labels = encode_dialogue(tokenizer, DIALOGUE, N)
    for turns in (0, 1):
        prompt = prompt_ids(tokenizer, TURNS[:turns], TURNS[turns][0], N)
        assert ids[: len(prompt)] == prompt
        rest = text_of(tokenizer, ids[len(prompt) :])
        assert rest.startswith(answers[turns]) and labels[len(prompt)] != -100


def brain_llm(tokenizer):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return BrainLLM(LlamaForCausalLM(config), tokenizer, Projector(8, 16)).eval()


def test_answers_end_where_the_template_ends_them(case):
    tokenizer, _, _, answers = case
    model = brain_llm(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<|eot_id|>" if "eot" in answers[0] else "</s>")
    assert set(model.end_ids) == {end, tokenizer.eos_token_id}
    assert len(model.generate(torch.zeros(2, N, 8), ["What is it?"] * 2, max_new_tokens=3)) == 2
    assert torch.isfinite(model.loss(torch.zeros(1, N, 8), [DIALOGUE]))


def test_a_template_that_forgets_earlier_answers_is_refused():
    forgets = LLAMA3_TEMPLATE.replace("{{ message['content'] | trim }}", "{{ messages | length }}")
    with pytest.raises(ConfigError, match="chat template rewrites earlier turns"):
        brain_llm(llama3_tokenizer(forgets))


@pytest.mark.parametrize(("name", "template"), [("vicuna-13b-v1.5", VICUNA_TEMPLATE), ("a", None)])
def test_vicuna_gets_the_template_that_its_tokenizer_lacks(tmp_path, name, template):
    model = brain_llm(vicuna_tokenizer(None))
    model.llm.save_pretrained(tmp_path / name)
    model.tokenizer.save_pretrained(tmp_path / name)
    _, tokenizer = load_llm(str(tmp_path / name), "cpu")
    assert tokenizer.chat_template == template
