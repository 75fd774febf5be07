"""The further kinds of training as Markdown: what their sweeps say, and who answers how well."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.markdown import table
from benchmarks.regret.kinds import Kind, schedule_name
from benchmarks.regret.oracle import Oracle, load_oracle, width
from benchmarks.regret.results import Record, Results


def task_table(kinds: Sequence[Kind]) -> str:
    """One row per kind: the run, and what its sweep says."""
    header = ["kind", "optimizer", "steps", "schedule", "held-out loss", "best lr"]
    rows = []
    for kind in kinds:
        oracle = load_oracle(kind)
        rows.append(
            [
                kind.model,
                kind.family,
                kind.train_steps,
                schedule_name(kind),
                f"{oracle.initial_loss:.4g} to {oracle.best_loss:.4g}",
                f"{oracle.best_lr:.2g}",
                f"{width(oracle, 0.02):.1f}",
            ]
        )
    return table([*header, "regret < 0.02, decades"], rows)


def regret_table(results: Results, kinds: Sequence[Kind]) -> str:
    """Mean regret of every contestant on every kind, and the worst seed where it is another."""
    names = [name for name in results.contestants if _records(results, name, kinds)]
    titles = [str(results.contestants[name]["title"]).removeprefix("lrsearch ") for name in names]
    rows: list[list[object]] = [
        [kind.model, *(_cell(results.records.get((name, kind.name))) for name in names)]
        for kind in kinds
    ]
    totals = {name: _records(results, name, kinds) for name in names}
    oracles = {kind.name: load_oracle(kind) for kind in kinds}
    rows.append(["**mean**", *(f"**{np.mean(_regrets(totals[name])):.3f}**" for name in names)])
    rows.append(["worst", *(f"{max(_regrets(totals[name])):.3f}" for name in names)])
    rows.append(["no answer", *(_unanswered(totals[name]) for name in names)])
    rows.append(["best lr in the interval", *(_held(totals[name], oracles) for name in names)])
    return table(["kind", *titles], rows)


def _records(results: Results, name: str, kinds: Sequence[Kind]) -> list[Record]:
    stored = [results.records.get((name, kind.name)) for kind in kinds]
    return [record for record in stored if record is not None]


def _regrets(records: Sequence[Record]) -> list[float]:
    return [value for record in records for value in record.regret]


def _cell(record: Record | None) -> str:
    if record is None:
        return ""
    mean, worst = float(np.mean(record.regret)), max(record.regret)
    return f"{mean:.3f}" + (f" (worst {worst:.2f})" if worst > mean + 0.05 else "")


def _unanswered(records: Sequence[Record]) -> str:
    answered = [value for record in records for value in record.answered]
    return f"{1 - np.mean(answered):.0%}"


def _held(records: Sequence[Record], oracles: dict[str, Oracle]) -> str:
    held = [value for record in records for value in record.holds(oracles[record.task].best_lr)]
    return f"{np.mean(held):.0%}" if held else ""
