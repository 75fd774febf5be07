"""Record the climbs and short runs on which the range test is replayed.

``python -m benchmarks.regret.range_record`` trains every task, three seeds: a climb of four updates
per decade and one of twenty, both until divergence, and runs of 12, 24 and 48 updates at constant
learning rates a quarter of a decade apart, with their held-out losses.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.regret.contestants.contestant import seed_everything
from benchmarks.regret.horizons import trainable_of
from benchmarks.regret.oracle import SEEDS, load_oracle
from benchmarks.regret.problem import Task
from benchmarks.regret.range_replay import LANES, LENGTHS, RECORDED, SPACING, Floats
from benchmarks.regret.tasks import TASKS
from lrsearch.core.curve import Curve
from lrsearch.core.outcome import Status
from lrsearch.core.search import Plan, Probe, Script, run_search
from lrsearch.core.stopping import StopRule
from lrsearch.core.suggest import Suggestion
from lrsearch.methods import range_test


def main() -> None:
    """Entry point."""
    content = {
        task.name: {
            "hash": load_oracle(task).hash,
            "seeds": [record(task, seed) for seed in SEEDS],
        }
        for task in TASKS
    }
    save(content)


def save(content: dict[str, Any]) -> None:
    """Write the recorded losses, one task per line."""
    lines = [f'"{name}":{json.dumps(row, separators=(",", ":"))}' for name, row in content.items()]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def record(task: Task, seed: int) -> dict[str, Any]:
    """Train one task with one seed and return its losses, ``None`` where they were not finite."""
    trainable = trainable_of(task, seed)
    seed_everything(seed)
    rule = StopRule(patience=range_test._PATIENCE)
    climb = _trained(trainable, np.geomspace(1e-8, 1e4, 48), rule)
    leaps = _trained(trainable, np.geomspace(1e-8, 1e4, 25), StopRule())
    top = math.log10(leaps.lr[-1])
    slow = _trained(trainable, 10.0 ** np.arange(top - 6.0, top + 0.5, 0.05), StopRule())
    first = round(4 * top) / 4 + 0.5 - SPACING * (LANES - 1)
    rows = []
    for lane in range(LANES):
        lr = 10.0 ** (first + SPACING * lane)
        run = [_trained(trainable, np.full(n, lr), StopRule(divergence=False)) for n in LENGTHS]
        training = [float(np.mean(r.loss[-max(2, len(r) // 3) :])) for r in run]
        rows.append(training + [r.evaluations[-1][1] if r.evaluations else math.nan for r in run])
    table_ = np.array(rows).T
    return {
        "climb": _numbers(climb.loss),
        "slow": [float(slow.lr[0]), *_numbers(slow.loss)],
        "first": first,
        "training": [_numbers(row) for row in table_[: len(LENGTHS)]],
        "held_out": [_numbers(row) for row in table_[len(LENGTHS) :]],
    }


@dataclass(frozen=True)
class _Once:
    """A method that makes one probe."""

    probe: Probe
    name: str = "once"

    def search(self, plan: Plan) -> Script:
        yield [self.probe]
        return Suggestion(math.nan, math.nan, math.nan, Status.NO_SIGNAL, "recorded", self.name)


def _trained(trainable: Any, lrs: Floats, rule: StopRule) -> Curve:
    probe = Probe(tuple(lrs.tolist()), "run", rule, evaluate=True)
    return run_search(trainable, _Once(probe), Plan()).curves[0]


def _numbers(values: Any) -> list[float | None]:
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in np.asarray(values).tolist()]


if __name__ == "__main__":
    main()
