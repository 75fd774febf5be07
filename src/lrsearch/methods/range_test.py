"""The quick answer: climb until training diverges, then try three learning rates below.

Source: L. Smith, "Cyclical Learning Rates for Training Neural Networks", arXiv 1506.01186,
section 3.3 (there the rate climbs linearly and accuracy is read; here it climbs
geometrically and the loss is read). The short runs after the climb are ours: what a climb
shows at one learning rate depends on how long it stayed below, and they show it without.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrsearch.core import grid, validation
from lrsearch.core.climb import divergence, harmless
from lrsearch.core.curve import Curve, Stop, noise
from lrsearch.core.evidence import BASELINE_LR, same_losses
from lrsearch.core.outcome import HELD_OUT_BROKEN, Status, broken_batch
from lrsearch.core.search import Plan, Probe, Script
from lrsearch.core.short_runs import Reading, read_short_runs
from lrsearch.core.stopping import StopRule
from lrsearch.core.suggest import RULES, Suggestion, suggest

__all__ = ["RangeTest"]

_MOST_BEYOND = 8  # short runs that may be added beyond the first ones
_MOST_ABOVE = 4  # of them above
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
            learning rate is the best, runs beyond it are made too; and below the lowest where
            that learns about as much as the best.
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

    def search(self, plan: Plan) -> Script:
        """Climb, make the short runs, and do it all again when it is to be repeated."""
        answers: list[Suggestion] = []
        for number in range(self.repeats):
            answers += [(yield from self._once(plan, number))]
        return _averaged(answers)

    @property
    def _classic(self) -> bool:
        return self.rule != "default" or (self.min_lr is not None and self.max_lr is not None)

    def _once(self, plan: Plan, number: int) -> Script:
        """The test on the data in order ``number``."""
        rule = StopRule() if self._classic else StopRule(patience=_PATIENCE)
        start = (0,) if plan.can_evaluate and not self._classic else ()
        (climb,) = yield [Probe(self._climb(), "climb", rule, checkpoints=start, shuffle=number)]
        if len(climb.finite()) < 2:
            # Our own lowest lr cannot break anything; one that was given may.
            blameless = self.min_lr is None or len(climb.finite()) == 0
            return self._none(Status.NOT_FINITE if blameless else Status.DIVERGED)
        if self._classic:
            return (yield from self._read_by_rule(climb, number))
        if climb.evaluations and not math.isfinite(climb.evaluations[0][1]):
            return self._none(Status.NOT_FINITE, HELD_OUT_BROKEN)
        if climb.stop is Stop.NOT_FINITE and harmless(climb) >= len(climb) - 2:
            # The loss rises before the rate breaks it; a broken batch comes out of the blue.
            lrs = (BASELINE_LR,) * len(climb)
            (still,) = yield [Probe(lrs, "baseline", shuffle=number)]
            if still.stop is Stop.NOT_FINITE:
                return self._none(Status.NOT_FINITE, broken_batch(len(still)))
        runs: list[Curve] = []
        steps, wanted = self._updates(climb), self._first_lrs(climb)
        zoomed = not self._zooms(climb)
        while wanted:
            runs += yield [self._short_run(lr, steps, plan, number) for lr in wanted]
            wanted = self._beyond(climb, runs)
            if not wanted and not zoomed:
                reading, zoomed = _reading(climb, runs), True
                wanted = [] if reading is None else self._zoomed(reading)
        return self._read(climb, runs)

    def _short_run(self, lr: float, steps: int, plan: Plan, number: int) -> Probe:
        rule = StopRule(divergence=False)
        lrs = (lr,) * steps
        return Probe(lrs, "short run", rule, evaluate=plan.can_evaluate, shuffle=number)

    def _read_by_rule(self, climb: Curve, number: int) -> Script:
        """The classic test: one climb within both bounds, or a second one where it matters."""
        curves = [climb]
        if self.min_lr is None or self.max_lr is None:
            curves += yield [Probe(self._second_climb(climb), "climb", shuffle=number)]
        answer = suggest(curves[-1], self.rule)
        if not answer.status.found and _broken_by_a_batch(curves):
            return self._none(Status.NOT_FINITE, broken_batch(len(climb)))
        return answer

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

    def _beyond(self, climb: Curve, runs: Sequence[Curve]) -> list[float]:
        """One more learning rate, where the best may lie outside those that were run.

        Above, while the highest is the best and nothing diverged. Below, while the lowest learns
        about as much as the best: where a loss cannot rise, rates at which the net collapses end
        alike over decades.
        """
        reading = _reading(climb, runs)
        if reading is None or len(runs) >= _COUNT + _MOST_BEYOND:
            return []
        highest = max(float(run.lr[0]) for run in runs)
        above = highest * 10.0**_APART
        stable = _did_no_harm(climb) and above <= (self.max_lr or math.inf)
        if reading.lrs[reading.best] == highest and stable and not reading.saturated:
            return [above] if len(runs) < _COUNT + _MOST_ABOVE else []
        below = float(reading.lrs[0]) / 10.0**_APART
        return [below] if reading.saturated and below >= (self.min_lr or 0.0) else []

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

    def _zoomed(self, reading: Reading) -> list[float]:
        x, best = np.log10(reading.lrs), reading.best
        near = [0.5 * (x[best] + x[other]) for other in (best - 1, best + 1) if 0 <= other < len(x)]
        return [float(10.0**place) for place in near]

    def _read(self, climb: Curve, runs: Sequence[Curve]) -> Suggestion:
        """What the climb and the short runs say."""
        reading = _reading(climb, runs)
        if reading is None:
            if _broken_by_a_batch(runs):
                return self._none(Status.NOT_FINITE, broken_batch(len(runs[0])))
            return self._none(Status.DIVERGED)
        if same_losses([*runs, climb]):
            return self._none(Status.NO_EFFECT)
        if not reading.significant:
            return self._none(Status.NO_SIGNAL)
        return self._answer(reading, climb, len(runs), len(runs[0]))

    def _none(self, status: Status, why: str | None = None) -> Suggestion:
        nan = float("nan")
        return Suggestion(nan, nan, nan, status, why or status.value, self.rule)

    def _answer(self, reading: Reading, climb: Curve, count: int, updates: int) -> Suggestion:
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
                f"Of {count} runs of {updates} steps from the same start, the one "
                f"at lr {best:.2g} learned most. The average weighed by what each learned, and "
                f"a little less as the planned run is longer, is {lr:.2g}, {abs(below):.1f} "
                f"decades {side} it; climbing, training " + _end_in_words(climb)
            ),
            rule=self.rule,
            spread=reading.spread,
            noise=reading.noise,
            correction=-below,
        )


def _reading(climb: Curve, runs: Sequence[Curve]) -> Reading | None:
    """Read the short runs; the quiet part of the climb shows weights that stand still."""
    climb = climb.finite()
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


def _broken_by_a_batch(curves: Sequence[Curve]) -> bool:
    """Whether the same batch broke all curves, at learning rates far apart."""
    same = len({len(curve) for curve in curves}) == 1
    return len(curves) > 1 and same and all(curve.stop is Stop.NOT_FINITE for curve in curves)


def _averaged(answers: Sequence[Suggestion]) -> Suggestion:
    """The mean of the repetitions in log(lr), and their standard deviation."""
    found = [answer for answer in answers if answer.status.found]
    if len(found) < 2 or 2 * len(found) <= len(answers):
        return next((answer for answer in answers if not answer.status.found), answers[0])
    logs = np.log10([[answer.lr, answer.low, answer.high] for answer in found])
    lr, low, high = (float(value) for value in 10.0 ** logs.mean(axis=0))
    scatter = float(logs[:, 0].std(ddof=1))
    corrections = [answer.correction or 0.0 for answer in found]
    return replace(
        found[0],
        lr=lr,
        low=min(low, lr),
        high=max(high, lr),
        why=(
            f"{len(found)} of {len(answers)} repetitions gave an answer, from "
            f"{min(a.lr for a in found):.2g} to {max(a.lr for a in found):.2g}; their mean in "
            f"log(lr) is {lr:.2g}. The first: {found[0].why}"
        ),
        spread=scatter,
        correction=float(np.mean(corrections)),
    )
