"""Can what a race has seen tell by how far its answer is off?

``python -m benchmarks.drawn.leftover`` replays the race on the tasks of the benchmark and on the
drawn runs, and takes down what it knows when it answers: how far the planned run lies beyond its
longest lanes, how the best rates of its rungs moved, how near failures are, how steep the bottom
is, how much was learned. Three regressions learn from the one set by how many decades the answer
was off, and correct the answers of the other by it. What they gain is what the race leaves unread.
The table goes to docs/research/race.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.drawn import replay as drawn
from benchmarks.environment import environment
from benchmarks.markdown import ROOT, table, write_between_markers
from benchmarks.regret.oracle import Oracle, regret
from benchmarks.regret.race_records import FloatArray, Recorded, played, recorded
from benchmarks.regret.race_replay import BUDGETS, SHIFTS
from benchmarks.results_file import write_json
from lrsearch.core.surface import LossSurface, Run
from lrsearch.methods.race_track import Track

MOST = 0.8  # decades by which an answer may count as off
SHARES = (0.25, 0.5, 1.0)  # of the correction that is applied
STEEP = 0.3  # decades from the bottom at which its sides are read
REGRESSIONS: dict[str, Callable[[], Any]] = {
    "ridge": lambda: make_pipeline(StandardScaler(), RidgeCV(np.logspace(0, 4, 9))),
    "random forest": lambda: RandomForestRegressor(300, min_samples_leaf=15, random_state=0),
    "boosted trees": lambda: GradientBoostingRegressor(
        n_estimators=80,
        max_depth=2,
        learning_rate=0.05,
        subsample=0.6,
        min_samples_leaf=15,
        random_state=0,
    ),
}


@dataclass(frozen=True)
class Answered:
    """A race that is over: log10 of its answer, and what it knew."""

    oracle: Oracle
    peak: float
    known: tuple[float, ...]

    @property
    def off(self) -> float:
        """Decades from the answer to the best rate."""
        return float(np.clip(math.log10(self.oracle.best_lr) - self.peak, -MOST, MOST))

    def regret(self, correction: float = 0.0) -> float:
        """Of the answer, moved by so many decades."""
        return regret(self.oracle, 10.0 ** (self.peak + correction))


def main() -> None:
    """Entry point."""
    content: dict[str, Any] = {"environment": environment("numpy", "scikit-learn"), "rows": []}
    for budget in BUDGETS:
        sets = {
            "benchmark": answered(budget, recorded()),
            "drawn runs": answered(budget, list(drawn.recorded())),
        }
        for name, make in REGRESSIONS.items():
            for known, judged in (("drawn runs", "benchmark"), ("benchmark", "drawn runs")):
                row = _row(make(), sets[known], sets[judged])
                content["rows"].append([budget, judged, name, *row])
                print(*content["rows"][-1], flush=True)
    write_json("drawn_leftover", content)
    write_between_markers(ROOT / "docs/research/race.md", "leftover", page(content))


def answered(budget: float, records: Sequence[Recorded]) -> list[Answered]:
    """Every race that is answered by its surface, at all places of the ladder."""
    found = []
    for record in records:
        for shift in SHIFTS:
            track, answer, _ = played(budget, record, shift)
            surface = track._surface()
            if answer.status.found and answer.rule == "race" and surface is not None:
                peak = math.log10(answer.lr)
                found.append(Answered(record.oracle, peak, known(track, surface, peak)))
    return found


def known(track: Track, surface: LossSurface, peak: float) -> tuple[float, ...]:
    """What a race can see of itself; differences of rates and lengths in decades."""
    steps, seen = track.train_steps, track._passes(track.train_steps)
    good = [run for run in track.runs if run.loss < track.start_loss]
    failed = [run.peak for run in track.runs if not run.loss < track.start_loss]
    last = _best_of_longest(good)
    before = _best_of_longest([run for run in good if 2 * run.updates < last.updates] or good)
    longer = math.log10(last.updates / before.updates)
    grid, at = surface._within_reach(steps, seen, 0.04)
    mean = np.interp(
        [surface.best(steps, seen) + away for away in (-STEEP, 0.0, STEEP)],
        grid,
        surface.mean_at(at),
    )
    return (
        math.log10(steps) - surface.longest,
        math.log10(seen) - surface.repeats,
        math.log10(seen),
        math.log10(steps),
        surface.centre - surface.best(steps, seen),
        min(failed, default=surface.centre + 2.0) - peak,
        peak - last.peak,
        last.peak - before.peak,
        (last.peak - before.peak) / max(0.2, longer),
        1.0 - last.loss / track.start_loss,
        (track.start_loss - before.loss) / (track.start_loss - last.loss),
        float(mean[0] - mean[1]),
        float(mean[2] - mean[1]),
        track.noise / track.start_loss,
        float(track.nested),
    )


def _best_of_longest(runs: Sequence[Run]) -> Run:
    longest = max(run.updates for run in runs)
    return min((run for run in runs if run.updates > 0.7 * longest), key=lambda run: run.loss)


def _row(model: Any, known: Sequence[Answered], judged: Sequence[Answered]) -> list[float]:
    """Correlation of what is predicted with what is true, and mean regrets."""
    off = np.array([one.off for one in known])
    weights = np.array([min(one.regret(), 0.3) + 0.02 for one in known])  # flat ones matter less
    step = model.steps[-1][0] + "__" if hasattr(model, "steps") else ""
    model.fit(_table(known), off, **{f"{step}sample_weight": weights})
    predicted = model.predict(_table(judged))
    agree = float(np.corrcoef(predicted, [one.off for one in judged])[0, 1])
    regrets = [
        float(np.mean([one.regret(share * c) for one, c in zip(judged, predicted, strict=True)]))
        for share in (0.0, *SHARES)
    ]
    return [round(agree, 2), *(round(value, 4) for value in regrets)]


def _table(of: Sequence[Answered]) -> FloatArray:
    return np.array([one.known for one in of])


def page(content: dict[str, Any]) -> str:
    """The table of the research page."""
    corrected = [f"{100 * share:.0f} % corrected" for share in SHARES]
    head = [
        "budget",
        "judged on",
        "learned on the others by",
        "correlation",
        "as it is",
        *corrected,
    ]
    return table(head, content["rows"])


if __name__ == "__main__":
    main()
