"""What one seed cannot tell: suggestion against sweep for many nets, and for many lengths."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from lrsearch.core.curve import Curve
from lrsearch.methods.sweep import Sweep
from lrsearch.tutorial import trial, zoom
from lrsearch.tutorial.problem import EPOCHS, plan, problem, train
from lrsearch.tutorial.tables import Table, number
from lrsearch.tutorial.trial import Trials

__all__ = ["Agreement", "agreement", "agreement_table", "best_by_length", "lengths_table"]

FloatArray = npt.NDArray[np.float64]

#: Parts of the sweep of step e: every best rate lay well inside, and the rest would only take time.
SWEEP = Sweep(min_lr=0.25, max_lr=2.5, per_decade=10)
LONG_SWEEP = Sweep(min_lr=0.1, max_lr=10.0**0.5, per_decade=10)


@dataclass(frozen=True)
class Agreement:
    """The two suggestions of step d for one seed, each against the same sweep.

    Attributes:
        chosen: that of the second ladder.
        own: that of the ladder that zooms by itself.
        turned: whether the loss clearly turned up on the second ladder.
    """

    seed: int
    chosen: Trials
    own: Trials
    turned: bool


def agreement(seed: int) -> Agreement:
    """Zoom, then train at both suggestions and at every candidate of the sweep."""
    looked = zoom.compute(seed)
    chosen = trial.compute(looked.lr, seed, SWEEP)
    alone = Sweep(lrs=(looked.own.outcome.lr,))
    own = replace(
        chosen,
        suggestion=looked.own.outcome.lr,
        near=trial.full_runs(alone, seed, EPOCHS),
    )
    return Agreement(seed, chosen, own, looked.chosen.turning.turned)


def agreement_table(rows: Iterable[Agreement]) -> Table:
    """One row for each seed."""
    columns = (
        "seed", "best of the sweep", "second ladder", "factor", "regret",
        "the ladder's own zoom", "factor", "regret",
    )  # fmt: skip
    return Table(
        "The suggestions of step d against the sweep",
        columns,
        tuple(
            (
                str(row.seed),
                number(row.chosen.best.lr),
                *(
                    text
                    for trials in (row.chosen, row.own)
                    for text in (
                        number(trials.suggestion),
                        number(trials.factor),
                        f"{round(100.0 * trials.regret, 1) + 0.0:.1f} %",  # never "-0.0"
                    )
                ),
            )
            for row in rows
        ),
    )


def best_by_length(
    seeds: Iterable[int], epochs: tuple[int, ...] = (200, 400, 800, 1600)
) -> dict[int, FloatArray]:
    """Return the best rate of the sweep for runs of each length, shape ``(seeds,)`` each.

    At a constant rate a short run is the beginning of a long one, so each rate is trained once.
    The loss is the mean of the held-out losses over the last tenth of the run.
    """
    every = plan().updates_per_epoch or 1
    lrs = LONG_SWEEP.candidates()
    best: dict[int, list[float]] = {length: [] for length in epochs}
    for seed in seeds:
        curves = [train(problem(seed), [lr] * (max(epochs) * every), every) for lr in lrs]
        for length in epochs:
            finals = [_final(curve, length) for curve in curves]
            best[length].append(lrs[int(np.argmin(finals))])
    return {length: np.array(values) for length, values in best.items()}


def _final(curve: Curve, epochs: int) -> float:
    """Mean held-out loss over the last tenth of the first ``epochs`` epochs."""
    if len(curve.evaluations) <= epochs:
        return math.inf
    late = curve.evaluations[9 * epochs // 10 : epochs + 1]
    return float(np.mean([loss for _, loss in late]))


def lengths_table(best: dict[int, FloatArray]) -> Table:
    """One row for each length of the planned run."""
    return Table(
        "The best learning rate depends on how long the net will be trained",
        ("epochs", "best of the sweep, median", "smallest", "largest"),
        tuple(
            (
                str(length),
                number(float(np.median(values))),
                number(float(values.min())),
                number(float(values.max())),
            )
            for length, values in best.items()
        ),
    )
