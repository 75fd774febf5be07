"""Drawn training runs: the same every time, well formed, and recorded as they are now."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip("transformers")

from benchmarks.drawn.build import task
from benchmarks.drawn.record import spec_hash, stored
from benchmarks.drawn.replay import recorded
from benchmarks.drawn.spec import DATA, OPTIMIZERS, draw
from benchmarks.regret.oracle import regret
from benchmarks.regret.race_records import replay
from benchmarks.regret.tasks import TASKS
from lrsearch.core.schedule import SHAPES
from tests.benchmarks.first_steps import first_steps

NUMBERS = range(100)


def test_the_draws_cover_what_can_be_drawn() -> None:
    specs = [draw(number) for number in NUMBERS]
    assert {spec.data for spec in specs} == set(DATA)
    assert len({spec.optimizer for spec in specs}) >= len(OPTIMIZERS) - 1
    assert {spec.schedule for spec in specs} == set(SHAPES)
    assert {bool(spec.pretrained) for spec in specs} == {True, False}
    assert not {spec.name for spec in specs} & {one.name for one in TASKS}


@pytest.mark.parametrize("number", NUMBERS[::8])
def test_a_drawn_run_is_repeated_bit_for_bit_and_depends_on_its_seed(number: int) -> None:
    losses = first_steps(task(number), seed=1)
    assert all(math.isfinite(loss) for loss in losses)
    assert losses == first_steps(task(number), seed=1)
    assert losses != first_steps(task(number), seed=2) or draw(number).pretrained


def test_a_pretrained_run_begins_at_the_same_weights_whatever_its_seed() -> None:
    number = next(n for n in NUMBERS if draw(n).pretrained)
    states = [task(number).build(seed).model.state_dict() for seed in (1, 2)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_what_was_recorded_is_what_would_be_trained_now() -> None:
    lines = stored()
    assert list(lines) == list(NUMBERS)
    assert all(line["hash"] == spec_hash(draw(number)) for number, line in lines.items())


def test_a_race_can_be_replayed_on_a_drawn_run() -> None:
    record = next(r for r in recorded() if r.oracle.task.startswith("drawn003"))
    answer = replay(1.0, record)
    cost = answer.cost.runs
    assert 0.5 < cost < 1.2
    assert regret(record.oracle, answer.lr) < 0.2
