"""Every way of making an update, beside the plain loop that a user would write for it.

The reference makes the updates of each recorded curve again, at the recorded learning rates, in
the plainest PyTorch there is: the losses must be the same, bit for bit.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import prodigyopt
import pytest
import schedulefree
import torch
from torch import Tensor, nn

import lrsearch
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import CLASSES, FEATURES, loader

LOSS = nn.functional.cross_entropy
BATCHES = list(loader(shuffle=False))[:5]
METHODS: dict[str, dict[str, Any]] = {
    "range": {"method": lrsearch.RangeTest(12, min_lr=1e-4, max_lr=1e-1)},
    "race": {"method": lrsearch.Race(), "train_steps": 24},
}
both = pytest.mark.parametrize("method", METHODS)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(FEATURES, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Linear(16, CLASSES)
    )


def matrices() -> nn.Module:
    """Muon takes matrices only."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(FEATURES, 16, bias=False), nn.Tanh(), nn.Linear(16, CLASSES, bias=False)
    )


@dataclass(frozen=True)
class Loop:
    """A training loop: its optimizer, what ``find_lr`` is told, and how it makes an update."""

    optimizer: Callable[[nn.Module], Any] = lambda model: torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9
    )
    options: dict[str, Any] = field(default_factory=dict)
    before_step: Callable[[list[nn.Parameter]], object] = lambda parameters: None
    model: Callable[[], nn.Module] = network
    autocast: Any = nullcontext
    closure: bool = False


def sgd(**options: Any) -> Callable[[nn.Module], Any]:
    return lambda model: torch.optim.SGD(model.parameters(), **{"lr": 0.1, **options})


def of(kind: Any, lr: Any = 1e-2, **options: Any) -> Loop:
    return Loop(lambda model: kind(model.parameters(), lr=lr, **options))


def groups(model: nn.Module) -> torch.optim.Optimizer:
    first, last = model[0], model[-1]  # type: ignore[index]
    slow = {"params": last.parameters(), "lr": 1e-3, "weight_decay": 0.1}
    return torch.optim.SGD([{"params": first.parameters()}, slow], lr=0.1)


LOOPS: dict[str, Loop] = {
    "plain": Loop(),
    "weight decay": Loop(sgd(weight_decay=0.1)),
    "decoupled weight decay": of(torch.optim.AdamW, weight_decay=0.3),
    "accumulation": Loop(options={"accumulate": 2}),
    "accumulation of more than there is": Loop(options={"accumulate": 8}),
    "clipping by norm": Loop(
        options={"clip_grad_norm": 0.05},
        before_step=lambda p: nn.utils.clip_grad_norm_(p, 0.05),
    ),
    "clipping by value": Loop(
        options={"clip_grad_value": 0.005},
        before_step=lambda p: nn.utils.clip_grad_value_(p, 0.005),
    ),
    "clipping by value, then by norm": Loop(
        options={"clip_grad_value": 0.005, "clip_grad_norm": 0.02, "accumulate": 2},
        before_step=lambda p: (
            nn.utils.clip_grad_value_(p, 0.005),
            nn.utils.clip_grad_norm_(p, 0.02),
        ),
    ),
    "groups": Loop(groups),
    "autocast": Loop(
        options={"autocast": torch.bfloat16},
        autocast=lambda: torch.autocast("cpu", torch.bfloat16),
    ),
    "closure": Loop(lambda m: torch.optim.LBFGS(m.parameters(), max_iter=3), closure=True),
    "closure, accumulation, clipping": Loop(
        lambda m: torch.optim.LBFGS(m.parameters(), max_iter=2, history_size=2),
        options={"accumulate": 2, "clip_grad_norm": 0.1},
        before_step=lambda p: nn.utils.clip_grad_norm_(p, 0.1),
        closure=True,
    ),
    "tensor lr": of(torch.optim.Adam, torch.tensor(1e-2, dtype=torch.float64)),
    "tensor lr, fused": of(torch.optim.AdamW, torch.tensor(1e-2), fused=True),
    "tensor lr, SGD": of(torch.optim.SGD, torch.tensor(1e-2, dtype=torch.float64)),
    "foreach": of(torch.optim.Adam, foreach=True),
    "fused": of(torch.optim.SGD, momentum=0.9, fused=True),
    "Muon": Loop(lambda m: torch.optim.Muon(m.parameters(), lr=1e-2), model=matrices),
    "Adafactor": of(torch.optim.Adafactor),
    "NAdam": of(torch.optim.NAdam),
    "RAdam": of(torch.optim.RAdam),
    "Adamax": of(torch.optim.Adamax),
    "Rprop": of(torch.optim.Rprop),
    "ASGD": of(torch.optim.ASGD),
    "Schedule-Free SGD": of(schedulefree.SGDScheduleFree),
    "Schedule-Free AdamW": of(schedulefree.AdamWScheduleFree, warmup_steps=3),
    "Schedule-Free RAdam": of(schedulefree.RAdamScheduleFree),
    "Schedule-Free around another": Loop(
        lambda m: schedulefree.ScheduleFreeWrapper(torch.optim.SGD(m.parameters(), lr=1e-2))
    ),
}


def start(loop: Loop) -> tuple[nn.Module, Any]:
    model = loop.model()
    optimizer = loop.optimizer(model)
    # An object made for all cases of the table must not be shared by them.
    for group in optimizer.param_groups:
        group["lr"] = group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"]
    return model, optimizer


def updates(size: int) -> Iterator[Sequence[Any]]:
    """The micro-batches of every update: none mixes two passes."""
    for _ in itertools.count():
        for first in range(0, len(BATCHES), size):
            yield BATCHES[first : first + size]


def reference(loop: Loop, lrs: Sequence[float]) -> list[float]:
    """The losses of the plain training loop at these learning rates."""
    model, optimizer = start(loop)
    model.train()
    if hasattr(optimizer, "train"):
        optimizer.train()
    ratios = [
        float(g["lr"]) / float(optimizer.param_groups[0]["lr"]) for g in optimizer.param_groups
    ]
    parameters = [p for g in optimizer.param_groups for p in g["params"]]
    losses: list[float] = []
    size = loop.options.get("accumulate", 1)
    for lr, micro_batches in zip(lrs, updates(size), strict=False):
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * ratio)
            else:
                group["lr"] = lr * ratio

        def gradients(micro_batches: Sequence[Any] = micro_batches) -> float:
            optimizer.zero_grad()
            found = []
            for x, y in micro_batches:
                with loop.autocast():
                    loss = LOSS(model(x), y)
                (loss / size).backward()
                found.append(loss.item())
            for p in parameters:  # the mean over the micro-batches that there are
                p.grad = None if p.grad is None else p.grad * (size / len(found))
            loop.before_step(parameters)
            return sum(found) / len(found)

        evaluated: list[float] = []
        if loop.closure:
            optimizer.step(lambda: evaluated.append(gradients()) or evaluated[-1])  # noqa: B023
        else:
            evaluated.append(gradients())
            optimizer.step()
        losses.append(evaluated[0])
    return losses


def find(loop: Loop, by: str, **more: Any) -> lrsearch.Result:
    model, optimizer = start(loop)
    options = {**METHODS[by], **loop.options, **more, "progress": False, "throw": False}
    return lrsearch.find_lr(model, optimizer, LOSS, BATCHES, **options)


@both
@pytest.mark.parametrize("name", LOOPS)
def test_the_recorded_losses_are_those_of_the_plain_loop(name: str, method: str) -> None:
    result = find(LOOPS[name], method)
    assert len(result.curves) >= (1 if method == "range" else 3)
    for curve in result.curves:
        assert curve.loss.tolist() == reference(LOOPS[name], curve.lr.tolist())


@both
@pytest.mark.parametrize("name", LOOPS)
def test_everything_is_as_before(name: str, method: str) -> None:
    model, optimizer = start(LOOPS[name])
    before = fingerprint(model, optimizer)
    options = {**METHODS[method], **LOOPS[name].options, "progress": False, "throw": False}
    for _ in range(2):
        lrsearch.find_lr(model, optimizer, LOSS, BATCHES, val_loader=BATCHES[:2], **options)
        assert fingerprint(model, optimizer) == before


@pytest.mark.parametrize("name", ["clipping by value", "closure", "Muon", "Schedule-Free AdamW"])
def test_what_lanes_cannot_do_is_done_in_turn_and_the_result_says_why(name: str) -> None:
    result = find(LOOPS[name], "race", method=lrsearch.Race(budget=3.0), train_steps=200)
    expected = {"clipping by value": "clipped by value"}.get(name, "no update for many lanes")
    assert expected in str(result.settings["lanes"])


# ------------------------------------------------------------------------------------ groups


@both
def test_the_result_has_a_learning_rate_for_every_group(method: str) -> None:
    result = find(LOOPS["groups"], method)
    assert result.multipliers == pytest.approx((1.0, 0.01))
    assert result.group_lrs == pytest.approx((result.lr, 0.01 * result.lr), nan_ok=True)


# ---------------------------------------------------------------------------------- clipping


def test_both_bounds_of_the_gradient_are_checked() -> None:
    for name in ("clip_grad_norm", "clip_grad_value"):
        with pytest.raises(lrsearch.InvalidArgument, match=f"{name}: got 0"):
            find(Loop(options={name: 0}), "range")


# ------------------------------------------------------------------------------------ scaler


class Overflowing(nn.Module):
    """Its gradient overflows in chosen calls: as with float16, where a scaler skips the update."""

    def __init__(self, at: Sequence[int]) -> None:
        super().__init__()
        self.net, self.at, self.calls = network(), tuple(at), 0

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.net(x)
        if self.calls in self.at:
            out.register_hook(lambda gradient: gradient * math.inf)
        self.calls += 1
        return out


@pytest.mark.parametrize("clip", [None, 0.1])
def test_a_skipped_update_repeats_the_learning_rate(clip: float | None) -> None:
    model = Overflowing(at=[0, 4, 5])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    used: list[float] = []
    optimizer.register_step_pre_hook(lambda opt, *_: used.append(opt.param_groups[0]["lr"]))
    before = fingerprint(model, optimizer, scaler)
    result = lrsearch.find_lr(
        model,
        optimizer,
        LOSS,
        BATCHES,
        method=METHODS["range"]["method"],
        grad_scaler=scaler,
        clip_grad_norm=clip,
        progress=False,
        throw=False,
    )
    (curve,) = result.curves
    assert curve.lr.tolist() == used  # every recorded learning rate made an update, once
    assert len(curve) == 12
    assert fingerprint(model, optimizer, scaler) == before
    assert model.calls == 0  # the plain attribute too is as before


@both
def test_with_a_scaler_losses_are_those_of_the_plain_loop(method: str) -> None:
    # A power of two scales exactly.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=3)
    result = find(LOOPS["clipping by norm"], method, grad_scaler=scaler)
    for curve in result.curves:
        assert curve.loss.tolist() == reference(LOOPS["clipping by norm"], curve.lr.tolist())


def test_gradients_that_always_overflow_end_the_probe() -> None:
    model = Overflowing(at=range(1000))
    result = lrsearch.find_lr(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        LOSS,
        BATCHES,
        grad_scaler=torch.amp.GradScaler("cpu"),
        progress=False,
        throw=False,
    )
    assert result.status is lrsearch.Status.NOT_FINITE


def test_a_scaler_and_a_closure_are_refused_before_training() -> None:
    with pytest.raises(lrsearch.InvalidArgument, match=r"grad_scaler.*LBFGS.*closure"):
        find(LOOPS["closure"], "range", grad_scaler=torch.amp.GradScaler("cpu"))


# ------------------------------------------------------------- optimizers with modes, and without


@both
def test_schedule_free_is_evaluated_on_its_averaged_weights(method: str) -> None:
    loop = LOOPS["Schedule-Free AdamW"]
    result = find(loop, method, val_loader=BATCHES[:2])
    measured = [curve for curve in result.curves if curve.evaluations]
    evaluated = [curve for curve in measured if curve.evaluations[-1][0] == len(curve)]
    assert bool(evaluated) is (method == "race")
    for curve in evaluated[:3]:
        model, optimizer = start(loop)
        optimizer.train()
        for lr, (x, y) in zip(curve.lr.tolist(), itertools.cycle(BATCHES), strict=False):
            optimizer.param_groups[0]["lr"] = lr
            optimizer.zero_grad()
            LOSS(model(x), y).backward()
            optimizer.step()
        optimizer.eval()
        model.eval()
        expected = sum(LOSS(model(x), y).item() for x, y in BATCHES[:2]) / 2
        ((_, loss),) = curve.evaluations
        assert loss == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", [name for name in LOOPS if name.startswith("Schedule-Free")])
def test_the_mode_of_a_schedule_free_optimizer_is_as_before(name: str, training: bool) -> None:
    model, optimizer = start(LOOPS[name])
    optimizer.train()
    for x, y in BATCHES:
        optimizer.zero_grad()
        LOSS(model(x), y).backward()
        optimizer.step()
    if not training:
        optimizer.eval()
    before = fingerprint(model, optimizer)
    options = {**METHODS["race"], "progress": False, "throw": False}
    lrsearch.find_lr(model, optimizer, LOSS, BATCHES, val_loader=BATCHES[:2], **options)
    assert fingerprint(model, optimizer) == before


def test_learning_rate_free_optimizers_are_recognised() -> None:
    model = network()
    with pytest.raises(lrsearch.InvalidArgument, match="d_coef"):
        lrsearch.find_lr(
            model, prodigyopt.Prodigy(model.parameters()), LOSS, BATCHES, progress=False
        )


# ------------------------------------------------------------------------------- no other trace


def test_gradients_of_parameters_that_the_optimizer_does_not_train_are_as_before() -> None:
    model = network()
    optimizer = torch.optim.SGD(model[-1].parameters(), lr=0.1)  # type: ignore[index]
    x, y = BATCHES[0]
    LOSS(model(x), y).backward()
    before = fingerprint(model, optimizer)
    lrsearch.find_lr(
        model, optimizer, LOSS, BATCHES, progress=False, throw=False, **METHODS["range"]
    )
    assert fingerprint(model, optimizer) == before


def test_the_reference_learns() -> None:
    losses = reference(LOOPS["plain"], [0.05] * 100)
    assert math.isfinite(losses[-1])
    assert losses[-1] < 0.5 * losses[0]
