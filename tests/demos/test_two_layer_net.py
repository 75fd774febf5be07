from __future__ import annotations

import math

import numpy as np
import pytest

from lrsearch.core.search import Plan, run_search
from lrsearch.core.trainable import Evaluable
from lrsearch.demos.two_layer_net import (
    Examples,
    TwoLayerNet,
    curvature,
    gradient,
    hessian,
    loss,
    noisy_sine,
    predict,
)
from lrsearch.errors import InvalidArgument
from lrsearch.methods.ladder import Ladder

BATCHES = (1, 7, 10, None)  # single-sample, two mini-batches (one leaves a rest), full-batch


def net(batch: int | None = 10, seed: int = 0) -> TwoLayerNet:
    return TwoLayerNet(noisy_sine(60), noisy_sine(40, seed=1), hidden=3, batch=batch, seed=seed)


def some_weights(hidden: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.0, 2.0, 3 * hidden + 1)


@pytest.mark.parametrize("hidden", [1, 3, 6])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_gradient_is_that_of_finite_differences(hidden: int, seed: int) -> None:
    examples, weights = noisy_sine(17, seed=seed), some_weights(hidden, seed)
    value, slope = gradient(weights, examples.x, examples.y)
    assert value == pytest.approx(loss(weights, examples), rel=1e-12)
    for index, step in enumerate(np.eye(len(weights)) * 1e-6):
        difference = loss(weights + step, examples) - loss(weights - step, examples)
        assert slope[index] == pytest.approx(difference / 2e-6, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("hidden", [1, 3, 6])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_hessian_is_that_of_finite_differences_of_the_gradient(hidden: int, seed: int) -> None:
    examples, weights = noisy_sine(17, seed=seed), some_weights(hidden, seed)
    matrix = hessian(weights, examples)
    assert np.array_equal(matrix, matrix.T)
    for index, step in enumerate(np.eye(len(weights)) * 1e-6):
        above = gradient(weights + step, examples.x, examples.y)[1]
        below = gradient(weights - step, examples.x, examples.y)[1]
        np.testing.assert_allclose(matrix[index], (above - below) / 2e-6, rtol=1e-5, atol=1e-8)


def test_the_output_is_the_formula_of_a_two_layer_net() -> None:
    w1, b1, w2, b2 = [2.0, -1.0], [0.5, 0.25], [3.0, -4.0], 0.125
    for x in (-1.0, 0.0, 0.3, 700.0):
        units = [1.0 / (1.0 + math.exp(-(w * x + b))) for w, b in zip(w1, b1, strict=True)]
        by_hand = sum(w * unit for w, unit in zip(w2, units, strict=True)) + b2
        weights = np.array([*w1, *b1, *w2, b2])
        assert predict(weights, np.array([x]))[0] == pytest.approx(by_hand, rel=1e-14)


def test_curvature_knows_a_saddle_and_a_minimum() -> None:
    """Outputs are all zero: with zero targets that is a minimum, else the units pull apart."""
    x = np.linspace(0.0, 1.0, 11)
    flat = np.zeros(4)
    minimum = curvature(flat, Examples(x, np.zeros(11)))
    assert minimum.gradient_norm == 0.0
    assert minimum.lowest > -1e-15
    saddle = curvature(flat, Examples(x, 5.0 * (x - x.mean())))
    assert saddle.gradient_norm < 1e-15
    assert saddle.lowest < -0.1
    assert saddle.highest > 1.0
    assert saddle.downward == 1


@pytest.mark.parametrize("batch", BATCHES)
def test_one_epoch_visits_every_example_once(batch: int | None) -> None:
    trained = net(batch)
    seen = []
    original = trained._next_batch

    def watched() -> tuple[np.ndarray, np.ndarray]:
        x, y = original()
        seen.append(x)
        return x, y

    trained._next_batch = watched  # type: ignore[method-assign]
    for _ in range(trained.updates_per_epoch):
        trained.step(0.1)
    assert sorted(np.concatenate(seen)) == sorted(trained.train.x)
    assert max(map(len, seen)) == (batch or 60)


def test_the_batch_order_differs_from_epoch_to_epoch_and_from_seed_to_seed() -> None:
    def orders(seed: int) -> list[list[float]]:
        trained = net(1, seed)
        return [[trained._next_batch()[0][0] for _ in range(60)] for _ in range(2)]

    first, second = orders(0)
    assert first != second
    assert orders(0) == [first, second]
    assert orders(1)[0] != first


def test_a_full_batch_step_is_gradient_descent() -> None:
    trained = net(None)
    before = trained.weights.copy()
    value, slope = gradient(before, trained.train.x, trained.train.y)
    assert trained.step(0.3) == pytest.approx(value, rel=1e-12)
    np.testing.assert_allclose(trained.weights, before - 0.3 * slope, rtol=1e-12, atol=1e-15)


def test_the_loss_returned_is_that_of_the_batch_before_the_update() -> None:
    trained = net(10)
    weights, state = trained.weights.copy(), trained.snapshot()
    x, y = trained._next_batch()
    trained.restore(state)
    assert trained.step(0.5) == pytest.approx(loss(weights, Examples(x, y)), rel=1e-12)


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("steps_before", [0, 3, 11])
def test_a_snapshot_brings_back_weights_and_batches_any_number_of_times(
    batch: int | None, steps_before: int
) -> None:
    trained = net(batch)
    for _ in range(steps_before):
        trained.step(0.5)
    state = trained.snapshot()
    runs = []
    for _ in range(3):
        runs.append([trained.step(0.5) for _ in range(130)])
        trained.restore(state)
    assert runs[0] == runs[1] == runs[2]


def test_two_nets_with_the_same_seed_are_the_same_net() -> None:
    assert [net().step(0.5) for _ in range(5)] == [net().step(0.5) for _ in range(5)]
    assert net(seed=1).step(0.5) != net(seed=0).step(0.5)


def test_evaluating_measures_the_held_out_examples_and_changes_nothing() -> None:
    trained, other = net(), net()
    assert isinstance(trained, Evaluable)
    assert trained.evaluate() == loss(trained.weights, noisy_sine(40, seed=1))
    assert trained.evaluate() == trained.evaluate()
    assert [trained.step(0.1) for _ in range(20)] == [other.step(0.1) for _ in range(20)]


def test_divergence_ends_in_a_loss_that_is_not_finite_and_in_no_warning() -> None:
    trained = net()
    losses = [trained.step(50.0) for _ in range(2000)]
    assert not math.isfinite(losses[-1])
    assert not math.isfinite(trained.evaluate())


def test_a_search_leaves_the_net_as_it_was() -> None:
    searched, untouched = net(), net()
    run_search(searched, Ladder(min_lr=1e-3, max_lr=10.0), Plan(updates_per_epoch=6))
    assert [searched.step(0.1) for _ in range(20)] == [untouched.step(0.1) for _ in range(20)]


def test_without_held_out_examples_the_training_examples_are_measured() -> None:
    trained = TwoLayerNet(noisy_sine(60))
    assert trained.evaluate() == loss(trained.weights, trained.train)


@pytest.mark.parametrize(("batch", "updates"), [(1, 60), (10, 6), (7, 9), (60, 1), (None, 1)])
def test_an_epoch_has_as_many_updates_as_batches(batch: int | None, updates: int) -> None:
    assert net(batch).updates_per_epoch == updates


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"hidden": 0}, "hidden: got 0"), ({"batch": 0}, "batch: got 0"), ({"batch": 61}, "1 to 60")],
)
def test_a_net_that_cannot_be_built_says_why(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        TwoLayerNet(noisy_sine(60), **arguments)  # type: ignore[arg-type]


def test_examples_of_unequal_or_wrong_shape_are_refused() -> None:
    for x, y in ((np.ones(3), np.ones(4)), (np.ones((3, 1)), np.ones((3, 1))), (np.ones(0),) * 2):
        with pytest.raises(InvalidArgument, match="two equal shapes"):
            Examples(x, y)
    with pytest.raises(InvalidArgument, match="count: got 0"):
        noisy_sine(0)
    with pytest.raises(InvalidArgument, match="noise: got -1"):
        noisy_sine(10, noise=-1.0)


def test_the_noisy_sine_has_the_noise_that_was_asked_for() -> None:
    sine = noisy_sine(20_000, noise=0.05, seed=3)
    residual = sine.y - (0.5 + 0.5 * np.sin(2.0 * np.pi * sine.x))
    assert residual.std() == pytest.approx(0.05, rel=0.02)
    assert abs(residual.mean()) < 0.002
    assert 0.0 <= sine.x.min() < 0.001
    assert 0.999 < sine.x.max() <= 1.0
