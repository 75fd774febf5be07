"""The planned run: how long the trainer is going to train, and how its scheduler moves."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import Trainer

from lrsearch.core.schedule import SHAPES, Shape, multipliers
from lrsearch.errors import InvalidArgument, Words
from lrsearch.pytorch.schedulers import planned_schedule, unwrapped

__all__ = ["Planned", "planned_run"]


@dataclass(frozen=True)
class Planned:
    """What is left of the training that has begun.

    Attributes:
        steps: updates to be made.
        schedule: shape of the learning rate over them.
        peak: the highest learning rate over them, of the first group that learns.
        over_base: that over the scheduler's base, which ``args.learning_rate`` is by default.
    """

    steps: int
    schedule: str | Shape
    peak: float
    over_base: float


def planned_run(trainer: Trainer) -> Planned:
    """Return the rest of the training that has begun, as the trainer's scheduler has it.

    Raises:
        InvalidArgument: no updates are left.
    """
    done, total = trainer.state.global_step, trainer.state.max_steps
    if total <= done:
        raise InvalidArgument.of(
            "trainer",
            Words(f"a training that is over ({done} of {total} updates)"),
            "updates to plan for",
            "Search when train() has returned: the next training is then the planned run.",
        )
    scheduler = unwrapped(trainer.lr_scheduler)
    groups = scheduler.optimizer.param_groups
    base = next((rate for rate in map(_base, groups) if rate > 0.0), 0.0)
    if base == 0.0:  # refused later, for what it is
        return Planned(total - done, "constant", 0.0, 1.0)
    table = planned_schedule(scheduler, total - done)
    if isinstance(table, str):  # goes by a metric: from here on as it is now
        now = next((rate for group in groups if (rate := float(group["lr"])) > 0.0), base)
        return Planned(total - done, table, now, now / base)
    over_base = table.peak_over_base or 1.0
    over_base = 1.0 if abs(over_base - 1.0) < 1e-9 else over_base
    name = str(trainer.args.lr_scheduler_type.value)
    shape = _named(np.array(table.multipliers)) or replace(table, name=name)
    return Planned(total - done, shape, base * over_base, over_base)


def _base(group: dict[str, Any]) -> float:
    return float(group.get("initial_lr", group["lr"]))


def _named(values: npt.NDArray[np.float64]) -> str | None:
    """Return the name by which lrsearch knows these multipliers."""
    for name in SHAPES:
        if np.allclose(multipliers(name, len(values)), values, rtol=0.0, atol=1e-9):
            return name
    return None
