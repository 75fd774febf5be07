"""Final losses of shortened planned runs: what a race can see before it has to answer.

``python -m benchmarks.regret.horizons`` trains every task's planned run, with its schedule
compressed to 1/64, 1/32, ... 1/2 of its length, at the oracle's learning rates and a few
beyond, and stores the held-out losses beside the scout of our range test. Together with the
oracle this is a table of recorded losses on which a race can be replayed in milliseconds: see
``benchmarks.regret.race_replay``. It costs about as much as the oracle itself.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import math
import multiprocessing
import pathlib
from typing import Any

import torch

from benchmarks.regret.oracle import SEEDS, load_oracle
from benchmarks.regret.problem import Task
from benchmarks.regret.runs import final_loss
from benchmarks.regret.tasks import TASKS, by_name
from lrsearch.core.search import Plan, run_search
from lrsearch.methods.range_test import RangeTest
from lrsearch.pytorch.trainable import torch_trainable

FOLDER = pathlib.Path(__file__).parent / "recorded"
FRACTIONS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
BELOW, ABOVE = 2, 3  # grid points of 0.2 decade beyond the oracle's sweep
DEAD = 3  # neighbouring rates that diverge before the higher ones are taken to diverge too


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.regret.horizons", description=__doc__)
    parser.add_argument("tasks", nargs="*", help="names of tasks; all of them by default")
    names = parser.parse_args().tasks or [task.name for task in TASKS]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        for name in pool.map(_record, names):
            print(name, flush=True)


def _record(name: str) -> str:
    torch.set_num_threads(1)
    task = by_name(name)
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(table(task), separators=(",", ":")) + "\n", encoding="utf-8")
    return name


def table(task: Task) -> dict[str, Any]:
    """Losses by fraction, seed and learning rate (``None`` where training diverged)."""
    oracle = load_oracle(task)
    units = [round(5 * math.log10(lr)) for lr in oracle.lrs]
    units = list(range(min(units) - BELOW, max(units) + ABOVE + 1))
    return {
        "task": task.name,
        "hash": oracle.hash,
        "fractions": FRACTIONS,
        "units": units,  # log10(lr) in steps of 0.2
        "scouts": [_scout(task, seed) for seed in SEEDS],
        "losses": [[_row(task, fraction, seed, units) for seed in SEEDS] for fraction in FRACTIONS],
    }


def _row(task: Task, fraction: float, seed: int, units: list[int]) -> list[float | None]:
    short = dataclasses.replace(task, train_steps=max(2, round(task.train_steps * fraction)))
    row: list[float | None] = []
    for unit in units:
        dead = len(row) >= DEAD and row[-DEAD:] == [None] * DEAD
        loss = None if dead else final_loss(short, 10.0 ** (unit / 5), seed)
        row.append(None if loss is None else float(f"{loss:.6g}"))
    return row


def _scout(task: Task, seed: int) -> dict[str, Any]:
    """Where the scout of a 100-step range test ended, and how many updates it took."""
    problem = task.build(seed)
    trainable = torch_trainable(
        problem.model, problem.optimizer, problem.loss_fn, problem.train_loader, seed=seed
    )
    scout = run_search(trainable, RangeTest(steps=100), Plan()).curves[0]
    return {"top": float(scout.lr[-1]), "updates": len(scout)}


if __name__ == "__main__":
    main()
