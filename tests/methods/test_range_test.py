from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrsearch.core.curve import Curve, Stop
from lrsearch.core.outcome import Outcome, Status
from lrsearch.core.search import Plan, Probe, drive, run_search
from lrsearch.errors import InvalidArgument
from lrsearch.methods.range_test import RangeTest
from tests.core.toys import Judged, Quadratic, Scripted, SineNet

CLIMB = 0


def runs_of(outcome: Outcome) -> list[Curve]:
    """The short runs after the climb."""
    return list(outcome.curves[1:])


def find(trainable: Any, **options: Any) -> Outcome:
    return run_search(trainable, RangeTest(**options), Plan())


def noisy(seed: int = 0, **options: Any) -> Quadratic:
    """Twenty directions with curvatures over three decades; gradient descent diverges at 0.02."""
    return Quadratic(np.geomspace(0.1, 100.0, 20), noise=0.1, seed=seed, **options)


PROBLEMS: dict[str, Callable[[int], Any]] = {"quadratic": noisy, "two-layer net": SineNet}


# ----------------------------------------------------------------------- bounds that are given


@settings(max_examples=50)
@given(min_lr=st.floats(1e-9, 1e-4), factor=st.floats(2.0, 1e5), steps=st.integers(10, 120))
def test_given_bounds_are_respected_exactly(min_lr: float, factor: float, steps: int) -> None:
    # A flat problem ends by itself at no lr, so every step asked for is made.
    outcome = find(Quadratic((0.0,)), min_lr=min_lr, max_lr=min_lr * factor, steps=steps)
    (curve,) = outcome.curves
    assert len(curve) == outcome.cost.steps == steps
    assert (curve.lr[0], curve.lr[-1]) == (min_lr, min_lr * factor)
    assert (np.diff(curve.lr) > 0).all()


def test_a_given_lower_bound_is_where_the_climb_begins_and_no_run_is_below() -> None:
    outcome = find(noisy(), min_lr=3e-4)
    assert outcome.curves[CLIMB].lr[0] == 3e-4
    assert min(curve.lr.min() for curve in outcome.curves) == 3e-4
    assert outcome.status is Status.FOUND


def test_a_given_upper_bound_is_where_the_climb_ends_and_no_run_is_above() -> None:
    outcome = find(noisy(), max_lr=0.015)
    assert outcome.curves[CLIMB].lr[-1] == 0.015
    assert max(curve.lr.max() for curve in outcome.curves) == 0.015


@pytest.mark.parametrize("bounds", [{"min_lr": 0.005}, {"max_lr": 1e-5}, {"max_lr": 1.0}])
def test_an_answer_never_leaves_a_bound_that_was_given(bounds: dict[str, float]) -> None:
    for seed in range(5):
        outcome = find(noisy(seed), **bounds)
        assert outcome.status.found
        assert outcome.lr >= bounds.get("min_lr", 0.0)
        assert outcome.lr <= bounds.get("max_lr", math.inf)


def test_a_range_that_ends_before_the_loss_has_fallen_is_at_the_edge() -> None:
    outcome = find(noisy(), min_lr=1e-7, max_lr=1e-3)
    assert outcome.status is Status.AT_EDGE
    assert outcome.curves[0].lr[-1] == 1e-3
    assert "Widen" in outcome.status.value


# ---------------------------------------------------------------------- bounds that are found


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("steps", [10, 40, 100, 300])
@pytest.mark.parametrize("seed", range(3))
def test_climb_and_runs_together_keep_to_the_steps(name: str, steps: int, seed: int) -> None:
    outcome = find(PROBLEMS[name](seed), steps=steps)
    runs = runs_of(outcome)
    planned = runs[:3] if steps == 10 else runs
    assert 0.6 * steps < sum(map(len, [outcome.curves[CLIMB], *planned])) <= steps
    assert len(outcome.curves[CLIMB]) <= steps // 2
    assert len({len(run) for run in runs}) == 1
    # In so few steps noise may let the lowest look as good as any, and lower ones are tried.
    assert all(run.lr[0] < min(other.lr[0] for other in runs[:3]) for run in runs[len(planned) :])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4])
def test_the_range_is_found_at_any_scale_of_the_lr(seed: int, size: float) -> None:
    # Curvatures times 1e4 want learning rates divided by 1e4.
    outcome = find(Quadratic(size * np.geomspace(0.1, 100.0, 20), noise=0.1, seed=seed))
    assert outcome.curves[CLIMB].stop is Stop.DIVERGED
    assert 0.02 / size < outcome.curves[CLIMB].lr[-1] < 0.02 / size * 30
    lowest, *_, highest = (run.lr[0] for run in runs_of(outcome))
    assert lowest < 1e-2 * highest
    assert highest < 2.0 * 0.02 / size


@pytest.mark.parametrize("name", PROBLEMS)
def test_climb_and_runs_start_from_the_same_state_on_the_same_batches(name: str) -> None:
    curves = find(PROBLEMS[name](0)).curves
    assert len({curve.loss[0] for curve in curves}) == 1
    assert all(np.ptp(run.lr) == 0.0 for run in curves[1:])


def test_divergence_ends_the_climb_before_the_last_lr_asked_for() -> None:
    problem = noisy()
    outcome = find(problem, min_lr=1e-6, max_lr=1e3, steps=200)
    (curve,) = outcome.curves
    assert curve.stop is Stop.DIVERGED
    assert curve.lr[-1] < 0.2
    assert outcome.status is Status.FOUND


def test_a_problem_that_never_diverges_is_run_past_the_edge_until_it_has_fallen() -> None:
    class Sign(Quadratic):
        """Steps of the size of the lr towards zero, from far away: sign descent."""

        def step(self, lr: float) -> float:
            loss = float(np.abs(self.weights).sum())
            self.weights = self.weights - np.sign(self.weights) * np.minimum(
                lr, np.abs(self.weights)
            )
            return loss

    outcome = find(Sign((1.0,), start=1e7))
    assert outcome.status is Status.FOUND
    assert outcome.curves[CLIMB].lr[-1] == 1e4  # its own end
    assert max(run.lr[0] for run in runs_of(outcome)) > 1e4
    assert 1e3 < outcome.lr < 1e7


# --------------------------------------------------------------------------- what it answers


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("steps", [100, 200])
def test_the_answer_moves_little_with_the_seed(name: str, steps: int) -> None:
    # Fault 15: with the peers it moves by decades.
    outcomes = [find(PROBLEMS[name](seed), steps=steps) for seed in range(10)]
    found = [math.log10(outcome.lr) for outcome in outcomes if outcome.status.found]
    assert len(found) >= 8
    assert np.std(found) < 0.3


@pytest.mark.parametrize("shift", [-100.0, 30.0])
@pytest.mark.parametrize("scale", [1e-3, 1000.0])
def test_the_answer_does_not_care_how_the_loss_is_shifted_or_scaled(shift, scale) -> None:
    plain = find(noisy())
    for other in (find(noisy(shift=shift)), find(noisy(scale=scale))):
        assert other.status is plain.status
        assert other.lr == pytest.approx(plain.lr, rel=1e-6)
        assert [len(curve) for curve in other.curves] == [len(curve) for curve in plain.curves]


@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_answer_is_a_stable_lr_that_learns(noise: float) -> None:
    for top in (0.3, 10.0, 4000.0):
        problem = Quadratic(np.geomspace(top / 100, top, 10), noise=noise)
        outcome = find(problem)
        assert outcome.status is Status.FOUND
        assert 1e-4 / top < outcome.lr < 2.0 / top
        assert problem.closed_form(outcome.lr, 3000) < 0.5 * problem.closed_form(0.0, 0)


def test_a_used_trainable_gives_the_answer_of_a_fresh_one() -> None:
    # Fault 3: a peer started at global step 50 stops after one point.
    used = noisy()
    used.scale = 1.0
    before = used.snapshot()
    find(used)
    assert repr(used.snapshot()) == repr(before)
    again = find(used)
    fresh = find(noisy())
    assert again.curves == fresh.curves
    assert again.lr == fresh.lr


def test_a_problem_that_no_lr_changes_is_told_as_such() -> None:
    class Deaf(Quadratic):
        def step(self, lr: float) -> float:
            return 2.3 + 0.1 * float(self.random.standard_normal())

    for seed in range(10):
        outcome = find(Deaf(seed=seed))
        assert outcome.status is Status.NO_EFFECT
        assert "gradients reach the parameters" in outcome.why


def test_a_problem_without_learning_has_no_signal() -> None:
    class Random(Quadratic):
        """The learning rate changes the loss, but at random."""

        def step(self, lr: float) -> float:
            super().step(lr)
            salt = zlib.crc32(self.weights.tobytes())
            return 2.3 + 0.1 * float(np.random.default_rng(salt).standard_normal())

    for seed in range(10):
        assert find(Random(noise=0.1, seed=seed)).status is Status.NO_SIGNAL


# ------------------------------------------------------------------------------------ broken


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("at", [0, 1])
def test_a_loss_that_is_broken_from_the_start_is_not_blamed_on_the_lr(bad, at: int) -> None:
    outcome = find(Scripted([2.0] * at + [bad] * 300))
    assert outcome.status is Status.NOT_FINITE
    assert outcome.cost.steps == at + 1


@pytest.mark.parametrize("at", [2, 5, 20])
def test_a_batch_that_is_broken_at_any_lr_is_not_blamed_on_the_lr(at: int) -> None:
    outcome = find(Scripted([2.0] * at + [math.nan] * 300))
    assert outcome.status is Status.NOT_FINITE
    assert f"batch {at + 1} " in outcome.why
    # Weights that do not move meet it too.
    assert [len(curve) for curve in outcome.curves] == [at + 1] * 2
    assert outcome.curves[1].role == "baseline"


def test_a_given_lower_bound_that_breaks_everything_is_told_to_be_lowered() -> None:
    outcome = find(Quadratic((1.0, 10.0)), min_lr=1e200)
    assert outcome.status is Status.DIVERGED
    assert "Lower min_lr" in outcome.why


# ----------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"steps": 9}, "steps"),
        ({"steps": 50.5}, "steps"),
        ({"steps": "100"}, "steps"),
        ({"steps": None}, "steps"),
        ({"steps": True}, "steps"),
        ({"min_lr": 0}, "min_lr"),
        ({"min_lr": -1e-3}, "min_lr"),
        ({"min_lr": math.nan}, "min_lr"),
        ({"max_lr": math.inf}, "max_lr"),
        ({"max_lr": "1"}, "max_lr"),
        ({"min_lr": 0.1, "max_lr": 0.1}, "max_lr"),
        ({"min_lr": 0.1, "max_lr": 0.01}, "max_lr"),
        ({"rule": "fastest"}, "rule"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(options, name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: got .* expected"):
        RangeTest(**options)


def test_decisions_depend_on_the_curves_alone() -> None:
    outcome = find(noisy())
    asked: list[list[Probe]] = []

    def measure(probe: Probe) -> Curve:
        asked[-1].append(probe)
        return outcome.curves[probe.lane]

    for _ in range(2):
        asked.append([])
        again = drive(RangeTest(), Plan(), measure)
        assert again.curves == outcome.curves
        assert (again.lr, again.low, again.high) == (outcome.lr, outcome.low, outcome.high)
        assert again.why == outcome.why
    assert asked[0] == asked[1]


# ------------------------------------------------------------------- what comes with the answer


class Shuffled(Quadratic):
    """A noisy quadratic whose noise can be drawn anew."""

    def reshuffle(self, number: int) -> None:
        self.random = np.random.default_rng([self.seed, number])


def test_low_and_high_stand_around_the_answer() -> None:
    for seed in range(5):
        outcome = find(noisy(seed))
        assert outcome.low < outcome.lr <= outcome.high
        assert outcome.high in {run.lr[0] for run in runs_of(outcome)} | {outcome.lr}


def test_the_interval_noise_and_correction_are_told() -> None:
    outcome = find(noisy())
    assert outcome.spread is not None
    assert outcome.interval == pytest.approx(
        (outcome.lr / 10 ** (2 * outcome.spread), outcome.lr * 10 ** (2 * outcome.spread))
    )
    assert outcome.noise is not None
    assert outcome.noise > 0.0
    best = min(runs_of(outcome), key=lambda run: run.loss[-len(run) // 3 :].mean()).lr[0]
    assert outcome.correction == pytest.approx(math.log10(outcome.lr / best))
    assert f"{outcome.lr:.2g}" in outcome.why


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_does_not_shift_the_answer_beyond_its_own_effect(momentum: float) -> None:
    # Heavy ball is stable up to 2 (1 + m) / curvature, and its long-run step is lr / (1 - m).
    outcome = find(Quadratic(np.geomspace(0.1, 100.0, 20), noise=0.1, momentum=momentum))
    assert outcome.status is Status.FOUND
    assert 1e-4 * (1.0 - momentum) < outcome.lr < 2.0 * (1.0 + momentum) / 100.0


def test_repeats_average_in_log_space_on_other_orders_of_the_data() -> None:
    def answer(**options: Any) -> Outcome:
        return find(Shuffled(np.geomspace(0.1, 100.0, 20), noise=0.3), **options)

    once, thrice = answer(), answer(repeats=3)
    assert thrice.cost.steps == pytest.approx(3 * once.cost.steps, rel=0.1)
    parts = [thrice.curves[start : start + 4] for start in (0, 4, 8)]
    assert parts[0] == once.curves
    assert len({part[1].loss[1] for part in parts}) == 3
    assert thrice.spread is not None
    assert 0.0 < thrice.spread < 0.3
    assert abs(math.log10(thrice.lr / once.lr)) < 4.0 * thrice.spread
    assert "3 of 3 repetitions" in thrice.why


def test_repeats_of_data_that_has_one_order_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="reshuffle"):
        find(noisy(), repeats=2)


def test_a_zoom_adds_runs_on_both_sides_of_the_best() -> None:
    plain, zoomed = find(noisy()), find(noisy(), zoom=True)
    assert len(zoomed.curves) > len(plain.curves)
    assert zoomed.cost.steps <= 100
    lrs = sorted(run.lr[0] for run in runs_of(zoomed))
    assert min(np.diff(np.log10(lrs))) == pytest.approx(0.625)


def test_many_steps_are_zoomed_unasked() -> None:
    assert len(find(noisy(), steps=400).curves) > len(find(noisy(), steps=100).curves)
    assert len(find(noisy(), steps=400, zoom=False).curves) == 4


@pytest.mark.parametrize("rule", ["valley", "steepest", "minimum", "slide"])
def test_other_rules_read_a_climb_over_the_range_that_was_found(rule: str) -> None:
    outcome = find(noisy(), rule=rule)
    first, climb = outcome.curves
    assert outcome.status is Status.FOUND
    assert outcome.rule == rule
    assert climb.lr[0] < outcome.lr < climb.lr[-1]
    assert len(first) + len(climb) <= 100


def test_a_judged_problem_is_ranked_by_its_held_out_loss() -> None:
    outcome = find(Judged(np.geomspace(0.1, 100.0, 20), noise=0.1))
    assert outcome.cost.evaluations == 4
    assert outcome.status is Status.FOUND
