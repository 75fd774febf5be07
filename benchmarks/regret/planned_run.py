"""The planned run one piece at a time, for contestants that train pieces of it themselves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from benchmarks.regret.problem import Loader, Problem, Task
from benchmarks.regret.runs import held_out_loss
from lrsearch.core.schedule import multipliers

MakeOptimizer = Callable[[Problem], torch.optim.Optimizer]


class PlannedRun:
    """A run of a task that is advanced step by step; the same training as the oracle's.

    Args:
        task: gives the run.
        seed: of weights, data order and dropout.
        lr: peak lr of the first parameter group; the others keep their ratio to it.
        steps: length over which the schedule is laid, by default that of the planned run.
        make_optimizer: another optimizer in place of the task's own.

    Attributes:
        done: updates made.
        alive: whether every training loss was finite so far.
    """

    def __init__(
        self,
        task: Task,
        seed: int,
        lr: float,
        steps: int | None = None,
        make_optimizer: MakeOptimizer | None = None,
    ) -> None:
        self.problem = task.build(seed)
        self.done = 0
        self.alive = True
        self._optimizer = (
            self.problem.optimizer if make_optimizer is None else make_optimizer(self.problem)
        )
        first = self._optimizer.param_groups[0]["lr"]
        self._peaks = [lr * group["lr"] / first for group in self._optimizer.param_groups]
        self._shape = multipliers(task.schedule, task.train_steps if steps is None else steps)
        self._batches = _forever(self.problem.train_loader)
        self.problem.model.train()

    def advance(self, until: int) -> bool:
        """Train to ``until`` updates in all, or to the first loss that is not finite.

        Returns:
            Whether every loss was finite.
        """
        problem = self.problem
        while self.alive and self.done < until:
            for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
                group["lr"] = peak * float(self._shape[self.done])
            inputs, targets = next(self._batches)
            loss = problem.loss_fn(problem.model(inputs), targets)
            if not math.isfinite(loss.item()):
                self.alive = False
                break
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()
            self.done += 1
        return self.alive

    def held_out(self) -> float | None:
        """The held-out loss now, or None when the run has diverged."""
        loss = held_out_loss(self.problem) if self.alive else math.nan
        return loss if math.isfinite(loss) else None


def planned_seconds(task: Task, lr: float, seed: int = 0, warm: int = 5, timed: int = 40) -> float:
    """Wall time of one planned run with its final evaluation, from a timed piece of it."""
    run = PlannedRun(task, seed, lr)
    run.advance(warm)
    began = time.perf_counter()
    run.advance(warm + timed)
    per_step = (time.perf_counter() - began) / max(run.done - warm, 1)
    began = time.perf_counter()
    held_out_loss(run.problem)
    return per_step * task.train_steps + time.perf_counter() - began


def _forever(loader: Loader) -> Iterator[Any]:
    while True:
        yield from loader
