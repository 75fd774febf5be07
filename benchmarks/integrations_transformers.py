"""Small models in a Hugging Face ``Trainer``, for ``benchmarks.integrations``."""

from __future__ import annotations

import functools
import tempfile
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

import lrsearch
from benchmarks.integrations_case import HIGH, LOW, Case

WORDS, LENGTH, ROWS = 512, 32, 400


class Rows(Dataset[dict[str, Tensor]]):
    """Random words and labels, row by row."""

    def __init__(self, words: Tensor, labels: Tensor) -> None:
        self.words, self.labels = words, labels

    def __len__(self) -> int:
        return len(self.words)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.words[index], "labels": self.labels[index]}


def trainer(steps: int, kind: str, **options: Any) -> Any:
    """A BERT for two classes or a GPT-2, 2 layers of width 128, batches of 8 x 32 words."""
    from transformers import (
        BertConfig,
        BertForSequenceClassification,
        GPT2Config,
        GPT2LMHeadModel,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(0)
    words = torch.randint(WORDS, (ROWS, LENGTH))
    if kind == "bert":
        data = Rows(words, torch.randint(2, (ROWS,)))
        model = BertForSequenceClassification(
            BertConfig(
                vocab_size=WORDS,
                hidden_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=512,
                max_position_embeddings=LENGTH,
            )
        )
    else:
        data = Rows(words, words)
        model = GPT2LMHeadModel(
            GPT2Config(
                vocab_size=WORDS,
                n_embd=128,
                n_layer=2,
                n_head=4,
                n_positions=LENGTH,
                bos_token_id=0,
                eos_token_id=0,
            )
        )
    arguments = TrainingArguments(
        tempfile.gettempdir(),
        use_cpu=True,
        max_steps=steps,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **options,
    )
    return Trainer(model, arguments, train_dataset=data)


def train(trainer: Any, steps: int) -> int:
    """``trainer.train()`` for ``steps`` updates."""
    trainer.train()
    return int(trainer.state.global_step)


def search(trainer: Any, steps: int) -> int:
    """A range test of ``steps`` updates."""
    from lrsearch.integrations.transformers import find_lr_for

    method = lrsearch.RangeTest(steps=steps, min_lr=LOW, max_lr=HIGH)
    return find_lr_for(trainer, method=method, progress=False, throw=False).cost.steps


def _case(name: str, kind: str, **options: Any) -> Case:
    make = functools.partial(trainer, kind=kind, **options)
    return Case(f"transformers, {name}", make, train, search)


CASES = (
    _case("BERT", "bert"),
    _case("GPT-2", "gpt2"),
    _case("GPT-2, 4 batches per update", "gpt2", gradient_accumulation_steps=4),
)
