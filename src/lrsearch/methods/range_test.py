"""The quick answer: climb until training diverges, then try three learning rates below.

Source: L. Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186,
section 3.3 (there the rate climbs linearly and accuracy is read; here it climbs
geometrically and the loss is read). The short runs after the climb are ours: what a climb
shows at one learning rate depends on how long it stayed below, and they show it without.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from lrsearch.core import grid, validation
from lrsearch.core.climb import divergence, harmless
from lrsearch.core.curve import Curve, Stop, noise
from lrsearch.core.outcome import Status
from lrsearch.core.search import Curves, Plan, Probe
from lrsearch.core.short_runs import Reading, read_short_runs
from lrsearch.core.stopping import StopRule
from lrsearch.core.suggest import RULES, Suggestion, suggest
from lrsearch.methods.repeats import LANES, averaged, repetition

__all__ = ["RangeTest"]

_CLIMB, _RUNS, _ZOOM = 0, 1, 8  # lanes; after the first climb a second one or short runs
_LOWEST, _HIGHEST = 1e-8, 1e4  # how far the climb goes when no bound is given
_SHARE = 0.48  # of the steps for the climb; it mostly ends before
_FINEST = 48  # updates of the climb at most: beyond 4 per decade it gains nothing
_ZOOM_FROM = 40  # updates that each of five runs must get for a zoom unasked
# Leaps over decades rise high above the start once they diverge; a few high losses before are a
# hard batch or two.
_PATIENCE = 7
# What follows was chosen on the regret benchmark: see docs/research/range-test.md.
_COUNT, _APART, _BELOW = 3, 1.25, 1.25  # short runs, decades apart, decades below divergence
_LONGER = 0.2  # decades by which a run longer than the short ones wants less
_PACE, _LAG, _MOST_LAG = 4.0, 0.6, 0.3  # a slower climb diverges earlier: see _divergence
# The second climb, for the rules that people know.
_SPAN = 1e5  # it begins this factor below divergence: no best lr was ever further down
_QUIET = 30.0  # ... or this factor below the first lr at which the loss moved
_MARGIN = 3.0  # ... and goes this factor beyond divergence, where it ends by itself


@dataclass(frozen=True)
class RangeTest:
    """Climb until training diverges, then make short runs at learning rates below.

    The climb goes over the decades in leaps. The short runs begin where the search began, all
    on the same batches, at learning rates 1.25, 2.5 and 3.75 decades below divergence. ``lr``
    is their average in log(lr), weighed by what each has learned, and slightly lower, as the
    planned run is longer. ``low`` is where a tenth of the improvement is made and ``high`` where
    most of it is. The runs are ranked by held-out loss when there is one.

    A bound that is given is respected exactly. With both, or with a rule other than
    ``"default"``, one climb is read by the rule: the classic test.

    Args:
        steps: optimizer updates in all, at least 10. Only where nothing diverges and the highest
            learning rate is the best, runs beyond it are made too.
        min_lr: lowest learning rate; found when ``None``.
        max_lr: highest learning rate; found when ``None``.
        rule: how a climb is read, see :func:`lrsearch.suggest`.
        repeats: make the whole test so many times, each on the data in another order; ``lr`` is
            the mean in log(lr), ``spread`` the standard deviation over them.
        zoom: make two more runs, half way to the neighbours of the best one, all of them
            shorter in turn; when ``None``, if every run still gets 40 updates.

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
    repeats: int = 1
    zoom: bool | None = None
    name: str = "range"

    def __post_init__(self) -> None:
        low, high = validation.lr_bounds(self.min_lr, self.max_lr)
        object.__setattr__(self, "min_lr", low)
        object.__setattr__(self, "max_lr", high)
        validation.check_fields(
            self,
            steps=validation.at_least(10, validation.MOST),
            repeats=validation.at_least(1, validation.MOST),
            rule=validation.one_of(RULES),
            zoom=validation.maybe(validation.flag),
            name=validation.text,
        )

    def next_probes(self, curves: Curves, plan: Plan) -> tuple[Probe, ...]:
        """Climb, make the short runs, and do it all again when it is to be repeated."""
        for number in range(self.repeats):
            probes = self._next(repetition(curves, number), plan)
            if probes:
                return tuple(
                    replace(probe, lane=probe.lane + LANES * number, shuffle=number)
                    for probe in probes
                )
        return ()

    def conclude(self, curves: Curves, plan: Plan) -> Suggestion:
        """Read every repetition and average what they say, or say why there is nothing."""
        parts = [repetition(curves, number) for number in range(self.repeats)]
        return averaged([self._read(part) for part in parts if part])

    @property
    def _classic(self) -> bool:
        return self.rule != "default" or (self.min_lr is not None and self.max_lr is not None)

    def _next(self, curves: Curves, plan: Plan) -> tuple[Probe, ...]:
        if _CLIMB not in curves:
            if self._classic:
                return (Probe(_CLIMB, self._climb()),)
            start = (0,) if plan.can_evaluate else ()
            rule = StopRule(patience=_PATIENCE)
            return (Probe(_CLIMB, self._climb(), rule, checkpoints=start),)
        climb = curves[_CLIMB]
        if len(climb.finite()) < 2 or (self.min_lr is not None and self.max_lr is not None):
            return ()
        if self._classic:
            return () if _RUNS in curves else (Probe(_RUNS, self._second_climb(climb)),)
        return tuple(
            Probe(
                lane,
                (lr,) * self._updates(climb),
                StopRule(divergence=False),
                evaluate=plan.can_evaluate,
            )
            for lane, lr in self._wanted(curves)
        )

    def _climb(self) -> tuple[float, ...]:
        low = self.min_lr or min(_LOWEST, (self.max_lr or _HIGHEST) / _SPAN)
        high = self.max_lr or max(_HIGHEST, low * _SPAN)
        steps = self.steps
        if not self._classic:
            steps = max(4, min(int(_SHARE * steps), _FINEST))
        elif not (self.min_lr and self.max_lr):
            steps = max(4, steps // 4)
        return tuple(grid.geometric(low, high, steps).tolist())

    def _second_climb(self, first: Curve) -> tuple[float, ...]:
        """From where the loss stood still to where it diverged."""
        end = float(first.lr[-1])
        high = self.max_lr or (end * _MARGIN if first.stop is not Stop.COMPLETED else end)
        low = self.min_lr or min(end / _SPAN, _first_move(first) / _QUIET)
        high = max(high, 10.0 * low)
        return tuple(grid.geometric(low, high, self.steps - len(first)).tolist())

    def _updates(self, climb: Curve) -> int:
        """Updates of every short run."""
        count = _COUNT + (2 if self._zooms(climb) else 0)
        return max(2, (self.steps - len(climb)) // count)

    def _zooms(self, climb: Curve) -> bool:
        enough = self.steps - len(climb) >= (_COUNT + 2) * _ZOOM_FROM
        return enough if self.zoom is None else self.zoom

    def _wanted(self, curves: Curves) -> list[tuple[int, float]]:
        """Lanes and learning rates of the short runs that are still to be made."""
        climb, runs = curves[_CLIMB], _short_runs(curves)
        if not runs:
            return list(enumerate(self._first_lrs(climb), _RUNS))
        reading = _reading(curves)
        if reading is None:
            return []
        free, best = max(lane for lane in curves if lane < _ZOOM) + 1, reading.best
        if free < _ZOOM and _ZOOM not in curves:
            above = float(reading.lrs[-1]) * 10.0**_APART
            stable = _did_no_harm(climb) and above <= (self.max_lr or math.inf)
            if best == len(reading.lrs) - 1 and stable:
                return [(free, above)]
        return self._zoomed(reading) if self._zooms(climb) and _ZOOM not in curves else []

    def _first_lrs(self, climb: Curve) -> list[float]:
        """Evenly below divergence; below the end, if nothing diverged."""
        top = _divergence(climb) - _BELOW
        if _did_no_harm(climb):
            top = math.log10(climb.lr[-1])
        bottom = top - _APART * (_COUNT - 1)
        if self.min_lr is not None:
            bottom = max(bottom, math.log10(self.min_lr))
            top = max(top, bottom + 0.1 * (_COUNT - 1))
        lrs = (10.0 ** np.linspace(bottom, top, _COUNT)).tolist()
        return [min(max(lr, self.min_lr or 0.0), self.max_lr or math.inf) for lr in lrs]

    def _zoomed(self, reading: Reading) -> list[tuple[int, float]]:
        x, best = np.log10(reading.lrs), reading.best
        near = [0.5 * (x[best] + x[other]) for other in (best - 1, best + 1) if 0 <= other < len(x)]
        return [(_ZOOM + number, float(10.0**place)) for number, place in enumerate(near)]

    def _read(self, curves: Curves) -> Suggestion:
        """What one repetition says."""
        climb = curves[_CLIMB]
        if len(climb.finite()) < 2:
            # Our own lowest lr cannot break anything; one that was given may.
            blameless = self.min_lr is None or len(climb.finite()) == 0
            return _none(Status.NOT_FINITE if blameless else Status.DIVERGED, self.rule)
        if self._classic:
            answer = suggest(curves[max(curves)], self.rule)
            broken = not answer.status.found and _broken_by_a_batch(curves)
            return _none(Status.NOT_FINITE, self.rule) if broken else answer
        reading = _reading(curves)
        if reading is None:
            broken = _broken_by_a_batch(curves)
            return _none(Status.NOT_FINITE if broken else Status.DIVERGED, self.rule)
        if not reading.significant:
            return _none(Status.NO_SIGNAL, self.rule)
        return self._answer(reading, climb, len(_short_runs(curves)[0]))

    def _answer(self, reading: Reading, climb: Curve, updates: int) -> Suggestion:
        best = float(reading.lrs[reading.best])
        lr = float(np.clip(10.0 ** (reading.at - _LONGER), self.min_lr, self.max_lr))
        low, high = min(float(10.0 ** reading.crossing(0.1)), lr), max(best, lr)
        at_top = _did_no_harm(climb) and best == reading.lrs[-1]
        at_bottom = self.min_lr is not None and best == reading.lrs[0]
        below = math.log10(best / lr)
        side = "below" if below >= 0.0 else "above"
        return Suggestion(
            lr=lr,
            low=low,
            high=high,
            status=Status.AT_EDGE if at_top or at_bottom else Status.FOUND,
            why=(
                f"Of {len(reading.lrs)} runs of {updates} updates from the same start, the one "
                f"at lr {best:.2g} learned most. The average weighed by what each learned, and "
                f"a little less as the planned run is longer, is {lr:.2g}, {abs(below):.1f} "
                f"decades {side} it; climbing, training " + _end_in_words(climb)
            ),
            rule=self.rule,
            spread=reading.spread,
            noise=reading.noise,
            correction=-below,
        )


def _short_runs(curves: Mapping[int, Curve]) -> list[Curve]:
    return [curves[lane] for lane in sorted(curves) if lane != _CLIMB]


def _reading(curves: Curves) -> Reading | None:
    """Read the short runs; the quiet part of the climb shows weights that stand still."""
    climb, runs = curves[_CLIMB].finite(), _short_runs(curves)
    lowest = min(float(run.lr[0]) for run in runs)
    quiet = int(np.searchsorted(climb.lr, 0.1 * lowest))
    return read_short_runs(runs, replace(climb, lr=climb.lr[:quiet], loss=climb.loss[:quiet]))


def _divergence(climb: Curve) -> float:
    """Where training diverges, in log10(lr), as a climb of four updates per decade sees it.

    A slower climb stays longer at every learning rate, and diverges at a lower one.
    """
    if len(climb) < 2:
        return math.log10(climb.lr[-1])
    pace = 1.0 / math.log10(climb.lr[1] / climb.lr[0])
    lag = float(np.clip(_LAG * math.log10(pace / _PACE), -_MOST_LAG, _MOST_LAG))
    return divergence(climb) + lag


def _did_no_harm(climb: Curve) -> bool:
    return climb.stop is Stop.COMPLETED and harmless(climb) == len(climb) - 1


def _end_in_words(climb: Curve) -> str:
    if _did_no_harm(climb):
        return "did not diverge."
    if climb.stop is Stop.COMPLETED:
        return f"did harm from {climb.lr[harmless(climb)]:.2g} on."
    return f"diverged at {climb.lr[-1]:.2g}."


def _first_move(scout: Curve) -> float:
    """The first learning rate whose update moved the scout's loss beyond its noise."""
    losses = np.clip(scout.finite().loss, -1e200, 1e200)  # differences must not overflow
    start = float(np.median(losses[:3]))
    limit = max(5.0 * noise(losses), 0.02 * float(np.quantile(np.abs(losses - start), 0.75)))
    moved = np.flatnonzero(np.abs(losses - start) > limit)
    return float(scout.lr[max(int(moved[0]) - 1, 0)]) if moved.size else float(scout.lr[-1])


def _broken_by_a_batch(curves: Curves) -> bool:
    """Whether the same batch broke all lanes, at learning rates far apart."""
    found = list(curves.values())
    same = len({len(curve) for curve in found}) == 1
    return len(found) > 1 and same and all(curve.stop is Stop.NOT_FINITE for curve in found)


def _none(status: Status, rule: str) -> Suggestion:
    nan = float("nan")
    return Suggestion(nan, nan, nan, status, status.value, rule)
