"""Curves whose answer is known: noiseless shapes over log10(lr), and where each has fallen half.

``x`` is log10(lr); every shape can be moved along it, so that nothing is tested at one
place only.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from lrsearch.core.curve import Curve

FloatArray = npt.NDArray[np.float64]

BEGIN, END = -6.0, 1.0  # of every shape but the bowl


def sigmoid_drop(x: FloatArray) -> FloatArray:
    return np.asarray(2.3 - 1.8 / (1.0 + 10.0 ** (-2.0 * (x + 3.0))))


def drop_then_rise(x: FloatArray) -> FloatArray:
    """A drop, a valley, and a steep rise two decades to the right of the drop."""
    return np.asarray(sigmoid_drop(x) + 3.0 * np.maximum(x + 1.0, 0.0) ** 2)


def bowl(x: FloatArray) -> FloatArray:
    """A parabola from -4 to -1 that falls from its very first point on."""
    return np.asarray(0.5 + 0.5 * (x + 2.0) ** 2)


def two_dips(x: FloatArray) -> FloatArray:
    """Two separate minima, the second one the deeper, with a rise at the end."""
    first = 0.6 * np.exp(-0.5 * ((x + 4.5) / 0.25) ** 2)
    second = 1.8 / (1.0 + 10.0 ** (-3.0 * (x + 2.0)))
    return np.asarray(2.3 - first - second + 3.0 * np.maximum(x + 1.0, 0.0) ** 2)


def wall_of_nan(x: FloatArray) -> FloatArray:
    """A drop, and nothing but NaN from half a decade below the end on."""
    return np.where(x > END - 0.5, np.nan, sigmoid_drop(x))


def flat(x: FloatArray) -> FloatArray:
    return np.full_like(x, 2.3)


FALLING: dict[str, Callable[[FloatArray], FloatArray]] = {
    "sigmoid drop": sigmoid_drop,
    "drop then rise": drop_then_rise,
    "quadratic bowl": bowl,
    "two dips": two_dips,
    "wall of NaN": wall_of_nan,
}


def half_way(x: FloatArray, y: FloatArray) -> float:
    """Return where the deepest fall of a noiseless curve is half done, in log10(lr)."""
    finite = np.isfinite(y)
    x, y = x[finite], y[finite]
    bottom = int(np.argmin(y))
    top = bottom
    while top > 0 and y[top - 1] >= y[top]:
        top -= 1
    half = 0.5 * (y[top] + y[bottom])
    return float(np.interp(-half, -y[top : bottom + 1], x[top : bottom + 1]))


def known(
    shape: Callable[[FloatArray], FloatArray],
    points: int = 100,
    sd: float = 0.0,
    seed: int = 0,
    move: float = 0.0,
) -> tuple[Curve, float]:
    """Return the curve with noise, moved along log10(lr), and its true log10(lr)."""
    begin, end = (-4.0, -1.0) if shape is bowl else (BEGIN, END)
    fine = np.linspace(begin, end, 4001)
    x = np.linspace(begin, end, points)
    noise = sd * np.random.default_rng(seed).standard_normal(points)
    truth = np.nan if shape is flat else half_way(fine, shape(fine)) + move
    return Curve(10.0 ** (x + move), shape(x) + noise), truth
