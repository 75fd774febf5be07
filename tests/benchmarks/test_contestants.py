"""Contestants of the regret benchmark: how they are asked, and what those answer that are ours."""

from __future__ import annotations

import dataclasses
import math
import warnings

import pytest
import torch

import lrsearch
from benchmarks.environment import version
from benchmarks.regret.contestants import CONTESTANTS, Answer, Contestant, ask, by_name
from benchmarks.regret.contestants.contestant import measured
from benchmarks.regret.contestants.fixed import DEFAULTS
from benchmarks.regret.contestants.lr_free import train
from benchmarks.regret.contestants.optuna import _rungs, space
from benchmarks.regret.contestants.replay import StoredRuns, replayed_sweep
from benchmarks.regret.oracle import load_oracle, regret
from benchmarks.regret.planned_run import PlannedRun, planned_seconds
from benchmarks.regret.problem import Problem
from benchmarks.regret.runs import final_loss
from benchmarks.regret.tasks import TASKS
from benchmarks.regret.tasks import by_name as task_named

QUADRATIC = task_named("quadratic-sgd")
TWO_GROUPS = task_named("finetune-frozencnn-heavyball")


def contestant(run: object, package: str = "torch") -> Contestant:
    return Contestant("someone", "finder", "Someone", package, run)


def raising(error: Exception) -> Contestant:
    def run(task: object, seed: int) -> Answer:
        raise error

    return contestant(run)


def test_names_are_unique_and_every_kind_is_known() -> None:
    names = [one.name for one in CONTESTANTS]
    assert len(set(names)) == len(names)
    kinds = {one.kind for one in CONTESTANTS}
    assert kinds == {"ours", "finder", "search", "lr-free", "default"}
    with pytest.raises(KeyError, match="fastai-valley"):
        by_name("nobody")


def test_every_budget_of_the_race_takes_part() -> None:
    assert hasattr(lrsearch, "Race")
    assert {"race-0.3", "race-1", "race-3"} <= {one.name for one in CONTESTANTS}


def test_an_exception_is_an_answer_with_its_message_in_one_line() -> None:
    answer = ask(raising(RuntimeError("the curve\n  is odd")), QUADRATIC, 0)
    assert answer == Answer(None, message="RuntimeError: the curve is odd")


def test_a_missing_package_is_said_to_be_not_installed() -> None:
    def run(task: object, seed: int) -> Answer:
        import no_such_package_anywhere

        return no_such_package_anywhere.answer()

    answer = ask(contestant(run, package="no-such-package-anywhere"), QUADRATIC, 0)
    assert answer.message == "not installed: no-such-package-anywhere"
    broken = ask(contestant(run, package="torch"), QUADRATIC, 0)
    assert broken.message.startswith("ModuleNotFoundError: ")


@pytest.mark.parametrize("lr", [math.nan, math.inf, 0.0, -0.1])
def test_a_senseless_lr_is_no_answer(lr: float) -> None:
    answer = ask(contestant(lambda task, seed: Answer(lr, steps=7)), QUADRATIC, 0)
    assert answer.lr is None
    assert answer.steps == 7
    assert repr(lr) in answer.message


def test_ctrl_c_is_no_answer() -> None:
    def run(task: object, seed: int) -> Answer:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask(contestant(run), QUADRATIC, 0)


def test_the_cost_of_a_tool_that_crashes_is_kept() -> None:
    problem = QUADRATIC.build(0)

    def search() -> float:
        warnings.warn("noise", stacklevel=1)  # an error in this test suite, if it came through
        for _ in range(3):
            problem.optimizer.step()
        raise ValueError("no more")

    answer = measured(problem, 0, search)
    assert (answer.lr, answer.steps, answer.message) == (None, 3, "ValueError: no more")
    problem.optimizer.step()
    assert measured(problem, 0, lambda: 0.5).steps == 0


def test_our_range_test_answers_through_the_front_door_and_reports_its_cost() -> None:
    answer = ask(by_name("range"), QUADRATIC, 0)
    assert answer.lr is not None
    assert regret(load_oracle(QUADRATIC), answer.lr) < 0.5
    assert 10 <= answer.steps <= 200
    assert ask(by_name("range"), QUADRATIC, 0).lr == answer.lr
    longer = ask(by_name("range"), QUADRATIC, 0, steps=200)
    assert longer.steps > answer.steps


def test_the_replayed_sweep_takes_the_best_stored_run_of_its_seed() -> None:
    oracle = load_oracle(TWO_GROUPS)
    for column, seed in enumerate(oracle.seeds):
        losses = [math.inf if row[column] is None else row[column] for row in oracle.losses]
        best = oracle.lrs[losses.index(min(losses))]
        answer = replayed_sweep(TWO_GROUPS, seed)
        assert answer.lr == pytest.approx(best)
        # With the baseline.
        assert answer.steps == TWO_GROUPS.train_steps * (len(oracle.lrs) + 1)


def test_stored_runs_that_diverged_are_infinitely_bad() -> None:
    oracle = load_oracle(QUADRATIC)
    runs = StoredRuns(oracle, 0)
    runs.step(oracle.lrs[-1])
    assert oracle.losses[-1][0] is None
    assert runs.evaluate() == math.inf
    runs.restore(0.0)
    runs.step(oracle.lrs[0])
    assert runs.evaluate() == oracle.losses[0][0]


def test_every_optimizer_family_of_the_tasks_has_a_fixed_default() -> None:
    assert {task.family for task in TASKS} <= set(DEFAULTS)
    for task in TASKS:
        answer = ask(by_name("default"), task, 0)
        assert answer.lr == DEFAULTS[task.family]
        assert answer.steps == 0


@pytest.mark.parametrize("task", [QUADRATIC, TWO_GROUPS], ids=lambda task: task.name)
def test_a_planned_run_in_pieces_is_the_run_of_the_oracle(task: object) -> None:
    short = dataclasses.replace(task, train_steps=30)
    run = PlannedRun(short, 1, lr=0.02)
    for until in (1, 7, 7, 30):
        assert run.advance(until)
        run.held_out()
    assert run.held_out() == final_loss(short, 0.02, 1)


def test_a_planned_run_stops_where_its_loss_is_not_finite() -> None:
    run = PlannedRun(QUADRATIC, 0, lr=1e12)
    assert not run.advance(QUADRATIC.train_steps)
    assert 0 < run.done < QUADRATIC.train_steps
    assert run.held_out() is None
    assert planned_seconds(QUADRATIC, 1.0) > 0


def test_an_optimizer_that_trains_the_run_itself_is_judged_by_its_final_loss() -> None:
    def same_optimizer(problem: Problem) -> torch.optim.Optimizer:
        return torch.optim.SGD(problem.model.parameters(), lr=1.0)

    answer = train(same_optimizer)(QUADRATIC, 0)
    assert answer.lr is None
    assert answer.loss == final_loss(QUADRATIC, 1.0, 0)


def test_optuna_searches_four_decades_around_the_customary_lr() -> None:
    low, high = space(QUADRATIC)
    assert (low, high) == (pytest.approx(1e-3), pytest.approx(10.0))


@pytest.mark.parametrize("longest", [1, 2, 9, 26, 27, 100, 1667])
@pytest.mark.parametrize("eta", [3, 4])
def test_trials_report_where_the_pruners_decide_and_at_their_end(longest: int, eta: int) -> None:
    rungs = _rungs(longest, eta)
    assert rungs[-1] == longest
    assert list(rungs) == sorted(set(rungs))
    first = rungs[0]
    assert all(rung == first * eta**k for k, rung in enumerate(rungs[:-1]))


PEERS = [one for one in CONTESTANTS if one.kind in ("finder", "search", "lr-free")]


@pytest.mark.parametrize("peer", PEERS, ids=lambda one: one.name)
def test_every_other_tool_answers_or_is_not_installed(peer: Contestant) -> None:
    answer = ask(peer, QUADRATIC, 0)
    if version(peer.package) is None:
        assert answer == Answer(None, message=f"not installed: {peer.package}")
    elif peer.kind == "lr-free":
        assert (answer.loss is None) == bool(answer.message)
    elif answer.lr is None:
        assert answer.message
    else:
        assert answer.lr > 0
        assert 0 < answer.steps <= 3 * QUADRATIC.train_steps
