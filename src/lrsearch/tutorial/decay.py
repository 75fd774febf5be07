"""Step f: a constant learning rate against one that decays, on the noisiest form of descent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from lrsearch.tutorial import figures
from lrsearch.tutorial.problem import problem, train
from lrsearch.tutorial.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ARMS", "Arm", "Decay", "compute", "draw", "robbins_monro", "table", "tell"]

FloatArray = npt.NDArray[np.float64]

UPDATES, EVERY = 40_000, 500
NOISE = 0.1  # twice that of the other steps
SEEDS = 5
CONSTANT, EARLY, LATE = "constant 0.5", "decay from the first update", "decay after half the run"


def robbins_monro(lr: float, constant: float, hold: int = 0) -> Callable[[int], float]:
    """Return ``eta(t) = lr / (1 + max(0, t - hold) / constant)``.

    The sum of all eta is infinite, so that the weights can travel any distance; the sum of their
    squares is finite, so that the noise they add up is not.

    Args:
        lr: the learning rate at first.
        constant: updates after which it has fallen to half, once it falls.
        hold: updates during which it does not fall yet; they change neither sum's finiteness.

    Example:
        >>> eta = robbins_monro(0.5, constant=100.0, hold=10)
        >>> eta(0), eta(10), eta(110)
        (0.5, 0.5, 0.25)

    Source: H. Robbins, S. Monro, "A Stochastic Approximation Method", Annals of Mathematical
    Statistics 22 (1951), conditions on the step sizes.
    """
    return lambda t: lr / (1.0 + max(0, t - hold) / constant)


#: What is compared: every arm is a learning rate for each update.
ARMS: dict[str, Callable[[int], float]] = {
    CONSTANT: lambda t: 0.5,
    "constant 0.1": lambda t: 0.1,
    EARLY: robbins_monro(0.5, constant=2_000.0),
    LATE: robbins_monro(0.5, constant=5_000.0, hold=UPDATES // 2),
}


@dataclass(frozen=True)
class Arm:
    """One way to set the learning rate, and the held-out losses it led to.

    Attributes:
        name: the key in :data:`ARMS`.
        last_lr: the learning rate of the last update.
        losses: held-out loss by seed and measurement, shape ``(seeds, n)``.
    """

    name: str
    last_lr: float
    losses: FloatArray

    @property
    def final(self) -> FloatArray:
        """Mean of the last tenth of the measurements, shape ``(seeds,)``."""
        late = self.losses[:, -max(1, self.losses.shape[1] // 10) :]
        return np.asarray(late.mean(axis=1))


@dataclass(frozen=True)
class Decay:
    """All arms, run from the same starts on the same samples in the same order.

    Attributes:
        updates: updates after which the loss was measured, shape ``(n,)``.
        arms: in the order of :data:`ARMS`.
    """

    updates: FloatArray
    arms: tuple[Arm, ...]

    def __getitem__(self, name: str) -> Arm:
        """Return the arm of that name."""
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def wins(self) -> int:
        """Seeds for which decaying after half the run ends lower than the constant rate."""
        late, constant = self[LATE], self[CONSTANT]
        return int((late.final < constant.final).sum())


def compute(seeds: int = SEEDS, updates: int = UPDATES) -> Decay:
    """Train every arm with every seed, one sample at a time."""
    arms = []
    for name, rate in ARMS.items():
        lrs = [rate(t) for t in range(updates)]
        runs = [train(problem(seed, 1, NOISE), lrs, EVERY).evaluations for seed in range(seeds)]
        losses = np.array([[loss for _, loss in run] for run in runs])
        arms.append(Arm(name, lrs[-1], losses))
    return Decay(np.arange(0.0, updates + 1, EVERY), tuple(arms))


def tell(result: Decay) -> str:
    """Compare the arms seed by seed."""
    constant = result[CONSTANT].final
    early = result[EARLY]
    late = result[LATE]
    wins, seeds = result.wins, len(constant)
    return (
        f"A constant 0.5 ends at a held-out loss of {_spread(constant)} (mean and standard "
        f"deviation over {seeds} seeds): it keeps jumping about the minimum. Decaying after half "
        f"the run ends at {_spread(late.final)}, lower in {wins} of {seeds} seeds "
        f"({number(100.0 * (1.0 - late.final.mean() / constant.mean()), 2)} % lower on average). "
        f"The same decay from the first update on ends at {_spread(early.final)}: its sum is "
        "infinite, but not in a run of this length, and it runs out of steps before it has left "
        "the plateau of step a. Decay is for the end of a run."
    )


def _spread(values: FloatArray) -> str:
    return f"{number(float(values.mean()))} ± {number(float(values.std(ddof=1)), 2)}"


def table(result: Decay) -> Table:
    """One row for each arm."""
    return Table(
        f"Single-sample descent, {number(result.updates[-1])} updates; means of the last tenth",
        (
            "learning rate",
            "of the last update",
            "held-out loss at the end",
            "lowest",
            "highest",
        ),
        tuple(
            (
                arm.name,
                number(arm.last_lr),
                _spread(arm.final),
                number(float(arm.final.min())),
                number(float(arm.final.max())),
            )
            for arm in result.arms
        ),
    )


def draw(result: Decay) -> Figure:
    """Median held-out loss of each arm, and the range over the seeds."""
    seeds = result.arms[0].losses.shape[0]
    means = [number(float(result[name].final.mean()), 2) for name in (CONSTANT, LATE)]
    figure, (ax,) = figures.new(
        f"A constant rate ends at {means[0]}, a late decay at {means[1]}: lower in "
        f"{result.wins} of {seeds} seeds",
        size=(8.0, 4.4),
    )  # fmt: skip
    ax.set_yscale("log")
    x = result.updates / 1000.0
    colors = (figures.ORANGE, figures.SKY, figures.PINK, figures.GREEN)
    for arm, color in zip(result.arms, colors, strict=True):
        smooth = _smooth(arm.losses)
        ax.fill_between(x, smooth.min(axis=0), smooth.max(axis=0), color=color, alpha=0.15, lw=0)
        ax.plot(x, np.median(smooth, axis=0), color=color, lw=1.8, label=arm.name)
    figures.log_ticks(ax.yaxis, (0.005, 0.007, 0.01, 0.02, 0.03, 0.05, 0.1))
    ax.set_ylim(0.004, 0.12)
    ax.set_xlim(0.0, float(x[-1]))
    ax.set_xlabel("update (thousands)")
    ax.set_ylabel(f"held-out loss, median and range of {seeds} seeds")
    ax.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


def _smooth(losses: FloatArray, width: int = 4) -> FloatArray:
    """Running mean over ``width`` measurements before and up to each, the same shape."""
    sums = np.cumsum(losses, axis=1)
    before = np.concatenate([np.zeros((len(losses), width)), sums[:, :-width]], axis=1)
    counts = np.minimum(np.arange(1, losses.shape[1] + 1), width)
    return np.asarray((sums - before) / counts)
