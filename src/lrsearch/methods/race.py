"""Race several learning rates over ever longer short versions of the planned run.

Coarse to fine: a scout finds where training diverges; a few lanes, a decade apart below it,
run the planned schedule compressed to a short rung; then finer lanes around the best run a
longer one, twice. Between rungs the centre moves by what a longer run is known to want.

Sources: successive refinement after K. Jamieson, A. Talwalkar, "Non-stochastic Best Arm
Identification and Hyperparameter Optimization", arXiv 1502.07943 (successive halving); the
best learning rate falling with the length of the run, J. Bjorck et al., "Scaling Optimal LR
Across Token Horizons", arXiv 2409.19913.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import numpy as np

from lrsearch.core import grid
from lrsearch.core.curve import Curve, final_loss
from lrsearch.core.outcome import Status
from lrsearch.core.schedule import multipliers
from lrsearch.core.search import Curves, Plan, Probe
from lrsearch.core.stopping import StopRule
from lrsearch.core.suggest import Suggestion
from lrsearch.errors import InvalidArgument
from lrsearch.methods.range_test import RangeTest

__all__ = ["Race"]

_SCOUT = 20  # updates of the scout at most
_COARSE, _COARSE_STEP = 4, 1.0  # lanes of the first rung, and decades between them
_FINE, _FINE_STEP = 3, 0.3  # the same for the later rungs
_MOST = 5  # lanes that may be added below the first rung while its lowest lane is the best
# Shares of the budget for the rungs: as many rungs as leave the first one long enough.
_SHARES = ((0.15, 0.20, 0.65), (0.35, 0.65), (1.0,))
_EXTRA = 0.35  # lanes a later rung is expected to need beyond its three
_SHORTEST = 3  # updates of the shortest rung worth running
# log10(lr) per log10(length) by which a longer run wants a lower peak; chosen on the regret
# benchmark (docs/research/race.md has the figures with the task left out).
_DRIFT_CONSTANT, _DRIFT_ANNEALED = 0.5, 0.3
_TRUST = 0.5  # weight of the drift seen between the last two rungs against those
_SEEN = (-0.2, 1.2)  # a drift beyond these is noise
_LONGER = 0.2  # log10 of the least difference in length that can show one

_Script = Generator[tuple[Probe, ...], Sequence[Curve], Suggestion]


@dataclass(frozen=True)
class Race:
    """Find the peak learning rate of the planned run for about ``budget`` planned runs.

    All lanes start from the same state and see the same batches with the same dropout. They
    are ranked by held-out loss when there is one, else by the training loss of their last
    tenth. Needs ``train_steps``. A budget too small for a single rung is spent on a range
    test, and the answer says so.

    Args:
        budget: optimizer updates to spend, over all lanes, in planned runs; positive.
        min_lr, max_lr: bounds of the answer, when there are any.

    Example:
        >>> Race(budget=0.3).name
        'race'
    """

    budget: float = 1.0
    min_lr: float | None = None
    max_lr: float | None = None
    name: str = "race"

    def __post_init__(self) -> None:
        object.__setattr__(self, "budget", grid.positive("Race.budget", self.budget))
        for bound in ("min_lr", "max_lr"):
            if getattr(self, bound) is not None:
                object.__setattr__(self, bound, grid.positive(bound, getattr(self, bound)))
        if self.min_lr and self.max_lr and self.max_lr <= self.min_lr:
            raise InvalidArgument.of("max_lr", self.max_lr, f"more than min_lr={self.min_lr!r}")

    def next_probes(self, curves: Curves, plan: Plan) -> tuple[Probe, ...]:
        """Replay the race on the curves so far; return the first probes without a curve."""
        answer = _replay(self, curves, plan)
        return answer if isinstance(answer, tuple) else ()

    def conclude(self, curves: Curves, plan: Plan) -> Suggestion:
        """Replay the race to its end."""
        answer = _replay(self, curves, plan)
        if isinstance(answer, tuple):
            raise ValueError("the race is not over: next_probes still asks for probes")
        return answer


def _replay(race: Race, curves: Curves, plan: Plan) -> tuple[Probe, ...] | Suggestion:
    """Run the script of a race against recorded curves, as far as they reach."""
    if plan.train_steps is None:
        raise InvalidArgument.of("train_steps", None, "the length of the planned run")
    script = _Track(race, plan, plan.train_steps).script()
    try:
        probes = next(script)
        while all(probe.lane in curves for probe in probes):
            probes = script.send([curves[probe.lane] for probe in probes])
    except StopIteration as end:
        suggestion: Suggestion = end.value
        return suggestion
    return tuple(probe for probe in probes if probe.lane not in curves)


@dataclass
class _Rung:
    """One rung: peaks in log10(lr), ascending, and their final losses."""

    steps: int
    apart: float  # decades between its lanes
    peaks: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    @property
    def best(self) -> int:
        """The lane with the lowest loss; of equal ones the lowest learning rate."""
        return int(np.argmin(self.losses))

    @property
    def at_edge(self) -> int:
        """-1 or +1 when the best lane is the first or last, else 0."""
        return {0: -1, len(self.peaks) - 1: 1}.get(self.best, 0)

    def add(self, peak: float, loss: float) -> None:
        """Keep the peaks ascending."""
        place = int(np.searchsorted(self.peaks, peak))
        self.peaks.insert(place, peak)
        self.losses.insert(place, loss)


class _Track:
    """The script of one race: it yields the probes it needs and is sent their curves."""

    def __init__(self, race: Race, plan: Plan, train_steps: int) -> None:
        self.race, self.plan, self.train_steps = race, plan, train_steps
        self.total = int(race.budget * train_steps)
        self.spent = 0
        self.lane = 0
        # A constant schedule never anneals the noise of a high rate away, so it drifts more.
        constant = np.ptp(multipliers(plan.schedule, max(train_steps, 2))) < 1e-9
        self.drift = _DRIFT_CONSTANT if constant else _DRIFT_ANNEALED

    def script(self) -> _Script:
        """The race, from the scout to the answer."""
        scout = min(_SCOUT, self.total // 4)
        budget = self.total - scout
        plans = [shares for shares in _SHARES if _steps(budget, shares[0], _COARSE) >= _SHORTEST]
        if not plans or scout < 4:
            return (yield from self._range_test())
        first, *later = plans[0]
        previous = None
        top = yield from self._scout(scout)
        rung = yield from self._coarse(top, _steps(budget, first, _COARSE))
        if not np.isfinite(rung.losses).any():
            return _none(Status.DIVERGED)
        if len(rung.peaks) > 1 and max(rung.losses) - min(rung.losses) <= 1e-9 * abs(
            min(rung.losses)
        ):
            return _none(Status.NO_SIGNAL)
        for share in later:
            steps = max(rung.steps, _steps(budget, share, _FINE))
            if self.spent + 2 * steps > 1.1 * self.total:
                break
            previous, centre = rung, self._aim(previous, rung, steps)
            rung = yield from self._fine(centre, min(steps, self.train_steps))
        return self._answer(previous, rung)

    def _range_test(self) -> _Script:
        """The fallback when there is not enough for one rung."""
        method = RangeTest(max(10, self.total), self.race.min_lr, self.race.max_lr)
        curves: dict[int, Curve] = {}
        while probes := method.next_probes(curves, self.plan):
            for probe, curve in zip(probes, (yield probes), strict=True):
                curves[probe.lane] = curve
        return method.conclude(curves, self.plan)

    def _scout(self, steps: int) -> Generator[tuple[Probe, ...], Sequence[Curve], float]:
        """Climb in leaps until training diverges; return log10 of where it did."""
        if self.race.max_lr is not None:
            return math.log10(self.race.max_lr) + 0.5
        lrs = grid.geometric(1e-8, 1e4, max(steps * 5 // 4, 5))
        self.lane += 1
        (curve,) = yield (Probe(self.lane - 1, tuple(lrs.tolist())),)
        self.spent += len(curve)
        return math.log10(curve.lr[-1])

    def _coarse(
        self, top: float, steps: int
    ) -> Generator[tuple[Probe, ...], Sequence[Curve], _Rung]:
        """Lanes from half a decade below divergence down, and further while it helps."""
        rung = _Rung(steps, _COARSE_STEP)
        yield from self._run(rung, [top - 0.5 - _COARSE_STEP * k for k in range(_COARSE)])
        while rung.at_edge < 0 and len(rung.peaks) < _COARSE + _MOST:
            yield from self._run(rung, [rung.peaks[0] - _COARSE_STEP])
        return rung

    def _fine(
        self, centre: float, steps: int
    ) -> Generator[tuple[Probe, ...], Sequence[Curve], _Rung]:
        """Lanes around the centre, and one more beyond an edge while the budget lasts."""
        rung = _Rung(steps, _FINE_STEP)
        yield from self._run(rung, [centre + _FINE_STEP * k for k in (-1, 0, 1)])
        for _ in range(2):
            side = rung.at_edge
            if side == 0 or self.spent + steps > 1.15 * self.total:
                break
            edge = rung.peaks[0] if side < 0 else rung.peaks[-1]
            yield from self._run(rung, [edge + side * _FINE_STEP])
        return rung

    def _run(
        self, rung: _Rung, peaks: list[float]
    ) -> Generator[tuple[Probe, ...], Sequence[Curve], None]:
        """Run the planned schedule, compressed to the rung, at these peaks."""
        shape = multipliers(self.plan.schedule, rung.steps)
        peaks = [peak for peak in map(self._bounded, peaks) if peak not in rung.peaks]
        probes = tuple(
            Probe(
                lane=self.lane + number,
                lrs=tuple((10.0**peak * shape).tolist()),
                stop=StopRule(divergence=False),
                evaluate=self.plan.can_evaluate,
            )
            for number, peak in enumerate(dict.fromkeys(peaks))
        )
        self.lane += len(probes)
        if not probes:
            return
        for peak, curve in zip(dict.fromkeys(peaks), (yield probes), strict=True):
            self.spent += len(curve)
            rung.add(peak, final_loss(curve))

    def _bounded(self, peak: float) -> float:
        low = -math.inf if self.race.min_lr is None else math.log10(self.race.min_lr)
        high = math.inf if self.race.max_lr is None else math.log10(self.race.max_lr)
        return min(max(peak, low), high)

    def _aim(self, previous: _Rung | None, rung: _Rung, steps: int) -> float:
        """The best peak for a run of ``steps`` updates, judged from shorter rungs."""
        drift = self.drift
        # The bottom of a coarse rung is too uncertain to tell a drift.
        if previous is not None and previous.apart == rung.apart and not previous.at_edge:
            longer = math.log10(rung.steps / previous.steps)
            seen = (_bottom(previous) - _bottom(rung)) / max(longer, _LONGER)
            drift += _TRUST * (float(np.clip(seen, *_SEEN)) - drift)
        return _bottom(rung) - drift * math.log10(max(steps, rung.steps) / rung.steps)

    def _answer(self, previous: _Rung | None, rung: _Rung) -> Suggestion:
        bounds = [math.log10(b) for b in (self.race.min_lr, self.race.max_lr) if b is not None]
        edge = any(abs(bound - _bottom(rung)) < 1e-9 for bound in bounds)
        # At a bound the best lies beyond it, and no drift leads back inside.
        peak = _bottom(rung) if edge else self._bounded(self._aim(previous, rung, self.train_steps))
        return Suggestion(
            lr=10.0**peak,
            low=10.0 ** (peak - _FINE_STEP),
            high=10.0 ** (peak + _FINE_STEP),
            status=Status.AT_EDGE if edge else Status.FOUND,
            why=(
                f"{self.lane} lanes, {self.spent} updates ({self.spent / self.train_steps:.2f} "
                f"planned runs): on the last rung of {rung.steps} updates the loss is lowest at a "
                f"peak of {10.0 ** _bottom(rung):.3g}; for {self.train_steps} updates that makes "
                f"{10.0**peak:.3g}."
            ),
            rule="race",
        )


def _steps(budget: int, share: float, lanes: int) -> int:
    """Updates of each lane of a rung that gets this share of the budget."""
    return int(budget * share / (lanes + _EXTRA))


def _bottom(rung: _Rung) -> float:
    """The bottom of the parabola through the best lane and its neighbours, in log10(lr)."""
    best = rung.best
    around = slice(best - 1, best + 2)
    if rung.at_edge or not np.isfinite(rung.losses[around]).all():
        return rung.peaks[best]
    (a, b, c), (y, z, w) = rung.peaks[around], rung.losses[around]
    left, right = (z - y) / (b - a), (w - z) / (c - b)
    if right - left <= 0.0:
        return b
    bottom = 0.5 * (a + b) - left * (c - a) / (2.0 * (right - left))
    # Not further than half a cell: a parabola through a cliff points anywhere.
    return float(np.clip(bottom, b - 0.5 * (b - a), b + 0.5 * (c - b)))


def _none(status: Status) -> Suggestion:
    return Suggestion(math.nan, math.nan, math.nan, status, status.value, "race")
