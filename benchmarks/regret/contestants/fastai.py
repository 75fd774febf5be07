"""fastai's ``Learner.lr_find`` with its four suggestions, which read the same curve.

J. Howard, S. Gugger and others, https://docs.fast.ai/callback.schedule.html. One range test from
1e-7 to 10 in 100 steps answers for all four; each is charged for the whole of it. All parameter
groups are set to the same lr, so its number is read as that of the first group.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import tempfile
from collections.abc import Callable
from typing import Any

from benchmarks.regret.contestants.contestant import (
    Answer,
    Contestant,
    described,
    measured,
)
from benchmarks.regret.problem import Task

RULES = ("valley", "slide", "minimum", "steep")


@functools.lru_cache(maxsize=8)
def _range_test(task: Task, seed: int, steps: int) -> tuple[Answer, dict[str, Answer]]:
    """One range test: what it cost, and what every rule said about its curve."""
    from fastai.callback import schedule
    from fastai.data.core import DataLoaders
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    problem = task.build(seed)
    said: dict[str, Answer] = {}
    rules = tuple(_guarded(getattr(schedule, name), said) for name in RULES)

    def search() -> float:
        with tempfile.TemporaryDirectory() as folder:
            learner = Learner(
                DataLoaders(problem.train_loader, problem.val_loader),
                problem.model,
                loss_func=problem.loss_fn,
                opt_func=lambda *_, **__: OptimWrapper(opt=problem.optimizer),
                path=folder,
            )
            with learner.no_bar():
                learner.lr_find(num_it=steps, show_plot=False, suggest_funcs=rules)
        return math.nan

    return measured(problem, seed, search), said


def _guarded(rule: Callable[..., Any], said: dict[str, Answer]) -> Callable[..., Any]:
    """The rule, which writes down what it says; its crash does not take the others along."""

    @functools.wraps(rule)
    def guarded(lrs: Any, losses: Any, num_it: int) -> Any:
        try:
            lr, point = rule(lrs, losses, num_it)
        except Exception as error:
            said[rule.__name__] = Answer(None, message=described(error))
            return math.nan, (math.nan, math.nan)
        said[rule.__name__] = Answer(float(lr))
        return lr, point

    return guarded


def suggest(task: Task, seed: int, steps: int = 100, *, rule: str) -> Answer:
    """The suggestion of one rule.

    Args:
        task: gives model, optimizer, loss and loader.
        seed: of the problem and of all random states.
        steps: updates asked for; 100 is the default.
        rule: one of `RULES`.
    """
    run, said = _range_test(task, seed, steps)
    answer = said.get(rule, Answer(None, message=run.message))
    return dataclasses.replace(answer, steps=run.steps, seconds=run.seconds)


FASTAI = tuple(
    Contestant(
        name=f"fastai-{rule}",
        kind="finder",
        title=f"fastai lr_find, {rule}",
        package="fastai",
        run=functools.partial(suggest, rule=rule),
        at_steps=functools.partial(suggest, rule=rule),
    )
    for rule in RULES
)
