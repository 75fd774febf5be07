"""Batched trials against sequential ones: same losses, trial by trial, and nothing left behind."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lrsearch.core.curve import Stop
from lrsearch.core.search import Plan, run_search
from lrsearch.core.trainable import Evaluable, LanesFailed, ManyLanes
from lrsearch.methods.sweep import Sweep
from lrsearch.pytorch.trainable import TorchTrainable, torch_trainable
from lrsearch.pytorch.vectorized import BatchedTrials, choose, trials
from lrsearch.pytorch.vectorized.gradients import GradientSource
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import CLASSES, FEATURES, data, loader, train

LOSS = nn.functional.cross_entropy
STEPS = 12
Losses = npt.NDArray[np.float64]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny kernels on more threads than idle cores wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def network(seed: int = 0) -> nn.Module:
    """BatchNorm and dropout; no bias before BatchNorm, whose gradient is rounding alone."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(FEATURES, 16, bias=False),
        nn.BatchNorm1d(16),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(16, CLASSES),
    )


def trainable(
    model: nn.Module | None = None,
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
    batches: Any = None,
    **options: Any,
) -> TorchTrainable:
    model = network() if model is None else model
    made = (optimizer or (lambda p: torch.optim.SGD(p, lr=0.1)))(model.parameters())
    options = {"vectorise": True, "val_loader": DataLoader(data(seed=1), batch_size=96), **options}
    loss_fn = None if "compute_loss" in options else LOSS
    return torch_trainable(
        model, made, loss_fn, loader() if batches is None else batches, **options
    )


def sequential(subject: TorchTrainable, lrs: list[list[float]]) -> tuple[Losses, list[float]]:
    """Separate runs, one after the other: the slow reference."""
    origin = subject.snapshot()
    losses, held = [], []
    for trial in lrs:
        losses.append([subject.step(lr) for lr in trial])
        found = subject.evaluate() if isinstance(subject, Evaluable) else np.nan
        held.append(float(getattr(found, "loss", found)))
        subject.restore(origin)
    return np.array(losses), held


@contextmanager
def trials_of(subject: TorchTrainable, count: int) -> Iterator[BatchedTrials]:
    group = subject.lanes(count, steps=1000)
    assert group is not None, subject.why_not
    with group:
        yield group


def batched(subject: TorchTrainable, lrs: list[list[float]]) -> tuple[Losses, list[float]]:
    with trials_of(subject, len(lrs)) as group:
        losses = [group.step(list(step)) for step in zip(*lrs, strict=True)]
        held = group.evaluate() if isinstance(subject, Evaluable) else [np.nan] * len(lrs)
    return np.array(losses).T, held


def peaks(*lrs: float) -> list[list[float]]:
    """Schedules of one shape at several peaks: a warmup, then a decay."""
    shape = np.interp(np.arange(STEPS), [0, 3, STEPS], [0.1, 1.0, 0.2])
    return [list(lr * shape) for lr in lrs]


def assert_equal_to_separate_runs(
    subject: TorchTrainable, *lrs: float, rtol: float = 2e-5, trace: bool | None = True
) -> None:
    expected, expected_held = sequential(subject, peaks(*lrs))
    with watched_sources() as sources:
        found, found_held = batched(subject, peaks(*lrs))
    np.testing.assert_allclose(found, expected, rtol=rtol)
    np.testing.assert_allclose(found_held, expected_held, rtol=10 * rtol)
    assert np.ptp(found[:, -1]) > 1e-4  # the trials do differ
    trusted = [made is not None and made.trusted for made in sources[0]._traces.values()]
    assert trace is None or all(trusted) is trace


@contextmanager
def watched_sources() -> Iterator[list[GradientSource]]:
    """Collect the gradient sources that trials make."""
    made: list[GradientSource] = []
    original = GradientSource.__init__

    def remembered(self: GradientSource, *args: Any) -> None:
        original(self, *args)
        made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GradientSource, "__init__", remembered)
        yield made


# ------------------------------------------------------------------------------- optimizers

OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
    "weight decay": lambda p: torch.optim.SGD(p, lr=0.1, weight_decay=0.1),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "dampening": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, dampening=0.5),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=1e-3),
    "adam with decay": lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.1),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=1e-3, amsgrad=True, betas=(0.8, 0.95)),
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.3),
    "fused adamw": lambda p: torch.optim.AdamW(p, lr=1e-3, fused=True),
    "tensor lr": lambda p: torch.optim.Adam(p, lr=torch.tensor(1e-3)),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3),
    "centered": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.5, centered=True),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, lr_decay=0.1, weight_decay=0.01),
    "accumulator": lambda p: torch.optim.Adagrad(p, lr=0.01, initial_accumulator_value=0.5),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_batched_trials_train_as_sequential_ones_do_with(name: str) -> None:
    assert_equal_to_separate_runs(trainable(optimizer=OPTIMIZERS[name]), 0.003, 0.01, 0.03)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_trials_go_on_from_an_optimizer_that_was_used_before(name: str) -> None:
    model = network()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, loader(), 5)
    assert_equal_to_separate_runs(trainable(model, lambda _: optimizer), 0.003, 0.01, 0.03)


def test_maximizing_trials_climb_as_sequential_ones_do() -> None:
    def maximize(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.AdamW(parameters, lr=1e-3, maximize=True)

    assert_equal_to_separate_runs(trainable(optimizer=maximize), 0.001, 0.003)


def test_adam_without_its_fused_kernel_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrsearch.pytorch.vectorized.optimizers._fuses", lambda gradients: False)
    for name in ("adam", "amsgrad", "adamw"):
        assert_equal_to_separate_runs(trainable(optimizer=OPTIMIZERS[name]), 0.003, 0.01)


def test_groups_keep_their_ratios_and_options() -> None:
    model = network()
    groups = [
        {"params": model[0].parameters(), "lr": 1e-3, "weight_decay": 0.3},
        {"params": [*model[1].parameters(), *model[4].parameters()], "lr": 1e-2},
    ]
    subject = trainable(model, lambda _: torch.optim.AdamW(groups, betas=(0.8, 0.99)))
    assert subject.multipliers == pytest.approx((1.0, 10.0))
    assert_equal_to_separate_runs(subject, 3e-4, 1e-3, 3e-3)


def test_parameters_of_one_group_may_have_been_trained_for_different_times() -> None:
    model = network()
    optimizer = torch.optim.Adam(model[0].parameters(), lr=1e-3)
    half = nn.Sequential(*model[1:])
    batches = [(torch.randn(16, FEATURES), torch.randint(CLASSES, (16,)))]
    train(nn.Sequential(model[0], half), optimizer, batches, 4)  # type: ignore[arg-type]
    optimizer.param_groups[0]["params"] += [*half.parameters()]
    assert_equal_to_separate_runs(trainable(model, lambda _: optimizer), 0.001, 0.01)


# -------------------------------------------------------------------- the way a step is made


def test_clipping_is_done_trial_by_trial() -> None:
    for largest in (1e-3, 0.5, 1e3):
        subject = trainable(optimizer=OPTIMIZERS["momentum"], clip_grad_norm=largest)
        assert_equal_to_separate_runs(subject, 0.01, 1.0)


def test_accumulated_batches_make_one_update() -> None:
    assert_equal_to_separate_runs(trainable(accumulate=3, clip_grad_norm=0.5), 0.01, 0.1)


def test_a_last_batch_of_another_size_is_trained_too() -> None:
    batches = DataLoader(data(examples=40), batch_size=16, shuffle=True)
    assert_equal_to_separate_runs(trainable(batches=batches), 0.01, 0.1)


def test_mixed_precision_inside_the_loss_agrees_to_its_own_precision() -> None:
    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return LOSS(model(batch[0]), batch[1])

    torch.manual_seed(0)
    subject = trainable(nn.Linear(FEATURES, CLASSES), compute_loss=compute_loss)
    assert_equal_to_separate_runs(subject, 0.01, 0.1, rtol=5e-3, trace=None)


def test_double_precision_stays_double() -> None:
    inputs, labels = data().tensors
    batches = [(inputs.double(), labels)]
    subject = trainable(network().double(), batches=batches, val_loader=batches)
    assert_equal_to_separate_runs(subject, 0.01, 0.1, rtol=1e-12)


def test_a_scheduler_that_is_attached_changes_nothing() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1e-3, total_iters=100)
    assert_equal_to_separate_runs(trainable(model, lambda _: optimizer), 0.01, 0.1)


def test_trials_begin_in_the_middle_of_a_run_where_the_single_run_stands() -> None:
    subject = trainable()
    for _ in range(7):
        subject.step(0.05)
    assert_equal_to_separate_runs(subject, 0.01, 0.1)


def test_without_held_out_data_there_is_nothing_to_evaluate() -> None:
    subject = trainable(val_loader=None)
    assert_equal_to_separate_runs(subject, 0.01, 0.1)
    with trials_of(subject, 2) as group, pytest.raises(LanesFailed, match="no held-out data"):
        group.evaluate()


# ------------------------------------------------------------------------------------ models


class Everything(nn.Module):
    """Convolution, BatchNorm, attention, LayerNorm, noise, tied weights, an unused parameter."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(CLASSES, 8)
        self.conv = nn.Conv1d(1, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm1d(8)
        self.layer_norm = nn.LayerNorm(8)
        self.qkv = nn.Linear(8, 24)
        self.head = nn.Linear(8, CLASSES)
        self.head.weight = self.embed.weight
        self.unused = nn.Parameter(torch.ones(3))
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1  # type: ignore[operator]
        h = self.norm(self.conv(x.unsqueeze(1))).transpose(1, 2)  # (n, features, 8)
        q, k, v = self.qkv(self.layer_norm(self.frozen(h))).chunk(3, dim=-1)
        h = h + nn.functional.scaled_dot_product_attention(q, k, v)
        # Noise is drawn in the order of memory, which vmap may lay out differently.
        h = nn.functional.gelu(h).contiguous()
        h = nn.functional.dropout(h, 0.1, self.training).mean(1)
        if self.training:
            h = h + 0.1 * torch.randn_like(h)
        return self.head(h)  # type: ignore[no-any-return]


def test_layers_of_many_kinds_train_as_in_separate_runs() -> None:
    subject = trainable(Everything(), OPTIMIZERS["momentum"])
    assert_equal_to_separate_runs(subject, 0.01, 0.05, rtol=2e-4)


def test_a_model_may_have_parameters_that_its_optimizer_does_not_train() -> None:
    model = network()
    subject = trainable(model, lambda _: torch.optim.SGD(model[4].parameters(), lr=0.1))
    assert_equal_to_separate_runs(subject, 0.01, 0.3)


def test_batches_may_be_mappings_with_words_in_them() -> None:
    inputs, labels = data().tensors
    pairs = zip(inputs.split(32), labels.split(32), strict=True)
    batches = [{"x": x, "y": y, "task": "a"} for x, y in pairs]

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        return LOSS(model(batch["x"]), batch["y"])

    subject = trainable(batches=batches, compute_loss=compute_loss, val_loader=batches)
    assert_equal_to_separate_runs(subject, 0.01, 0.1)


def test_the_same_tensor_may_be_input_and_target() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(FEATURES, 3), nn.Tanh(), nn.Linear(3, FEATURES))
    batches = [(x, x) for x in data().tensors[0].split(32)]

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        return nn.functional.mse_loss(model(batch[0]), batch[1])

    subject = trainable(model, batches=batches, compute_loss=compute_loss, val_loader=batches)
    assert_equal_to_separate_runs(subject, 0.1, 1.0)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_with_all_its_options(
    reduction: str, smoothing: float, weighted: bool
) -> None:
    inputs, labels = data().tensors
    ignored = torch.where(torch.arange(len(labels)) % 5 == 0, -100, labels)
    batches = list(zip(inputs.split(32), ignored.split(32), strict=True))
    loss_fn = nn.CrossEntropyLoss(
        torch.arange(1.0, CLASSES + 1) if weighted else None,
        reduction=reduction,
        label_smoothing=smoothing,
    )

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        loss: Tensor = loss_fn(model(batch[0]), batch[1])
        return loss

    subject = trainable(batches=batches, compute_loss=compute_loss, val_loader=batches)
    assert_equal_to_separate_runs(subject, 0.003, 0.01)


def test_classes_ruled_out_by_minus_infinity_cost_nothing() -> None:
    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = batch
        ruled_out = torch.tensor([False, False, True, False])
        return LOSS(model(x).masked_fill(ruled_out, -torch.inf), y.remainder(2))

    assert_equal_to_separate_runs(trainable(compute_loss=compute_loss), 0.01, 0.1)


def test_labels_outside_the_classes_are_an_error_not_a_number() -> None:
    inputs, labels = data().tensors
    subject = trainable(batches=[*[(inputs, labels)] * 5, (inputs, labels + 1)])
    with trials_of(subject, 2) as group:
        for _ in range(5):
            group.step([0.1, 0.2])
        with pytest.raises(LanesFailed, match="out of"):
            group.step([0.1, 0.2])


# -------------------------------------------------------------------------- nothing left behind


def test_the_trainable_is_as_it_was_while_and_after_trials_are_batched() -> None:
    model = network().eval()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    train(model, optimizer, loader(), 3)
    model[3].eval()
    batches = loader()
    subject = torch_trainable(
        model, optimizer, LOSS, batches, val_loader=loader(shuffle=False), vectorise=True
    )
    before = fingerprint(model, optimizer)
    with trials_of(subject, 3) as group:
        for _ in range(4):
            group.step([0.1, 0.2, 0.3])
        group.evaluate()
        group.drop([1])
        group.step([0.1, 0.3])
        inside = fingerprint(model, optimizer)
    for what in ("tensors", "identity", "grads", "requires_grad", "hooks", "optimizer"):
        assert inside[what] == before[what], what
    assert fingerprint(model, optimizer) == before


def test_single_runs_after_batched_trials_are_those_without_them() -> None:
    fresh, used = trainable(), trainable()
    batched(used, peaks(0.1, 0.2))
    assert [used.step(0.1) for _ in range(5)] == [fresh.step(0.1) for _ in range(5)]


def test_an_error_in_a_step_leaves_nothing_behind() -> None:
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    poison = [False]

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        loss = LOSS(model(batch[0]), batch[1])
        if poison[0]:
            raise ZeroDivisionError("poisoned")
        return loss

    subject = torch_trainable(
        model, optimizer, None, loader(), compute_loss=compute_loss, vectorise=True
    )
    group = subject.lanes(2, 10)
    assert group is not None
    before = fingerprint(model, optimizer)
    poison[0] = True
    with pytest.raises(LanesFailed, match="ZeroDivisionError: poisoned"):
        group.step([0.1, 0.2])
    group.close()
    assert fingerprint(model, optimizer)["tensors"] == before["tensors"]
    assert fingerprint(model, optimizer)["grads"] == before["grads"]


def test_errors_of_the_loader_are_those_of_a_sequential_run() -> None:
    class Broken:
        def __iter__(self) -> Iterator[Any]:
            yield from [data().tensors] * 5
            raise OSError("disk gone")

    for way in (True, False):
        with pytest.raises(OSError, match="disk gone"):
            sweep(batches=Broken(), vectorise=way)


# ------------------------------------------------------------------------------------ dropping


@pytest.mark.parametrize("at_once", [False, True])
def test_trials_that_stay_go_on_as_if_the_others_were_never_there(at_once: bool) -> None:
    subject = trainable(optimizer=OPTIMIZERS["momentum"])
    expected, held = sequential(subject, peaks(0.01, 0.02, 0.03, 0.05))
    with trials_of(subject, 4) as group:
        rows = [group.step([trial[k] for trial in peaks(0.01, 0.02, 0.03, 0.05)]) for k in range(5)]
        np.testing.assert_allclose(np.array(rows).T, expected[:, :5], rtol=2e-5)
        group.drop([0, 2])
        group._seconds = -1.0 if at_once else 1e9  # what a new trace seems to cost
        rows = [group.step([trial[k] for trial in peaks(0.02, 0.05)]) for k in range(5, STEPS)]
        assert group._state.count == (2 if at_once else 4)
        np.testing.assert_allclose(np.array(rows).T, expected[[1, 3], 5:], rtol=2e-5)
        np.testing.assert_allclose(group.evaluate(), [held[1], held[3]], rtol=1e-4)
        np.testing.assert_allclose(group.evaluate([1]), [held[3]], rtol=1e-4)
        group.reset()
        rows = [group.step([trial[k] for trial in peaks(0.01, 0.02, 0.03, 0.05)]) for k in range(5)]
        np.testing.assert_allclose(np.array(rows).T, expected[:, :5], rtol=2e-5)


def test_a_trial_that_breaks_does_not_touch_its_neighbours() -> None:
    subject = trainable(optimizer=OPTIMIZERS["momentum"])
    lrs = peaks(0.01, 1e30, 0.03)
    expected, _ = sequential(subject, lrs)
    found, _ = batched(subject, lrs)
    np.testing.assert_allclose(found[[0, 2]], expected[[0, 2]], rtol=2e-5)
    assert not np.isfinite(found[1, -1])


# ---------------------------------------------------------------------------------- evaluation


@pytest.mark.parametrize("quick", [0.0, 1e9])
def test_held_out_losses_batched_and_one_by_one(
    quick: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials, "_QUICK", quick)
    assert_equal_to_separate_runs(trainable(), 0.01, 0.1)


def test_a_loss_that_cannot_be_batched_is_evaluated_one_by_one() -> None:
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.inner(x)
            if not self.training and y.sum() > 0:
                return 2 * y
            return y

    assert_equal_to_separate_runs(trainable(Branching()), 0.01, 0.1)


# -------------------------------------------------------------------- what a trace cannot hold


class Scaled(nn.Module):
    """Scales its output by a number that Python finds anew in every forward pass."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.inner = network()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.inner(x)
        if self.kind == "python":
            return y * (1.0 + random.random())
        if self.kind == "numpy":
            return y * (1.0 + np.random.rand())  # noqa: NPY002
        return y * float(x.sum())


@pytest.mark.parametrize("kind", ["python", "numpy", "item"])
def test_what_python_decides_anew_is_decided_anew(kind: str) -> None:
    assert_equal_to_separate_runs(trainable(Scaled(kind)), 0.01, 0.03, trace=False)


def test_draws_that_nobody_reads_move_the_random_state_all_the_same() -> None:
    class Wasteful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            torch.rand(3)
            y: Tensor = self.inner(x)
            return y

    assert_equal_to_separate_runs(trainable(Wasteful()), 0.01, 0.03, trace=None)


def test_many_shapes_of_batches_get_few_traces() -> None:
    inputs, labels = data().tensors
    batches = [(inputs[:n], labels[:n]) for n in range(8, 40)]
    subject = trainable(batches=batches)
    expected, _ = sequential(subject, [[0.05] * 40, [0.1] * 40])
    with watched_sources() as sources:
        found, _ = batched(subject, [[0.05] * 40, [0.1] * 40])
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    assert 1 <= len(sources[0]._traces) <= 4


# -------------------------------------------------------------------------------- why not batched


def hooked(model: nn.Module) -> nn.Module:
    model[0].register_forward_hook(lambda *_: None)  # type: ignore[operator]
    return model


def parameter_hooked(model: nn.Module) -> nn.Module:
    model[0].weight.register_hook(lambda grad: grad)  # type: ignore[operator, union-attr]
    return model


REASONS: dict[str, tuple[dict[str, Any], str]] = {
    "adadelta": ({"optimizer": torch.optim.Adadelta}, "Adadelta has no update for many lanes"),
    "subclass": ({"optimizer": type("Mine", (torch.optim.SGD,), {})}, "Mine has no update"),
    "scaler": ({"grad_scaler": torch.amp.GradScaler("cpu", enabled=False)}, "gradient scaler"),
    "autocast": ({"autocast": torch.bfloat16}, "autocast does not reach every operation"),
    "hook": ({"model": hooked(network())}, "module '0' has hooks"),
    "parameter hook": ({"model": parameter_hooked(network())}, "a parameter has hooks"),
    "parallel": ({"model": nn.DataParallel(network())}, "spread over devices"),
    "foreign": (
        {"optimizer": lambda p: torch.optim.SGD([*p, nn.Parameter(torch.ones(1))], lr=0.1)},
        "parameters that are not in the model",
    ),
    "differentiable": (
        {"optimizer": lambda p: torch.optim.SGD(p, lr=0.1, differentiable=True)},
        "differentiable",
    ),
}


@pytest.mark.parametrize("name", REASONS)
def test_what_cannot_be_batched_says_why(name: str) -> None:
    options, reason = REASONS[name]
    subject = trainable(**options)
    assert subject.lanes(4, 100) is None
    assert reason in subject.why_not


def test_step_hooks_and_replaced_steps_stay_with_the_single_run() -> None:
    subject = trainable()
    handle = subject._optimizer.register_step_post_hook(lambda *_: None)
    assert subject.lanes(4, 100) is None
    assert "step hooks" in subject.why_not
    handle.remove()
    subject._optimizer.step = lambda: None  # type: ignore[assignment, method-assign]
    assert subject.lanes(4, 100) is None
    assert "was replaced" in subject.why_not


def test_never_means_never() -> None:
    subject = trainable(vectorise=False)
    assert subject.lanes(4, 1000) is None
    assert subject.why_not == "batching is switched off"


# ------------------------------------------------------------------------------------ measured


class Clock:
    """Lets steps take given times: of one trial, of all by vmap, of all from a trace."""

    def __init__(self, alone: float, vmap: float, trace: float) -> None:
        self.seconds = {"step": alone, "rehearse": vmap, "together": trace}
        self.asked: list[str] = []

    def timed(self, action: Callable[[], object]) -> float:
        result = action()
        kind = "step" if isinstance(result, float) else "together"
        if getattr(action, "__name__", "") == "rehearse":
            kind = "rehearse"
        self.asked.append(kind)
        return self.seconds[kind]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float, float], Clock]:
    def started(alone: float, vmap: float, trace: float) -> Clock:
        made = Clock(alone, vmap, trace)
        monkeypatch.setattr(choose, "_timed", made.timed)
        return made

    return started


Started = Callable[[float, float, float], Clock]


def test_trials_are_batched_when_a_few_steps_of_each_show_them_to_be_faster(clock: Started) -> None:
    clock(1e-3, 10e-3, 2.5e-3)
    subject = trainable(vectorise=None)
    expected, _ = sequential(subject, peaks(0.1, 0.2, 0.3, 0.4))
    found, _ = batched(subject, peaks(0.1, 0.2, 0.3, 0.4))
    np.testing.assert_allclose(found, expected, rtol=2e-5)  # measuring left no trace in them


def test_batched_trials_that_are_no_faster_are_not_used_and_not_measured_again(
    clock: Started,
) -> None:
    ticking = clock(1e-3, 10e-3, 4e-3)
    subject = trainable(vectorise=None)
    before = fingerprint(subject._model, subject._optimizer)
    assert subject.lanes(4, 1000) is None
    assert subject.why_not == "measured: together they are no faster"
    assert fingerprint(subject._model, subject._optimizer) == before
    asked = len(ticking.asked)
    assert subject.lanes(3, 1000) is None
    assert subject.why_not == "measured: together they are no faster"
    assert len(ticking.asked) == asked


def test_batched_trials_that_were_faster_are_not_measured_again(clock: Started) -> None:
    ticking = clock(10e-3, 1e-3, 1e-3)
    subject = trainable(vectorise=None)
    for count in (4, 5, 2):
        before = len(ticking.asked)
        with trials_of(subject, count):
            pass
    assert len(ticking.asked) == before


def test_setting_up_has_to_pay_in_every_round(clock: Started) -> None:
    clock(1e-4, 2e-4, 1e-4)
    subject = trainable(vectorise=None)
    with trials_of(subject, 4):
        pass
    assert subject.lanes(4, 2) is None
    assert "too few updates" in subject.why_not


@pytest.mark.parametrize(
    ("alone", "vmap", "why"),
    [(1e-3, 0.013, "small, and far slower than calls cost"), (0.1, 0.39, "heavy, and no faster")],
)
def test_hopeless_models_are_not_even_traced(
    alone: float, vmap: float, why: str, clock: Started
) -> None:
    ticking = clock(alone, vmap, 1e-9)
    assert trainable(vectorise=None).lanes(4, 1000) is None
    assert ticking.asked.count("together") == 0


def test_a_heavy_model_needs_a_round_long_enough_to_pay_for_tracing(clock: Started) -> None:
    clock(0.1, 0.3, 0.2)
    assert trainable(vectorise=None).lanes(40, 25) is not None
    clock(0.1, 2.4, 0.2)
    assert trainable(vectorise=None).lanes(40, 25) is None
    assert trainable(vectorise=None).lanes(40, 100) is not None


@pytest.mark.parametrize(("count", "steps"), [(1, 100_000), (4, 200)])
def test_short_searches_are_not_worth_it(count: int, steps: int, clock: Started) -> None:
    ticking = clock(1e-3, 1e-3, 1e-4)
    subject = trainable(vectorise=None)
    assert subject.lanes(count, steps) is None
    assert "worth setting up" in subject.why_not
    assert ticking.asked == []


# ------------------------------------------------------------------------------ whole searches


def sweep(**options: Any) -> Any:
    method = Sweep(lrs=(1e-3, 1e-2, 0.1, 1.0, 3.0, 1e30))
    return run_search(trainable(**options), method, Plan(train_steps=40))


def squares(model: nn.Module, batch: Any) -> Tensor:
    """Least squares on the labels' indicators: it diverges as a line on a log scale."""
    return (model(batch[0]) - nn.functional.one_hot(batch[1], CLASSES)).square().mean()


def test_a_search_gives_the_same_curves_together_and_sequential() -> None:
    def linear() -> nn.Module:
        torch.manual_seed(0)
        return nn.Linear(FEATURES, CLASSES)

    ours, theirs = (
        sweep(model=linear(), compute_loss=squares, vectorise=way) for way in (True, False)
    )
    assert ours.settings["lanes"] == "together"
    assert theirs.settings["lanes"] == "in turn: batching is switched off"
    assert {curve.stop for curve in ours.curves} == {Stop.COMPLETED, Stop.NOT_FINITE}
    assert ours.cost.steps == theirs.cost.steps
    assert ours.lr == theirs.lr
    for one, other in zip(ours.curves, theirs.curves, strict=True):
        assert (one.lane, one.stop, len(one)) == (other.lane, other.stop, len(other))
        assert len(one.evaluations) == len(other.evaluations)
        np.testing.assert_array_equal(one.lr, other.lr)
        start = min(len(one), 20)  # rounding grows in trials that explode
        np.testing.assert_allclose(one.loss[:start], other.loss[:start], rtol=1e-3)


def test_a_model_that_branches_on_its_data_is_searched_sequentially_and_the_result_says_so() -> (
    None
):
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.inner(x)
            return y if y.sum() > 0 else 2 * y

    ours, theirs = (sweep(model=Branching(), vectorise=way) for way in (True, False))
    assert ours.settings["lanes"].startswith("in turn: ")
    assert "data-dependent control flow" in ours.settings["lanes"]
    assert ours.curves == theirs.curves


def test_recurrent_layers_without_a_batching_rule_are_searched_sequential() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.gru = nn.GRU(1, 6, batch_first=True)
            self.head = nn.Linear(6, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.head(self.gru(x.unsqueeze(2))[0][:, -1])
            return out

    ours, theirs = (sweep(model=Recurrent(), vectorise=way) for way in (True, False))
    assert ours.settings["lanes"].startswith("in turn: ")
    assert ours.curves == theirs.curves


def test_a_torch_trainable_can_batch_trials() -> None:
    assert isinstance(trainable(), ManyLanes)


class Shared(nn.Module):
    """One layer in two places, and a parameter that is a view of another."""

    def __init__(self) -> None:
        super().__init__()
        self.one = self.other = nn.Linear(FEATURES, FEATURES)
        self.head = nn.Linear(FEATURES, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.other(torch.tanh(self.one(x))))  # type: ignore[no-any-return]


class Remembering(nn.Module):
    """A hidden state in an attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(FEATURES, 8), nn.Linear(8, CLASSES)
        self.hidden: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        fits = self.hidden is not None and len(self.hidden) == len(x)
        self.hidden = self.cell(
            x, self.hidden.detach() if fits and self.hidden is not None else None
        )
        return self.head(self.hidden)  # type: ignore[no-any-return]


class Sparse(nn.Module):
    """A sparse buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(FEATURES, CLASSES)
        self.register_buffer("mix", torch.eye(FEATURES).to_sparse())

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.sparse.mm(self.mix, x.T).T)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", [Shared, Remembering, Sparse])
@pytest.mark.parametrize("vectorise", [None, True])
def test_what_cannot_be_batched_is_searched_all_the_same(
    kind: type[nn.Module], vectorise: bool | None
) -> None:
    torch.manual_seed(0)
    model = kind()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attributes = dict(vars(model))
    ours = sweep(model=model, vectorise=vectorise)
    assert vars(model) == attributes
    for name, value in model.state_dict().items():
        assert torch.equal(value.to_dense(), before[name].to_dense())
    torch.manual_seed(0)
    theirs = sweep(model=kind(), vectorise=False)
    for one, other in zip(ours.curves[:2], theirs.curves, strict=False):
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-3)
