"""What a plot of an outcome shows, as plain numbers: nothing here draws."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from lrsearch.core.curve import Curve, final_loss, noise
from lrsearch.core.fall import Fall, fit_fall
from lrsearch.core.outcome import Outcome, Status

__all__ = ["Climb", "Points", "ShortRuns", "Trials", "plot_data"]

FloatArray = npt.NDArray[np.float64]
Points: TypeAlias = tuple[tuple[float, float], ...]  # (lr, loss) pairs

_TRIALS = ("sweep", "race")  # methods whose lanes are candidates; the others' lanes climb
_FEWEST = 5  # points from which a fall is fitted, as in lrsearch.core.suggest
_WIDTH = 1 / 30  # share of the points that the drawn average reaches to either side
_LEAST, _MOST = 1e-140, 1e140  # what is drawn; beyond, axes and squares overflow
_NOISES = 2.0  # half the height of the noise band, in standard deviations


@dataclass(frozen=True)
class Climb:
    """Loss against a learning rate that climbs.

    Attributes:
        title: the answer, or why there is none.
        points: every finite raw loss of the curve that was read.
        scouts: the finite raw losses of the other lanes.
        trend: the average that runs through the points, one value per learning rate.
        fit: corners of the fitted broken line, empty when there is no fall to be seen.
        band: lower and upper end of the noise about the level before the fall.
        interval: where the loss begins and stops falling, ``None`` without an answer.
        lr: the answer, or ``None``.
        broke_at: learning rate at which the loss became NaN or infinite, or ``None``.
        x_limits, y_limits: what to show; losses above are an explosion, to be marked as such.
    """

    title: str
    points: Points
    scouts: Points
    trend: Points
    fit: Points
    band: tuple[float, float] | None
    interval: tuple[float, float] | None
    lr: float | None
    broke_at: float | None
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]


@dataclass(frozen=True)
class Trials:
    """Final loss against learning rate, one point per lane.

    Attributes:
        title: the answer, or why there is none.
        rungs: by number of updates, ascending: (peak lr, final loss) of every lane that made as
            many and ended with a finite loss, ascending. A race's scout is not among them.
        broken: peak lrs of the lanes that did not.
        held_out: whether the losses are held-out losses.
        start: training loss before the first update, or ``None``.
        interval: ``low`` and ``high`` of the outcome, ``None`` without an answer.
        lr: the answer, or ``None``.
        x_limits, y_limits: what to show; losses above are to be marked as such.
    """

    title: str
    rungs: tuple[tuple[int, Points], ...]
    broken: tuple[float, ...]
    held_out: bool
    start: float | None
    interval: tuple[float, float] | None
    lr: float | None
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]

    @property
    def points(self) -> Points:
        """Those of all rungs, ascending."""
        return tuple(sorted(point for _, points in self.rungs for point in points))


@dataclass(frozen=True)
class ShortRuns:
    """A range test's short runs at constant learning rates, and the climb before them.

    Attributes:
        title: the answer, or why there is none.
        points: the raw losses of the last third of every run, at its learning rate.
        climb: the finite raw losses of the climb.
        means: (lr, mean of those losses), ascending: the smoothed curve.
        held_out: (lr, held-out loss after the run), ascending; empty when none was measured.
        band: lower and upper end of the noise, about the mean of the run that moved least.
        interval: ``low`` and ``high`` of the outcome, ``None`` without an answer.
        lr: the answer, or ``None``.
        x_limits, y_limits: what to show; losses above are to be marked as such.
    """

    title: str
    points: Points
    climb: Points
    means: Points
    held_out: Points
    band: tuple[float, float] | None
    interval: tuple[float, float] | None
    lr: float | None
    x_limits: tuple[float, float]
    y_limits: tuple[float, float]


def plot_data(outcome: Outcome) -> Climb | ShortRuns | Trials:
    """Return what a plot of ``outcome`` shows; works with and without an answer.

    Example:
        >>> from lrsearch.core.outcome import Cost
        >>> curve = Curve([0.1, 1.0], [2.0, float("nan")])
        >>> nan = float("nan")
        >>> outcome = Outcome(nan, nan, nan, Status.TOO_FEW_POINTS, "", "default", (curve,),
        ...     Cost(2, 0, 0.1))
        >>> data = plot_data(outcome)
        >>> data.points, data.broke_at
        (((0.1, 2.0),), 1.0)
    """
    # A baseline shows what no learning rate did: it is no candidate.
    trials = tuple(curve for curve in outcome.curves if curve.role != "baseline")
    outcome = replace(outcome, curves=trials)
    shown, title = _drawable(outcome), _title(outcome)
    if _has_candidates(outcome):
        return replace(_trials(shown), title=title)
    runs = [curve for curve in shown.curves if len(curve) > 1 and np.ptp(curve.lr) == 0.0]
    if len(runs) > 1 and len(runs) < len(shown.curves):
        return replace(_short_runs(shown, runs), title=title)
    return replace(_climb(shown), title=title)


def _has_candidates(outcome: Outcome) -> bool:
    return outcome.settings.get("method") in _TRIALS


def _drawable(outcome: Outcome) -> Outcome:
    """Return the outcome with every number where axes, squares and ratios of it do not overflow."""
    low, lr, high = (min(max(v, _LEAST), _MOST) for v in (outcome.low, outcome.lr, outcome.high))
    noise = outcome.noise
    return replace(
        outcome,
        low=low,
        lr=lr,
        high=high,
        noise=min(noise, _MOST) if noise is not None and np.isfinite(noise) else None,
        curves=tuple(_drawable_curve(c, _has_candidates(outcome)) for c in outcome.curves),
    )


def _drawable_curve(curve: Curve, candidate: bool) -> Curve:
    # A schedule may come to zero, which is no place on a logarithmic axis.
    drawn = (curve.lr >= 0.0) if candidate else (curve.lr > 0.0)
    lr, loss = curve.lr[drawn], curve.loss[drawn]
    return replace(
        curve,
        lr=np.where(lr > 0.0, np.clip(lr, _LEAST, _MOST), 0.0),
        loss=_moderate(loss),
        evaluations=tuple((done, float(_moderate(np.array(x)))) for done, x in curve.evaluations),
    )


def _moderate(losses: FloatArray) -> FloatArray:
    return np.where(np.isfinite(losses), np.clip(losses, -_MOST, _MOST), losses)


def _short_runs(outcome: Outcome, runs: list[Curve]) -> ShortRuns:
    runs = sorted(runs, key=lambda run: float(run.lr[0]))
    climbs = [curve.finite() for curve in outcome.curves if np.ptp(curve.lr) > 0.0]
    ends = [run.loss[-max(2, len(run) // 3) :] for run in runs]
    ends = [losses[np.isfinite(losses)] for losses in ends]
    ended = [(float(run.lr[0]), end) for run, end in zip(runs, ends, strict=True) if end.size]
    means = tuple((lr, float(end.mean())) for lr, end in ended)
    held_out = [(float(run.lr[0]), run.evaluations[-1][1]) for run in runs if run.evaluations]
    reach = _NOISES * (outcome.noise or 0.0)
    found = outcome.status.found
    interval = (outcome.low, outcome.high) if found else None
    shown = np.array([loss for _, loss in (*means, *held_out) if np.isfinite(loss)])
    raw = np.concatenate([*(end for _, end in ended), *(climb.loss[:3] for climb in climbs)])
    inside = raw[raw <= _top(shown, raw)] if shown.size else raw
    lrs = np.concatenate([curve.lr for curve in outcome.curves])
    return ShortRuns(
        title=_title(outcome),
        points=tuple((lr, float(loss)) for lr, end in ended for loss in end),
        climb=tuple(point for climb in climbs for point in _pairs(climb.lr, climb.loss)),
        means=means,
        held_out=tuple(point for point in held_out if np.isfinite(point[1])),
        band=(means[0][1] - reach, means[0][1] + reach) if means and reach else None,
        interval=interval,
        lr=outcome.lr if found else None,
        x_limits=_lr_limits(np.append(lrs, interval or ())),
        y_limits=_padded(float(inside.min()), float(inside.max())) if inside.size else (0.0, 1.0),
    )


def _top(means: FloatArray, raw: FloatArray) -> float:
    """One improvement above the start, so that what diverged does not flatten the rest."""
    start = float(np.median(raw[-3:]))  # of the climb, whose first updates move nothing
    return start + 1.5 * max(start - float(means.min()), 2.0 * noise(raw))


def _climb(outcome: Outcome) -> Climb:
    main = _curve_read(outcome)
    finite = main.finite()
    rungs = finite.by_rung() if len(finite) else finite
    fall = _fall(finite)
    bottom, top = _climb_limits(finite.loss)
    level = float(np.median(finite.loss)) if len(finite) else 0.0
    reach = _NOISES * (noise(rungs.loss) if fall is None else fall.noise)
    level = level if fall is None else fall.level
    silent = reach <= 1e-9 * abs(level)
    interval = (outcome.low, outcome.high) if outcome.status.found else None
    others = [curve.finite() for curve in outcome.curves if curve is not main]
    return Climb(
        title=_title(outcome),
        points=_pairs(finite.lr, finite.loss),
        scouts=tuple(point for curve in others for point in _pairs(curve.lr, curve.loss)),
        trend=_trend(rungs, top),
        fit=_corners(fall, float(rungs.lr[0])) if fall is not None else (),
        band=None if silent else (level - reach, level + reach),
        interval=interval,
        lr=outcome.lr if outcome.status.found else None,
        broke_at=float(main.lr[len(finite)]) if len(finite) < len(main) else None,
        x_limits=_lr_limits(np.append(main.lr, interval or ())),
        y_limits=(bottom, top),
    )


def _curve_read(outcome: Outcome) -> Curve:
    """The lane that gave the answer: the last one with a fall, else simply the last one."""
    curves = outcome.curves or (Curve([], []),)  # type: ignore[arg-type]
    if outcome.status.found:
        return next((curve for curve in reversed(curves) if _fall(curve.finite())), curves[-1])
    return curves[-1]


def _fall(finite: Curve) -> Fall | None:
    rungs = finite.by_rung() if len(finite) else finite
    if len(rungs) < _FEWEST:
        return None
    fall = fit_fall(np.log10(rungs.lr), rungs.loss)
    return fall if fall.significant else None


def _corners(fall: Fall, first: float) -> Points:
    """Flat, falling, flat until the loss begins to rise."""
    after = fall.level - fall.drop
    return (
        (first, fall.level),
        (float(10.0**fall.begin), fall.level),
        (float(10.0**fall.end), after),
        (float(10.0**fall.rise), after),
    )


def _trend(rungs: Curve, top: float) -> Points:
    """The average, ending in a straight line to the top where the loss explodes.

    Averaged with what comes before, an explosion would look like a slow rise.
    """
    inside = np.flatnonzero(rungs.loss <= top)
    count = int(inside[-1]) + 1 if inside.size else 0
    average = _average(np.minimum(rungs.loss[:count], top))
    leaving = rungs.lr[count : count + 1]
    return _pairs(
        np.append(rungs.lr[:count], leaving), np.append(average, np.full(leaving.size, top))
    )


def _average(losses: FloatArray) -> FloatArray:
    """Straight lines fitted around every point: unlike a running mean, it does not lag.

    Drawn only; nothing is decided by it.
    """
    place = np.arange(losses.size, dtype=np.float64)
    away = place - place[:, None]  # (n, n)
    near = np.exp(-0.5 * (away / max(1.0, losses.size * _WIDTH)) ** 2)
    total, first, second = (np.sum(near * away**power, axis=1) for power in (0, 1, 2))
    weights = near * (second[:, None] - first[:, None] * away)
    # A single point has no slope: its second moment is zero, and it is its own average.
    spread = total * second - first**2
    flat = spread <= 0.0
    average = (weights @ losses) / np.where(flat, 1.0, spread)
    return np.where(flat, losses, average)


def _climb_limits(losses: FloatArray) -> tuple[float, float]:
    """From the lowest loss to one drop above the start, or less when nothing is there."""
    if not losses.size:
        return (0.0, 1.0)
    start = float(np.median(losses[: max(3, losses.size // 10)]))
    lowest = float(losses.min())
    top = start + max(start - lowest, 4.0 * noise(losses))
    return _padded(lowest, min(top, float(losses.max())))


def _trials(outcome: Outcome) -> Trials:
    curves = _candidates(outcome)
    peaks = _peaks(curves)
    lanes = [(len(c), lr, final_loss(c)) for c, lr in zip(curves, peaks, strict=True) if lr > 0.0]
    ended = sorted(lane for lane in lanes if np.isfinite(lane[2]))
    rungs = itertools.groupby(ended, key=lambda lane: lane[0])
    first = next((float(curve.loss[0]) for curve in outcome.curves if len(curve)), float("nan"))
    start = first if np.isfinite(first) else None
    interval = (outcome.low, outcome.high) if outcome.status.found else None
    return Trials(
        title=_title(outcome),
        rungs=tuple((length, tuple(lane[1:] for lane in rung)) for length, rung in rungs),
        broken=tuple(sorted(lr for _, lr, loss in lanes if not np.isfinite(loss))),
        held_out=any(curve.evaluations for curve in curves),
        start=start,
        interval=interval,
        lr=outcome.lr if outcome.status.found else None,
        x_limits=_lr_limits(np.append(np.array(peaks), interval or ())),
        y_limits=_trial_limits([loss for *_, loss in ended], start),
    )


def _candidates(outcome: Outcome) -> tuple[Curve, ...]:
    """Every lane but the one with which a race looks for divergence: its first, which climbs."""
    if outcome.settings.get("method") != "race" or len(outcome.curves) < 2:
        return outcome.curves
    climbs = bool((np.diff(outcome.curves[0].lr) > 0.0).all())
    return outcome.curves[1:] if climbs else outcome.curves


def _peaks(curves: tuple[Curve, ...]) -> list[float]:
    """The highest learning rate each lane was heading for.

    A lane that broke may have ended before its peak; then its share is taken from the longest.
    """
    longest = max((curve.lr for curve in curves), key=len, default=np.zeros(0))
    return [_peak(curve.lr, longest) for curve in curves]


def _peak(lrs: FloatArray, longest: FloatArray) -> float:
    top = int(np.argmax(longest)) if longest.size else 0
    if len(lrs) > top:
        return float(lrs.max())
    known = np.flatnonzero(longest[: len(lrs)] > 0.0)
    return float(longest[top] * lrs[known[-1]] / longest[known[-1]]) if known.size else 0.0


def _trial_limits(losses: list[float], start: float | None) -> tuple[float, float]:
    if not losses:
        return (0.0, 1.0) if start is None else _padded(start, start)
    best, worst = min(losses), max(losses)
    if start is None or start <= best:
        return _padded(best, worst)
    return _padded(best, min(worst, start))


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = 0.06 * (high - low) or 0.05 * abs(low) or 0.5
    return (low - pad, high + pad)


def _lr_limits(lrs: FloatArray) -> tuple[float, float]:
    """All of ``lrs`` and a little more, a decade at least."""
    positive = lrs[lrs > 0.0]
    if not positive.size:
        return (1e-4, 1.0)
    low, high = float(positive.min()), float(positive.max())
    pad = max(high / low, 10.0) ** 0.02
    missing = max(1.0, 10.0 / (high / low)) ** 0.5
    return (low / pad / missing, high * pad * missing)


def _pairs(lrs: FloatArray, losses: FloatArray) -> Points:
    return tuple(zip(lrs.tolist(), losses.tolist(), strict=True))


def _title(outcome: Outcome) -> str:
    if outcome.status is Status.FOUND:
        return f"Learning rate {outcome.lr:.3g}"
    if outcome.status.found:
        return f"Learning rate {outcome.lr:.3g}, at the edge of the range searched"
    reason = outcome.status.value.split(". ")[0].rstrip(".")
    return f"No learning rate: {reason[0].lower()}{reason[1:]}"
