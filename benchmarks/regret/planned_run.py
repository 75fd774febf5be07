"""The planned run one piece at a time, for contestants that train pieces of it themselves."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._pytree import tree_leaves

from benchmarks.regret.kinds import Kind
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
        self._accumulate, self._clip = 1, None
        if isinstance(task, Kind):
            self._accumulate, self._clip = task.accumulate, task.clip_grad_norm
        self.problem.model.train()
        set_mode(self._optimizer, "train")

    def advance(self, until: int) -> bool:
        """Train to ``until`` updates in all, or to the first loss that is not finite.

        Returns:
            Whether every loss was finite.
        """
        while self.alive and self.done < until:
            for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
                group["lr"] = peak * float(self._shape[self.done])
            self._optimizer.zero_grad()
            self.alive = all(self._backward() for _ in range(self._accumulate))
            if self.alive:
                if self._clip is not None:
                    nn.utils.clip_grad_norm_(self.problem.model.parameters(), self._clip)
                self._optimizer.step()
                self.done += 1
        return self.alive

    def _backward(self) -> bool:
        """Add the gradient of the next batch; return whether its loss was finite."""
        inputs, targets = next(self._batches)
        output = self.problem.model(inputs)
        try:
            loss = self.problem.loss_fn(output, targets) / self._accumulate
        except (RuntimeError, ValueError):
            # A loss that checks its arguments raises where the run has diverged.
            if all(bool(part.isfinite().all()) for part in tree_leaves(output)):
                raise
            return False
        if not math.isfinite(loss.item()):
            return False
        loss.backward()  # type: ignore[no-untyped-call]
        return True

    def held_out(self) -> float | None:
        """The held-out loss now, or None when the run has diverged."""
        if not self.alive:
            return None
        set_mode(self._optimizer, "eval")
        try:
            loss = held_out_loss(self.problem)
        except (RuntimeError, ValueError):
            # Its last update diverged, where the training loss is finite before.
            if self.done and not self._backward():
                return None
            raise
        finally:
            set_mode(self._optimizer, "train")
        return loss if math.isfinite(loss) else None


def trained_loss(task: Task, lr: float, seed: int) -> float | None:
    """Train the whole planned run at peak lr `lr` and return the held-out loss.

    As `runs.final_loss`, for tasks that accumulate, clip, raise when they diverge or have an
    optimizer with modes.
    """
    run = PlannedRun(task, seed, lr)
    run.advance(task.train_steps)
    return run.held_out()


def set_mode(optimizer: torch.optim.Optimizer, mode: str) -> None:
    """Put an optimizer that has modes (Schedule-Free) into "train" or "eval"."""
    switch = getattr(optimizer, mode, None)
    if switch is not None:
        switch()


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
