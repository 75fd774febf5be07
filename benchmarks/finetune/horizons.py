"""Final losses of shortened fine-tunings, in the form of `benchmarks.regret.horizons`.

``python -m benchmarks.finetune.horizons`` lets `Trainer` train every task with its schedule
compressed to 1/64, 1/32, ... 1/2 of its length, at the oracle's learning rates and a few beyond,
so that `benchmarks.regret.race_replay` can replay races on fine-tunings too.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import math
import multiprocessing
import pathlib
from typing import Any

from benchmarks.finetune.oracle import load_oracle
from benchmarks.finetune.runs import final_loss, quick_starts
from benchmarks.finetune.tasks import TASKS, FineTuning, by_name, make_trainer, shortened
from benchmarks.regret.horizons import ABOVE, BELOW, FRACTIONS, SCOUTS, ScoutOf, write
from benchmarks.regret.oracle import SEEDS
from lrsearch.methods.race import Race

FOLDER = pathlib.Path(__file__).parent / "recorded"


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.finetune.horizons", description=__doc__)
    parser.add_argument("tasks", nargs="*", help="names; all of them by default")
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context, quick_starts) as pool:
        for name in parser.parse_args().tasks or [task.name for task in TASKS]:
            write(FOLDER, table(by_name(name), pool))
            print(name, flush=True)


def table(task: FineTuning, pool: concurrent.futures.Executor) -> dict[str, Any]:
    """Losses by fraction, seed and learning rate (``None`` where training diverged)."""
    oracle = load_oracle(task)
    units = [round(5 * math.log10(lr)) for lr in oracle.lrs]
    units = list(range(min(units) - BELOW, max(units) + ABOVE + 1))
    jobs = [
        [[pool.submit(_loss, task.name, part, unit, seed) for unit in units] for seed in SEEDS]
        for part in FRACTIONS
    ]
    scouts = [[pool.submit(_scout, task.name, seed, b) for b in SCOUTS] for seed in SEEDS]
    return {
        "task": task.name,
        "hash": oracle.hash,
        "fractions": FRACTIONS,
        "units": units,  # log10(lr) in steps of 0.2
        "scouts": [dict(job.result() for job in row) for row in scouts],
        "losses": [[[job.result() for job in row] for row in part] for part in jobs],
    }


def _loss(name: str, part: float, unit: int, seed: int) -> float | None:
    loss = final_loss(shortened(by_name(name), part), 10.0 ** (unit / 5), seed)
    return None if loss is None else float(f"{loss:.6g}")


def _scout(name: str, seed: int, budget: float) -> tuple[str, list[float]]:
    from lrsearch.integrations.transformers import find_lr_for

    method = ScoutOf(Race(budget))
    trainer = make_trainer(by_name(name), seed)
    (curve,) = find_lr_for(trainer, method=method, progress=False, throw=False).curves
    return method.rates(by_name(name).steps), [
        float(f"{min(loss, 1e30):.6g}") for loss in curve.loss
    ]


if __name__ == "__main__":
    main()
