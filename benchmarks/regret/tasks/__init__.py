"""The tasks of the regret benchmark, in a fixed order."""

from __future__ import annotations

from benchmarks.regret.kinds import Kind
from benchmarks.regret.problem import Problem, Task
from benchmarks.regret.tasks import (
    finetune,
    held_back,
    kinds_images,
    kinds_text,
    synthetic,
    tabular,
    text,
    vision,
)

__all__ = ["KINDS", "TASKS", "Kind", "Problem", "Task", "by_name", "group", "suite"]

TASKS: tuple[Task, ...] = (
    *synthetic.TASKS,
    *tabular.TASKS,
    *vision.TASKS,
    *text.TASKS,
    *finetune.TASKS,
)

#: Further kinds of training, a benchmark of their own.
KINDS: tuple[Kind, ...] = (*kinds_text.KINDS, *kinds_images.KINDS, *held_back.KINDS)


def by_name(name: str) -> Task:
    """The task of that name.

    Raises:
        KeyError: there is none; the message lists the names.
    """
    for task in (*TASKS, *KINDS):
        if task.name == name:
            return task
    known = ", ".join(task.name for task in (*TASKS, *KINDS))
    raise KeyError(f"no task named {name!r}; known: {known}")


def group(task: Task) -> str:
    """The group under which a task is summed up: its optimizer's family, or its kind."""
    return task.model if isinstance(task, Kind) else task.family


def suite(task: Task) -> str:
    """The benchmark that a task belongs to: "full", "kinds" or "held-back"."""
    if not isinstance(task, Kind):
        return "full"
    return "held-back" if task.held_back else "kinds"
