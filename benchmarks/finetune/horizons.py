"""Final losses of shortened fine-tunings: what a race can see before it has to answer.

``python -m benchmarks.finetune.horizons`` trains the tasks' planned runs with the schedule
compressed to 1/32, 1/16, ... 1/2 of its length; see `benchmarks.regret.horizons`. On these tables
`benchmarks.finetune.replay` runs a race in milliseconds.
"""

from __future__ import annotations

import argparse
import json
import math
import pathlib
from typing import Any

from benchmarks.finetune.oracle import SEEDS, load_oracle
from benchmarks.finetune.runs import final_loss, quick_starts
from benchmarks.finetune.tasks import TASKS, FineTuning, by_name, make_trainer, shortened
from lrsearch.core.search import Plan, run_search
from lrsearch.methods.range_test import RangeTest
from lrsearch.pytorch.trainable import torch_trainable

FOLDER = pathlib.Path(__file__).parent / "recorded"
FRACTIONS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
BEYOND = 0  # grid points of 0.2 decade beyond either end of the oracle's sweep


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.finetune.horizons", description=__doc__)
    parser.add_argument("tasks", nargs="*", help="names of tasks; all of them by default")
    options = parser.parse_args(arguments)
    quick_starts()
    for task in [by_name(name) for name in options.tasks] or TASKS:
        path = FOLDER / f"{task.name}.json"
        text = json.dumps(table(task), separators=(",", ":"))
        path.write_text(text + "\n", encoding="utf-8")
        print(task.name, flush=True)


def table(task: FineTuning) -> dict[str, Any]:
    """Losses by fraction, seed and learning rate (``None`` where training diverged)."""
    oracle = load_oracle(task)
    units = [round(5 * math.log10(lr)) for lr in oracle.lrs]
    units = list(range(min(units) - BEYOND, max(units) + BEYOND + 1))
    return {
        "task": task.name,
        "hash": oracle.hash,
        "fractions": FRACTIONS,
        "units": units,  # log10(lr) in steps of 0.2
        "scouts": [_scout(task, seed) for seed in SEEDS],
        "losses": [
            [_row(shortened(task, fraction), seed, units) for seed in SEEDS]
            for fraction in FRACTIONS
        ],
    }


def _row(task: FineTuning, seed: int, units: list[int]) -> list[float | None]:
    losses = [final_loss(task, 10.0 ** (unit / 5), seed) for unit in units]
    return [None if loss is None else float(f"{loss:.6g}") for loss in losses]


def _scout(task: FineTuning, seed: int) -> dict[str, Any]:
    """Where the scout of a 100-step range test ended, and how many updates it took."""
    trainer = make_trainer(task, seed)
    trainable = torch_trainable(
        trainer.model,
        trainer.create_optimizer(),
        None,
        trainer.get_train_dataloader(),
        clip_grad_norm=trainer.args.max_grad_norm,
        seed=seed,
    )
    scout = run_search(trainable, RangeTest(steps=100), Plan()).curves[0]
    return {"top": float(scout.lr[-1]), "updates": len(scout)}


if __name__ == "__main__":
    main()
