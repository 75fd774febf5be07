"""The planned run of a task at one lr: the ground truth everything else is judged by."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from benchmarks.regret.problem import Loader, Problem, Task
from lrsearch.core.schedule import multipliers


def held_out_loss(problem: Problem) -> float:
    """Mean loss over the validation set in eval mode; the model's mode is put back."""
    was_training = problem.model.training
    problem.model.eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for inputs, targets in problem.val_loader:
            loss = problem.loss_fn(problem.model(inputs), targets)
            total, count = total + loss.item() * len(inputs), count + len(inputs)
    problem.model.train(was_training)
    return total / count


def final_loss(task: Task, lr: float, seed: int) -> float | None:
    """Train the whole planned run at peak lr `lr` and return the held-out loss.

    Args:
        task: gives the run.
        lr: peak lr of the first parameter group; the other groups keep their ratio to it.
        seed: of weights, data order and dropout.

    Returns:
        The loss, or None as soon as a training loss is not finite (or the final one is not).
    """
    problem = task.build(seed)
    groups = problem.optimizer.param_groups
    ratios = [group["lr"] / groups[0]["lr"] for group in groups]
    batches = _forever(problem.train_loader)
    problem.model.train()
    for multiplier in multipliers(task.schedule, task.train_steps):
        for group, ratio in zip(groups, ratios, strict=True):
            group["lr"] = lr * ratio * float(multiplier)
        inputs, targets = next(batches)
        loss = problem.loss_fn(problem.model(inputs), targets)
        if not math.isfinite(loss.item()):
            return None
        problem.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        problem.optimizer.step()
    final = held_out_loss(problem)
    return final if math.isfinite(final) else None


def _forever(loader: Loader) -> Iterator[Any]:
    while True:
        yield from loader
