"""Results as plain lines, for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from benchmarks.regret.oracle import Oracle
from benchmarks.regret.problem import Task
from benchmarks.regret.results import Record, Results
from benchmarks.regret.summary import Summary


def overview(rows: Sequence[Summary]) -> list[str]:
    """The main figures as lines of text."""
    lines = [
        f"{'contestant':22} {'tasks':>5} {'mean':>7} {'median':>7} {'p90':>7} {'worst':>7} "
        f"{'excess':>7} {'cost':>6} {'wall':>6} {'seeds':>6} {'none':>5}"
    ]
    for row in rows:
        if row.family != "all":
            continue
        if not row.installed:
            lines.append(f"{row.contestant:22} not installed")
            continue
        regret = " ".join(f"{figure.value:7.4f}" for figure in row.regret.values())
        spread = "" if row.seed_spread is None else f"{row.seed_spread:.2f}"
        lines.append(
            f"{row.contestant:22} {row.tasks:5d} {regret} {row.excess['mean'].value:7.2%} "
            f"{row.cost:6.2f} {row.wall:6.2f} {spread:>6} {row.no_answer:5.0%}"
        )
    return lines


def per_task(results: Results, best: Mapping[str, float]) -> list[str]:
    """Every answer with its regret as a line of text, the worst first.

    Args:
        results: the answers.
        best: the oracle's best lr of every task.
    """
    ranked = sorted(results.records.values(), key=lambda stored: -sum(stored.regret))
    return [
        f"{stored.contestant:18} {stored.task:28} best {best[stored.task]:<9.3g} "
        f"regret {sum(stored.regret) / len(stored.regret):6.3f}  lr "
        + " ".join("-" if lr is None else f"{lr:.3g}" for lr in stored.lr)
        + "  "
        + ", ".join(sorted({message for message in stored.message if message}))
        for stored in ranked
    ]


def kind_lines(results: Results, oracles: Mapping[Task, Oracle]) -> list[str]:
    """Regret and interval of every answer on the kinds, and what they come to.

    An answer whose interval holds the best lr is marked by a plus, else by a minus.
    """
    best = {oracle.task: oracle.best_lr for oracle in oracles.values()}
    by_contestant = dict[str, list[Record]]()
    for record in results.records.values():
        by_contestant.setdefault(record.contestant, []).append(record)
    lines = []
    for name, records in by_contestant.items():
        lines += [f"{name:10} {one.task:24} {_answers(one, best)}" for one in records]
        lines.append(f"{name:10} {kind_totals(records, best)}")
    return lines


def _answers(record: Record, best: Mapping[str, float]) -> str:
    cells = []
    for seed, (lr, regret) in enumerate(zip(record.lr, record.regret, strict=True)):
        if lr is None:
            cells.append(f"- {record.message[seed]}")
            continue
        low, high = record.low[seed], record.high[seed]
        inside = low is not None and high is not None and low <= best[record.task] <= high
        cells.append(f"{lr:.2g} ({regret:.3f}{'+' if inside else '-'})")
    return f"best {best[record.task]:<7.2g} {'  '.join(cells)}"


def kind_totals(records: Iterable[Record], best: Mapping[str, float]) -> str:
    """Mean and worst regret, how often the interval holds the best lr, how often no answer."""
    records = list(records)
    regrets = [value for record in records for value in record.regret]
    answered = [value for record in records for value in record.answered]
    holds = [value for record in records for value in record.holds(best[record.task])]
    inside = f"{np.mean(holds):.0%} of {len(holds)}" if holds else "no intervals"
    return (
        f"mean regret {np.mean(regrets):.3f}, worst {max(regrets):.3f}, best in interval {inside}, "
        f"no answer {1 - np.mean(answered):.0%} of {len(answered)}"
    )
