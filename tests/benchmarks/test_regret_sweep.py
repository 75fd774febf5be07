"""Which lrs a sweep tries, on curves with a known minimum and cliff."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import pytest

from benchmarks.regret.grid import GRID, Point, next_unit, unit_lr
from benchmarks.regret.oracle import regret
from benchmarks.regret.sweep import sweep_task
from benchmarks.regret.tasks import by_name

L0 = 1.0


def swept(loss: Callable[[int], float], start: int = 0) -> dict[int, Point]:
    points: dict[int, Point] = {}
    while (unit := next_unit(points, L0, start)) is not None:
        assert unit not in points
        assert len(points) < 200
        value = loss(unit)
        points[unit] = Point(min(value, L0), stable=value < L0)
    return points


def valley(unit: int) -> float:
    """Best at unit 17; 0.1 there, the initial loss 30 units (1.5 decades) away."""
    return 0.1 + 0.9 * min(1.0, (unit - 17) ** 2 / 900)


def test_units_are_twentieths_of_a_decade() -> None:
    assert unit_lr(0) == 1.0
    assert unit_lr(-60) == 0.001
    assert unit_lr(GRID) == pytest.approx(10**0.2, rel=1e-5)


@pytest.mark.parametrize("start", [-12, 0, 16, 100])
def test_the_best_lr_ends_up_inside_wherever_the_sweep_begins(start: int) -> None:
    points = swept(valley, start)
    best = min(points, key=lambda unit: points[unit].loss)
    assert best == 16
    assert (best - min(points)) / GRID >= 3
    assert (max(points) - best) / GRID >= 3


def test_the_sweep_reaches_to_half_the_gain_on_the_left_and_to_failure_on_the_right() -> None:
    points = swept(valley)
    assert points[min(points)].loss >= 0.55
    assert not points[max(points)].stable


def test_grid_points_have_no_gaps() -> None:
    grid = sorted(unit for unit in swept(valley) if unit % GRID == 0)
    assert grid == list(range(grid[0], grid[-1] + 1, GRID))


def test_a_cliff_is_located_to_a_twentieth_of_a_decade() -> None:
    def cliff(unit: int) -> float:
        return 0.1 + 0.01 * abs(unit - 17) if unit <= 18 else 9.0

    points = swept(cliff)
    assert max(unit for unit, point in points.items() if point.stable) == 18
    assert not points[19].stable


def test_a_gentle_rise_is_not_refined() -> None:
    assert all(unit % GRID == 0 for unit in swept(valley))


def test_a_curve_that_never_fails_ends_all_the_same() -> None:
    points = swept(lambda unit: 0.1 + 0.4 * math.tanh(abs(unit - 17) / 40))
    assert len(points) < 60


def test_a_start_beyond_the_cliff_walks_back_to_the_left() -> None:
    points = swept(lambda unit: valley(unit) if unit < 30 else 9.0, start=120)
    assert min(points, key=lambda unit: points[unit].loss) == 16


def test_a_sweep_of_a_real_task_agrees_with_the_formula() -> None:
    task = dataclasses.replace(by_name("quadratic-sgd"), train_steps=100)
    oracle = sweep_task(task)
    assert oracle.best_lr == 1.0
    assert oracle.last_stable_lr == 1.0
    assert oracle.initial_loss > oracle.best_loss
    assert regret(oracle, 2.0) == 1.0
    rows = dict(zip(oracle.lrs, oracle.losses, strict=True))
    assert rows[unit_lr(12)] == (None, None, None)


def test_a_task_that_never_trains_is_reported_as_ill_posed() -> None:
    task = by_name("quadratic-sgd")

    def at_the_minimum(seed: int) -> object:
        problem = task.build(seed)
        for parameter in problem.model.parameters():
            parameter.data.zero_()
        return problem

    broken = dataclasses.replace(task, build=at_the_minimum, train_steps=2)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="not ended after 60 lrs"):
        sweep_task(broken)
