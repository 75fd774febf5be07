"""The faults of today's finders, by their number in the design's table: none is ours."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lrsearch
from lrsearch.core.curve import Stop, smooth
from lrsearch.core.search import Plan, run_search
from lrsearch.pytorch.trainable import torch_trainable
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import CLASSES, FEATURES, OPTIMIZERS, data, loader, network, train

LOSS = nn.functional.cross_entropy


def find(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss_fn: Any = LOSS,
    batches: Any = None,
    **options: Any,
) -> lrsearch.Result:
    batches = loader() if batches is None else batches
    return lrsearch.find_lr(
        model, optimizer, loss_fn, batches, **{"progress": False, "throw": False, **options}
    )


@pytest.mark.parametrize("at", [0, 1, 7])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_fault_1_a_non_finite_loss_ends_the_probe_at_once_and_is_kept(
    at: int, value: float
) -> None:
    calls = iter(range(1000))

    def loss_fn(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        factor = value if next(calls) == at else 1.0
        return LOSS(outputs, targets) * factor

    model = network()
    result = find(
        model,
        OPTIMIZERS["sgd"](model.parameters()),
        loss_fn,
        method=lrsearch.RangeTest(min_lr=1e-5, max_lr=1.0),
    )
    curve = result.curves[0]
    assert len(curve) == at + 1
    assert not math.isfinite(curve.loss[-1])
    assert curve.stop is Stop.NOT_FINITE
    if at == 0:
        assert result.status is lrsearch.Status.NOT_FINITE


@pytest.mark.parametrize(("scale", "shift"), [(1.0, -100.0), (1000.0, 0.0), (1e-3, 50.0)])
def test_fault_2_a_shifted_or_scaled_loss_gives_the_same_curve_and_rate(
    scale: float, shift: float
) -> None:
    # Adam does not care about the scale of the loss, so the whole run is the same but for it.
    def result(loss_fn: Any) -> lrsearch.Result:
        model = network().double()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, eps=1e-30)
        batches = [(x.double(), y) for x, y in loader(shuffle=False)]
        return find(model, optimizer, loss_fn, batches)

    plain = result(LOSS)
    other = result(lambda outputs, targets: scale * LOSS(outputs, targets) + shift)
    assert plain.status is lrsearch.Status.FOUND
    assert [len(curve) for curve in other.curves] == [len(curve) for curve in plain.curves]
    assert other.lr == pytest.approx(plain.lr, rel=1e-3)


def test_fault_3_the_answer_does_not_depend_on_how_long_the_trainer_has_run() -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(model, optimizer, loader(), 50)
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moments = optimizer.state_dict()
    used = find(model, optimizer)

    fresh_model = network(seed=9)
    fresh_model.load_state_dict(weights)
    fresh_optimizer = OPTIMIZERS["adam"](fresh_model.parameters())
    fresh_optimizer.load_state_dict(moments)
    torch.manual_seed(123)
    fresh = find(fresh_model, fresh_optimizer)
    assert fresh.curves == used.curves
    assert fresh.lr == used.lr or (math.isnan(fresh.lr) and math.isnan(used.lr))


def test_fault_4_a_snapshot_can_be_restored_twice() -> None:
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    train(model, optimizer, loader(), 5)
    before = fingerprint(model, optimizer)
    trainable = torch_trainable(model, optimizer, LOSS, loader())
    snapshot = trainable.snapshot()
    for _ in range(3):
        for _ in range(4):
            trainable.step(0.1)
        trainable.restore(snapshot)
        assert fingerprint(model, optimizer) == before


def test_fault_5_restoring_is_not_the_users_job_even_when_training_fails() -> None:
    # tests/pytorch/test_errors.py has every place and Ctrl-C; this is the table's own row.
    model = network()
    optimizer = OPTIMIZERS["adam"](model.parameters())
    before = fingerprint(model, optimizer)
    calls = iter(range(1000))

    def loss_fn(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if next(calls) == 30:
            raise RuntimeError("out of memory, say")
        return LOSS(outputs, targets)

    with pytest.raises(RuntimeError, match="out of memory"):
        find(model, optimizer, loss_fn)
    assert fingerprint(model, optimizer) == before


def test_fault_6_a_clean_drop_is_found_where_it_is() -> None:
    lrs = np.geomspace(1e-8, 1.0, 100)
    losses = 2.3 - 2.0 / (1.0 + (1e-2 / lrs) ** 3)
    for rule in ("default", "steepest"):
        answer = lrsearch.suggest(lrsearch.Curve(lrs, losses), rule)
        assert abs(math.log10(answer.lr / 1e-2)) < 0.3


def test_fault_7_the_number_is_a_plain_float_of_the_result() -> None:
    model = network()
    result = find(model, OPTIMIZERS["sgd"](model.parameters()))
    assert type(result.lr) is float
    assert result.low < result.lr < result.high


def test_fault_8_curves_keep_the_raw_losses() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    seen: list[float] = []

    def loss_fn(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = LOSS(outputs, targets)
        seen.append(loss.item())
        return loss

    result = find(model, optimizer, loss_fn)
    assert [loss for curve in result.curves for loss in curve.loss.tolist()] == seen


def test_fault_9_a_constant_loss_is_a_constant_curve() -> None:
    assert smooth(np.ones(20)).tolist() == [1.0] * 20


def test_fault_10_the_recorded_rates_are_those_in_the_optimizer() -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    used: list[float] = []
    optimizer.register_step_pre_hook(lambda opt, *_: used.append(opt.param_groups[0]["lr"]))
    result = find(model, optimizer, method=lrsearch.RangeTest(30, min_lr=1e-6, max_lr=1e-2))
    (curve,) = result.curves
    assert curve.lr.tolist() == used
    assert (curve.lr[0], curve.lr[-1], len(curve)) == (1e-6, 1e-2, 30)


def test_fault_11_the_ratios_between_groups_are_kept() -> None:
    model = network()
    optimizer = torch.optim.SGD(
        [{"params": model[0].parameters(), "lr": 0.1}, {"params": model[4].parameters()}],  # type: ignore[index]
        lr=0.001,
    )
    seen: list[float] = []
    optimizer.register_step_pre_hook(
        lambda opt, *_: seen.append(opt.param_groups[1]["lr"] / opt.param_groups[0]["lr"])
    )
    result = find(model, optimizer)
    assert seen == pytest.approx([0.01] * len(seen))
    assert result.group_lrs == pytest.approx((result.lr, 0.01 * result.lr))


SCHEDULERS: dict[str, Any] = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 10),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 50),
    "one-cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, max_lr=0.1, total_steps=50),
    "warmup": lambda o: torch.optim.lr_scheduler.LambdaLR(o, lambda step: min(1.0, step / 10)),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o),
    "cyclic": lambda o: torch.optim.lr_scheduler.CyclicLR(o, 1e-3, 1e-1),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_fault_12_a_scheduler_may_be_attached_and_is_left_as_it_was(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS["momentum"](model.parameters())
    scheduler = SCHEDULERS[name](optimizer)
    before = fingerprint(model, optimizer, scheduler)
    result = find(model, optimizer)
    assert result.status is lrsearch.Status.FOUND
    assert fingerprint(model, optimizer, scheduler) == before


@pytest.mark.parametrize("kind", ["list", "mapping", "three inputs", "own loss", "function"])
def test_fault_13_any_iterable_of_any_batch_will_do(kind: str) -> None:
    pairs = list(loader(shuffle=False))
    options: dict[str, Any] = {}
    loss_fn: Any = None
    if kind == "list":
        batches, loss_fn = pairs, LOSS
    elif kind == "function":
        batches, loss_fn = (lambda: iter(pairs)), LOSS
    elif kind == "mapping":
        batches = [{"x": x, "y": y} for x, y in pairs]
        options["compute_loss"] = lambda model, batch: LOSS(model(batch["x"]), batch["y"])
    elif kind == "three inputs":
        batches = [(x, y, torch.ones(len(x))) for x, y in pairs]
        options["compute_loss"] = lambda model, batch: (
            LOSS(model(batch[0]), batch[1], reduction="none") * batch[2]
        ).mean()
    else:
        batches = [{"input": x, "labels": y} for x, y in pairs]

    class OwnLoss(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = network()

        def forward(self, input: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"loss": LOSS(self.net(input), labels)}

    model = OwnLoss() if kind == "own loss" else network()
    result = find(model, OPTIMIZERS["adam"](model.parameters()), loss_fn, batches, **options)
    assert result.status is lrsearch.Status.FOUND


@pytest.mark.parametrize("batches", [1, 2, 5])
def test_fault_14_a_short_loader_is_cycled(batches: int) -> None:
    model = network()
    result = find(
        model,
        OPTIMIZERS["sgd"](model.parameters()),
        batches=list(loader())[:batches],
        method=lrsearch.RangeTest(steps=100, min_lr=1e-7, max_lr=1e-3),
    )
    assert [len(curve) for curve in result.curves] == [100]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_fault_15_the_rate_hardly_moves_with_the_seed(name: str) -> None:
    logs = []
    for seed in range(8):
        model = network(seed)
        result = find(model, OPTIMIZERS[name](model.parameters()), seed=seed)
        logs.append(math.log10(result.lr))
    assert np.std(logs) < 0.3


def test_fault_15_labels_that_mean_nothing_give_no_signal() -> None:
    def guess() -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(16, FEATURES), torch.randint(CLASSES, (16,))

    def searched(**options: Any) -> lrsearch.Result:
        # It begins with what is best to say of such labels: that all are as likely.
        model = nn.Linear(FEATURES, CLASSES)
        nn.init.zeros_(model.weight), nn.init.zeros_(model.bias)
        return find(model, torch.optim.SGD(model.parameters(), 0.1), LOSS, guess, **options)

    result = searched()
    assert result.status is lrsearch.Status.NO_SIGNAL
    assert math.isnan(result.lr)
    with pytest.raises(lrsearch.NoLearningRateFound, match="noise") as caught:
        searched(throw=True)
    assert caught.value.result.status is lrsearch.Status.NO_SIGNAL


def test_fault_15_a_loss_that_no_rate_changes_is_told_from_noise() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.weight * 0.0 + x.sum(1)

    model = Constant()
    result = find(
        model, torch.optim.SGD(model.parameters(), 0.1), lambda out, _: out.mean(), loader()
    )
    assert result.status is lrsearch.Status.NO_EFFECT
    assert math.isnan(result.lr)
    with pytest.raises(lrsearch.NoLearningRateFound, match="same at every learning rate") as caught:
        find(
            model,
            torch.optim.SGD(model.parameters(), 0.1),
            lambda out, _: out.mean(),
            loader(),
            throw=True,
        )
    assert caught.value.result.status is lrsearch.Status.NO_EFFECT


def test_fault_16_an_optimum_beyond_the_bounds_is_said_to_be_at_the_edge() -> None:
    model = network()
    result = find(
        model,
        OPTIMIZERS["sgd"](model.parameters()),
        method=lrsearch.RangeTest(min_lr=1e-5, max_lr=0.1),
    )
    assert result.status is lrsearch.Status.AT_EDGE
    assert result.lr <= 0.1


def test_fault_18_an_optimizer_that_finds_its_own_rate_is_recognised() -> None:
    class Prodigy(torch.optim.SGD):
        pass

    model = network()
    with pytest.raises(lrsearch.InvalidArgument, match="finds its own step size"):
        find(model, Prodigy(model.parameters(), lr=1.0))


def test_all_lanes_of_a_range_test_meet_the_same_batches() -> None:
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    batch = 0.0
    seen: dict[int, list[float]] = {}

    def loss_fn(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        nonlocal batch
        batch = float(targets.float() @ torch.arange(len(targets)).float())
        return LOSS(outputs, targets)

    trainable = torch_trainable(model, optimizer, loss_fn, loader())
    outcome = run_search(
        trainable,
        lrsearch.RangeTest(),
        Plan(),
        observer=lambda update: seen.setdefault(update.lane, []).append(batch),
    )
    assert len(outcome.curves) > 1
    longest = max(seen.values(), key=len)
    assert len(set(longest)) > 1
    for curve in outcome.curves:
        assert seen[curve.lane] == longest[: len(curve)]
        assert curve.loss[0] == outcome.curves[0].loss[0]


def test_data_of_the_tests_can_be_learned() -> None:
    model = network()
    losses = train(model, OPTIMIZERS["adam"](model.parameters()), loader(), 300)
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])
    assert len(data()) == 256
