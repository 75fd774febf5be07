"""What one training run at one learning rate looks like: diverges, hovers, crawls, converges."""

from __future__ import annotations

import enum
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from lrsearch.core.curve import Curve, Stop, noise
from lrsearch.errors import InvalidArgument

__all__ = ["Regime", "regime"]

FloatArray = npt.NDArray[np.float64]

_FEWEST = 8  # values from which a shape can be told
_OPENING = 3  # raw losses whose mean is the start
_BLOCKS = 100  # raw losses are averaged into so many blocks first
_REAL = 3.0  # a change of this many standard deviations of the sampling noise is a real one
_FEIGNED = 1.5  # ... and swings of this many can be the sampling noise itself
_HOVERING = 0.1  # late swings of this share of the drop: what was won is lost again and again
_FALLING = 0.05  # a late fall of this share of the drop: the run ended too early


class Regime(enum.Enum):
    """How a run at a fixed learning rate went; the value says it and what to do."""

    DIVERGES = (
        "The loss ends above where it began, or is no longer finite: the learning rate is far "
        "too large."
    )
    HOVERS = (
        "The loss fell, but swings up and down by a good part of what it won: the learning rate "
        "is too large to settle."
    )
    CRAWLS = (
        "The loss still falls when the run ends, or has not fallen at all: the learning rate is "
        "too small for a run of this length."
    )
    CONVERGES = "The loss fell and settled."


def regime(curve: Curve) -> Regime:
    """Name the regime of a run at a constant learning rate, from its curve alone.

    Held-out losses are used when the curve has at least 8 of them, as they carry no noise of
    the batches; the first one is the start. Otherwise the raw losses are averaged in up to 100
    blocks, and the mean of the first three is the start. ``loss - 100`` and ``1000 * loss`` are
    named like ``loss``.

    With the drop ``D`` from the start to the median of the last half:

    - *diverges*: not finite, stopped as diverged, or above its start throughout the
      last quarter;
    - *hovers*: the last half swings about its trend by more than 10 % of ``D`` (standard
      deviation), and by more than the noise that was there from the first batches on;
    - *crawls*: no clear drop, or the fourth quarter is lower than the third by more than 5 %
      of ``D``;
    - *converges*: otherwise.

    The two shares are our choice, made while looking at the two-layer net of the tutorial
    (seeds 0 to 5); nothing else was tried.

    A curve does not show everything: a run that is stuck on a plateau looks as if it had
    converged, and so does one that hovers without moving its loss.

    Args:
        curve: one lane at one learning rate.

    Raises:
        InvalidArgument: a finite curve has fewer than 8 losses.

    Example:
        >>> updates = np.arange(200)
        >>> regime(Curve(np.full(200, 0.1), np.exp(-updates / 20))).name
        'CONVERGES'
        >>> regime(Curve(np.full(200, 0.001), np.exp(-updates / 2000))).name
        'CRAWLS'
    """
    if curve.stop is not Stop.COMPLETED or len(curve.finite()) < len(curve):
        return Regime.DIVERGES
    history = _history(curve)
    if history is None:
        return Regime.DIVERGES
    late = history.values[len(history.values) // 2 :]
    third, fourth = np.array_split(late, 2)
    drop, swing = -float(np.median(late)), _swing(late)
    real = max(_REAL * history.noise, history.rounding)
    if float(fourth.min()) > real:
        return Regime.DIVERGES
    if swing > max(_HOVERING * drop, _FEIGNED * history.noise / math.sqrt(history.per_value)):
        return Regime.HOVERS if drop > real or not history.noise else Regime.CRAWLS
    fall = float(third.mean() - fourth.mean())
    error = swing * math.sqrt(2.0 / len(fourth))
    if drop <= real or fall > max(_FALLING * drop, _REAL * error):
        return Regime.CRAWLS
    return Regime.CONVERGES


class _History(NamedTuple):
    """Losses above the start, in units of the largest of them."""

    values: FloatArray
    noise: float  # of a single loss, at the start
    per_value: float  # losses averaged in each value
    rounding: float  # a constant loss must not move by its own last digit


def _history(curve: Curve) -> _History | None:
    """The losses to judge, or None when they are not finite."""
    losses = np.array([value for _, value in curve.evaluations])
    held_out = len(losses) >= _FEWEST
    if not held_out:
        losses = curve.loss
    if len(losses) < _FEWEST:
        raise InvalidArgument.of("curve", f"{len(losses)} losses", f"at least {_FEWEST}")
    if not np.isfinite(losses).all():
        return None
    start = float(losses[0] if held_out else losses[:_OPENING].mean())
    above = losses - start
    unit = float(np.abs(above).max())
    # Losses of a diverging run may be so large that their squares overflow.
    above = above / (unit or 1.0)
    rounding = 1e-9 * abs(start) / (unit or 1.0)
    if held_out:
        return _History(above, 0.0, 1.0, rounding)
    blocks = min(len(above), _BLOCKS)
    index = np.arange(len(above)) * blocks // len(above)
    means = np.bincount(index, weights=above) / np.bincount(index)
    opening = above[: max(_FEWEST, len(above) // 10)]
    return _History(means, noise(opening), len(above) / blocks, rounding)


def _swing(values: FloatArray) -> float:
    """Standard deviation about the straight line through ``values``."""
    x = np.arange(len(values)) - (len(values) - 1) / 2.0
    centred = values - values.mean()
    slope = float(x @ centred) / float(x @ x)
    return float(np.std(centred - slope * x))
