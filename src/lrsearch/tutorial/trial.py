"""Step e: full training at the suggestion and on either side of it, against every other rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrsearch.core.search import run_search
from lrsearch.methods.sweep import Sweep, final_loss
from lrsearch.tutorial import figures
from lrsearch.tutorial.problem import EPOCHS, plan, problem
from lrsearch.tutorial.tables import Table, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SWEEP", "Trial", "Trials", "compute", "draw", "full_runs", "table", "tell"]

#: Every tenth of a decade. Below 0.1 nothing leaves the plateau of step a in a run of this length.
SWEEP = Sweep(min_lr=0.01, max_lr=10.0**0.5, per_decade=10)
APART = 0.1  # on either side of the suggestion


@dataclass(frozen=True)
class Trial:
    """One full training run: the held-out loss at its end, infinite when it diverged."""

    lr: float
    loss: float


@dataclass(frozen=True)
class Trials:
    """Full training runs, all from the same start on the same batches.

    Attributes:
        suggestion: the learning rate on trial.
        near: the suggestion and 0.1 on either side of it, ascending.
        sweep: every candidate, ascending.
        before: held-out loss before training.
        updates: updates of one run.
        spent: updates of the ladders that led to the suggestion, 0 when not known.
    """

    suggestion: float
    near: tuple[Trial, ...]
    sweep: tuple[Trial, ...]
    before: float
    updates: int
    spent: int = 0

    @property
    def best(self) -> Trial:
        """The best of the sweep."""
        return min(self.sweep, key=lambda trial: trial.loss)

    @property
    def suggested(self) -> Trial:
        """The run at the suggestion."""
        return min(self.near, key=lambda trial: abs(trial.lr - self.suggestion))

    @property
    def factor(self) -> float:
        """How far the suggestion lies from the best of the sweep, at least 1."""
        ratio = self.suggestion / self.best.lr
        return max(ratio, 1.0 / ratio)

    @property
    def regret(self) -> float:
        """The part of the attainable improvement that the suggestion loses; below 0 it wins."""
        lost = min(self.suggested.loss, self.before) - self.best.loss
        return lost / (self.before - self.best.loss)


def compute(
    suggestion: float,
    seed: int = 0,
    sweep: Sweep = SWEEP,
    epochs: int = EPOCHS,
    spent: int = 0,
) -> Trials:
    """Train at the suggestion, on either side of it, and at every candidate of the sweep."""
    beside = tuple(lr for lr in (suggestion - APART, suggestion, suggestion + APART) if lr > 0.0)
    planned = plan(epochs)
    return Trials(
        suggestion=suggestion,
        near=full_runs(Sweep(lrs=beside), seed, epochs),
        sweep=full_runs(sweep, seed, epochs),
        before=problem(seed).evaluate(),
        updates=planned.train_steps or 0,
        spent=spent,
    )


def full_runs(sweep: Sweep, seed: int, epochs: int) -> tuple[Trial, ...]:
    """Train at every candidate of ``sweep`` for the whole planned run."""
    outcome = run_search(problem(seed), sweep, plan(epochs))
    losses = [final_loss(curve) for curve in outcome.curves if curve.role == "candidate"]
    return tuple(Trial(lr, loss) for lr, loss in zip(sweep.candidates(), losses, strict=True))


def tell(result: Trials) -> str:
    """Compare the suggestion with the best of the sweep."""
    best, suggested = result.best, result.suggested
    runs = len(result.sweep)
    return (
        f"Trained for {number(result.updates)} updates at {number(suggested.lr)}, the net ends at "
        f"a held-out loss of {number(suggested.loss)}. The best of {runs} learning rates trained "
        f"for as long is {number(best.lr)}, with {number(best.loss)}: the suggestion is off by a "
        f"factor of {number(result.factor)} and loses {number(100.0 * result.regret, 2)} % of "
        f"what could be won. {_cost(result, runs + 1)}"
    )


def _cost(result: Trials, runs: int) -> str:
    # One of them is the baseline, whose weights do not move.
    if not result.spent:
        return f"The sweep cost {runs} full runs."
    ladders = number(result.spent / result.updates, 2)
    return f"The sweep cost {runs} full runs, the ladders that led here as much as {ladders}."


def table(result: Trials) -> Table:
    """The suggestion, its neighbours, and the best of the sweep."""
    rows = [
        (number(t.lr), "the suggestion" if t is result.suggested else "beside it", number(t.loss))
        for t in result.near
    ]
    rows.append((number(result.best.lr), "best of the sweep", number(result.best.loss)))
    return Table("Trial", ("lr", "what", "held-out loss at the end"), tuple(rows), words=2)


def draw(result: Trials) -> Figure:
    """Final loss against learning rate."""
    figure, (ax,) = figures.new(
        f"The suggestion, {number(result.suggestion)}, and the best of the sweep, "
        f"{number(result.best.lr)}: a factor of {number(result.factor)}",
        size=(8.0, 4.4),
    )  # fmt: skip
    top = 3.0 * result.before
    finite = [trial for trial in result.sweep if trial.loss < top]
    ax.loglog(
        [t.lr for t in finite], [t.loss for t in finite], "o-", ms=4.5, lw=1.2, color=figures.BLUE,
        label="sweep: one full run each",
    )  # fmt: skip
    ax.axvspan(
        result.best.lr / 2.0, result.best.lr * 2.0, color=figures.BLUE, alpha=0.08, lw=0,
        label="within a factor of 2 of the best",
    )  # fmt: skip
    ax.loglog(
        [t.lr for t in result.near], [t.loss for t in result.near], "D", ms=7,
        color=figures.GREEN, label="the suggestion and 0.1 on either side",
    )  # fmt: skip
    lost = [trial.lr for trial in result.sweep if not trial.loss < top]
    ax.plot(
        lost, [0.97] * len(lost), "x", color=figures.RED, transform=ax.get_xaxis_transform(),
        label="ends above its start, or diverges",
    )  # fmt: skip
    ax.axhline(result.before, color=figures.GREY, ls=":", lw=1.2, label="before training")
    lowest = min(trial.loss for trial in (*result.sweep, *result.near))
    ax.set_ylim(0.6 * lowest, top)
    figures.log_ticks(ax.xaxis, (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 3.0))
    figures.log_ticks(ax.yaxis, (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0))
    ax.set_xlabel("learning rate (log scale)")
    ax.set_ylabel("held-out loss at the end of the run")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(0.0, 0.62))
    return figure
