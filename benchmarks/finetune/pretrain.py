"""The GPT-2, pretrained from random weights on the standard library's source code.

It learns the next token (A. Radford et al., "Language Models are Unsupervised Multitask
Learners", 2019). Its weights are kept in the git-ignored cache of
``benchmarks.regret.tasks.finetune.pretrained``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.finetune.corpus import (
    LENGTH,
    SEP,
    VOCABULARY,
    tokenised_library,
)
from benchmarks.regret.tasks.finetune import pretrained

WIDTH, DEPTH, HEADS = 128, 2, 4
STEPS, BATCH, PEAK = 1000, 64, 2e-3

State = dict[str, Any]
Loss = Callable[[Any, Tensor, torch.Generator], Tensor]


def gpt2_config(**changes: Any) -> Any:
    """A small GPT-2; dropout as in the library's default."""
    from transformers import GPT2Config

    settings = {
        "vocab_size": VOCABULARY,
        "n_embd": WIDTH,
        "n_layer": DEPTH,
        "n_head": HEADS,
        "n_positions": LENGTH,
        "bos_token_id": SEP,
        "eos_token_id": SEP,
    }
    return GPT2Config(**{**settings, **changes})


def gpt2_weights() -> State:
    """Weights of a `GPT2LMHeadModel`."""
    from transformers import GPT2LMHeadModel

    torch.manual_seed(0)
    config = gpt2_config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return _train(GPT2LMHeadModel(config), _gpt2_loss)


def _train(model: Any, loss_of: Loss) -> State:
    """AdamW whose lr rises for a tenth of the steps and then falls in a line to zero."""
    text = pretrained(tokenised_library)["tokens"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.01, fused=True)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        done = step / STEPS
        optimizer.param_groups[0]["lr"] = PEAK * min(10 * done + 1e-3, (1 - done) / 0.9)
        loss = loss_of(model, text, generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.state_dict()  # type: ignore[no-any-return]


def _passages(text: Tensor, length: int, generator: torch.Generator) -> Tensor:
    """Starts of a batch of passages (BATCH,) and the passages themselves (BATCH, length)."""
    starts = torch.randint(len(text) - 2 * length, (BATCH, 1), generator=generator)
    return text[starts + torch.arange(length)].long()


def _gpt2_loss(model: Any, text: Tensor, generator: torch.Generator) -> Tensor:
    rows = _passages(text, LENGTH, generator)
    return model(input_ids=rows, labels=rows).loss  # type: ignore[no-any-return]
