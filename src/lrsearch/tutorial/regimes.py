"""Step b: four learning rates, four regimes. The names come from a classifier, not from us."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrsearch.core.curve import Curve
from lrsearch.core.regime import Regime, regime
from lrsearch.tutorial import figures
from lrsearch.tutorial.problem import plan, problem, train
from lrsearch.tutorial.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Regimes", "Run", "compute", "draw", "table", "tell"]

#: Too large, large, right, too small.
LRS = (2.2, 1.7, 0.5, 0.00002)
#: Longer than the planned run, so that it can be seen who settles.
EPOCHS, EPOCHS_APART = 1000, 4
_COLORS = {
    Regime.DIVERGES: figures.RED,
    Regime.HOVERS: figures.ORANGE,
    Regime.CONVERGES: figures.GREEN,
    Regime.CRAWLS: figures.BLUE,
}


@dataclass(frozen=True)
class Run:
    """One training run at a constant learning rate, and the regime its curve was given."""

    lr: float
    curve: Curve
    regime: Regime


@dataclass(frozen=True)
class Regimes:
    """The runs, from the largest learning rate to the smallest."""

    runs: tuple[Run, ...]


def compute(seed: int = 0, lrs: tuple[float, ...] = LRS, epochs: int = EPOCHS) -> Regimes:
    """Train once at each rate, measuring the held-out loss every four epochs."""
    planned = plan(epochs)
    steps, every = planned.train_steps or 0, EPOCHS_APART * (planned.updates_per_epoch or 1)
    runs = []
    for lr in sorted(lrs, reverse=True):
        curve = train(problem(seed), [lr] * steps, every)
        runs.append(Run(lr, curve, regime(curve)))
    return Regimes(tuple(runs))


def tell(result: Regimes) -> str:
    """One sentence for each run: the classifier's own message."""
    return "\n".join(
        f"- **{run.regime.name.lower()}** at lr {number(run.lr)}: {run.regime.value}"
        for run in result.runs
    )


def table(result: Regimes) -> Table:
    """One row for each run."""
    return Table(
        "Four regimes, named by lrsearch.core.regime",
        ("lr", "held-out loss before", "lowest", "at the end", "updates", "regime"),
        tuple(
            (
                number(run.lr),
                number(run.curve.evaluations[0][1]),
                number(min(value for _, value in run.curve.evaluations)),
                number(_final(run.curve)),
                number(len(run.curve)),
                run.regime.name.lower(),
            )
            for run in result.runs
        ),
    )


def _final(curve: Curve) -> float:
    return curve.evaluations[-1][1] if len(curve.finite()) == len(curve) else float("inf")


def draw(result: Regimes) -> Figure:
    """All held-out losses in one frame; what leaves it at the top diverges."""
    figure, (ax,) = figures.new("One net, four learning rates, four regimes", size=(8.0, 4.4))
    ax.set_yscale("log")
    top = 2.5 * max(run.curve.evaluations[0][1] for run in result.runs)
    length = max(run.curve.evaluations[-1][0] for run in result.runs) / 1000.0
    for run in result.runs:
        _draw_run(ax, run, top, length)
    ax.set_ylim(0.0015, top)
    ax.set_xlim(-0.02 * length, length)
    figures.log_ticks(ax.yaxis, (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5))
    ax.set_xlabel("update (thousands)")
    ax.set_ylabel("held-out loss")
    return figure


def _draw_run(ax: Axes, run: Run, top: float, length: float) -> None:
    color = _COLORS[run.regime]
    updates, losses = zip(*run.curve.evaluations, strict=True)
    # Far above the frame it does not matter how far, and log axes overflow.
    shown = [min(loss, 1e3 * top) for loss in losses]
    width = 2.5 if run.regime is Regime.DIVERGES else 1.1
    ax.plot([update / 1000.0 for update in updates], shown, color=color, lw=width)
    left = next((update for update, loss in run.curve.evaluations if loss > top), None)
    place = (length, _level(run.curve)) if left is None else (left / 1000.0, 0.7 * top)
    ax.annotate(
        f"{run.regime.name.lower()}\nlr {number(run.lr)}", place, xytext=(6, 0),
        textcoords="offset points", va="center", color=color, fontsize=10, fontweight="bold",
        annotation_clip=False,
    )  # fmt: skip


def _level(curve: Curve) -> float:
    """Where the label stands: the middle of the last quarter."""
    late = sorted(value for _, value in curve.evaluations[-len(curve.evaluations) // 4 :])
    return late[len(late) // 2]
