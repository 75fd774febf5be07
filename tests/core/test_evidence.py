"""Noise is a fall in at most a stated share of comparisons, and a plain fall is one."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.evidence import (
    LEVEL,
    critical_value,
    held_out_fall,
    learned,
    same_losses,
    training_fall,
    training_learned,
)


def curve(losses: object, lr: float = 0.1, **options: object) -> Curve:
    values = np.asarray(losses, dtype=float)
    return Curve(np.full(len(values), lr), values, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("freedom", "expected"),
    [(3, 12.92), (7, 5.408), (10, 4.587), (20, 3.850), (60, 3.460), (10**6, 3.291)],
)
def test_critical_values_are_those_of_the_table(freedom: int, expected: float) -> None:
    # One-sided quantiles of Student's distribution at 0.9995.
    assert critical_value(freedom) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("steps", [5, 7, 12, 40])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.normal(size=n),
        lambda rng, n: rng.uniform(-1.0, 1.0, size=n),
        lambda rng, n: rng.standard_t(4.0, size=n),
        # The further the weights wander, the larger the differences: as of a moving trial.
        lambda rng, n: rng.normal(size=n) * np.linspace(0.01, 1.0, n),
    ],
    ids=["normal", "uniform", "heavy", "growing"],
)
def test_noise_alone_is_rarely_a_fall(draw: Callable[..., np.ndarray], steps: int) -> None:
    rng, found, tries = np.random.default_rng(1), 0, 3000
    still = curve(np.zeros(steps) + 3.0)
    for _ in range(tries):
        found += training_fall(curve(3.0 + draw(rng, steps)), still).significant
    # Three looks are taken; the upper end of the binomial's 99 % at three times the level.
    assert found <= 3 * LEVEL * tries + 2.6 * math.sqrt(3 * LEVEL * tries)


def test_a_small_fall_on_common_batches_is_seen_through_large_noise() -> None:
    rng = np.random.default_rng(0)
    batches = rng.normal(size=40)
    trial = 3.0 + batches - 0.02 * np.arange(40) + 0.05 * rng.normal(size=40)
    assert training_learned(curve(trial), curve(3.0 + batches))


def test_what_wanders_on_other_batches_than_the_baseline_is_no_fall() -> None:
    rng = np.random.default_rng(0)
    assert not training_learned(curve(3.0 + rng.normal(size=30)), curve(3.0 + rng.normal(size=30)))


def test_two_lucky_steps_from_a_start_without_scatter_are_no_fall() -> None:
    # Logits of zero: the loss is log(4) on every batch, so the baseline has no noise at all.
    still = curve(np.full(6, math.log(4.0)))
    assert not training_learned(curve([math.log(4.0), 1.385, 1.38, 1.39, 1.37, 1.388]), still)


def test_a_fall_without_any_noise_is_one() -> None:
    still = curve(np.full(12, 2.0))
    assert training_learned(curve(2.0 - 0.1 * np.arange(12)), still)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_trial_that_broke_learned_nothing(bad: float) -> None:
    losses = [*np.linspace(3.0, 1.0, 12), bad]
    trial = curve(losses, stop=Stop.NOT_FINITE)
    assert not learned(trial, curve(np.full(13, 3.0)))


@pytest.mark.parametrize("scale", [1e-300, 1e-6, 1.0, 1e6, 1e300])
def test_the_scale_of_the_loss_decides_nothing(scale: float) -> None:
    rng = np.random.default_rng(3)
    batches = rng.normal(size=20)
    trial = 5.0 + batches - 0.1 * np.arange(20)
    assert training_learned(curve(scale * trial), curve(scale * (5.0 + batches)))


def with_parts(parts: np.ndarray, losses: object) -> Curve:
    mean = float(np.mean(parts))
    steps = len(np.asarray(losses))
    return curve(losses, evaluations=((steps, mean),), parts=tuple(parts))


def test_a_held_out_fall_is_judged_by_the_scatter_of_its_parts() -> None:
    rng = np.random.default_rng(0)
    before = 2.0 + rng.normal(size=16)
    still = with_parts(before, np.full(5, 2.0))
    clear = with_parts(before - 0.1 + 0.02 * rng.normal(size=16), np.full(5, 1.9))
    lucky = with_parts(before - 0.1 + 0.5 * rng.normal(size=16), np.full(5, 1.9))
    assert held_out_fall(clear, still).significant
    assert not held_out_fall(lucky, still).significant


def test_noise_learned_by_heart_is_not_learned() -> None:
    # The training loss falls clearly, and the held-out loss by what its parts scatter anyway.
    rng = np.random.default_rng(0)
    before = 2.0 + rng.normal(size=16)
    still = with_parts(before, np.full(30, 2.0))
    heart = with_parts(before + 0.3 * rng.normal(size=16), 2.0 - 0.05 * np.arange(30))
    assert training_learned(heart, still)
    assert not learned(heart, still)


def test_held_out_losses_of_unknown_scatter_must_follow_the_training_loss() -> None:
    falling = 2.0 - 0.05 * np.arange(30) + 0.1 * np.random.default_rng(0).normal(size=30)
    still = curve(np.full(30, 2.0), evaluations=((30, 2.0),))
    assert learned(curve(falling, evaluations=((30, 1.0),)), still)
    assert not learned(curve(falling, evaluations=((30, 1.99),)), still)
    assert not learned(curve(falling, evaluations=((30, math.nan),)), still)


def test_the_same_losses_at_other_rates_are_noticed() -> None:
    losses = [2.0, 1.9, 2.3]
    rates = [curve(losses, lr) for lr in (1e-3, 1e-1)]
    assert same_losses(rates)
    assert same_losses([*rates, curve(losses[:2], 1.0)])
    assert not same_losses([*rates, curve([2.0, 1.9, 2.31], 1.0)])
    assert not same_losses([curve(losses), curve(losses)])  # one rate tells nothing
    assert not same_losses([curve(losses[:1], lr) for lr in (1e-3, 1e-1)])
