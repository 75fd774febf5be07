"""How far the range test's answer moves with the seed and with the number of steps.

``python -m benchmarks.regret.range_spread`` asks for 50, 100, 300 and 1,000 steps with several
seeds, which decide initial weights, data order and dropout, on the tasks of ``make bench-quick``.
Every finished task is stored and written to docs/research/range-test.md.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np
import torch

from benchmarks.environment import environment
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.regret.bench import QUICK
from benchmarks.regret.contestants.ours import range_at_steps
from benchmarks.regret.tasks import by_name
from benchmarks.results_file import write_json

STEPS = (50, 100, 300, 1000)


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.regret.range_spread", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    content: dict[str, Any] = {
        "environment": environment("numpy", "torch"),
        "seeds": seeds,
        "log10 lr": {},
    }
    for name in QUICK:
        rows = [[_asked(name, seed, steps) for steps in STEPS] for seed in range(seeds)]
        content["log10 lr"][name] = rows
        write_json("range_spread", content)
        write_between_markers(ROOT / "docs/research/range-test.md", "spread", page(content))
        print(name, flush=True)


def _asked(name: str, seed: int, steps: int) -> float | None:
    answer = range_at_steps(by_name(name), seed, steps)
    return None if answer.lr is None else round(math.log10(answer.lr), 4)


def page(content: dict[str, Any]) -> str:
    """One line per task: standard deviations in decades, over seeds and over everything."""
    rows = []
    for name, answers in content["log10 lr"].items():
        logs = np.array(answers, dtype=float)
        spreads = [f"{value:.2f}" for value in np.nanstd(logs, axis=0)]
        means = np.nanmean(logs, axis=0)
        rows.append(
            [
                name,
                *spreads,
                f"{np.ptp(means):.2f}",
                f"{np.nanstd(logs):.2f}",
                int(np.isnan(logs).sum()),
            ]
        )
    head = ["task", *(f"{steps} steps" for steps in STEPS), "means apart", "all", "no answer"]
    note = f"{content['seeds']} seeds; standard deviations of log10(lr) in decades.\n\n"
    return note + table(head, rows)


if __name__ == "__main__":
    main()
