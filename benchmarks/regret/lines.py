"""Results as plain lines, for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.regret.results import Results
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
