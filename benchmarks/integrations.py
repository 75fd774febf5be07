"""What a range test through a trainer costs over as many steps of that trainer's own training.

``python -m benchmarks.integrations`` measures every case of :data:`CASES` and writes
``benchmarks/results/integrations.json``: medians over rounds of the ratio within a pair, a search
and a training run right after one another in random order. The time of a search is that of the
whole call: making ready, copying the state, putting it back, computing the suggestion; that of a
training is the trainer's whole ``train`` or ``fit`` without files, reports and progress bars.
Making the trainer and its model is in neither.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.environment import environment
from benchmarks.integrations_case import Case
from benchmarks.integrations_lightning import CASES as LIGHTNING
from benchmarks.integrations_transformers import CASES as TRANSFORMERS
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.results_file import FOLDER, write_json
from benchmarks.setting import quiet

STEPS = 100
ROUNDS = 15
PAGE = ROOT / "docs" / "integrations.md"
CASES: dict[str, Case] = {case.name: case for case in (*TRANSFORMERS, *LIGHTNING)}

Times = tuple[float, float]  # wall and processor seconds per step


def compare(case: Case, steps: int, rounds: int) -> dict[str, Any]:
    """Milliseconds per step of training and search, and the quartiles of their ratios."""
    draw = random.Random(0)
    pairs: list[tuple[Times, Times]] = []
    for _ in range(rounds + 1):
        if draw.random() < 0.5:
            trained = _per_step(case.train, case.make(steps), steps)
            pairs.append((trained, _per_step(case.search, case.make(steps), steps)))
        else:
            searched = _per_step(case.search, case.make(steps), steps)
            pairs.append((_per_step(case.train, case.make(steps), steps), searched))
    found: dict[str, Any] = {}
    for index, clock in enumerate(("wall", "processor")):
        # The first round imports and warms up, and is dropped.
        trained_, searched_ = ([1e3 * pair[which][index] for pair in pairs[1:]] for which in (0, 1))
        ratios = [mine / base for mine, base in zip(searched_, trained_, strict=True)]
        found[f"{clock}_ms_per_step"] = {
            "training": round(statistics.median(trained_), 4),
            "search": round(statistics.median(searched_), 4),
        }
        found[f"{clock}_ratio"] = {
            name: round(value, 4)
            for name, value in zip(
                ("quartile_1", "median", "quartile_3"),
                statistics.quantiles(ratios, n=4),
                strict=True,
            )
        }
    return found


def _per_step(action: Callable[[Any, int], int], trainer: Any, steps: int) -> Times:
    """Wall time and processor time of this process per step, in seconds."""
    gc.collect()
    with quiet():
        wall, processor = time.perf_counter(), time.process_time()
        made = action(trainer, steps)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
    if made != steps:
        raise RuntimeError(f"{made} steps were made, expected {steps}")
    return wall / steps, processor / steps


def page(found: dict[str, Any]) -> str:
    """The table of docs/integrations.md."""
    header = ("trainer, model", "ms per step", "wall time", "processor time")
    rows = [
        (
            name,
            f"{found[name]['wall_ms_per_step']['training']:.1f}",
            f"{found[name]['wall_ratio']['median']:.2f}",
            f"{found[name]['processor_ratio']['median']:.2f}",
        )
        for name in CASES
        if name in found
    ]
    return table(header, rows)


def _kept() -> dict[str, Any]:
    """What was measured before: cases can be measured one at a time."""
    path = FOLDER / "integrations.json"
    kept: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return kept


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.integrations", description=__doc__)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; all of them by default")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--dry", action="store_true", help="print, but write nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {"steps": STEPS, "rounds": options.rounds, "threads": 1}
    for name in options.cases or CASES:
        found[name] = compare(CASES[name], STEPS, options.rounds)
        wall, processor = found[name]["wall_ratio"], found[name]["processor_ratio"]
        print(
            f"{name:28} {wall['median']:.3f} x the trainer's own steps in wall time, "
            f"{processor['median']:.3f} x in processor time",
            flush=True,
        )
    packages = ("torch", "lrsearch", "transformers", "accelerate", "peft", "pytorch-lightning")
    found["environment"] = environment(*packages)
    if not options.dry:
        print(write_json("integrations", _kept() | found))
        write_between_markers(PAGE, "integrations-cost", page(_kept()))


if __name__ == "__main__":
    main()
