"""The planned run: how long the trainer is going to train, and how its scheduler moves."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from transformers import Trainer

from lrsearch.core.schedule import SHAPES, Shape, multipliers
from lrsearch.errors import InvalidArgument, Words
from lrsearch.integrations.scheduler import PlannedSchedule, copied_with, stand_in

__all__ = ["planned_run"]

_BY_METRIC = ("ReduceLROnPlateau", "GreedyLR")  # these go by what they are told of the training


def planned_run(trainer: Trainer) -> tuple[int, str | Shape]:
    """Return how many updates are left of the training that has begun, and their schedule.

    Raises:
        InvalidArgument: none are left, or the scheduler rises above its base.
    """
    done, total = trainer.state.global_step, trainer.state.max_steps
    if total <= done:
        raise InvalidArgument.of(
            "trainer",
            Words(f"a training that is over ({done} of {total} updates)"),
            "updates to plan for",
            "Search when train() has returned: the next training is then the planned run.",
        )
    name = str(trainer.args.lr_scheduler_type.value)
    values = _ahead(trainer.lr_scheduler, total - done)
    if values.max() > 1.0 + 1e-9:
        raise InvalidArgument.of(
            "trainer.lr_scheduler",
            Words(f"a scheduler that rises to {values.max():.3g} times its base learning rate"),
            "one that stays at or below it",
            "Pass the shape of its learning rate as schedule=...",
        )
    return total - done, _named(values) or PlannedSchedule(name, tuple(values.tolist()))


def _ahead(scheduler: Any, steps: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return what a copy of the scheduler does in the next updates, over the base rate."""
    if type(scheduler).__name__ in _BY_METRIC:
        return np.ones(steps)
    moved = stand_in(scheduler.optimizer)
    twin = copied_with(scheduler, moved)
    group = moved.param_groups[0]
    base = float(group["initial_lr"]) or 1.0  # a rate of zero is refused later, for what it is
    lrs = []
    with warnings.catch_warnings():
        # It steps without its optimizer, which is what it would warn about.
        warnings.simplefilter("ignore")
        for _ in range(steps):
            lrs.append(float(group["lr"]))
            twin.step()
    return np.array(lrs) / base


def _named(values: np.ndarray[Any, np.dtype[np.float64]]) -> str | None:
    """Return the name by which lrsearch knows these multipliers."""
    for name in SHAPES:
        if np.allclose(multipliers(name, len(values)), values, rtol=0.0, atol=1e-9):
            return name
    return None
