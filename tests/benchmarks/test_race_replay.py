"""Races replayed on recorded losses: what is read from the records, and that it fits them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

pytest.importorskip("transformers")

from benchmarks.finetune.tasks import TASKS as FINETUNINGS
from benchmarks.regret import race_replay
from benchmarks.regret.oracle import SEEDS, regret
from benchmarks.regret.race_records import Recorded, recorded, replay
from benchmarks.regret.tasks import TASKS


@pytest.fixture(scope="module")
def records() -> list[Recorded]:
    return recorded()


def test_there_is_a_table_for_every_task_and_seed(records: list[Recorded]) -> None:
    names = [task.name for task in (*TASKS, *FINETUNINGS)]
    assert [(r.oracle.task, r.seed) for r in records] == [(n, s) for n in names for s in SEEDS]


def test_a_recorded_run_is_read_as_it_was_and_between_lengths_it_is_interpolated(
    records: list[Recorded],
) -> None:
    record = next(r for r in records if r.oracle.task == "digits-mlp-adam")
    (length, rates, losses), (longer, _, others) = record.rows[2:4]
    updates = record.oracle.steps * math.exp(length)
    assert record.loss(10.0 ** rates[8], round(updates)) == pytest.approx(losses[8])
    assert record.loss(10.0 ** (rates[8] + 0.09), round(updates)) == pytest.approx(losses[8])
    between = record.oracle.steps * math.exp(0.5 * (length + longer))
    ends = sorted((losses[8], others[9 - 1]))
    assert ends[0] <= record.loss(10.0 ** rates[8], round(between)) <= ends[1]
    assert record.loss(1e9, 10) > 2.9 * record.oracle.initial[0]


@pytest.mark.parametrize("budget", race_replay.BUDGETS)
def test_a_replayed_race_keeps_its_budget_and_finds_a_rate_that_learns(
    records: list[Recorded], budget: float
) -> None:
    record = next(r for r in records if r.oracle.task == "digits-mlp-adam")
    answer = replay(budget, record)
    cost = answer.cost.runs
    assert 0.5 * budget < cost < 1.25 * budget
    assert regret(record.oracle, answer.lr) < 0.2


def test_the_walk_returns_constants_that_are_no_worse(
    records: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    few = [r for r in records if r.oracle.task == "wine-mlp-adam"]
    monkeypatch.setattr(race_replay, "BUDGETS", (0.3,))
    chosen = race_replay.choose(few, seed=0, proposals=3)
    with race_replay.constants(race_replay.START):
        start = race_replay.price(few)
    with race_replay.constants(chosen):
        assert race_replay.price(few) <= start
    assert race_replay.shipped()[0] == race_replay.race_track.DESIGN


def test_no_answer_counts_as_no_training(
    records: list[Recorded], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replay(0.3, records[0])
    nothing = dataclasses.replace(found, lr=math.nan, low=math.nan, high=math.nan)
    monkeypatch.setattr(race_replay, "replay", lambda *_: nothing)
    rows = race_replay.figures(0.3, records[:1])
    assert np.array_equal(rows[:, 0], np.ones(len(race_replay.SHIFTS)))
