"""Ask every contestant for an lr on every fine-tuning, judge it by the oracle, write the tables.

``python -m benchmarks.finetune.bench`` runs all of it in one process; ``--contestant race-1``
measures one again and merges it into the stored JSON.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from benchmarks.environment import environment, version
from benchmarks.finetune.contestants import CONTESTANTS, as_task
from benchmarks.finetune.oracle import PACKAGES, SEEDS, load_oracle, stored
from benchmarks.finetune.publish import PATH, publish
from benchmarks.finetune.runs import planned_seconds, quick_starts
from benchmarks.finetune.tasks import TASKS, FineTuning, by_name
from benchmarks.regret.contestants import Contestant, ask
from benchmarks.regret.lines import overview, per_task
from benchmarks.regret.results import Results, merge, read_results, record, write_results
from benchmarks.regret.summary import summaries


def main(arguments: list[str] | None = None) -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.finetune.bench", description=__doc__)
    parser.add_argument("--tasks", nargs="+", help="names; all that have an oracle by default")
    parser.add_argument("--contestant", nargs="+", help="names; all by default")
    parser.add_argument("--publish", action="store_true", help="only write the tables")
    options = parser.parse_args(arguments)
    quick_starts()
    if options.publish:
        publish()
        return
    tasks = [by_name(name) for name in options.tasks or [t.name for t in TASKS if stored(t)]]
    who = [c for c in CONTESTANTS if c.name in (options.contestant or [c.name])]
    new = run(who, tasks)
    hashes = {task.name: oracle.hash for task in TASKS if (oracle := stored(task))}
    results = merge(read_results(PATH), new, hashes)
    families = {task.name: kind(task) for task in TASKS}
    rows = summaries(results, families, [contestant.name for contestant in CONTESTANTS])
    write_results(results, PATH, [row.as_dict() for row in rows])
    print("\n".join(per_task(new, {task.name: load_oracle(task).best_lr for task in tasks})))
    print("\n".join(overview(rows)))
    publish()


def kind(task: FineTuning) -> str:
    """What is trained, in words."""
    return "LoRA" if task.name.endswith("-lora") else "full"


def run(contestants: Sequence[Contestant], tasks: Sequence[FineTuning]) -> Results:
    """Ask everyone about everything, one after the other."""
    began = time.perf_counter()
    records = {}
    for task in tasks:
        oracle = load_oracle(task)
        planned = [planned_seconds(task, seed) for seed in SEEDS]
        for contestant in contestants:
            answers = [ask(contestant, as_task(task), seed) for seed in SEEDS]
            records[contestant.name, task.name] = record(contestant, oracle, answers, planned)
            print(
                f"[{time.perf_counter() - began:.0f} s] {task.name} {contestant.name}", flush=True
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
    return Results(records, about, env)


if __name__ == "__main__":
    main()
