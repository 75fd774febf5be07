"""The race: close to the best rate of the planned run, within its budget, at every size."""

from __future__ import annotations

import math
import zlib
from typing import Any

import numpy as np
import pytest

from lrsearch.core.curve import Curve
from lrsearch.core.evidence import BASELINE_LR
from lrsearch.core.outcome import Outcome, Status
from lrsearch.core.schedule import multipliers
from lrsearch.core.search import Plan, Probe, drive, run_search
from lrsearch.errors import InvalidArgument
from lrsearch.methods.race import Race
from tests.core.toys import Judged, Quadratic, Scripted


def race(trainable: Any, steps: int, schedule: str = "constant", **settings: Any) -> Outcome:
    return run_search(trainable, Race(**settings), Plan(steps, schedule))


def planned_run(trainable: Judged, lr: float, steps: int, schedule: str) -> float:
    for multiplier in multipliers(schedule, steps):
        trainable.step(lr * float(multiplier))
    return trainable.exact_loss


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle", "wsd"])
@pytest.mark.parametrize("budget", [1.0, 3.0])
def test_the_answer_reaches_nearly_what_the_best_of_a_sweep_reaches(
    budget: float, schedule: str
) -> None:
    def toy(seed: int = 0) -> Judged:
        return Judged(curvature=(0.1, 1.0, 10.0), noise=0.1, seed=seed)

    answer = race(toy(), 300, schedule, budget=budget)
    grid = 10.0 ** np.arange(-3.0, -0.6, 0.1)
    start = toy().exact_loss

    def mean_loss(lr: float) -> float:
        losses = [planned_run(toy(seed), lr, 300, schedule) for seed in range(8)]
        return float(
            np.mean([min(loss, start) if math.isfinite(loss) else start for loss in losses])
        )

    best = min(mean_loss(lr) for lr in grid)
    assert answer.status is Status.FOUND
    assert (mean_loss(answer.lr) - best) / (start - best) < 0.05


@pytest.mark.parametrize("budget", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("steps", [100, 1000])
def test_the_budget_is_kept(steps: int, budget: float) -> None:
    answer = race(Judged(noise=0.1), steps, budget=budget)
    assert answer.cost.runs is not None
    assert 0.4 * budget < answer.cost.runs < 1.25 * budget


def test_decisions_depend_on_the_curves_alone() -> None:
    plan, answer = Plan(200, "linear", can_evaluate=True), race(Judged(noise=0.1), 200, "linear")
    asked: list[list[Probe]] = []

    def measure(probe: Probe) -> Curve:
        asked[-1].append(probe)
        return answer.curves[probe.lane]

    for _ in range(2):
        asked.append([])
        again = drive(Race(), plan, measure)
        assert again.curves == answer.curves
        assert (again.lr, again.low, again.high) == (answer.lr, answer.low, answer.high)
        assert again.why == answer.why
    assert asked[0] == asked[1]


def test_lanes_start_alike_and_see_the_same_batches() -> None:
    toy = Judged(noise=0.3)
    answer = race(toy, 200)
    first_losses = {float(curve.loss[0]) for curve in answer.curves}
    assert len(first_losses) == 1
    place, lanes = 0, []
    for curve in answer.curves:
        lanes.append(toy.batches[place : place + len(curve)])
        place += len(curve)
    longest = max(lanes, key=len)
    assert all(lane == longest[: len(lane)] for lane in lanes)


def test_without_a_held_out_loss_the_training_loss_ranks() -> None:
    answer = race(Quadratic(curvature=(1.0, 10.0)), 200)
    assert answer.cost.evaluations == 0
    assert 0.02 < answer.lr < 0.2


def test_each_lane_runs_the_whole_shape_of_the_schedule() -> None:
    answer = race(Judged(noise=0.1), 400, "one-cycle")
    assert {curve.role for curve in answer.curves[1:]} == {"rung", "baseline"}
    for curve in answer.curves[1:]:
        if curve.role == "baseline":
            continue
        expected = multipliers("one-cycle", len(curve))
        assert curve.lr / curve.lr.max() == pytest.approx(expected / expected.max())


@pytest.mark.parametrize("steps", [20, 24, 30])
def test_a_budget_too_small_for_a_rung_is_spent_on_a_range_test(steps: int) -> None:
    answer = race(Judged(), steps, budget=0.5)
    assert answer.rule == "default"
    assert f"The budget of {steps // 2} steps is too small for a race" in answer.why
    assert answer.cost.steps <= 1.25 * (steps // 2)


@pytest.mark.parametrize("steps", [1, 5, 15, 19])
def test_a_budget_too_small_for_any_comparison_is_not_spent(steps: int) -> None:
    answer = race(Judged(), steps, budget=0.5)
    assert answer.status is Status.NO_SIGNAL
    assert f"{steps // 2} steps are too few" in answer.why
    assert answer.cost.steps == 0


@pytest.mark.parametrize(("budget", "rungs"), [(0.1, 1), (0.3, 2), (1.0, 3)])
def test_a_small_budget_has_fewer_rungs_rather_than_shorter_ones(budget: float, rungs: int) -> None:
    answer = race(Judged(noise=0.1), 300, budget=budget)
    assert len({len(curve) for curve in answer.curves[1:]}) == rungs


def test_lanes_that_all_break_are_said_to_have_diverged() -> None:
    class Breaks(Quadratic):
        def step(self, lr: float) -> float:
            moved = bool((self.weights != self.start).any())
            loss = super().step(lr if lr != BASELINE_LR else 0.0)
            return math.nan if moved else loss

    answer = race(Breaks(curvature=(1e12,)), 500)
    assert answer.status is Status.DIVERGED
    assert math.isnan(answer.lr)


def test_lanes_with_the_same_losses_at_every_rate_are_told_as_such() -> None:
    answer = race(Scripted(np.ones(5000)), 500)
    assert answer.status is Status.NO_EFFECT


@pytest.mark.parametrize("kind", [Quadratic, Judged])
def test_lanes_of_which_none_learns_give_no_signal(kind: type[Quadratic]) -> None:
    for seed in range(3):
        answer = race(kind(start=0.0, noise=0.3, seed=seed), 300)
        assert answer.status is Status.NO_SIGNAL


def test_an_optimum_beyond_a_bound_is_said_to_be_at_the_edge() -> None:
    answer = race(Judged(), 300, max_lr=0.001)
    assert answer.status is Status.AT_EDGE
    assert answer.lr == pytest.approx(0.001)


def test_not_even_the_scout_goes_beyond_a_bound() -> None:
    answer = race(Judged(), 300, max_lr=0.03)
    assert max(curve.lr.max() for curve in answer.curves) <= 0.03 * (1 + 1e-9)
    assert answer.lr <= 0.03


def test_the_planned_length_is_needed() -> None:
    with pytest.raises(InvalidArgument, match="train_steps"):
        run_search(Judged(), Race(), Plan())


@pytest.mark.parametrize(
    "settings",
    [{"budget": 0}, {"budget": math.nan}, {"min_lr": -1}, {"min_lr": 1.0, "max_lr": 0.1}],
)
def test_settings_that_cannot_be_used_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        Race(**settings)


class TestHardCases:
    def test_a_loss_that_reaches_zero(self) -> None:
        answer = race(Judged(curvature=(1.0, 1.0)), 400, budget=3.0)
        assert min(loss for c in answer.curves for _, loss in c.evaluations) < 1e-20
        assert answer.status is Status.FOUND
        assert abs(1.0 - answer.lr) ** (2 * 400) < 1e-6  # of its loss, the planned run keeps

    def test_a_held_out_loss_that_rises_in_every_lane_gives_no_answer(self) -> None:
        class Overfits(Quadratic):
            def evaluate(self) -> float:
                return 1.0 + float(np.abs(self.weights - self.start).sum())

        answer = race(Overfits(), 300)
        assert answer.status is Status.NO_SIGNAL
        assert math.isnan(answer.lr)

    def test_a_loss_that_falls_only_after_some_updates_is_waited_for(self) -> None:
        class Late(Judged):
            made = 0

            def step(self, lr: float) -> float:
                self.made += 1
                return super().step(lr)

            def evaluate(self) -> float:
                return super().evaluate() if self.made > 4 else 5.5 + 0.1 * (self.made > 0)

            def snapshot(self) -> Any:
                return super().snapshot(), self.made

            def restore(self, snapshot: Any, /) -> None:
                state, self.made = snapshot
                super().restore(state)

        answer = race(Late(), 300)
        assert answer.status is Status.FOUND
        assert 0.01 < answer.lr < 0.2

    def test_a_loss_that_cannot_rise_far_does_not_hide_the_best(self) -> None:
        class Saturates(Judged):
            """Steps are clipped and the loss is bounded, so that nothing ever diverges."""

            def step(self, lr: float) -> float:
                before = self.weights
                super().step(lr)
                self.weights = np.clip(self.weights, -2.0, 2.0) if lr < 1e-3 else 0 * before + 2.0
                return min(self.exact_loss, 8.0)

        answer = race(Saturates(curvature=(100.0, 300.0)), 600)
        assert answer.status is Status.FOUND
        assert 1e-4 < answer.lr < 1e-2

    def test_a_lane_that_dies_late_bounds_the_answer(self) -> None:
        class DiesLate(Judged):
            """Breaks when a run has come too far with too large steps, however well it went."""

            travelled = 0.0

            def step(self, lr: float) -> float:
                self.travelled += lr if lr > 0.02 else 0.0
                loss = super().step(lr)
                return loss if self.travelled < 1.0 else math.nan

            def snapshot(self) -> Any:
                return super().snapshot(), self.travelled

            def restore(self, snapshot: Any, /) -> None:
                state, self.travelled = snapshot
                super().restore(state)

        answer = race(DiesLate(curvature=(0.5, 5.0), noise=0.05), 300)
        broken = [c.lr.max() for c in answer.curves[1:] if not np.isfinite(c.loss).all()]
        assert answer.status is Status.FOUND
        assert broken
        assert answer.lr < max(broken)
        assert answer.lr < 0.04

    def test_noise_larger_than_any_difference_makes_the_interval_wide(self) -> None:
        class Noisy(Quadratic):
            """Learns at once at any rate; what is measured afterwards is noise alone."""

            salt = b""

            def evaluate(self) -> float:
                if (self.weights == self.start).all():
                    return 2.0
                return zlib.crc32(self.weights.tobytes() + self.salt) / 2.0**32

            def step(self, lr: float) -> float:
                super().step(lr)
                return 1.0

        def width(trainable: Quadratic) -> float:
            answer = race(trainable, 300)
            return math.log10(answer.high / answer.low)

        widths = []
        for salt in range(5):
            noisy = Noisy(curvature=(0.1, 1.0), noise=0.1)
            noisy.salt = bytes([salt])
            widths.append(width(noisy))
        assert np.median(widths) > 0.9
        assert np.median(widths) > width(Judged(curvature=(0.1, 1.0), noise=0.1))

    def test_a_rate_that_overfits_is_no_answer_where_only_tiny_ones_do_not(self) -> None:
        """The held-out loss rises at all rates that the first rung tries, and never falls there."""

        class Overfits(Judged):
            def evaluate(self) -> float:
                moved = float(np.abs(self.weights - self.start).sum())
                return (moved / 1e-2 - 1.0) ** 2 if moved < 2e-2 else 1.0 + moved

        answer = race(Overfits(curvature=(1.0,)), 300)
        assert not answer.status.found or answer.lr < 1e-3
        assert answer.status.found or "held-out loss did not" in answer.why


def test_the_answer_says_how_many_runs_were_made_and_what_is_plausible() -> None:
    answer = race(Judged(noise=0.1), 300)
    rungs = sum(curve.role == "rung" for curve in answer.curves)
    assert f"Trained {rungs} short versions of your run" in answer.why
    assert f"from {answer.low:.2g} to {answer.high:.2g} is plausible" in answer.why
    assert answer.low < answer.lr < answer.high
