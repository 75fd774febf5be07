"""What is applied is what training uses: every scheduler of torch and of Transformers."""

from __future__ import annotations

import gc
import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from accelerate import Accelerator
from torch.optim import lr_scheduler as S
from torch.optim.swa_utils import SWALR

import lrsearch
from lrsearch import InvalidArgument, Result
from lrsearch.core.schedule import Table, multipliers
from lrsearch.pytorch.schedulers import Twin, attached_to, planned_schedule
from lrsearch.pytorch.trainable import torch_trainable
from tests.report.outcomes import broken_line, outcome_of

STEPS = 60
FOUND = 0.37


def optimizer_of(lr: Any = 0.02, ratio: float = 0.25, **options: Any) -> torch.optim.Optimizer:
    groups: list[Any] = [
        {"params": [torch.nn.Parameter(torch.ones(2))], "lr": lr},
        {"params": [torch.nn.Parameter(torch.ones(3))], "lr": ratio * lr},
    ]
    return torch.optim.SGD(groups, lr=lr, momentum=0.9, **options)


def result(**changes: Any) -> Result:
    given = {"lr": FOUND, "low": 0.1, "high": 1.0, "multipliers": (1.0, 0.25), **changes}
    return Result.from_outcome(outcome_of(broken_line()), **given)


def follow(optimizer: Any, scheduler: Any, steps: int) -> np.ndarray:
    """The learning rates of a plain loop, shape ``(steps, groups)``."""
    found = []
    for _ in range(steps):
        found.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        for one in scheduler if isinstance(scheduler, list) else [scheduler]:
            one.step(*([1.0] if isinstance(one, S.ReduceLROnPlateau) else []))
    return np.array(found)


def warmup_then_cosine(o: Any) -> Any:
    warm, cosine = S.LinearLR(o, 0.1, 1.0, 10), S.CosineAnnealingLR(o, STEPS - 10, 1e-3)
    return S.SequentialLR(o, [warm, cosine], [10])


def nested(o: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch steps the first one twice, and says so
        first = S.SequentialLR(o, [S.ConstantLR(o, 0.5, 5), S.ExponentialLR(o, 0.97)], [8])
        return S.SequentialLR(o, [first, S.StepLR(o, 9)], [20])


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "LambdaLR": lambda o: S.LambdaLR(o, lambda s: min(1.0, (s + 1) / 9) * 0.99**s),
    "LambdaLR per group": lambda o: S.LambdaLR(o, [lambda s: 0.9**s, lambda s: 1 / (1 + s)]),
    "LambdaLR from zero": lambda o: S.LambdaLR(o, lambda s: min(1.0, s / 20)),
    "MultiplicativeLR": lambda o: S.MultiplicativeLR(o, lambda s: 0.95),
    "StepLR": lambda o: S.StepLR(o, 10, 0.5),
    "MultiStepLR": lambda o: S.MultiStepLR(o, [5, 20, 40], 0.3),
    "ConstantLR": lambda o: S.ConstantLR(o, 0.2, 15),
    "LinearLR": lambda o: S.LinearLR(o, 0.01, 1.0, 30),
    "ExponentialLR": lambda o: S.ExponentialLR(o, 0.9),
    "PolynomialLR": lambda o: S.PolynomialLR(o, 50, 2.0),
    "CosineAnnealingLR": lambda o: S.CosineAnnealingLR(o, STEPS),
    "CosineAnnealingLR to a floor": lambda o: S.CosineAnnealingLR(o, 25, eta_min=2e-3),
    "warm restarts": lambda o: S.CosineAnnealingWarmRestarts(o, 8, 2, eta_min=1e-3),
    "OneCycleLR": lambda o: S.OneCycleLR(o, [0.08, 0.02], total_steps=STEPS),
    "OneCycleLR three phases": lambda o: S.OneCycleLR(
        o, [0.08, 0.02], total_steps=STEPS, three_phase=True, anneal_strategy="linear"
    ),
    "CyclicLR": lambda o: S.CyclicLR(o, [0.02, 0.005], [0.08, 0.02], 7, mode="triangular2"),
    "CyclicLR exp_range": lambda o: S.CyclicLR(
        o, [0.02, 0.005], [0.08, 0.02], 7, mode="exp_range", gamma=0.99
    ),
    "SequentialLR": warmup_then_cosine,
    "SequentialLR nested": nested,
    "SequentialLR around restarts": lambda o: S.SequentialLR(
        o,
        [S.ConstantLR(o, 0.5, 9), S.CosineAnnealingWarmRestarts(o, 4, 2), S.PolynomialLR(o, 50)],
        [3, 12],
    ),
    "ChainedScheduler": lambda o: S.ChainedScheduler(
        [S.LinearLR(o, 0.3, 1.0, 9), S.ExponentialLR(o, 0.98)]
    ),
    "ChainedScheduler of a sequence": lambda o: S.ChainedScheduler([warmup_then_cosine(o)]),
    "SWALR": lambda o: SWALR(o, swa_lr=[0.004, 0.001], anneal_epochs=12),
    "get_constant_schedule_with_warmup": lambda o: transformers.get_constant_schedule_with_warmup(
        o, 20
    ),
    "get_linear_schedule_with_warmup": lambda o: transformers.get_linear_schedule_with_warmup(
        o, 10, STEPS
    ),
    "get_cosine_schedule_with_warmup": lambda o: transformers.get_cosine_schedule_with_warmup(
        o, 10, STEPS
    ),
    "hard restarts": lambda o: (
        transformers.get_cosine_with_hard_restarts_schedule_with_warmup(o, 5, STEPS, 3)
    ),
    "get_polynomial_decay_schedule_with_warmup": lambda o: (
        transformers.get_polynomial_decay_schedule_with_warmup(o, 10, STEPS, lr_end=1e-3)
    ),
    "get_inverse_sqrt_schedule": lambda o: transformers.get_inverse_sqrt_schedule(o, 10),
    "get_wsd_schedule": lambda o: transformers.get_wsd_schedule(o, 9, 20, STEPS),
    "get_scheduler with a floor": lambda o: transformers.get_scheduler(
        "cosine_with_min_lr", o, 10, STEPS, scheduler_specific_kwargs={"min_lr": 2e-3}
    ),
}  # fmt: skip


@pytest.mark.parametrize("at", [0, 13])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_rate_is_the_old_one_times_found_over_old_peak(name: str, at: int) -> None:
    make = SCHEDULERS[name]
    plain = optimizer_of()
    before = follow(plain, make(plain), STEPS)
    optimizer = optimizer_of()
    scheduler = make(optimizer)
    follow(optimizer, scheduler, at)
    result().apply(optimizer, scheduler)
    after = follow(optimizer, scheduler, STEPS - at)
    assert after == pytest.approx(before[at:] * FOUND / before[:, 0].max(), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("at", [0, 7])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_schedule_read_from_a_scheduler_peaks_at_the_answer(name: str, at: int) -> None:
    """Read in the middle of a run, the planned run is the rest of it."""
    optimizer = optimizer_of()
    scheduler = SCHEDULERS[name](optimizer)
    follow(optimizer, scheduler, at)
    shape = planned_schedule(scheduler, STEPS - at)
    assert max(shape.multipliers) == 1.0
    settings = {"train_steps": STEPS - at, "peak_over_base": shape.peak_over_base}
    result(settings=settings).apply(optimizer, scheduler)
    after = follow(optimizer, scheduler, STEPS - at)[:, 0]
    assert after == pytest.approx([FOUND * m for m in shape.multipliers], rel=1e-6, abs=1e-12)


def test_a_plateau_goes_on_at_the_new_rate_to_a_floor_that_moves_too() -> None:
    def make() -> Any:
        optimizer = optimizer_of()
        return optimizer, S.ReduceLROnPlateau(optimizer, factor=0.5, patience=3, min_lr=1e-3)

    plain = follow(*make(), STEPS)
    optimizer, scheduler = make()
    result().apply(optimizer, scheduler)
    after = follow(optimizer, scheduler, STEPS)
    assert after == pytest.approx(plain * FOUND / 0.02)
    assert after[-1, 0] == pytest.approx(1e-3 * FOUND / 0.02)


def test_a_warmup_and_a_plateau_are_moved_together() -> None:
    def make() -> Any:
        optimizer = optimizer_of()
        warm = S.LinearLR(optimizer, 0.1, 1.0, 8)
        return optimizer, [warm, S.ReduceLROnPlateau(optimizer, factor=0.5, patience=20)]

    plain = follow(*make(), STEPS)
    optimizer, both = make()
    with pytest.raises(InvalidArgument, match=r"ReduceLROnPlateau is attached.*\[scheduler, ...\]"):
        result().apply(optimizer, both[0])
    result().apply(optimizer, both)
    assert follow(optimizer, both, STEPS) == pytest.approx(plain * FOUND / plain[:, 0].max())


def test_a_long_warmup_is_looked_at_to_its_peak() -> None:
    optimizer = optimizer_of()
    scheduler = S.LambdaLR(optimizer, lambda s: min((s + 1) ** -0.5, (s + 1) * 4000**-1.5))
    result().apply(optimizer, scheduler)
    assert follow(optimizer, scheduler, 5000)[:, 0].max() == pytest.approx(FOUND)


def test_tensor_rates_are_filled_and_stay_the_same_tensors() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))], lr=torch.tensor(0.02))
    scheduler = S.CosineAnnealingLR(optimizer, STEPS, eta_min=1e-3)
    tensor = optimizer.param_groups[0]["lr"]
    result(multipliers=(1.0,)).apply(optimizer, scheduler)
    assert optimizer.param_groups[0]["lr"] is tensor
    lrs = follow(optimizer, scheduler, STEPS + 1)[:, 0]
    assert lrs[[0, -1]] == pytest.approx([FOUND, 1e-3 * FOUND / 0.02], rel=1e-4)


class Floor(S.LRScheduler):
    """A warmup to a floor with names of its own."""

    def __init__(self, optimizer: Any, warmup_start_lr: float, lr_min: float) -> None:
        self.warmup_start_lr, self.lr_min = warmup_start_lr, lr_min
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        if self.last_epoch < 10:
            start = self.warmup_start_lr
            return [start + (base - start) * self.last_epoch / 10 for base in self.base_lrs]
        return [max(self.lr_min, base * 0.9 ** (self.last_epoch - 10)) for base in self.base_lrs]


class AroundScheduler:
    """A scheduler that hands over to another, as warmup packages have it."""

    def __init__(self, optimizer: Any, after_scheduler: Any) -> None:
        self.optimizer, self.after_scheduler = optimizer, after_scheduler

    def step(self, epoch: int | None = None) -> None:
        self.after_scheduler.step()


@pytest.mark.parametrize(
    "make",
    [
        lambda o: Floor(o, 1e-4, 1e-3),
        lambda o: AroundScheduler(o, Floor(o, 1e-4, 1e-3)),
        lambda o: S.ChainedScheduler([Floor(o, 1e-4, 1e-3)]),
    ],
    ids=["alone", "around another", "chained"],
)
def test_learning_rates_that_a_scheduler_of_ones_own_keeps_move_too(make: Any) -> None:
    plain, optimizer = optimizer_of(), optimizer_of()
    before = follow(plain, make(plain), STEPS)
    scheduler = make(optimizer)
    result().apply(optimizer, scheduler)
    assert follow(optimizer, scheduler, STEPS) == pytest.approx(before * FOUND / 0.02)


def test_a_function_that_looks_at_its_optimizer_is_seen_through() -> None:
    optimizer = optimizer_of()
    floor = lambda s: max(1e-3 / optimizer.param_groups[0]["initial_lr"], 0.9**s)  # noqa: E731
    scheduler = S.LambdaLR(optimizer, floor)
    with pytest.raises(InvalidArgument, match="follow those of its optimizer"):
        result().apply(optimizer, scheduler)
    assert scheduler.base_lrs == [0.02, 0.005]
    assert [group["lr"] for group in optimizer.param_groups] == [0.02, 0.005]


class NoamOpt:
    """As in "The Annotated Transformer": it sets the rate and steps the optimizer."""

    def __init__(self, optimizer: Any) -> None:
        self.optimizer, self.made = optimizer, 0

    def step(self) -> None:
        self.made += 1
        for group in self.optimizer.param_groups:
            group["lr"] = 64**-0.5 * min(self.made**-0.5, self.made * 20**-1.5)
        self.optimizer.step()


def test_a_wrapper_that_sets_the_rate_itself_is_noticed_and_refused() -> None:
    optimizer = optimizer_of()
    wrapper = NoamOpt(optimizer)
    with pytest.raises(InvalidArgument, match="a NoamOpt is attached"):
        result().apply(optimizer)
    with pytest.raises(InvalidArgument, match="a NoamOpt, expected one whose"):
        result().apply(optimizer, wrapper)
    assert optimizer.param_groups[0]["lr"] == 0.02


class Noam(S.LRScheduler):
    def get_lr(self) -> list[Any]:
        n = self.last_epoch + 1
        return [64**-0.5 * min(n**-0.5, n * 20**-1.5) for _ in self.base_lrs]


class HiddenFloor(S.LRScheduler):
    """Follows its optimizer at first."""

    def get_lr(self) -> list[Any]:
        return [max(1e-3, base * 0.9**self.last_epoch) for base in self.base_lrs]


OWN_RATES: dict[str, Callable[[Any], Any]] = {
    "Noam": Noam,
    "a hidden floor": HiddenFloor,
    "Noam after a warmup": lambda o: S.SequentialLR(o, [S.ConstantLR(o, 0.1, 5), Noam(o)], [5]),
    "Noam in a chain": lambda o: S.ChainedScheduler([S.ExponentialLR(o, 0.9), Noam(o)]),
}


@pytest.mark.parametrize("name", OWN_RATES)
def test_a_scheduler_that_computes_its_own_rates_is_refused_and_nothing_is_set(name: str) -> None:
    plain, optimizer = optimizer_of(), optimizer_of()
    before = follow(plain, OWN_RATES[name](plain), STEPS)
    scheduler = OWN_RATES[name](optimizer)
    with pytest.raises(
        InvalidArgument, match=r"follow those of its optimizer.*Nothing was changed"
    ):
        result().apply(optimizer, scheduler)
    assert (follow(optimizer, scheduler, STEPS) == before).all()


def test_a_scheduler_of_its_own_rates_is_told_with_its_line() -> None:
    optimizer = optimizer_of()
    scheduler = Noam(optimizer)
    with pytest.raises(InvalidArgument, match=r"by itself \(.*test_schedulers\.py:\d+\)"):
        result().apply(optimizer, scheduler)


# ----------------------------------------------------------------------- is one attached at all?


ATTACHED = ["LambdaLR", "SequentialLR nested", "CyclicLR", "ReduceLROnPlateau", "AroundScheduler"]


@pytest.mark.parametrize("name", ATTACHED)
def test_an_attached_scheduler_must_be_given(name: str) -> None:
    others: dict[str, Any] = {
        "ReduceLROnPlateau": S.ReduceLROnPlateau,
        "AroundScheduler": lambda o: AroundScheduler(o, S.ExponentialLR(o, 0.9)),
    }
    optimizer = optimizer_of()
    scheduler = {**SCHEDULERS, **others}[name](optimizer)
    before = [dict(group) for group in optimizer.param_groups]
    message = rf"a {type(scheduler).__name__} is attached.*apply\(optimizer, scheduler\)"
    with pytest.raises(InvalidArgument, match=message):
        result().apply(optimizer)
    assert [dict(group) for group in optimizer.param_groups] == before
    assert len(attached_to(optimizer.param_groups)) == 1


def test_a_scheduler_that_is_gone_is_none() -> None:
    optimizer = optimizer_of()
    scheduler = warmup_then_cosine(optimizer)
    scheduler.itself = scheduler  # waits for the garbage collector
    del scheduler
    result().apply(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == [FOUND, 0.25 * FOUND]
    again = S.LambdaLR(optimizer, lambda s: 1.0)
    assert follow(optimizer, again, 3)[:, 0].tolist() == [FOUND] * 3


def test_marks_that_came_with_a_checkpoint_are_no_scheduler() -> None:
    trained = optimizer_of()
    scheduler = S.LinearLR(trained, 0.1, 1.0, 10)
    optimizer = optimizer_of()
    optimizer.load_state_dict(trained.state_dict())
    assert "initial_lr" in optimizer.param_groups[0]
    result().apply(optimizer)
    assert optimizer.param_groups[0]["lr"] == optimizer.param_groups[0]["initial_lr"] == FOUND
    assert scheduler.base_lrs[0] == 0.02


def test_the_scheduler_of_another_optimizer_is_no_matter_and_cannot_be_given() -> None:
    optimizer, other = optimizer_of(), optimizer_of()
    scheduler = S.ExponentialLR(other, 0.9)
    with pytest.raises(InvalidArgument, match="a ExponentialLR of another optimizer"):
        result().apply(optimizer, scheduler)
    result().apply(optimizer)
    assert other.param_groups[0]["lr"] == 0.02


@pytest.mark.parametrize("thing", ["cosine", 3, object()])
def test_what_is_no_scheduler_is_refused(thing: Any) -> None:
    with pytest.raises(InvalidArgument, match="scheduler: got"):
        result().apply(optimizer_of(), thing)


def test_a_scheduler_made_afterwards_takes_the_new_rate_for_its_own() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=1e-9)
    result(multipliers=(1.0,)).apply(optimizer)
    scheduler = transformers.get_polynomial_decay_schedule_with_warmup(optimizer, 0, STEPS)
    lrs = follow(optimizer, scheduler, STEPS)[:, 0]
    assert lrs[[0, STEPS // 2]] == pytest.approx([FOUND, FOUND / 2], rel=1e-4)


# ----------------------------------------------------------------------------- read from a copy


@pytest.mark.parametrize("name", ["LambdaLR", "OneCycleLR", "SequentialLR", "warm restarts"])
def test_reading_leaves_optimizer_and_scheduler_alone(name: str) -> None:
    plain, optimizer = optimizer_of(), optimizer_of()
    before = follow(plain, SCHEDULERS[name](plain), STEPS)
    scheduler = SCHEDULERS[name](optimizer)
    planned_schedule(scheduler, STEPS)
    assert (follow(optimizer, scheduler, STEPS) == before).all()


def test_a_method_of_the_model_is_called_and_the_model_not_copied() -> None:
    class Model(torch.nn.Linear):
        def factor(self, step: int) -> float:
            return 1 / (1 + step)

        def __deepcopy__(self, memo: Any) -> Any:
            raise AssertionError("copied")

    optimizer = optimizer_of()
    model = Model(1, 1)
    table = planned_schedule(S.LambdaLR(optimizer, model.factor), 4)
    assert table.multipliers == pytest.approx((1, 1 / 2, 1 / 3, 1 / 4))


def test_a_function_that_counts_its_calls_is_read_from_a_copy() -> None:
    class Counts:
        calls = 0

        def __call__(self, step: int) -> float:
            self.calls += 1
            return 0.5**self.calls

    optimizer, counts = optimizer_of(), Counts()
    scheduler = S.LambdaLR(optimizer, counts)
    made = counts.calls
    planned_schedule(scheduler, 10)
    assert counts.calls == made


def test_what_needs_an_argument_to_be_stepped_names_the_way_out() -> None:
    class Timed:
        def __init__(self, optimizer: Any) -> None:
            self.optimizer = optimizer

        def step(self, epoch: int) -> None: ...

    with pytest.raises(InvalidArgument, match=r"needs 'epoch'.*schedule="):
        Twin([Timed(optimizer_of())])


def test_one_that_cannot_be_copied_names_the_way_out() -> None:
    optimizer = optimizer_of()
    scheduler = S.StepLR(optimizer, 3)
    vars(scheduler)["log"] = (line for line in "abc")
    with pytest.raises(InvalidArgument, match=r"cannot be copied.*schedule="):
        planned_schedule(scheduler, 10)


# ------------------------------------------------------------------------- searched and applied


def problem(make: Callable[[Any], Any]) -> Any:
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 1)
    x = torch.randn(64, 3)
    y = x.sum(1, keepdim=True) + 0.1 * torch.randn(64, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.5)
    batches = [(x[i : i + 8], y[i : i + 8]) for i in range(0, 64, 8)]
    return (model, optimizer, torch.nn.functional.mse_loss, batches), make(optimizer)


@pytest.mark.parametrize("at", [0, 30])
@pytest.mark.parametrize(
    "name", ["SequentialLR", "get_linear_schedule_with_warmup", "OneCycle", "LambdaLR from zero"]
)
def test_the_run_after_applying_peaks_at_the_answer(name: str, at: int) -> None:
    one_cycle = lambda o: S.OneCycleLR(o, 1e-3, total_steps=STEPS)  # noqa: E731
    task, scheduler = problem({**SCHEDULERS, "OneCycle": one_cycle}[name])
    follow(task[1], scheduler, at)
    options: Any = {"method": lrsearch.Sweep([0.01, 0.1]), "progress": False, "throw": False}
    found = lrsearch.find_lr(*task, train_steps=STEPS - at, schedule=scheduler, **options)
    planned = found.curves[0].lr
    assert planned.max() == pytest.approx(0.01)
    found = Result.from_outcome(found, status=lrsearch.Status.FOUND, lr=0.1)
    found.apply(task[1], scheduler)
    assert follow(task[1], scheduler, STEPS - at)[:, 0] == pytest.approx(10 * planned)


def test_a_short_trial_runs_the_scheduler_compressed() -> None:
    optimizer = optimizer_of()
    shape = planned_schedule(warmup_then_cosine(optimizer), STEPS)
    lrs = multipliers(shape, 20)
    assert 1 < np.argmax(lrs) < 5
    assert lrs[0] == pytest.approx(0.1)
    assert 0.02 < lrs[-1] < 0.1
    assert repr(shape).startswith("SequentialLR over 60 updates")


def test_a_scheduler_needs_the_length_of_the_run() -> None:
    task, scheduler = problem(warmup_then_cosine)
    with pytest.raises(InvalidArgument, match="a SequentialLR, expected train_steps beside it"):
        lrsearch.find_lr(*task, schedule=scheduler, progress=False)


def test_a_plateau_counts_as_constant() -> None:
    task, scheduler = problem(S.ReduceLROnPlateau)
    found = lrsearch.find_lr(
        *task, train_steps=10, schedule=scheduler, method=lrsearch.Sweep([0.01]), progress=False,
        throw=False,
    )  # fmt: skip
    assert found.curves[0].lr.tolist() == pytest.approx([0.01] * 10)


SCHEDULES: dict[str, Any] = {
    "a name after a warmup": {"schedule": "linear", "warmup_steps": 10},
    "a share of warmup": {"schedule": "cosine", "warmup_steps": 0.2},
    "a sequence": {"schedule": [0.5, 1.0, 1.0, 0.25]},
    "a callable above one": {"schedule": lambda step, total: 3.0 * (1 - step / total)},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_find_lr_and_search_take_every_schedule(name: str) -> None:
    task, _ = problem(lambda o: None)
    options: Any = {
        "train_steps": 40,
        "method": lrsearch.Sweep([0.01]),
        "progress": False,
        "throw": False,
        **SCHEDULES[name],
    }
    found = lrsearch.find_lr(*task, **options)
    same = lrsearch.search(torch_trainable(*task), **options)
    assert found.curves[0].lr.tolist() == same.curves[0].lr.tolist()
    assert found.curves[0].lr.max() == pytest.approx(0.01)
    assert "peak_over_base" not in found.settings


def test_a_schedule_that_ignores_total_is_told_once() -> None:
    task, _ = problem(lambda o: None)
    options: Any = {"train_steps": 40, "method": lrsearch.Sweep([0.01]), "throw": False}
    with pytest.warns(UserWarning, match="does not look at total") as told:
        lrsearch.find_lr(*task, schedule=lambda s, total: 0.9**s, progress=False, **options)
    assert len(told) == 1
    assert told[0].filename == __file__


def test_accelerates_optimizer_and_scheduler_are_looked_through() -> None:
    accelerator = Accelerator(cpu=True)
    plain = optimizer_of()
    before = follow(plain, warmup_then_cosine(plain), STEPS)
    inner = optimizer_of()
    optimizer, scheduler = accelerator.prepare(inner, warmup_then_cosine(inner))
    with pytest.raises(InvalidArgument, match="a SequentialLR is attached"):
        result().apply(optimizer)
    shape = planned_schedule(scheduler, STEPS)
    assert isinstance(shape, Table)
    assert shape.multipliers == pytest.approx(before[:, 0] / before.max())
    result().apply(optimizer, scheduler)
    after = follow(inner, scheduler.scheduler, STEPS)
    assert after == pytest.approx(before * FOUND / before.max())


def test_reading_warns_of_nothing_and_leaves_nothing_to_collect() -> None:
    optimizer = optimizer_of()
    scheduler = warmup_then_cosine(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result().apply(optimizer, scheduler)
    gc.collect()
    assert attached_to(optimizer.param_groups) == [scheduler]
    assert math.isclose(scheduler.base_lrs[0] if hasattr(scheduler, "base_lrs") else 1.0, 1.0)
