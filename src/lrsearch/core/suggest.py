"""From a curve to a learning rate: pure rules, ours and the ones people know."""

from __future__ import annotations

import bisect
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lrsearch.core.curve import Curve, Stop, smooth
from lrsearch.core.fall import Fall, fit_fall
from lrsearch.core.outcome import Status
from lrsearch.core.turning import fit_turning
from lrsearch.core.validation import one_of
from lrsearch.errors import InvalidArgument

__all__ = ["RULES", "Suggestion", "suggest"]

FloatArray = npt.NDArray[np.float64]
_FEWEST = 8  # finite points from which anything can be read: fewer fit any broken line
_HUGE = 1e200  # squares and slopes of larger losses overflow, and no rule needs to tell them apart


@dataclass(frozen=True)
class Suggestion:
    """A learning rate read from a curve, or the reason why there is none.

    Attributes:
        lr: the learning rate, NaN when ``status.found`` is false.
        low: where the loss begins to fall, or ``lr`` when a rule reads one below that.
        high: where it stops falling, or ``lr`` when a rule reads one above that.
        status: what happened and what to do.
        why: one sentence on how the number came about.
        rule: the rule that gave it.
        spread: standard deviation of log10(lr), in decades, as far as the losses tell it.
        noise: standard deviation of the loss from batch to batch.
        correction: decades by which ``lr`` lies above (below, if negative) what was best while
            it was measured, to allow for what the measurement was short of.
    """

    lr: float
    low: float
    high: float
    status: Status
    why: str
    rule: str
    spread: float | None = None
    noise: float | None = None
    correction: float | None = None


def suggest(curve: Curve, rule: str = "default") -> Suggestion:
    """Read a learning rate from a curve whose learning rate climbs.

    Several updates at one learning rate count as one point, their mean. Whether there is
    anything to read is decided in the same way for every rule: a fall of the loss that its
    noise cannot feign.

    Args:
        curve: raw losses against learning rates.
        rule: ``"default"``, ``"steepest"``, ``"valley"``, ``"minimum"``, ``"slide"`` or
            ``"turning"``.

    Returns:
        The suggestion; its status says when there is none. No loss makes it raise.

    Raises:
        InvalidArgument: the rule is unknown, or a learning rate is not positive and finite.

    Example:
        >>> lrs = np.geomspace(1e-5, 1, 101)
        >>> losses = 2.0 - 1.5 / (1.0 + (1e-3 / lrs) ** 2)
        >>> answer = suggest(Curve(lrs, losses))
        >>> 0.0005 < answer.lr < 0.002
        True
    """
    one_of(RULES)("rule", rule)
    if not isinstance(curve, Curve):
        raise InvalidArgument.of("curve", curve, "a lrsearch.Curve")
    for lr in curve.lr[~((curve.lr > 0.0) & np.isfinite(curve.lr))]:
        raise InvalidArgument.of("curve.lr", float(lr), "positive, finite learning rates")
    points = curve.finite()
    if len(curve) and not len(points):
        return _none(rule, Status.NOT_FINITE)
    completed = curve.stop is Stop.COMPLETED and len(points) == len(curve)
    points = replace(points, loss=np.clip(points.loss, -_HUGE, _HUGE)).by_rung()
    if len(points) < _FEWEST:
        diverged = curve.stop is Stop.DIVERGED
        return _none(rule, Status.DIVERGED if diverged else Status.TOO_FEW_POINTS)
    fall = fit_fall(np.log10(points.lr), points.loss)
    if not fall.significant:
        return _none(rule, Status.NO_SIGNAL if completed else Status.DIVERGED)
    lr = float(np.clip(RULES[rule](points, fall), points.lr[0], points.lr[-1]))
    # Falling to the very last point, with nothing to show that it could not fall further.
    if rule == "turning":
        falls_to_the_end = not fit_turning(np.log10(points.lr), points.loss).turned
    else:
        falls_to_the_end = fall.end >= np.log10(points.lr[-1]) - 1e-9
    at_edge = completed and falls_to_the_end
    return Suggestion(
        lr=lr,
        low=min(float(10.0**fall.begin), lr),
        high=max(float(10.0**fall.end), lr),
        status=Status.AT_EDGE if at_edge else Status.FOUND,
        why=_why(rule, lr, fall),
        rule=rule,
        spread=fall.spread if rule == "default" else None,
        noise=fall.noise,
    )


def default(points: Curve, fall: Fall) -> float:
    """The middle, in log(lr), of the stretch where the loss falls.

    The stretch is that of the broken line fitted by :mod:`lrsearch.core.fall`.
    """
    return float(10.0**fall.middle)


def steepest(points: Curve, fall: Fall) -> float:
    """The learning rate where the smoothed loss falls fastest per log(lr).

    Slopes are taken against log(lr): against lr itself the smallest rates always win. The
    first tenth and the last five points are left out, as they are in fastai's rule.

    Source: fastai, ``SuggestionMethod`` "steep" (fastai/callback/schedule.py); popularised by
    S. Gugger, "How do you find a good learning rate" (2018).
    """
    lrs, losses = _trimmed(points)
    return float(lrs[int(np.argmin(_slopes(lrs, losses)))])


def minimum(points: Curve, fall: Fall) -> float:
    """A tenth of the learning rate at which the smoothed loss is lowest.

    Source: fastai, ``SuggestionMethod`` "minimum" (fastai/callback/schedule.py).
    """
    return float(points.lr[int(np.argmin(smooth(points.loss)))] / 10.0)


def valley(points: Curve, fall: Fall) -> float:
    """The middle of the longest falling subsequence of the smoothed losses.

    Source: fastai pull request 3377 (rule "valley", after ESRI's ``arcgis.learn``): half way
    along the longest decreasing subsequence. Here the subsequence's true start is used.
    """
    lrs, losses = _trimmed(points)
    chain = _longest_decrease(losses)
    return float(lrs[chain[len(chain) // 2]])


def slide(points: Curve, fall: Fall) -> float:
    """Slide a window down from the right until the slopes at its two ends agree.

    Window of 15 points, agreement within 0.005 of loss per point, both as in fastai.

    Source: fastai, ``SuggestionMethod`` "slide" (fastai/callback/schedule.py), from the
    thread "Automated learning rate suggester" in the fast.ai forum.
    """
    lrs, losses = _trimmed(points)
    slopes = np.gradient(losses)
    right = len(slopes) - 1
    left = max(right - 15, 0)
    while left > 0 and abs(slopes[right] - slopes[left]) > 0.005:
        left, right = left - 1, right - 1
    return float(lrs[left])


def turning(points: Curve, fall: Fall) -> float:
    """The learning rate at which the loss turns from falling to rising.

    For ladders with long rungs. There the net is trained on every rung until that rung has no
    more to give, so the loss falls in stairs, in step with the training, and where it falls most
    says little about the learning rate; where it turns up, a larger one does harm. The place is
    that of :func:`lrsearch.core.turning.fit_turning`. On rungs of one or a few updates it is
    far too large: there the loss still falls on its way to divergence.

    Source: the reading by eye in Microsoft ai-edu, "Searching the optimal learning rate".
    """
    return float(10.0 ** fit_turning(np.log10(points.lr), points.loss).at)


RULES: dict[str, Callable[[Curve, Fall], float]] = {
    "default": default,
    "steepest": steepest,
    "valley": valley,
    "minimum": minimum,
    "slide": slide,
    "turning": turning,
}


def _trimmed(points: Curve) -> tuple[FloatArray, FloatArray]:
    losses = smooth(points.loss)
    first, last = len(losses) // 10, len(losses) - 5
    if last - first < 5:
        first, last = 0, len(losses)
    return points.lr[first:last], losses[first:last]


def _slopes(lrs: FloatArray, losses: FloatArray) -> FloatArray:
    return np.asarray(np.gradient(losses, np.log10(lrs)))


def _longest_decrease(values: FloatArray) -> list[int]:
    """Indices of a longest strictly decreasing subsequence, by patience sorting."""
    tops: list[float] = []
    indices: list[int] = []
    previous = [-1] * len(values)
    for index, value in enumerate(values):
        place = bisect.bisect_left(tops, -value)
        previous[index] = indices[place - 1] if place else -1
        tops[place : place + 1] = [-value]
        indices[place : place + 1] = [index]
    chain = [indices[-1]]
    while previous[chain[-1]] >= 0:
        chain.append(previous[chain[-1]])
    return chain[::-1]


def _none(rule: str, status: Status) -> Suggestion:
    nan = float("nan")
    return Suggestion(nan, nan, nan, status, status.value, rule)


def _why(rule: str, lr: float, fall: Fall) -> str:
    low, high = (10.0 ** (fall.middle + side * 2.0 * fall.spread) for side in (-1, 1))
    falls = (
        f"The loss falls by {fall.drop:.3g} (noise {fall.noise:.2g}) between "
        f"lr {10.0**fall.begin:.2g} and {10.0**fall.end:.2g}"
    )
    if rule == "turning":
        return f"{falls}; rule 'turning' reads {lr:.2g}, the likeliest place for it to turn up."
    return (
        f"{falls}; rule {rule!r} reads {lr:.2g}, "
        f"and the noise allows {low:.2g} to {high:.2g} for the middle of the fall."
    )
