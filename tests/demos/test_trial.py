from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from rich.console import Console

from lrsearch.demos.trial import Trial, run_trial, trial_table


class Scores(torch.nn.Module):
    """Two class scores that are the weights themselves, whatever the input."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.weight.expand(len(inputs), 2)


def toy() -> dict[str, Any]:
    """Loss = minus the score of class 1, so that one step of SGD adds lr to it."""
    model = Scores()
    inputs, ones = torch.zeros(4, 1), torch.ones(4, dtype=torch.int64)
    return {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=123.0),
        "loss_fn": lambda scores, targets: -scores.gather(1, targets.unsqueeze(1)).mean(),
        "train_loader": [(inputs, ones)] * 3,
        "val_loader": [(inputs, ones), (inputs[:1], torch.zeros(1, dtype=torch.int64))],
    }


def test_it_trains_for_all_updates_at_the_lr_and_measures_held_out_data() -> None:
    # After 7 steps the scores are (0, 7 lr): loss -7 lr on four examples and 0 on one.
    trial = run_trial(toy, lr=0.5, updates=7)
    assert trial == Trial(lr=0.5, updates=7, loss=pytest.approx(-3.5 * 4 / 5), accuracy=0.8)


def test_the_callers_random_state_is_left_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    run_trial(toy, lr=0.5, updates=1)
    assert torch.equal(torch.rand(3), expected)


def shown(*trials: Trial, found: float) -> list[str]:
    screen = Console(file=io.StringIO(), width=100)
    screen.print(trial_table(trials, found))
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().splitlines()


def test_the_table_marks_what_was_found_and_what_was_best() -> None:
    lines = shown(Trial(0.1, 9, 0.5, 0.8), Trial(1.0, 9, 0.7, 0.6), found=1.0)
    assert "9 updates" in lines[0]
    (best,) = [line for line in lines if "best" in line]
    (found,) = [line for line in lines if "found" in line]
    assert "0.1" in best
    assert "0.5000" in best
    assert "60.0%" in found


def test_a_training_that_broke_is_never_best() -> None:
    nan = float("nan")
    lines = shown(Trial(0.1, 9, nan, 0.1), Trial(1.0, 9, 0.7, 0.6), found=0.1)
    (broken,) = [line for line in lines if "nan" in line]
    assert "best" not in broken
    assert not any("best" in line for line in shown(Trial(0.1, 9, nan, 0.1), found=0.1))
