"""The methods of lrsearch, each through the front door ``find_lr`` with its own defaults."""

from __future__ import annotations

import functools
import time
from typing import Any

import lrsearch
from benchmarks.regret.contestants.contestant import Answer, Contestant, quiet, seed_everything
from benchmarks.regret.contestants.replay import replayed_sweep
from benchmarks.regret.kinds import Kind
from benchmarks.regret.problem import Task

BUDGETS = (0.3, 1.0, 3.0)  # planned runs


def find(task: Task, seed: int, method: Any) -> Answer:
    """The answer of ``lrsearch.find_lr``, which is told the planned run."""
    problem = task.build(seed)
    with quiet():
        seed_everything(seed)
        began = time.perf_counter()
        result = lrsearch.find_lr(
            problem.model,
            problem.optimizer,
            problem.loss_fn,
            problem.train_loader,
            val_loader=problem.val_loader,
            train_steps=task.train_steps,
            schedule=task.schedule,
            method=method,
            seed=seed,
            progress=False,
            throw=False,
            **_loop(task),
        )
        seconds = time.perf_counter() - began
    found = result.status.found
    return Answer(
        lr=result.lr if found else None,
        steps=result.cost.steps,
        seconds=seconds,
        message="" if result.status is lrsearch.Status.FOUND else result.status.name,
        low=result.low if found else None,
        high=result.high if found else None,
    )


def _loop(task: Task) -> dict[str, Any]:
    """What the training loop of a task does besides."""
    if not isinstance(task, Kind):
        return {}
    return {"accumulate": task.accumulate, "clip_grad_norm": task.clip_grad_norm}


def range_at_steps(task: Task, seed: int, steps: int) -> Answer:
    return find(task, seed, lrsearch.RangeTest(steps=steps))


def _races() -> tuple[Contestant, ...]:
    """One race per budget, as soon as this version of lrsearch has it."""
    race = getattr(lrsearch, "Race", None)
    if race is None:
        return ()
    return tuple(
        Contestant(
            name=f"race-{budget:g}",
            kind="ours",
            title=f"lrsearch race, budget {budget:g}",
            package="lrsearch",
            run=functools.partial(find, method=race(budget=budget)),
        )
        for budget in BUDGETS
    )


OURS = (
    Contestant(
        name="range",
        kind="ours",
        title="lrsearch range",
        package="lrsearch",
        run=functools.partial(find, method="range"),
        at_steps=range_at_steps,
    ),
    Contestant(
        name="ladder",
        kind="ours",
        title="lrsearch ladder",
        package="lrsearch",
        run=functools.partial(find, method="ladder"),
    ),
    *_races(),
    Contestant(
        name="sweep",
        kind="ours",
        title="lrsearch sweep (replayed)",
        package="lrsearch",
        run=replayed_sweep,
    ),
)
