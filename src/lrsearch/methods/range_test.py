"""One run whose learning rate climbs; where the loss falls tells the learning rate.

Source: L. Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186,
section 3.3 (there the rate climbs linearly and accuracy is read; here it climbs
geometrically and the loss is read). The scout that finds the range is ours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from lrsearch.core import grid
from lrsearch.core.curve import Curve, Stop, noise
from lrsearch.core.outcome import Status
from lrsearch.core.search import Curves, Plan, Probe
from lrsearch.core.suggest import RULES, Suggestion, suggest
from lrsearch.errors import InvalidArgument

__all__ = ["RangeTest"]

_SCOUT, _CLIMB = 0, 1  # lanes
_LOWEST, _HIGHEST = 1e-8, 1e4  # how far the scout looks when nothing is given
_SPAN = 1e5  # the climb begins this factor below divergence: no best lr was ever further down
_QUIET = 30.0  # ... or this factor below the first lr at which the scout's loss moved
_MARGIN = 3.0  # ... and goes this factor beyond the scout's end, where it ends by itself


@dataclass(frozen=True)
class RangeTest:
    """Climb from a learning rate that does nothing to one that diverges, and read the fall.

    Without ``min_lr`` or ``max_lr``, a scout of at most a quarter of the steps climbs in
    leaps until the loss diverges; the real climb then covers the decades below, from the
    same start on the same batches. A bound that is given is respected exactly.

    Args:
        steps: optimizer updates in all, scout included, at least 10.
        min_lr: first learning rate of the climb; found when ``None``.
        max_lr: last learning rate of the climb; found when ``None``.
        rule: how the curve is read, see :func:`lrsearch.suggest`.

    Raises:
        InvalidArgument: a bound is not positive or not in order, or ``steps`` is too small.

    Example:
        >>> RangeTest(steps=10, min_lr=0.1, max_lr=1.0).rule
        'default'
    """

    steps: int = 100
    min_lr: float | None = None
    max_lr: float | None = None
    rule: str = "default"
    name: str = "range"

    def __post_init__(self) -> None:
        for field in ("min_lr", "max_lr"):
            value = getattr(self, field)
            if value is not None:
                object.__setattr__(self, field, grid.positive(field, value))
        if self.min_lr and self.max_lr and self.max_lr <= self.min_lr:
            raise InvalidArgument.of("max_lr", self.max_lr, f"more than min_lr={self.min_lr!r}")
        object.__setattr__(self, "steps", grid.whole("steps", self.steps, 10))
        if self.rule not in RULES:
            raise InvalidArgument.of("rule", self.rule, f"one of {', '.join(map(repr, RULES))}")

    def next_probes(self, curves: Curves, plan: Plan) -> tuple[Probe, ...]:
        """Scout when a bound is missing, climb once, and go on climbing past an edge."""
        if self.min_lr is not None and self.max_lr is not None:
            return () if curves else (_climb(self.min_lr, self.max_lr, self.steps),)
        if not curves:
            low, high = self._limits()
            return (Probe(_SCOUT, tuple(grid.geometric(low, high, self._scouts()).tolist())),)
        if len(curves[_SCOUT].finite()) < 2:
            return ()
        if _CLIMB not in curves:
            low, high = self._range(curves[_SCOUT])
            return (_climb(low, high, self.steps - len(curves[_SCOUT])),)
        return self._beyond(curves[_CLIMB])

    def conclude(self, curves: Curves, plan: Plan) -> Suggestion:
        """Read the climb, or say why there was none."""
        answer = suggest(curves[max(curves)], self.rule)
        status = None if answer.status.found else self._reason(curves)
        return answer if status is None else replace(answer, status=status, why=status.value)

    def _reason(self, curves: Curves) -> Status | None:
        """Return a better reason than the last curve by itself can give, if there is one."""
        if _SCOUT not in curves:
            return None
        scout, climb = curves[_SCOUT], curves.get(_CLIMB)
        if climb is None:
            # Our own lowest lr cannot break anything; one that was given may.
            blameless = self.min_lr is None or len(scout.finite()) == 0
            return Status.NOT_FINITE if blameless else Status.DIVERGED
        # The same batch broke both, at learning rates far apart: it is the batch.
        broken = scout.stop is climb.stop is Stop.NOT_FINITE and len(scout) == len(climb)
        return Status.NOT_FINITE if broken and 10 * climb.lr[-1] < scout.lr[-1] else None

    def _limits(self) -> tuple[float, float]:
        low = self.min_lr or min(_LOWEST, (self.max_lr or _HIGHEST) / _SPAN)
        return low, self.max_lr or max(_HIGHEST, low * _SPAN)

    def _scouts(self) -> int:
        return max(4, self.steps // 4)

    def _range(self, scout: Curve) -> tuple[float, float]:
        """The climb's range: from where the scout's loss stood still to where it diverged."""
        end = float(scout.lr[-1])
        diverged = scout.stop is not Stop.COMPLETED
        high = self.max_lr or (end * _MARGIN if diverged else end)
        if self.min_lr is not None:
            return self.min_lr, max(high, 10.0 * self.min_lr)
        return min(end / _SPAN, _first_move(scout) / _QUIET), high

    def _beyond(self, climb: Curve) -> tuple[Probe, ...]:
        """Another decade at the same pace, while the loss still falls at the very end."""
        last = float(climb.lr[-1])
        going_on = self.max_lr is None and last < _HIGHEST * _SPAN
        if not going_on or suggest(climb, self.rule).status is not Status.AT_EDGE:
            return ()
        pace = math.log10(climb.lr[-1] / climb.lr[-2])
        count = max(2, round(1.0 / pace))
        lrs = last * 10.0 ** (pace * np.arange(1, count + 1))
        return (Probe(_CLIMB, tuple(lrs.tolist()), keep=True),)


def _climb(low: float, high: float, steps: int) -> Probe:
    return Probe(_CLIMB, tuple(grid.geometric(low, high, steps).tolist()), keep=True)


def _first_move(scout: Curve) -> float:
    """The first learning rate whose update moved the scout's loss beyond its noise."""
    losses = np.clip(scout.finite().loss, -1e200, 1e200)  # differences must not overflow
    start = float(np.median(losses[:3]))
    limit = max(5.0 * noise(losses), 0.02 * float(np.quantile(np.abs(losses - start), 0.75)))
    moved = np.flatnonzero(np.abs(losses - start) > limit)
    return float(scout.lr[max(int(moved[0]) - 1, 0)]) if moved.size else float(scout.lr[-1])
