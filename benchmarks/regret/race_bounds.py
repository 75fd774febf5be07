"""What shorter runs can say at best: a whole grid of rates at one length, and one drift for all.

``python -m benchmarks.regret.race_bounds`` takes, on the tables of ``benchmarks.regret.horizons``,
the bottom of all recorded rates at 1/64 ... 1/1 of the planned length, moves it down by a number
of decades per decade of length, and judges it by the oracle. The drift is the best one of the
other tasks with the same kind of schedule (constant or not), or of the task itself; or two drifts
of all other tasks, one per decade of new data and one per decade of passes over the same data,
since a longer run has more of one or of the other. In a further column the drift is predicted for
every task from what its own shorter runs show: how far the bottom has moved over the last two
lengths, and how much the best loss still gains from one length to the next; the prediction is
fitted to the other tasks. All of it is done twice: with short runs on all data, and with short
runs on as much less data, so that they see each example as often as the planned run does. Such a
grid costs ten times a race; the race is to be compared with it.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.environment import environment
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.regret.horizons import FRACTIONS
from benchmarks.regret.oracle import regret
from benchmarks.regret.race_records import Recorded, recorded
from benchmarks.results_file import write_json
from lrsearch.methods.race_design import passes, shortened_epoch

SHIFTS = tuple(np.arange(-0.3, 0.31, 0.05).round(2).tolist())
Floats = npt.NDArray[np.float64]
DATA = {"losses": "all data", "thinned": "less data"}
DRIFTS = tuple((np.arange(-4, 13) / 10.0).tolist())


def main() -> None:
    """Entry point."""
    found = {data: _by_length(recorded(losses), losses) for losses, data in DATA.items()}
    print("wrote", write_json("race_bounds", {"environment": environment("numpy"), **found}))
    lengths = next(iter(found.values()))
    rows = [
        [length, data, *by_length[length].values()]
        for length in lengths
        for data, by_length in found.items()
    ]
    head = ["length", "short runs on", *lengths["1/1"]]
    write_between_markers(ROOT / "docs/research/race.md", "bounds", table(head, rows))


def _by_length(records: list[Recorded], losses: str) -> dict[str, dict[str, Any]]:
    content = {}
    for place, fraction in enumerate((*FRACTIONS, 1.0)):
        drifts = {drift: _by_task(records, place, drift, fraction) for drift in DRIFTS}
        left_out, own = _chosen(records, drifts)
        content[f"1/{round(1 / fraction)}"] = {
            "no drift": round(float(np.mean([np.mean(v) for v in drifts[0.0].values()])), 4),
            "drift of other tasks": round(float(np.mean(left_out)), 4),
            "worst": round(max(left_out), 3),
            **_apart(records, place, fraction, thinned=losses == "thinned"),
            **_predicted(records, place),
            "drift of the task itself": round(float(np.mean(own)), 4),
        }
    return content


def _by_task(
    records: list[Recorded], place: int, drift: float, fraction: float
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for record in records:
        _, rates, losses = record.rows[place]
        peak = _bottom(rates, losses) + drift * math.log10(fraction)
        found.setdefault(record.oracle.task, []).append(regret(record.oracle, 10.0**peak))
    return found


def _bottom(rates: Any, losses: Any) -> float:
    best = int(np.argmin(losses))
    if best in (0, len(losses) - 1):
        return float(rates[best])
    before, here, after = losses[best - 1 : best + 2]
    bend = before - 2.0 * here + after
    shift = 0.5 * (before - after) / bend if bend > 0.0 else 0.0
    return float(rates[best] + 0.2 * np.clip(shift, -0.5, 0.5))


def _chosen(
    records: list[Recorded], drifts: dict[float, dict[str, list[float]]]
) -> tuple[list[float], list[float]]:
    """Regrets with the drift that is best on other tasks, and with the task's own best one."""
    constant = {record.oracle.task: record.schedule == "constant" for record in records}
    means = {d: {t: float(np.mean(v)) for t, v in by.items()} for d, by in drifts.items()}
    left_out, own = [], []
    for task in constant:
        alike = [t for t in constant if constant[t] == constant[task] and t != task]
        others = min(DRIFTS, key=lambda d: sum(means[d][t] for t in alike))
        itself = min(DRIFTS, key=lambda d: means[d][task])
        left_out += drifts[others][task]
        own += drifts[itself][task]
    return left_out, own


def _apart(records: list[Recorded], place: int, fraction: float, thinned: bool) -> dict[str, float]:
    """Regrets with the two drifts that are best on other tasks: of new data, and of passes."""
    bottoms = np.array([_bottom(*record.rows[place][1:]) for record in records])
    repeats = np.array([_missing_passes(record, fraction, thinned) for record in records])
    data = -math.log10(fraction) - repeats
    pairs = list(itertools.product(DRIFTS, DRIFTS))
    regrets = np.array([_regrets(records, bottoms - d * data - p * repeats) for d, p in pairs])
    tasks = np.array([record.oracle.task for record in records])
    left_out = np.empty(len(records))
    for task in np.unique(tasks):
        own = tasks == task
        left_out[own] = regrets[np.argmin(regrets[:, ~own].mean(axis=1)), own]
    of_data, of_passes = pairs[int(np.argmin(regrets.mean(axis=1)))]
    if fraction == 1.0:  # nothing to drift over
        of_data = of_passes = 0.0
    return {
        "of data and of passes": round(float(left_out.mean()), 4),
        "worst of these": round(float(left_out.max()), 3),
        "best of data": of_data,
        "best of passes": of_passes,
    }


def _missing_passes(record: Recorded, fraction: float, thinned: bool) -> float:
    """Passes over the data that the planned run makes, over those of a shorter one, in log10."""
    steps, whole = record.oracle.steps, record.updates_per_epoch
    updates = max(2, round(steps * fraction))
    fewer = shortened_epoch(whole, updates, steps) if thinned else None
    return math.log10(passes(steps, whole) / passes(updates, fewer or whole))


def _predicted(records: list[Recorded], place: int) -> dict[str, float | str]:
    """Mean and worst regret with a drift that is predicted by a regression on the other tasks."""
    if not 2 <= place < len(FRACTIONS):
        return {"drift predicted": "", "worst of it": ""}
    tasks = np.array([record.oracle.task for record in records])
    bottoms = np.array([[_bottom(*row[1:]) for row in record.rows] for record in records])
    features = np.stack([np.ones(len(tasks)), *_signs(records, bottoms, place)], axis=1)
    drifts = [math.log10(record.oracle.best_lr) for record in records] - bottoms[:, place]
    regrets = np.empty(len(tasks))
    for task in np.unique(tasks):
        own = tasks == task
        places = bottoms[:, place] + features @ _fitted(features[~own], drifts[~own])
        means = [_regrets(records, places + shift)[~own].mean() for shift in SHIFTS]
        regrets[own] = _regrets(records, places + SHIFTS[int(np.argmin(means))])[own]
    return {"drift predicted": round(regrets.mean(), 4), "worst of it": round(regrets.max(), 3)}


def _signs(records: list[Recorded], bottoms: Floats, place: int) -> list[Floats]:
    """The drift over the last two lengths, and the logarithm of the share still gained."""
    gained = [
        (shorter.min() - losses.min()) / (record.oracle.initial[record.seed] - losses.min())
        for record in records
        for shorter, losses in [(record.rows[place - 1][2], record.rows[place][2])]
    ]
    return [bottoms[:, place] - bottoms[:, place - 2], np.log(np.maximum(gained, 0.003))]


def _fitted(features: Floats, drifts: Floats) -> Floats:
    """Ridge regression that does not square large errors: by reweighting, 20 rounds."""
    ridge, weights = np.diag([0.0] + [0.3] * (features.shape[1] - 1)), np.ones(len(drifts))
    for _ in range(20):
        scaled = features.T * weights
        found = np.linalg.solve(scaled @ features + ridge, scaled @ drifts)
        weights = 1.0 / np.maximum(np.abs(drifts - features @ found), 0.1)
    return np.asarray(found)


def _regrets(records: list[Recorded], places: Floats) -> Floats:
    return np.array([regret(one.oracle, 10.0**at) for one, at in zip(records, places, strict=True)])


if __name__ == "__main__":
    main()
