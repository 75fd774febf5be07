"""Who is asked about the fine-tunings: ours through its `Trainer` front door, and the others.

The other tools are those of `benchmarks.regret.contestants`, called in the same way: they get the
model with its outputs reduced to logits, the loss as a function, AdamW and a data loader.
"""

from __future__ import annotations

import functools
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import lrsearch
from benchmarks.finetune.tasks import BATCH, DEFAULT_LR, FineTuning, by_name, make_trainer
from benchmarks.regret.contestants import CONTESTANTS as OTHERS
from benchmarks.regret.contestants import Answer, Contestant
from benchmarks.regret.contestants.contestant import quiet, seed_everything
from benchmarks.regret.problem import Problem, Task, loaders

BUDGETS = (0.3, 1.0, 3.0)  # planned runs
OTHER_TOOLS = ("torch-lr-finder", "torch-lr-finder-bare", "lightning")


def find(task: Task, seed: int, method: Any) -> Answer:
    """The answer of ``lrsearch.integrations.transformers.find_lr_for``."""
    from lrsearch.integrations.transformers import find_lr_for

    trainer = make_trainer(by_name(task.name), seed)
    with quiet():
        seed_everything(seed)
        began = time.perf_counter()
        result = find_lr_for(trainer, method=method, progress=False, throw=False)
        seconds = time.perf_counter() - began
    found = result.status.found
    message = "" if result.status is lrsearch.Status.FOUND else result.status.name
    return Answer(result.lr if found else None, result.cost.steps, seconds, message)


def _default(task: Task, seed: int) -> Answer:
    return Answer(DEFAULT_LR)


def _ours(name: str, title: str, method: Any) -> Contestant:
    return Contestant(name, "ours", title, "lrsearch", functools.partial(find, method=method))


CONTESTANTS: tuple[Contestant, ...] = (
    *(
        _ours(f"race-{b:g}", f"lrsearch race, budget {b:g}", lrsearch.Race(budget=b))
        for b in BUDGETS
    ),
    _ours("range", "lrsearch range", "range"),
    *(other for other in OTHERS if other.name in OTHER_TOOLS),
    Contestant("default", "default", "the default of Trainer: 5e-5", "transformers", _default),
)


class Logits(nn.Module):
    """A model of transformers that takes token rows and returns logits."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, rows: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids=rows).logits
        return logits


def next_token_loss(logits: Tensor, rows: Tensor) -> Tensor:
    """Mean cross entropy of the next token; logits (n, length, vocabulary), rows (n, length)."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), rows[:, 1:].flatten())


def as_problem(task: FineTuning, seed: int) -> Problem:
    """The task as the other tools want it."""
    data, model = task.data(), Logits(task.model(seed))
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=DEFAULT_LR, weight_decay=0.0)
    loss = next_token_loss if data.train[1].dim() == 2 else F.cross_entropy
    return Problem(model, optimizer, loss, *loaders(data.train, data.held_out, BATCH, seed))


def as_task(task: FineTuning) -> Task:
    """The task as `benchmarks.regret` knows tasks."""
    build = functools.partial(as_problem, task)
    return Task(task.name, "transformer", "AdamW", task.steps, "linear", BATCH, build)
