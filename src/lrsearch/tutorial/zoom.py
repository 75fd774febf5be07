"""Step d: a closer look from 0.5 to 1.0, and the ladder that zooms by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lrsearch.core.curve import Curve
from lrsearch.core.grid import Segment
from lrsearch.core.outcome import Outcome
from lrsearch.core.search import run_search
from lrsearch.core.turning import Turning, fit_turning
from lrsearch.methods.ladder import Ladder
from lrsearch.tutorial import figures
from lrsearch.tutorial.ladder import SEGMENTS
from lrsearch.tutorial.problem import plan, problem
from lrsearch.tutorial.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ZOOM", "View", "Zoom", "compute", "draw", "table", "tell"]

#: The textbook's second ladder.
ZOOM = (Segment(0.5, 0.01, 1.0, epochs=50),)


@dataclass(frozen=True)
class View:
    """One zoomed ladder: the mean loss on its rungs, and where the loss turns up."""

    name: str
    outcome: Outcome
    rungs: Curve
    turning: Turning

    @classmethod
    def of(cls, name: str, outcome: Outcome, lane: int) -> View:
        """Read one lane of a search."""
        rungs = outcome.curves[lane].finite().by_rung()
        return cls(name, outcome, rungs, fit_turning(np.log10(rungs.lr), rungs.loss))


@dataclass(frozen=True)
class Zoom:
    """Two ways to look closer, each from the untrained net.

    Attributes:
        chosen: the textbook's second ladder, whose range a person chose.
        own: the zoom of a ladder that was given the staged table and nothing else.
    """

    chosen: View
    own: View

    @property
    def lr(self) -> float:
        """The suggestion that goes to trial: what the textbook's ladder reads."""
        return self.chosen.outcome.lr


def compute(seed: int = 0) -> Zoom:
    """Climb the second ladder; then the staged one with a zoom of its own."""
    chosen = run_search(problem(seed), Ladder(ZOOM, zoom=0), plan())
    own = run_search(problem(seed), Ladder(SEGMENTS), plan())
    return Zoom(
        View.of("second ladder, 0.5 to 1.0", chosen, lane=0),
        View.of("the ladder's own zoom", own, lane=len(own.curves) - 1),
    )


def tell(result: Zoom) -> str:
    """Say where the loss turns up on either ladder."""
    return "\n\n".join(_tell_view(view) for view in (result.chosen, result.own))


def _tell_view(view: View) -> str:
    low, high = _span(view.turning)
    lowest = int(np.argmin(view.rungs.loss))
    lrs, losses = view.rungs.lr, view.rungs.loss
    text = (
        f"**{view.name.capitalize()}**: the loss falls to {number(losses[lowest])} at "
        f"{number(lrs[lowest])}"
    )
    if not view.turning.turned:
        return (
            f"{text} and does not clearly turn up before the last rung, {number(lrs[-1])}. "
            f"The suggestion, {number(view.outcome.lr)}, is where it would most likely turn."
        )
    return (
        f"{text} and is at {number(losses[-1])} on the last rung, {number(lrs[-1])}. It turns up "
        f"between {number(low, 2)} and {number(high, 2)}; the suggestion is "
        f"{number(view.outcome.lr)}."
    )


def _span(turning: Turning) -> tuple[float, float]:
    """Two standard deviations on either side of the turning point."""
    spread = 2.0 * turning.spread
    return float(10.0 ** (turning.at - spread)), float(10.0 ** (turning.at + spread))


def table(result: Zoom) -> Table:
    """One row for each way to look closer."""
    rows = []
    for view in (result.chosen, result.own):
        low, high = _span(view.turning)
        rows.append(
            (
                view.name,
                str(len(view.rungs)),
                number(float(view.rungs.loss.min())),
                f"{number(low, 2)} to {number(high, 2)}" if view.turning.turned else "not clearly",
                number(view.outcome.lr),
                view.outcome.status.name.lower().replace("_", " "),
                number(view.outcome.cost.steps),
            )
        )
    columns = ("ladder", "rungs", "lowest loss", "turns up", "suggestion", "status", "updates")
    return Table("Zoom", columns, tuple(rows))


def draw(result: Zoom) -> Figure:
    """Mean loss of every rung of both, with the turning point."""
    figure, axes = figures.new(
        f"Looking closer: the second ladder reads {number(result.chosen.outcome.lr)}, the ladder's "
        f"own zoom {number(result.own.outcome.lr)}",
        size=(9.0, 4.2), columns=2,
    )  # fmt: skip
    _draw_view(axes[0], result.chosen, (0.5, 0.6, 0.7, 0.8, 0.9, 1.0))
    _draw_view(axes[1], result.own, (0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0))
    axes[1].set_ylabel("")
    return figure


def _draw_view(ax: Axes, view: View, ticks: tuple[float, ...]) -> None:
    lrs, losses = view.rungs.lr, view.rungs.loss
    ax.loglog(lrs, losses, "o-", ms=3.5, lw=1.2, color=figures.BLUE)
    ax.axvspan(*_span(view.turning), color=figures.GREEN, alpha=0.15, lw=0)
    ax.axvline(view.outcome.lr, color=figures.GREEN, ls="--", lw=1.5)
    leftward = view.outcome.lr**2 > lrs[0] * lrs[-1]
    ax.annotate(
        f"{number(view.outcome.lr)}\n" + ("turns up" if view.turning.turned else "not yet up"),
        (view.outcome.lr, 0.97), xytext=(-5 if leftward else 5, 0), textcoords="offset points",
        xycoords=("data", "axes fraction"), ha="right" if leftward else "left", va="top",
        color=figures.GREEN, fontsize=9.5, fontweight="bold",
    )  # fmt: skip
    ax.set_xlim(0.96 * lrs[0], 1.04 * lrs[-1])
    ax.set_ylim(0.7 * losses.min(), 2.0 * losses[: max(3, len(losses) // 2)].max())
    figures.log_ticks(ax.xaxis, ticks)
    figures.log_ticks(ax.yaxis, (0.002, 0.003, 0.005, 0.01, 0.02, 0.03, 0.05))
    ax.set_title(view.name, loc="left", fontsize=10)
    ax.set_xlabel("learning rate (log scale)")
    ax.set_ylabel("mean training loss of the rung")
