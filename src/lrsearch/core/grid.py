"""Learning rates to try, in order: geometric, linear, and the segments of a ladder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from lrsearch.core.validation import MOST, at_least, check_fields, maybe, positive, whole
from lrsearch.errors import InvalidArgument

__all__ = ["Segment", "geometric", "linear", "rungs"]

FloatArray = npt.NDArray[np.float64]


def geometric(start: float, stop: float, count: int) -> FloatArray:
    """Return ``count`` learning rates equally spaced in log(lr), both ends exact.

    Example:
        >>> geometric(1e-3, 1e-1, 3).tolist()
        [0.001, 0.01, 0.1]
    """
    _check_range(start, stop, count)
    return _exact_ends(10.0 ** np.linspace(math.log10(start), math.log10(stop), count), start, stop)


def linear(start: float, stop: float, count: int) -> FloatArray:
    """Return ``count`` learning rates equally spaced in lr, both ends exact.

    Example:
        >>> linear(1.0, 3.0, 3).tolist()
        [1.0, 2.0, 3.0]
    """
    _check_range(start, stop, count)
    return _exact_ends(np.linspace(start, stop, count), start, stop)


@dataclass(frozen=True)
class Segment:
    """A stretch of a ladder: rungs from ``start`` to ``stop``, ``step`` apart.

    The rungs are counted and computed in decimal, never summed in floating point: 0.0001 to
    0.0009 in steps of 0.0001 is nine rungs, and the seventh is exactly ``0.0007``.

    Args:
        start: the first rung, positive.
        step: the distance between rungs, positive.
        stop: the last rung; ten times ``start`` when it is not given.
        updates: optimizer updates spent on each rung. Give this or ``epochs``.
        epochs: passes over the training data spent on each rung.

    Raises:
        InvalidArgument: a value is not positive, the order is wrong, or both ``updates``
            and ``epochs`` were given.

    Example:
        >>> Segment(0.1, 0.1, 0.4).rungs()
        (0.1, 0.2, 0.3, 0.4)
        >>> len(Segment(0.001, 0.001).rungs())
        10

    Source: the staged table of the method's textbook form: Microsoft ai-edu, "Searching the
    optimal learning rate", after L. Smith, arXiv 1506.01186, section 3.3.
    """

    start: float
    step: float
    stop: float | None = None
    updates: int | None = None
    epochs: float | None = None

    def __post_init__(self) -> None:
        check_fields(
            self,
            "Segment.",
            start=positive,
            step=positive,
            stop=maybe(positive),
            updates=maybe(at_least(1, MOST)),
            epochs=maybe(positive),
        )
        if self.stop is None:
            positive("Segment.start", 10.0 * self.start)
        elif self.stop < self.start:
            raise InvalidArgument.of("Segment.stop", self.stop, f"at least start={self.start!r}")
        if self.updates is not None and self.epochs is not None:
            raise InvalidArgument("Segment: give updates or epochs, not both.")
        if self._count() > MOST:
            raise InvalidArgument.of("Segment.step", self.step, f"at most {MOST} rungs")

    def rungs(self) -> tuple[float, ...]:
        """Return the learning rates of this segment, in order."""
        start, step = _decimal(self.start), _decimal(self.step)
        return tuple(float(start + index * step) for index in range(self._count()))

    def _count(self) -> int:
        start = _decimal(self.start)
        stop = 10 * start if self.stop is None else _decimal(self.stop)
        # A tolerance of a millionth of a step forgives a stop that was itself computed.
        return int((stop - start) / _decimal(self.step) + Decimal("1e-6")) + 1

    def updates_per_rung(self, updates_per_epoch: int | None) -> int:
        """Return how many optimizer updates each rung gets.

        Raises:
            InvalidArgument: ``epochs`` was given and the length of an epoch is not known.
        """
        if self.epochs is None:
            return 1 if self.updates is None else self.updates
        if updates_per_epoch is None:
            raise InvalidArgument.of(
                "Segment.epochs", self.epochs, "updates=..., as the data has no known length"
            )
        updates = self.epochs * updates_per_epoch
        if updates > MOST:
            raise InvalidArgument.of("Segment.epochs", self.epochs, f"at most {MOST} updates")
        return max(1, round(updates))


def rungs(
    segments: Sequence[Segment], updates_per_epoch: int | None = None
) -> list[tuple[float, int]]:
    """Return the ladder as ``(lr, updates)`` pairs; a rung two segments share comes once.

    Example:
        >>> ladder = rungs([Segment(0.1, 0.1, 0.3), Segment(0.3, 0.05, 0.4)])
        >>> [lr for lr, _ in ladder]
        [0.1, 0.2, 0.3, 0.35, 0.4]
    """
    seen: dict[float, int] = {}
    for segment in segments:
        updates = segment.updates_per_rung(updates_per_epoch)
        for lr in segment.rungs():
            seen.setdefault(lr, updates)
    return list(seen.items())


def _decimal(value: float) -> Decimal:
    # Through repr: the decimal that was typed, not the binary fraction nearest to it.
    return Decimal(repr(float(value)))


def _check_range(start: float, stop: float, count: int) -> None:
    positive("start", start)
    if positive("stop", stop) <= start:
        raise InvalidArgument.of("stop", stop, f"more than start={start!r}")
    whole("count", count, 2)


def _exact_ends(values: FloatArray, start: float, stop: float) -> FloatArray:
    values[0], values[-1] = start, stop
    return values
