"""The numbers people use without searching: one lr per optimizer."""

from __future__ import annotations

from benchmarks.regret.contestants.contestant import Answer, Contestant
from benchmarks.regret.problem import Task

ADAM, SGD = 1e-3, 1e-1

# Families without a customary number take the default of torch's own constructor.
DEFAULTS = {
    "Adam": ADAM,
    "AdamW": ADAM,
    "SGD": SGD,
    "heavy ball": SGD,
    "Nesterov": SGD,
    "RMSprop": 1e-2,
    "Adagrad": 1e-2,
    "Muon": 1e-3,
    "Schedule-Free AdamW": 2.5e-3,
    "Muon with AdamW": 0.02,
}


def default_lr(task: Task, seed: int) -> Answer:
    """The default of the task's optimizer family, at no cost."""
    return Answer(DEFAULTS[task.family])


FIXED = (
    Contestant(
        name="default",
        kind="default",
        title="fixed: Adam 1e-3, SGD 1e-1, others torch's default",
        package="torch",
        run=default_lr,
    ),
)
