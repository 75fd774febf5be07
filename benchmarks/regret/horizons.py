"""Final losses of shortened planned runs: what a race can see before it has to answer.

``python -m benchmarks.regret.horizons`` trains every task's planned run, with its schedule
compressed to 1/64, 1/32, ... 1/2 of its length, at the oracle's learning rates and a few
beyond, and stores the held-out losses beside the scouts of a race, quick ones and slow ones: once
with all the data, and once with as much less of it, so that each example is seen as often as in
the planned run. Together with the oracle this is a table of recorded losses on which a race can
be replayed in milliseconds: see ``benchmarks.regret.race_replay``. It costs about twice as much as
the oracle itself; ``--scouts`` and ``--thinned`` record the scouts alone again, or the runs with
less data.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import itertools
import json
import math
import multiprocessing
import pathlib
from collections.abc import Callable
from typing import Any, cast

import torch

from benchmarks.regret.oracle import SEEDS, load_oracle
from benchmarks.regret.problem import Loader, Problem, Task
from benchmarks.regret.runs import final_loss
from benchmarks.regret.tasks import TASKS, by_name
from lrsearch.core.outcome import Status
from lrsearch.core.search import Plan, Script, run_search
from lrsearch.core.suggest import Suggestion
from lrsearch.methods.race import Race
from lrsearch.methods.race_design import shortened_epoch
from lrsearch.pytorch.trainable import TorchTrainable, torch_trainable

FOLDER = pathlib.Path(__file__).parent / "recorded"
FRACTIONS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)
BELOW, ABOVE = 2, 3  # grid points of 0.2 decade beyond the oracle's sweep
SCOUTS = (0.3, 1.0)  # budgets of races whose scouts are recorded; above, they are no longer
DEAD = 3  # neighbouring rates that diverge before the higher ones are taken to diverge too


@dataclasses.dataclass(frozen=True)
class ScoutOf:
    """The first probe of a race, and nothing else."""

    race: Race
    name: str = "scout"

    def search(self, plan: Plan) -> Script:
        """Yield the scout of the race, and answer nothing."""
        yield next(self.race.search(plan))
        return Suggestion(math.nan, math.nan, math.nan, Status.NO_SIGNAL, "a scout", "scout")

    def rates(self, train_steps: int) -> str:
        """The number of rates of its climb."""
        return str(len(next(self.race.search(Plan(train_steps)))[0].lrs))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.regret.horizons", description=__doc__)
    parser.add_argument("tasks", nargs="*", help="names of tasks; all of them by default")
    parser.add_argument("--scouts", action="store_true", help="record the scouts alone")
    parser.add_argument("--thinned", action="store_true", help="record runs with less data alone")
    options = parser.parse_args()
    names = options.tasks or [task.name for task in TASKS]
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, context) as pool:
        record = _rescout if options.scouts else _thin if options.thinned else _record
        for name in pool.map(record, names):
            print(name, flush=True)


def _record(name: str) -> str:
    torch.set_num_threads(1)
    return write(FOLDER, table(by_name(name)))


def _rescout(name: str) -> str:
    torch.set_num_threads(1)
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return write(FOLDER, {**content, "scouts": _scouts(by_name(name))})


def _thin(name: str) -> str:
    torch.set_num_threads(1)
    content = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return write(FOLDER, {**content, **_thinned(by_name(name), content)})


def write(folder: pathlib.Path, content: dict[str, Any]) -> str:
    """Write the table of a task; return its name."""
    folder.mkdir(exist_ok=True)
    text = json.dumps(content, separators=(",", ":")) + "\n"
    (folder / f"{content['task']}.json").write_text(text, encoding="utf-8")
    return str(content["task"])


def table(task: Task) -> dict[str, Any]:
    """Losses by fraction, seed and learning rate (``None`` where training diverged)."""
    oracle = load_oracle(task)
    units = [round(5 * math.log10(lr)) for lr in oracle.lrs]
    units = list(range(min(units) - BELOW, max(units) + ABOVE + 1))
    short = [shortened(task, fraction) for fraction in FRACTIONS]
    content = {
        "task": task.name,
        "hash": oracle.hash,
        "fractions": FRACTIONS,
        "units": units,  # log10(lr) in steps of 0.2
        "scouts": _scouts(task),
        "losses": [[row(each, seed, units) for seed in SEEDS] for each in short],
    }
    return {**content, **_thinned(task, content)}


def _thinned(task: Task, content: dict[str, Any]) -> dict[str, Any]:
    """Losses in the same form, with as much less data; no other runs where that changes nothing."""
    found, batches = [], len(task.build(0).train_loader)
    for fraction, losses in zip(FRACTIONS, content["losses"], strict=True):
        short = shortened(task, fraction)
        count = shortened_epoch(batches, short.train_steps, task.train_steps)
        if count is None:
            found.append(losses)
            continue
        build = functools.partial(with_batches, task.build, count)
        fewer = dataclasses.replace(short, build=build)
        found.append([row(fewer, seed, content["units"]) for seed in SEEDS])
    return {"updates_per_epoch": batches, "thinned": found}


def with_batches(build: Callable[[int], Problem], count: int, seed: int) -> Problem:
    """The problem with the first batches of its first pass as all of its training data."""
    problem = build(seed)
    batches = list(itertools.islice(problem.train_loader, count))
    return dataclasses.replace(problem, train_loader=cast(Loader, batches))


def shortened(task: Task, fraction: float) -> Task:
    """The task with its schedule compressed to a fraction of its length."""
    return dataclasses.replace(task, train_steps=max(2, round(task.train_steps * fraction)))


def row(short: Task, seed: int, units: list[int]) -> list[float | None]:
    """Final losses at these rates; above several that diverge, all do."""
    found: list[float | None] = []
    for unit in units:
        dead = len(found) >= DEAD and found[-DEAD:] == [None] * DEAD
        loss = None if dead else final_loss(short, 10.0 ** (unit / 5), seed)
        found.append(None if loss is None else float(f"{loss:.6g}"))
    return found


def _scouts(task: Task) -> list[dict[str, list[float]]]:
    """Losses of the scouts of races, by seed and by the number of rates of the climb."""
    return [dict(scout(task, seed, budget) for budget in SCOUTS) for seed in SEEDS]


def scout(task: Task, seed: int, budget: float) -> tuple[str, list[float]]:
    """The number of rates and the losses of a scout."""
    first = ScoutOf(Race(budget))
    plan = Plan(task.train_steps, task.schedule, can_evaluate=True)
    (curve,) = run_search(trainable_of(task, seed), first, plan).curves
    return first.rates(task.train_steps), [float(f"{min(loss, 1e30):.6g}") for loss in curve.loss]


def trainable_of(task: Task, seed: int) -> TorchTrainable:
    """A fresh trainable of a task, with its held-out loss."""
    problem = task.build(seed)
    return torch_trainable(
        problem.model,
        problem.optimizer,
        problem.loss_fn,
        problem.train_loader,
        val_loader=problem.val_loader,
        seed=seed,
    )


if __name__ == "__main__":
    main()
