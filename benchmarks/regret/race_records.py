"""Races on recorded losses instead of training: milliseconds each.

The records are those of ``benchmarks.regret.horizons`` and ``benchmarks.finetune.horizons``.
Losses between the recorded lengths are interpolated; of the recorded rates the nearest one counts,
since the mean of two runs would be smoother than a run is. A lane that broke is taken to have done
so after a third of its updates.
"""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.finetune import horizons as finetune_horizons
from benchmarks.finetune import oracle as finetune_oracle
from benchmarks.finetune.tasks import BATCH, EXAMPLES
from benchmarks.finetune.tasks import TASKS as FINETUNINGS
from benchmarks.regret import horizons
from benchmarks.regret.oracle import SEEDS, Oracle, load_oracle
from benchmarks.regret.tasks import TASKS
from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Outcome
from lrsearch.core.schedule import Shape
from lrsearch.core.search import Plan, Probe, drive
from lrsearch.methods.race import Race

FloatArray = npt.NDArray[np.float64]

FINE_EPOCH = EXAMPLES // BATCH  # updates in a pass over the data of a fine-tuning
CELL = 0.2  # decades between the recorded rates


@dataclass(frozen=True)
class Recorded:
    """One task and seed: final losses by length and rate, in log10."""

    oracle: Oracle
    schedule: str | Shape
    seed: int
    scouts: dict[str, list[float]]
    updates_per_epoch: int
    rows: tuple[tuple[float, npt.NDArray[np.float64], npt.NDArray[np.float64]], ...]

    def loss(self, lr: float, steps: int) -> float:
        """Interpolated loss after ``steps`` updates of the compressed run at peak ``lr``."""
        length = min(max(math.log(steps / self.oracle.steps), self.rows[0][0]), 0.0)
        lengths = [row[0] for row in self.rows]
        upper = min(max(int(np.searchsorted(lengths, length)), 1), len(lengths) - 1)
        share = (length - lengths[upper - 1]) / (lengths[upper] - lengths[upper - 1])
        below, above = (self._at(self.rows[i], lr) for i in (upper - 1, upper))
        return (1.0 - share) * below + share * above

    def scout(self, lrs: FloatArray) -> FloatArray:
        """Losses of a climb over these rates; the slowest recorded one stands in for others."""
        if str(len(lrs)) in self.scouts:
            return np.array(self.scouts[str(len(lrs))])
        rates = max(self.scouts, key=int)
        losses = np.array(self.scouts[rates])
        recorded = np.linspace(math.log10(lrs[0]), math.log10(lrs[-1]), int(rates))[: len(losses)]
        x = np.log10(lrs)
        inside = x[: int(np.searchsorted(x, recorded[-1])) + 1]
        return np.asarray(np.interp(inside, recorded, losses))

    def _at(self, row: Any, lr: float) -> float:
        _, rates, losses = row
        start = self.oracle.initial[self.seed]
        x = math.log10(lr)
        if x < rates[0]:  # progress in proportion to the rate
            return float(start - (start - losses[0]) * 10.0 ** (x - rates[0]))
        if x > rates[-1] + 0.5 * CELL:
            return 3.0 * start
        return float(losses[np.argmin(np.abs(rates - x))])


def recorded(losses: str = "thinned") -> list[Recorded]:
    """Every task and seed for which there is a table that fits the oracle.

    Args:
        losses: which ones: ``"thinned"``, of short runs on as much data as a race lets them see,
            or ``"losses"``, on all of it. To the fine-tunings it is the same.
    """
    found: list[Recorded] = []
    for task in TASKS:
        path, oracle = horizons.FOLDER / f"{task.name}.json", load_oracle(task)
        found += _recorded(path, oracle, task.schedule, losses)
    for fine in FINETUNINGS:
        path = finetune_horizons.FOLDER / f"{fine.name}.json"
        found += _recorded(path, finetune_oracle.load_oracle(fine), "linear", "losses")
    return found


def _recorded(
    path: pathlib.Path, oracle: Oracle, schedule: str | Shape, losses: str
) -> Iterator[Recorded]:
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["hash"] != oracle.hash:
        raise SystemExit(f"{path.name} is stale: run the module named horizons beside its folder")
    for number, seed in enumerate(SEEDS):
        rows = [
            losses_of(math.log(fraction), content["units"], by_seed[number], oracle, number)
            for fraction, by_seed in zip(content["fractions"], content[losses], strict=True)
        ]
        units = [5.0 * math.log10(lr) for lr in oracle.lrs]
        rows.append(losses_of(0.0, units, [row[number] for row in oracle.losses], oracle, number))
        scouts, epoch = content["scouts"][number], content.get("updates_per_epoch", FINE_EPOCH)
        yield Recorded(oracle, schedule, seed, scouts, epoch, tuple(rows))


def losses_of(length: float, units: Any, losses: Any, oracle: Oracle, number: int) -> Any:
    """One row of :class:`Recorded`: of a length's logarithm, with the oracle's seed `number`."""
    cap = 3.0 * oracle.initial[number]
    values = np.array([cap if loss is None else min(loss, cap) for loss in losses])
    return length, np.array(units) / 5.0, values


def replay(budget: float, record: Recorded, shift: float = 0.0) -> Outcome:
    """Return what the race says when it is over, and its cost in planned runs."""
    plan = Plan(
        record.oracle.steps,
        record.schedule,
        record.updates_per_epoch,
        can_evaluate=True,
        can_shorten_epochs=True,
    )
    return drive(Race(budget=budget), plan, lambda probe: _curve(probe, record, shift))


def _curve(probe: Probe, record: Recorded, shift: float) -> Curve:
    lrs, start = np.array(probe.lrs), record.oracle.initial[record.seed]
    if probe.role == "climb":
        losses = record.scout(lrs)
        return Curve(
            lrs[: len(losses)] * 10.0**shift, losses, evaluations=((0, start),), role=probe.role
        )
    peak, ends = float(lrs.max()), (*probe.checkpoints, len(lrs))
    ended = [record.loss(peak, end) for end in ends]
    if ended[-1] > 2.99 * start:
        lrs = lrs[: max(1, len(lrs) // 3)]
        return Curve(lrs, np.full(len(lrs), np.nan), Stop.NOT_FINITE, probe.lane)
    evaluations = tuple(zip(ends, ended, strict=True))
    fallen = np.linspace(start, ended[-1], len(lrs))
    return Curve(lrs, fallen, lane=probe.lane, evaluations=evaluations)
