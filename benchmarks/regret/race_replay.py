"""Replay the race on recorded losses, with its constants chosen without the tasks that judge.

``python -m benchmarks.regret.race_replay`` runs the race's own decisions, unchanged, on recorded
losses (``benchmarks.regret.race_records``). It stores, for each budget, the regret with the
constants as shipped, and that with constants chosen on two thirds of the tasks and judged on the
others, for each third. ``--tune`` goes on choosing on all tasks from those that ship, which were
chosen so on a replay that interpolated rates as well, and prints what it ends at.

Choosing is a random walk from round numbers that keeps what is better, over all constants of the
race and of its surface. The ladder of the first rung is shifted in each replay, so that no
constant profits from where it happens to fall.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import math
import multiprocessing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from typing import Any, cast

import numpy as np

from benchmarks.environment import environment
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.regret.oracle import SEEDS, excess, regret
from benchmarks.regret.race_records import FloatArray, Recorded, recorded, replay
from benchmarks.results_file import write_json
from lrsearch.core import surface as surface_module
from lrsearch.core.surface import Kernel, Reach
from lrsearch.methods import race_track
from lrsearch.methods.race_design import Design

BUDGETS = (0.3, 1.0, 3.0)
SHIFTS = (0.0, -0.3, 0.15, -0.15, 0.3)  # decades by which the scout's answer is moved
FOLDS, PROPOSALS = 3, 60
KEPT = (
    "scout",
    "shortest",
    "fewest",
    "error",
    "error_drift",
)  # constants not chosen
# What a regret, the mean of the worst twentieth and an excess are worth, by budget: the targets.
WORTH = {0.3: (0.03, 1.0, 2.5), 1.0: (0.01, 0.3, 1.0), 3.0: (0.004, 0.1, 0.5)}
WHOLE = ("coarse", "lanes", "last_lanes")  # numbers that stay whole
SHIFTED = (  # constants that may be zero or negative: moved, not multiplied
    *("below_top", "ahead", "lift", "answer_below", "answer_drift", "usual_drift", "short"),
    *("above", "below", "under_dead", "under_best", "longer", "slack"),
)

Constants = tuple[Design, Kernel, Reach]
START: Constants = (  # round numbers, from which the choice sets out
    Design(
        coarse=7,
        coarse_apart=0.7,
        below_top=0.1,
        coarse_length=0.012,
        coarse_share=0.015,
        last=0.3,
        ratio=4.0,
        least_ratio=2.5,
        lanes=3,
        apart=0.4,
        last_lanes=2,
        last_apart=0.45,
        room=0.8,
        later_room=0.3,
        early=0.5,
        ahead=0.1,
        lift=0.1,
        answer_below=0.05,
        answer_drift=0.1,
    ),
    Kernel(
        fresh=0.5,
        progress=1.5,
        progress_scale=0.8,
        rate=0.4,
        rate_scale=0.5,
        usual=0.3,
        usual_scale=0.7,
        usual_drift=0.4,
        rest=0.04,
        rest_scale=0.2,
        rest_length=0.3,
        trend=1.0,
        progress_trend=10.0,
        noise=0.05,
        short=2.0,
        rough=1.0,
        rough_rise=1.0,
        focus=0.3,
        floor=0.025,
        doubt=0.5,
    ),
    Reach(
        above=0.2,
        below=0.3,
        under_dead=0.2,
        under_best=0.1,
        longer=1.0,
        fall=1.0,
        slack=0.15,
        lift=0.05,
    ),
)


def shipped() -> Constants:
    """The constants of the package."""
    return race_track.DESIGN, surface_module.KERNEL, surface_module.REACH


@contextmanager
def constants(chosen: Constants) -> Iterator[None]:
    """Run the race with other constants."""
    before = shipped()
    try:
        race_track.DESIGN, surface_module.KERNEL, surface_module.REACH = chosen
        yield
    finally:
        race_track.DESIGN, surface_module.KERNEL, surface_module.REACH = before


def figures(
    budget: float, records: Sequence[Recorded], shifts: Sequence[float] = SHIFTS
) -> FloatArray:
    """(regret, excess, cost, whether the best is in the interval, its width) of every replay.

    No answer counts as no training.
    """
    rows = []
    for record in records:
        for shift in shifts:
            answer = replay(budget, record, shift)
            lr = answer.lr if math.isfinite(answer.lr) else 1e30
            inside = answer.low <= record.oracle.best_lr <= answer.high
            width = math.log10(answer.high / answer.low) if answer.status.found else math.nan
            judged = regret(record.oracle, lr), excess(record.oracle, lr)
            rows.append([*judged, answer.cost.runs, float(inside), width])
    return np.array(rows)


def price(records: Sequence[Recorded], shifts: Sequence[float] = SHIFTS) -> float:
    """One figure for the three budgets, to be made small."""
    total = 0.0
    for budget in BUDGETS:
        rows = figures(budget, records, shifts)
        worst = np.sort(rows[:, 0])[-max(1, len(rows) // 20) :].mean()
        parts = np.array([rows[:, 0].mean(), worst, rows[:, 1].mean()])
        total += float((parts / WORTH[budget]).sum())
        total += 20.0 * max(0.0, float(rows[:, 2].mean()) / budget - 1.04)
    return total


def choose(
    records: Sequence[Recorded], seed: int, proposals: int = PROPOSALS, start: Constants = START
) -> Constants:
    """Return the best constants that a random walk finds.

    A proposal that is clearly worse with the first ladder is not tried with the others.
    """
    random = np.random.default_rng(seed)
    best = start
    with constants(best):
        first, least = price(records, SHIFTS[:1]), price(records)
    for number in range(proposals):
        proposed = _moved(best, random)
        with constants(proposed):
            hint = price(records, SHIFTS[:1])
            now = price(records) if hint < 1.05 * first else math.inf
        if now < least:
            best, first, least = proposed, hint, now
            print(f"proposal {number}: {least:.3f}", flush=True)
    return best


def _moved(chosen: Constants, random: np.random.Generator) -> Constants:
    """Change a few constants."""
    names = [
        (part, field.name)
        for part, one in enumerate(cast(tuple[Any, ...], chosen))
        for field in fields(one)
        if field.name not in KEPT
    ]
    parts = list(chosen)
    for place in random.choice(len(names), size=random.integers(1, 5), replace=False):
        part, name = names[place]
        old, step = getattr(parts[part], name), random.normal()
        if name in WHOLE:
            new: float = max(2, round(old + 0.7 * step))
        elif name in SHIFTED:
            new = old + 0.12 * step if name in ("below_top", "lift") else max(0.0, old + 0.1 * step)
        else:
            new = old * math.exp(0.4 * step)
        parts[part] = replace(parts[part], **{name: new})
    return tuple(parts)  # type: ignore[return-value]


def left_out(records: Sequence[Recorded]) -> dict[float, FloatArray]:
    """Figures of every replay, each with constants chosen on other tasks, by budget."""
    tasks = sorted({record.oracle.task for record in records})
    found: dict[float, list[FloatArray]] = {budget: [] for budget in BUDGETS}
    parts = [set(tasks[fold::FOLDS]) for fold in range(FOLDS)]
    # One seed of every task is enough to choose by, and takes a third of the time.
    known = [record for record in records if record.seed == SEEDS[0]]
    others = [[r for r in known if r.oracle.task not in part] for part in parts]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        choices = list(pool.map(choose, others, range(FOLDS)))
    for judged, chosen in zip(parts, choices, strict=True):
        with constants(chosen):
            for budget in BUDGETS:
                rows = figures(budget, [r for r in records if r.oracle.task in judged])
                found[budget].append(rows)
    return {budget: np.concatenate(rows) for budget, rows in found.items()}


def _summary(rows: FloatArray) -> dict[str, float]:
    return {
        "mean regret": round(float(rows[:, 0].mean()), 4),
        "median regret": round(float(np.median(rows[:, 0])), 4),
        "worst regret": round(float(rows[:, 0].max()), 4),
        "mean excess": round(float(rows[:, 1].mean()), 4),
        "mean cost": round(float(rows[:, 2].mean()), 3),
        "best in interval": round(float(rows[:, 3].mean()), 2),
        "median width, decades": round(float(np.nanmedian(rows[:, 4])), 2),
    }


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.regret.race_replay", description=__doc__)
    parser.add_argument("--tune", type=int, metavar="SEED", help="go on choosing on all tasks")
    parser.add_argument("--quick", action="store_true", help="only what is shipped; no file")
    options = parser.parse_args()
    records = recorded()
    if options.tune is not None:
        print(*choose(records, options.tune, 3 * PROPOSALS, shipped()), sep="\n")
        return
    tasks = {record.oracle.task for record in records}
    content: dict[str, Any] = {"environment": environment("numpy", "torch"), "tasks": len(tasks)}
    rows = {budget: {"as shipped": figures(budget, records)} for budget in BUDGETS}
    if not options.quick:
        for budget, judged in left_out(records).items():
            rows[budget]["chosen on other tasks"] = judged
    for budget, choices in rows.items():
        content[f"budget {budget:g}"] = {name: _summary(each) for name, each in choices.items()}
        print(f"budget {budget:g}", json.dumps(content[f"budget {budget:g}"]), flush=True)
    if not options.quick:
        print("wrote", write_json("race_replay", content))
        write_between_markers(ROOT / "docs/research/race.md", "replay", page(content))


def page(content: dict[str, Any]) -> str:
    """The table of the research page."""
    figures = (
        *("mean regret", "median regret", "worst regret", "mean excess", "mean cost"),
        *("best in interval", "median width, decades"),
    )
    rows = [
        [budget.removeprefix("budget "), choice, *(summary[figure] for figure in figures)]
        for budget, choices in content.items()
        if budget.startswith("budget ")
        for choice, summary in choices.items()
    ]
    head = f"{content['tasks']} tasks x {len(SEEDS)} seeds x {len(SHIFTS)} shifts.\n\n"
    return head + table(["budget", "constants", *figures], rows)


if __name__ == "__main__":
    main()
