from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lrsearch.core.curve import Curve, Stop, noise, smooth
from lrsearch.errors import InvalidArgument

losses = hnp.arrays(np.float64, st.integers(1, 60), elements=st.floats(-1e6, 1e6))


def test_losses_are_kept_raw_with_the_nan_that_ended_them() -> None:
    curve = Curve([0.1, 0.2, 0.3], [1.0, 5.0, math.nan], Stop.NOT_FINITE)
    assert curve.loss[:2].tolist() == [1.0, 5.0]
    assert math.isnan(curve.loss[2])
    assert len(curve) == 3


def test_a_curve_copies_what_it_is_given_and_cannot_be_changed() -> None:
    given_losses = np.ones(3)
    curve = Curve(np.ones(3), given_losses)
    given_losses[0] = 7.0
    assert curve.loss[0] == 1.0
    with pytest.raises(ValueError, match="read-only"):
        curve.loss[0] = 7.0


def test_a_curve_of_unequal_lengths_is_refused() -> None:
    with pytest.raises(InvalidArgument, match=r"Curve\.loss: got '3 values', expected as many"):
        Curve(np.ones(2), np.ones(3))


def test_two_curves_with_the_same_nan_are_equal_and_hash_alike() -> None:
    one, two = (Curve([0.1, 0.2], [1.0, math.nan], evaluations=((2, math.nan),)) for _ in "ab")
    assert one == two
    assert hash(one) == hash(two)
    assert one != Curve([0.1, 0.2], [1.0, 2.0])
    assert one != "a curve"


def test_a_nan_that_was_computed_equals_one_that_was_read() -> None:
    with np.errstate(invalid="ignore"):
        computed = -(np.zeros(2) / np.zeros(2))
    one = Curve(np.ones(2), computed, evaluations=((2, float(computed[0])),))
    assert one == Curve(np.ones(2), [math.nan, math.nan], evaluations=((2, math.nan),))


def test_evaluations_given_as_lists_become_pairs() -> None:
    curve = Curve([0.1], [1.0], evaluations=[[1, 0.5]])  # type: ignore[arg-type]
    assert curve.evaluations == ((1, 0.5),)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_the_finite_part_ends_before_the_first_broken_loss(bad: float, place: int) -> None:
    values = np.arange(5.0)
    values[place] = bad
    part = Curve(np.arange(1.0, 6.0), values).finite()
    assert part.loss.tolist() == list(range(place))
    assert part.lr.tolist() == list(range(1, place + 1))


def test_several_updates_on_a_rung_become_their_mean_in_ascending_order() -> None:
    curve = Curve([0.2, 0.1, 0.2, 0.1, 0.1], [4.0, 1.0, 6.0, 2.0, 3.0], lane=2).by_rung()
    assert curve.lr.tolist() == [0.1, 0.2]
    assert curve.loss.tolist() == [2.0, 5.0]
    assert curve.lane == 2


# ------------------------------------------------------------------------------ smoothing


def _smoothed_slowly(values: np.ndarray, beta: float) -> list[float]:
    weights = [beta ** np.arange(end, -1.0, -1.0) for end in range(len(values))]
    return [float(weight @ values[: len(weight)] / weight.sum()) for weight in weights]


@given(values=losses, beta=st.sampled_from([0.0, 0.5, 0.9, 0.98]))
def test_smoothing_is_the_weighted_mean_of_the_past(values: np.ndarray, beta: float) -> None:
    largest = max(1.0, float(np.abs(values).max()))
    expected = _smoothed_slowly(values, beta)
    np.testing.assert_allclose(smooth(values, beta), expected, rtol=1e-9, atol=1e-9 * largest)


@given(value=st.floats(-1e9, 1e9), count=st.integers(1, 300))
def test_a_constant_loss_is_smoothed_to_that_constant(value: float, count: int) -> None:
    # The peers' smoothing starts at 0: a constant 1.0 is drawn as 0.505, 0.673, ...
    np.testing.assert_allclose(smooth(np.full(count, value)), value, rtol=1e-12)


@given(values=losses, shift=st.floats(-100, 100), scale=st.floats(1e-3, 1e3))
def test_smoothing_moves_and_scales_with_the_loss(values, shift: float, scale: float) -> None:
    largest = max(1.0, float(np.abs(values).max())) * scale + 100
    np.testing.assert_allclose(
        smooth(scale * values + shift), scale * smooth(values) + shift, atol=1e-9 * largest
    )


# ---------------------------------------------------------------------------------- noise


@pytest.mark.parametrize("sd", [0.01, 1.0, 30.0])
def test_the_noise_of_white_noise_on_a_slope_is_its_standard_deviation(sd: float) -> None:
    random = np.random.default_rng(0)
    values = 5.0 - np.linspace(0, 3, 4000) + sd * random.standard_normal(4000)
    assert noise(values) == pytest.approx(sd, rel=0.1)


def test_an_explosion_at_the_end_does_not_count_as_noise() -> None:
    random = np.random.default_rng(1)
    values = np.r_[random.standard_normal(200), 10.0 ** np.arange(10)]
    assert noise(values) == pytest.approx(1.0, rel=0.2)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 9.0], [2.0] * 50])
def test_too_few_or_constant_values_have_no_noise(values: list[float]) -> None:
    assert noise(values) == 0.0
