from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrsearch.core.curve import Curve
from lrsearch.core.outcome import Status
from lrsearch.core.suggest import suggest
from lrsearch.core.turning import _falling_errors, fit_turning

X = np.linspace(-2.0, 0.0, 41)  # log10(lr), 0.05 apart
SHAPES = {
    "line": -X,
    "decay": np.exp(-3.0 * (X + 2.0)),
    "stairs": -np.floor(2.0 * (X + 2.0)),
    "sigmoid": 1.0 / (1.0 + np.exp(5.0 * (X + 1.0))),
}
losses = hnp.arrays(np.float64, st.integers(1, 25), elements=st.floats(-10.0, 10.0))


@pytest.mark.parametrize("place", [-1.5, -1.0, -0.5, -0.2])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_valley_turns_at_its_floor(place: float, power: float) -> None:
    turning = fit_turning(X, np.abs(X - place) ** power)
    assert turning.turned
    assert turning.at == pytest.approx(place, abs=0.03)


def test_the_middle_of_a_level_floor_is_taken() -> None:
    """Level from -1.2 to -0.4: it may turn anywhere in between, and nowhere else."""
    turning = fit_turning(X, np.maximum(np.abs(X + 0.8) - 0.4, 0.0))
    assert turning.turned
    assert turning.at == pytest.approx(-0.8, abs=0.03)
    assert turning.spread == pytest.approx(0.8 / np.sqrt(12.0), abs=0.03)


def test_stairs_before_the_turn_do_not_matter() -> None:
    valley = np.abs(X + 0.5)
    stairs = np.where(X < -0.5, np.ceil(4.0 * valley) / 4.0, valley)
    assert fit_turning(X, stairs).at == pytest.approx(-0.5, abs=0.03)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_curve_that_only_falls_has_not_turned(shape: str) -> None:
    turning = fit_turning(X, SHAPES[shape])
    assert not turning.turned
    assert turning.at > -1.0


def test_a_curve_that_only_rises_turns_at_its_first_point() -> None:
    assert fit_turning(X, X.copy()).at == pytest.approx(X[0], abs=0.1)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("sd", [0.01, 0.1])
def test_noise_seldom_feigns_a_turn(shape: str, sd: float) -> None:
    random = np.random.default_rng(7)
    fall = SHAPES[shape] / np.ptp(SHAPES[shape])
    turned = [fit_turning(X, fall + sd * random.standard_normal(41)).turned for _ in range(200)]
    assert sum(turned) <= 3


@pytest.mark.parametrize("sd", [0.01, 0.05, 0.1])
def test_noise_moves_the_turn_by_about_the_spread_it_admits(sd: float) -> None:
    random = np.random.default_rng(3)
    fits = [fit_turning(X, np.abs(X + 0.5) + sd * random.standard_normal(41)) for _ in range(100)]
    errors = np.array([turning.at + 0.5 for turning in fits])
    assert np.abs(errors).max() < 0.3
    assert (
        np.mean([abs(e) <= 2.0 * f.spread + 0.025 for e, f in zip(errors, fits, strict=True)])
        > 0.85
    )
    assert np.mean([turning.turned for turning in fits]) > 0.8


def test_an_explosion_has_no_more_weight_than_a_clear_rise() -> None:
    calm = np.abs(X + 0.5)
    exploded = np.where(X > -0.2, 10.0 ** (200.0 * (X + 0.2)), calm)
    assert fit_turning(X, exploded).at == pytest.approx(fit_turning(X, calm).at, abs=0.05)


@pytest.mark.parametrize("shift", [-100.0, 0.0, 10.0])
@pytest.mark.parametrize("scale", [0.001, 1000.0])
def test_shift_and_scale_of_the_loss_do_not_matter(shift: float, scale: float) -> None:
    noisy = np.abs(X + 0.5) + 0.05 * np.random.default_rng(0).standard_normal(41)
    original, moved = fit_turning(X, noisy), fit_turning(X, scale * noisy + shift)
    assert moved.turned is original.turned
    assert moved.at == pytest.approx(original.at, abs=1e-6)
    assert moved.spread == pytest.approx(original.spread, abs=1e-6)


def test_a_constant_loss_is_no_error() -> None:
    turning = fit_turning(X, np.ones(41))
    assert not turning.turned
    assert X[0] <= turning.at <= X[-1]


@given(losses)
def test_the_falling_fit_is_that_of_the_textbook_formula(y: np.ndarray) -> None:
    """Isotonic regression, slowly: the fit at i is min over j <= i of max over k >= i of a mean."""
    errors = _falling_errors(y)
    assert errors.shape == (len(y) + 1, 2)
    for end in range(1, len(y) + 1):
        fit = [
            min(max(y[j : k + 1].mean() for k in range(i, end)) for j in range(i + 1))
            for i in range(end)
        ]
        assert errors[end, 0] == pytest.approx(((y[:end] - fit) ** 2).sum(), abs=1e-8)


def test_the_rule_reads_the_turn_and_knows_an_edge() -> None:
    lrs = 10.0**X
    found = suggest(Curve(lrs, np.abs(X + 0.5) + 1.0), "turning")
    assert found.status is Status.FOUND
    assert found.lr == pytest.approx(10.0**-0.5, rel=0.1)
    assert "turn up" in found.why
    edge = suggest(Curve(lrs, 1.0 - X), "turning")
    assert edge.status is Status.AT_EDGE
    flat = suggest(Curve(lrs, np.ones(41)), "turning")
    assert flat.status is Status.NO_SIGNAL
