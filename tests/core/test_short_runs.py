from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.short_runs import read_short_runs

LRS = (1e-4, 1e-3, 1e-2)


def runs(
    learned: tuple[float, ...], noise: float = 0.1, drift: float = 0.0, seed: int = 0
) -> list[Curve]:
    """Runs of 20 updates that fall by ``learned`` in all, on batches that all of them share."""
    batches = noise * np.random.default_rng(seed).standard_normal(20)
    place = np.arange(20) / 19.0
    return [
        Curve(np.full(20, lr), 2.0 + batches + drift * place - fall * place, lane=lane)
        for lane, (lr, fall) in enumerate(zip(LRS, learned, strict=True))
    ]


def test_the_answer_is_the_weighted_mean_of_the_learning_rates_between_the_runs() -> None:
    reading = read_short_runs(runs((0.0, 1.0, 0.0), noise=0.0))
    assert reading is not None
    # exp(6 t) over two mirrored slopes of one decade each.
    t = np.linspace(0.0, 1.0, 20_001)
    weight = np.exp(6.0 * t)
    assert reading.at == pytest.approx(-3.0, abs=1e-6)
    expected = math.sqrt(float(weight @ (1.0 - t) ** 2 / weight.sum()))
    assert reading.spread == pytest.approx(expected, rel=0.03)


def test_the_answer_lies_towards_the_neighbour_that_learned_more() -> None:
    left, right = (
        read_short_runs(runs(learned)) for learned in ((0.0, 1.0, -1.0), (0.0, 1.0, 0.9))
    )
    assert left is not None
    assert right is not None
    assert -3.1 < left.at < -2.9 < right.at < -2.0
    assert left.best == right.best == 1


def test_order_of_the_runs_does_not_matter() -> None:
    made = runs((0.0, 1.0, 0.5))
    one, other = read_short_runs(made), read_short_runs(made[::-1])
    assert one is not None
    assert other is not None
    assert (one.at, one.spread, one.noise) == (other.at, other.spread, other.noise)


@given(shift=st.floats(-1e3, 1e3), scale=st.floats(1e-3, 1e3))
def test_neither_shift_nor_scale_of_the_loss_matters(shift: float, scale: float) -> None:
    plain = read_short_runs(runs((0.0, 1.0, 0.5)))
    moved = [
        Curve(run.lr, scale * (run.loss + shift), lane=run.lane) for run in runs((0.0, 1.0, 0.5))
    ]
    other = read_short_runs(moved)
    assert plain is not None
    assert other is not None
    assert other.at == pytest.approx(plain.at, abs=1e-6)
    assert other.significant is plain.significant is True
    assert other.noise == pytest.approx(scale * plain.noise, rel=1e-6)


@pytest.mark.parametrize("drift", [-3.0, 0.0, 3.0])
def test_a_drift_that_all_runs_share_is_no_learning(drift: float) -> None:
    reading = read_short_runs(runs((0.0, 0.0, 0.0), drift=drift))
    assert reading is not None
    assert not reading.significant
    learning = read_short_runs(runs((0.0, 0.3, 0.1), drift=drift))
    assert learning is not None
    assert learning.significant
    assert learning.at == pytest.approx(-3.0, abs=0.3)


def test_noise_that_no_run_shares_is_no_learning() -> None:
    fooled = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        made = [Curve(np.full(20, lr), random.standard_normal(20)) for lr in LRS]
        reading = read_short_runs(made)
        assert reading is not None
        fooled += reading.significant
    assert fooled <= 20  # the best of three is looked at, on two stretches


def test_the_noise_is_that_of_the_batches() -> None:
    found = [read_short_runs(runs((0.0, 1.0, 0.5), noise=0.2, seed=seed)) for seed in range(20)]
    assert np.mean([reading.noise for reading in found if reading]) == pytest.approx(0.2, rel=0.1)


def test_a_best_run_at_the_lowest_lr_must_beat_weights_that_stand_still() -> None:
    made = runs((0.5, 0.0, -1.0))
    still = Curve(np.geomspace(1e-9, 1e-8, 20), runs((0.0,) * 3)[0].loss)
    alone, compared = read_short_runs(made), read_short_runs(made, still)
    assert alone is not None
    assert compared is not None
    assert (alone.significant, compared.significant) == (False, True)
    assert compared.best == 0
    assert compared.at < -3.7


def test_held_out_losses_come_before_training_losses() -> None:
    made = [
        Curve(run.lr, run.loss, lane=run.lane, evaluations=((20, loss),))
        for run, loss in zip(runs((0.0, 0.1, 1.0)), (2.0, 1.0, 1.9), strict=True)
    ]
    reading = read_short_runs(made)
    assert reading is not None
    assert reading.best == 1
    assert reading.learned == pytest.approx([0.0, 1.0, 0.1])


def test_a_run_that_broke_has_learned_nothing() -> None:
    made = runs((0.0, 1.0, 0.0))
    made[2] = Curve([1e-2] * 3, [2.0, 1.0, math.nan], Stop.NOT_FINITE, 2)
    reading = read_short_runs(made)
    assert reading is not None
    assert reading.learned.tolist() == [0.0, 1.0, -1.0]
    assert reading.at < -3.0


def test_no_run_that_ended_gives_no_reading() -> None:
    broken = [Curve([lr] * 2, [2.0, math.nan], Stop.NOT_FINITE) for lr in LRS]
    assert read_short_runs(broken) is None


def test_a_share_of_the_improvement_is_found_between_the_runs() -> None:
    reading = read_short_runs(runs((0.0, 0.5, 1.0), noise=0.0))
    assert reading is not None
    assert reading.crossing(0.25) == pytest.approx(-3.5, abs=1e-6)
    assert reading.crossing(0.75) == pytest.approx(-2.5, abs=1e-6)
    assert reading.crossing(0.0) == pytest.approx(-4.0)


def test_the_least_bad_of_runs_that_all_do_harm_is_no_answer() -> None:
    random = np.random.default_rng(0)
    still = Curve(np.full(8, 1e-8), 3.0 + 0.1 * random.standard_normal(8))
    level = {1.0: 7.0, 10.0: 6.0, 100.0: 6.5}
    runs = [
        Curve(np.full(12, lr), end + 0.1 * random.standard_normal(12)) for lr, end in level.items()
    ]
    alone, beside = read_short_runs(runs), read_short_runs(runs, still)
    assert alone is not None
    assert beside is not None
    assert alone.significant
    assert not beside.significant
