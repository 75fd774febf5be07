"""What a scheduler of torch is going to do, read from a copy of it."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
import torch

__all__ = ["PlannedSchedule", "copied_with", "stand_in"]


@dataclass(frozen=True)
class PlannedSchedule:
    """A schedule given by the multiplier of every update; shorter runs compress it.

    Args:
        name: what to call it.
        multipliers: learning rate of each update over the peak, in [0, 1].

    Example:
        >>> warm = PlannedSchedule("warmup", (0.0, 0.5, 1.0, 1.0))
        >>> [warm(step, 4) for step in range(4)], [warm(step, 2) for step in range(2)]
        ([0.0, 0.5, 1.0, 1.0], [0.0, 1.0])
    """

    name: str
    multipliers: tuple[float, ...] = field(repr=False)

    def __call__(self, step: int, total: int) -> float:
        """Return the multiplier of an update of a run of ``total`` updates."""
        place = step * len(self.multipliers) / total
        return float(np.interp(place, range(len(self.multipliers)), self.multipliers))

    def __repr__(self) -> str:
        return f"{self.name} over {len(self.multipliers)} updates"


def stand_in(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return an optimizer of one number per group with the same options.

    Example:
        >>> adam = torch.optim.Adam([torch.zeros(9)], lr=0.25)
        >>> stand_in(adam).param_groups[0]["lr"]
        0.25
    """
    double = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    double.defaults = dict(optimizer.defaults)
    double.param_groups = [
        {**{key: copy.copy(value) for key, value in group.items()}, "params": [torch.zeros(1)]}
        for group in optimizer.param_groups
    ]
    return double


def copied_with(
    scheduler: torch.optim.lr_scheduler.LRScheduler, optimizer: torch.optim.Optimizer
) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a copy of the scheduler, and of those inside it, that moves ``optimizer`` instead."""
    return copy.deepcopy(scheduler, {id(scheduler.optimizer): optimizer})
