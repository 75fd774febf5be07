"""When to end a lane early: a rule that does not care how the loss is shifted or scaled."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from lrsearch.core.curve import Stop

__all__ = ["StopRule", "Watch"]

_OPENING = 3  # losses that tell the level at the start
_BETA = 0.8  # smoothing of the running level
_EXPLOSION = 10.0  # one loss this many scales above the start ends the lane at once
_NOISES = 8.0  # a change of this many standard deviations of the noise is a real one
_ROUNDING = 1e-6  # share of the loss that single precision may get wrong


@dataclass(frozen=True)
class Watch:
    """What a :class:`StopRule` remembers of the losses so far: a value, not an object.

    Attributes:
        opening: the first losses.
        total, weight: numerator and denominator of the running level.
        best: the lowest running level.
        last: the loss before.
        noise: standard deviation of the loss from one update to the next.
        strikes: consecutive losses above the limit.
        stop: why the lane must end, or ``None``.
    """

    opening: tuple[float, ...] = ()
    total: float = 0.0
    weight: float = 0.0
    best: float = math.inf
    last: float = math.nan
    noise: float = 0.0
    strikes: int = 0
    stop: Stop | None = None

    @property
    def start(self) -> float:
        """The level at the start: the median of the first losses, or the very first one.

        A lane that learns fast is half way down by its third loss.
        """
        return max(self.opening[0], sorted(self.opening)[len(self.opening) // 2])

    @property
    def change(self) -> float:
        """What counts as a large change: the drop so far, or several times the noise."""
        return max(self.start - self.best, _NOISES * self.noise)

    @property
    def rounding(self) -> float:
        """What counts as none: a constant loss must not diverge by its own last digit."""
        return _ROUNDING * abs(self.start)


@dataclass(frozen=True)
class StopRule:
    """End a lane whose loss is not finite, explodes, or stays above what had been learned.

    The rise is judged against the drop and the noise that were observed, so ``loss - 100``
    and ``1000 * loss`` stop at the same update as ``loss``.

    Args:
        patience: consecutive losses above the limit before the lane ends, at least 1.
        divergence: whether to look for divergence at all; a non-finite loss always ends it.

    Example:
        >>> rule, watch = StopRule(), Watch()
        >>> for loss in [3.0, 2.5, 2.0, 1.5, 50.0]:
        ...     watch = rule.update(watch, loss)
        >>> watch.stop.name
        'DIVERGED'
    """

    patience: int = 3
    divergence: bool = True

    def update(self, watch: Watch, loss: float) -> Watch:
        """Return what is known after one more loss; ``stop`` is set when the lane must end."""
        if not math.isfinite(loss):
            return replace(watch, stop=Stop.NOT_FINITE)
        if not self.divergence or len(watch.opening) < _OPENING:
            return _observe(watch, loss, strikes=0)
        # While the loss has never moved there is no yardstick, and one jump proves nothing.
        measured = watch.change > watch.rounding
        exploded = measured and loss > watch.start + _EXPLOSION * watch.change
        limit = watch.best + max(watch.change, watch.rounding)
        strikes = watch.strikes + 1 if loss > limit else 0
        seen = _observe(watch, loss, strikes)
        over = exploded or strikes >= self.patience
        return replace(seen, stop=Stop.DIVERGED) if over else seen


def _observe(watch: Watch, loss: float, strikes: int) -> Watch:
    total, weight = _BETA * watch.total + loss, _BETA * watch.weight + 1.0
    return Watch(
        opening=(*watch.opening, loss)[:_OPENING],
        total=total,
        weight=weight,
        best=min(watch.best, total / weight),
        last=loss,
        noise=_noise(watch, loss),
        strikes=strikes,
    )


def _noise(watch: Watch, loss: float) -> float:
    """Follow |difference| slowly, and never believe a jump: it may be the divergence itself."""
    if not watch.opening:
        return 0.0
    change = abs(loss - watch.last) * math.sqrt(math.pi) / 2.0  # of white noise: its sd
    if len(watch.opening) < _OPENING:
        return max(watch.noise, change)
    ceiling = 3.0 * watch.noise if watch.noise else change
    return watch.noise + 0.1 * (min(change, ceiling) - watch.noise)
