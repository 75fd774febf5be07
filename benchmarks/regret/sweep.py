"""The exhaustive sweep of one task."""

from __future__ import annotations

import datetime
import logging
import math
import platform
import time

import numpy as np
import sklearn
import torch

from benchmarks.regret.grid import GRID, Point, next_unit, unit_lr
from benchmarks.regret.kinds import Kind
from benchmarks.regret.oracle import SEEDS, Oracle, capped_losses, task_hash, training_of
from benchmarks.regret.problem import Task
from benchmarks.regret.runs import held_out_loss

logger = logging.getLogger(__name__)

AT_REST = 1e-12  # no weight moves by as much as it can be stored
MOST = 60  # points of a sweep; more means that the task is ill posed


def sweep_task(task: Task, digest: str | None = None) -> Oracle:
    """Train the planned run at every lr of the sweep with every seed.

    Args:
        task: gives the run.
        digest: hash of what decides it; that of a task of the benchmark when ``None``.

    Raises:
        RuntimeError: the sweep does not end within `MOST` lrs.
    """
    began = time.process_time()
    train = training_of(task)
    initial = tuple(_rounded(unlearned_loss(task, seed)) for seed in SEEDS)
    default = task.build(SEEDS[0]).optimizer.param_groups[0]["lr"]
    start = GRID * round(20 * math.log10(default) / GRID)
    rows: dict[int, tuple[float | None, ...]] = {}
    points: dict[int, Point] = {}
    while (unit := next_unit(points, float(np.mean(initial)), start)) is not None:
        if len(points) == MOST:
            raise RuntimeError(
                f"the sweep of {task.name!r} has not ended after {MOST} lrs, from "
                f"{unit_lr(min(points)):g} to {unit_lr(max(points)):g}: make the task well posed."
            )
        losses = [train(task, unit_lr(unit), seed) for seed in SEEDS]
        rows[unit] = tuple(None if loss is None else _rounded(loss) for loss in losses)
        points[unit] = _point(rows[unit], initial)
        logger.info("%s lr=%g losses=%s", task.name, unit_lr(unit), rows[unit])
    return _finished(
        task, digest or task_hash(task), initial, rows, points, time.process_time() - began
    )


def unlearned_loss(task: Task, seed: int) -> float:
    """The held-out loss before training.

    Of kinds it is that after a run which does not move the weights: running statistics settle
    at any lr.
    """
    if isinstance(task, Kind):
        after = training_of(task)(task, AT_REST, seed)
        if after is not None:
            return after
    return held_out_loss(task.build(seed))


def _point(row: tuple[float | None, ...], initial: tuple[float, ...]) -> Point:
    loss = float(np.mean(capped_losses(row, initial)))
    finite = [value for value in row if value is not None]
    stable = len(finite) == len(row) and float(np.mean(finite)) < float(np.mean(initial))
    return Point(loss, stable)


def _finished(
    task: Task,
    digest: str,
    initial: tuple[float, ...],
    rows: dict[int, tuple[float | None, ...]],
    points: dict[int, Point],
    seconds: float,
) -> Oracle:
    units = sorted(rows)
    stable = [unit for unit in units if points[unit].stable]
    if not stable:
        raise RuntimeError(f"task {task.name!r} does not train at any lr: make it well posed.")
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
    }
    return Oracle(
        task=task.name,
        hash=digest,
        steps=task.train_steps,
        seeds=SEEDS,
        initial=initial,
        lrs=tuple(unit_lr(unit) for unit in units),
        losses=tuple(rows[unit] for unit in units),
        last_stable_lr=unit_lr(stable[-1]),
        seconds=round(seconds, 1),
        date=datetime.date.today().isoformat(),
        versions=versions,
    )


def _rounded(loss: float) -> float:
    return float(f"{loss:.7g}")
