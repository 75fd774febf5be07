"""The loss of a run as a function of its learning rate and its length, from a few short runs.

Far below instability a run gets as far as learning rate times length carries it; what noise
and instability cost depends on the learning rate alone. So the surface is modelled as a smooth
function of their product, plus one of the learning rate, plus trends and a small rest. Which of
the two bends more near the bottom decides how the best learning rate moves with the length: not
at all where stability limits it, and in inverse proportion where a run must stop before it
overfits. A run overfits by seeing the same data again, and so a length counts for less the more of
it is new data.

Sources: C. Rasmussen, C. Williams, "Gaussian Processes for Machine Learning" (2006), section
2.2; sums of kernels over projections of the input after D. Duvenaud, H. Nickisch, C. Rasmussen,
"Additive Gaussian Processes", arXiv 1112.4394.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

__all__ = [
    "KERNEL",
    "REACH",
    "Kernel",
    "LossSurface",
    "Reach",
    "Run",
    "fit_surface",
    "resampled_best",
]

FloatArray = npt.NDArray[np.float64]
Number = TypeVar("Number", float, npt.NDArray[np.float64])
_CELL = 0.02  # decades between the peaks at which the surface is read
_DRAWS = 1000  # of the surface, for the peak of least regret


@dataclass(frozen=True)
class Run:
    """A run: log10 of its peak learning rate, its updates, and the loss it ended at.

    ``passes`` is how often it saw each example, at least 1.
    """

    peak: float
    updates: int
    loss: float
    passes: float = 1.0


@dataclass(frozen=True)
class Kernel:
    """Variances and length scales, in units of the transformed loss and in decades.

    Chosen on recorded losses of the regret benchmark; ``docs/research/race.md`` has the
    figures with the tasks left out.
    """

    fresh: float = 0.45  # what a decade of new data counts, beside one of passes over the same
    progress: float = 1.07
    progress_scale: float = 0.822
    rate: float = 0.528
    rate_scale: float = 0.363
    usual: float = 0.41
    usual_scale: float = 0.804
    usual_drift: float = 0.497
    rest: float = 0.061
    rest_scale: float = 0.212
    rest_length: float = 0.112
    trend: float = 0.711
    progress_trend: float = 51.8
    noise: float = 0.0412
    level: float = 0.1  # of what batches add to all losses of one length, if not held out
    short: float = 4.23  # updates of a run so short that its noise is doubled
    rough: float = 1.0  # noise that runs at the best rate have in addition, as a multiple
    rough_rise: float = 1.3  # powers of ten by which it grows per decade of the rate
    focus: float = 0.517  # transformed loss above the best at which the noise has doubled
    floor: float = 0.0409  # share of the fall below which losses count as equal
    doubt: float = 0.4  # share of the surface's standard deviation that is believed

    def __call__(self, points: FloatArray, others: FloatArray) -> FloatArray:
        """Return the prior covariance of the surface at two sets of points, ``(n, m)``.

        Args:
            points: peak, length and passes, each in log10, ``(n, 3)``.
            others: the same, ``(m, 3)``.
        """
        (peak, length, _), (peaks, lengths, _) = points.T, others.T
        progress, progresses = peak + length, peaks + lengths
        worn, all_worn = (p[:, 0] + self.wear(p[:, 1], p[:, 2]) for p in (points, others))
        usual, usuals = peak + self.usual_drift * length, peaks + self.usual_drift * lengths
        return (
            1.0
            + self.progress * _bell(worn, all_worn, self.progress_scale)
            + self.rate * _bell(peak, peaks, self.rate_scale)
            + self.usual * _bell(usual, usuals, self.usual_scale)
            + self.rest
            * _bell(peak, peaks, self.rest_scale)
            * _bell(length, lengths, self.rest_length)
            + self.trend * np.outer(length, lengths)
            + self.progress_trend * np.outer(progress, progresses)
        )

    def wear(self, length: Number, repeats: Number) -> Number:
        """Return how far a run goes towards overfitting: by new data less than by the same again.

        Args:
            length: log10 of updates; a number or an array.
            repeats: log10 of passes over the data.
        """
        return self.fresh * length + (1.0 - self.fresh) * repeats


@dataclass(frozen=True)
class Reach:
    """How far from the runs that were made the surface may be read, in decades."""

    above: float = 0.35  # beyond the highest rate that was tried
    below: float = 0.332  # beyond the lowest
    under_dead: float = 0.416  # below a rate at which training failed
    under_best: float = 0.1  # or below the best of the longest runs, if that is higher
    longer: float = 0.8  # in addition, per decade by which a run is longer than these
    fall: float = 0.527  # per decade of length, below the best of the longest runs
    slack: float = 0.322  # in addition to the fall
    lift: float = 0.05  # above the best of the longest runs


KERNEL, REACH = Kernel(), Reach()


def _bell(a: FloatArray, b: FloatArray, scale: float) -> FloatArray:
    return np.asarray(np.exp(-0.5 * ((a[:, None] - b[None, :]) / scale) ** 2))


@dataclass(frozen=True)
class LossSurface:
    """A surface fitted to runs.

    Attributes:
        centre: log10 of the best peak of the longest runs.
        longest: log10 of the updates of that run.
        repeats: log10 of its passes over the data.
        lowest, highest: log10 of the peaks between which it may be read at any length.
        points: peak, length and passes of the runs, in log10, relative to that run, ``(n, 3)``.
        weights: of their covariances with any point, in its mean.
        precision: inverse of the covariance of what they ended at, ``(n, n)``.
    """

    centre: float
    longest: float
    repeats: float
    lowest: float
    highest: float
    points: FloatArray
    weights: FloatArray
    precision: FloatArray

    def best(self, updates: int, passes: float = 1.0) -> float:
        """Return log10 of the peak at which such runs have the least loss."""
        grid, at = self._within_reach(updates, passes, _CELL)
        return float(grid[np.argmin(self.mean_at(at))])

    def mean_at(self, points: FloatArray) -> FloatArray:
        """Return the transformed loss that is expected at points, ``(n, 3)``, up to a constant."""
        return np.asarray(KERNEL(points, self.points) @ self.weights)

    def least_regret(self, updates: int, passes: float = 1.0) -> float:
        """Return log10 of the peak from which the least loss is expected to be lost.

        Where the surface is not sure, or rises on one side of its best more than on the other, that
        is not where it is lowest. The surface is drawn many times, in as far as it is uncertain;
        each draw has a best peak of its own, and the loss at every other one lies above by its
        regret.
        """
        grid, at = self._within_reach(updates, passes, 2.0 * _CELL)
        cross = KERNEL(at, self.points)
        values, vectors = np.linalg.eigh(KERNEL(at, at) - cross @ self.precision @ cross.T)
        # The symmetric root, which does not depend on the signs of the vectors.
        root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
        normal = np.random.default_rng(0).normal(size=(len(grid), _DRAWS))
        draws = (cross @ self.weights)[:, None] + KERNEL.doubt * root @ normal
        shares = _share(np.minimum(draws, 1.0))
        regrets = np.minimum(shares - shares.min(axis=0), 1.0).mean(axis=1)
        return float(grid[np.argmin(regrets)])

    def _within_reach(
        self, updates: int, passes: float, cell: float
    ) -> tuple[FloatArray, FloatArray]:
        """Peaks at which runs of this length may be read, and where they lie on the surface."""
        longer = math.log10(updates) - self.longest
        high = max(self.highest, self.centre - REACH.under_best - REACH.longer * longer)
        high = min(high, self.centre + REACH.lift)
        low = max(self.lowest, self.centre - REACH.fall * longer - REACH.slack)
        grid = np.arange(min(low, high - 0.5 * cell), high + 1e-9, cell)
        repeats = math.log10(passes) - self.repeats
        return grid, np.stack(
            [grid - self.centre, np.full_like(grid, longer), np.full_like(grid, repeats)], axis=1
        )

    def beyond(self, updates: int, passes: float = 1.0) -> float:
        """Return by how many decades such runs go further than the longest one, in wear."""
        longer = math.log10(updates) - self.longest
        return float(KERNEL.wear(longer, math.log10(passes) - self.repeats))


def fit_surface(
    runs: Sequence[Run], start_loss: float, held_out: bool = True
) -> LossSurface | None:
    """Fit the surface to what ``runs`` ended at.

    Losses enter as the logarithm of their distance from the best one, so that shifting or
    scaling the loss changes nothing, and differences near the bottom count most. Runs that
    ended above ``start_loss`` say nothing but that their peak is too high.

    Args:
        runs: runs of several lengths, in any order.
        start_loss: the loss before training.
        held_out: whether losses of different lengths were measured on the same examples.

    Returns:
        The surface, or ``None`` when no two runs ended below ``start_loss``.

    Example:
        >>> rates, lengths = (-3, -2.5, -2, -1.5, -1), (10, 100)
        >>> runs = [Run(x, n, (x + np.log10(n)) ** 2) for x in rates for n in lengths]
        >>> surface = fit_surface(runs, start_loss=4.0)
        >>> surface.best(300) < surface.best(30)
        True
    """
    good = [run for run in runs if run.loss < start_loss]
    if len(good) < 2:
        return None
    values = _transformed(np.array([run.loss for run in good]), start_loss)
    updates = np.array([run.updates for run in good], dtype=np.float64)
    points = np.array([(run.peak, math.log10(run.updates), math.log10(run.passes)) for run in good])
    best = points[np.argmin(np.where(updates == updates.max(), values, np.inf))]
    points = points - best
    doubts = (1.0 + (values / KERNEL.focus) ** 2) * (1.0 + (KERNEL.short / updates) ** 2)
    doubts *= 1.0 + (KERNEL.rough * 10.0 ** (KERNEL.rough_rise * points[:, 0])) ** 2
    covariance = KERNEL(points, points) + np.diag(KERNEL.noise**2 * doubts)
    if not held_out:
        covariance += KERNEL.level * (updates[:, None] == updates[None, :])
    precision = np.asarray(np.linalg.inv(covariance))
    centre, longest, repeats = map(float, best)
    return LossSurface(
        centre=centre,
        longest=longest,
        repeats=repeats,
        lowest=float(points[:, 0].min()) + centre - REACH.below,
        highest=min(float(points[:, 0].max()) + centre + REACH.above, _unstable(runs, good)),
        points=points,
        weights=precision @ (values - values.mean()),
        precision=precision,
    )


def resampled_best(
    runs: Sequence[Run],
    start_loss: float,
    updates: int,
    passes: float = 1.0,
    draws: int = 100,
    seed: int = 0,
    held_out: bool = True,
) -> FloatArray:
    """Return the best peaks (log10) by surfaces fitted to resampled lanes, ``(draws,)`` or less.

    The peaks at which runs were made are drawn with replacement; draws that leave too little
    to fit are left out.

    Source: B. Efron, "Bootstrap Methods: Another Look at the Jackknife" (1979).
    """
    random = np.random.default_rng(seed % 2**64)
    peaks = sorted({run.peak for run in runs})
    best = []
    for _ in range(draws):
        drawn = set(random.choice(peaks, size=len(peaks)).tolist())
        some = [run for run in runs if run.peak in drawn]
        surface = fit_surface(some, start_loss, held_out)
        if surface is not None:
            best.append(surface.best(updates, passes))
    return np.array(best)


def _transformed(losses: FloatArray, start_loss: float) -> FloatArray:
    """Map the best loss to 0 and the start loss to 1, on a scale that is finer at the bottom."""
    share = (losses - losses.min()) / (start_loss - losses.min())
    return np.asarray(np.log1p(share / KERNEL.floor) / math.log1p(1.0 / KERNEL.floor))


def _share(values: FloatArray) -> FloatArray:
    """The inverse of that: 0 at the best loss, 1 at the start loss."""
    return np.asarray(KERNEL.floor * np.expm1(values * math.log1p(1.0 / KERNEL.floor)))


def _unstable(runs: Sequence[Run], good: Sequence[Run]) -> float:
    """Return the highest peak that keeps clear of the rates at which training failed."""
    failed = [run for run in runs if run not in good]
    clear = [
        run.peak
        for run in failed
        if not any(one.peak > run.peak and one.updates >= run.updates for one in good)
    ]
    return min(clear, default=math.inf) - REACH.under_dead
