"""Ask every contestant for an lr on every task, and judge it by the oracle.

``python -m benchmarks.regret.bench`` runs all of it; ``--quick`` a fixed small part. Results are
merged into the stored JSON, so that one contestant can be measured again by itself::

    python -m benchmarks.regret.bench --contestant range --tasks all

``--tasks new`` are the kinds of training in ``tasks/kinds_*.py``, ``held-back`` those that are
reported apart; they have results of their own, kinds.json and held-back.json.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import pathlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.environment import environment, version
from benchmarks.regret import tasks as known
from benchmarks.regret.contestants import CONTESTANTS, Answer, Contestant, ask, by_name
from benchmarks.regret.lines import kind_lines, overview, per_task
from benchmarks.regret.oracle import FOLDER as SWEEPS
from benchmarks.regret.oracle import SEEDS, Oracle, StaleOracleError, load_oracle
from benchmarks.regret.planned_run import planned_seconds
from benchmarks.regret.problem import Task
from benchmarks.regret.results import (
    FOLDER,
    Results,
    merge,
    read_results,
    record,
    write_results,
)
from benchmarks.regret.summary import summaries

QUICK = (
    "quadratic-sgd",
    "cancer-linear-raw-sgd",
    "wine-mlp-adam",
    "diabetes-dropout-adamw",
    "digits-mlp-adam",
    "digits-cnn-nesterov",
    "words-embeddingbag-adagrad",
    "finetune-frozencnn-heavyball",
)
STEPS = (50, 100, 200, 500, 1000)
PACKAGES = ("torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Job:
    """A piece of work for one process: several contestants on one task with one seed."""

    task: str
    seed: int
    contestants: tuple[str, ...]
    best_lr: float
    steps: tuple[int, ...] = ()  # numbers of steps to ask for, instead of the default


@dataclass(frozen=True)
class Done:
    """A job's answers by contestant (and number of steps), and the time of a planned run."""

    job: Job
    answers: dict[tuple[str, int | None], Answer]
    planned: float


def main(arguments: list[str] | None = None) -> None:
    """Entry point of ``python -m benchmarks.regret.bench``."""
    options = _parser().parse_args(arguments)
    oracles = chosen_oracles(["quick"] if options.quick else options.tasks)
    suites = {known.suite(task) for task in oracles}
    if len(suites) != 1:
        raise SystemExit(f"--tasks: {' and '.join(sorted(suites))} have results of their own")
    (suite,) = suites
    path = options.results or FOLDER / ("quick.json" if options.quick else f"{suite}.json")
    contestants = chosen_contestants(options.contestant, options.only)
    began = time.perf_counter()
    new = run(contestants, oracles, tuple(options.seeds), options.processes, options.spread)
    hashes = {task.name: oracle.hash for task, oracle in chosen_oracles(["available"]).items()}
    results = merge(read_results(path), new, hashes)
    families = {task.name: known.group(task) for task in (*known.TASKS, *known.KINDS)}
    rows = summaries(results, families, [contestant.name for contestant in CONTESTANTS])
    write_results(results, path, [row.as_dict() for row in rows])
    if suite != "full":
        print("\n".join(kind_lines(new, oracles)))
    if options.per_task:
        print(
            "\n".join(per_task(new, {oracle.task: oracle.best_lr for oracle in oracles.values()}))
        )
    print("\n".join(overview(rows)))
    print(f"{path.name} written after {time.perf_counter() - began:.0f} s")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("benchmarks.regret.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a fixed subset, into quick.json")
    parser.add_argument(
        "--tasks",
        nargs="+",
        default=["all"],
        help="names, or all, quick, available (all that have an oracle), new, held-back",
    )
    parser.add_argument("--contestant", nargs="+", default=[], help="names; all by default")
    parser.add_argument("--only", help="contestants of one kind, such as ours")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--processes", type=int, default=2, help="one thread each")
    parser.add_argument(
        "--spread",
        action="store_true",
        help="on the quick tasks ask for other numbers of steps too",
    )
    parser.add_argument("--per-task", action="store_true", help="print every answer of this run")
    parser.add_argument("--results", type=pathlib.Path, help="the JSON to merge into")
    return parser


def chosen_oracles(words: Sequence[str]) -> dict[Task, Oracle]:
    """The tasks that are meant, with their oracles.

    Raises:
        StaleOracleError: one of them has none that fits.
    """
    if list(words) == ["available"]:
        stored = {task: _stored(task) for task in (*known.TASKS, *known.KINDS)}
        return {task: oracle for task, oracle in stored.items() if oracle is not None}
    names: dict[str, Callable[[], list[str]]] = {
        "all": lambda: [task.name for task in known.TASKS],
        "quick": lambda: list(QUICK),
        "new": lambda: _swept("kinds"),
        "held-back": lambda: _swept("held-back"),
    }
    wanted = [name for word in words for name in (names[word]() if word in names else [word])]
    return {known.by_name(name): load_oracle(known.by_name(name)) for name in wanted}


def _swept(suite: str) -> list[str]:
    """The kinds that have been swept; says which have not."""
    kinds = [kind for kind in known.KINDS if known.suite(kind) == suite]
    missing = [kind.name for kind in kinds if not (SWEEPS / f"{kind.name}.json").exists()]
    if missing:
        print(f"left out, not swept yet: {', '.join(missing)}")
    return [kind.name for kind in kinds if kind.name not in missing]


def _stored(task: Task) -> Oracle | None:
    try:
        return load_oracle(task)
    except StaleOracleError:
        return None


def chosen_contestants(names: Sequence[str], kind: str | None) -> tuple[Contestant, ...]:
    """The contestants that are meant: by name, of one kind, or all."""
    if names:
        return tuple(by_name(name) for name in names)
    kinds = sorted({contestant.kind for contestant in CONTESTANTS})
    if kind is not None and kind not in kinds:
        raise SystemExit(f"--only: got {kind!r}, expected one of {', '.join(kinds)}")
    return tuple(c for c in CONTESTANTS if kind in (None, c.kind))


def run(
    contestants: Sequence[Contestant],
    oracles: dict[Task, Oracle],
    seeds: Sequence[int] = SEEDS,
    processes: int = 2,
    spread: bool = False,
) -> Results:
    """Ask everyone about everything."""
    names = tuple(contestant.name for contestant in contestants)
    finders = tuple(c.name for c in contestants if c.at_steps is not None)
    by_cost = sorted(oracles.values(), key=lambda oracle: -oracle.seconds)
    jobs = [Job(oracle.task, seed, names, oracle.best_lr) for oracle in by_cost for seed in seeds]
    if spread and finders:
        some = [oracle for oracle in by_cost if oracle.task in QUICK]
        jobs += [Job(oracle.task, seeds[0], finders, oracle.best_lr, STEPS) for oracle in some]
    done = _all(jobs, processes)
    answers = {(d.job.task, d.job.seed): d for d in done if not d.job.steps}
    records = {}
    for contestant in contestants:
        for oracle in oracles.values():
            parts = [answers[oracle.task, seed] for seed in seeds]
            records[contestant.name, oracle.task] = record(
                contestant,
                oracle,
                [part.answers[contestant.name, None] for part in parts],
                [part.planned for part in parts],
            )
    env = environment(*PACKAGES)
    about = {
        c.name: {
            "kind": c.kind,
            "title": c.title,
            "package": c.package,
            "version": version(c.package),
            "date": env["date"],
        }
        for c in contestants
    }
    return Results(records, about, env, _spread(done))


def _spread(done: Sequence[Done]) -> dict[str, dict[str, dict[str, float | None]]]:
    lrs: dict[str, dict[str, dict[str, float | None]]] = {}
    for part in done:
        for (name, steps), answer in part.answers.items():
            if steps is not None:
                by_steps = lrs.setdefault(name, {}).setdefault(part.job.task, {})
                by_steps[str(steps)] = None if answer.lr is None else float(f"{answer.lr:.6g}")
    return lrs


def _all(jobs: Sequence[Job], processes: int) -> list[Done]:
    """Do all jobs, dearest first, and say how far it is."""
    began = time.perf_counter()
    finished: list[Done] = []
    for task in {job.task: None for job in jobs}:
        known.by_name(task).build(0)  # fills the cache of pretrained models before it is shared
    context = multiprocessing.get_context("spawn")
    os.environ["OMP_NUM_THREADS"] = "1"
    with concurrent.futures.ProcessPoolExecutor(processes, context, _one_thread) as pool:
        waiting = [pool.submit(do, job) for job in jobs]
        for future in concurrent.futures.as_completed(waiting):
            finished.append(future.result())
            job = finished[-1].job
            seconds = time.perf_counter() - began
            print(f"[{len(finished)}/{len(jobs)} {seconds:.0f} s] {job.task} seed {job.seed}")
    return finished


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def do(job: Job) -> Done:
    """Ask the job's contestants one after the other."""
    task = known.by_name(job.task)
    planned = planned_seconds(task, job.best_lr)
    answers = {
        (name, steps): ask(by_name(name), task, job.seed, steps)
        for name in job.contestants
        for steps in (job.steps or (None,))
    }
    return Done(job, answers, planned)


if __name__ == "__main__":
    main()
