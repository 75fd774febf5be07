"""Replay races on the recorded fine-tunings: ``python -m benchmarks.finetune.replay``.

It runs the decisions of `lrsearch.Race`, unchanged, on the tables of
`benchmarks.finetune.horizons`, and prints what every seed answered and lost.
"""

from __future__ import annotations

import json
import math

import numpy as np

from benchmarks.finetune.horizons import FOLDER
from benchmarks.finetune.oracle import SEEDS, load_oracle
from benchmarks.finetune.tasks import TASKS
from benchmarks.regret.oracle import regret
from benchmarks.regret.race_replay import BUDGETS, Recorded, _row, replay
from lrsearch.methods.race import Race


def recorded() -> list[Recorded]:
    """Every task and seed of which there is a table that fits the oracle."""
    found = []
    for task in TASKS:
        path = FOLDER / f"{task.name}.json"
        if not path.exists():
            continue
        content, oracle = json.loads(path.read_text(encoding="utf-8")), load_oracle(task)
        if content["hash"] != oracle.hash:
            raise SystemExit(f"{path.name} is stale: run python -m benchmarks.finetune.horizons")
        units = [5.0 * math.log10(lr) for lr in oracle.lrs]
        for number, seed in enumerate(SEEDS):
            rows = [
                _row(math.log(fraction), content["units"], losses[number], oracle, number)
                for fraction, losses in zip(content["fractions"], content["losses"], strict=True)
            ]
            rows.append(_row(0.0, units, [row[number] for row in oracle.losses], oracle, number))
            top = content["scouts"][number]["top"]
            found.append(Recorded(oracle, "linear", seed, top, tuple(rows)))
    return found


def main() -> None:
    """Entry point."""
    records = recorded()
    for budget in BUDGETS:
        for name in dict.fromkeys(record.oracle.task for record in records):
            same = [record for record in records if record.oracle.task == name]
            answers = [replay(Race(budget=budget), record)[0].lr for record in same]
            lost = [
                regret(record.oracle, lr) if math.isfinite(lr) else 1.0
                for record, lr in zip(same, answers, strict=True)
            ]
            print(
                f"budget {budget:<4g} {name:20} best {same[0].oracle.best_lr:.2g}  regret mean "
                f"{np.mean(lost):.4f} worst {max(lost):.4f}  lr "
                + " ".join(f"{lr:.2g}" for lr in answers)
            )


if __name__ == "__main__":
    main()
