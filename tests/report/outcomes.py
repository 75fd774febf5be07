"""Outcomes of every kind, built by hand, for the tests of plots, pages and tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Cost, Outcome, Status
from lrsearch.core.suggest import suggest

NAN = float("nan")


def broken_line(count: int = 81, shift: float = 0.0) -> Curve:
    """Flat at 2 up to 1e-3, then down to 1 at 1e-1, then flat; lrs 1e-4 to 1."""
    lrs = np.geomspace(1e-4, 1.0, count)
    return Curve(lrs, shift + 2.0 - np.clip((np.log10(lrs) + 3.0) / 2.0, 0.0, 1.0))


def outcome_of(*curves: Curve, method: str = "range", **changes: Any) -> Outcome:
    """What ``suggest`` says of the last curve."""
    said = suggest(curves[-1])
    data = {name: getattr(said, name) for name in ("lr", "low", "high", "status", "why", "rule")}
    cost = Cost(sum(len(curve) for curve in curves), 0, 0.25)
    settings = {"method": method, "seed": 0}
    return Outcome(**{**data, "curves": curves, "cost": cost, "settings": settings, **changes})


def exploding() -> Outcome:
    """A fall, then losses up to 1e6, then NaN."""
    line = broken_line()
    lrs = np.concatenate([line.lr, [2.0, 4.0, 8.0]])
    return outcome_of(Curve(lrs, np.append(line.loss, [50.0, 1e6, NAN]), Stop.NOT_FINITE, 1))


def flat(sd: float = 0.1) -> Outcome:
    losses = 3.0 + sd * np.random.default_rng(0).standard_normal(60)
    return outcome_of(Curve(np.geomspace(1e-5, 1.0, 60), losses))


def sweep(schedule: tuple[float, ...] = (1.0, 1.0, 1.0)) -> Outcome:
    """Five lanes of three updates from a loss of 4; the last two break, at once and half way."""
    shape = np.array(schedule)
    ends = {1e-3: 3.0, 1e-2: 2.0, 1e-1: 2.5}
    lanes = [Curve(lr * shape, [4.0, 3.5, end]) for lr, end in ends.items()]
    lanes.append(Curve(1.0 * shape[:2], [4.0, math.inf], Stop.NOT_FINITE))
    lanes.append(Curve(10.0 * shape[:1], [NAN], Stop.NOT_FINITE))
    return Outcome(
        lr=1e-2,
        low=1e-3,
        high=1e-1,
        status=Status.FOUND,
        why="It has the lowest final loss.",
        rule="sweep",
        curves=tuple(lanes),
        cost=Cost(12, 0, 0.5, 4.0),
        settings={"method": "sweep", "train_steps": 3},
    )


def unanswered(status: Status, *curves: Curve, method: str = "range") -> Outcome:
    cost = Cost(sum(len(curve) for curve in curves), 0, 0.1)
    settings = {"method": method}
    return Outcome(NAN, NAN, NAN, status, status.value, "default", curves, cost, settings)


EVERY_KIND: dict[str, Outcome] = {
    "found": outcome_of(broken_line()),
    "negative losses": outcome_of(broken_line(shift=-100.0)),
    "with a scout": outcome_of(Curve([1e-6, 1e-3, 1.0], [2.0, 1.9, 9.0]), broken_line()),
    "exploding": exploding(),
    "no signal": flat(),
    "constant": flat(sd=0.0),
    "one point": unanswered(Status.TOO_FEW_POINTS, Curve([0.1], [2.0])),
    "one point, then NaN": unanswered(Status.TOO_FEW_POINTS, Curve([0.1, 1.0], [2.0, NAN])),
    "only NaN": unanswered(Status.NOT_FINITE, Curve([0.1], [NAN])),
    "no curves": unanswered(Status.NOT_FINITE),
    "empty curve": unanswered(Status.TOO_FEW_POINTS, Curve([], [])),
    "diverging": unanswered(Status.DIVERGED, Curve(np.geomspace(1, 1e3, 9), 10.0 ** np.arange(9))),
    "at the edge": outcome_of(broken_line(), status=Status.AT_EDGE),
    "several updates on a rung": outcome_of(
        Curve(np.repeat(broken_line(21).lr, 3), np.repeat(broken_line(21).loss, 3)),
        method="ladder",
    ),
    "sweep": sweep(),
    "sweep with a schedule": sweep((0.1, 1.0, 0.5)),
    "sweep of NaN": unanswered(Status.NOT_FINITE, Curve([0.1], [NAN]), method="sweep"),
    "sweep of nothing": unanswered(Status.NOT_FINITE, method="sweep"),
}


def short_runs(noise: float | None = 0.05, held_out: bool = False) -> Outcome:
    """A range test: a climb that explodes at 10, and runs at 1e-3, 1e-2 and 1e-1."""
    climb = Curve(
        np.geomspace(1e-6, 10.0, 29), [2.0] * 24 + [1.8, 1.6, 1.9, 9.0, 1e6], Stop.DIVERGED
    )
    ends = {1e-3: 1.9, 1e-2: 1.0, 1e-1: 1.2}
    runs = [
        Curve([lr] * 9, np.linspace(2.0, end, 9), lane=lane, evaluations=((9, end),) * held_out)
        for lane, (lr, end) in enumerate(ends.items(), 1)
    ]
    return Outcome(
        lr=8e-3,
        low=2e-3,
        high=1e-2,
        status=Status.FOUND,
        why="The runs say so.",
        rule="default",
        curves=(climb, *runs),
        cost=Cost(56, 0, 0.5),
        settings={"method": "range"},
        spread=0.2,
        noise=noise,
        correction=-0.1,
    )


EVERY_KIND["short runs"] = short_runs()
EVERY_KIND["short runs with held-out losses"] = short_runs(held_out=True)
