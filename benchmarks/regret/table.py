"""The benchmark's tables as Markdown, made from the stored results and never typed."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.regret.results import Results
from benchmarks.regret.summary import Figure, Summary, step_spread

Column = tuple[str, Callable[[Summary], str]]


def main_table(rows: Sequence[Summary], results: Results) -> str:
    """Every contestant over all tasks, the least mean regret first; ours in bold."""
    columns: list[Column] = [
        ("mean regret (95 %)", lambda row: _with_interval(row.regret["mean"])),
        ("median", lambda row: _number(row.regret["median"].value)),
        ("90th percentile", lambda row: _number(row.regret["p90"].value)),
        ("worst", lambda row: _number(row.regret["worst"].value)),
        ("mean excess", lambda row: f"{row.excess['mean'].value:.1%}"),
        ("cost", lambda row: f"{row.cost:.2f}"),
        ("wall", lambda row: f"{row.wall:.2f}"),
        ("spread over seeds", _seed_spread),
        ("no answer", lambda row: f"{row.no_answer:.0%}"),
    ]
    return _table(rows, results, columns)


def short_table(rows: Sequence[Summary], results: Results) -> str:
    """The same with fewer columns."""
    columns: list[Column] = [
        ("mean regret", lambda row: _number(row.regret["mean"].value)),
        ("worst", lambda row: _number(row.regret["worst"].value)),
        ("mean excess", lambda row: f"{row.excess['mean'].value:.0%}"),
        ("cost", lambda row: f"{row.cost:.2g}"),
        ("no answer", lambda row: f"{row.no_answer:.0%}"),
    ]
    return _table(rows, results, columns)


def _table(rows: Sequence[Summary], results: Results, columns: Sequence[Column]) -> str:
    over_all = [row for row in rows if row.family == "all"]
    there = sorted((row for row in over_all if row.installed), key=_mean_regret)
    lines = [
        "| tool | " + " | ".join(name for name, _ in columns) + " |",
        "|---|" + "---:|" * len(columns),
    ]
    for row in there:
        cells = " | ".join(show(row) for _, show in columns)
        lines.append(f"| {_title(row, results)} | {cells} |")
    empty = " |" * (len(columns) - 1)
    missing = [row for row in over_all if not row.installed]
    lines += [f"| {_title(row, results)} | not installed |{empty}" for row in missing]
    return "\n".join(lines)


def family_table(rows: Sequence[Summary], results: Results) -> str:
    """Mean regret by optimizer family."""
    families = list(dict.fromkeys(row.family for row in rows if row.family != "all"))
    by_key = {(row.contestant, row.family): row for row in rows}
    order = sorted((row for row in rows if row.family == "all" and row.installed), key=_mean_regret)
    counts = {row.family: row.tasks for row in rows}
    heads = [f"{family} ({counts[family]})" for family in families]
    lines = ["| tool | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(families)]
    for row in order:
        found = [by_key.get((row.contestant, family)) for family in families]
        cells = ["" if one is None else _number(one.regret["mean"].value) for one in found]
        lines.append(f"| {_title(row, results)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def spread_table(results: Results) -> str:
    """How far the suggestion moves with the number of steps asked for, and over seeds."""
    lines = [
        "| tool | spread over steps, decades (mean over tasks) | largest | asked | answered |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, lrs in results.spread.items():
        if name not in results.contestants:
            continue
        mean = step_spread(lrs)
        single = [step_spread({task: by_steps}) for task, by_steps in lrs.items()]
        largest = max((value for value in single if value is not None), default=None)
        asked = [lr for by_steps in lrs.values() for lr in by_steps.values()]
        lines.append(
            f"| {results.contestants[name]['title']} | {_optional(mean)} | {_optional(largest)} "
            f"| {len(asked)} | {sum(lr is not None for lr in asked)} |"
        )
    return "\n".join(lines)


def message_table(results: Results) -> str:
    """Why there was no answer: the messages as they came, and how often."""
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    for (name, _), stored in results.records.items():
        for answered, message in zip(stored.answered, stored.message, strict=True):
            if not answered:
                counts[name, message] += 1
    lines = ["| tool | times | message |", "|---|---:|---|"]
    for (name, message), count in sorted(counts.items(), key=lambda item: (item[0][0], -item[1])):
        title = results.contestants[name]["title"]
        lines.append(f"| {title} | {count} | {message.replace('|', '/')} |")
    return "\n".join(lines)


def about(rows: Sequence[Summary], results: Results) -> str:
    """Size, machine, versions and dates in a paragraph."""
    environment = results.environment
    tasks = max((row.tasks for row in rows if row.family == "all"), default=0)
    seeds = max((len(stored.lr) for stored in results.records.values()), default=0)
    versions = {
        **environment["versions"],
        **{one["package"]: one["version"] for one in results.contestants.values()},
    }
    dates = sorted({one["date"] for one in results.contestants.values()})
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    listed = ", ".join(f"{name} {number or 'not installed'}" for name, number in versions.items())
    return (
        f"{tasks} tasks, {seeds} seeds each; measured {when} on {environment['processor']} "
        f"({environment['system']}, one thread per run), Python {environment['python']}, {listed}."
    )


def overhead_table(overhead: Mapping[str, Any]) -> str:
    """What a range test costs over the bare loop, in time and memory."""
    memory = overhead["memory"]["extra_copies_of_the_state"]
    lines = [
        "| tool | transformer | small MLP | extra memory |",
        "|---|---:|---:|---:|",
    ]
    for tool, extra in memory.items():
        cells = [
            f"{overhead[setting]['wall_ratio_to_bare_loop'][tool]['median']:.2f} x"
            for setting in ("transformer", "mlp")
        ]
        lines.append(f"| {tool} | {' | '.join(cells)} | {extra:.2f} copies |")
    return "\n".join(lines)


def _title(row: Summary, results: Results) -> str:
    stored = results.contestants[row.contestant]
    return f"**{stored['title']}**" if stored["kind"] == "ours" else str(stored["title"])


def _mean_regret(row: Summary) -> float:
    return row.regret["mean"].value


def _number(value: float) -> str:
    return f"{value:.3f}"


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _with_interval(figure: Figure) -> str:
    return f"{_number(figure.value)} ({_number(figure.low)} to {_number(figure.high)})"


def _seed_spread(row: Summary) -> str:
    return _optional(row.seed_spread)
