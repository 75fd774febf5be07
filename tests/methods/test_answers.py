"""What searches answer where there is nothing to learn, or little to tell it by."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest

from lrsearch.core.outcome import Outcome, Status
from lrsearch.core.search import Plan, run_search
from lrsearch.methods.race import Race
from lrsearch.methods.range_test import RangeTest
from lrsearch.methods.sweep import Sweep
from tests.core.toys import Judged, Quadratic

METHODS = {
    "race": Race(),
    "range": RangeTest(),
    "sweep": Sweep([1e-3, 1e-2, 1e-1]),
}


def find(trainable: Any, method: str = "race", steps: int = 300) -> Outcome:
    return run_search(trainable, METHODS[method], Plan(steps))


# ------------------------------------------------------------------------ nothing can be learned


class Frozen(Quadratic):
    """Whatever the learning rate, no weight moves; batches differ."""

    def step(self, lr: float) -> float:
        return super().step(0.0)


class JudgedFrozen(Frozen):
    def evaluate(self) -> float:
        return self.exact_loss


@pytest.mark.parametrize("kind", [Frozen, JudgedFrozen])
@pytest.mark.parametrize("method", METHODS)
def test_losses_that_no_learning_rate_changes_are_told_as_such(
    method: str, kind: type[Quadratic]
) -> None:
    answer = find(kind(noise=0.5), method)
    assert answer.status is Status.NO_EFFECT
    assert "optimizer steps the parameters" in answer.why
    assert math.isnan(answer.lr)


class Cut(Judged):
    """The training loss is cut off at 1, so it is the same everywhere; the held-out loss is not."""

    def step(self, lr: float) -> float:
        return min(super().step(lr), 1.0)


@pytest.mark.parametrize("method", METHODS)
def test_a_training_loss_that_tells_nothing_is_no_lack_of_effect_where_the_held_out_loss_falls(
    method: str,
) -> None:
    answer = find(Cut(curvature=(1.0, 10.0), start=10.0), method, steps=100)
    assert answer.status is not Status.NO_EFFECT


class Guesses:
    """Linear regression on targets that are noise alone, with a held-out loss if asked for."""

    def __init__(self, seed: int, batch: int = 8, features: int = 5) -> None:
        self.weights = np.zeros(features)
        self.random = np.random.default_rng([1, seed])
        self.batch = batch
        data = np.random.default_rng([2, seed])
        self.held_out = data.standard_normal((64, features)), data.standard_normal(64)

    @np.errstate(over="ignore", invalid="ignore")
    def step(self, lr: float) -> float:
        x = self.random.standard_normal((self.batch, self.weights.size))
        error = x @ self.weights - self.random.standard_normal(self.batch)
        self.weights = self.weights - lr * (2.0 / self.batch) * (x.T @ error)
        return float(np.mean(error**2))

    def snapshot(self) -> Any:
        return copy.deepcopy((self.weights, self.random.bit_generator.state))

    def restore(self, snapshot: Any, /) -> None:
        self.weights, state = copy.deepcopy(snapshot)
        self.random.bit_generator.state = state


class JudgedGuesses(Guesses):
    def evaluate(self) -> float:
        x, y = self.held_out
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.mean((x @ self.weights - y) ** 2))


@pytest.mark.parametrize("kind", [Guesses, JudgedGuesses])
@pytest.mark.parametrize("method", METHODS)
def test_targets_that_are_noise_alone_give_no_signal(method: str, kind: type[Guesses]) -> None:
    for seed in range(4):
        assert find(kind(seed), method).status is Status.NO_SIGNAL


# ---------------------------------------------------------------------------- a bounded loss


class Collapses(Quadratic):
    """Like a quadratic up to 2 / its largest curvature; above, the weights jump to one place.

    Its loss there is 0.8 of the first one at all higher rates, over decades.
    """

    def step(self, lr: float) -> float:
        loss = super().step(lr)
        if lr * float(self.curvature.max()) > 2.0:
            self.weights = np.full_like(self.weights, math.sqrt(0.8))
        return loss


@pytest.mark.parametrize("method", ["race", "range"])
def test_equal_losses_over_decades_do_not_hide_where_it_still_learns(method: str) -> None:
    toy = Collapses(curvature=(100.0, 1000.0), noise=0.01)
    answer = find(toy, method, steps=600)
    assert answer.status.found
    assert 1e-5 < answer.lr < 2e-3
    assert toy.closed_form(answer.lr, 600) < 0.5 * toy.closed_form(0.0, 0)


# ---------------------------------------------------------------------------- what is broken


class BadBatch(Quadratic):
    """Batch ``bad`` holds a NaN, for the loss and for the weights."""

    bad = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self.made = 0

    def step(self, lr: float) -> float:
        self.made += 1
        if self.made == self.bad:
            self.weights = self.weights * math.nan
        return super().step(lr)

    def snapshot(self) -> Any:
        return super().snapshot(), self.made

    def restore(self, snapshot: Any, /) -> None:
        state, self.made = snapshot
        super().restore(state)


@pytest.mark.parametrize("bad", [3, 7, 11])
@pytest.mark.parametrize("method", ["race", "range"])
def test_a_batch_that_breaks_any_training_is_named_by_its_number(method: str, bad: int) -> None:
    toy = BadBatch(curvature=(1.0, 10.0), noise=0.1)
    toy.bad = bad
    answer = find(toy, method, steps=600)
    assert answer.status is Status.NOT_FINITE
    assert f"The loss of batch {bad} is NaN or infinite whatever the learning rate" in answer.why


class NoHeldOut(Judged):
    def evaluate(self) -> float:
        return math.nan


@pytest.mark.parametrize("method", ["race", "range"])
def test_a_held_out_loss_that_is_broken_before_training_is_named(method: str) -> None:
    answer = find(NoHeldOut(noise=0.1), method)
    assert answer.status is Status.NOT_FINITE
    assert "held-out loss is NaN or infinite before any training" in answer.why
    assert "val_loader" in answer.why
    assert answer.cost.steps <= 50


# ------------------------------------------------------------- held-out losses that first rise


class FirstRises(Judged):
    """Its held-out loss lies higher by ``rise`` until the weights are most of the way there."""

    rise, share = 1.7, 1e-3

    def evaluate(self) -> float:
        start = float(self.closed_form(0.0, 0))
        moved = min(1.0, 10.0 * float(np.abs(self.weights - self.start).max()))
        left = self.exact_loss / start / self.share
        return self.exact_loss + self.rise * start * moved * min(1.0, left)


def test_where_held_out_losses_first_rise_the_training_loss_ranks() -> None:
    toy = FirstRises(curvature=(1.0, 4.0), noise=0.02)
    answer = find(toy, steps=400)
    rungs = [curve for curve in answer.curves if curve.role == "rung"]
    first = [curve for curve in rungs if len(curve) == len(rungs[0])]
    before = answer.curves[0].evaluations[0][1]
    assert all(curve.evaluations[-1][1] > before for curve in first)
    assert len(first) == 6  # held-out losses alone would send it down and down
    assert answer.status is Status.FOUND
    assert 0.01 < answer.lr < 0.5


def test_held_out_losses_that_never_fall_give_no_answer_however_the_training_loss_falls() -> None:
    class NeverFalls(Judged):
        def evaluate(self) -> float:
            return 1.0 + float(np.abs(self.weights - self.start).sum())

    answer = find(NeverFalls(curvature=(1.0, 4.0), noise=0.02))
    assert answer.status is Status.NO_SIGNAL
    assert "training loss fell, but the held-out loss did not" in answer.why


# ------------------------------------------------------------------------------- very short runs


@pytest.mark.parametrize("kind", [Quadratic, Judged])
@pytest.mark.parametrize("steps", [1, 5, 9])
def test_a_race_for_fewer_than_ten_steps_makes_none(steps: int, kind: type[Quadratic]) -> None:
    answer = find(kind(noise=0.1), "race", steps)
    assert answer.status is Status.NO_SIGNAL
    assert f"{steps} steps are too few" in answer.why
    assert answer.cost.steps == 0
    assert answer.curves == ()


@pytest.mark.parametrize("steps", [1, 5])
def test_a_sweep_of_very_short_runs_costs_what_it_says(steps: int) -> None:
    answer = find(Quadratic(noise=0.1), "sweep", steps)
    assert answer.cost.steps == (3 + 1) * steps
    assert answer.why


def test_one_step_tells_nothing_of_the_rate_without_a_held_out_loss() -> None:
    answer = find(Quadratic(noise=0.1), "sweep", 1)
    assert answer.status is Status.NO_SIGNAL
