"""Replay the race on the drawn runs, on which none of its constants was chosen.

``python -m benchmarks.drawn.replay`` reads what ``benchmarks.drawn.record`` recorded, as
``benchmarks.regret.race_replay`` reads the benchmark's own records, and writes the table of
docs/research/race.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from benchmarks.drawn.record import SEED, spec_hash, stored
from benchmarks.drawn.spec import draw
from benchmarks.environment import environment
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.regret.horizons import FRACTIONS
from benchmarks.regret.oracle import SEEDS, Oracle
from benchmarks.regret.race_records import FloatArray, Recorded, losses_of
from benchmarks.regret.race_replay import BUDGETS, figures
from benchmarks.results_file import write_json

LEAST = 0.1  # of the loss before training that a run must gain to be judged
FIGURES = ("mean", "median", "90th percentile", "above one half", "best in interval")


def main() -> None:
    """Entry point."""
    records = list(recorded())
    content: dict[str, Any] = {
        "environment": environment("numpy", "torch"),
        "runs": len(records),
        "budgets": {f"{budget:g}": _summary(figures(budget, records)) for budget in BUDGETS},
    }
    for budget, summary in content["budgets"].items():
        print(budget, json.dumps(summary), flush=True)
    write_json("drawn_replay", content)
    write_between_markers(ROOT / "docs/research/race.md", "drawn", page(content))


def recorded() -> Iterator[Recorded]:
    """The drawn runs that are well posed, as a race may replay them.

    Raises:
        SystemExit: one has changed since it was recorded.
    """
    for number, line in sorted(stored().items()):
        spec = draw(number)
        if line["hash"] != spec_hash(spec):
            raise SystemExit(f"{spec.name} is stale: run benchmarks.drawn.record")
        if "ill posed" not in line:
            one = _one(spec.schedule, line)
            if one.oracle.best_loss < (1.0 - LEAST) * one.oracle.initial_loss:
                yield one


def _one(schedule: str, line: dict[str, Any]) -> Recorded:
    raw = {key: _tuples(value) for key, value in line["oracle"].items()}
    oracle = Oracle(
        task=line["task"], hash=line["hash"], seeds=SEEDS, seconds=0.0, date="", versions={}, **raw
    )
    rows = [
        losses_of(math.log(fraction), line["units"], losses, oracle, SEED)
        for fraction, losses in zip(FRACTIONS, line["thinned"], strict=True)
    ]
    units = [5.0 * math.log10(lr) for lr in oracle.lrs]
    rows.append(losses_of(0.0, units, [row[SEED] for row in oracle.losses], oracle, SEED))
    epoch = line["updates_per_epoch"]
    return Recorded(oracle, schedule, SEED, line["scouts"], epoch, tuple(rows))


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _summary(rows: FloatArray) -> dict[str, float]:
    regrets = rows[:, 0]
    values = (
        regrets.mean(),
        np.median(regrets),
        np.quantile(regrets, 0.9),
        np.mean(regrets > 0.5),
        rows[:, 3].mean(),
    )
    return {name: round(float(v), 3) for name, v in zip(FIGURES, values, strict=True)}


def page(content: dict[str, Any]) -> str:
    """The table of the research page."""
    rows = [[budget, *summary.values()] for budget, summary in content["budgets"].items()]
    return f"{content['runs']} runs.\n\n" + table(["budget", *FIGURES], rows)


if __name__ == "__main__":
    main()
