"""Where a loss curve turns up: the best curve that first only falls and then only rises.

Between falling and rising the curve may do what it likes: steps, plateaus and slopes of any
shape fit, so there is no smoothing constant and no assumption about how often the loss falls.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lrsearch.core.curve import noise

__all__ = ["Turning", "fit_turning"]

FloatArray = npt.NDArray[np.float64]

# What a rise must bring over "falls to the end", in units of the noise variance. Of 1000 curves
# each that only fall (a line, a decay, stairs, a sigmoid), with white noise of 1 % and 10 % of the
# fall and 10, 20, 50 or 100 points, about 1 in 300 or fewer reach it; few points need more.
_SIGNIFICANT = 18.0
_FEW = 20.0  # with this many points twice as much is needed


@dataclass(frozen=True)
class Turning:
    """The turning point of a curve, in units of log10(lr).

    Attributes:
        at: where the loss turns from falling to rising, averaged over every place where it may
            turn, by likelihood.
        spread: standard deviation of ``at``.
        turned: whether the rise is more than the noise can feign. If not, the loss may only
            fall, and ``at`` lies towards the last point.
    """

    at: float
    spread: float
    turned: bool


def fit_turning(x: FloatArray, y: FloatArray) -> Turning:
    """Find where the losses ``y`` at ascending ``x`` = log10(lr) turn up, each shape ``(n,)``.

    For each of the ``n + 1`` ways to cut the curve in two, least squares fits a falling curve
    to the left and a rising one to the right (isotonic regression, each in one pass).

    Args:
        x: ascending, at least 2 values.
        y: finite losses. What rises above the start by more than the curve fell is drawn in
            first, so that an explosion has no more weight than a clear rise.

    Example:
        >>> x = np.linspace(-2.0, 0.0, 41)
        >>> turning = fit_turning(x, np.abs(x + 0.5))
        >>> round(turning.at, 2), turning.turned
        (-0.5, True)

    Source: Q. Stout, "Unimodal regression via prefix isotonic regression", Computational
    Statistics & Data Analysis 53 (2008). The average over all cuts is ours.
    """
    start = float(np.median(y[:3]))
    y = np.minimum(y, start + max(start - float(y.min()), 0.0))
    # In units of the range, as the squares of huge losses overflow.
    y = (y - float(y.min())) / (float(np.ptp(y)) or 1.0)
    falling, rising = _falling_errors(y), _falling_errors(y[::-1])[::-1]
    errors = falling[:, 0] + rising[:, 0]  # of cutting before point 0, 1, ..., n
    best = int(np.argmin(errors))
    blocks = falling[best, 1] + rising[best, 1]
    # Where nothing had to be pooled the residuals say too little, so the noise is measured twice.
    residual = float(errors[best]) / max(len(y) - blocks, 1.0)
    variance = max(residual, noise(y) ** 2, 1e-12)
    likelihood = np.exp(-0.5 * (errors - errors[best]) / variance)
    likelihood /= likelihood.sum()
    cuts = np.concatenate([x[:1], 0.5 * (x[1:] + x[:-1]), x[-1:]])
    at = float(likelihood @ cuts)
    return Turning(
        at=at,
        spread=float(np.sqrt(likelihood @ (cuts - at) ** 2)),
        turned=bool((errors[-1] - errors[best]) / variance > _SIGNIFICANT * (1 + _FEW / len(y))),
    )


def _falling_errors(y: FloatArray) -> FloatArray:
    """Error and number of levels of the best falling curve through the first 0, 1, ..., n points.

    Pool adjacent violators: neighbouring levels that rise are replaced by their mean.
    """
    means: list[float] = []
    sizes: list[float] = []
    out = np.zeros((len(y) + 1, 2))
    error = 0.0
    for index, value in enumerate(y, start=1):
        mean, size = float(value), 1.0
        while means and means[-1] <= mean:
            other, weight = means.pop(), sizes.pop()
            gap, total = mean - other, size + weight
            error += gap * gap * size * weight / total
            mean, size = other + gap * size / total, total
        means.append(mean)
        sizes.append(size)
        out[index] = error, len(means)
    return out
