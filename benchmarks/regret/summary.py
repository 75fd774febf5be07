"""The figures of the benchmark: what many records come to, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.regret.results import Record, Results

Array = npt.NDArray[np.float64]

RESAMPLES = 2000
STATISTICS: dict[str, Callable[[Array], Array]] = {  # (resamples, values) -> (resamples,)
    "mean": lambda values: np.mean(values, axis=1),
    "median": lambda values: np.median(values, axis=1),
    "p90": lambda values: np.quantile(values, 0.9, axis=1),
    "worst": lambda values: np.max(values, axis=1),
}


@dataclass(frozen=True)
class Figure:
    """A statistic over tasks and seeds, with its 95 % bootstrap interval over tasks."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Summary:
    """One row of the table.

    Attributes:
        contestant: its name.
        family: the optimizer family that it is over, or "all".
        tasks: number of tasks.
        installed: whether its package was there; if not, the rest means nothing.
        regret, excess: by statistic: mean, median, p90, worst.
        cost: mean of steps spent in planned runs.
        wall: mean of wall time spent over that of one planned run.
        wall_median: its median.
        seed_spread: mean over tasks of the standard deviation of log10(lr) over seeds; None for
            contestants without lrs.
        no_answer: share of tasks and seeds without an answer; they count as regret 1.
    """

    contestant: str
    family: str
    tasks: int
    installed: bool
    regret: dict[str, Figure]
    excess: dict[str, Figure]
    cost: float
    wall: float
    wall_median: float
    seed_spread: float | None
    no_answer: float

    def as_dict(self) -> dict[str, Any]:
        """Plain values, rounded, for JSON."""
        return _rounded(asdict(self))  # type: ignore[no-any-return]


def summarise(
    records: Sequence[Record], family: str = "all", resamples: int = RESAMPLES
) -> Summary:
    """Sum up the records of one contestant.

    Raises:
        ValueError: there are none, or they belong to several contestants.
    """
    names = {record.contestant for record in records}
    if len(names) != 1:
        raise ValueError(f"got records of {sorted(names)}, expected those of one contestant")
    answered = [answer for record in records for answer in record.answered]
    wall = [value for record in records for value in record.wall]
    return Summary(
        contestant=names.pop(),
        family=family,
        tasks=len(records),
        installed=all(record.installed for record in records),
        regret=_figures([record.regret for record in records], resamples),
        excess=_figures([record.excess for record in records], resamples),
        cost=float(np.mean([value for record in records for value in record.cost])),
        wall=float(np.mean(wall)),
        wall_median=float(np.median(wall)),
        seed_spread=seed_spread(records),
        no_answer=1.0 - float(np.mean(answered)),
    )


def summaries(results: Results, families: dict[str, str], order: Sequence[str]) -> list[Summary]:
    """One summary per contestant over all tasks, then one per contestant and family.

    Args:
        results: what was measured.
        families: optimizer family by task.
        order: names of contestants; those that `results` lacks are left out.
    """
    rows: list[Summary] = []
    for family in ("all", *dict.fromkeys(families.values())):
        for name in order:
            records = [
                record
                for (contestant, task), record in results.records.items()
                if contestant == name and family in ("all", families[task])
            ]
            if records:
                rows.append(summarise(records, family))
    return rows


def seed_spread(records: Sequence[Record]) -> float | None:
    """Mean over tasks of the standard deviation of log10(lr) over seeds, in decades."""
    spreads = []
    for record in records:
        logs = [math.log10(lr) for lr in record.lr if lr is not None]
        if len(logs) > 1:
            spreads.append(float(np.std(logs, ddof=1)))
    return float(np.mean(spreads)) if spreads else None


def step_spread(lrs: dict[str, dict[str, float | None]]) -> float | None:
    """Mean over tasks of max - min of log10(lr) over the numbers of steps asked for, in decades."""
    ranges = []
    for by_steps in lrs.values():
        logs = [math.log10(lr) for lr in by_steps.values() if lr is not None]
        if len(logs) > 1:
            ranges.append(max(logs) - min(logs))
    return float(np.mean(ranges)) if ranges else None


def _figures(rows: Sequence[Sequence[float]], resamples: int) -> dict[str, Figure]:
    """Statistics over all entries; intervals by drawing whole rows (tasks) with replacement."""
    if len({len(row) for row in rows}) != 1:
        raise ValueError("the tasks were run with different numbers of seeds: run them alike")
    values = np.asarray(rows, dtype=np.float64)  # (tasks, seeds)
    draws = np.random.default_rng(0).integers(len(rows), size=(resamples, len(rows)))
    pooled = values[draws].reshape(resamples, -1)
    figures = {}
    for name, statistic in STATISTICS.items():
        low, high = np.quantile(statistic(pooled), [0.025, 0.975])
        (value,) = statistic(values.reshape(1, -1))
        figures[name] = Figure(float(value), float(low), float(high))
    return figures


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return round(value, 5) if isinstance(value, float) else value
