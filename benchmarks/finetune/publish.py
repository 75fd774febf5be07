"""The tables of the fine-tuning benchmark, made from stored results and never typed."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np

from benchmarks.finetune.oracle import stored
from benchmarks.finetune.tasks import TASKS
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.regret.oracle import Oracle, width
from benchmarks.regret.results import Record, Results, read_results

PATH = pathlib.Path(__file__).parent / "results" / "finetune.json"
PAGES = (ROOT / "docs" / "benchmark.md", ROOT / "README.md")


def publish(pages: Sequence[pathlib.Path] = PAGES) -> None:
    """Fill every marker that a page has."""
    results = read_results(PATH)
    oracles = {task.name: oracle for task in TASKS if (oracle := stored(task))}
    texts = {
        "finetune": answers_table(results, oracles),
        "finetune-oracle": oracle_table(oracles),
        "finetune-short": short_table(results),
        "finetune-about": about(results, oracles),
    }
    for page in pages:
        for marker, text in texts.items():
            if f"<!-- {marker}:begin -->" in page.read_text(encoding="utf-8"):
                write_between_markers(page, marker, text)
                print(f"{page.name}: {marker}")


def oracle_table(oracles: dict[str, Oracle]) -> str:
    """What the sweeps say, and how far the adapter's best lr lies above that of all weights."""
    rows = []
    for name, oracle in oracles.items():
        full = oracles[name.removesuffix("-lora")]
        rows.append(
            [
                name,
                f"{oracle.initial_loss:.3f} to {oracle.best_loss:.3f}",
                f"{bottom(oracle):.2g}",
                f"{bottom(oracle) / bottom(full):.1f} x",
                f"{oracle.last_stable_lr:.2g}",
                f"{width(oracle, 0.01):.2f}",
                f"{width(oracle, 0.03):.2f}",
            ]
        )
    heads = ["task", "held-out loss", "best lr", "over full", "last stable lr"]
    return table([*heads, "regret < 0.01, decades", "regret < 0.03, decades"], rows)


def bottom(oracle: Oracle) -> float:
    """Bottom of the parabola through the best lr of the sweep and its neighbours."""
    best = int(np.argmin(oracle.mean_losses))
    if best in (0, len(oracle.lrs) - 1):
        return oracle.best_lr
    around = slice(best - 1, best + 2)
    logs = np.log10(oracle.lrs[around])
    a, b, _ = np.polyfit(logs, oracle.mean_losses[around], 2)
    return float(10.0 ** (-b / (2 * a)))


def answers_table(results: Results, oracles: dict[str, Oracle]) -> str:
    """Every contestant: regret over all tasks and seeds, and what it answered on each task."""
    rows = []
    for name in _order(results):
        records = _records(results, name)
        by_task = {record.task: record for record in records}
        rows.append([*_figures(results, records), *(_answer(by_task.get(t)) for t in oracles)])
    header = ["tool", "mean regret", "worst", "cost", "wall", *oracles]
    return table(header, rows)


def short_table(results: Results) -> str:
    """Every contestant in four figures."""
    rows = [_figures(results, _records(results, name))[:4] for name in _order(results)]
    return table(["tool", "mean regret", "worst", "cost"], rows)


def _figures(results: Results, records: list[Record]) -> list[str]:
    about = results.contestants[records[0].contestant]
    title = f"**{about['title']}**" if about["kind"] == "ours" else str(about["title"])
    regrets = [value for record in records for value in record.regret]
    cost = np.mean([value for record in records for value in record.cost])
    wall = np.mean([value for record in records for value in record.wall])
    return [
        title,
        f"{np.mean(regrets):.3f}",
        f"{max(regrets):.3f}",
        f"{cost:.2f}",
        f"{wall:.2f}",
    ]


def _answer(record: Record | None) -> str:
    """Geometric mean of the answers and the mean regret there."""
    if record is None:
        return ""
    logs = [np.log10(lr) for lr in record.lr if lr is not None]
    if not logs:
        return "no answer"
    missing = len(record.lr) - len(logs)
    remark = f", {missing} of {len(record.lr)} without answer" if missing else ""
    return f"{10 ** float(np.mean(logs)):.1e} ({np.mean(record.regret):.3f}{remark})"


def _records(results: Results, name: str) -> list[Record]:
    return [record for (who, _), record in results.records.items() if who == name]


def _order(results: Results) -> list[str]:
    """Names of those that were there, the least mean regret first."""
    means = {
        name: np.mean([value for record in _records(results, name) for value in record.regret])
        for name in results.contestants
        if (found := _records(results, name)) and all(record.installed for record in found)
    }
    return sorted(means, key=lambda name: float(means[name]))


def about(results: Results, oracles: dict[str, Oracle]) -> str:
    """Size, machine, versions and dates in a sentence."""
    environment = results.environment
    seeds = max(len(record.lr) for record in results.records.values())
    steps = max(oracle.steps for oracle in oracles.values())
    packages = {one["package"]: one["version"] for one in results.contestants.values()}
    listed = ", ".join(f"{k} {v}" for k, v in {**environment["versions"], **packages}.items())
    return (
        f"{len(oracles)} tasks of {steps} steps, {seeds} seeds each; measured "
        f"{environment['date']} on {environment['processor']} ({environment['system']}, one "
        f"thread), Python {environment['python']}, {listed}."
    )
