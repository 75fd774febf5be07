"""Train a demo for a while at given learning rates, to see what a suggestion is worth.

An ordinary PyTorch training loop that uses nothing of the search.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["Trial", "run_trial", "trial_table"]


@dataclass(frozen=True)
class Trial:
    """What a short training came to.

    Attributes:
        lr: the constant learning rate.
        updates: how many updates were made.
        loss: held-out loss afterwards; NaN or infinite when the training broke.
        accuracy: share of the held-out targets that the largest output names, in [0, 1].
    """

    lr: float
    updates: int
    loss: float
    accuracy: float


def run_trial(make: Callable[[], dict[str, Any]], lr: float, updates: int, seed: int = 0) -> Trial:
    """Build a demo anew, train it at ``lr`` and measure it on its held-out data.

    Args:
        make: returns the demo, with the same weights and order of batches every time.
        lr: learning rate of every update.
        updates: number of updates.
        seed: seed of whatever else is random, such as dropout.
    """
    demo = make()
    model, optimizer, loss_fn = demo["model"], demo["optimizer"], demo["loss_fn"]
    for group in optimizer.param_groups:
        group["lr"] = lr
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model.train()
        for inputs, targets in itertools.islice(_endless(demo["train_loader"]), updates):
            optimizer.zero_grad()
            loss_fn(model(inputs), targets).backward()
            optimizer.step()
    loss, accuracy = _measure(demo)
    return Trial(lr, updates, loss, accuracy)


def trial_table(trials: Sequence[Trial], found: float) -> Table:
    """Return a table of the trials, the best held-out loss in bold and ``found`` marked."""
    from rich.table import Table

    table = Table(title=f"{trials[0].updates} updates from the same start")
    for name in ("learning rate", "held-out loss", "accuracy"):
        table.add_column(name, justify="right")
    table.add_column("")
    finite = [trial.loss for trial in trials if math.isfinite(trial.loss)]
    for trial in trials:
        best = bool(finite) and trial.loss == min(finite)
        words = [word for word, holds in (("found", trial.lr == found), ("best", best)) if holds]
        table.add_row(
            f"{trial.lr:.3g}",
            f"{trial.loss:.4f}",
            f"{trial.accuracy:.1%}",
            ", ".join(words),
            style="bold" if best else None,
        )
    return table


def _measure(demo: dict[str, Any]) -> tuple[float, float]:
    model, loss_fn = demo["model"].eval(), demo["loss_fn"]
    loss = right = count = batches = 0.0
    with torch.no_grad():
        for inputs, targets in demo["val_loader"]:
            outputs = model(inputs)
            loss += float(loss_fn(outputs, targets)) * len(targets)
            batches += len(targets)
            right += float((outputs.argmax(dim=-1) == targets).sum())
            count += targets.numel()
    return loss / batches, right / count


def _endless(loader: Any) -> Iterator[Any]:
    while True:
        yield from loader
