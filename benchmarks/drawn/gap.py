"""Does the gap between training and held-out loss tell how the best rate moves with the length?

``python -m benchmarks.drawn.gap`` trains the drawn runs once more, compressed to 1/16, 1/8 and 1/4
of their length, at the best of the recorded rates and at those around it, and takes down the loss
on the data they were trained on beside the held-out one. Two regressions predict the drift, from
the best rate at that length to that of the whole run, with the gap and without it, each run by the
others. The table goes to docs/research/race.md. It takes a few minutes.
"""

from __future__ import annotations

import concurrent.futures
import itertools
import math
import multiprocessing
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

from benchmarks.drawn.build import task
from benchmarks.drawn.record import SEED, stored
from benchmarks.drawn.replay import recorded
from benchmarks.environment import environment
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.regret import horizons
from benchmarks.regret.problem import Problem, Task
from benchmarks.regret.race_records import FloatArray, Recorded
from benchmarks.regret.runs import held_out_loss
from benchmarks.results_file import write_json
from lrsearch.core.schedule import multipliers
from lrsearch.methods.race_design import shortened_epoch

FRACTIONS = (1 / 16, 1 / 8, 1 / 4)
AROUND = (-1, 0, 1, 3)  # grid points of 0.2 decade from the best rate
MOST = 1.5  # decades of drift that count
SEEN = 60  # first batches that were trained on, by which the loss on them is measured
REGRESSIONS: dict[str, Callable[[], Any]] = {
    "ridge": lambda: RidgeCV(np.logspace(-2, 3, 8)),
    "random forest": lambda: RandomForestRegressor(400, min_samples_leaf=4, random_state=0),
}


def main() -> None:
    """Entry point."""
    records = {int(one.oracle.task[5:8]): one for one in recorded()}
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        gaps = dict(zip(records, pool.map(gaps_of, records), strict=True))
    rows = []
    for place, fraction in enumerate(FRACTIONS):
        known = [_known(record, fraction) for record in records.values()]
        with_gap = [[*k, *gaps[n][place]] for k, n in zip(known, records, strict=True)]
        drifts = np.array([_drift(record, fraction) for record in records.values()])
        agree = float(np.corrcoef([row[len(known[0]) + 1] for row in with_gap], drifts)[0, 1])
        for name, make in REGRESSIONS.items():
            told = [_explained(make(), np.array(x), drifts) for x in (known, with_gap)]
            rows.append([f"1/{round(1 / fraction)}", round(agree, 2), name, *told])
            print(*rows[-1], flush=True)
    content = {"environment": environment("numpy", "torch", "scikit-learn"), "rows": rows}
    write_json("drawn_gap", content)
    head = ["length", "gap and drift", "predicted by", "without the gap", "with it"]
    write_between_markers(ROOT / "docs/research/race.md", "gap", table(head, rows))


def gaps_of(number: int) -> list[list[float]]:
    """By fraction and rate: the gap, as a share of what was learned of the training data."""
    torch.set_num_threads(1)
    line, whole = stored()[number], task(number)
    found = []
    for fraction in FRACTIONS:
        losses = line["thinned"][horizons.FRACTIONS.index(fraction)]
        best = int(np.argmin([math.inf if loss is None else loss for loss in losses]))
        short = horizons.shortened(whole, fraction)
        count = shortened_epoch(line["updates_per_epoch"], short.train_steps, whole.train_steps)
        units = [line["units"][best] + away for away in AROUND]
        start = line["oracle"]["initial"][SEED]
        found.append([_gap(whole, short, count, 10.0 ** (unit / 5), start) for unit in units])
    return found


def _gap(whole: Task, short: Task, count: int | None, lr: float, start: float) -> float:
    build = whole.build
    problem = build(SEED) if count is None else horizons.with_batches(build, count, SEED)
    seen = _trained(problem, short, lr)
    if not seen:
        return 1.0
    held_out, training = held_out_loss(problem), _training_loss(problem, seen)
    gap = (held_out - training) / max(start - training, 1e-6)
    return float(np.clip(gap, -1.0, 2.0)) if math.isfinite(gap) else 1.0


def _trained(problem: Problem, short: Task, lr: float) -> list[Any]:
    """Train it for the whole of `short`; return its first batches, or none if a loss broke."""
    # Not the loop of benchmarks.regret.runs, which keeps its model to itself: to change that one
    # would make every stored sweep stale.
    groups = problem.optimizer.param_groups
    ratios = [group["lr"] / groups[0]["lr"] for group in groups]
    batches = itertools.chain.from_iterable(itertools.repeat(problem.train_loader))
    seen: list[Any] = []
    problem.model.train()
    for multiplier in multipliers(short.schedule, short.train_steps):
        for group, ratio in zip(groups, ratios, strict=True):
            group["lr"] = lr * ratio * float(multiplier)
        inputs, targets = batch = next(batches)
        seen += [batch] * (len(seen) < SEEN)
        loss = problem.loss_fn(problem.model(inputs), targets)
        if not math.isfinite(loss.item()):
            return []
        problem.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        problem.optimizer.step()
    return seen


def _training_loss(problem: Problem, seen: list[Any]) -> float:
    problem.model.eval()
    with torch.no_grad():
        losses = [problem.loss_fn(problem.model(x), y).item() for x, y in seen]
    return float(np.mean(losses))


def _row(record: Recorded, fraction: float) -> tuple[FloatArray, FloatArray]:
    return min(record.rows, key=lambda row: abs(row[0] - math.log(fraction)))[1:]


def _known(record: Recorded, fraction: float) -> list[float]:
    """Passes, length and data of the planned run, and how much the short one has learned."""
    steps, epoch = record.oracle.steps, record.updates_per_epoch
    start = record.oracle.initial[record.seed]
    learned = 1.0 - float(_row(record, fraction)[1].min()) / start
    return [math.log10(max(1.0, steps / epoch)), math.log10(steps), math.log10(epoch), learned]


def _drift(record: Recorded, fraction: float) -> float:
    peaks, losses = _row(record, fraction)
    drift = math.log10(record.oracle.best_lr) - float(peaks[np.argmin(losses)])
    return float(np.clip(drift, -MOST, MOST))


def _explained(model: Any, known: FloatArray, drifts: FloatArray) -> float:
    """Share of the variance of the drifts that is predicted, each run by the others."""
    predicted = cross_val_predict(model, known, drifts, cv=KFold(10, shuffle=True, random_state=0))
    return round(1.0 - float(np.mean((drifts - predicted) ** 2) / np.var(drifts)), 2)


if __name__ == "__main__":
    main()
