"""Command line of the oracle: sweep the tasks whose stored sweep is missing or stale."""

from __future__ import annotations

import argparse
import concurrent.futures
import logging
import multiprocessing
import sys
import time

import numpy as np
import torch

from benchmarks.regret.kinds import schedule_name
from benchmarks.regret.oracle import (
    Oracle,
    StaleOracleError,
    load_oracle,
    save_oracle,
    width,
)
from benchmarks.regret.problem import Task
from benchmarks.regret.sweep import sweep_task
from benchmarks.regret.tasks import KINDS, TASKS, by_name


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``python -m benchmarks.regret.oracle``."""
    parser = argparse.ArgumentParser("benchmarks.regret.oracle", description=__doc__)
    parser.add_argument("tasks", nargs="*", help="names of tasks; all of them by default")
    parser.add_argument("--list", action="store_true", help="show what is stored; run nothing")
    parser.add_argument("--plot", action="store_true", help="only draw oracle.png")
    parser.add_argument("--again", action="store_true", help="sweep even what is up to date")
    parser.add_argument("--processes", type=int, default=2, help="one thread each")
    options = parser.parse_args(arguments)
    tasks = tuple(by_name(name) for name in options.tasks) or (*TASKS, *KINDS)
    if options.list:
        print("\n".join(listing(tasks)))
        return
    if not options.plot:
        bring_up_to_date(tasks, options.processes, options.again)
    from benchmarks.regret.figure import draw_oracles

    oracles = [stored(task) for task in (*TASKS, *KINDS)]
    print(draw_oracles([oracle for oracle in oracles if oracle is not None]))


def bring_up_to_date(tasks: tuple[Task, ...], processes: int = 2, again: bool = False) -> None:
    """Sweep every task that needs it, several at a time; each is stored as soon as it is done."""
    due = [task for task in tasks if again or stored(task) is None]
    print(f"{len(due)} of {len(tasks)} tasks to sweep")
    began = time.perf_counter()
    _pretrain(due)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(processes, context, _one_thread) as pool:
        waiting = [pool.submit(_sweep_named, task.name) for task in due]
        for done in concurrent.futures.as_completed(waiting):
            oracle = done.result()
            save_oracle(oracle)
            print(f"{oracle.task}: best lr {oracle.best_lr:g}, {oracle.seconds:.0f} s", flush=True)
    print(f"done in {time.perf_counter() - began:.0f} s")


def stored(task: Task) -> Oracle | None:
    """The sweep of a task, or None where it is missing or stale."""
    try:
        return load_oracle(task)
    except StaleOracleError:
        return None


def _pretrain(tasks: list[Task]) -> None:
    """Fill the cache of pretrained models before several processes want it at once."""
    for task in tasks:
        task.build(0)


def _one_thread() -> None:
    torch.set_num_threads(1)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr)


def _sweep_named(name: str) -> Oracle:
    return sweep_task(by_name(name))


def listing(tasks: tuple[Task, ...]) -> list[str]:
    """One line per task: what it is, and what its stored sweep says.

    ``w1`` and ``w5`` are the decades of lr around the best with at most 1 % and 5 % regret;
    ``noise`` is the standard deviation over seeds of the loss at the best lr, as regret.
    """
    lines = [
        f"{'task':28} {'optimizer':10} {'schedule':9} {'steps':>5} {'batch':>5} {'L0':>8} "
        f"{'L*':>8} {'lr*':>8} {'limit':>8} {'w1':>5} {'w5':>5} {'noise':>6} {'sec':>4}"
    ]
    for task in tasks:
        oracle = stored(task)
        head = (
            f"{task.name:28} {task.family:10} {schedule_name(task):9} {task.train_steps:5d} "
            f"{task.batch_size:5d} "
        )
        lines.append(head + ("no oracle: run `make oracle`" if oracle is None else _facts(oracle)))
    return lines


def _facts(oracle: Oracle) -> str:
    gap = oracle.initial_loss - oracle.best_loss
    at_best = oracle.losses[oracle.lrs.index(oracle.best_lr)]
    noise = float(np.std([loss for loss in at_best if loss is not None], ddof=1)) / gap
    return (
        f"{oracle.initial_loss:8.4f} {oracle.best_loss:8.4f} {oracle.best_lr:8.2g} "
        f"{oracle.last_stable_lr:8.2g} {width(oracle, 0.01):5.2f} {width(oracle, 0.05):5.2f} "
        f"{noise:6.4f} {oracle.seconds:4.0f}"
    )
