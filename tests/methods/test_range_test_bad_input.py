"""Bad input: every case ends with a status that says what happened, and with nothing raised."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lrsearch.core.curve import Stop
from lrsearch.core.outcome import Outcome, Status
from lrsearch.core.search import Plan, run_search
from lrsearch.methods.range_test import RangeTest
from tests.core.toys import Judged, Quadratic, Scripted, SineNet

CURVATURE = np.geomspace(0.1, 100.0, 20)


def find(trainable: Any, **options: Any) -> Outcome:
    return run_search(trainable, RangeTest(**options), Plan())


class Sorted(Quadratic):
    """Batches from easy to hard, or the other way: the loss drifts whatever is learned."""

    drift = -5.0

    def step(self, lr: float) -> float:
        seen = len(self.lrs)
        start = self.restored_at if hasattr(self, "restored_at") else 0
        return super().step(lr) + self.drift * (seen - start) / 100.0

    def restore(self, snapshot: Any, /) -> None:
        super().restore(snapshot)
        self.restored_at = len(self.lrs)


@pytest.mark.parametrize("value", [2.3, 0.0, -7.0, 1e30])
@pytest.mark.parametrize(
    ("bounds", "status", "advice"),
    [
        ({}, Status.NO_EFFECT, "gradients reach the parameters"),
        # A single climb cannot tell that another one would be the same.
        (
            {"min_lr": 1e-6, "max_lr": 1.0},
            Status.NO_SIGNAL,
            "depends on the trained parameters",
        ),
    ],
)
def test_a_constant_loss_has_no_answer(
    value: float, bounds: dict[str, float], status: Status, advice: str
) -> None:
    outcome = find(Scripted([value] * 1000), **bounds)
    assert outcome.status is status
    assert advice in outcome.why
    assert math.isnan(outcome.lr)
    assert outcome.interval is None


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_from_the_first_update_is_told_as_such(bad: float) -> None:
    outcome = find(Scripted([bad] * 1000))
    assert outcome.status is Status.NOT_FINITE
    assert outcome.cost.steps == 1
    assert "Check the data" in outcome.why


def test_a_single_batch_is_enough() -> None:
    # The same batch again and again: no noise at all.
    outcome = find(Quadratic(CURVATURE))
    assert outcome.status is Status.FOUND
    assert 1e-4 < outcome.lr < 0.02
    assert outcome.noise == pytest.approx(0.0, abs=0.05 * outcome.curves[1].loss[0])


@pytest.mark.parametrize("drift", [-5.0, 5.0])
def test_sorted_labels_are_not_taken_for_learning(drift: float) -> None:
    class Deaf(Sorted):
        pass

    Deaf.drift = drift
    nothing = Deaf((0.0,), noise=0.1)
    assert find(nothing).status is Status.NO_EFFECT
    trained = Deaf(CURVATURE, start=0.0, noise=0.1)
    assert find(trained).status is Status.NO_SIGNAL


@pytest.mark.parametrize("drift", [-5.0, 5.0])
def test_sorted_labels_do_not_move_the_answer(drift: float) -> None:
    class Drifting(Sorted):
        pass

    Drifting.drift = drift
    plain, drifting = find(Quadratic(CURVATURE, noise=0.1)), find(Drifting(CURVATURE, noise=0.1))
    assert drifting.status is Status.FOUND
    assert abs(math.log10(drifting.lr / plain.lr)) < 0.3


@pytest.mark.parametrize("shift", [-1e3, -60.0])
def test_a_negative_loss_is_as_good_as_any(shift: float) -> None:
    plain, negative = (
        find(Quadratic(CURVATURE, noise=0.1)),
        find(Quadratic(CURVATURE, noise=0.1, shift=shift)),
    )
    assert negative.status is Status.FOUND
    assert negative.lr == pytest.approx(plain.lr, rel=1e-4)


@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e300])
def test_a_huge_or_tiny_loss_is_as_good_as_any(scale: float) -> None:
    plain, huge = find(Quadratic(CURVATURE)), find(Quadratic(CURVATURE, scale=scale))
    assert huge.status is Status.FOUND
    assert huge.lr == pytest.approx(plain.lr, rel=0.3)


@pytest.mark.parametrize("kind", [Quadratic, Judged])
@pytest.mark.parametrize("seed", range(5))
def test_a_model_that_is_trained_already_has_no_signal(kind: type[Quadratic], seed: int) -> None:
    outcome = find(kind(CURVATURE, start=0.0, noise=0.1, seed=seed))
    assert outcome.status is Status.NO_SIGNAL
    assert "trained already" in outcome.why


@pytest.mark.parametrize("curvature", [1.0, 1e300])
def test_a_problem_that_breaks_at_every_lr_says_that_it_diverged(curvature: float) -> None:
    outcome = find(Quadratic((curvature,)), min_lr=1e5)
    assert outcome.status is Status.DIVERGED
    assert "Lower min_lr" in outcome.why


def test_noise_of_single_examples_is_either_beaten_or_admitted() -> None:
    found = [find(SineNet(seed, batch=1)).status for seed in range(5)]
    assert set(found) <= {Status.FOUND, Status.NO_SIGNAL}


class Bounded(Judged):
    """From some rate on the weights jump, but not far: as where little of a model is trained."""

    def step(self, lr: float) -> float:
        loss = super().step(lr)
        if lr * float(self.curvature.max()) > 1.0:
            self.weights = 1.2 * np.sign(self.random.standard_normal(self.weights.shape))
        return loss


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steps", [60, 100, 300])
def test_a_climb_that_never_explodes_does_not_hide_where_harm_begins(steps: int, seed: int) -> None:
    answer = find(Bounded(curvature=(20.0, 100.0), noise=0.1, seed=seed), steps=steps)
    assert answer.curves[0].stop is Stop.COMPLETED
    assert answer.status is Status.FOUND
    assert 1e-4 < answer.lr < 1e-2
    assert "did harm from" in answer.why
