"""Replay the race on recorded losses, with its constants chosen with the task left out.

``python -m benchmarks.regret.race_replay`` runs the race's own decisions, unchanged, on the
tables of ``benchmarks.regret.horizons``: losses between the recorded lengths and rates are
interpolated. It prints and stores, for each budget, the regret with the constants as shipped,
with the best constants of the grid below, and with those that are best on the other tasks.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.environment import environment
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.regret.horizons import FOLDER
from benchmarks.regret.oracle import SEEDS, Oracle, excess, load_oracle, regret
from benchmarks.regret.tasks import TASKS
from benchmarks.results_file import write_json
from lrsearch.core.curve import Curve
from lrsearch.core.search import Plan, Probe
from lrsearch.methods import race as module

BUDGETS = (0.3, 1.0, 3.0)
# (drift at a constant schedule, drift at an annealed one) x (decades between fine lanes)
DRIFTS = ((0.0, 0.0), (0.2, 0.0), (0.2, 0.2), (0.4, 0.2), (0.5, 0.3), (0.6, 0.4))
FINE_STEPS = (0.2, 0.3, 0.4)


@dataclass(frozen=True)
class Recorded:
    """One task and seed: final losses by length and rate, in log10."""

    oracle: Oracle
    schedule: str
    seed: int
    top: float
    rows: tuple[tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64]], ...]

    def loss(self, lr: float, steps: int) -> float:
        """Interpolated loss after ``steps`` updates of the compressed run at peak ``lr``."""
        length = min(max(math.log(steps / self.oracle.steps), self.rows[0][0]), 0.0)
        lengths = [row[0] for row in self.rows]
        upper = min(max(int(np.searchsorted(lengths, length)), 1), len(lengths) - 1)
        share = (length - lengths[upper - 1]) / (lengths[upper] - lengths[upper - 1])
        below, above = (self._at(self.rows[i], lr) for i in (upper - 1, upper))
        return (1.0 - share) * below + share * above

    def _at(self, row: Any, lr: float) -> float:
        _, rates, losses = row
        start = self.oracle.initial[self.seed]
        x = math.log10(lr)
        if x < rates[0]:  # progress in proportion to the rate
            return float(start - (start - losses[0]) * 10.0 ** (x - rates[0]))
        return float(np.interp(x, rates, losses)) if x <= rates[-1] else 3.0 * start


def recorded() -> list[Recorded]:
    """Every task and seed for which there is a table that fits the oracle."""
    found = []
    for task in TASKS:
        path = FOLDER / f"{task.name}.json"
        if not path.exists():
            continue
        content, oracle = json.loads(path.read_text(encoding="utf-8")), load_oracle(task)
        if content["hash"] != oracle.hash:
            raise SystemExit(f"{path.name} is stale: run python -m benchmarks.regret.horizons")
        for number, seed in enumerate(SEEDS):
            rows = [
                _row(math.log(fraction), content["units"], losses[number], oracle, number)
                for fraction, losses in zip(content["fractions"], content["losses"], strict=True)
            ]
            units = [5.0 * math.log10(lr) for lr in oracle.lrs]
            rows.append(_row(0.0, units, [row[number] for row in oracle.losses], oracle, number))
            top = content["scouts"][number]["top"]
            found.append(Recorded(oracle, task.schedule, seed, top, tuple(rows)))
    return found


def _row(length: float, units: Any, losses: Any, oracle: Oracle, number: int) -> Any:
    cap = 3.0 * oracle.initial[number]
    values = np.array([cap if loss is None else min(loss, cap) for loss in losses])
    return length, np.array(units) / 5.0, values


def replay(method: module.Race, record: Recorded) -> tuple[float, float]:
    """Return the race's answer and its cost in planned runs."""
    plan = Plan(record.oracle.steps, record.schedule, can_evaluate=True)
    curves: dict[int, Curve] = {}
    while probes := method.next_probes(curves, plan):
        for probe in probes:
            curves[probe.lane] = _curve(probe, record)
    cost = sum(len(curve) for curve in curves.values()) / record.oracle.steps
    return method.conclude(curves, plan).lr, cost


def _curve(probe: Probe, record: Recorded) -> Curve:
    lrs = np.array(probe.lrs)
    if not probe.evaluate:  # the scout: it ends where the recorded one did
        lrs = lrs[: int(np.searchsorted(lrs, record.top * 0.999)) + 1]
        return Curve(lrs, np.ones(len(lrs)), lane=probe.lane)
    loss = record.loss(float(lrs.max()), len(lrs))
    return Curve(lrs, np.ones(len(lrs)), lane=probe.lane, evaluations=((len(lrs), loss),))


@contextmanager
def constants(drift: tuple[float, float], fine: float) -> Iterator[None]:
    """Run the race with other constants."""
    names = ("_DRIFT_CONSTANT", "_DRIFT_ANNEALED", "_FINE_STEP")
    before = [getattr(module, name) for name in names]
    try:
        for name, value in zip(names, (*drift, fine), strict=True):
            setattr(module, name, value)
        yield
    finally:
        for name, value in zip(names, before, strict=True):
            setattr(module, name, value)


def _figures(method: module.Race, records: list[Recorded]) -> dict[str, list[list[float]]]:
    """(regret, excess, cost) of every seed, by task. No answer counts as no training."""
    figures: dict[str, list[list[float]]] = {}
    for record in records:
        lr, cost = replay(method, record)
        found = math.isfinite(lr)
        row = [
            regret(record.oracle, lr) if found else 1.0,
            excess(record.oracle, lr) if found else excess(record.oracle, 1e30),
            cost,
        ]
        figures.setdefault(record.oracle.task, []).append(row)
    return figures


def _summary(figures: dict[str, list[list[float]]]) -> dict[str, float]:
    rows = np.array([row for task in figures.values() for row in task])
    return {
        "mean regret": round(float(rows[:, 0].mean()), 4),
        "median regret": round(float(np.median(rows[:, 0])), 4),
        "worst regret": round(float(rows[:, 0].max()), 4),
        "mean excess": round(float(rows[:, 1].mean()), 4),
        "mean cost": round(float(rows[:, 2].mean()), 3),
    }


def main() -> None:
    """Entry point."""
    records = recorded()
    tasks = sorted({record.oracle.task for record in records})
    content: dict[str, Any] = {"environment": environment("numpy", "torch"), "tasks": len(tasks)}
    for budget in BUDGETS:
        method = module.Race(budget=budget)
        grid = {}
        for drift, fine in itertools.product(DRIFTS, FINE_STEPS):
            with constants(drift, fine):
                grid[(drift, fine)] = _figures(method, records)
        means = {
            key: {task: float(np.mean([row[0] for row in rows])) for task, rows in figures.items()}
            for key, figures in grid.items()
        }
        best = min(grid, key=lambda key: sum(means[key].values()))
        left_out = {
            task: grid[min(grid, key=lambda key: sum(means[key].values()) - means[key][task])][task]
            for task in tasks
        }
        content[f"budget {budget:g}"] = {
            "as shipped": _summary(_figures(method, records)),
            "best constants": {"drift": best[0], "fine step": best[1], **_summary(grid[best])},
            "task left out": _summary(left_out),
        }
        print(f"budget {budget:g}", json.dumps(content[f"budget {budget:g}"], indent=1), flush=True)
    print("wrote", write_json("race_replay", content))
    write_between_markers(ROOT / "docs/research/race.md", "replay", page(content))


def page(content: dict[str, Any]) -> str:
    """The table of the research page."""
    figures = ("mean regret", "median regret", "worst regret", "mean excess", "mean cost")
    rows = [
        [budget.removeprefix("budget "), choice, *(summary[figure] for figure in figures)]
        for budget, choices in content.items()
        if budget.startswith("budget ")
        for choice, summary in choices.items()
    ]
    head = f"{content['tasks']} tasks x {len(SEEDS)} seeds.\n\n"
    return head + table(["budget", "constants", *figures], rows)


if __name__ == "__main__":
    main()
