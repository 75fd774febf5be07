from __future__ import annotations

import math

import numpy as np
import pytest

from lrsearch.tutorial import decay


@pytest.fixture(scope="module")
def result() -> decay.Decay:
    return decay.compute(seeds=3)


def test_the_decay_has_an_infinite_sum_and_a_finite_sum_of_squares() -> None:
    """Against the integrals: lr * c * ln(1 + n / c), and at most lr**2 * (hold + 1 + c)."""
    lr, constant, hold, n = 0.5, 100.0, 50, 1_000_000
    eta = decay.robbins_monro(lr, constant, hold)
    rates = np.array([eta(t) for t in range(n)])
    falling = rates[hold:]
    integral = lr * constant * math.log(1.0 + len(falling) / constant)
    assert integral <= falling.sum() <= integral + lr
    assert (rates**2).sum() <= lr**2 * (hold + 1 + constant)


def test_the_rate_is_held_first_and_halved_after_the_constant() -> None:
    eta = decay.robbins_monro(0.5, constant=100.0, hold=10)
    assert [eta(t) for t in (0, 10, 110, 310)] == [0.5, 0.5, 0.25, 0.125]


def test_every_arm_begins_with_the_same_nets_on_the_same_samples() -> None:
    short = decay.compute(seeds=2, updates=1000)
    assert short.updates.tolist() == [0.0, 500.0, 1000.0]
    for arm in short.arms:
        assert arm.losses.shape == (2, 3)
        assert np.array_equal(arm.losses[:, 0], short.arms[0].losses[:, 0])
    held, constant = short["decay after half the run"], short["constant 0.5"]
    assert np.array_equal(held.losses, constant.losses)  # the first half is the same


@pytest.mark.slow
def test_decaying_late_ends_lower_than_a_constant_rate_for_every_net(result: decay.Decay) -> None:
    constant = result["constant 0.5"].final
    late = result["decay after half the run"].final
    assert (late < constant).all()
    assert late.mean() < 0.75 * constant.mean()
    assert result.wins == 3


@pytest.mark.slow
def test_decaying_at_once_leaves_the_net_on_its_plateau(result: decay.Decay) -> None:
    early = result["decay from the first update"].final
    assert (early > result["decay after half the run"].final).all()
    assert (early > 0.02).all()


@pytest.mark.slow
def test_text_table_and_figure_compare_all_arms(result: decay.Decay) -> None:
    rows = decay.table(result).rows
    assert [row[0] for row in rows] == list(decay.ARMS)
    mean = float(result["constant 0.5"].final.mean())
    assert rows[0][2].startswith(decay.number(mean))
    assert "lower in 3 of 3 seeds" in decay.tell(result)
    (ax,) = decay.draw(result).axes
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == list(decay.ARMS)
