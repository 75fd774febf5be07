"""A lane of a race goes on as the planned run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lrsearch
from lrsearch import InvalidArgument, Race, Result

STEPS = 200


class Problem:
    """A small regression whose batches are the same in every pass."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        x = torch.randn(64, 4)
        y = x @ torch.randn(4, 1) + 0.1 * torch.randn(64, 1)
        self.batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]

    def search(self, schedule: str = "constant", **settings: Any) -> Result:
        return lrsearch.find_lr(
            self.model,
            self.optimizer,
            nn.functional.mse_loss,
            self.batches,
            train_steps=STEPS,
            schedule=schedule,
            method=Race(**{"hand_over": True, **settings}),
            progress=False,
        )

    def train(self, lr: float, first: int, last: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        for step in range(first, last):
            x, y = self.batches[step % len(self.batches)]
            self.optimizer.zero_grad()
            nn.functional.mse_loss(self.model(x), y).backward()
            self.optimizer.step()

    def weights(self) -> np.ndarray[Any, Any]:
        return torch.cat([p.detach().flatten() for p in self.model.parameters()]).numpy()


def test_a_run_that_goes_on_from_a_lane_is_the_run_from_the_start() -> None:
    searched, plain = Problem(), Problem()
    result = searched.search()
    before = searched.weights()
    assert np.array_equal(before, plain.weights())
    done = result.continue_from(searched.model, searched.optimizer)
    assert result.low <= done.lr <= result.high
    assert 0 < done.updates < STEPS
    assert [group["lr"] for group in searched.optimizer.param_groups] == [done.lr]
    searched.train(done.lr, done.updates, STEPS)
    plain.train(done.lr, 0, STEPS)
    assert np.array_equal(searched.weights(), plain.weights())


def test_a_compressed_schedule_cannot_go_on_and_says_so() -> None:
    problem = Problem()
    result = problem.search("cosine")
    before = problem.weights()
    with pytest.raises(InvalidArgument, match=r"compressed to \d+ of 200"):
        result.continue_from(problem.model, problem.optimizer)
    assert np.array_equal(before, problem.weights())


def test_a_lane_of_the_whole_length_is_the_planned_run() -> None:
    problem = Problem()
    result = problem.search("linear", budget=6.0)
    assert result.continue_from(problem.model, problem.optimizer).updates == STEPS


def test_lanes_that_were_not_kept_are_asked_for(tmp_path: Path) -> None:
    problem = Problem()
    result = problem.search(hand_over=False)
    for one in (result, _read_back(problem.search(), tmp_path)):
        with pytest.raises(InvalidArgument, match="hand_over=True"):
            one.continue_from(problem.model, problem.optimizer)


def _read_back(result: Result, folder: Path) -> Result:
    result.to_json(folder / "result.json")
    return Result.from_json(folder / "result.json")


def test_other_objects_are_refused() -> None:
    problem, other = Problem(), Problem()
    result = problem.search()
    with pytest.raises(InvalidArgument, match="not those that were searched"):
        result.continue_from(other.model, problem.optimizer)


def test_keeping_lanes_does_not_change_the_answer() -> None:
    assert Problem().search().lr == pytest.approx(Problem().search(hand_over=False).lr, rel=1e-3)
