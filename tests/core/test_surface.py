"""The surface of losses: how the best rate moves with the length of the run."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from lrsearch.core.surface import LossSurface, Run, fit_surface

Loss = Callable[[float, float], float]
LENGTHS = (12, 50, 200)
RATES = np.arange(-4.0, 0.01, 0.5)


def passes(updates: int) -> float:
    """Over data that last for as long as the shortest run."""
    return updates / LENGTHS[0]


def runs(loss: Loss, lengths: tuple[int, ...] = LENGTHS) -> list[Run]:
    return [
        Run(float(x), n, loss(float(x), math.log10(n)), passes(n)) for x in RATES for n in lengths
    ]


def limited_by_stability(peak: float, length: float) -> float:
    """Gets better with every update, and with every rate below 10**-1."""
    return 10.0 ** (-0.4 * (peak + length)) + 10.0 ** (4.0 * (peak + 1.0))


def limited_by_overfitting(peak: float, length: float) -> float:
    """Best when learning rate times length is one, whichever they are."""
    return 0.1 + (peak + length) ** 2 + 10.0 ** (4.0 * (peak - 0.5))


def bottom(loss: Loss, updates: int) -> float:
    fine = np.arange(-4.0, 0.5, 0.01)
    return float(fine[np.argmin([loss(x, math.log10(updates)) for x in fine])])


@pytest.mark.parametrize("loss", [limited_by_stability, limited_by_overfitting])
def test_the_drift_is_read_from_the_runs(loss: Loss) -> None:
    surface = fit_surface(runs(loss), start_loss=20.0)
    assert surface is not None
    assert surface.best(800, passes(800)) == pytest.approx(bottom(loss, 800), abs=0.4)


def test_the_two_limits_drift_differently() -> None:
    stable = fit_surface(runs(limited_by_stability), start_loss=20.0)
    overfit = fit_surface(runs(limited_by_overfitting), start_loss=20.0)
    assert stable is not None
    assert overfit is not None
    drifts = [
        each.best(200, passes(200)) - each.best(800, passes(800)) for each in (stable, overfit)
    ]
    assert drifts[0] < drifts[1] - 0.2


def test_more_passes_over_the_same_data_want_lower_rates_than_as_much_new_data() -> None:
    surface = fit_surface(runs(limited_by_overfitting), start_loss=20.0)
    assert surface is not None
    assert surface.best(800, passes(800)) < surface.best(800, passes=4.0)


def test_noise_is_expected_to_grow_with_the_rate() -> None:
    """A lucky run above the bottom moves the answer less than one as far below it."""

    def valley(lucky: float) -> LossSurface:
        found = fit_surface(
            [
                Run(float(x), 200, 1.05 if x == lucky else 1.0 + (float(x) + 2.0) ** 2)
                for x in RATES
            ],
            start_loss=6.0,
        )
        assert found is not None
        return found

    plain = valley(lucky=math.nan).best(200)
    assert abs(valley(-1.0).best(200) - plain) < abs(valley(-3.0).best(200) - plain)


@pytest.mark.parametrize(("scale", "shift"), [(1e-6, 0.0), (1e6, 0.0), (1.0, -50.0), (3.0, 7.0)])
def test_shifting_and_scaling_the_loss_changes_nothing(scale: float, shift: float) -> None:
    plain = fit_surface(runs(limited_by_overfitting), start_loss=20.0)
    other = fit_surface(
        runs(lambda x, t: scale * limited_by_overfitting(x, t) + shift), scale * 20.0 + shift
    )
    assert plain is not None
    assert other is not None
    assert other.best(800) == pytest.approx(plain.best(800), abs=0.03)


def test_a_rate_that_failed_at_some_length_bounds_the_answer_at_longer_ones() -> None:
    def fails(peak: float, length: float) -> float:
        return math.inf if peak + 0.2 * length > -1.3 else limited_by_stability(peak, length)

    surface = fit_surface(runs(fails), start_loss=20.0)
    assert surface is not None
    lowest_failed = min(run.peak for run in runs(fails) if math.isinf(run.loss))
    assert surface.best(800) < lowest_failed


def test_a_failure_below_a_success_is_an_accident() -> None:
    usual = runs(limited_by_stability)
    accident = Run(-3.5, 12, math.inf)
    with_it = fit_surface([run for run in usual if run.peak != -3.5] + [accident], 20.0)
    without = fit_surface([run for run in usual if run.peak != -3.5], 20.0)
    assert with_it is not None
    assert without is not None
    assert with_it.best(800) == without.best(800)


def test_a_rate_that_a_long_run_bore_may_be_the_answer_although_the_next_one_failed() -> None:
    """The margin below failures is for runs that are longer than any that was made."""
    bore = [run for run in runs(limited_by_stability) if run.peak <= -1.5]
    surface = fit_surface([*bore, Run(-1.3, 200, math.inf)], start_loss=2000.0)
    assert surface is not None
    assert surface.best(200, passes(200)) == pytest.approx(-1.6, abs=0.02)
    assert surface.best(800, passes(800)) < -1.7


def test_where_all_is_known_the_least_regret_is_at_the_best() -> None:
    surface = fit_surface(runs(limited_by_overfitting), start_loss=20.0)
    assert surface is not None
    best = surface.best(200, passes(200))
    assert surface.least_regret(200, passes(200)) == pytest.approx(best, abs=0.1)


def test_the_least_regret_keeps_away_from_the_steeper_side() -> None:
    """Both ends were seen: a slow fall from below, and a wall; the bottom lies between two runs."""
    wall = [Run(x, 200, loss) for x, loss in [(-3.0, 1.3), (-2.0, 1.0), (-1.0, 1.05), (-0.6, 3.9)]]
    surface = fit_surface(wall, start_loss=4.0)
    assert surface is not None
    assert surface.least_regret(200) <= surface.best(200)


def test_far_beyond_the_runs_the_least_regret_is_well_below_a_wall() -> None:
    wall = [Run(x, 50, loss) for x, loss in [(-4.0, 2.0), (-3.0, 1.2), (-2.0, 1.0), (-1.0, 3.9)]]
    surface = fit_surface(wall, start_loss=4.0)
    assert surface is not None
    assert surface.least_regret(800) < surface.best(800) - 0.2


def test_the_least_regret_is_the_same_every_time() -> None:
    surfaces = [fit_surface(runs(limited_by_stability), start_loss=20.0) for _ in range(2)]
    answers = [surface.least_regret(800, passes(800)) for surface in surfaces if surface]
    assert answers[0] == answers[1]


@pytest.mark.parametrize("losses", [(), (3.0,), (1.0, 3.0), (math.inf, math.nan)])
def test_nothing_is_said_without_two_runs_that_learned(losses: tuple[float, ...]) -> None:
    assert fit_surface([Run(-float(k), 10, one) for k, one in enumerate(losses)], 2.0) is None


def test_losses_closer_than_their_noise_count_as_equal() -> None:
    sure = runs(limited_by_overfitting)
    unsure = [replace(run, error=4.0) for run in sure]
    rough, fine = (fit_surface(each, 20.0) for each in (unsure, sure))
    assert rough is not None
    assert fine is not None
    assert rough.floor > 2.0 * fine.floor


def test_equal_losses_are_no_reason_to_fail() -> None:
    surface = fit_surface([Run(-float(k), 10, 1.0) for k in range(4)], start_loss=2.0)
    assert surface is not None
    assert math.isfinite(surface.best(100))
