"""Read a learning rate from short runs that differ in nothing but their learning rate.

All runs begin at the same state and see the same batches, so that what a batch does to the loss
falls out of every comparison: a drift of the data, sorted labels, a hard batch. What is left of
the differences is the effect of the learning rate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrsearch.core.curve import Curve, final_loss, noise
from lrsearch.core.evidence import held_out_fall

__all__ = ["Reading", "read_short_runs"]

FloatArray = npt.NDArray[np.float64]

# How much a lane that has learned everything weighs against one that has learned nothing,
# exp(6) to 1. Chosen on the regret benchmark: see docs/research/range-test.md.
_TRUST = 6.0
_SURE = 2.9  # standard errors by which a run must beat the reference, batch by batch
_HELD_OUT = 0.25  # noises of a batch by which a held-out loss of unknown scatter must fall too
_ROUNDING = 1e-7  # share of a loss that single precision may get wrong
_GRID = 201
_HALF = 0.5  # of the best fall: a lowest run with more calls for a lower one
_EQUAL, _FAR = 0.02, 2.6  # share of the range of losses; decades between the runs that are read


@dataclass(frozen=True)
class Reading:
    """What short runs say.

    Attributes:
        lrs: learning rates of the runs, ascending, shape ``(n,)``.
        learned: share of the best run's improvement that each run made, shape ``(n,)``: 1 for
            the best one, 0 where nothing was learned, -1 where as much was lost, or more.
        at: where the best learning rate lies for runs of this length, in log10(lr).
        spread: how uncertain ``at`` is, a standard deviation in decades.
        significant: whether a run learned more than the noise between batches can feign.
        noise: standard deviation of the loss from batch to batch.
        saturated: whether the lowest learning rate learns about as much as the best.
    """

    lrs: FloatArray
    learned: FloatArray
    at: float
    spread: float
    significant: bool
    noise: float
    saturated: bool = False

    @property
    def best(self) -> int:
        """The run that learned most; of equal ones the lowest learning rate."""
        return int(np.argmax(self.learned))

    def crossing(self, share: float) -> float:
        """The lowest learning rate, in log10, at which ``share`` of the improvement is made."""
        x, best = np.log10(self.lrs), self.best
        below = np.flatnonzero(self.learned[: best + 1] < share)
        if not below.size:
            return float(x[0])
        left = int(below[-1])
        rise = self.learned[left + 1] - self.learned[left]
        return float(x[left] + (x[left + 1] - x[left]) * (share - self.learned[left]) / rise)


def read_short_runs(runs: Sequence[Curve], still: Curve | None = None) -> Reading | None:
    """Read runs at constant learning rates, from one state and on the same batches.

    The answer is not the best run itself. A longer run wants less than a short one, and the
    losses of neighbouring learning rates differ by little; so the learning rates are averaged in
    log(lr) over the stretch between the lowest and the highest, weighing ``exp(6 * learned)``.

    Args:
        runs: at least two, each at its own learning rate, equally long unless they broke.
        still: losses of weights that did not move, on the same first batches; any length. Its
            last held-out loss, if it has one, is theirs too.

    Returns:
        The reading, or ``None`` if no run ended with a finite loss.

    Example:
        >>> lrs = (0.001, 0.01, 0.1)
        >>> runs = [Curve([lr] * 9, 3.0 - lr * 10.0 * np.arange(9)) for lr in lrs]
        >>> reading = read_short_runs(runs)
        >>> reading.significant, -1.4 < reading.at < -1.0
        (True, True)
    """
    runs = sorted(runs, key=lambda run: float(run.lr[0]))
    levels = np.array([_level(run) for run in runs])
    if not np.isfinite(levels).any():
        return None
    saturated = _saturated(levels, still)
    runs, levels = _without_far_and_equal(runs, levels)
    lrs = np.array([float(run.lr[0]) for run in runs])
    learned = _learned(levels)
    at, spread = _average(np.log10(lrs), learned)
    best, noise = runs[int(np.argmax(learned))], _batch_noise(runs[0])
    return Reading(
        lrs=lrs,
        learned=learned,
        at=at,
        spread=spread,
        significant=_learns(best, runs[0], still, noise),
        noise=noise,
        saturated=saturated,
    )


def _saturated(levels: FloatArray, still: Curve | None) -> bool:
    """Whether the lowest run made at least half of the fall of the best one."""
    if still is None or not len(still):
        return False
    start = still.evaluations[-1][1] if still.evaluations else float(np.median(still.loss))
    best, lowest = float(np.nanmin(levels)), float(levels[0])
    return bool(start - lowest >= _HALF * (start - best) > 0.0 and best < lowest + 1e300)


def _without_far_and_equal(
    runs: Sequence[Curve], levels: FloatArray
) -> tuple[list[Curve], FloatArray]:
    """Leave out runs above that end as the best one does, and runs far above it.

    Equal losses over decades tell nothing of the rate, so the lowest of them counts.
    """
    x = np.log10([float(run.lr[0]) for run in runs])
    best = int(np.argmin(levels))
    near = _EQUAL * float(np.ptp(levels[np.isfinite(levels)]))
    equal = np.flatnonzero(levels - levels[best] <= near)
    if x[equal[-1]] - x[equal[0]] > _FAR:
        best = int(equal[0])
        keep = x <= x[best] + 1e-9
    else:
        keep = x <= x[best] + _FAR
    return [run for run, kept in zip(runs, keep, strict=True) if kept], levels[keep]


def _learns(best: Curve, lowest: Curve, still: Curve | None, noise: float) -> bool:
    """Whether the best run, which may be the lowest one, learned more than noise can feign."""
    # What ends with a lower held-out loss than a harmless run has done no harm either.
    judged = lowest if best.evaluations else best
    if _harms(best, still) and _harms(judged, still):
        return False
    pairs = [(lowest, still)] + [(best, lowest)] * (best is not lowest)
    trained = any(_beats(*pair) for pair in pairs)
    if still is None or not (still.evaluations and best.evaluations):
        return trained
    fall = held_out_fall(best, still, noise)
    if fall.significant or len(still.parts) == len(best.parts) >= 2:
        return fall.significant
    # How far the held-out data scatter is unknown: they must have followed the training loss.
    return trained and fall.size > _HELD_OUT * noise


def _level(run: Curve) -> float:
    """The held-out loss at the end, else the mean loss of the last third."""
    if run.evaluations or len(run.finite()) < len(run):
        return final_loss(run)
    return float(np.mean(run.loss[-max(2, len(run) // 3) :]))


def _learned(levels: FloatArray) -> FloatArray:
    """Improvements over the run at the lowest learning rate, over the largest of them."""
    scale = float(np.abs(levels[np.isfinite(levels)]).max()) or 1.0
    levels = levels / scale  # differences of huge losses must not overflow
    first = levels[0] if np.isfinite(levels[0]) else np.inf
    lowest = float(levels.min())
    if not np.isfinite(first) or first - lowest <= 0.0:
        # The lowest learning rate is the best, or broke where a higher one did not.
        return np.where(levels == lowest, 1.0, -1.0)
    return np.asarray(np.clip((first - levels) / (first - lowest), -1.0, 1.0))


def _average(x: FloatArray, learned: FloatArray) -> tuple[float, float]:
    """Mean and standard deviation of log10(lr), between the runs' own, by what was learned."""
    grid = np.linspace(x[0], x[-1], _GRID)
    weight = np.exp(_TRUST * (np.interp(grid, x, learned) - 1.0))
    weight /= weight.sum()
    mean = float(weight @ grid)
    return mean, float(np.sqrt(weight @ (grid - mean) ** 2))


def _harms(run: Curve, still: Curve | None) -> bool:
    """Whether ``run`` ends far above weights that did not move.

    Where the loss cannot rise far, a climb does not show where training fails, and all runs may
    lie above; the best of them then is the least bad.
    """
    if still is None or len(still) < 2:
        return False
    # The climb may have done its harm within these already: hence median and robust noise.
    scale = float(np.abs(still.loss).max()) or 1.0
    quiet, end = still.loss / scale, run.loss[-max(2, len(run) // 3) :] / scale
    return bool(np.mean(end) > np.median(quiet) + 5.0 * noise(quiet))


def _beats(run: Curve, reference: Curve | None) -> bool:
    """Whether ``run`` lies below ``reference`` on the batches that both saw, beyond the noise.

    The first batch tells nothing, since there no update has been made.
    """
    if reference is None:
        return False
    count = min(len(run.finite()), len(reference.finite()))
    size = float(np.abs(reference.loss[:count]).max(initial=0.0))
    if size == 0.0:
        return False
    gained = reference.loss[1:count] / size - run.loss[1:count] / size  # squares must not overflow
    return any(_positive(part) for part in (gained, gained[len(gained) // 2 :]))


def _positive(values: FloatArray) -> bool:
    """Whether the mean of the values is above 0 by several of its standard errors."""
    if values.size < 2:
        return False
    error = float(values.std(ddof=1)) / math.sqrt(values.size)
    return float(values.mean()) > max(_SURE * error, _ROUNDING)


def _batch_noise(run: Curve) -> float:
    """Standard deviation of the losses of the run that moves least, about their own line."""
    losses = run.finite().loss
    size = float(np.abs(losses).max(initial=0.0))
    if len(losses) < 4 or size == 0.0:
        return 0.0
    place, losses = np.arange(len(losses), dtype=np.float64), losses / size
    rest = losses - np.polyval(np.polyfit(place, losses, 1), place)
    return float(size * np.sqrt(rest @ rest / (len(losses) - 2)))
