"""Short runs as people try things out, of kinds that the other tasks lack."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.regret.problem import Task

WARM = 0.1  # of a run that warms up


@dataclass(frozen=True)
class Kind(Task):
    """A task with what a training loop may do besides: accumulate, clip.

    Attributes:
        accumulate: batches whose mean gradient makes one update.
        clip_grad_norm: largest norm of the gradient, or None.
        held_back: chosen after the methods were fixed; reported apart.
    """

    accumulate: int = 1
    clip_grad_norm: float | None = None
    held_back: bool = False


def warmup_cosine_tenth(step: int, total: int) -> float:
    """Rise in a line over the first tenth, then fall along half a cosine to a tenth of the peak.

    The schedule of A. Karpathy's nanoGPT.
    """
    warm = max(1, round(WARM * total))
    if step < warm:
        return (step + 1) / warm
    share = (step - warm) / max(1, total - warm)
    return 0.1 + 0.45 * (1.0 + math.cos(math.pi * share))


def warmup_cosine(step: int, total: int) -> float:
    """Rise in a line over the first fifth, then fall along half a cosine to zero."""
    warm = max(1, round(2 * WARM * total))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1, total - warm)))


def warmup_linear(step: int, total: int) -> float:
    """Rise in a line over the first tenth, then fall in a line to zero."""
    warm = max(1, round(WARM * total))
    return min((step + 1) / warm, (total - step) / max(1, total - warm))


def schedule_name(task: Task) -> str:
    """The schedule in words."""
    if isinstance(task.schedule, str):
        return task.schedule
    return task.schedule.__name__.replace("_", " ")
