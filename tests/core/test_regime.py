from __future__ import annotations

import math

import numpy as np
import pytest

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.regime import Regime, regime
from lrsearch.errors import InvalidArgument

T = 400  # updates


def curve(losses: object, **more: object) -> Curve:
    values = np.asarray(losses, dtype=float)
    return Curve(np.full(len(values), 0.1), values, **more)  # type: ignore[arg-type]


def decay(constant: float, updates: int = T) -> np.ndarray:
    """From 1 to 0 with the given time constant, as a share of the run."""
    return np.exp(-np.arange(updates) / (constant * updates))


def bowl(lr: float, noise: float = 0.0, seed: int = 0, updates: int = T) -> Curve:
    """Gradient descent on ``w**2 / 2`` from 1, its exact loss measured after every update.

    Each gradient carries noise, so that at a rate ``lr`` the loss settles about
    ``lr * noise**2 / (2 * (2 - lr))``, and diverges above 2.
    """
    random = np.random.default_rng(seed)
    w, losses = 1.0, [0.5]
    for _ in range(updates):
        w -= lr * (w + noise * random.standard_normal())
        losses.append(0.5 * w * w)
    return Curve(np.full(updates, lr), losses[:-1], evaluations=tuple(enumerate(losses)))


@pytest.mark.parametrize("constant", [0.01, 0.05, 0.1, 0.2])
def test_a_decay_that_is_over_before_the_end_converges(constant: float) -> None:
    assert regime(curve(decay(constant))) is Regime.CONVERGES


@pytest.mark.parametrize("constant", [0.5, 1.0, 3.0, 100.0])
def test_a_decay_that_goes_on_at_the_end_crawls(constant: float) -> None:
    assert regime(curve(decay(constant))) is Regime.CRAWLS


@pytest.mark.parametrize("level", [0.0, 3.0, -2.0])
def test_a_constant_loss_crawls(level: float) -> None:
    assert regime(curve(np.full(T, level))) is Regime.CRAWLS


@pytest.mark.parametrize("seed", range(10))
def test_noise_about_the_start_crawls(seed: int) -> None:
    assert regime(curve(np.random.default_rng(seed).standard_normal(T))) is Regime.CRAWLS


@pytest.mark.parametrize(
    ("lr", "expected"),
    [
        (0.0005, Regime.CRAWLS),
        (0.003, Regime.CRAWLS),
        (0.05, Regime.CONVERGES),
        (0.5, Regime.CONVERGES),
        (1.0, Regime.CONVERGES),
        (1.9, Regime.CONVERGES),
        (2.01, Regime.DIVERGES),
        (2.5, Regime.DIVERGES),
    ],
)
def test_a_quadratic_without_noise_diverges_above_two_over_its_curvature(
    lr: float, expected: Regime
) -> None:
    assert regime(bowl(lr)) is expected


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("lr", "expected"),
    [
        (0.001, Regime.CRAWLS),
        (0.1, Regime.CONVERGES),
        (1.5, Regime.HOVERS),
        (1.8, Regime.HOVERS),
        (3.0, Regime.DIVERGES),
    ],
)
def test_a_noisy_quadratic_hovers_at_large_rates_and_settles_at_small_ones(
    lr: float, expected: Regime, seed: int
) -> None:
    assert regime(bowl(lr, noise=0.3, seed=seed)) is expected


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(("constant", "expected"), [(0.1, "CONVERGES"), (2.0, "CRAWLS")])
@pytest.mark.parametrize("sd", [0.01, 0.05])
def test_the_noise_of_batches_is_not_taken_for_hovering(
    constant: float, expected: str, sd: float, seed: int
) -> None:
    noisy = decay(constant, 5000) + sd * np.random.default_rng(seed).standard_normal(5000)
    assert regime(curve(noisy)).name == expected


def test_swings_that_stay_are_hovering() -> None:
    swings = 0.4 * np.sin(np.arange(T) / 5.0)
    assert regime(curve(np.maximum(decay(0.02), 0.5 + swings))) is Regime.HOVERS


def test_a_loss_that_settles_above_its_start_diverges() -> None:
    assert regime(curve(5.0 - decay(0.05))) is Regime.DIVERGES


@pytest.mark.parametrize("stop", [Stop.DIVERGED, Stop.NOT_FINITE])
def test_a_lane_that_was_stopped_diverges(stop: Stop) -> None:
    assert regime(curve([1.0, 0.5, 40.0], stop=stop)) is Regime.DIVERGES


def test_a_loss_that_is_not_finite_diverges_however_short_the_curve() -> None:
    assert regime(curve([1.0, math.nan])) is Regime.DIVERGES
    broken = Curve(np.ones(9), np.ones(9), evaluations=tuple((i, math.inf) for i in range(9)))
    assert regime(broken) is Regime.DIVERGES


def test_held_out_losses_are_judged_when_there_are_enough_of_them() -> None:
    falling = tuple(enumerate(decay(2.0, 9)))
    flat = np.concatenate([[1.0], np.zeros(T - 1)])
    assert regime(curve(flat, evaluations=falling)) is Regime.CRAWLS
    assert regime(curve(decay(0.1), evaluations=falling[:7])) is Regime.CONVERGES


@pytest.mark.parametrize("shift", [-100.0, 10.0])
@pytest.mark.parametrize("scale", [0.001, 1000.0])
def test_shift_and_scale_of_the_loss_do_not_matter(shift: float, scale: float) -> None:
    for lr in (0.0005, 0.1, 1.5, 1.8, 2.01, 3.0):
        original = bowl(lr, noise=0.3)
        moved = Curve(
            original.lr,
            scale * original.loss + shift,
            evaluations=tuple((n, scale * v + shift) for n, v in original.evaluations),
        )
        assert regime(moved) is regime(original)


def test_too_few_losses_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="at least 8"):
        regime(curve(np.ones(7)))


def test_every_regime_says_what_happened() -> None:
    assert len({member.value for member in Regime}) == 4
    assert all(member.value.endswith(".") for member in Regime)
