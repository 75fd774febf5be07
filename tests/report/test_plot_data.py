from __future__ import annotations

import math

import numpy as np
import pytest

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Outcome, Status
from lrsearch.report.plot_data import Climb, ShortRuns, Trials, plot_data
from tests.report import outcomes
from tests.report.outcomes import EVERY_KIND, NAN, broken_line, outcome_of, sweep, unanswered


def climb(outcome: Outcome) -> Climb:
    data = plot_data(outcome)
    assert isinstance(data, Climb)
    return data


def trials(outcome: Outcome) -> Trials:
    data = plot_data(outcome)
    assert isinstance(data, Trials)
    return data


def test_every_raw_loss_of_the_curve_that_was_read_is_a_point() -> None:
    curve = broken_line()
    data = climb(outcome_of(curve))
    assert data.points == tuple(zip(curve.lr.tolist(), curve.loss.tolist(), strict=True))


def test_other_lanes_are_scouts() -> None:
    scout = Curve([1e-6, 1e-3, 1.0], [2.0, 1.9, NAN], Stop.NOT_FINITE)
    data = climb(outcome_of(scout, broken_line()))
    assert data.scouts == ((1e-6, 2.0), (1e-3, 1.9))
    assert len(data.points) == 81


def test_a_zoom_without_a_fall_leaves_the_first_ladder_as_the_curve_that_was_read() -> None:
    zoom = Curve(np.geomspace(1e-2, 1e-1, 20), np.ones(20), lane=1)
    outcome = outcome_of(broken_line(), method="ladder")
    both = Outcome(**{**vars(outcome), "curves": (*outcome.curves, zoom)})
    data = climb(both)
    assert len(data.points) == 81
    assert len(data.scouts) == 20


@pytest.mark.parametrize("shift", [0.0, -100.0])
def test_the_fitted_line_has_the_corners_of_the_curve(shift: float) -> None:
    first, begin, end, last = climb(outcome_of(broken_line(shift=shift))).fit
    assert first == pytest.approx((1e-4, shift + 2.0))
    assert np.log10([begin[0], end[0]]) == pytest.approx([-3.0, -1.0], abs=0.15)
    assert [begin[1], end[1], last[1]] == pytest.approx([shift + 2.0, shift + 1.0, shift + 1.0])


def test_the_answer_and_its_interval_are_those_of_the_outcome() -> None:
    outcome = outcome_of(broken_line())
    data = climb(outcome)
    assert (data.lr, data.interval) == (outcome.lr, (outcome.low, outcome.high))
    assert data.title == f"Learning rate {outcome.lr:.3g}"


def test_the_average_of_a_constant_is_that_constant() -> None:
    lrs = np.geomspace(1e-4, 1.0, 40)
    data = climb(unanswered(Status.NO_SIGNAL, Curve(lrs, np.full(40, -7.5))))
    assert [loss for _, loss in data.trend] == pytest.approx([-7.5] * 40, abs=1e-9)


def test_the_average_of_a_straight_line_is_that_line() -> None:
    lrs = np.geomspace(1e-4, 1.0, 40)
    line = 3.0 - np.linspace(0.0, 2.0, 40)
    data = climb(unanswered(Status.NO_SIGNAL, Curve(lrs, line)))
    assert [loss for _, loss in data.trend] == pytest.approx(line.tolist())


def test_several_updates_on_a_rung_are_averaged_into_one_value() -> None:
    data = climb(EVERY_KIND["several updates on a rung"])
    assert (len(data.points), len(data.trend)) == (63, 21)


def test_an_explosion_is_left_out_of_the_frame_and_of_the_average() -> None:
    data = climb(outcomes.exploding())
    bottom, top = data.y_limits
    assert 0.8 < bottom < 1.0
    assert 3.0 <= top < 3.5  # one drop above the start
    assert max(loss for _, loss in data.points) == 1e6
    assert data.trend[-1] == (2.0, top)  # leaves the frame at the first exploded loss
    assert data.trend[-2][1] == pytest.approx(1.0, abs=1e-6)


def test_where_the_loss_broke_is_told() -> None:
    assert climb(outcomes.exploding()).broke_at == 8.0
    assert climb(outcome_of(broken_line())).broke_at is None


def test_without_a_fall_the_noise_is_a_band_about_the_median() -> None:
    data = climb(outcomes.flat(sd=0.1))
    assert data.fit == ()
    assert data.lr is None
    assert data.interval is None
    assert data.band is not None
    low, high = data.band
    assert (low + high) / 2.0 == pytest.approx(np.median([loss for _, loss in data.points]))
    assert high - low == pytest.approx(4 * 0.1, rel=0.5)


@pytest.mark.parametrize("name", EVERY_KIND)
def test_limits_are_finite_ordered_and_hold_the_answer(name: str) -> None:
    data = plot_data(EVERY_KIND[name])
    bottom, top = data.y_limits
    assert math.isfinite(bottom)
    assert bottom < top < math.inf
    left, right = data.x_limits
    assert 0.0 < left < right < math.inf
    assert right / left >= 9.99
    assert data.lr is None or left < data.lr < right


@pytest.mark.parametrize("status", [status for status in Status if not status.found])
def test_a_failure_is_told_in_words(status: Status) -> None:
    title = climb(unanswered(status, Curve([0.1], [1.0]))).title
    assert title.startswith("No learning rate: ")
    words = title.removeprefix("No learning rate: ")
    assert status.value.lower().startswith(words.lower())
    assert not words.endswith(".")


def test_an_answer_at_the_edge_says_so() -> None:
    assert climb(EVERY_KIND["at the edge"]).title.endswith("at the edge of the range searched")


def test_a_sweep_has_one_point_per_lane_and_names_those_that_broke() -> None:
    data = trials(sweep())
    assert data.points == ((1e-3, 3.0), (1e-2, 2.0), (1e-1, 2.5))
    assert data.broken == (1.0, 10.0)
    assert data.start == 4.0
    assert data.held_out is False
    assert (data.lr, data.interval) == (1e-2, (1e-3, 1e-1))


def test_lanes_of_a_schedule_stand_at_their_peak_even_if_they_broke_before_it() -> None:
    data = trials(sweep((0.1, 1.0, 0.5)))
    assert [lr for lr, _ in data.points] == [1e-3, 1e-2, 1e-1]
    assert data.broken == pytest.approx((1.0, 10.0))


def test_held_out_losses_are_shown_when_they_were_measured() -> None:
    lanes = tuple(
        Curve([lr, lr], [4.0, 1.0], lane=lane, evaluations=((2, loss),))
        for lane, (lr, loss) in enumerate([(0.1, 0.7), (0.2, 0.6)])
    )
    data = trials(Outcome(**{**vars(sweep()), "curves": lanes}))
    assert data.held_out is True
    assert data.points == ((0.1, 0.7), (0.2, 0.6))


def test_a_race_has_a_line_per_length_and_no_point_for_its_scout() -> None:
    lanes = (
        Curve([1e-4, 1e-2, 1.0], [4.0, 4.0, 9.0], lane=0, evaluations=((0, 4.1),)),
        Curve([0.2, 0.2], [4.0, 3.0], lane=1, evaluations=((2, 2.9),)),
        Curve([0.1, 0.1], [4.0, 3.5], lane=2, evaluations=((2, 3.4),)),
        Curve([0.15] * 4, [4.0, 3.0, 2.0, 1.0], lane=3, evaluations=((2, 2.8), (4, 0.9))),
    )
    settings = {"method": "race", "train_steps": 8}
    data = trials(Outcome(**{**vars(sweep()), "curves": lanes, "settings": settings}))
    assert data.rungs == ((2, ((0.1, 3.4), (0.2, 2.9))), (4, ((0.15, 0.9),)))
    assert data.points == ((0.1, 3.4), (0.15, 0.9), (0.2, 2.9))


def test_lanes_worse_than_the_start_do_not_stretch_the_frame() -> None:
    lanes = (Curve([0.1], [4.0]), Curve([1.0, 1.0], [4.0, 1e9]), Curve([0.2, 0.2], [4.0, 1.0]))
    _, top = trials(Outcome(**{**vars(sweep()), "curves": lanes})).y_limits
    assert 4.0 < top < 4.5


def test_a_method_of_the_users_own_is_drawn_as_a_climb() -> None:
    outcome = outcome_of(broken_line())
    assert isinstance(plot_data(Outcome(**{**vars(outcome), "settings": {}})), Climb)


def short(outcome: Outcome) -> ShortRuns:
    data = plot_data(outcome)
    assert isinstance(data, ShortRuns)
    return data


def test_short_runs_show_their_last_third_and_its_mean() -> None:
    data = short(outcomes.short_runs())
    assert [lr for lr, _ in data.points] == [1e-3] * 3 + [1e-2] * 3 + [1e-1] * 3
    means = [sum(loss for lr, loss in data.points if lr == at) / 3 for at in (1e-3, 1e-2, 1e-1)]
    assert [loss for _, loss in data.means] == pytest.approx(means)
    assert data.held_out == ()
    assert len(data.climb) == 29


def test_short_runs_show_held_out_losses_when_there_are_any() -> None:
    data = short(outcomes.short_runs(held_out=True))
    assert data.held_out == ((1e-3, 1.9), (1e-2, 1.0), (1e-1, 1.2))


def test_the_noise_band_of_short_runs_lies_about_the_one_that_moved_least() -> None:
    data = short(outcomes.short_runs(noise=0.05))
    assert data.band is not None
    assert data.band == pytest.approx((data.means[0][1] - 0.1, data.means[0][1] + 0.1))
    assert short(outcomes.short_runs(noise=None)).band is None


def test_a_climb_that_explodes_does_not_flatten_the_short_runs() -> None:
    bottom, top = short(outcomes.short_runs()).y_limits
    assert 0.8 < bottom < 1.05
    assert 2.0 < top < 4.0


def test_a_climb_with_a_fall_has_its_noise_about_the_level_before_it() -> None:
    curve = broken_line()
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(curve))
    data = climb(outcome_of(Curve(curve.lr, curve.loss + noise)))
    assert data.band is not None
    low, high = data.band
    assert (low + high) / 2.0 == pytest.approx(2.0, abs=0.03)
    assert high - low == pytest.approx(4 * 0.05, rel=0.4)
