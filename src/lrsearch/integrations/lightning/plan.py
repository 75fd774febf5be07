"""The planned run of a trainer: its length, and the shape of its learning rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from lrsearch.core.schedule import Shape
from lrsearch.errors import InvalidArgument, Words
from lrsearch.pytorch.schedulers import Twin, table_of

__all__ = ["Planned", "planned_run"]

_MOST = 1_000_000  # updates of which the schedule is read one by one


@dataclass(frozen=True)
class Planned:
    """What ``trainer.fit`` is going to do.

    Attributes:
        steps: updates still to be made, ``None`` when the trainer does not say.
        schedule: shape of the learning rate over them.
        lr: the highest learning rate of the first group over them, as it is configured.
        endless: whether the data have no length that could tell ``steps``.
    """

    steps: int | None
    schedule: str | Shape
    lr: float
    endless: bool = False


def planned_run(
    trainer: Any,
    optimizer: torch.optim.Optimizer,
    steps: int | None = None,
    *,
    configs: Sequence[Any] | None = None,
    open_ended: bool = False,
) -> Planned:
    """Return the run that ``trainer`` has before it with ``optimizer``.

    A scheduler is read by stepping a copy of it beside a stand-in for its optimizer, as
    Lightning would step it, so every scheduler of torch is known that asks for no metric;
    ``ReduceLROnPlateau`` counts as constant.

    Args:
        trainer: set up for ``fit``.
        optimizer: one of its optimizers.
        steps: the length, when the user gives it.
        configs: what Lightning knows of its schedulers, when that is not the trainer's.
        open_ended: whether the trainer's own limit is not meant as a plan.

    Raises:
        InvalidArgument: the schedule is too long to be read.
    """
    endless = False
    if steps is None and not open_ended:
        steps, endless = _steps(trainer)
    configs = [
        config
        for config in (trainer.lr_scheduler_configs if configs is None else configs)
        if config.scheduler.optimizer is optimizer and not config.reduce_on_plateau
    ]
    if not configs or not trainer.lightning_module.automatic_optimization:
        return Planned(steps, "constant", _configured(optimizer), endless)
    if steps is None:
        return Planned(None, "constant", _highest(optimizer), endless)
    if steps > _MOST:
        raise InvalidArgument.of(
            "schedule",
            Words(f"a scheduler over {steps} updates"),
            f"at most {_MOST}",
            "Pass schedule=..., one of the names of lrsearch or a callable(step, total).",
        )
    rates = _rates(trainer, configs, steps)
    if not 0.0 < rates.max() < math.inf:
        return Planned(steps, "constant", _configured(optimizer), endless)
    name = " and ".join(type(config.scheduler).__name__ for config in configs)
    peaks = rates.max(axis=0)
    peak = float(peaks[np.argmax(peaks > 0.0)])  # of the first group that learns
    return Planned(steps, table_of(name, rates, optimizer), peak, endless)


def _steps(trainer: Any) -> tuple[int | None, bool]:
    """Return the updates that are left, and whether only the data's length was missing."""
    if trainer.fast_dev_run:
        return None, False
    total = trainer.estimated_stepping_batches
    endless = trainer.num_training_batches == math.inf and trainer.max_steps == -1
    if total == math.inf or total < 1:
        return None, endless and trainer.max_epochs != -1
    # A run that is over is planned again from its start, as a new trainer would.
    return int(total) - trainer.global_step % int(total), False


def _configured(optimizer: torch.optim.Optimizer) -> float:
    group = optimizer.param_groups[0]
    return float(group.get("initial_lr", group["lr"]))


def _highest(optimizer: torch.optim.Optimizer) -> float:
    return float(optimizer.param_groups[0].get("max_lr", _configured(optimizer)))


def _rates(trainer: Any, configs: Sequence[Any], steps: int) -> npt.NDArray[np.float64]:
    """Return the learning rate of every group at every update, shape ``(steps, groups)``."""
    twin = Twin([config.scheduler for config in configs])
    accumulate = trainer.accumulate_grad_batches
    batches = trainer.num_training_batches
    epoch, index = trainer.current_epoch, 0
    if batches != math.inf and trainer.global_step:
        index = trainer.global_step % math.ceil(batches / accumulate) * accumulate

    def step(_: int) -> None:
        nonlocal epoch, index
        index = min(index + accumulate, batches)
        due("step", index)
        if index >= batches:
            epoch, index = epoch + 1, 0
            due("epoch", epoch)

    def due(interval: str, count: int) -> None:
        for place, config in enumerate(configs):
            if config.interval == interval and count % config.frequency == 0:
                twin.step(place)

    return twin.rates(steps, step)
