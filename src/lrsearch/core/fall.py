"""Where a loss curve falls: a broken line fitted to loss against log10(lr).

The model is flat, then falling in a line, then flat, then perhaps rising in a line. It is
fitted by least squares over every choice of its three corners, so it has no smoothing
constant, uses every point, and gives its own noise, its own test and its own interval.

Every such line is a sum of hinges ``max(x - corner, 0)``, so all fits share one table of
inner products, and each of the thousands of choices costs a few multiplications.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrsearch.core.curve import noise

__all__ = ["Fall", "fit_fall"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

_KNOTS = 33  # candidate corners along the curve
_FEWEST = 5  # points to keep in any case
_BINS = 132  # longer curves are averaged into so many bins first
# Improvement in the residual sum of squares, in units of the noise variance, that a fall must
# bring over "no fall". On 1000 curves of white noise each of 20, 50, 100 and 300 points, 1 in
# 300 or fewer reach it; few points estimate the noise badly, so they need more.
_SIGNIFICANT = 18.0
_FEW = 20.0  # with this many points twice as much is needed


@dataclass(frozen=True)
class Fall:
    """The falling stretch of a curve, in units of log10(lr) and of the loss.

    Attributes:
        begin: where the loss begins to fall.
        end: where it stops falling.
        rise: where it begins to rise, equal to the last point when it does not.
        middle: the middle of the falling stretch, averaged over every fit by likelihood.
        spread: standard deviation of ``middle``.
        drop: how far the loss falls.
        level: the loss before the fall.
        noise: standard deviation of the points about the line.
        evidence: improvement over a line without a fall, in units of the noise variance.
        points: how many points the line was fitted to.
    """

    begin: float
    end: float
    rise: float
    middle: float
    spread: float
    drop: float
    level: float
    noise: float
    evidence: float
    points: int

    @property
    def significant(self) -> bool:
        """Whether the fall is more than the noise can feign."""
        return self.evidence > _SIGNIFICANT * (1.0 + _FEW / self.points)


def fit_fall(x: FloatArray, y: FloatArray) -> Fall:
    """Fit the broken line to losses ``y`` at ascending ``x`` = log10(lr), each shape ``(n,)``.

    Args:
        x: ascending, at least 5 values.
        y: finite losses. What follows divergence is left out first.

    Returns:
        The best fall, significant or not.
    """
    x, y, exponent = _normalised(x, y)
    points, y, weight = _binned((x - x[0]) / (x[-1] - x[0]), y)
    count = min(_KNOTS, len(x))
    lines = _Lines.of(points, y, weight, np.linspace(0.0, 1.0, count))
    slope, lift = lines.coefficients()
    errors = lines.errors(slope, lift)
    best = int(np.argmin(errors))
    # The noise cannot be smaller than the rounding of the losses themselves.
    rounding = 1e-9 * (np.ptp(y) + 1e-3 * (np.abs(y).max() or 1.0))
    variance = max(errors[best], rounding**2 * weight.sum()) / max(len(y) - 6, 1)
    # Averaging over all corners, by likelihood, moves far less with the noise than the best.
    likelihood = np.exp(-0.5 * (errors - errors[best]) / variance)
    likelihood /= likelihood.sum()
    knots = np.linspace(x[0], x[-1], count)
    middles = 0.5 * (knots[lines.begin] + knots[lines.end])
    middle = float(likelihood @ middles)
    drop, level = lines.drop_and_level(best, max(slope[best], 0.0), lift[best])
    return Fall(
        begin=float(knots[lines.begin[best]]),
        end=float(knots[lines.end[best]]),
        rise=float(knots[lines.turn[best]]),
        middle=middle,
        spread=float(np.sqrt(likelihood @ (middles - middle) ** 2)),
        drop=math.ldexp(drop, exponent),
        level=math.ldexp(level, exponent),
        noise=math.ldexp(math.sqrt(variance), exponent),
        evidence=float((lines.error_without_fall() - errors[best]) / variance),
        points=len(x),
    )


def _normalised(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, int]:
    """Leave out what follows divergence; return losses of size 1 and a power of two.

    Squares of the largest and smallest floats would overflow or vanish; a power of two
    changes no digit.
    """
    x, drawn = _before_chaos(x, np.ldexp(y, -4))
    exponent = int(np.frexp(np.abs(drawn).max())[1])
    return x, np.ldexp(drawn, -exponent), exponent + 4


def _before_chaos(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Leave out what follows divergence, and draw single high losses in.

    Losses are compared with a cap one drop (or three noises) above the start. Two of three
    neighbours above it are the divergence: what comes later is chaos and would only pass for
    noise. A single one is an outlier and is lowered to the cap.
    """
    start = float(np.median(y[: max(3, len(y) // 10)]))
    lowest = float(np.quantile(y, 0.05))
    cap = start + max(start - lowest, 3.0 * noise(y))
    above = np.convolve(y > cap, np.ones(3))[: len(y)] >= 2
    end = max(int(np.argmax(above)) + 1, _FEWEST) if above.any() else len(y)
    return x[:end], np.minimum(y[:end], cap)


def _reliability(y: FloatArray) -> FloatArray:
    """Return a weight in (0, 1] for every loss: less where the noise is far above its usual.

    Beyond the best learning rates losses jump about by many times their earlier noise;
    equal weights would let that stretch drown a clear fall. Up to twice the usual noise, or
    2 % of the range, all weights are 1.
    """
    width = max(7, len(y) // 8)
    if len(y) < 2 * width:
        return np.ones_like(y)
    second = np.pad(np.abs(np.diff(y, n=2)), 1, mode="edge")
    padded = np.pad(second, (width // 2, width - 1 - width // 2), mode="edge")
    local = np.median(np.lib.stride_tricks.sliding_window_view(padded, width), axis=1)
    usual = max(2.0 * float(np.quantile(local, 0.3)), 0.02 * float(np.ptp(y)), 1e-300)
    return np.asarray(np.minimum(1.0, usual / np.maximum(local, 1e-300)) ** 2)


def _binned(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Average into at most ``_BINS`` groups of neighbours; return their weights too."""
    bins = min(len(x), _BINS)
    index = np.arange(len(x)) * bins // len(x)
    reliable = _reliability(y)
    weight = np.asarray(np.bincount(index, reliable), dtype=np.float64)
    return (
        np.bincount(index, reliable * x) / weight,
        np.bincount(index, reliable * y) / weight,
        weight,
    )


@dataclass(frozen=True)
class _Lines:
    """All lines ``level - slope * (hinge[begin] - hinge[end]) + lift * hinge[turn]``.

    Over every begin < end <= turn; slope > 0 and lift >= 0 are wanted. There are ``m`` lines,
    ``k`` knots and ``n`` points. Points and hinges are centred by their weighted means, which
    takes care of the level.
    """

    begin: IntArray  # (m,) numbers of knots
    end: IntArray  # (m,)
    turn: IntArray  # (m,)
    hinges: FloatArray  # (k, n) max(x - knot, 0), centred
    means: FloatArray  # (k,) what the centring took off
    gram: FloatArray  # (k, k) products of the hinges with each other
    right: FloatArray  # (k,) products of the hinges with y
    y: FloatArray  # (n,) centred
    mean: float
    weight: FloatArray  # (n,)

    @classmethod
    def of(cls, x: FloatArray, y: FloatArray, weight: FloatArray, knots: FloatArray) -> _Lines:
        hinges = np.maximum(x - knots[:, None], 0.0)
        means = hinges @ weight / weight.sum()
        hinges -= means[:, None]
        mean = float(y @ weight / weight.sum())
        y = y - mean
        begin, end, turn = _corners(len(knots))
        gram, right = (hinges * weight) @ hinges.T, hinges @ (weight * y)
        return cls(begin, end, turn, hinges, means, gram, right, y, mean, weight)

    def coefficients(self) -> tuple[FloatArray, FloatArray]:
        """Return the least-squares slope and lift of every line, each shape ``(m,)``."""
        b, e, t, gram = self.begin, self.end, self.turn, self.gram
        ramps = gram[b, b] - 2.0 * gram[b, e] + gram[e, e]
        cross = gram[e, t] - gram[b, t]
        lifts = gram[t, t]
        fall, rise = self.right[e] - self.right[b], self.right[t]
        determinant = ramps * lifts - cross**2
        solvable = determinant > 1e-10 * ramps * lifts
        determinant = np.where(solvable, determinant, 1.0)
        lift = np.where(solvable, (ramps * rise - cross * fall) / determinant, 0.0)
        slope = (lifts * fall - cross * rise) / determinant
        # A line that would turn down a second time, or cannot turn, is fitted without a turn.
        lift = np.maximum(lift, 0.0)
        alone = fall / np.where(ramps > 1e-14 * gram[0, 0], ramps, np.inf)
        return np.where(lift > 0.0, slope, alone), lift

    def errors(self, slope: FloatArray, lift: FloatArray) -> FloatArray:
        """Return the residual sum of squares of every line, infinite where the slope is up."""
        falls = slope > 0.0
        if not falls.any():
            return np.full_like(slope, self.error_without_fall())
        explained = slope * (self.right[self.end] - self.right[self.begin])
        explained += lift * self.right[self.turn]
        total = float(self.weight @ self.y**2)
        errors = total - explained
        # Nearly perfect lines: a difference of nearly equal numbers, so measure it instead.
        near = np.flatnonzero(falls & (errors < 1e-7 * total))
        ramps = self.hinges[self.end[near]] - self.hinges[self.begin[near]]
        fitted = slope[near, None] * ramps + lift[near, None] * self.hinges[self.turn[near]]
        errors[near] = (self.y - fitted) ** 2 @ self.weight
        return np.where(falls, errors, np.inf)

    def error_without_fall(self) -> float:
        """Return the smallest error of a line that is flat and then, perhaps, rises."""
        squares = np.diag(self.gram)
        rising = (self.right > 0.0) & (squares > 1e-14 * squares[0])
        explained = self.right[rising] ** 2 / squares[rising]
        return float(self.weight @ self.y**2) - float(max(explained, default=0.0))

    def drop_and_level(self, line: int, slope: float, lift: float) -> tuple[float, float]:
        """Return how far a line falls, and from where."""
        b, e, t = self.begin[line], self.end[line], self.turn[line]
        level = self.mean + slope * (self.means[b] - self.means[e]) - lift * self.means[t]
        return float(slope * (e - b) / (len(self.means) - 1)), float(level)


def _corners(knots: int) -> tuple[IntArray, IntArray, IntArray]:
    """Return every (begin, end, turn) of knots with begin < end <= turn."""
    i, j, k = np.meshgrid(*3 * [np.arange(knots)], indexing="ij")
    keep = (i < j) & (j <= k)
    return i[keep], j[keep], k[keep]
