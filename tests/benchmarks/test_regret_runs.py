"""The planned run, judged against formulas where there are some."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.regret.oracle import FOLDER, read_oracle, regret
from benchmarks.regret.problem import Problem, Task, loaders
from benchmarks.regret.runs import final_loss, held_out_loss
from benchmarks.regret.tasks import by_name
from benchmarks.regret.tasks.synthetic import CURVATURES


def linear_task(build: object, **changes: object) -> Task:
    base = by_name("quadratic-sgd")
    return dataclasses.replace(base, name="toy", build=build, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("lr", [0.01, 0.3, 1.0])
def test_the_quadratic_ends_where_the_formula_says(lr: float) -> None:
    task = by_name("quadratic-sgd")
    start = next(task.build(0).model.parameters()).detach().double().squeeze()
    curvatures = CURVATURES.double()
    shrunk = start * (1 - lr * curvatures) ** task.train_steps
    expected = 0.5 * 0.5**2 + 0.5 * (curvatures * shrunk**2).sum().item()
    assert final_loss(task, lr, seed=0) == pytest.approx(expected, rel=1e-4)


def test_beyond_two_over_the_largest_curvature_the_quadratic_diverges() -> None:
    task = by_name("quadratic-sgd")
    limit = 2 / CURVATURES.max().item()
    start = held_out_loss(task.build(0))
    below, above = final_loss(task, 0.99 * limit, 0), final_loss(task, 1.1 * limit, 0)
    assert below is not None
    assert below < start
    assert above is None or above > start


def test_a_run_is_deterministic() -> None:
    task = dataclasses.replace(by_name("digits-dropout-adamw"), train_steps=30)
    assert final_loss(task, 1e-3, 0) == final_loss(task, 1e-3, 0)
    assert final_loss(task, 1e-3, 0) != final_loss(task, 1e-3, 1)


def test_groups_keep_their_ratio_and_follow_the_schedule() -> None:
    seen: list[tuple[float, ...]] = []

    class Recording(torch.optim.SGD):
        def step(self, closure: object = None) -> None:  # type: ignore[override]
            seen.append(tuple(group["lr"] for group in self.param_groups))

    def build(seed: int) -> Problem:
        model = nn.Linear(2, 1)
        groups = [{"params": [model.weight], "lr": 0.1}, {"params": [model.bias], "lr": 0.05}]
        pair = (torch.zeros(4, 2), torch.zeros(4, 1))
        return Problem(model, Recording(groups), F.mse_loss, *loaders(pair, pair, 2, seed))

    final_loss(linear_task(build, schedule="linear", train_steps=4), 8.0, 0)
    assert [row[0] for row in seen] == pytest.approx([8.0, 6.0, 4.0, 2.0])
    assert [row[1] for row in seen] == pytest.approx([4.0, 3.0, 2.0, 1.0])


def test_a_loss_that_is_not_finite_ends_the_run_at_once() -> None:
    steps: list[int] = []

    def nan_at_third(prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        steps.append(1)
        return F.mse_loss(prediction, target) * (float("nan") if len(steps) == 3 else 1.0)

    def build(seed: int) -> Problem:
        model = nn.Linear(2, 1)
        pair = (torch.ones(4, 2), torch.zeros(4, 1))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return Problem(model, optimizer, nan_at_third, *loaders(pair, pair, 2, seed))

    assert final_loss(linear_task(build, train_steps=100), 0.1, 0) is None
    assert len(steps) == 3


def test_the_held_out_loss_weighs_examples_not_batches_and_is_taken_in_eval_mode() -> None:
    inputs = torch.arange(1500.0).unsqueeze(1)  # two validation batches of unequal size
    model = nn.Sequential(nn.Dropout(0.5), nn.Identity())
    model.train()
    model[1].eval()
    pair = (inputs, torch.zeros(1500, 1))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    problem = Problem(model, optimizer, lambda x, y: x.mean(), *loaders(pair, pair, 10, 0))
    assert held_out_loss(problem) == pytest.approx(inputs.mean().item())


def test_the_vae_is_judged_with_fixed_noise() -> None:
    problem = by_name("digits-vae-adam").build(0)
    assert held_out_loss(problem) == held_out_loss(problem)


def test_the_lr_that_wins_early_loses_at_the_end_of_the_rank_flip() -> None:
    task = by_name("lms-linear-sgd")
    high, low = 0.0251189, 0.00158489
    early = dataclasses.replace(task, train_steps=task.train_steps // 40)
    for seed in range(3):
        early_high, early_low = final_loss(early, high, seed), final_loss(early, low, seed)
        assert early_high is not None
        assert early_low is not None
        assert early_high < early_low
    oracle = read_oracle(FOLDER / f"{task.name}.json")
    assert oracle.best_lr < 2 * low
    assert regret(oracle, high) > 0.1


def test_the_chain_looks_healthy_at_first_and_diverges_late() -> None:
    task = by_name("chain-linear-sgd")
    high, best = 0.158489, 0.0398107
    tenth = dataclasses.replace(task, train_steps=task.train_steps // 10)
    early_high, early_best = final_loss(tenth, high, 0), final_loss(tenth, best, 0)
    assert early_high is not None
    assert early_best is not None
    assert early_high < early_best  # ahead after a tenth of the run
    final = final_loss(task, high, 0)
    assert final is None or final >= held_out_loss(task.build(0))
