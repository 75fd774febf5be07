"""How a race goes: scout, many short lanes, fewer and longer ones, the answer.

Written as one script that yields the probes it needs and is sent their curves, so that it reads
from top to bottom. See :mod:`lrsearch.methods.race` for the sources.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lrsearch.core import grid
from lrsearch.core.climb import divergence
from lrsearch.core.curve import Curve, final_loss
from lrsearch.core.outcome import Status
from lrsearch.core.schedule import multipliers
from lrsearch.core.search import Plan, Probe
from lrsearch.core.stopping import StopRule
from lrsearch.core.suggest import Suggestion
from lrsearch.core.surface import LossSurface, Run, fit_surface, resampled_best
from lrsearch.methods.race_design import DESIGN, passes, shortened_epoch
from lrsearch.methods.range_test import RangeTest

__all__ = ["DESIGN", "Script", "Track"]

_MOST = 5  # lanes that may be added below the first rung while its lowest lane is the best
_MOST_UNLEARNED = 12  # the same while no lane has learned anything
_MOST_BEYOND = 3  # lanes that may be added to a later rung beyond its outer ones
_OVER = 1.1  # times the budget that may be spent when the best lane is still an outer one
_HALVINGS = 4  # shorter runs that are read from a lane of a constant schedule
_NEAR = 0.15  # decades within which two learning rates count as the same
_QUANTILES = (0.1, 0.9)  # of the likely best rates: the ends of the interval

# It ends with how to conclude: that takes time, and is wanted only once.
Script = Generator[tuple[Probe, ...], Sequence[Curve], Callable[[], Suggestion]]
_Step = Generator[tuple[Probe, ...], Sequence[Curve], None]


@dataclass(frozen=True)
class _Rung:
    """What is asked of one rung: lanes ``apart`` decades from each other, for some updates."""

    updates: int
    lanes: int
    apart: float
    until: float  # updates in all after which it gets no further lane
    room: float = 0.0  # lanes to keep updates for that may have to be added

    def doubled(self) -> _Rung:
        """The same, twice as long."""
        return replace(self, updates=2 * self.updates)


class Track:
    """The script of one race: it yields the probes it needs and is sent their curves."""

    def __init__(
        self,
        budget: float,
        bounds: tuple[float | None, float | None],
        plan: Plan,
        train_steps: int,
        hand_over: bool = False,
    ) -> None:
        self.budget, self.bounds, self.plan, self.train_steps = budget, bounds, plan, train_steps
        self.total = int(budget * train_steps)
        self.spent = 0
        self.lane = 0
        self.hand_over = hand_over
        self.keep = False  # the lanes of the rung that is run now
        self.start_loss = math.inf
        self.noise = 0.0  # standard deviation of the loss from batch to batch
        self.runs: list[Run] = []
        # A constant schedule compressed is its own beginning: a lane shows shorter runs too.
        self.nested = bool(np.ptp(multipliers(plan.schedule, max(train_steps, 2))) < 1e-9)

    def script(self) -> Script:
        """The race, from the scout to the answer."""
        scout = min(DESIGN.scout, self.total // 4)
        coarse = self._coarse_rung(scout)
        if scout < 4 or coarse.updates < 2:
            return (yield from self._range_test())
        top = yield from self._scout(scout)
        yield from self._descend(coarse, top - DESIGN.below_top)
        # A few updates may be too few to learn anything.
        while (surface := self._surface()) is None and self._affords(longer := coarse.doubled()):
            coarse = longer
            yield from self._descend(coarse, top - DESIGN.below_top)
        for rung in self._rungs(coarse):
            if surface is None:
                break
            self.keep = self.hand_over and rung.updates == 0
            yield from self._bracket(self._fitted(rung), surface)
            surface = self._surface()
        if surface is not None:
            return functools.partial(self._answer, surface)
        broken = all(math.isinf(run.loss) for run in self.runs)
        return functools.partial(_none, Status.DIVERGED if broken else Status.NO_SIGNAL)

    def _surface(self) -> LossSurface | None:
        return fit_surface(self.runs, self.start_loss, self.plan.can_evaluate)

    def _affords(self, rung: _Rung) -> bool:
        """Whether enough of the budget is left after such a rung."""
        return self.spent + rung.lanes * rung.updates < 0.6 * self.total

    def _range_test(self) -> Script:
        """The fallback when there is not enough for one rung."""
        method = RangeTest(max(10, self.total), min_lr=self.bounds[0], max_lr=self.bounds[1])
        curves: dict[int, Curve] = {}
        while probes := method.next_probes(curves, self.plan):
            for probe, curve in zip(probes, (yield probes), strict=True):
                curves[probe.lane] = curve
        return functools.partial(method.conclude, curves, self.plan)

    def _scout(self, updates: int) -> Generator[tuple[Probe, ...], Sequence[Curve], float]:
        """Climb in leaps until training diverges; return log10 of where it did."""
        highest = self.bounds[1] or 1e4
        lrs = grid.geometric(min(1e-8, 1e-4 * highest), highest, max(updates * 5 // 4, 5))
        (curve,) = yield (self._probe(tuple(lrs.tolist()), checkpoints=(0,)),)
        self._note_start(curve)
        top = divergence(curve)
        # What was not seen to diverge below a bound begins at the bound.
        held = self.bounds[1] is not None and top == math.log10(lrs[-1])
        return top + DESIGN.below_top * held

    def _note_start(self, curve: Curve) -> None:
        """Keep the loss before training: held out, or while the scout's rates are tiny."""
        quiet = curve.loss[: max(1, len(curve) // 3)]
        # Losses of single batches scatter: a lane has failed only if it is clearly above.
        self.noise = float(np.std(quiet))
        usual = float(np.median(quiet)) + 2.0 * self.noise
        self.start_loss = curve.evaluations[0][1] if curve.evaluations else usual
        self.spent += len(curve)

    def _coarse_rung(self, scout: int) -> _Rung:
        share = min(DESIGN.coarse_length, DESIGN.coarse_share * self.budget)
        most = int(DESIGN.coarse_most * (self.total - scout) / DESIGN.coarse)
        updates = min(max(DESIGN.shortest, int(share * self.train_steps)), most)
        return _Rung(updates, DESIGN.coarse, DESIGN.coarse_apart, math.inf)

    def _rungs(self, coarse: _Rung) -> list[_Rung]:
        """The later rungs. The last one's length is settled when the others have been paid for."""
        lengths = [min(1.0, DESIGN.last * self.budget)]
        while lengths[-1] / DESIGN.ratio * self.train_steps > DESIGN.least_ratio * coarse.updates:
            lengths.append(lengths[-1] / DESIGN.ratio)
        early = DESIGN.early * self.total
        first = len(lengths) == 1
        room, apart = (
            (DESIGN.room, DESIGN.apart) if first else (DESIGN.later_room, DESIGN.last_apart)
        )
        return [
            *(
                _Rung(int(length * self.train_steps), DESIGN.lanes, DESIGN.apart, early)
                for length in lengths[:0:-1]
            ),
            _Rung(0, DESIGN.last_lanes, apart, _OVER * self.total, room),
        ]

    def _fitted(self, rung: _Rung) -> _Rung:
        """Give the last rung the length, and beyond the planned one the lanes, that are left."""
        if rung.updates:
            return rung
        left = self.total - self.spent
        lanes = max(rung.lanes, int(left / self.train_steps - rung.room))
        updates = max(DESIGN.shortest, min(self.train_steps, int(left / (lanes + rung.room))))
        apart = rung.apart * rung.lanes / lanes
        return replace(rung, updates=updates, lanes=lanes, apart=apart)

    def _descend(self, rung: _Rung, highest: float) -> _Step:
        """Run lanes from the highest peak down, and further while it helps."""
        peaks = [highest - rung.apart * k for k in range(rung.lanes)]
        losses = yield from self._run(rung.updates, peaks)
        while self._goes_on(losses, rung):
            peaks.append(peaks[-1] - rung.apart)
            losses += yield from self._run(rung.updates, peaks[-1:])

    def _goes_on(self, losses: Sequence[float], rung: _Rung) -> bool:
        """Whether the best may lie below: the lowest lane is the best, or does harm as all do.

        A loss that cannot rise far, as with clipped gradients, hides from the scout where
        training fails, and then the first lanes may all lie above.
        """
        more = len(losses) - rung.lanes
        # What is below the noise of a batch is no harm: more updates are needed, not less.
        harms = min(losses) >= self.start_loss and losses[-1] - self.start_loss > self.noise
        if harms and more < _MOST_UNLEARNED and self._affords(replace(rung, lanes=1)):
            return True
        return bool(np.argmin(losses) == len(losses) - 1) and more < _MOST

    def _bracket(self, rung: _Rung, surface: LossSurface) -> _Step:
        """Run lanes around the likely best, and further lanes while the best is an outer one."""
        here, there = (
            surface.best(updates, self._passes(updates))
            for updates in (rung.updates, self.train_steps)
        )
        centre = here + DESIGN.ahead * (there - here) + DESIGN.lift
        peaks = [centre + rung.apart * (k - (rung.lanes - 1) / 2) for k in range(rung.lanes)]
        losses = yield from self._run(rung.updates, peaks)
        for _ in range(_MOST_BEYOND):
            best = int(np.argmin(losses))
            if 0 < best < len(peaks) - 1 or self.spent + rung.updates > rung.until:
                break
            beyond = peaks[best] + (rung.apart if best else -rung.apart)
            if self._bounded(beyond) == self._bounded(peaks[best]):
                break
            place = best + 1 if best else 0
            peaks.insert(place, beyond)
            losses[place:place] = yield from self._run(rung.updates, [beyond])

    def _run(
        self, updates: int, peaks: Sequence[float]
    ) -> Generator[tuple[Probe, ...], Sequence[Curve], list[float]]:
        """Run the planned schedule, compressed to so many updates, at these peaks."""
        shape = multipliers(self.plan.schedule, updates)
        within = [self._bounded(peak) for peak in peaks]
        distinct = list(dict.fromkeys(within))
        probes = tuple(
            self._probe(
                tuple((10.0**peak * shape).tolist()),
                self._halves(updates),
                self._updates_per_epoch(updates),
            )
            for peak in distinct
        )
        losses = {}
        for peak, curve in zip(distinct, (yield probes), strict=True):
            self.spent += len(curve)
            self.runs += self._seen(peak, curve)
            losses[peak] = final_loss(curve)
        return [losses[peak] for peak in within]

    def _probe(
        self,
        lrs: tuple[float, ...],
        checkpoints: tuple[int, ...] = (),
        updates_per_epoch: int | None = None,
    ) -> Probe:
        self.lane += 1
        return Probe(
            lane=self.lane - 1,
            lrs=lrs,
            stop=StopRule(divergence=self.lane == 1),
            evaluate=self.plan.can_evaluate and self.lane > 1,
            checkpoints=checkpoints if self.plan.can_evaluate else (),
            keep=self.keep,
            updates_per_epoch=updates_per_epoch,
        )

    def _updates_per_epoch(self, updates: int) -> int | None:
        # What is handed over must have seen what the planned run has.
        if not self.plan.can_shorten_epochs or self.keep:
            return None
        return shortened_epoch(self.plan.updates_per_epoch, updates, self.train_steps)

    def _passes(self, updates: int) -> float:
        """How often a run of this length sees each example."""
        return passes(updates, self._updates_per_epoch(updates) or self.plan.updates_per_epoch)

    def _halves(self, updates: int) -> tuple[int, ...]:
        """Lengths of the shorter runs that a run of this length contains, if it does."""
        halves = [updates >> power for power in range(_HALVINGS, 0, -1)] if self.nested else []
        epoch = self._updates_per_epoch(updates)
        return tuple(
            half
            for half in halves
            if half >= DESIGN.shortest and self._updates_per_epoch(half) == epoch
        )

    def _seen(self, peak: float, curve: Curve) -> list[Run]:
        """Return what a lane says: what it ended at, and what shorter runs would have."""
        if len(curve.finite()) < len(curve):
            return [Run(peak, len(curve), math.inf)]
        if curve.evaluations:
            return [Run(peak, end, loss, self._passes(end)) for end, loss in curve.evaluations]
        ends = (*self._halves(len(curve)), len(curve))
        return [
            Run(peak, end, final_loss(_beginning(curve, end)), self._passes(end)) for end in ends
        ]

    def _bounded(self, peak: float) -> float:
        lowest, highest = self.bounds
        low = -math.inf if lowest is None else math.log10(lowest)
        high = math.inf if highest is None else math.log10(highest)
        return min(max(peak, low), high)

    def _answer(self, surface: LossSurface) -> Suggestion:
        bounds = [math.log10(bound) for bound in self.bounds if bound is not None]
        edge = any(abs(bound - surface.centre) < 1e-9 for bound in bounds)
        seen = self._passes(self.train_steps)
        beyond = surface.beyond(self.train_steps, seen)
        below = DESIGN.answer_below + DESIGN.answer_drift * beyond
        # At a bound the best lies beyond it, and no drift leads back inside.
        best = surface.least_regret(self.train_steps, seen)
        peak = surface.centre if edge else self._bounded(best - below)
        likely = (
            resampled_best(
                self.runs,
                self.start_loss,
                self.train_steps,
                seen,
                draws=DESIGN.resamplings,
                seed=self.plan.seed,
                held_out=self.plan.can_evaluate,
            )
            - below
        )
        usual = DESIGN.error + DESIGN.error_drift * beyond
        low, high = np.quantile([*likely, peak], _QUANTILES)
        near = float(np.mean(np.abs(likely - peak) <= _NEAR)) if len(likely) else 0.0
        longest = max(run.updates for run in self.runs)
        return Suggestion(
            lr=10.0**peak,
            low=10.0 ** min(self._bounded(float(low) - usual), peak),
            high=10.0 ** max(self._bounded(float(high) + usual), peak),
            status=Status.AT_EDGE if edge else Status.FOUND,
            why=(
                f"{self.lane} lanes of up to {longest} updates, {self.spent} updates in all "
                f"({self.spent / self.train_steps:.2f} planned runs); the answer wins in "
                f"{100 * near:.0f} % of resamplings of the lanes, to within a factor "
                f"{10**_NEAR:.1f}."
            ),
            rule="race",
        )


def _beginning(curve: Curve, updates: int) -> Curve:
    return replace(curve, lr=curve.lr[:updates], loss=curve.loss[:updates])


def _none(status: Status) -> Suggestion:
    return Suggestion(math.nan, math.nan, math.nan, status, status.value, "race")
