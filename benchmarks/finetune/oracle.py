"""The best lr of every fine-tuning, from stored sweeps of the whole planned run.

``python -m benchmarks.finetune.oracle`` sweeps what is missing or stale; ``--list`` shows what is
stored. The sweep's rule, its file format, regret and excess are those of
`benchmarks.regret.oracle`. Near the bottom, further seeds are trained until the noise of a seed
no longer decides where the bottom is.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import datetime
import hashlib
import math
import multiprocessing
import pathlib
import platform
import time

import numpy as np
import torch

from benchmarks.environment import version
from benchmarks.finetune.runs import final_loss, initial_loss, quick_starts
from benchmarks.finetune.tasks import (
    BATCH,
    DEFAULT_LR,
    EPOCHS,
    TASKS,
    FineTuning,
    by_name,
)
from benchmarks.regret.fingerprint import fingerprint
from benchmarks.regret.grid import GRID, Point, next_unit, unit_lr
from benchmarks.regret.oracle import (
    Oracle,
    StaleOracleError,
    capped_losses,
    read_oracle,
    save_oracle,
    width,
)

FOLDER = pathlib.Path(__file__).parent / "oracles"
SEEDS = (0, 1, 2, 3, 4)
NEAR = 0.1  # regret up to which a rate gets further seeds
ERROR = 0.015  # standard error of its mean loss that is wanted, as a share of what can be gained
MOST = 120  # seeds
PACKAGES = ("torch", "transformers", "peft", "tokenizers", "numpy")

Row = tuple[float | None, ...]


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.finetune.oracle", description=__doc__)
    parser.add_argument("tasks", nargs="*", help="names; all of them by default")
    parser.add_argument("--list", action="store_true", help="show what is stored; run nothing")
    parser.add_argument("--again", action="store_true", help="sweep even what is up to date")
    options = parser.parse_args(arguments)
    quick_starts()
    for task in [by_name(name) for name in options.tasks] or TASKS:
        if not options.list:
            swept = None if options.again else stored(task)
            save_oracle(refined(task, swept or sweep(task)), FOLDER)
        print(described(task), flush=True)


def task_hash(task: FineTuning) -> str:
    """Hash of everything that decides the runs of `task`, as 12 hex digits.

    It covers the source that the task reaches, the seeds, the rule by which a sweep ends, and
    torch's major.minor version and the major one of transformers; not the standard library's
    text, which changes from one Python to the next: `Oracle.versions` names the Python used.
    """
    versions = torch.__version__.split(".")[:2], (version("transformers") or "").split(".")[:1]
    source = fingerprint(task.model, task.data, final_loss, next_unit)
    parts = (source, task.name, str((task.steps, EPOCHS, BATCH)), str(SEEDS), str(versions))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def load_oracle(task: FineTuning, folder: pathlib.Path = FOLDER) -> Oracle:
    """The stored sweep of `task`.

    Raises:
        StaleOracleError: there is none, or the task (or a version) has changed since.
    """
    path = folder / f"{task.name}.json"
    if not path.exists():
        raise StaleOracleError(
            f"no oracle for {task.name!r} at {path}: run python -m benchmarks.finetune.oracle."
        )
    oracle = read_oracle(path)
    if oracle.hash != (expected := task_hash(task)):
        raise StaleOracleError(
            f"the oracle of {task.name!r} has hash {oracle.hash}, but the task is now {expected}: "
            f"its source, torch or transformers ({oracle.versions['transformers']} then, "
            f"{version('transformers')} now) has changed. Run python -m benchmarks.finetune.oracle."
        )
    return oracle


def stored(task: FineTuning) -> Oracle | None:
    """The stored sweep, or None where there is none that fits."""
    try:
        return load_oracle(task)
    except StaleOracleError:
        return None


def sweep(task: FineTuning) -> Oracle:
    """Train the planned run at every lr of the sweep with every seed."""
    began = time.process_time()
    initial = tuple(_rounded(initial_loss(task, seed)) for seed in SEEDS)
    start = GRID * round(20 * math.log10(DEFAULT_LR) / GRID)
    rows: dict[int, Row] = {}
    points: dict[int, Point] = {}
    while (unit := next_unit(points, float(np.mean(initial)), start)) is not None:
        losses = [final_loss(task, unit_lr(unit), seed) for seed in SEEDS]
        rows[unit] = tuple(_loss(loss) for loss in losses)
        points[unit] = _point(rows[unit], initial)
        print(f"{task.name} lr={unit_lr(unit):g} loss {points[unit].loss:.4f}", flush=True)
    units = sorted(rows)
    return Oracle(
        task=task.name,
        hash=task_hash(task),
        steps=task.steps,
        seeds=SEEDS,
        initial=initial,
        lrs=tuple(unit_lr(unit) for unit in units),
        losses=tuple(rows[unit] for unit in units),
        last_stable_lr=unit_lr(max(unit for unit in units if points[unit].stable)),
        seconds=round(time.process_time() - began, 1),
        date=datetime.date.today().isoformat(),
        versions={
            "python": platform.python_version(),
            **{name: version(name) or "" for name in PACKAGES},
        },
    )


def refined(task: FineTuning, oracle: Oracle) -> Oracle:
    """The sweep with further seeds near its bottom, until the mean losses there are exact enough.

    All rates near the bottom get the same seeds. A sweep that is exact enough comes back as it is.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context, quick_starts) as pool:
        while places := imprecise(oracle):
            start = len(oracle.losses[places[0]])
            seeds = range(start, start + len(SEEDS))
            fresh = [seed for seed in seeds if seed not in oracle.seeds]
            initial = [pool.submit(initial_loss, task, seed) for seed in fresh]
            rows = {
                place: [pool.submit(final_loss, task, oracle.lrs[place], seed) for seed in seeds]
                for place in places
            }
            losses = list(oracle.losses)
            for place, row in rows.items():
                losses[place] = (*losses[place], *(_loss(job.result()) for job in row))
            oracle = dataclasses.replace(
                oracle,
                seeds=(*oracle.seeds, *fresh),
                initial=(*oracle.initial, *(_rounded(job.result()) for job in initial)),
                losses=tuple(losses),
                date=datetime.date.today().isoformat(),
            )
            print(_line(oracle), flush=True)
    return oracle


def imprecise(oracle: Oracle) -> list[int]:
    """The rates (by place) that want further seeds, all with equally many; empty when none does."""
    gain = oracle.initial_loss - oracle.best_loss
    near = np.flatnonzero(oracle.mean_losses - oracle.best_loss <= NEAR * gain).tolist()
    counts = {place: len(oracle.losses[place]) for place in near}
    fewest = min(counts.values())
    spreads = [np.std(capped_losses(oracle.losses[p], oracle.initial), ddof=1) for p in near]
    exact = max(spreads) / math.sqrt(fewest) <= ERROR * gain
    if fewest == len(oracle.seeds) and (exact or fewest >= MOST):
        return []
    return [place for place in near if counts[place] == fewest]


def _point(row: Row, initial: tuple[float, ...]) -> Point:
    finite = [value for value in row if value is not None]
    stable = len(finite) == len(row) and float(np.mean(finite)) < float(np.mean(initial))
    return Point(float(np.mean(capped_losses(row, initial))), stable)


def _loss(loss: float | None) -> float | None:
    return None if loss is None else _rounded(loss)


def _rounded(loss: float) -> float:
    return float(f"{loss:.7g}")


def described(task: FineTuning) -> str:
    """One line on a task's stored sweep."""
    oracle = stored(task)
    return f"{task.name}: no oracle" if oracle is None else _line(oracle)


def _line(oracle: Oracle) -> str:
    """One line on a sweep."""
    at_best = oracle.losses[oracle.lrs.index(oracle.best_lr)]
    best = [loss for loss in at_best if loss is not None]
    gap = oracle.initial_loss - oracle.best_loss
    return (
        f"{oracle.task:20} {len(best)} seeds, best lr {oracle.best_lr:.3g}, loss "
        f"{oracle.initial_loss:.4f} -> {oracle.best_loss:.4f}, last stable lr "
        f"{oracle.last_stable_lr:.3g}, regret below 0.01 over {width(oracle, 0.01):.2f} decades "
        f"and below 0.03 over {width(oracle, 0.03):.2f}, "
        f"noise of a seed {np.std(best, ddof=1) / gap:.4f}, {oracle.seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
