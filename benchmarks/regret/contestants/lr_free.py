"""Optimizers that set their own lr: they train the planned run, and their final loss is judged.

K. Mishchenko, A. Defazio, "Prodigy", arXiv 2306.06101; A. Defazio, K. Mishchenko, "Learning-Rate-
Free Learning by D-Adaptation", arXiv 2301.07733. Both ask for lr=1.0, on which the planned schedule
is laid. They take the place of the task's optimizer, so their loss can also be below the best of
the sweep, and then the regret is negative.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.regret.contestants.contestant import (
    Answer,
    Contestant,
    quiet,
    seed_everything,
)
from benchmarks.regret.planned_run import PlannedRun
from benchmarks.regret.problem import Problem, Task


def prodigy(problem: Problem) -> torch.optim.Optimizer:
    """Prodigy on all trained parameters, with the weight decay of the task's optimizer."""
    from prodigyopt import Prodigy

    made: torch.optim.Optimizer = Prodigy(_parameters(problem), lr=1.0, **_decay(problem))
    return made


def dadaptation(problem: Problem) -> torch.optim.Optimizer:
    """The variant of D-Adaptation that belongs to the task's optimizer."""
    import dadaptation as da

    optimizer = problem.optimizer
    parameters = _parameters(problem)
    made: torch.optim.Optimizer
    if isinstance(optimizer, torch.optim.SGD):
        momentum = optimizer.param_groups[0]["momentum"]
        made = da.DAdaptSGD(parameters, lr=1.0, momentum=momentum, **_decay(problem))
    elif isinstance(optimizer, torch.optim.Adagrad):
        made = da.DAdaptAdaGrad(parameters, lr=1.0, **_decay(problem))
    elif isinstance(optimizer, torch.optim.AdamW):
        made = da.DAdaptAdam(parameters, lr=1.0, decouple=True, **_decay(problem))
    else:
        made = da.DAdaptAdam(parameters, lr=1.0, **_decay(problem))
    return made


def train(make: Callable[[Problem], torch.optim.Optimizer]) -> Callable[[Task, int], Answer]:
    """How a contestant is run that trains the planned run with another optimizer.

    It searches nothing: no steps are charged, and of the time only what the run takes beyond
    that of the training itself is not known apart, so all of it is.
    """

    def run(task: Task, seed: int) -> Answer:
        with quiet():
            seed_everything(seed)
            planned = PlannedRun(task, seed, lr=1.0, make_optimizer=make)
            began = time.perf_counter()
            planned.advance(task.train_steps)
            loss = planned.held_out()
            seconds = time.perf_counter() - began
        message = "" if loss is not None else f"diverged after {planned.done} steps"
        return Answer(None, 0, seconds, message, loss)

    return run


def _parameters(problem: Problem) -> list[Any]:
    groups = problem.optimizer.param_groups
    return [p for group in groups for p in group["params"] if p.requires_grad]


def _decay(problem: Problem) -> dict[str, float]:
    return {"weight_decay": problem.optimizer.param_groups[0].get("weight_decay", 0.0)}


LR_FREE = (
    Contestant("prodigy", "lr-free", "Prodigy (trains itself)", "prodigyopt", train(prodigy)),
    Contestant(
        "dadaptation",
        "lr-free",
        "D-Adaptation (trains itself)",
        "dadaptation",
        train(dadaptation),
    ),
)
