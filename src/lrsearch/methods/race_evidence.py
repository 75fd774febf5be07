"""What the trials of a race have shown so far: who learned, by which loss, and how surely.

Every trial is measured against a *baseline*: weights that do not move, on the same batches. It
tells what of a fall is not due to the learning rate: batches that happen to be easy, and running
statistics that settle at any rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from lrsearch.core.curve import Curve, Stop, final_loss
from lrsearch.core.evidence import learned, training_learned
from lrsearch.core.surface import Run

__all__ = ["Evidence", "Trial"]

_TAIL = 3  # a third of a trial counts as its end where its losses are paired with the baseline's
_MOVED = 0.1  # share of the best fall that the baseline itself may make and count for nothing
_NOISY = 1.0  # standard deviations of a batch's loss: less is a fall that the noise hides
_CONFIRMS = 0.1  # share of the training loss's fall by which the held-out loss must fall to rank
_EQUAL, _PLATEAU = 0.02, 1.3  # losses this close, over so many decades, tell nothing of the rate


@dataclass(frozen=True)
class Trial:
    """A compressed run: log10 of its peak, its curve, and the lengths it shows.

    Attributes:
        peak: log10 of its peak learning rate.
        curve: what it measured.
        updates: the steps it was asked for.
        ends: lengths at which it shows what a run of that length ends at, ascending.
        passes: how often a run of a length sees each example.
    """

    peak: float
    curve: Curve
    updates: int
    ends: tuple[int, ...]
    passes: Callable[[int], float]

    @cached_property
    def broke(self) -> bool:
        """Whether a loss was not finite."""
        return len(self.curve) < self.updates or not np.isfinite(self.curve.loss).all()

    @cached_property
    def held_out(self) -> float:
        """The last held-out loss; infinite where training broke."""
        return math.inf if self.broke else final_loss(self.curve)


@dataclass(frozen=True)
class Evidence:
    """The trials and baselines of a race, and what they say.

    Attributes:
        can_evaluate: whether there are held-out losses.
        climb: the scout, whose first losses are those before training.
        trials: every compressed run so far.
        baselines: by their length, runs of weights that do not move.
    """

    can_evaluate: bool
    climb: Curve
    trials: tuple[Trial, ...] = ()
    baselines: Mapping[int, Curve] = field(default_factory=dict)

    def plus(self, trials: Sequence[Trial], baseline: Curve | None) -> Evidence:
        """Return the evidence with the trials of a rung, and its baseline, added."""
        baselines = dict(self.baselines)
        if baseline is not None and np.isfinite(baseline.loss).all():
            baselines[len(baseline)] = baseline
        return replace(self, trials=(*self.trials, *trials), baselines=baselines)

    # --------------------------------------------------------------------------- what is true

    @cached_property
    def noise(self) -> float:
        """Standard deviation of the training loss from batch to batch."""
        return float(np.std(self._quiet.loss))

    @cached_property
    def significant(self) -> bool:
        """Whether some trial fell by more than noise can feign."""
        fell = self._held_out_fell if self.can_evaluate else self._training_fell
        return any(map(fell, self.trials))

    @cached_property
    def unconfirmed(self) -> bool:
        """Whether training losses fell, and no held-out loss has followed so far."""
        fell = any(map(self._training_fell, self.trials))
        return self.can_evaluate and fell and not self.significant

    @cached_property
    def idle(self) -> bool:
        """Whether too little was learned to go on with longer trials around a favourite."""
        learned = [run for run in self.runs if run.loss < self.start_loss]
        return len(learned) < 2 or (self.noisy and not self.significant)

    @cached_property
    def controlled(self) -> bool:
        """Whether later rungs need a baseline of their own: noise, or a baseline that moves."""
        return self.noisy or self._moved

    @cached_property
    def held_out(self) -> bool:
        """Whether trials are ranked by held-out loss.

        They are not while no held-out loss of the longest trials has fallen and training losses
        have: then the trial that learns nothing would win.
        """
        longest = max((trial.updates for trial in self.trials), default=0)
        return self.can_evaluate and self._ranking.get(longest, True)

    @property
    def highest_harmless(self) -> float:
        """Log10 of the highest peak of the longest trials that did no harm beyond the noise."""
        rung = list(self._rungs.values())[-1]
        limit = self.start_loss + self.noise
        calm = [trial.peak for trial in rung if self._end_of(trial) <= limit]
        return max(calm, default=min(trial.peak for trial in rung))

    @property
    def learned_between(self) -> tuple[float, float]:
        """Log10 of the best peak of the first rung, and of the lowest that made half its fall."""
        losses = self.losses(min(self._rungs))
        best = min(losses, key=lambda peak: losses[peak])
        half = 0.5 * (self.start_loss + losses[best])
        return best, min((peak for peak, loss in losses.items() if loss <= half), default=best)

    @property
    def all_broken(self) -> bool:
        """Whether no trial kept a finite loss."""
        return all(trial.broke for trial in self.trials)

    @property
    def broken_at(self) -> int | None:
        """The step at which all trials of a rung had their first loss that is not finite."""
        for rung in self._rungs.values():
            ends = {len(trial.curve) for trial in rung}
            broke = all(trial.curve.stop is Stop.NOT_FINITE for trial in rung)
            if len(rung) > 1 and broke and len(ends) == 1:
                return ends.pop()
        return None

    def same_batches(self) -> list[Curve]:
        """The curves of the first rung, its baseline included: all saw the same batches."""
        first = min(self._rungs, default=0)
        curves = [trial.curve for trial in self._rungs.get(first, ())]
        return [*curves, *([self.baselines[first]] if first in self.baselines else [])]

    # ------------------------------------------------------------------- losses to rank and fit

    @cached_property
    def start_loss(self) -> float:
        """The loss before training, by the measure that ranks; of the longest baseline."""
        if self.held_out:
            return self._reference()
        if self.noisy:
            return self._level
        # Losses of single batches scatter: a lane has failed only if it is clearly above.
        return float(np.median(self._quiet.loss)) + 2.0 * self.noise

    def losses(self, updates: int) -> dict[float, float]:
        """What the trials of a rung ended at, by log10 of their peak."""
        return {trial.peak: self._end_of(trial) for trial in self._rungs.get(updates, ())}

    @cached_property
    def runs(self) -> list[Run]:
        """All trials, for the surface: by one measure, and without those that tell nothing."""
        skipped = self._on_plateaus()
        return [
            run
            for trial in self.trials
            if id(trial) not in skipped
            and (trial.broke or not self.held_out or self._ranking[trial.updates])
            for run in self._ends_at(trial)
        ]

    def _end_of(self, trial: Trial) -> float:
        return self._ends_at(trial)[-1].loss

    def _ends_at(self, trial: Trial) -> list[Run]:
        if trial.broke:
            return [Run(trial.peak, len(trial.curve), math.inf)]
        if self.held_out:
            shift = self._reference() - self._baseline_held_out(trial.updates)
            ends = [(end, loss + shift) for end, loss in trial.curve.evaluations if end]
            return [self._run(trial, end, loss) for end, loss in ends]
        if not self._calm(trial):
            return [Run(trial.peak, trial.updates, math.inf)]
        return [self._run(trial, end, *self._training_end(trial, end)) for end in trial.ends]

    def _run(self, trial: Trial, end: int, loss: float, error: float = 0.0) -> Run:
        finite = loss if math.isfinite(loss) else math.inf
        return Run(trial.peak, end, finite, trial.passes(end), error)

    def _training_end(self, trial: Trial, end: int) -> tuple[float, float]:
        """The training loss at the end of the first so many steps, and its standard error."""
        curve = replace(trial.curve, lr=trial.curve.lr[:end], loss=trial.curve.loss[:end])
        baseline = self.baselines.get(trial.updates)
        if baseline is None or not self.noisy or len(baseline.finite()) < end:
            return final_loss(replace(curve, evaluations=())), 0.0
        tail = max(1, end // _TAIL)
        gains = baseline.loss[end - tail : end] - curve.loss[end - tail : end]
        error = float(gains.std(ddof=1)) / math.sqrt(tail) if tail > 1 else self.noise
        return self._level - float(gains.mean()), error

    def _on_plateaus(self) -> set[int]:
        """Trials whose loss the best of their rung has too, at far lower rates: by identity.

        Where a loss cannot rise, all rates at which the net collapses end alike. Of equal losses
        over decades the lowest rate stays.
        """
        found: set[int] = set()
        for rung in self._rungs.values():
            losses = [self._end_of(trial) for trial in rung]
            best = min(losses)
            close = best + _EQUAL * max(self.start_loss - best, 0.0)
            equal = [trial for trial, loss in zip(rung, losses, strict=True) if loss <= close]
            peaks = [trial.peak for trial in equal]
            # None is close where the start itself has no finite loss.
            if peaks and max(peaks) - min(peaks) >= _PLATEAU:
                found |= {id(trial) for trial in equal if trial.peak > min(peaks)}
        return found

    # ----------------------------------------------------------------------- falls and baselines

    @cached_property
    def _rungs(self) -> dict[int, list[Trial]]:
        """The trials by their length, ascending."""
        rungs: dict[int, list[Trial]] = {}
        for trial in sorted(self.trials, key=lambda trial: trial.updates):
            rungs.setdefault(trial.updates, []).append(trial)
        return rungs

    @cached_property
    def _quiet(self) -> Curve:
        """The climb while its rates are too low to move anything."""
        count = max(1, len(self.climb) // 3)
        return replace(self.climb, lr=self.climb.lr[:count], loss=self.climb.loss[:count])

    @cached_property
    def _level(self) -> float:
        """Mean training loss of weights that do not move, over all batches that they saw."""
        longest = self.baselines.get(max(self.baselines, default=0), self._quiet)
        return float(np.mean(longest.finite().loss))

    def _control(self, updates: int) -> Curve:
        """The baseline of the rung; else the longest shorter one; else the start."""
        shorter = [length for length in self.baselines if length <= updates]
        return self.baselines[max(shorter)] if shorter else self.climb

    def _baseline_held_out(self, updates: int) -> float:
        evaluations = self._control(updates).evaluations
        return evaluations[-1][1] if evaluations else math.nan

    def _reference(self) -> float:
        """Held-out loss of the longest baseline."""
        return self._baseline_held_out(max(self.baselines, default=0))

    def _held_out_fell(self, trial: Trial) -> bool:
        return not trial.broke and learned(trial.curve, self._control(trial.updates), self.noise)

    def _training_fell(self, trial: Trial) -> bool:
        baseline = self.baselines.get(trial.updates)
        if baseline is None or trial.broke:
            return False
        return training_learned(trial.curve, baseline)

    @cached_property
    def _ranking(self) -> dict[int, bool]:
        """Whether the held-out losses of a rung tell learning from none, by its length."""
        return {updates: self._ranks_held_out(updates) for updates in self._rungs}

    def _ranks_held_out(self, updates: int) -> bool:
        rung = [trial for trial in self._rungs[updates] if not trial.broke and self._calm(trial)]
        if not rung or not self.can_evaluate:
            return True
        control = self._baseline_held_out(updates)
        best = max(control - trial.held_out for trial in rung)
        fallen = max(map(self._gain, rung))
        if best >= _CONFIRMS * fallen or fallen <= self.noise:
            return True
        return any(map(self._held_out_fell, rung))

    def _calm(self, trial: Trial) -> bool:
        """Whether the held-out loss rose by no more than the training loss fell: beyond is harm."""
        if not self.can_evaluate:
            return True
        rise = trial.held_out - self._baseline_held_out(trial.updates)
        return rise <= max(self._gain(trial), self.noise)

    def _gain(self, trial: Trial) -> float:
        """By how much training losses lie below those of the same batches before training."""
        baseline = self.baselines.get(trial.updates)
        tail = max(1, trial.updates // _TAIL)
        end = float(np.mean(trial.curve.loss[-tail:]))
        if baseline is None or len(baseline.finite()) < trial.updates:
            return self._level - end
        return float(np.mean(baseline.loss[-tail:])) - end

    @cached_property
    def noisy(self) -> bool:
        """Whether the best fall of the first rung is lost in the noise from batch to batch."""
        first = min(self.baselines, default=None)
        if first is None or self.can_evaluate:
            return False
        rung = [trial for trial in self._rungs.get(first, ()) if not trial.broke]
        if not rung:
            return False
        return max(map(self._gain, rung)) < _NOISY * self.noise

    @cached_property
    def _moved(self) -> bool:
        """Whether the held-out loss changes although the weights do not."""
        first = min(self.baselines, default=None)
        if first is None or not self.can_evaluate or not self.climb.evaluations:
            return False
        moved = abs(self.climb.evaluations[0][1] - self._baseline_held_out(first))
        rung = [trial for trial in self._rungs.get(first, ()) if not trial.broke]
        falls = [self._baseline_held_out(first) - trial.held_out for trial in rung]
        return moved > _MOVED * max([*falls, 0.0])
