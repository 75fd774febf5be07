"""Replay the range test on recorded climbs and short runs, with each task left out in turn.

What ``benchmarks.regret.range_record`` recorded is read by the range test's own code, and by
simpler rules, and the tables of docs/research/range-test.md are written. The regret of each answer
comes from the oracle. Constants that were chosen on these very tasks flatter; in "task left out",
each task is judged by the constants that are best on the others.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import math
import pathlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.environment import environment
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.regret.oracle import Oracle, load_oracle, regret
from benchmarks.regret.tasks import TASKS
from benchmarks.results_file import write_json
from lrsearch.core import short_runs
from lrsearch.core.climb import divergence
from lrsearch.core.curve import Curve, Stop
from lrsearch.core.fall import fit_fall
from lrsearch.core.stopping import StopRule, Watch
from lrsearch.methods import range_test

RECORDED = pathlib.Path(__file__).parent / "range_recorded.json"
LENGTHS = (12, 24, 48)
SPACING, LANES = 0.25, 25  # decades between the runs, and how many there are
OFFSETS = tuple(np.round(np.arange(-3.0, 1.51, 0.05), 2).tolist())
GRID = {
    "_TRUST": (2.0, 4.0, 6.0, 10.0),
    "_LONGER": (-0.1, 0.0, 0.1, 0.2, 0.3),
    "_BELOW": (0.75, 1.0, 1.25, 1.5),
    "_APART": (1.0, 1.25, 1.5),
}

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Recorded:
    """One task and seed."""

    oracle: Oracle
    climb: Curve  # four updates per decade
    slow: Curve  # twenty
    x: Floats  # log10(lr) of the runs, ascending
    training: Floats  # (lengths, runs): mean loss of the last third
    held_out: Floats  # (lengths, runs)

    def run(self, lr: float, length: int, held_out: bool) -> Curve:
        """A run at any learning rate, its final loss interpolated between those recorded."""
        row = (self.held_out if held_out else self.training)[LENGTHS.index(length)]
        place = float(np.clip((math.log10(lr) - self.x[0]) / SPACING, 0.0, len(row) - 1.0))
        left = min(int(place), len(row) - 2)
        ends = row[left], row[left + 1]
        share = place - left
        loss = (1.0 - share) * ends[0] + share * ends[1]
        if not np.isfinite(loss):
            loss = ends[1] if share > 0.5 else ends[0]
        evaluations = ((3, float(loss)),) if held_out else ()
        return Curve([lr] * 3, [float(loss)] * 3, evaluations=evaluations)  # type: ignore[arg-type]


def recorded() -> list[Recorded]:
    """Everything that was recorded."""
    content = json.loads(RECORDED.read_text(encoding="utf-8"))
    found = []
    for task in TASKS:
        oracle = load_oracle(task)
        if content[task.name]["hash"] != oracle.hash:
            raise SystemExit(f"{task.name} is stale: run benchmarks.regret.range_record")
        found += [_one(oracle, seed) for seed in content[task.name]["seeds"]]
    return found


def _one(oracle: Oracle, raw: dict[str, Any]) -> Recorded:
    slow = [math.nan if v is None else v for v in raw["slow"]]
    lrs = np.asarray(slow[0] * 10.0 ** (0.05 * np.arange(len(slow) - 1)), dtype=np.float64)
    return Recorded(
        oracle,
        _climb(np.geomspace(1e-8, 1e4, 48), raw["climb"], range_test._PATIENCE),
        _climb(lrs, slow[1:], StopRule().patience),
        raw["first"] + SPACING * np.arange(LANES),
        np.array(raw["training"], dtype=float),
        np.array(raw["held_out"], dtype=float),
    )


def _climb(lrs: Floats, losses: list[Any], patience: int) -> Curve:
    """The climb as far as the stop rule lets it go."""
    rule, watch = StopRule(patience=patience), Watch()
    values = [math.nan if loss is None else float(loss) for loss in losses]
    for count, loss in enumerate(values, start=1):
        watch = rule.update(watch, loss)
        if watch.stop is not None:
            return Curve(lrs[:count], values[:count], watch.stop)  # type: ignore[arg-type]
    return Curve(lrs[: len(values)], values, Stop.COMPLETED)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------- rules


def below_divergence(one: Recorded) -> float:
    """Nothing but where the climb diverged."""
    return range_test._divergence(one.climb)


def middle_of_fall(one: Recorded) -> float:
    """The default rule on a climb of twenty updates per decade."""
    points = one.slow.finite()
    return fit_fall(np.log10(points.lr), np.clip(points.loss, -1e200, 1e200)).middle


def middle_and_end(one: Recorded) -> float:
    """Two thirds of the way from divergence to the middle of the fall, in log(lr)."""
    return (2.0 * middle_of_fall(one) + math.log10(one.slow.lr[-1])) / 3.0


def best_run(one: Recorded) -> float:
    """The best of the three short runs."""
    reading = _read(one, 24, False)
    return math.log10(reading.lrs[reading.best])


def best_of_all(length: int, one: Recorded) -> float:
    """The best of all recorded runs of a length, on held-out data: many times the updates."""
    return float(one.x[np.nanargmin(one.held_out[LENGTHS.index(length)])])


def _every(length: int) -> str:
    return f"best of {LANES} runs of {length} updates, {LANES * length:,} in all"


def weighted(one: Recorded, length: int, held_out: bool) -> float:
    """What ships."""
    return _read(one, length, held_out).at - range_test._LONGER


def _read(one: Recorded, length: int, held_out: bool) -> short_runs.Reading:
    lrs = range_test.RangeTest()._first_lrs(one.climb)
    reading = short_runs.read_short_runs([one.run(lr, length, held_out) for lr in lrs])
    assert reading is not None, "the lowest of the recorded learning rates never diverge"
    return reading


@contextmanager
def constants(values: dict[str, float]) -> Iterator[None]:
    """Run the range test with other constants."""
    homes = {name: short_runs if name == "_TRUST" else range_test for name in values}
    before = {name: getattr(home, name) for name, home in homes.items()}
    try:
        for name, value in values.items():
            setattr(homes[name], name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(homes[name], name, value)


# ----------------------------------------------------------------------------------- figures


def _regrets(records: list[Recorded], rule: Callable[[Recorded], float]) -> Floats:
    return np.array([regret(one.oracle, 10.0 ** rule(one)) for one in records])


def _left_out(records: list[Recorded], rows: Floats) -> Floats:
    """Of ``rows``, (choices, records): each task by the choice that is best on the others."""
    tasks = np.array([one.oracle.task for one in records])
    found = np.empty(len(records))
    for task in np.unique(tasks):
        own = tasks == task
        found[own] = rows[int(np.argmin(rows[:, ~own].mean(axis=1)))][own]
    return found


def _summary(regrets: Floats) -> dict[str, float]:
    figures = {
        "mean": regrets.mean(),
        "median": np.median(regrets),
        "90th percentile": np.quantile(regrets, 0.9),
        "worst": regrets.max(),
    }
    return {name: round(float(value), 3) for name, value in figures.items()}


def _offset_rule(records: list[Recorded], rule: Callable[[Recorded], float]) -> dict[str, Any]:
    """A rule and a constant number of decades, chosen with the task left out."""
    places = [rule(one) for one in records]
    rows = np.array(
        [
            [
                regret(one.oracle, 10.0 ** (at + offset))
                for one, at in zip(records, places, strict=True)
            ]
            for offset in OFFSETS
        ]
    )
    best = OFFSETS[int(np.argmin(rows.mean(axis=1)))]
    tasks = np.array([one.oracle.task for one in records])
    own = [rows[:, tasks == task].mean(axis=1).min() for task in np.unique(tasks)]
    return {
        "decades added": best,
        **_summary(_left_out(records, rows)),
        "own constant": round(float(np.mean(own)), 3),
    }


def _shipped(records: list[Recorded], length: int, held_out: bool) -> dict[str, Any]:
    def rule(one: Recorded) -> float:
        return weighted(one, length, held_out)

    rows = []
    for values in itertools.product(*GRID.values()):
        with constants(dict(zip(GRID, values, strict=True))):
            rows.append(_regrets(records, rule))
    return {
        "as shipped": _summary(_regrets(records, rule)),
        "task left out": _summary(_left_out(records, np.array(rows))),
    }


def _late(climb: Curve) -> bool:
    """Whether a climb counts as diverged before it explodes."""
    return divergence(climb) < math.log10(climb.lr[-1])


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser("benchmarks.regret.range_replay", description=__doc__)
    parser.parse_args()
    records = recorded()
    simple: dict[str, Callable[[Recorded], float]] = {
        "a fixed distance below divergence": below_divergence,
        "middle of the fall, 20 updates per decade": middle_of_fall,
        "between that and divergence": middle_and_end,
        "best of three runs of 24 updates": best_run,
        **{_every(length): functools.partial(best_of_all, length) for length in LENGTHS},
    }
    found: dict[str, Any] = {
        "environment": environment("numpy", "torch"),
        "climbs": len(records),
        "climbs that explode late": sum(_late(one.climb) for one in records),
        "rules": {name: _offset_rule(records, rule) for name, rule in simple.items()},
        "shipped": {
            f"{length} updates, {'held-out' if held_out else 'training'} loss": _shipped(
                records, length, held_out
            )
            for held_out in (False, True)
            for length in LENGTHS
        },
    }
    write_json("range_replay", found)
    write_between_markers(ROOT / "docs/research/range-test.md", "replay", page(found))


def page(found: dict[str, Any]) -> str:
    """The tables of the research page."""
    figures = ("mean", "median", "90th percentile", "worst")
    rows: list[list[Any]] = [
        [
            name,
            f"{row['decades added']:+.2f} decades",
            *(row[figure] for figure in figures),
            row["own constant"],
        ]
        for name, row in found["rules"].items()
    ]
    rows += [
        [f"three runs of {name}", choice, *(row[choice][figure] for figure in figures), ""]
        for name, row in found["shipped"].items()
        for choice in row
    ]
    return table(["read", "constants", *figures, "mean by its own constant"], rows)


if __name__ == "__main__":
    main()
