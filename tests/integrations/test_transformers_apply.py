"""After ``result.apply(trainer)`` the run peaks at the answer, or the error names the line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as S
from transformers import Trainer, TrainerCallback

from lrsearch import InvalidArgument, RangeTest, Result, Status, Sweep
from lrsearch.integrations.transformers import find_lr_for
from tests.integrations.test_transformers import fingerprint
from tests.integrations.tiny_trainers import make_trainer

QUICK: dict[str, Any] = {"method": RangeTest(12, 1e-5, 1e-1), "progress": False, "throw": False}


def found_by(trainer: Trainer, **options: Any) -> Result:
    found = find_lr_for(trainer, **{**QUICK, **options})
    return Result.from_outcome(found, status=Status.FOUND, lr=0.0123)


class Rates(TrainerCallback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_pre_optimizer_step(self, *args: Any, optimizer: Any, **kwargs: Any) -> None:
        self.seen.append(optimizer.param_groups[0]["lr"])


def trained(trainer: Trainer) -> list[float]:
    rates = Rates()
    trainer.add_callback(rates)
    trainer.train()
    return rates.seen


@pytest.mark.parametrize(
    "options",
    [
        {"lr_scheduler_type": "linear", "warmup_steps": 4},
        {"lr_scheduler_type": "constant_with_warmup", "warmup_steps": 50},
        {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-5}},
        {"lr_scheduler_type": "polynomial"},
    ],
    ids=lambda options: options["lr_scheduler_type"],
)
def test_the_run_peaks_at_the_answer(options: dict[str, Any], tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, **options)
    found = found_by(trainer)
    found.apply(trainer)
    assert trainer.optimizer is None
    assert max(trained(trainer)) == pytest.approx(found.lr, rel=1e-6)


SCHEDULERS: dict[str, Any] = {
    "one cycle": lambda o: S.OneCycleLR(o, 1.0, total_steps=20),
    "a sequence": lambda o: S.SequentialLR(
        o, [S.LinearLR(o, 0.1, 1.0, 5), S.CosineAnnealingLR(o, 15, 1e-3)], [5]
    ),
    "a plateau": lambda o: S.LambdaLR(o, lambda s: 1.0),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_optimizer_and_scheduler_of_ones_own_are_moved_together(name: str, tmp_path: Path) -> None:
    def make() -> Trainer:
        trainer = make_trainer(tmp_path)
        trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1, momentum=0.9)
        trainer.lr_scheduler = SCHEDULERS[name](trainer.optimizer)
        return trainer

    before = trained(make())
    trainer = make()
    found = found_by(trainer)
    found.apply(trainer)
    assert trained(trainer) == pytest.approx([found.lr * lr / max(before) for lr in before])


class OwnRate(Trainer):
    def create_optimizer(self, *args: Any, **kwargs: Any) -> Any:
        if self.optimizer is None:
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.5)
        return self.optimizer


class Noam(S.LRScheduler):
    def get_lr(self) -> list[Any]:
        return [8**-0.5 * min((self.last_epoch + 1) ** -0.5, 1.0) for _ in self.base_lrs]


class OwnFormula(Trainer):
    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        self.lr_scheduler = Noam(self.optimizer if optimizer is None else optimizer)
        self._created_lr_scheduler = True
        return self.lr_scheduler


@pytest.mark.parametrize(
    ("kind", "line"), [(OwnRate, r"lr=0\.5"), (OwnFormula, "Noam computes it")]
)
def test_a_rate_that_comes_from_elsewhere_is_told_with_its_line(
    kind: type[Trainer], line: str, tmp_path: Path
) -> None:
    trainer = make_trainer(tmp_path, cls=kind)
    found = found_by(trainer)
    before, rate = fingerprint(trainer), trainer.args.learning_rate
    message = rf"would peak at .*set in .*test_transformers_apply\.py:\d+: .*{line}"
    with pytest.raises(InvalidArgument, match=message):
        found.apply(trainer)
    assert fingerprint(trainer) == before
    assert trainer.args.learning_rate == rate


def test_a_scheduler_of_its_own_rates_is_refused_and_nothing_is_set(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1)
    trainer.lr_scheduler = Noam(trainer.optimizer)
    found = found_by(trainer)
    with pytest.raises(InvalidArgument, match=r"scheduler: got a Noam.*\.py:\d+"):
        found.apply(trainer)
    assert trainer.args.learning_rate == 1e-3


def test_in_the_middle_of_a_training_the_rest_peaks_at_the_answer(tmp_path: Path) -> None:
    class Middle(TrainerCallback):
        lr = 0.0

        def on_step_begin(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
            if state.global_step == 8:
                found = found_by(trainer)
                found.apply(trainer)
                self.lr = found.lr

    plain = trained(make_trainer(tmp_path))
    trainer, middle = make_trainer(tmp_path), Middle()
    trainer.add_callback(middle)
    after = trained(trainer)
    assert after[:8] == plain[:8]
    assert after[8:] == pytest.approx([middle.lr * lr / plain[8] for lr in plain[8:]])


def test_a_schedule_that_rises_above_its_base_is_scaled_to_its_peak(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path)
    trainer.optimizer = torch.optim.SGD(trainer.model.parameters(), lr=0.1, momentum=0.9)
    trainer.lr_scheduler = S.OneCycleLR(trainer.optimizer, 1.0, total_steps=20)
    found = found_by(trainer, method=Sweep([1e-3]))
    assert found.curves[0].lr.max() == pytest.approx(1e-3)
    assert found.settings["peak_over_base"] == pytest.approx(25.0)


@pytest.mark.parametrize(
    "schedule",
    [{"schedule": [0.25, *[1.0] * 19]}, {"schedule": "constant", "warmup_steps": 3}],
    ids=["sequence", "warmup"],
)
def test_a_schedule_is_given_as_to_find_lr(schedule: dict[str, Any], tmp_path: Path) -> None:
    found = found_by(make_trainer(tmp_path), method=Sweep([1e-3]), **schedule)
    lrs = found.curves[0].lr
    assert (lrs[0], lrs.max(), len(lrs)) == pytest.approx((2.5e-4, 1e-3, 20))
