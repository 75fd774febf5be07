"""Drawn training runs: the same every time, well formed, and recorded as they are now."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from benchmarks.drawn import gap, leftover
from benchmarks.drawn.build import task
from benchmarks.drawn.record import spec_hash, stored
from benchmarks.drawn.replay import recorded
from benchmarks.drawn.spec import DATA, OPTIMIZERS, draw
from benchmarks.regret.oracle import regret
from benchmarks.regret.race_records import replay
from benchmarks.regret.race_replay import SHIFTS
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
    answer, cost = replay(1.0, record)
    assert 0.5 < cost < 1.2
    assert regret(record.oracle, answer.lr) < 0.2


def test_an_error_that_shows_in_what_is_known_is_corrected() -> None:
    """Two kinds of races: one answers half a decade too high, the other is right."""
    oracle = next(recorded()).oracle
    best, random = math.log10(oracle.best_lr), np.random.default_rng(0)
    kinds = [float(kind) for kind in random.integers(0, 2, 200)]
    races = [leftover.Answered(oracle, best + 0.5 * kind, (kind, 0.0)) for kind in kinds]
    for make in leftover.REGRESSIONS.values():
        correlation, as_it_is, *corrected = leftover._row(make(), races[:100], races[100:])
        assert correlation > 0.99
        assert corrected[-1] < 0.3 * as_it_is


def test_what_a_race_knows_are_numbers() -> None:
    record = next(r for r in recorded() if r.oracle.task.startswith("drawn003"))
    races = leftover.answered(1.0, [record])
    assert len(races) == len(SHIFTS)
    assert all(np.isfinite(race.known).all() for race in races)
    assert all(0.0 <= race.regret() <= 1.0 for race in races)


def test_the_gap_is_measured_at_every_length_and_rate() -> None:
    gaps = np.array(gap.gaps_of(3))
    assert gaps.shape == (len(gap.FRACTIONS), len(gap.AROUND))
    assert ((gaps >= -1.0) & (gaps <= 2.0)).all()


def test_what_can_be_predicted_is_explained_and_noise_is_not() -> None:
    random = np.random.default_rng(0)
    known, noise = random.normal(size=(100, 2)), random.normal(size=100)
    for make in gap.REGRESSIONS.values():
        assert gap._explained(make(), known, known[:, 0]) > 0.8
        assert gap._explained(make(), known, noise) < 0.2
