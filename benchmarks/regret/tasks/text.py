"""Text and code that ship with Python."""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.regret.data import (
    CHARACTERS,
    PACKAGES,
    Split,
    code,
    lines_as_words,
    prose,
    windows,
)
from benchmarks.regret.losses import token_cross_entropy
from benchmarks.regret.models import BagOfWords, CharLSTM, CharMLP, LanguageModel, Transformer
from benchmarks.regret.problem import Problem, Task, loaders

CONTEXT = 8


def transformer_adamw(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = windows(prose(), 32)
    model = LanguageModel(Transformer(CHARACTERS, 32), CHARACTERS)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    return Problem(model, optimizer, token_cross_entropy, *loaders(train, val, 16, seed))


def transformer_nesterov(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = windows(code(), 16)
    model = LanguageModel(Transformer(CHARACTERS, 16, depth=1), CHARACTERS)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    return Problem(model, optimizer, token_cross_entropy, *loaders(train, val, 16, seed))


def lstm_adam(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = windows(prose(), 24)
    model = CharLSTM(CHARACTERS)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    return Problem(model, optimizer, token_cross_entropy, *loaders(train, val, 16, seed))


def next_character() -> Split:
    """The character after eight others, in the standard library's code."""
    (x, y), (x_val, y_val) = windows(code(), CONTEXT, held_out=2000)
    return (x, y[:, -1]), (x_val, y_val[:, -1])


def char_mlp_sgd(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = next_character()
    model = CharMLP(CHARACTERS, CONTEXT)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(train, val, 32, seed))


def words_adagrad(seed: int) -> Problem:
    torch.manual_seed(seed)
    train, val = lines_as_words()
    model = BagOfWords(2000, len(PACKAGES))
    optimizer = torch.optim.Adagrad(model.parameters(), lr=0.01)
    return Problem(model, optimizer, nn.CrossEntropyLoss(), *loaders(train, val, 32, seed))


TASKS = (
    Task(
        name="prose-transformer-adamw",
        model="character transformer",
        family="AdamW",
        train_steps=250,
        schedule="cosine",
        batch_size=16,
        build=transformer_adamw,
    ),
    Task(
        name="code-transformer-nesterov",
        model="character transformer",
        family="Nesterov",
        train_steps=400,
        schedule="one-cycle",
        batch_size=16,
        build=transformer_nesterov,
    ),
    Task(
        name="prose-lstm-adam",
        model="LSTM",
        family="Adam",
        train_steps=200,
        schedule="constant",
        batch_size=16,
        build=lstm_adam,
    ),
    Task(
        name="code-mlp-sgd",
        model="character MLP",
        family="SGD",
        train_steps=3000,
        schedule="wsd",
        batch_size=32,
        build=char_mlp_sgd,
    ),
    Task(
        name="words-embeddingbag-adagrad",
        model="embedding bag",
        family="Adagrad",
        train_steps=1000,
        schedule="linear",
        batch_size=32,
        build=words_adagrad,
    ),
)
