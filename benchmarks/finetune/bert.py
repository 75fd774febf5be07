"""A small BERT that reads characters, pretrained on the standard library's source code.

It learns to fill in hidden characters (Devlin et al., "BERT: Pre-training of Deep Bidirectional
Transformers for Language Understanding", arXiv 1810.04805, section 3.1, task 1).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.finetune.corpus import (
    CHARACTERS,
    CLS,
    LENGTH,
    MASK,
    PAD,
    SEP,
    characters,
    standard_library,
)

WIDTH, DEPTH, HEADS = 128, 2, 4
STEPS, BATCH, PEAK = 1500, 64, 1e-3
HIDDEN = 0.15  # of the characters

State = dict[str, Any]


def bert_config(**changes: Any) -> Any:
    """Dropout and initial weights as in the library's default."""
    from transformers import BertConfig

    settings = {
        "vocab_size": CHARACTERS,
        "hidden_size": WIDTH,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "intermediate_size": 4 * WIDTH,
        "max_position_embeddings": LENGTH,
        "pad_token_id": PAD,
    }
    return BertConfig(**{**settings, **changes})


def bert_weights() -> State:
    """Weights of a `BertForMaskedLM`: AdamW, lr up for a tenth of the steps, then down to zero."""
    from transformers import BertForMaskedLM

    text = characters(standard_library())
    torch.manual_seed(0)
    config = bert_config(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model = BertForMaskedLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, weight_decay=0.01, fused=True)
    generator = torch.Generator().manual_seed(0)
    for step in range(STEPS):
        done = step / STEPS
        optimizer.param_groups[0]["lr"] = PEAK * min(10 * done + 1e-3, (1 - done) / 0.9)
        loss = masked_loss(model, text, generator)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.state_dict()  # type: ignore[no-any-return]


def masked_loss(model: Any, text: Tensor, generator: torch.Generator) -> Tensor:
    """Mean cross entropy of the hidden characters in a batch of passages from anywhere."""
    starts = torch.randint(len(text) - LENGTH, (BATCH, 1), generator=generator)
    rows = text[starts + torch.arange(LENGTH)].long()
    rows[:, 0] = CLS
    hidden = (torch.rand(rows.shape, generator=generator) < HIDDEN) & (rows > SEP)
    states = model.bert(input_ids=rows.masked_fill(hidden, MASK)).last_hidden_state
    # The logits of the others, most of the work, are not needed.
    return F.cross_entropy(model.cls(states[hidden]), rows[hidden])
