from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrsearch.core.outcome import Outcome, Status
from lrsearch.core.schedule import multipliers
from lrsearch.core.search import Plan, run_search
from lrsearch.errors import InvalidArgument
from lrsearch.methods.sweep import Sweep
from tests.core.toys import Judged, Quadratic


def sweep(trainable: Any, steps: int = 40, schedule: Any = "constant", **options: Any) -> Outcome:
    return run_search(trainable, Sweep(**options), Plan(train_steps=steps, schedule=schedule))


# ----------------------------------------------------------------------------- closed forms


@settings(max_examples=40)
@given(
    low=st.floats(0.01, 10.0),
    factor=st.floats(1.5, 50.0),
    steps=st.integers(10, 60),  # from fewer no fall can be told from noise
    places=st.integers(1, 6),
)
def test_on_a_quadratic_it_finds_two_over_the_sum_of_the_curvatures(
    low: float, factor: float, steps: int, places: int
) -> None:
    # With curvature * start equal in both directions, the loss after n steps,
    # sum(curvature * start**2 * (1 - lr * curvature)**(2 n)) / 2, is least exactly there.
    curvature = np.array([low, low * factor])
    best = 2.0 / curvature.sum()
    grid = best * 1.3 ** np.arange(-places, 7 - places)
    grid[places] = best
    outcome = sweep(Judged(curvature, start=1.0 / curvature), steps, lrs=grid)
    assert outcome.lr == best
    assert (outcome.low, outcome.high) == (grid[places - 1], grid[min(places + 1, 6)])
    assert outcome.status is (Status.AT_EDGE if places == 6 else Status.FOUND)


@settings(max_examples=30)
@given(lr=st.floats(1e-4, 0.19), steps=st.integers(10, 60))
def test_the_final_loss_of_a_candidate_is_that_of_the_closed_form(lr: float, steps: int) -> None:
    problem = Judged((1.0, 10.0), start=0.7)
    outcome = sweep(problem, steps, lrs=[lr])
    ((made, loss),) = outcome.curves[0].evaluations
    assert made == steps
    assert loss == pytest.approx(float(problem.closed_form(lr, steps)), rel=1e-9, abs=1e-300)
    assert (outcome.lr, outcome.status) == (lr, Status.FOUND)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "one-cycle", "wsd"])
def test_the_best_peak_under_a_schedule_is_that_of_the_product_of_its_steps(schedule) -> None:
    problem, steps = Judged((1.0, 10.0, 40.0), start=(1.0, 0.3, 0.2)), 50
    outcome = sweep(problem, steps, schedule, min_lr=1e-3, max_lr=1.0, per_decade=10)
    lrs = np.array(Sweep(min_lr=1e-3, max_lr=1.0, per_decade=10).candidates())
    shape = multipliers(schedule, steps)
    factors = 1.0 - lrs[:, None, None] * shape[:, None] * problem.curvature  # (lrs, steps, 3)
    left = np.prod(factors, axis=1) * problem.start
    final = 0.5 * (problem.curvature * left**2).sum(axis=1)
    assert outcome.lr == lrs[np.argmin(final)]
    assert f"{final.min():.4g}" in outcome.why
    *candidates, baseline = outcome.curves
    assert baseline.role == "baseline"
    for curve, lr in zip(candidates, lrs, strict=True):
        np.testing.assert_allclose(curve.lr, lr * shape, rtol=1e-12)


def test_without_a_held_out_loss_the_last_tenth_of_the_training_loss_decides() -> None:
    problem, steps = Quadratic((1.0, 10.0)), 40
    lrs = [0.02, 0.05, 0.1, 0.15, 0.19]
    outcome = sweep(problem, steps, lrs=lrs)
    tail = [np.mean([problem.closed_form(lr, done) for done in range(36, 40)]) for lr in lrs]
    assert outcome.lr == lrs[int(np.argmin(tail))]


@pytest.mark.parametrize("seed", range(5))
def test_all_candidates_see_the_same_batches(seed: int) -> None:
    problem = Quadratic((1.0, 10.0), noise=0.5, seed=seed)
    sweep(problem, 30, lrs=[0.01, 0.03, 0.1])
    batches = np.array(problem.batches).reshape(3 + 1, 30)  # and the baseline
    assert (batches == batches[0]).all()


# ------------------------------------------------------------------------------ no clear answer


@pytest.mark.parametrize(("lrs", "best"), [((1e-4, 1e-3, 1e-2), 1e-2), ((0.18, 0.3, 1.0), 0.18)])
def test_a_best_candidate_at_the_end_of_the_grid_is_at_the_edge(lrs, best: float) -> None:
    # Fault 16.
    outcome = sweep(Judged((1.0, 10.0)), lrs=lrs)
    assert outcome.status is Status.AT_EDGE
    assert outcome.lr == best


def test_a_candidate_that_breaks_never_wins() -> None:
    outcome = sweep(Judged((1.0, 10.0)), 400, lrs=[0.05, 0.1, 5.0])
    assert outcome.lr == 0.1
    assert not np.isfinite(outcome.curves[2].loss[-1])


def test_when_every_candidate_breaks_it_diverged() -> None:
    outcome = sweep(Judged((1.0, 10.0)), 400, lrs=[3.0, 5.0])
    assert outcome.status is Status.DIVERGED
    assert math.isnan(outcome.lr)


def test_a_loss_that_is_broken_from_the_start_is_not_blamed_on_the_lr() -> None:
    assert sweep(Quadratic(start=math.nan), lrs=[0.1, 0.2]).status is Status.NOT_FINITE


def test_a_held_out_loss_that_is_always_broken_is_not_blamed_on_the_lr() -> None:
    class NoHeldOut(Judged):
        def evaluate(self) -> float:
            return math.nan

    assert sweep(NoHeldOut(), lrs=[0.01, 0.02]).status is Status.NOT_FINITE


def test_losses_that_are_the_same_whatever_the_lr_are_told_as_such() -> None:
    class Deaf(Quadratic):
        def step(self, lr: float) -> float:
            return super().step(0.0)

    assert sweep(Deaf(noise=0.5), lrs=[0.1, 0.2, 0.3]).status is Status.NO_EFFECT


def test_a_sweep_costs_its_candidates_and_a_baseline() -> None:
    outcome = sweep(Quadratic(noise=0.1), 30, lrs=[0.01, 0.03, 0.1])
    assert outcome.cost.steps == (3 + 1) * 30
    assert [curve.role for curve in outcome.curves] == ["candidate"] * 3 + ["baseline"]


def test_candidates_of_which_none_beats_the_noise_give_no_signal() -> None:
    for seed in range(5):
        trained = Quadratic(start=0.0, noise=0.5, seed=seed)
        assert sweep(trained, lrs=[0.01, 0.03, 0.1]).status is Status.NO_SIGNAL


# ----------------------------------------------------------------------------------- settings


def test_the_grid_is_geometric_with_exact_ends() -> None:
    candidates = Sweep(min_lr=3e-4, max_lr=0.3, per_decade=4).candidates()
    assert (len(candidates), candidates[0], candidates[-1]) == (13, 3e-4, 0.3)
    np.testing.assert_allclose(np.diff(np.log10(candidates)), 0.25, rtol=1e-9)


def test_candidates_are_tried_once_each_in_ascending_order() -> None:
    assert Sweep(lrs=[0.3, 0.1, 0.3, 0.2]).candidates() == (0.1, 0.2, 0.3)
    assert Sweep(lrs=np.array([0.2, 0.1])).candidates() == (0.1, 0.2)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"lrs": [0.1, 0.0]}, "Sweep.lrs"),
        ({"lrs": [0.1, math.nan]}, "Sweep.lrs"),
        ({"lrs": 0.1}, "Sweep.lrs"),
        ({"lrs": "0.1"}, "Sweep.lrs"),
        ({"min_lr": 0}, "min_lr"),
        ({"max_lr": math.inf}, "max_lr"),
        ({"min_lr": 0.1, "max_lr": 0.1}, "max_lr"),
        ({"per_decade": 0}, "per_decade"),
        ({"per_decade": 2.5}, "per_decade"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(options, name: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{name}: got .* expected"):
        Sweep(**options)


def test_without_the_length_of_the_planned_run_nothing_is_trained() -> None:
    problem = Quadratic()
    with pytest.raises(InvalidArgument, match="train_steps: got None, expected the length"):
        run_search(problem, Sweep(), Plan())
    assert problem.lrs == []
