"""Which lrs a task's sweep still has to try, as a pure decision.

Lrs are counted in units of 1/20 decade: unit u is 10 ** (u / 20). The grid is every fourth unit,
0.2 decade apart, the same for all tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

GRID = 4  # units between grid points
INSIDE = 3  # grid points that must lie on either side of the best one
FAR_LEFT = 15  # grid points left of the best at which the sweep stops on any account
RIGHT = 10  # right of it: enough where half of the gain is lost
FAR_RIGHT = 25  # right of it, on any account


@dataclass(frozen=True)
class Point:
    """One lr of a sweep: mean capped loss, and whether it trained at all."""

    loss: float
    stable: bool


def unit_lr(unit: int) -> float:
    """The lr of a unit, to 6 significant digits."""
    return float(f"{10 ** (unit / 20):.6g}")


def next_unit(points: Mapping[int, Point], initial: float, start: int) -> int | None:
    """The unit to try next, or None when the sweep is complete.

    It is complete when the best point lies at least `INSIDE` grid points inside; on the left
    half of the gain is lost; on the right runs diverge, or half of the gain is lost; and a
    cliff (a stable point that keeps half of the gain next to one that fails) is located to one
    unit.

    Args:
        points: what has been tried; grid points without gaps, and points next to the cliff.
        initial: loss before training.
        start: grid unit to begin with.
    """
    if not points:
        return start
    best = min(points, key=lambda unit: (points[unit].loss, unit))
    low, high = min(points), max(points)
    half = 0.5 * (initial + points[best].loss)
    left, right = (best - low) / GRID, (high - best) / GRID
    if left < INSIDE or (points[low].loss < half and left < FAR_LEFT):
        return low - GRID
    failed = not points[high].stable
    risen = right >= RIGHT and points[high].loss >= half
    if right < INSIDE or not (failed or risen or right >= FAR_RIGHT):
        return high + GRID
    return _cliff_unit(points, half)


def _cliff_unit(points: Mapping[int, Point], half: float) -> int | None:
    stable = max(unit for unit, point in points.items() if point.stable)
    beyond = [unit for unit in points if unit > stable]
    if not beyond or points[stable].loss >= half:
        return None
    gap = min(beyond) - stable
    return stable + gap // 2 if gap > 1 else None
