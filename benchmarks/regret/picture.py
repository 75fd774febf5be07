"""The benchmark in one picture: regret of every tool on every task, and what it costs."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from benchmarks.regret.results import Results
from benchmarks.regret.summary import Summary

COLOURS = {
    "ours": "C3",
    "finder": "C0",
    "search": "C2",
    "lr-free": "C4",
    "default": "0.3",
}
KINDS = {
    "ours": "lrsearch",
    "finder": "range tests of other tools",
    "search": "Optuna",
    "lr-free": "lr-free optimizers",
    "default": "fixed numbers",
}
FLOOR = 1e-3  # smallest mean regret that the logarithmic axis shows
FREE = 0.01  # where a cost of zero is drawn


def draw(
    rows: Sequence[Summary], results: Results, tasks: Sequence[str], path: pathlib.Path
) -> pathlib.Path:
    """Write the picture.

    Args:
        rows: summaries; those over all tasks are drawn.
        results: the records behind them.
        tasks: names, in the order of the columns.
        path: file to write.
    """
    shown = [row for row in rows if row.family == "all" and row.installed]
    shown.sort(key=lambda row: row.regret["mean"].value)
    figure = Figure(figsize=(13.0, 15.0), layout="constrained")
    top, bottom = figure.subplots(2, 1, height_ratios=(1.35, 1.0))
    draw_regrets(top, shown, results, tasks)
    draw_trade_off(bottom, shown, results)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)
    return path


def draw_regrets(ax: Axes, rows: Sequence[Summary], results: Results, tasks: Sequence[str]) -> None:
    """A map of the mean regret over seeds: a tool per row, a task per column."""
    regrets = np.full((len(rows), len(tasks)), np.nan)
    for i, row in enumerate(rows):
        for j, task in enumerate(tasks):
            stored = results.records.get((row.contestant, task))
            if stored is None:
                continue
            regrets[i, j] = np.clip(np.mean(stored.regret), 0.0, 1.0)
            missing = sum(not answered for answered in stored.answered)
            if missing:
                ax.text(j, i, "x" * missing, ha="center", va="center", fontsize=6, color="white")
    image = ax.imshow(regrets, cmap="viridis_r", norm=PowerNorm(0.5, 0.0, 1.0), aspect="auto")
    ax.set_xticks(range(len(tasks)), tasks, rotation=60, ha="right", fontsize=7)
    titles = [results.contestants[row.contestant]["title"] for row in rows]
    ax.set_yticks(range(len(rows)), titles, fontsize=7)
    for label, row in zip(ax.get_yticklabels(), rows, strict=True):
        label.set_color(COLOURS[results.contestants[row.contestant]["kind"]])
    ax.set_title(
        "Regret: share of the attainable improvement that the suggested learning rate loses "
        "(mean of 3 seeds; x = a seed without an answer)",
        fontsize=9,
    )
    ax.figure.colorbar(image, ax=ax, label="regret", pad=0.01)


def draw_trade_off(ax: Axes, rows: Sequence[Summary], results: Results) -> None:
    """Cost against mean regret; a tool with several budgets is joined by a line."""
    series: dict[str, list[Summary]] = {}
    for row in rows:
        series.setdefault(_series(row.contestant), []).append(row)
    named: set[str] = set()
    labels: list[tuple[float, float, str]] = []
    for name, members in series.items():
        kind = results.contestants[members[0].contestant]["kind"]
        members = sorted(members, key=lambda row: row.cost)
        x = [max(row.cost, FREE) for row in members]
        y = [max(row.regret["mean"].value, FLOOR) for row in members]
        low = [max(row.regret["mean"].low, FLOOR) for row in members]
        high = [max(row.regret["mean"].high, FLOOR) for row in members]
        label = None if kind in named else KINDS[kind]
        named.add(kind)
        ax.plot(x, y, marker="o", color=COLOURS[kind], label=label)
        ax.vlines(x, low, high, color=COLOURS[kind], alpha=0.3)
        labels.append((x[-1], y[-1], name))
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="cost in planned runs (a cost of zero is drawn at the left edge)",
        ylabel="mean regret (95 % interval over tasks)",
    )
    for x_label, y_label, y_point, name in spread_labels(labels):
        ax.annotate(
            name,
            (x_label, y_point),
            (x_label * 1.12, y_label),
            va="center",
            fontsize=7,
            arrowprops={"arrowstyle": "-", "color": "0.7", "linewidth": 0.5},
        )
    ax.margins(x=0.1)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8, loc="lower left")


def spread_labels(
    points: Sequence[tuple[float, float, str]], factor: float = 1.2, width: float = 3.0
) -> list[tuple[float, float, float, str]]:
    """Heights for labels on logarithmic axes so that no two of them lie on each other.

    Args:
        points: x, y and name.
        factor: least ratio between the heights of labels within a factor ``width`` in x.
        width: see ``factor``.

    Returns:
        x, height of the label, y and name, from the lowest point upwards.
    """
    placed: list[tuple[float, float, float, str]] = []
    for x, y, name in sorted(points, key=lambda point: point[1]):
        near = [height for other, height, _, _ in placed if 1 / width < other / x < width]
        placed.append((x, max([y, *(height * factor for height in near)]), y, name))
    return placed


def _series(contestant: str) -> str:
    """The name without its budget."""
    name, _, last = contestant.rpartition("-")
    return name if name and last.replace(".", "").isdigit() else contestant
