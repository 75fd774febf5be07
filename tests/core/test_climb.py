"""Where a climb begins to do harm."""

from __future__ import annotations

import numpy as np
import pytest

from lrsearch.core.climb import divergence, harmless
from lrsearch.core.curve import Curve

LRS = np.logspace(-8, 4, 25)


def climb(harm_from: int, high: float, noise: float = 0.0, seed: int = 0) -> Curve:
    """Losses of 2, with noise, then falling a little, then ``high``."""
    loss = np.full(len(LRS), 2.0)
    loss[harm_from - 3 : harm_from] = 1.6
    loss[harm_from:] = high
    return Curve(LRS, loss + noise * np.random.default_rng(seed).normal(size=len(LRS)))


@pytest.mark.parametrize("high", [3.0, 1e3, 1e30, float("inf"), float("nan")])
def test_the_last_update_before_which_the_loss_was_still_low(high: float) -> None:
    assert harmless(climb(15, high)) == 14


@pytest.mark.parametrize("seed", range(10))
def test_noise_of_batches_is_no_harm(seed: int) -> None:
    assert harmless(climb(15, 4.0, noise=0.2, seed=seed)) == 14


@pytest.mark.parametrize(("scale", "shift"), [(1e3, 0.0), (1.0, -100.0), (1e-3, 5.0), (1e200, 0.0)])
def test_neither_scale_nor_shift_of_the_loss_matters(scale: float, shift: float) -> None:
    usual = climb(12, 4.0, noise=0.2)
    moved = Curve(LRS, scale * usual.loss + shift)
    assert harmless(moved) == harmless(usual) == 11


def test_one_hard_batch_is_no_harm_and_one_lucky_batch_does_not_undo_it() -> None:
    loss = climb(15, 5.0).loss.copy()
    loss[10], loss[20] = 4.0, 1.0
    assert harmless(Curve(LRS, loss)) == 14


def test_without_harm_it_is_the_last_update() -> None:
    assert harmless(Curve(LRS, np.linspace(3.0, 1.0, len(LRS)))) == len(LRS) - 1


def test_a_constant_loss_with_rounding_errors_does_no_harm() -> None:
    wobble = 2.0 * (1.0 + 1e-8 * np.random.default_rng(0).normal(size=len(LRS)))
    assert harmless(Curve(LRS, wobble)) == len(LRS) - 1


def test_a_climb_that_is_broken_from_the_start_has_none() -> None:
    assert harmless(Curve([1e-8], [float("nan")])) == 0
    assert harmless(Curve([1e-8, 1e-7], [float("inf"), 1.0])) == 0


def test_where_the_loss_explodes_the_climb_has_diverged() -> None:
    exploded = Curve(LRS[:17], [2.0] * 16 + [1e9])  # type: ignore[arg-type]
    assert divergence(exploded) == pytest.approx(np.log10(LRS[16]))


def test_where_the_loss_cannot_rise_far_divergence_is_near_the_first_harm() -> None:
    assert divergence(climb(15, 3.0)) == pytest.approx(np.log10(LRS[14]) + 2.5)
