"""The textbook's searcher: a staged ladder of learning rates, then a zoom.

Source: Microsoft ai-edu, "Searching the optimal learning rate" (the staged table of
learning rates on a two-layer net, the loss read against log10(lr), zoom, then trial), after
L. Smith, arXiv 1506.01186, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from lrsearch.core import grid, validation
from lrsearch.core.grid import Segment
from lrsearch.core.outcome import Status
from lrsearch.core.search import Plan, Probe, Script
from lrsearch.core.stopping import StopRule
from lrsearch.core.suggest import RULES, suggest
from lrsearch.errors import InvalidArgument

__all__ = ["TEXTBOOK", "Ladder"]

_LONG = 20  # updates from which a rung is long; see the class

#: The staged table of the textbook, ten epochs on every rung.
TEXTBOOK = (
    Segment(0.0001, 0.0001, 0.0009, epochs=10),
    Segment(0.001, 0.001, 0.009, epochs=10),
    Segment(0.01, 0.01, 0.09, epochs=10),
    Segment(0.1, 0.1, 0.9, epochs=10),
    Segment(1.0, 0.01, 1.1, epochs=10),
)


@dataclass(frozen=True)
class Ladder:
    """Climb a ladder of learning rates, some updates on every rung; then zoom on the answer.

    The lane is trained on without a break from rung to rung. A rung's loss is the mean over
    its updates.

    Args:
        segments: the stretches of the ladder; by default nine rungs in every decade from
            ``min_lr`` to ``max_lr``.
        zoom: climb a second, finer ladder around what the first one found, from the same
            start: ``zoom`` rungs over the decade around it, 0 for none.
        min_lr, max_lr: ends of the default ladder.
        updates: optimizer updates on each rung of the default ladder and of its zoom.
        rule: how a curve is read, see :func:`lrsearch.suggest`. ``"auto"`` is ``"turning"`` when
            the longest rungs have 20 updates or more, else ``"default"``: on long rungs the net
            is trained until a rung has no more to give, and where the loss falls tells how long
            that takes, not which learning rate is right. The 20 was chosen on tasks of this
            project's own benchmark: below 10 the first reading loses less, above 30 the second.

    Example:
        >>> ladder = Ladder([Segment(0.1, 0.1, 0.9), Segment(1.0, 0.1, 1.1)], zoom=0)
        >>> [lr for lr, _ in ladder.rungs()][-3:]
        [0.9, 1.0, 1.1]
    """

    segments: Sequence[Segment] = ()
    zoom: int = 20
    min_lr: float | None = None
    max_lr: float | None = None
    updates: int = 1
    rule: str = "auto"
    name: str = "ladder"

    def __post_init__(self) -> None:
        segments = validation.listed("segments", self.segments, "a list of segments")
        object.__setattr__(self, "segments", segments)
        for segment in self.segments:
            if not isinstance(segment, Segment):
                raise InvalidArgument.of("segments", segment, "Segment(start, step, stop)")
        if self.segments and (self.min_lr is not None or self.max_lr is not None):
            raise InvalidArgument("segments: give segments or min_lr and max_lr, not both.")
        low, high = validation.lr_bounds(self.min_lr, self.max_lr, default=(1e-6, 10.0))
        validation.positive("max_lr / min_lr", (high or 10.0) / (low or 1e-6))
        object.__setattr__(self, "min_lr", low)
        object.__setattr__(self, "max_lr", high)
        validation.check_fields(
            self,
            zoom=validation.at_least(0, validation.MOST),
            updates=validation.at_least(1, validation.MOST),
            rule=validation.one_of(("auto", *RULES)),
            name=validation.text,
        )
        if self.zoom == 1:
            raise InvalidArgument.of("zoom", self.zoom, "0, or at least 2 rungs")

    def rungs(self, updates_per_epoch: int | None = None) -> list[tuple[float, int]]:
        """Return the first ladder as ``(lr, updates)`` pairs, in order."""
        if self.segments:
            return grid.rungs(self.segments, updates_per_epoch)
        low = 1e-6 if self.min_lr is None else float(self.min_lr)
        high = 10.0 if self.max_lr is None else float(self.max_lr)
        count = max(2, round(9 * math.log10(high / low)) + 1)
        return [(lr, self.updates) for lr in grid.geometric(low, high, count).tolist()]

    def search(self, plan: Plan) -> Script:
        """Climb the ladder, then the zoom around what it said, if it said anything."""
        rule = self._rule(plan)
        (curve,) = yield [_climb("ladder", self.rungs(plan.updates_per_epoch))]
        coarse = suggest(curve, rule)
        if not self.zoom or not coarse.status.found:
            return coarse
        (curve,) = yield [_climb("zoom", self._zoomed(coarse.lr, plan))]
        fine = suggest(curve, rule)
        if not fine.status.found:
            return coarse
        # Either ladder may show the end of the fall: the zoom goes beyond the first one's edge.
        seen = Status.FOUND in (coarse.status, fine.status)
        status = Status.FOUND if seen else Status.AT_EDGE
        return replace(fine, status=status, low=min(coarse.low, fine.low))

    def _rule(self, plan: Plan) -> str:
        if self.rule != "auto":
            return self.rule
        longest = max(updates for _, updates in self.rungs(plan.updates_per_epoch))
        return "turning" if longest >= _LONG else "default"

    def _zoomed(self, lr: float, plan: Plan) -> list[tuple[float, int]]:
        ladder = self.rungs(plan.updates_per_epoch)
        updates = min(ladder, key=lambda rung: abs(math.log(rung[0] / lr)))[1]
        half = math.sqrt(10.0)
        return [(rate, updates) for rate in grid.geometric(lr / half, lr * half, self.zoom)]


def _climb(role: str, ladder: list[tuple[float, int]]) -> Probe:
    # On a long rung a burst that the same rung recovers from is no divergence.
    patience = max(StopRule().patience, max(updates for _, updates in ladder) // 10)
    lrs = tuple(float(lr) for lr, updates in ladder for _ in range(updates))
    return Probe(lrs, role, StopRule(patience=patience))
