"""What shorter runs can say at best: a whole grid of rates at one length, and one drift for all.

``python -m benchmarks.regret.race_bounds`` takes, on the tables of ``benchmarks.regret.horizons``,
the bottom of all recorded rates at 1/64 ... 1/1 of the planned length, moves it down by a number
of decades per decade of length, and judges it by the oracle. The drift is the best one of the
other tasks with the same kind of schedule (constant or not), or of the task itself. Such a grid
costs ten times a race; the race is to be compared with it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.environment import environment
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.regret.horizons import FRACTIONS
from benchmarks.regret.oracle import regret
from benchmarks.regret.race_replay import Recorded, recorded
from benchmarks.results_file import write_json

DRIFTS = tuple(np.arange(-0.4, 1.21, 0.1).round(1).tolist())


def main() -> None:
    """Entry point."""
    records = recorded()
    content: dict[str, Any] = {"environment": environment("numpy")}
    rows = []
    for place, fraction in enumerate((*FRACTIONS, 1.0)):
        drifts = {drift: _by_task(records, place, drift, fraction) for drift in DRIFTS}
        left_out, own = _chosen(records, drifts)
        row = {
            "no drift": round(float(np.mean([np.mean(v) for v in drifts[0.0].values()])), 4),
            "drift of other tasks": round(float(np.mean(left_out)), 4),
            "worst": round(max(left_out), 3),
            "drift of the task itself": round(float(np.mean(own)), 4),
        }
        content[f"1/{round(1 / fraction)}"] = row
        rows.append([f"1/{round(1 / fraction)}", *row.values()])
    print("wrote", write_json("race_bounds", content))
    write_between_markers(ROOT / "docs/research/race.md", "bounds", table(["length", *row], rows))


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


if __name__ == "__main__":
    main()
