"""What a contestant is, and how it is asked: its crashes are answers too."""

from __future__ import annotations

import contextlib
import io
import math
import random
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.environment import version
from benchmarks.regret.problem import Problem, Task

NOT_INSTALLED = "not installed"


@dataclass(frozen=True)
class Answer:
    """What a contestant said about one task with one seed.

    Attributes:
        lr: the suggested peak lr of the first parameter group; None when there is none.
        steps: optimizer updates spent on the answer, over all lanes or trials.
        seconds: wall time spent on it.
        message: why there is no answer, or a remark on it.
        loss: held-out loss after the planned run, of contestants that train it themselves
            instead of naming an lr; None for all others and where the run diverged.
        low, high: of the interval in which the best lr is said to lie, where one is said.
    """

    lr: float | None
    steps: int = 0
    seconds: float = 0.0
    message: str = ""
    loss: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Contestant:
    """One row of the benchmark.

    Attributes:
        name: by which the command line and the JSON know it.
        kind: "ours", "finder" (one range test), "search" (many trials), "lr-free" (an optimizer
            that sets its own lr and trains the planned run) or "default" (a fixed number).
        title: how the table names it.
        package: the distribution that it comes from.
        run: ``run(task, seed) -> Answer``; may raise.
        at_steps: ``at_steps(task, seed, steps) -> Answer``: the same with another number of
            updates, for tools where that is a setting.
    """

    name: str
    kind: str
    title: str
    package: str
    run: Callable[[Task, int], Answer]
    at_steps: Callable[[Task, int, int], Answer] | None = None


def ask(contestant: Contestant, task: Task, seed: int, steps: int | None = None) -> Answer:
    """Ask for an answer; an exception, a missing package and a senseless lr become messages."""
    try:
        if steps is None:
            answer = contestant.run(task, seed)
        elif contestant.at_steps is None:
            raise ValueError(f"{contestant.name} has no number of steps to set")
        else:
            answer = contestant.at_steps(task, seed, steps)
    except ImportError as error:
        if version(contestant.package) is None:
            return Answer(None, message=f"{NOT_INSTALLED}: {contestant.package}")
        return Answer(None, message=described(error))
    except Exception as error:
        return Answer(None, message=described(error))
    if answer.lr is not None and not (math.isfinite(answer.lr) and answer.lr > 0):
        remark = f"answered {answer.lr!r}"
        return Answer(None, answer.steps, answer.seconds, remark, answer.loss)
    return answer


def measured(problem: Problem, seed: int, search: Callable[[], float | None]) -> Answer:
    """Run ``search`` and count every step of the problem's optimizer and the time.

    An exception is an answer with its message, and keeps the cost that it had come to. What the
    tool prints and warns is dropped, and every random state is seeded before it starts.
    """
    steps = 0

    def count(*_: Any) -> None:
        nonlocal steps
        steps += 1

    handle = problem.optimizer.register_step_post_hook(count)
    lr, message = None, ""
    with quiet():
        seed_everything(seed)
        began = time.perf_counter()
        try:
            lr = search()
        except Exception as error:
            message = described(error)
        seconds = time.perf_counter() - began
    handle.remove()
    if lr is None and not message:
        message = "answered None"
    return Answer(None if lr is None else float(lr), steps, seconds, message)


def described(error: Exception, limit: int = 200) -> str:
    """The kind of error and its text in one line, shortened."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:limit]


def seed_everything(seed: int) -> None:
    """Seed Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002  the tools use NumPy's global state, if any
    torch.manual_seed(seed)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what is printed to standard output and error, and warnings."""
    sink = io.StringIO()
    with (
        contextlib.redirect_stdout(sink),
        contextlib.redirect_stderr(sink),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield
