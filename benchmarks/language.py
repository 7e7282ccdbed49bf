"""The language model's speed, trained in full, trained with adapters, and asked; and what either training changes.

    python benchmarks/language.py                   Llama's shape at a width that a CPU bears: about 12 minutes on 2 cores
    python benchmarks/language.py --device cuda     Llama 3 8B's own shape, on a GPU of 80 GB
    python benchmarks/language.py --small           every part in seconds, to see that it works; the figures mean nothing

Weights are random, brain tokens random numbers, as many as the paper's patches of 14 leave; dialogues are about as long as real
ones. What is timed is `neurovl.language.fit_language`, stage 2, from one request for a loss to the next,
loss and gradients of dialogues that are not equally long, `BrainLLM.generate`, in batches and one by one, and the turns of a
`Chat`, two tokens each, about a brain of a hundred tokens: on a CPU at Llama 3 8B's own width with few layers, since in narrow ones
the overhead of a call hides what a cache saves. All weights of 8 billion take 180 GB to train: on one GPU `full` is timed with as
many layers as fit, which the row says.

`weights moved` is the share of the trained weights, but for the tables of words, that are not bit for bit what they were, after the same batches as in the
row above: `float32` and `bf16` are what is computed in, and what is trained is kept in float32 in both; the last row shows what
becomes of weights that are kept in bf16 as well, which neurovl does not do. Results go to language.csv; rows of other devices stay.
"""

import contextlib
import copy
from dataclasses import dataclass, replace
from functools import partial
from unittest import mock

import numpy as np
import torch
from measuring import Clock, Enough, describe_machine, keep, parse, short
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from neurovl.foundation.model_facts import configurations
from neurovl.foundation.source import TINY
from neurovl.language import BrainLLM, Projector, Speaking, fit_language, train
from neurovl.language import model as language_model
from neurovl.language.adapters import add_adapters
from neurovl.language.dialogues import Dialogue, encode_dialogue
from neurovl.settings.sections import Language, Lora
from neurovl.training.devices import choose_precision

LLAMA = "meta-llama/Meta-Llama-3-8B-Instruct"
SEED, BRAIN, WIDTH = 0, 58, 768  # tokens of a brain at patch 14, class token included; their width
MIXED = 4  # batches of the training together, of dialogues that are not equally long
LONG, TALKS = 100, 5  # brain tokens of the talks; how many are timed
TURNS = ("first turn", "second turn", "second turn without the first's cache", "first token")
SENTENCE = "a dog and a red car stand near the tree on the grass".split()


@dataclass(frozen=True)
class Size:
    """What is measured: layers of the model trained in full, batch and parts of each training, steps, questions."""

    what: str
    shape: dict
    full_layers: int
    batch: int
    parts: tuple[int, int]
    steps: int
    questions: int
    answer: int
    talk: tuple[str, dict]


def llama() -> dict:
    shape = dict(configurations(LLAMA, "llm")["llm"])
    return {k: v for k, v in shape.items() if k not in ("model_type", "torch_dtype")}


def narrow(width: int, layers: int) -> dict:
    """Llama 3's shape, `width` wide."""
    heads = max(1, width // 128)
    return {
        "hidden_size": width,
        "intermediate_size": width * 7 // 2,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": max(1, heads // 4),
        "vocab_size": 32_000,
    }


def sizes(device: str, small: bool) -> Size:
    if small:
        tiny = "width 32", narrow(32, 2) | {"vocab_size": 4096}
        return Size(*tiny, 2, 4, (1, 1), 2, 4, 4, tiny)
    if device == "cuda":
        whole = "Llama 3 8B", llama()
        return Size(*whole, 8, 24, (3, 3), 20, 256, 32, whole)
    wide = "width 4096, 4 layers", narrow(4096, 4)
    return Size("width 512", narrow(512, 8), 8, 8, (1, 1), 5, 64, 32, wide)


def build(shape: dict, layers: int, device: str, dtype: torch.dtype) -> BrainLLM:
    """A language model of a shape with random weights, which reads brains."""
    config = LlamaConfig(**shape | {"num_hidden_layers": layers})
    torch.manual_seed(SEED)
    with torch.device(device):
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        llm = LlamaForCausalLM(config)
        torch.set_default_dtype(before)
    tokenizer = AutoTokenizer.from_pretrained(TINY / "llm")
    tokenizer.add_tokens([f"<{k}>" for k in range(config.vocab_size - len(tokenizer))])
    return BrainLLM(llm, tokenizer, Projector(WIDTH, config.hidden_size)).to(device)


def talks(n: int, rng: np.random.Generator) -> dict[int, list[Dialogue]]:
    """A dialogue of three turns for each of `n` pictures."""

    return {
        k: [
            Dialogue(
                "conversation", k, tuple((words(rng, 12), words(rng, 24)) for _ in range(3)), True
            )
        ]
        for k in range(n)
    }


def words(rng: np.random.Generator, count: int) -> str:
    return " ".join(rng.choice(SENTENCE, count))


def brains(n: int, tokens: int = BRAIN) -> torch.Tensor:
    return torch.randn(n, tokens, WIDTH, generator=torch.Generator().manual_seed(SEED))


def settings(size: Size, method: str, precision: str, steps: int) -> Language:
    return Language(
        steps=(1, steps),
        batch_size=(size.batch, size.batch),
        accumulate=(1, size.parts[method == "lora"]),
        lr=(2e-5, 2e-5),
        precision=precision,
        method=method,
    )


def teach(model: BrainLLM, size: Size, wanted: Language, device: str) -> list[dict]:
    n = 4 * size.batch
    lessons = talks(n, np.random.default_rng(SEED))
    return fit_language(
        model, brains(n), range(n), lessons, wanted, lora=Lora(), stages=[2], seed=SEED, device=device
    )  # fmt: skip


def training_rate(size: Size, method: str, device: str) -> dict:
    """Seconds of a step of stage 2."""
    layers = size.shape["num_hidden_layers"] if method == "lora" else size.full_layers
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    model, clock, fit = build(size.shape, layers, device, dtype), Clock(device), train.fit

    def timed_fit(model, loss_at, schedule, **more):
        def timed(model, step, part):
            if part.index == 0:
                clock.tick()
            if len(clock.moments) > size.steps + 1:  # the first step warms up
                raise Enough
            return loss_at(model, step, part)

        return fit(model, timed, schedule, **more)

    precision = choose_precision("auto", device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with mock.patch.object(train, "fit", timed_fit), contextlib.suppress(Enough):
        teach(model, size, settings(size, method, precision, size.steps + 2), device)
    seconds = np.diff(clock.moments)[1:]
    row = {
        "task": "training",
        "what": f"{size.what}, {layers} layers, {method}",
        "computed in": "bf16" if precision == "bf16" else "float32",
        "batch": size.batch,
        "n": len(seconds),
        "a second": short(1 / np.median(seconds)),
        "unit": "steps",
    }
    if device == "cuda":
        row["memory, GB"] = short(torch.cuda.max_memory_allocated() / 1e9)
    return row


def padding_rates(size: Size, device: str) -> list[dict]:
    """Tokens a second through loss and gradients, dialogues of unlike lengths: padded to the longest of 8 alike, and of all."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    net = build(size.shape, size.full_layers, device, dtype)
    rng, batch, rows = np.random.default_rng(SEED), MIXED * size.batch, []
    lessons = [
        Dialogue("conversation", k, tuple((words(rng, 8), words(rng, n)) for _ in range(turns)))
        for k, (turns, n) in enumerate(zip(*rng.integers(1, [[4], [40]], (2, batch)), strict=True))
    ]
    hidden, encode = brains(batch), partial(encode_dialogue, net.tokenizer, n_brain=BRAIN)
    tokens = sum(len(encode(one)[0]) for one in lessons)
    for what, together in (
        ("padded to like ones", language_model.ROWS_TOGETHER),
        ("padded to all", batch),
    ):
        clock = Clock(device)
        with mock.patch.object(language_model, "ROWS_TOGETHER", together):
            for _ in range(size.steps + 1):  # the first warms up
                clock.tick()
                net.loss(hidden, lessons).backward()
                net.zero_grad()
        clock.tick()
        rows.append(
            {
                "task": "training",
                "what": f"{size.what}, dialogues of unlike lengths, {what}",
                "computed in": str(dtype).removeprefix("torch."),
                "batch": batch,
                "n": size.steps,
                "a second": short(tokens / np.median(np.diff(clock.moments)[1:])),
                "unit": "tokens",
            }
        )
    return rows


def answering_rates(size: Size, device: str) -> list[dict]:
    """Answers a second, in batches and one by one, as long as they may be: weights that are random end none."""
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    rows = []

    def endless(shape: dict) -> BrainLLM:
        model = build(shape, shape["num_hidden_layers"], device, dtype).eval()
        model.end_ids = []
        return model

    def row(what: str, batch: int, n: int, seconds: float, unit: str) -> dict:
        return {
            "task": "answers",
            "what": what,
            "computed in": str(dtype).removeprefix("torch."),
            "batch": batch,
            "n": n,
            "a second": short(n / seconds),
            "unit": unit,
        }

    asked, model = "What is in the picture?", endless(size.shape)
    together, alone = min(64, size.questions), max(2, size.questions // 8)
    for batch, n in ((together, size.questions), (1, alone)):
        hidden, clock = brains(n), Clock(device)
        for _ in range(2):
            clock.tick()
            for start in range(0, n, batch):
                part = hidden[start : start + batch]
                model.generate(part, [asked] * len(part), max_new_tokens=size.answer)
        clock.tick()
        seconds = np.diff(clock.moments)[-1]
        what = f"{size.what}, {size.answer} tokens"
        rows.append(row(what, batch, n, seconds, "answers"))

    what, shape = size.talk
    model = endless(shape)
    turns = np.array([talk_seconds(model, asked, device) for _ in range(TALKS + 1)])[1:]
    for turn, seconds in zip(TURNS, np.median(turns, 0), strict=True):
        rows.append(row(f"{what}, {turn}, {LONG} brain tokens", 1, 1, seconds, "turns"))
    return rows


def talk_seconds(model: BrainLLM, asked: str, device: str) -> list[float]:
    """Seconds of a first and a second turn of two tokens, of a second that reads all again, and until a first token streams."""
    hidden, clock = brains(1, LONG), Clock(device)
    clock.tick()
    chat = model.chat(hidden, Speaking(2))
    chat.ask(asked)
    clock.tick()
    chat.ask(asked)
    clock.tick()
    model.generate(hidden, [asked], [chat.turns[:1]], max_new_tokens=2)
    clock.tick()
    next(iter(model.chat(hidden).stream(asked)))
    clock.tick()
    return np.diff(clock.moments).tolist()


def what_is_learnt(size: Size, steps: int, device: str) -> list[dict]:
    """Losses and moved weights of both trainings in both precisions, from the same weights on the same batches."""
    layers = min(4, size.full_layers)
    first = build(size.shape, layers, device, torch.float32)
    rows = []
    for method, precision, kept in (
        ("full", "no", "float32"),
        ("full", "bf16", "float32"),
        ("lora", "no", "float32"),
        ("lora", "bf16", "float32"),
        ("full", "bf16", "bf16"),
    ):
        model, small = copy.deepcopy(first), replace(size, parts=(1, 1))
        lora = method == "lora"
        if lora:
            add_adapters(model.llm, Lora(), SEED + 2)
        if kept == "bf16":
            model.llm.bfloat16()
        before = {n: p.detach().clone() for n, p in model.llm.named_parameters()}
        as_they_are = mock.patch.object(torch.nn.Module, "float", lambda self: self)
        with as_they_are if kept == "bf16" else contextlib.nullcontext():
            curve = teach(model, small, settings(small, method, precision, steps), device)
        trained = {
            n: p
            for n, p in model.llm.named_parameters()
            if ("lora_" in n) == lora and "embed_tokens" not in n and "lm_head" not in n
        }
        moved = sum(int((p != before[n]).sum()) for n, p in trained.items())
        rows.append(
            {
                "task": "learning",
                "what": f"{size.what}, {layers} layers, {method}, kept in {kept}",
                "computed in": "bf16" if precision == "bf16" else "float32",
                "batch": size.batch,
                "n": steps,
                "first loss": short(curve[0]["loss"]),
                "last loss": short(np.mean([point["loss"] for point in curve[-5:]])),
                "weights moved": short(moved / sum(p.numel() for p in trained.values())),
            }
        )
    return rows


def main(arguments: list[str] | None = None) -> None:
    chosen = parse(__doc__, arguments)
    device = chosen.device
    size, machine = sizes(device, chosen.small), describe_machine(device)[0]
    rows = [training_rate(size, method, device) for method in ("full", "lora")]
    rows += padding_rates(size, device)
    rows += answering_rates(size, device)
    rows += what_is_learnt(size, 4 if chosen.small else 100, device)
    keep(rows, {k: machine[k] for k in ("date", "device")}, chosen.out, "language.csv")


if __name__ == "__main__":
    main()
