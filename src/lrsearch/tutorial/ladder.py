"""Step c: the ladder of the staged table, climbed while the net trains."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lrsearch.core.curve import Curve
from lrsearch.core.grid import Segment
from lrsearch.core.outcome import Outcome, Status
from lrsearch.core.search import run_search
from lrsearch.methods.ladder import TEXTBOOK, Ladder
from lrsearch.tutorial import figures
from lrsearch.tutorial.problem import plan, problem
from lrsearch.tutorial.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SEGMENTS", "Climb", "compute", "draw", "table", "tell"]

#: The staged table, with the experiment's fifty epochs on every rung in place of ten.
SEGMENTS = tuple(replace(segment, epochs=50) for segment in TEXTBOOK)


@dataclass(frozen=True)
class Climb:
    """What climbing the ladder showed.

    Attributes:
        segments: the stretches of the ladder.
        outcome: the search; its one curve has the learning rate and loss of every update.
        rungs: mean loss on each rung that was reached, one point for each.
    """

    segments: tuple[Segment, ...]
    outcome: Outcome
    rungs: Curve

    @property
    def lowest(self) -> tuple[float, float]:
        """Learning rate and mean loss of the lowest rung."""
        best = int(np.argmin(self.rungs.loss))
        return float(self.rungs.lr[best]), float(self.rungs.loss[best])


def compute(seed: int = 0, segments: tuple[Segment, ...] = SEGMENTS) -> Climb:
    """Climb once, without a zoom."""
    outcome = run_search(problem(seed), Ladder(segments, zoom=0), plan())
    return Climb(segments, outcome, outcome.curves[0].finite().by_rung())


def tell(result: Climb) -> str:
    """Say where the loss fell, and what that does and does not mean."""
    lr, lowest = result.lowest
    first, last = result.rungs.loss[0], result.rungs.loss[-1]
    (curve,) = result.outcome.curves
    return (
        f"{number(len(curve))} updates on {len(result.rungs)} rungs took the loss from "
        f"{number(first)} to {number(last)}, in stairs: where it is level, the net stood on the "
        f"plateau of step a, and time as well as the learning rate took it down from there. The "
        f"lowest rung is {number(lr)}, with a loss of {number(lowest)}. {_reading(result.outcome)}"
    )


def _reading(outcome: Outcome) -> str:
    if not outcome.status.found:
        return f"The ladder reads nothing from this: {outcome.status.value}"
    reads = f"The ladder reads {number(outcome.lr)} from this (rule `{outcome.rule}`)"
    if outcome.status is Status.FOUND:
        return f"{reads}: there the loss turns up."
    return (
        f"{reads} and calls it an edge, as the loss had not clearly turned up by the last rung: "
        "this is a place to look closer, not yet an answer."
    )


def table(result: Climb) -> Table:
    """One row for each segment of the staged table."""
    losses = dict(zip(result.rungs.lr.tolist(), result.rungs.loss.tolist(), strict=True))
    rows = []
    for segment in result.segments:
        rates = segment.rungs()
        reached = [losses[lr] for lr in rates if lr in losses]
        rows.append(
            (
                f"{number(rates[0])} to {number(rates[-1])}",
                number(segment.step),
                str(len(rates)),
                number(segment.epochs or 0.0),
                number(reached[0]) if reached else "not reached",
                number(reached[-1]) if reached else "not reached",
            )
        )
    columns = ("segment", "step", "rungs", "epochs per rung", "loss on the first", "on the last")
    return Table("The staged ladder", columns, tuple(rows))


def draw(result: Climb) -> Figure:
    """Learning rate against update, and loss against log10(lr)."""
    figure, (left, right) = figures.new(
        "The loss falls in stairs while the learning rate climbs", size=(9.0, 4.2), columns=2
    )
    (curve,) = result.outcome.curves
    changes = np.flatnonzero(np.diff(curve.lr, prepend=0.0))
    ends = np.append(changes, len(curve)) / 1000.0
    left.stairs(curve.lr[changes], ends, baseline=None, color=figures.BLUE, lw=1.8)
    left.set_yscale("log")
    figures.log_ticks(left.yaxis, (0.0001, 0.001, 0.01, 0.1, 1.0))
    left.set_xlabel("update (thousands)")
    left.set_ylabel("learning rate")
    _draw_losses(right, result)
    return figure


def _draw_losses(ax: Axes, result: Climb) -> None:
    (curve,) = result.outcome.curves
    every = max(1, len(curve) // 1500)  # enough to see the scatter, few enough for a small file
    ax.loglog(
        curve.lr[::every], curve.loss[::every], ".", ms=2, color=figures.SKY, alpha=0.35,
        label="single updates (some)", rasterized=True,
    )  # fmt: skip
    ax.loglog(
        result.rungs.lr, result.rungs.loss, "o-", ms=3.5, lw=1.2, color=figures.BLUE,
        label="mean of each rung",
    )  # fmt: skip
    if result.outcome.status.found:
        ax.axvline(result.outcome.lr, color=figures.GREEN, ls="--", lw=1.5)
        ax.annotate(
            f"reads {number(result.outcome.lr)} ", (result.outcome.lr, 0.97),
            xycoords=("data", "axes fraction"), ha="right", va="top", color=figures.GREEN,
            fontsize=9.5, fontweight="bold",
        )  # fmt: skip
    low, high = float(result.rungs.loss.min()), float(result.rungs.loss.max())
    ax.set_ylim(0.3 * low, 4.0 * high)
    figures.log_ticks(ax.xaxis, (0.0001, 0.001, 0.01, 0.1, 1.0))
    figures.log_ticks(ax.yaxis, (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0))
    ax.set_xlabel("learning rate (log scale)")
    ax.set_ylabel("training loss")
    ax.legend(frameon=False, fontsize=9, loc="lower left")
