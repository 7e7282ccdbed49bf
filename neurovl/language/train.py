"""Training of the brain language model in the paper's two stages (section 3).

Left out: LoRA (the paper trains all weights of the language model), checkpoints and resume.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from neurovl.errors import ConfigError, DataError
from neurovl.language.dialogues import Dialogue, collate, encode_dialogue
from neurovl.language.model import BrainLLM


def fit_language(
    brain_llm: BrainLLM,
    hidden: Tensor,
    rows: Sequence,
    dialogues: Mapping[object, Sequence[Dialogue]],
    *,
    stage: int,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int = 0,
    progress: bool = True,
    accelerator=None,
) -> list[float]:
    """Train in place: stage 1 the projector alone, stage 2 projector and language model.

    Every step draws trials without replacement until all were seen, and for each trial one dialogue
    of its picture at random. AdamW, cosine schedule with 3 % warm-up, gradients clipped to norm 1.

    Parameters
    ----------
    brain_llm : BrainLLM
    hidden : Tensor (n_trials, N + 1, D)
        The encoder's penultimate layer; may be float16.
    rows : sequence (n_trials,)
        For each trial the key of its picture in `dialogues`.
    dialogues : mapping of picture key to list of Dialogue
    stage : {1, 2}
    steps, batch_size : int
    lr : float
        The highest learning rate. The paper prints 2e-5 (8 B parameters).
    seed : int
        Fixes trials and dialogues.
    progress : bool
        Show a bar, on terminals only.
    accelerator : accelerate.Accelerator, optional
        Device and precision; made with its defaults when not given.

    Returns
    -------
    list of float (steps,)
        The loss of each step.

    Raises
    ------
    ConfigError
        Unknown stage.
    DataError
        `rows` does not fit `hidden`, or a picture has no dialogue.
    """
    from accelerate import Accelerator
    from tqdm.auto import tqdm
    from transformers import get_cosine_schedule_with_warmup

    rows = list(rows)
    if stage not in (1, 2):
        raise ConfigError(f"stage is {stage!r}, expected 1 (projector) or 2 (projector and LLM)")
    brain_llm._check(hidden, len(rows), "trials")
    bare = sorted({str(key) for key in rows if not dialogues.get(key)})
    if bare:
        raise DataError(
            f"{len(bare)} pictures have no dialogue (first: {bare[0]}), expected one at least for each "
            "trial's picture; drop these trials or give the pictures captions"
        )
    accelerator = accelerator or Accelerator()
    brain_llm.projector.requires_grad_(True)
    brain_llm.llm.requires_grad_(stage == 2)
    brain_llm.to(accelerator.device).train()
    if stage == 1:
        brain_llm.llm.eval()
    trained = [p for p in brain_llm.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=lr, weight_decay=0.0)
    model, optimizer = accelerator.prepare(brain_llm, optimizer)
    schedule = get_cosine_schedule_with_warmup(optimizer, max(1, round(0.03 * steps)), steps)
    rng = np.random.default_rng([seed, accelerator.process_index])
    encoded: dict[Dialogue, tuple[list[int], list[int]]] = {}
    order: list[int] = []
    losses = []
    for _ in tqdm(
        range(steps), desc=f"language, stage {stage}", disable=None if progress else True
    ):
        while len(order) < batch_size:
            order += rng.permutation(len(rows)).tolist()
        chosen, order = order[:batch_size], order[batch_size:]
        batch = []
        for i in chosen:
            options = dialogues[rows[i]]
            dialogue = options[int(rng.integers(len(options)))]
            if dialogue not in encoded:
                encoded[dialogue] = encode_dialogue(brain_llm.tokenizer, dialogue, hidden.shape[1])
            batch.append(encoded[dialogue])
        loss = model(hidden[chosen], **collate(batch, brain_llm.tokenizer.pad_token_id))
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
    accelerator.unwrap_model(model, keep_fp32_wrapper=False)  # takes autocast off its forward again
    brain_llm.eval()
    return torch.stack(losses).float().tolist() if losses else []
