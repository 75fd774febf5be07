from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.core import fall
from lrsearch.core.fall import fit_fall
from tests.core.known_curves import FALLING, known


def broken_line(x, begin, end, rise, drop=2.0, level=3.0, slope_up=1.5):
    falling = drop * (np.clip(x, begin, end) - begin) / (end - begin)
    return level - falling + slope_up * np.maximum(x - rise, 0.0)


# ----------------------------------------------------------------- against a slow reference


def slow_errors(x, y, weight, knots):
    """Fit every broken line by itself, with the library's own least squares."""
    errors = []
    for begin, end, turn in zip(*fall._corners(len(knots)), strict=True):
        ramp = -(np.clip(x, knots[begin], knots[end]) - knots[begin])
        hinge = np.maximum(x - knots[turn], 0.0)
        columns = [np.ones_like(x), ramp, hinge]
        found = _least_squares(columns, y, weight)
        if found[1][2] <= 0.0:
            found = _least_squares(columns[:2], y, weight)
        errors.append(found[0] if found[1][1] > 0.0 else np.inf)
    return np.array(errors)


def _least_squares(columns, y, weight):
    root = np.sqrt(weight)
    design = np.stack(columns, axis=1) * root[:, None]
    coefficients = np.linalg.lstsq(design, y * root, rcond=1e-10)[0]
    return float(np.sum((y * root - design @ coefficients) ** 2)), coefficients


@pytest.mark.parametrize("name", [*FALLING, "noise", "exact line"])
@pytest.mark.parametrize(("points", "corners"), [(8, 8), (14, 14), (60, 17), (132, 33)])
def test_every_line_has_the_error_of_a_least_squares_fit_of_its_own(name, points, corners) -> None:
    x, random = np.linspace(0.0, 1.0, points), np.random.default_rng(points)
    if name == "noise":
        y = random.standard_normal(points)
    elif name == "exact line":
        y = broken_line(x, 0.25, 0.5, 0.75)
    else:
        y = np.nan_to_num(known(FALLING[name], points, 0.05)[0].loss, nan=0.5)
    weight = random.uniform(0.5, 8.0, points)
    knots = np.linspace(0.0, 1.0, corners)
    lines = fall._Lines.of(x, y, weight, knots)
    fast, slow = lines.errors(*lines.coefficients()), slow_errors(x, y, weight, knots)
    total = float(weight @ (y - np.average(y, weights=weight)) ** 2)
    assert np.isfinite(fast).any()
    # A slope of zero may come out a rounding above or below it: no fall either way.
    both = np.isfinite(fast) & np.isfinite(slow)
    assert (np.minimum(fast, slow)[~both] > 0.999 * lines.error_without_fall()).all()
    np.testing.assert_allclose(fast[both], slow[both], rtol=1e-6, atol=1e-11 * total)


@pytest.mark.parametrize("points", [10, 40])
def test_the_error_without_a_fall_is_that_of_the_best_flat_and_rising_line(points: int) -> None:
    x, random = np.linspace(0.0, 1.0, points), np.random.default_rng(3)
    y = np.maximum(x - 0.6, 0.0) * 5.0 + random.standard_normal(points)
    weight, knots = random.uniform(0.5, 8.0, points), np.linspace(0.0, 1.0, points)
    slow = [
        _least_squares([np.ones(points), np.maximum(x - knot, 0.0)], y, weight) for knot in knots
    ]
    rising = [error for error, (_, up) in slow if up > 0.0]
    lines = fall._Lines.of(x, y, weight, knots)
    assert lines.error_without_fall() == pytest.approx(min(rising), rel=1e-9)


# ------------------------------------------------------------------------------ exact answers


@pytest.mark.parametrize("move", [-4.0, 0.0, 3.7])
@pytest.mark.parametrize("points", [33, 65, 129])
def test_a_broken_line_is_found_again(move: float, points: int) -> None:
    x = np.linspace(-8.0, 0.0, points) + move  # corners are a quarter apart
    found = fit_fall(x, broken_line(x, -5.0 + move, -3.0 + move, -1.5 + move))
    assert found.begin == pytest.approx(-5.0 + move)
    assert found.end == pytest.approx(-3.0 + move)
    assert found.rise == pytest.approx(-1.5 + move)
    assert found.middle == pytest.approx(-4.0 + move, abs=1e-3)
    assert found.drop == pytest.approx(2.0, rel=1e-6)
    assert found.level == pytest.approx(3.0, rel=1e-6)
    assert found.noise < 1e-6
    assert found.significant


def test_the_noise_about_the_line_is_measured() -> None:
    x = np.linspace(-8.0, 0.0, 400)
    y = broken_line(x, -5.0, -3.0, -1.5) + 0.2 * np.random.default_rng(0).standard_normal(400)
    found = fit_fall(x, y)
    assert found.noise == pytest.approx(0.2, rel=0.15)
    assert found.drop == pytest.approx(2.0, rel=0.15)
    assert abs(found.middle + 4.0) < 4.0 * found.spread < 0.5


def test_the_spread_tells_how_far_the_middle_moves_with_the_noise() -> None:
    x, errors, spreads = np.linspace(-8.0, 0.0, 100), [], []
    for seed in range(60):
        noise = 0.5 * np.random.default_rng(seed).standard_normal(100)
        found = fit_fall(x, broken_line(x, -5.0, -3.0, -1.5) + noise)
        errors.append(found.middle + 4.0)
        spreads.append(found.spread)
    ratio = float(np.sqrt(np.mean(np.square(errors)) / np.mean(np.square(spreads))))
    assert 0.5 < ratio < 1.5


@pytest.mark.parametrize("level", [0.0, 2.3, -1e6, 1e-150, 1e150])
def test_a_constant_loss_has_no_fall(level: float) -> None:
    assert not fit_fall(np.linspace(-6.0, 1.0, 100), np.full(100, level)).significant


def test_a_loss_that_only_rises_has_no_fall() -> None:
    x = np.linspace(-6.0, 1.0, 100)
    found = fit_fall(x, np.exp(x))
    assert not found.significant
    assert found.drop == 0.0


@given(seed=st.integers(0, 1000), shift=st.floats(-100.0, 100.0), power=st.floats(-100.0, 100.0))
def test_the_fall_moves_and_scales_with_the_loss(seed: int, shift: float, power: float) -> None:
    curve, _ = known(FALLING["drop then rise"], 60, 0.1, seed)
    x, scale = np.log10(curve.lr), 10.0**power
    plain = fit_fall(x, curve.loss)
    for other, size in (
        (fit_fall(x, curve.loss + shift), 1.0),
        (fit_fall(x, scale * curve.loss), scale),
    ):
        assert other.middle == pytest.approx(plain.middle, abs=1e-6)
        assert other.drop == pytest.approx(size * plain.drop, rel=1e-6)
        assert other.noise == pytest.approx(size * plain.noise, rel=1e-6)
        assert other.evidence == pytest.approx(plain.evidence, rel=1e-6)


# ------------------------------------------------------------------------------ false alarms


def test_white_noise_is_hardly_ever_taken_for_a_fall() -> None:
    alarms = {}
    for points in (8, 10, 15, 20, 50, 100, 300):
        x = np.linspace(-6.0, 1.0, points)
        randoms = (np.random.default_rng((points, seed)) for seed in range(400))
        alarms[points] = sum(
            fit_fall(x, random.standard_normal(points)).significant for random in randoms
        )
    assert max(alarms.values()) <= 4, alarms  # 1 in 100 for any number of points
    assert sum(alarms.values()) <= 10, alarms  # and 1 in 280 over all


def test_an_explosion_at_the_end_does_not_hide_the_fall() -> None:
    curve, truth = known(FALLING["sigmoid drop"], 100, 0.05)
    for explosion in (1e3, 1e30, 1e150):
        losses = np.r_[curve.loss[:-3], explosion, explosion**1.1, explosion**1.2]
        found = fit_fall(np.log10(curve.lr), losses)
        assert found.significant
        assert found.middle == pytest.approx(truth, abs=0.2)
