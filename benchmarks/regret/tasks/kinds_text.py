"""Further kinds of training on text: a GPT, a word-level LSTM, a trained net to be trained on."""

from __future__ import annotations

import collections
import functools
import re
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.regret.data import CHARACTERS, Split, code, prose, windows
from benchmarks.regret.kinds import Kind, warmup_cosine_tenth
from benchmarks.regret.losses import token_cross_entropy
from benchmarks.regret.models import CharLSTM, Transformer
from benchmarks.regret.problem import Problem, loaders
from benchmarks.regret.tasks.finetune import pretrained

CONTEXT = 32
VOCABULARY = 400
SENTENCE = 20


class GPT(nn.Module):
    """A character GPT whose last layer is its embedding (A. Karpathy's nanoGPT, small)."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Transformer(CHARACTERS, CONTEXT)

    def forward(self, characters: Tensor) -> Tensor:
        return F.linear(self.backbone(characters), self.backbone.embed.weight)


def gpt(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = GPT()
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=6e-4, betas=(0.9, 0.95))
    return Problem(
        model, optimizer, token_cross_entropy, *loaders(*windows(code(), CONTEXT), 8, seed)
    )


@functools.cache
def words(vocabulary: int = VOCABULARY, length: int = SENTENCE) -> Split:
    """The next word or sign of the standard library's code, rare ones as number 0."""
    text = "".join(chr(31 + c) if c else "\n" for c in code().tolist())
    found = re.findall(r"[A-Za-z_]+|[0-9]+|[^\sA-Za-z_0-9]|\n", text)
    common = collections.Counter(found).most_common(vocabulary - 1)
    number = {word: 1 + rank for rank, (word, _) in enumerate(common)}
    return windows(torch.tensor([number.get(word, 0) for word in found]), length)


class WordLSTM(nn.Module):
    """An LSTM with dropout over words."""

    def __init__(self, hidden: int = 48) -> None:
        super().__init__()
        self.drop = nn.Dropout(0.2)
        self.embed = nn.Embedding(VOCABULARY, hidden)
        self.lstm = nn.LSTM(hidden, hidden, batch_first=True)
        self.head = nn.Linear(hidden, VOCABULARY)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.drop(self.embed(tokens)))
        logits: Tensor = self.head(self.drop(states))
        return logits


def word_lstm(seed: int) -> Problem:
    torch.manual_seed(seed)
    model = WordLSTM()
    optimizer = torch.optim.SGD(model.parameters(), lr=20.0)
    return Problem(model, optimizer, token_cross_entropy, *loaders(*words(), 16, seed))


def trained_lstm() -> dict[str, Any]:
    """A character LSTM after 800 updates of Adam at 0.01, and its optimizer."""
    torch.manual_seed(0)
    model = CharLSTM(CHARACTERS)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    train_loader, _ = loaders(*windows(prose(), CONTEXT), batch_size=16, seed=0)
    for (inputs, targets), _ in zip(train_loader, range(800), strict=False):
        optimizer.zero_grad()
        token_cross_entropy(model(inputs), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return {"model": model.state_dict(), "optimizer": optimizer.state_dict()}


def trained_further(seed: int) -> Problem:
    state = pretrained(trained_lstm)
    torch.manual_seed(seed)
    model = CharLSTM(CHARACTERS)
    model.load_state_dict(state["model"])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    optimizer.load_state_dict(state["optimizer"])
    loaded = loaders(*windows(prose(), CONTEXT), 16, seed + 1)
    return Problem(model, optimizer, token_cross_entropy, *loaded)


KINDS = (
    Kind(
        name="kind-gpt-adamw",
        model="GPT from scratch",
        family="AdamW",
        train_steps=150,
        schedule=warmup_cosine_tenth,
        batch_size=8,
        build=gpt,
        note="accumulates 2 batches, clips at 1, two groups, warmup",
        accumulate=2,
        clip_grad_norm=1.0,
    ),
    Kind(
        name="kind-wordlstm-sgd",
        model="word-level LSTM",
        family="SGD",
        train_steps=150,
        schedule="constant",
        batch_size=16,
        build=word_lstm,
        note="plain SGD, clipped at 0.25",
        clip_grad_norm=0.25,
    ),
    Kind(
        name="kind-further-adam",
        model="trained net, trained on",
        family="Adam",
        train_steps=200,
        schedule="linear",
        batch_size=16,
        build=trained_further,
        note="a character LSTM after 800 updates, with its optimizer's state",
    ),
)
