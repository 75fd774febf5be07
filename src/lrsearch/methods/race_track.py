"""How a race goes: scout, many short lanes, fewer and longer ones, the answer.

Written as one script that yields the probes it needs and is sent their curves, so that it reads
from top to bottom. See :mod:`lrsearch.methods.race` for the sources.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np

from lrsearch.core import grid
from lrsearch.core.climb import divergence, harmless
from lrsearch.core.curve import Curve, Stop
from lrsearch.core.evidence import BASELINE_LR, same_losses
from lrsearch.core.outcome import HELD_OUT_BROKEN, Status, broken_batch
from lrsearch.core.schedule import multipliers
from lrsearch.core.search import Plan, Probe, Script
from lrsearch.core.stopping import StopRule
from lrsearch.core.suggest import Suggestion
from lrsearch.core.surface import KERNEL, LossSurface, fit_surface
from lrsearch.methods.race_design import DESIGN, passes, shortened_epoch
from lrsearch.methods.race_evidence import Evidence, Trial
from lrsearch.methods.range_test import RangeTest

__all__ = ["DESIGN", "Track"]

_MOST = 5  # lanes that may be added below the first rung while its lowest lane still learns
_MOST_UNLEARNED = 12  # the same while no lane has learned anything, or all of them the same
_MOST_BEYOND = 3  # lanes that may be added to a later rung beyond its outer ones
_OVER = 1.1  # times the budget that may be spent when the best lane is still an outer one
_HALVINGS = 4  # shorter runs that are read from a lane of a constant schedule
_HIGHEST = 1e4  # learning rate to which the scout climbs where nothing stops it
_FEWEST = 10  # steps below which nothing can be compared
_QUANTILES = (0.1, 0.9)  # of the likely best rates: the ends of the interval

_Returned = TypeVar("_Returned")
_Asks: TypeAlias = Generator[Sequence[Probe], Sequence[Curve], _Returned]


@dataclass(frozen=True)
class _Rung:
    """What is asked of one rung: lanes ``apart`` decades from each other, for some updates."""

    updates: int
    lanes: int
    apart: float
    until: float  # updates in all after which it gets no further lane
    room: float = 0.0  # lanes to keep updates for that may have to be added


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
        self.hand_over = hand_over
        self.keep = False  # the lanes of the rung that is run now
        # A constant schedule compressed is its own beginning: a lane shows shorter runs too.
        self.nested = bool(np.ptp(multipliers(plan.schedule, max(train_steps, 2))) < 1e-9)

    def script(self) -> Script:
        """The race, from the scout to the answer."""
        scout = min(DESIGN.scout, self.total // 4)
        coarse = self._coarse_rung(scout)
        if scout < 4 or coarse.updates < 2:
            return (yield from self._range_test())
        climb = yield from self._scout(scout)
        broken = yield from self._broken(climb)
        if broken is not None:
            return broken
        top = self._top(climb)
        coarse = yield from self._first_rungs(coarse, top)
        trouble = yield from self._trouble()
        if trouble is not None:
            return trouble
        surface = self._surface()
        rungs = self._rungs(coarse)
        for rung in rungs:
            if surface is None:
                break
            self.keep = self.hand_over and rung.updates == 0
            explored = self._explored(climb, coarse, rungs) if rung is rungs[0] else 0
            yield from self._bracket(self._fitted(rung), surface, explored)
            surface = self._surface()
        trouble = yield from self._trouble()
        if trouble is not None:
            return trouble
        yield from self._held_out_check(surface)
        surface = self._surface()
        if surface is None or not self.evidence.significant:
            return self._nothing_learned()
        return self._answer(surface)

    # ------------------------------------------------------------------ before the first rung

    def _range_test(self) -> Script:
        """The fallback when there is not enough for one rung."""
        if self.total < _FEWEST:
            text = (
                f"{self.total} steps are too few to compare learning rates: a search needs "
                f"{_FEWEST} at least. Give a larger budget, or plan a longer run."
            )
            return _none(Status.NO_SIGNAL, text)
        method = RangeTest(self.total, min_lr=self.bounds[0], max_lr=self.bounds[1])
        found = yield from method.search(self.plan)
        few = f"The budget of {self.total} steps is too small for a race; a range test was made. "
        return replace(found, why=few + found.why)

    def _scout(self, updates: int) -> _Asks[Curve]:
        """Climb in leaps until training diverges."""
        highest = self.bounds[1] or _HIGHEST
        lrs = grid.geometric(min(1e-8, 1e-4 * highest), highest, max(updates * 5 // 4, 5))
        start = (0,) if self.plan.can_evaluate else ()
        (climb,) = yield [Probe(tuple(lrs.tolist()), "climb", checkpoints=start)]
        self.spent += len(climb)
        self.evidence = Evidence(self.plan.can_evaluate, climb)
        return climb

    def _top(self, climb: Curve) -> float:
        """Log10 of the highest rate of the first rung."""
        top = divergence(climb)
        # What was not seen to diverge below a bound begins at the bound.
        held = self.bounds[1] is not None and top == math.log10(climb.lr[-1])
        return top if held else top - DESIGN.below_top

    def _broken(self, climb: Curve) -> _Asks[Suggestion | None]:
        """Say so where a loss was not finite at a rate that cannot have caused it."""
        if climb.evaluations and not math.isfinite(climb.evaluations[0][1]):
            return _none(Status.NOT_FINITE, HELD_OUT_BROKEN)
        # The loss rises before the rate makes it infinite; a broken batch comes out of the blue.
        calm = climb.stop is Stop.NOT_FINITE and harmless(climb) >= len(climb) - 2
        if not calm:
            return None
        return (yield from self._bad_batch(len(climb)))

    def _bad_batch(self, step: int) -> _Asks[Suggestion | None]:
        """Train on the same batches without moving the weights: is the loss finite there?"""
        (curve,) = yield [self._baseline_probe(step)]
        self.spent += len(curve)
        if curve.stop is not Stop.NOT_FINITE:
            return None
        return _none(Status.NOT_FINITE, broken_batch(len(curve)))

    # ------------------------------------------------------------------------ the first rungs

    def _coarse_rung(self, scout: int) -> _Rung:
        share = min(DESIGN.coarse_length, DESIGN.coarse_share * self.budget)
        most = int(DESIGN.coarse_most * (self.total - scout) / DESIGN.coarse)
        updates = min(max(DESIGN.shortest, int(share * self.train_steps)), most)
        return _Rung(updates, DESIGN.coarse, DESIGN.coarse_apart, math.inf)

    def _first_rungs(self, coarse: _Rung, top: float) -> _Asks[_Rung]:
        """Run lanes over decades, and longer ones while nothing was learned."""
        yield from self._descend(coarse, top)
        while self.evidence.idle:
            longer = self._longer(coarse)
            if longer is None:
                break
            coarse = longer
            if self.evidence.noisy:
                top = min(top, self.evidence.highest_harmless + coarse.apart)
            yield from self._descend(coarse, top)
        return coarse

    def _longer(self, rung: _Rung) -> _Rung | None:
        """The same twice as long; fewer and much longer ones where noise hides what is learned."""
        if not self.evidence.noisy:
            longer = replace(rung, updates=2 * rung.updates)
            return longer if self._affords(longer) else None
        lanes = min(rung.lanes, DESIGN.noisy_lanes)
        left = int(DESIGN.noisy_share * (self.total - self.spent)) // (lanes + 1)
        updates = min(DESIGN.noisy_longer * rung.updates, left, self.train_steps)
        return replace(rung, updates=updates, lanes=lanes) if updates > rung.updates else None

    def _affords(self, rung: _Rung) -> bool:
        """Whether enough of the budget is left after such a rung."""
        return self.spent + rung.lanes * rung.updates < 0.6 * self.total

    def _descend(self, rung: _Rung, highest: float) -> _Asks[None]:
        """Run lanes from the highest peak down, and further until one stops learning."""
        peaks = [highest - rung.apart * k for k in range(rung.lanes)]
        losses = yield from self._run(rung.updates, peaks, baseline=True)
        while self._goes_on(losses, rung):
            peaks.append(peaks[-1] - rung.apart)
            losses += yield from self._run(rung.updates, peaks[-1:])

    def _goes_on(self, losses: Sequence[float], rung: _Rung) -> bool:
        """Whether the best may lie below: the lowest lane is among the best, or does harm.

        A loss that cannot rise far, as with clipped gradients, hides from the scout where
        training fails, and then the first lanes may all lie above. Where it cannot rise at all, as
        in contrastive learning, they may all have collapsed to the same loss.
        """
        more, start = len(losses) - rung.lanes, self.evidence.start_loss
        # What is below the noise of a batch is no harm: more updates are needed, not less.
        harms = min(losses) >= start and losses[-1] - start > self.evidence.noise
        learns = start - losses[-1] >= DESIGN.still_learns * (start - min(losses)) > 0.0
        if (harms or learns) and more < _MOST_UNLEARNED and self._affords(replace(rung, lanes=1)):
            return True
        return bool(np.argmin(losses) == len(losses) - 1) and more < _MOST

    # ------------------------------------------------------------------------ the later rungs

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
        room = rung.room + self.evidence.controlled
        lanes = max(rung.lanes, int(left / self.train_steps - room))
        updates = max(DESIGN.shortest, min(self.train_steps, int(left / (lanes + room))))
        apart = rung.apart * rung.lanes / lanes
        return replace(rung, updates=updates, lanes=lanes, apart=apart)

    def _explored(self, climb: Curve, coarse: _Rung, rungs: Sequence[_Rung]) -> int:
        """How many decades below the favourite longer lanes look for a second valley.

        One, where such a lane is cheap. Where the climb came to no end the loss cannot rise, and
        short runs prefer the rates at which the net collapses: then all decades that learned.
        """
        if climb.lr[-1] >= 0.999 * (self.bounds[1] or _HIGHEST):
            best, lowest = self.evidence.learned_between
            return max(1, math.floor((best - lowest) / DESIGN.explore))
        short = coarse.updates <= DESIGN.shortest and self.budget >= 1.0
        return int(len(rungs) > 1 or short)

    def _bracket(self, rung: _Rung, surface: LossSurface, explored: int) -> _Asks[None]:
        """Run lanes around the likely best, and further lanes while the best is an outer one.

        Further lanes lie below it, ``explored`` of them: the loss may have a second valley, which
        shorter runs do not reach.
        """
        here, there = (
            surface.best(updates, self._passes(updates))
            for updates in (rung.updates, self.train_steps)
        )
        centre = here + DESIGN.ahead * (there - here) + DESIGN.lift
        peaks = [centre + rung.apart * (k - (rung.lanes - 1) / 2) for k in range(rung.lanes)]
        peaks = [*(centre - DESIGN.explore * k for k in range(explored, 0, -1)), *peaks]
        losses = yield from self._run(rung.updates, peaks, baseline=self.evidence.controlled)
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
        if not self.evidence.significant and not self.evidence.controlled:
            yield from self._run(rung.updates, [], baseline=True)

    def _held_out_check(self, surface: LossSurface | None) -> _Asks[None]:
        """Where no held-out loss has fallen yet but training losses have, look at a longer run."""
        if surface is None or not self.evidence.unconfirmed:
            return
        longest = max(trial.updates for trial in self.evidence.trials)
        updates = min(self.train_steps, max(2 * longest, int(DESIGN.check * self.train_steps)))
        peak = surface.best(updates, self._passes(updates))
        yield from self._run(updates, [peak])

    def _run(
        self, updates: int, peaks: Sequence[float], baseline: bool = False
    ) -> _Asks[list[float]]:
        """Run the planned schedule, compressed to so many updates, at these peaks.

        With ``baseline``, weights that do not move are run beside them. Returns the losses by
        which the lanes are ranked.
        """
        shape = multipliers(self.plan.schedule, updates)
        within = [self._bounded(peak) for peak in peaks]
        distinct = list(dict.fromkeys(within))
        halves, epoch = self._halves(updates), self._updates_per_epoch(updates)
        probes = [
            self._probe(tuple((10.0**peak * shape).tolist()), halves, epoch) for peak in distinct
        ]
        if baseline:
            probes.append(self._baseline_probe(updates, epoch))
        curves = yield probes
        self.spent += sum(map(len, curves))
        ends = (*halves, updates)
        trials = [
            Trial(peak, curve, updates, ends, self._passes)
            for peak, curve in zip(distinct, curves, strict=False)
        ]
        self.evidence = self.evidence.plus(trials, curves[-1] if baseline else None)
        losses = self.evidence.losses(updates)
        return [losses[peak] for peak in within]

    def _probe(
        self, lrs: tuple[float, ...], halves: tuple[int, ...], updates_per_epoch: int | None
    ) -> Probe:
        return Probe(
            lrs,
            "rung",
            StopRule(divergence=False),
            evaluate=self.plan.can_evaluate,
            checkpoints=halves if self.plan.can_evaluate else (),
            keep=self.keep,
            updates_per_epoch=updates_per_epoch,
        )

    def _baseline_probe(self, updates: int, updates_per_epoch: int | None = None) -> Probe:
        probe = self._probe((BASELINE_LR,) * updates, (), updates_per_epoch)
        return replace(probe, role="baseline", keep=False)

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

    def _bounded(self, peak: float) -> float:
        lowest, highest = self.bounds
        low = -math.inf if lowest is None else math.log10(lowest)
        high = math.inf if highest is None else math.log10(highest)
        return min(max(peak, low), high)

    # ------------------------------------------------------------------------------ the answer

    def _surface(self) -> LossSurface | None:
        return fit_surface(self.evidence.runs, self.evidence.start_loss, self.evidence.held_out)

    def _trouble(self) -> _Asks[Suggestion | None]:
        """Return why there can be no answer, where the losses show it."""
        evidence = self.evidence
        if same_losses(evidence.same_batches()):
            return _none(Status.NO_EFFECT)
        step = evidence.broken_at
        return None if step is None else (yield from self._bad_batch(step))

    def _nothing_learned(self) -> Suggestion:
        if self.evidence.all_broken:
            return _none(Status.DIVERGED)
        if self.evidence.unconfirmed:
            return _none(
                Status.NO_SIGNAL,
                "The training loss fell, but the held-out loss did not at any learning rate. Use "
                "more training data or a longer run, or check that val_loader fits the training "
                "data.",
            )
        longest = max(trial.updates for trial in self.evidence.trials)
        return _none(
            Status.NO_SIGNAL,
            f"In runs of up to {longest} steps the loss did not fall by more than its noise at any "
            "learning rate. Give a larger budget, a val_loader or larger batches; check that the "
            "loss depends on the trained parameters; or keep the learning rate you have if the "
            "model is trained already.",
        )

    def _answer(self, surface: LossSurface) -> Suggestion:
        bounds = [math.log10(bound) for bound in self.bounds if bound is not None]
        edge = any(abs(bound - surface.centre) < 1e-9 for bound in bounds)
        seen = self._passes(self.train_steps)
        beyond = surface.beyond(self.train_steps, seen)
        below = DESIGN.answer_below + DESIGN.answer_drift * beyond
        # At a bound the best lies beyond it, and no drift leads back inside.
        best = surface.least_regret(self.train_steps, seen)
        peak = surface.centre if edge else self._bounded(best - below)
        likely = surface.likely_best(self.train_steps, seen) - below
        usual = DESIGN.error + DESIGN.error_drift * beyond
        # Where noise hides what the losses tell, their best is the less sure.
        usual += DESIGN.error_noise * math.log10(surface.floor / KERNEL.floor)
        low, high = np.quantile([*likely, peak], _QUANTILES)
        low = 10.0 ** min(self._bounded(float(low) - usual), peak)
        high = 10.0 ** max(self._bounded(float(high) + usual), peak)
        count = len(self.evidence.trials)
        ranked = (
            ""
            if self.evidence.held_out or not self.plan.can_evaluate
            else (" They were ranked by training loss, as the held-out loss of short runs rose.")
        )
        return Suggestion(
            lr=10.0**peak,
            low=low,
            high=high,
            status=Status.AT_EDGE if edge else Status.FOUND,
            why=(
                f"Trained {count} short versions of your run at different learning rates; "
                f"{10.0**peak:.2g} is expected to end lowest over {self.train_steps} steps; "
                f"anything from {low:.2g} to {high:.2g} is plausible.{ranked}"
            ),
            rule="race",
        )


def _none(status: Status, why: str | None = None) -> Suggestion:
    return Suggestion(math.nan, math.nan, math.nan, status, why or status.value, "race")
