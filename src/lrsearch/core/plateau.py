"""Where a loss history is flat: stretches in which the loss hardly moves."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrsearch.core.curve import noise
from lrsearch.errors import InvalidArgument

__all__ = ["Plateau", "plateaus"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Plateau:
    """A flat stretch ``history[start:stop]`` and the mean loss on it."""

    start: int
    stop: int
    level: float

    def __len__(self) -> int:
        return self.stop - self.start


def plateaus(history: npt.ArrayLike, least: float = 0.1, band: float = 0.02) -> tuple[Plateau, ...]:
    """Return the flat stretches of a loss history, in order, none overlapping.

    A stretch is flat when the highest and the lowest loss on it differ by at most ``band``
    times the whole drop of the history, plus what its noise explains (six standard deviations,
    from the lowest to the highest of many values). The longest such stretch is taken first, then
    the longest on either side of it, and so on; a steady fall has none.

    Args:
        history: finite losses at equal distances, shape ``(n,)``.
        least: shortest stretch, as a share of the history, in (0, 1].
        band: height of a flat stretch, as a share of ``max - min`` of the history, in (0, 1).

    Raises:
        InvalidArgument: a loss is not finite, or a share is out of its range.

    Example:
        A staircase of two steps:

        >>> [(p.start, p.stop, p.level) for p in plateaus([3.0] * 40 + [2.0, 1.0] + [0.0] * 58)]
        [(0, 40, 3.0), (42, 100, 0.0)]
    """
    values = np.asarray(history, dtype=np.float64)
    if not np.isfinite(values).all():
        raise InvalidArgument.of("history", "a loss that is not finite", "finite losses only")
    for name, share in (("least", least), ("band", band)):
        if not 0.0 < share <= 1.0:
            raise InvalidArgument.of(name, share, "a share in (0, 1]")
    if not len(values):
        return ()
    height = band * float(np.ptp(values)) + 6.0 * noise(values)
    shortest = max(2, round(least * len(values)))
    found: list[Plateau] = []
    waiting = [(0, len(values))]
    while waiting:
        low, high = waiting.pop()
        start, stop = _longest_flat(values, low, high, height)
        if stop - start >= shortest:
            found.append(Plateau(start, stop, float(values[start:stop].mean())))
            waiting += [(low, start), (stop, high)]
    return tuple(sorted(found, key=lambda plateau: plateau.start))


def _longest_flat(values: FloatArray, low: int, high: int, height: float) -> tuple[int, int]:
    """The longest ``[start, stop)`` within ``[low, high)`` whose range is at most ``height``.

    One pass with two ends that only move forward; the queues hold the indices at which the
    running maximum and minimum may still be found.
    """
    rising: deque[int] = deque()
    falling: deque[int] = deque()
    start, best = low, (low, low)
    for stop in range(low, high):
        while falling and values[falling[-1]] <= values[stop]:
            falling.pop()
        while rising and values[rising[-1]] >= values[stop]:
            rising.pop()
        falling.append(stop)
        rising.append(stop)
        while values[falling[0]] - values[rising[0]] > height:
            start += 1
            if falling[0] < start:
                falling.popleft()
            if rising[0] < start:
                rising.popleft()
        if stop + 1 - start > best[1] - best[0]:
            best = (start, stop + 1)
    return best
