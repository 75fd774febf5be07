"""What the contestants answered, as stored: one record per contestant and task."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from benchmarks.regret.contestants.contestant import NOT_INSTALLED, Answer, Contestant
from benchmarks.regret.oracle import Oracle, excess, regret

FOLDER = pathlib.Path(__file__).parent / "results"
NO_ANSWER = 1.0  # the regret of a tool that names no lr: the run that does not happen


@dataclass(frozen=True)
class Record:
    """The answers of one contestant on one task, one entry per seed.

    Attributes:
        contestant, task: their names.
        oracle: hash of the oracle that the regrets were read from.
        lr: the suggestions; None where there was none.
        loss: final held-out losses of contestants that train the run themselves, else None.
        steps: optimizer updates spent.
        cost: the same in planned runs.
        wall: wall time spent over the wall time of one planned run.
        message: why there is no answer, or a remark.
        regret, excess: see `benchmarks.regret.oracle`.
        low, high: intervals that were said to hold the best lr; empty where none was stored.
    """

    contestant: str
    task: str
    oracle: str
    lr: tuple[float | None, ...]
    loss: tuple[float | None, ...]
    steps: tuple[int, ...]
    cost: tuple[float, ...]
    wall: tuple[float, ...]
    message: tuple[str, ...]
    regret: tuple[float, ...]
    excess: tuple[float, ...]
    low: tuple[float | None, ...] = ()
    high: tuple[float | None, ...] = ()

    @property
    def answered(self) -> tuple[bool, ...]:
        """Whether there was an answer, per seed."""
        pairs = zip(self.lr, self.loss, strict=True)
        return tuple(lr is not None or loss is not None for lr, loss in pairs)

    def holds(self, best: float) -> tuple[bool, ...]:
        """Whether the interval holds the best lr, for every answer that has one."""
        pairs = zip(self.low, self.high, strict=True)
        return tuple(low <= best <= high for low, high in pairs if low is not None and high)

    @property
    def installed(self) -> bool:
        """Whether the package was there."""
        return not any(message.startswith(NOT_INSTALLED) for message in self.message)


@dataclass(frozen=True)
class Results:
    """A whole benchmark.

    Attributes:
        records: by contestant and task.
        contestants: kind, title, version and date of every contestant, by name.
        environment: of the latest run that wrote into it.
        spread: lr by contestant, task and number of steps asked for, one seed.
    """

    records: dict[tuple[str, str], Record] = field(default_factory=dict)
    contestants: dict[str, dict[str, Any]] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    spread: dict[str, dict[str, dict[str, float | None]]] = field(default_factory=dict)


def record(
    contestant: Contestant, oracle: Oracle, answers: Iterable[Answer], planned: Iterable[float]
) -> Record:
    """Judge the answers of a contestant on the oracle's task.

    Args:
        contestant: who answered.
        oracle: of the task.
        answers: one per seed.
        planned: wall time in seconds of one planned run, measured beside each answer.
    """
    answers, planned = tuple(answers), tuple(planned)
    return Record(
        contestant=contestant.name,
        task=oracle.task,
        oracle=oracle.hash,
        lr=tuple(None if a.lr is None else float(f"{a.lr:.6g}") for a in answers),
        loss=tuple(None if a.loss is None else float(f"{a.loss:.7g}") for a in answers),
        steps=tuple(a.steps for a in answers),
        cost=tuple(round(a.steps / oracle.steps, 4) for a in answers),
        wall=tuple(round(a.seconds / one, 3) for a, one in zip(answers, planned, strict=True)),
        message=tuple(a.message for a in answers),
        regret=tuple(round(_regret(oracle, a), 6) for a in answers),
        excess=tuple(round(_excess(oracle, a), 6) for a in answers),
        low=tuple(None if a.low is None else float(f"{a.low:.4g}") for a in answers),
        high=tuple(None if a.high is None else float(f"{a.high:.4g}") for a in answers),
    )


def _regret(oracle: Oracle, answer: Answer) -> float:
    """Regret of an answer; negative where a contestant's own training beats the sweep's best."""
    if answer.lr is not None and answer.loss is None:
        return regret(oracle, answer.lr)
    if answer.loss is None:
        return NO_ANSWER
    gap = oracle.initial_loss - oracle.best_loss
    return (min(answer.loss, oracle.initial_loss) - oracle.best_loss) / gap


def _excess(oracle: Oracle, answer: Answer) -> float:
    if answer.lr is not None and answer.loss is None:
        return excess(oracle, answer.lr)
    loss = oracle.initial_loss if answer.loss is None else min(answer.loss, oracle.initial_loss)
    return loss / oracle.best_loss - 1.0


def merge(old: Results, new: Results, hashes: dict[str, str]) -> Results:
    """Put new records in place of old ones, and drop those whose task has changed since.

    Args:
        old: what was stored.
        new: what was just measured.
        hashes: the oracle's hash of every task.
    """
    records = {
        key: stored
        for key, stored in {**old.records, **new.records}.items()
        if hashes.get(stored.task) == stored.oracle
    }
    spread = {
        name: {**old.spread.get(name, {}), **new.spread.get(name, {})}
        for name in {**old.spread, **new.spread}
    }
    return Results(
        records=records,
        contestants={**old.contestants, **new.contestants},
        environment=new.environment or old.environment,
        spread=spread,
    )


def read_results(path: pathlib.Path) -> Results:
    """Read stored results; none when there is no file."""
    if not path.exists():
        return Results()
    raw = json.loads(path.read_text(encoding="utf-8"))
    records: dict[tuple[str, str], Record] = {}
    for line in raw["records"]:
        fields: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in line.items()
        }
        stored = Record(**fields)
        records[stored.contestant, stored.task] = stored
    return Results(records, raw["contestants"], raw["environment"], raw["spread"])


def write_results(results: Results, path: pathlib.Path, summary: Iterable[dict[str, Any]]) -> None:
    """Write results with their summary as JSON, one record per line; whole or not at all."""
    ordered = [results.records[key] for key in sorted(results.records)]
    parts = {
        "environment": json.dumps(results.environment),
        "contestants": _lines(results.contestants),
        "summary": _list(summary),
        "spread": _lines(results.spread),
        "records": _list(dataclasses.asdict(stored) for stored in ordered),
    }
    body = ",\n".join(f'"{key}": {text}' for key, text in parts.items())
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    temporary.write_text(f"{{\n{body}\n}}\n", encoding="utf-8")
    temporary.replace(path)


def _list(items: Iterable[Any]) -> str:
    return "[\n" + ",\n".join(json.dumps(item) for item in items) + "\n]"


def _lines(items: dict[str, Any]) -> str:
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in items.items())
    return "{\n" + ",\n".join(lines) + "\n}"
