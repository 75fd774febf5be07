"""After ``result.apply(module)`` the run peaks at the answer, or the error names the line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as S

import lrsearch
from lrsearch.errors import InvalidArgument
from lrsearch.integrations.lightning import LearningRateSearch, apply_result, find_lr_for
from tests.integrations.lightning_parts import Net, Recorder, loader, quiet, seeded, trainer

pytestmark = quiet

RANGE = lrsearch.RangeTest()


def find(train: Any, module: Any, **options: Any) -> lrsearch.Result:
    given = {"method": RANGE, "progress": False, "train_dataloaders": loader(), **options}
    return find_lr_for(train, module, **given, throw=False)


def scheduled(make: Callable[[Any, Any], Any], interval: str = "step") -> type[Net]:
    class Scheduled(Net):
        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=self.hparams.lr)
            config = {"scheduler": make(self, optimizer), "interval": interval}
            return {"optimizer": optimizer, "lr_scheduler": config}

    return Scheduled


FOLLOWING: dict[str, Any] = {
    "a warmup from zero": scheduled(lambda m, o: S.LambdaLR(o, lambda s: min(1.0, s / 9))),
    "a warmup longer than the run": scheduled(
        lambda m, o: S.LambdaLR(o, lambda s: min(1.0, (s + 1) / 100))
    ),
    "one cycle": scheduled(
        lambda m, o: S.OneCycleLR(
            o, m.hparams.lr, total_steps=int(m.trainer.estimated_stepping_batches),
            cycle_momentum=False,
        )
    ),
    "by epoch": scheduled(lambda m, o: S.SequentialLR(
        o, [S.ConstantLR(o, 0.1, 1), S.ExponentialLR(o, 0.9)], [1]), "epoch"),
    "a function of the module's": scheduled(lambda m, o: S.LambdaLR(o, lambda s: 0.9**s)),
}  # fmt: skip


@pytest.mark.parametrize("name", FOLLOWING)
def test_the_run_peaks_at_the_answer(name: str) -> None:
    module, recorder = seeded(FOLLOWING[name]), Recorder()
    train = trainer(callbacks=[recorder])
    found = find(train, module)
    found.apply(module)
    train.fit(module, loader())
    assert max(recorder.lrs) == pytest.approx(found.lr, rel=1e-3)


class Noam(S.LRScheduler):
    def get_lr(self) -> list[Any]:
        return [8**-0.5 * min((self.last_epoch + 1) ** -0.5, 1.0) for _ in self.base_lrs]


class Literal(Net):
    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(
            self.parameters(),
            lr=3e-4,
        )


class LiteralPeak(Net):
    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.hparams.lr)
        return [optimizer], [
            {"scheduler": S.OneCycleLR(optimizer, max_lr=0.01, total_steps=20), "interval": "step"}
        ]


class LiteralInAVariable(Net):
    def configure_optimizers(self) -> Any:
        base_lr = 0.02
        return torch.optim.SGD(self.parameters(), base_lr)


class InAnotherPlace(Net):
    rate = 1e-3

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), self.rate)


OWN_RATES = {
    "a literal": (Literal, r"test_lightning_apply\.py:\d+: lr=3e-4,"),
    "a literal peak": (LiteralPeak, r"test_lightning_apply\.py:\d+: .*max_lr=0.01"),
    "a literal in a variable": (LiteralInAVariable, r"test_lightning_apply\.py:\d+: base_lr = 0.0"),
    "another attribute": (InAnotherPlace, r"test_lightning_apply\.py:\d+: def configure_optimiz"),
    "a formula": (scheduled(lambda m, o: Noam(o)), r"\.py:\d+: Noam computes it"),
}


@pytest.mark.parametrize("name", OWN_RATES)
def test_a_rate_that_comes_from_elsewhere_is_told_with_its_line(name: str) -> None:
    make, message = OWN_RATES[name]
    module = seeded(make)
    found = find(trainer(), module)
    with pytest.raises(InvalidArgument, match=rf"would peak at .*set in .*{message}"):
        found.apply(module)
    assert module.hparams.lr == 1e-3


def test_inside_fit_a_scheduler_of_its_own_rates_ends_the_training_with_its_line() -> None:
    search = LearningRateSearch(apply=True, method=RANGE, progress=False)
    module = seeded(scheduled(lambda m, o: Noam(o)))
    with pytest.raises(InvalidArgument, match=r"test_lightning_apply\.py:\d+"):
        trainer(callbacks=[search]).fit(module, loader())


def test_an_attribute_that_is_named_is_set_whatever_the_usual_ones_do() -> None:
    module, recorder = seeded(InAnotherPlace), Recorder()
    module.rate = 1e-3
    train = trainer(callbacks=[recorder])
    found = find(train, module)
    apply_result(found, module, name="rate")
    train.fit(module, loader())
    assert max(recorder.lrs) == found.lr


@pytest.mark.parametrize("name", ["a literal", "a formula", "a literal peak"])
def test_an_attribute_that_is_named_and_not_used_is_told_with_the_line(name: str) -> None:
    make, message = OWN_RATES[name]
    module = seeded(make)
    module.rate = 1e-3
    found = find(trainer(), module)
    with pytest.raises(InvalidArgument, match=rf"module's rate. It is set in .*{message}"):
        apply_result(found, module, name="rate")
    assert module.rate == 1e-3


def test_configure_optimizers_that_may_be_called_once_is_no_obstacle() -> None:
    class Once(Net):
        def configure_optimizers(self) -> Any:
            if hasattr(self, "made"):
                raise RuntimeError("made already")
            self.made = True
            return super().configure_optimizers()

    module = seeded(Once)
    found = find(trainer(), module)
    found.apply(module)
    assert module.hparams.lr == found.lr


@pytest.mark.parametrize("kind", ["scheduler", "sequence", "warmup"])
def test_a_schedule_is_given_as_to_find_lr(kind: str) -> None:
    other = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    schedules: dict[str, Any] = {
        "scheduler": {"schedule": S.LinearLR(other, 0.25, 1.0, 4)},
        "sequence": {"schedule": [0.25, *[1.0] * 19]},
        "warmup": {"schedule": "constant", "warmup_steps": 3},
    }
    found = find(trainer(), seeded(Net), method=lrsearch.Sweep([0.01]), **schedules[kind])
    lrs = found.curves[0].lr
    assert (lrs[0], lrs.max(), len(lrs)) == pytest.approx((0.0025, 0.01, 20))
