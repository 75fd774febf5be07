from __future__ import annotations

import numpy as np
import pytest

from lrsearch.core.curve import Stop
from lrsearch.tutorial.problem import EPOCHS, plan, problem, train


def test_every_seed_has_data_weights_and_batches_of_its_own() -> None:
    first, again, other = problem(0), problem(0), problem(1)
    assert np.array_equal(first.train.x, again.train.x)
    assert np.array_equal(first.weights, again.weights)
    assert not np.array_equal(first.train.x, other.train.x)
    assert not np.array_equal(first.weights, other.weights)
    assert not np.array_equal(first.train.x, first.held_out.x[:200])


@pytest.mark.parametrize(("batch", "updates"), [(1, 200), (10, 20), (None, 1)])
def test_the_three_forms_share_data_and_initial_weights(batch: int | None, updates: int) -> None:
    net = problem(3, batch)
    assert net.updates_per_epoch == updates
    assert np.array_equal(net.weights, problem(3).weights)
    assert np.array_equal(net.train.y, problem(3).train.y)


def test_the_plan_counts_updates_of_mini_batches() -> None:
    assert plan().train_steps == EPOCHS * problem().updates_per_epoch
    assert plan().updates_per_epoch == problem().updates_per_epoch


def test_training_uses_the_rates_given_and_measures_as_often_as_asked() -> None:
    lrs = [0.1 + 0.01 * n for n in range(45)]
    curve, twin = train(problem(), lrs, every=20), problem()
    assert curve.lr.tolist() == lrs
    expected = [(0, twin.evaluate())]
    losses = []
    for update, lr in enumerate(lrs, start=1):
        losses.append(twin.step(lr))
        if update in (20, 40):
            expected.append((update, twin.evaluate()))
    assert curve.loss.tolist() == losses
    assert list(curve.evaluations) == expected
    assert curve.stop is Stop.COMPLETED


def test_training_ends_with_the_first_loss_that_is_not_finite() -> None:
    curve = train(problem(), [50.0] * 5000, every=1000)
    assert curve.stop is Stop.NOT_FINITE
    assert len(curve) < 5000
    assert np.isfinite(curve.loss[:-1]).all()
    assert not np.isfinite(curve.loss[-1])
