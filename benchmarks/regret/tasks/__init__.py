"""The tasks of the regret benchmark, in a fixed order."""

from __future__ import annotations

from benchmarks.regret.problem import Problem, Task
from benchmarks.regret.tasks import finetune, synthetic, tabular, text, vision

__all__ = ["TASKS", "Problem", "Task", "by_name"]

TASKS: tuple[Task, ...] = (
    *synthetic.TASKS,
    *tabular.TASKS,
    *vision.TASKS,
    *text.TASKS,
    *finetune.TASKS,
)


def by_name(name: str) -> Task:
    """The task of that name.

    Raises:
        KeyError: there is none; the message lists the names.
    """
    for task in TASKS:
        if task.name == name:
            return task
    known = ", ".join(task.name for task in TASKS)
    raise KeyError(f"no task named {name!r}; known: {known}")
