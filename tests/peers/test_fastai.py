"""What fastai's own notebook asserts of `Learner.lr_find`, asked of ours.

J. Howard, S. Gugger and others, https://github.com/fastai/fastai,
`nbs/14_callback.schedule.ipynb`.

Left out: that the recorder's and the learner's own attributes are put back, since there is neither;
the synthetic learner of the notebook is here as a line to be fitted, with its two parameters.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import lrsearch
from lrsearch.core.curve import Stop

LOW, HIGH, STEPS = 1e-7, 10.0, 100  # fastai's defaults


class Line(nn.Module):
    """`a x + b`, as in the notebook's `synth_learner`."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(1, generator=generator))
        self.b = nn.Parameter(torch.randn(1, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.a + self.b


def data(examples: int, seed: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(examples, 1, generator=generator)
    y = 2.0 * x + 3.0 + 0.1 * torch.randn(examples, 1, generator=generator)
    return DataLoader(TensorDataset(x, y), batch_size=16, shuffle=True)


class Unread:
    """Held-out data of which no more than the first batch may be looked at."""

    def __iter__(self) -> Any:
        yield torch.ones(2, 1), torch.ones(2, 1)
        raise AssertionError("the held-out data were read")

    def __len__(self) -> int:
        return 1


def learner() -> tuple[Line, torch.optim.Optimizer]:
    """A fresh model with one parameter group for each of its two parameters."""
    model = Line()
    groups = [{"params": [model.a]}, {"params": [model.b]}]
    return model, torch.optim.SGD(groups, lr=1e-3, momentum=0.9)


def lr_find(model: Line, optimizer: torch.optim.Optimizer, **options: Any) -> lrsearch.Result:
    method = lrsearch.RangeTest(STEPS, min_lr=LOW, max_lr=HIGH)
    settings = {"method": method, "progress": False, "throw": False}
    return lrsearch.find_lr(model, optimizer, nn.MSELoss(), data(160, 0), **{**settings, **options})


def test_at_most_as_many_lrs_as_asked_and_one_loss_for_each() -> None:
    (curve,) = lr_find(*learner()).curves
    assert 0 < len(curve.lr) <= STEPS
    assert len(curve.lr) == len(curve.loss)


def test_a_run_that_stopped_early_had_diverged() -> None:
    """fastai stops above 4 x the least loss; we, above what was learned, whatever the scale."""
    (curve,) = lr_find(*learner()).curves
    assert curve.stop is Stop.DIVERGED
    assert len(curve) < STEPS
    assert curve.loss[-1] > curve.loss[0] > curve.loss.min()


def test_the_lrs_are_those_of_the_exponential_schedule() -> None:
    (curve,) = lr_find(*learner()).curves
    share = np.arange(len(curve)) / (STEPS - 1)  # fastai divides by 100 and never reaches its end
    assert curve.lr == pytest.approx(LOW * (HIGH / LOW) ** share, rel=1e-12)


def test_no_validation_was_run() -> None:
    assert len(lr_find(*learner(), val_loader=Unread()).curves[0]) > 0


def test_the_parameters_are_the_initial_ones() -> None:
    model, optimizer = learner()
    a, b = model.a.item(), model.b.item()
    lr_find(model, optimizer)
    assert (model.a.item(), model.b.item()) == (a, b)
    assert model.a.grad is None
    assert model.b.grad is None


def test_the_optimizer_has_no_state() -> None:
    model, optimizer = learner()
    lr_find(model, optimizer)
    assert optimizer.state_dict()["state"] == {}
    assert [group["lr"] for group in optimizer.param_groups] == [1e-3, 1e-3]


@pytest.mark.parametrize("rule", ["valley", "slide", "minimum", "steepest"])
def test_every_suggestion_of_fastai_has_its_name_here(rule: str) -> None:
    result = lr_find(*learner(), method=lrsearch.RangeTest(STEPS, LOW, HIGH, rule=rule))
    assert result.rule == rule
    assert LOW <= result.lr <= HIGH


def test_several_suggestions_can_be_read_from_one_curve() -> None:
    (curve,) = lr_find(*learner()).curves
    lrs = [lrsearch.suggest(curve, rule).lr for rule in ("valley", "minimum", "steepest")]
    assert len(set(lrs)) == len(lrs)
    assert all(lrsearch.suggest(curve, "valley").lr == lrs[0] for _ in range(2))


def test_the_suggestion_trains_better_than_either_end_of_the_range() -> None:
    """Asked by darts' suite alone (`test_lr_find`), of the worst lr of the curve."""
    lr = lr_find(*learner()).lr

    def final(lr: float) -> float:
        model, optimizer = learner()
        for group in optimizer.param_groups:
            group["lr"] = lr
        for x, y in data(320, 1):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(x), y).backward()
            optimizer.step()
        x, y = next(iter(data(320, 2)))
        loss = nn.functional.mse_loss(model(x), y).item()
        return loss if np.isfinite(loss) else np.inf

    assert final(lr) < min(final(LOW), final(HIGH))
