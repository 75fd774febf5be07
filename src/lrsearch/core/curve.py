"""A curve: the raw losses of one lane and the learning rate of every update."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from lrsearch.core.validation import at_least, check_fields, listed, whole
from lrsearch.errors import InvalidArgument

__all__ = ["Curve", "Stop", "final_loss", "noise", "smooth"]

FloatArray = npt.NDArray[np.float64]


class Stop(enum.Enum):
    """Why a lane ended; the value says it in words."""

    COMPLETED = "made every update it was asked for"
    DIVERGED = "the loss rose back above what had been learned"
    NOT_FINITE = "the loss became NaN or infinite"


@dataclass(frozen=True)
class Curve:
    """What one lane measured. Losses are raw: nothing is smoothed, dropped or clipped.

    Attributes:
        lr: learning rate in the optimizer at each update, shape ``(updates,)``.
        loss: training loss that each update was computed from, shape ``(updates,)``; a
            non-finite loss ends the curve and is its last value.
        stop: why the lane ended.
        lane: number of the lane within its search.
        evaluations: ``(updates made, held-out loss)`` pairs in order, often empty.
        parts: mean losses of equal parts of the held-out data in the last evaluation, shape
            ``(parts,)``; empty where they are not known.
        role: what the lane was for: ``"climb"``, ``"short run"``, ``"rung"``, ``"candidate"``,
            ``"ladder"``, ``"zoom"``, or ``"baseline"``, whose weights do not move.
    """

    lr: FloatArray
    loss: FloatArray
    stop: Stop = Stop.COMPLETED
    lane: int = 0
    evaluations: tuple[tuple[int, float], ...] = ()
    parts: tuple[float, ...] = ()
    role: str = ""

    def __post_init__(self) -> None:
        for name in ("lr", "loss"):
            values = _checked_floats(f"Curve.{name}", getattr(self, name))
            values.setflags(write=False)
            object.__setattr__(self, name, values)
        if self.lr.shape != self.loss.shape:
            expected = f"as many as in lr, {self.lr.size}"
            raise InvalidArgument.of("Curve.loss", f"{self.loss.size} values", expected)
        if not isinstance(self.stop, Stop):
            raise InvalidArgument.of("Curve.stop", self.stop, "a lrsearch.core.curve.Stop")
        check_fields(self, "Curve.", lane=at_least(0, 2**53), evaluations=_pairs)
        object.__setattr__(self, "parts", tuple(map(float, self.parts)))

    def __len__(self) -> int:
        return int(self.loss.size)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Curve):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[Any, ...]:
        # Bytes, so that a NaN that ended the curve equals itself.
        return (
            self.lr.tobytes(),
            self.loss.tobytes(),
            self.stop,
            self.lane,
            _floats(self.evaluations).tobytes(),
            _floats(self.parts).tobytes(),
            self.role,
        )

    def finite(self) -> Curve:
        """Return the part before the first non-finite loss."""
        bad = ~np.isfinite(self.loss)
        end = int(np.argmax(bad)) if bad.any() else len(self)
        return replace(self, lr=self.lr[:end], loss=self.loss[:end])

    def by_rung(self) -> Curve:
        """Return one point per distinct learning rate, ascending: the mean loss at it."""
        lrs, index = np.unique(self.lr, return_inverse=True)
        means = np.bincount(index, weights=self.loss) / np.bincount(index)
        return replace(self, lr=lrs, loss=means)


def _checked_floats(name: str, values: npt.ArrayLike) -> FloatArray:
    try:
        return _floats(values).reshape(-1)
    except Exception as error:  # whatever a stranger's class may raise when it becomes an array
        raise InvalidArgument.of(name, values, "a list of numbers") from error


def _pairs(name: str, values: object) -> tuple[tuple[int, float], ...]:
    expected = "(updates made, held-out loss) pairs"
    pairs = [listed(name, pair, expected) for pair in listed(name, values, expected)]
    if any(len(pair) != 2 for pair in pairs):
        raise InvalidArgument.of(name, values, expected)
    losses = _checked_floats(name, [loss for _, loss in pairs]).tolist()
    return tuple(zip((whole(name, done, 0, 2**53) for done, _ in pairs), losses, strict=True))


def _floats(values: npt.ArrayLike) -> FloatArray:
    """Copy; every NaN becomes the same one: 0/0 has other bits than a NaN read from a file."""
    array = np.array(values, dtype=np.float64)
    array[np.isnan(array)] = np.nan
    return array


def smooth(values: npt.ArrayLike, beta: float = 0.9) -> FloatArray:
    """Return the debiased exponential moving average of ``values``, the same shape.

    ``sum_k beta**k * x[t - k] / sum_k beta**k``: a constant stays that constant from the
    first value on.

    Args:
        values: finite numbers, shape ``(n,)``.
        beta: weight of the past, in [0, 1).

    Example:
        >>> smooth([1.0, 1.0, 1.0]).tolist()
        [1.0, 1.0, 1.0]

    Source: the bias correction of D. Kingma, J. Ba, "Adam", arXiv 1412.6980, section 3.
    """
    array = np.asarray(values, dtype=np.float64)
    out = np.empty_like(array)
    total = weight = 0.0
    for index, value in enumerate(array):
        total = beta * total + float(value)
        weight = beta * weight + 1.0
        out[index] = total / weight
    return out


def final_loss(curve: Curve) -> float:
    """Return the last held-out loss, else the mean of the last tenth; infinite if it broke."""
    if len(curve.finite()) < len(curve):
        return float("inf")
    if curve.evaluations:
        loss = curve.evaluations[-1][1]
        return loss if np.isfinite(loss) else float("inf")
    return float(np.mean(curve.loss[-max(1, len(curve) // 10) :]))


def noise(values: npt.ArrayLike) -> float:
    """Return the standard deviation of the noise in ``values``, ignoring their trend.

    From the median absolute second difference, so that a slope, a few outliers or an
    explosion at the end hardly matter. Zero for fewer than three values.

    Example:
        >>> noise([1.0, 2.0, 3.0, 4.0])
        0.0
    """
    array = np.asarray(values, dtype=np.float64)
    if array.size < 3:
        return 0.0
    second = np.diff(array, n=2)
    # For white noise a second difference has variance 6; 0.6745 is the median of |N(0, 1)|.
    return float(np.median(np.abs(second)) / 0.6745 / np.sqrt(6.0))
