from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.core.curve import Stop
from lrsearch.core.stopping import StopRule, Watch
from tests.core.toys import Quadratic


def stopped(losses: Iterable[float], rule: StopRule | None = None) -> tuple[int, str] | None:
    """Return after how many losses the rule ended the lane, and why."""
    rule, watch = rule or StopRule(), Watch()
    for count, loss in enumerate(losses, start=1):
        watch = rule.update(watch, float(loss))
        if watch.stop is not None:
            return count, watch.stop.name
    return None


def training(seed: int, steps: int = 200, noise: float = 0.1) -> np.ndarray:
    """A loss that falls by about one, hovers, and rises faster and faster."""
    random = np.random.default_rng(seed)
    x = np.linspace(-4, 2, steps) + random.uniform(-0.5, 0.5)
    fall = -1.0 / (1.0 + np.exp(-4.0 * (x + 2.0)))
    return 2.0 + fall + np.exp(3.0 * x) + noise * random.standard_normal(steps)


# ----------------------------------------------------------------------------- not finite


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 2, 3, 17])
@pytest.mark.parametrize("rule", [StopRule(), StopRule(divergence=False), StopRule(patience=9)])
def test_a_loss_that_is_not_finite_ends_the_lane_at_once(bad, place, rule) -> None:
    # Fault 1: `nan > k * best` is false, so the peers train on.
    losses = [*np.linspace(3.0, 2.0, place), bad, 1.0, 1.0]
    assert stopped(losses, rule) == (place + 1, "NOT_FINITE")


# ------------------------------------------------------------------------------ divergence


def test_a_loss_that_explodes_ends_the_lane_at_once() -> None:
    assert stopped([3.0, 2.5, 2.0, 1.5, 1.2, 1.0, 500.0, 1.0]) == (7, "DIVERGED")


def test_a_loss_that_stays_above_its_start_ends_the_lane_after_the_patience() -> None:
    losses = [*np.linspace(3.0, 1.0, 40), *[3.5] * 20]
    assert stopped(losses, StopRule(patience=1)) == (41, "DIVERGED")
    assert stopped(losses, StopRule(patience=3)) == (43, "DIVERGED")
    assert stopped(losses, StopRule(patience=5)) == (45, "DIVERGED")


def test_one_high_loss_is_forgiven() -> None:
    losses = [3.0, 2.5, 2.0, 1.5, 1.2, 1.0, 4.0, 4.0, 1.0, 0.9, 4.0, 4.0, 0.9]
    assert stopped(losses) is None


def test_divergence_can_be_left_unwatched() -> None:
    assert stopped(10.0 ** np.arange(30), StopRule(divergence=False)) is None


@pytest.mark.parametrize("lr", [0.21, 0.3, 1.0])
def test_a_quadratic_above_its_largest_stable_lr_is_ended(lr: float) -> None:
    problem = Quadratic((1.0, 10.0))  # stable below 2 / 10
    count, why = stopped(problem.step(lr) for _ in range(2000)) or (0, "")
    assert why == "DIVERGED"
    # The loss grows by (1 - 10 lr)**2 per step: how long ten times the start takes, and a bit.
    assert count <= math.log(20.0) / math.log((1.0 - 10.0 * lr) ** 2) + 5


@pytest.mark.parametrize("lr", [1e-9, 1e-3, 0.1, 0.15])
@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_quadratic_below_its_largest_stable_lr_is_left_alone(lr, noise, momentum) -> None:
    for seed in range(5):
        problem = Quadratic((1.0, 10.0), noise=noise, momentum=momentum, seed=seed)
        assert stopped(problem.step(lr) for _ in range(1000)) is None


# ---------------------------------------------------------------------------- false alarms


@pytest.mark.parametrize("level", [0.0, 2.3, -40.0])
def test_white_noise_is_never_taken_for_divergence(level: float) -> None:
    for seed in range(100):
        losses = level + np.random.default_rng(seed).standard_normal(1000)
        assert stopped(losses) is None, seed


@pytest.mark.parametrize("level", [0.0, 1.0, -7.5, 1e-30, 1e30])
def test_a_constant_loss_goes_on(level: float) -> None:
    assert stopped([level] * 500) is None


def test_the_last_digit_of_single_precision_is_not_divergence() -> None:
    # At a tiny lr a full-batch loss in float32 stands still for a while and then twitches.
    digit = np.spacing(np.float32(2.3))
    for seed in range(20):
        random = np.random.default_rng(seed)
        twitches = random.integers(-1, 2, 500) * (random.random(500) < 0.1)
        assert stopped(np.float32(2.3) + digit * np.r_[np.zeros(5), twitches]) is None, seed


def test_a_loss_that_stood_still_may_jump_once_but_not_stay_up() -> None:
    assert stopped([1.0] * 10 + [3.0] + [1.0] * 10) is None
    count, why = stopped([1.0] * 10 + [10.0**power for power in range(1, 30)]) or (0, "")
    assert why == "DIVERGED"
    assert count <= 13


def test_a_loss_that_falls_below_zero_is_not_divergence() -> None:
    # Fault 2: `loss > 4 * best` is true at once for a negative loss.
    for seed in range(20):
        random = np.random.default_rng(seed)
        assert stopped(np.linspace(2.0, -80.0, 300) + 0.5 * random.standard_normal(300)) is None


# ----------------------------------------------------------------------------- invariance


@given(
    seed=st.integers(0, 10_000),
    noise=st.floats(0.01, 0.3),
    shift=st.floats(-100.0, 100.0),
    scale=st.floats(1e-3, 1e3),
)
def test_the_rule_does_not_care_how_the_loss_is_shifted_or_scaled(
    seed: int, noise: float, shift: float, scale: float
) -> None:
    losses = training(seed, noise=noise)
    expected = stopped(losses)
    assert expected is not None
    assert stopped(losses + shift) == expected
    assert stopped(scale * losses) == expected


@pytest.mark.parametrize("seed", range(20))
def test_the_loss_minus_100_and_1000_times_the_loss_end_at_the_same_update(seed: int) -> None:
    losses = training(seed)
    assert stopped(losses) == stopped(losses - 100) == stopped(1000 * losses)


def test_what_is_remembered_is_a_value_so_the_same_history_gives_the_same_decision() -> None:
    rule, watch = StopRule(), Watch()
    for loss in training(0)[:50]:
        watch = rule.update(watch, float(loss))
    assert rule.update(watch, 1e9) == rule.update(watch, 1e9)
    assert rule.update(watch, 1e9).stop is Stop.DIVERGED
    assert watch.stop is None
