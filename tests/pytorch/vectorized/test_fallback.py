"""Whatever cannot be batched is searched sequentially: the same curves, and nothing left behind."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lrsearch.core.outcome import Outcome
from lrsearch.core.search import Plan, run_search
from lrsearch.methods.sweep import Sweep
from lrsearch.pytorch.trainable import TorchTrainable, torch_trainable
from tests.pytorch.problems import CLASSES, FEATURES, data

LOSS = nn.functional.cross_entropy
RATES = (1e-3, 1e-2, 0.05)
STEPS = 8


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny kernels on more threads than idle cores wait for each other most of the time."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batches() -> list[tuple[Tensor, Tensor]]:
    inputs, labels = data().tensors
    return list(zip(inputs.split(32), labels.split(32), strict=True))


class Model(nn.Module):
    """Two layers with something between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(FEATURES, 8), nn.Linear(8, CLASSES)
        self.prepare()

    def prepare(self) -> None:
        """Make what the middle needs."""

    def middle(self, h: Tensor) -> Tensor:
        return h

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(torch.tanh(self.first(x))))  # type: ignore[no-any-return]


# --------------------------------------------------------------------------------- batched


class SharedLayer(Model):
    def prepare(self) -> None:
        self.shared = nn.Linear(8, 8)
        self.again = self.shared

    def middle(self, h: Tensor) -> Tensor:
        return torch.tanh(self.again(torch.tanh(self.shared(h))))


class Dropout(Model):
    def prepare(self) -> None:
        self.drop = nn.Dropout(0.3)

    def middle(self, h: Tensor) -> Tensor:
        return self.drop(h)  # type: ignore[no-any-return]


class DropoutOfChannels(Model):
    def middle(self, h: Tensor) -> Tensor:
        images = h.unflatten(1, (2, 2, 2))
        return nn.functional.dropout2d(images, 0.3, self.training).flatten(1)


class Norm(Model):
    def prepare(self) -> None:
        self.norm = nn.BatchNorm1d(8, affine=False)

    def middle(self, h: Tensor) -> Tensor:
        return self.norm(h)  # type: ignore[no-any-return]


class Embedded(Model):
    def prepare(self) -> None:
        self.table = nn.Embedding(8, 8, padding_idx=0)

    def middle(self, h: Tensor) -> Tensor:
        return h + self.table(torch.arange(len(h)) % 8)


class InPlaceOnItsOwn(Model):
    def middle(self, h: Tensor) -> Tensor:
        h = h * 2.0
        h.clamp_(max=1.0)
        h[:, 0] = 0.0
        return h


class CountsInABuffer(Model):
    def prepare(self) -> None:
        self.register_buffer("calls", torch.zeros(()))

    def middle(self, h: Tensor) -> Tensor:
        self.calls += 1  # type: ignore[operator]
        return h / (1.0 + self.calls)  # type: ignore[operator]


class ReplacesABuffer(Model):
    def prepare(self) -> None:
        self.register_buffer("mean", torch.zeros(8))

    def middle(self, h: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * h.detach().mean(0)
        return h - self.mean


BATCHED = (
    SharedLayer,
    Dropout,
    DropoutOfChannels,
    Norm,
    Embedded,
    InPlaceOnItsOwn,
    CountsInABuffer,
    ReplacesABuffer,
)

# ----------------------------------------------------------------------------- not batched


class Gru(Model):
    def prepare(self) -> None:
        self.gru = nn.GRU(8, 8, batch_first=True)

    def middle(self, h: Tensor) -> Tensor:
        return self.gru(h.unsqueeze(1))[0][:, 0]  # type: ignore[no-any-return]


class Branching(Model):
    def middle(self, h: Tensor) -> Tensor:
        return h if h.sum() > 0 else 2 * h


class SparseBuffer(Model):
    def prepare(self) -> None:
        self.register_buffer("graph", torch.eye(32).to_sparse())

    def middle(self, h: Tensor) -> Tensor:
        return torch.sparse.mm(self.graph, h)  # type: ignore[arg-type]


class SparseGradient(Model):
    def prepare(self) -> None:
        self.table = nn.Embedding(8, 8, sparse=True)

    def middle(self, h: Tensor) -> Tensor:
        return h + self.table(torch.arange(len(h)) % 8)


class RemembersATensor(Model):
    def prepare(self) -> None:
        self.hidden: Tensor | None = None

    def middle(self, h: Tensor) -> Tensor:
        mixed = h if self.hidden is None else h + 0.5 * self.hidden
        self.hidden = mixed.detach()
        return mixed


class RemembersInAList(Model):
    def prepare(self) -> None:
        self.seen = [torch.zeros(32, 8)]

    def middle(self, h: Tensor) -> Tensor:
        mixed = h + 0.5 * self.seen[-1]
        self.seen[0] = h.detach()
        return mixed


class RemembersInAHelper(Model):
    def prepare(self) -> None:
        self.helper = type("Helper", (), {})()
        self.helper.queue = deque([torch.zeros(32, 8)], maxlen=1)

    def middle(self, h: Tensor) -> Tensor:
        mixed = h + 0.0 * self.helper.queue[-1]
        self.helper.queue.append(torch.zeros(32, 8) + h.detach())
        return mixed


class Counts(Model):
    def prepare(self) -> None:
        self.calls = 0

    def middle(self, h: Tensor) -> Tensor:
        self.calls += 1
        return h / self.calls


class WritesToAHiddenTensor(Model):
    def prepare(self) -> None:
        self.count = torch.zeros(())

    def middle(self, h: Tensor) -> Tensor:
        self.count += 1
        return h / self.count


class CountsInAnArray(Model):
    def prepare(self) -> None:
        self.calls = np.zeros(1)

    def middle(self, h: Tensor) -> Tensor:
        self.calls[0] += 1
        return h


class HiddenNorm(Model):
    """Statistics that no ``state_dict`` has; read in eval mode only."""

    def prepare(self) -> None:
        self.norms = [nn.BatchNorm1d(FEATURES)]

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.norms[0](x))


class WritesToItsInput(Model):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.mul_(1.0))


class AddsATrialToItsInput(Model):
    def prepare(self) -> None:
        self.shift = nn.Parameter(torch.zeros(FEATURES))

    def forward(self, x: Tensor) -> Tensor:
        x = x.clone()
        x += self.shift
        return super().forward(x)


class Raises(Model):
    """An error of its own where all trials see the same forward pass."""

    def middle(self, h: Tensor) -> Tensor:
        if torch._C._functorch.is_batchedtensor(h):
            raise ZeroDivisionError("only when batched")
        return h


NOT_BATCHED = (
    Gru,
    Branching,
    SparseBuffer,
    SparseGradient,
    RemembersATensor,
    RemembersInAList,
    RemembersInAHelper,
    Counts,
    WritesToAHiddenTensor,
    CountsInAnArray,
    HiddenNorm,
    WritesToItsInput,
    AddsATrialToItsInput,
    Raises,
)


def trainable(model: nn.Module, vectorise: bool | None, **options: Any) -> TorchTrainable:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss_fn = None if "compute_loss" in options else LOSS
    options = {"val_loader": batches()[:2], **options}
    return torch_trainable(model, optimizer, loss_fn, batches(), vectorise=vectorise, **options)


def sweep(subject: TorchTrainable) -> Outcome:
    return run_search(subject, Sweep(RATES), Plan(train_steps=STEPS))


def assert_same_curves(ours: Outcome, theirs: Outcome) -> None:
    for one, other in zip(ours.curves, theirs.curves, strict=True):
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-4)
        np.testing.assert_allclose(one.evaluations, other.evaluations, rtol=1e-4)


def look(model: nn.Module) -> list[Any]:
    """Everything in a model's modules that a forward pass might change, tensors as numbers."""

    def told(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to_dense().tolist()
        if isinstance(value, (list, deque)):
            return [told(item) for item in value]
        return told(vars(value)) if type(value).__name__ == "Helper" else repr(value)

    attributes = [
        (name, told(value)) for module in model.modules() for name, value in vars(module).items()
    ]
    return [attributes, [told(tensor) for tensor in (*model.parameters(), *model.buffers())]]


@pytest.mark.parametrize("kind", BATCHED)
def test_batched_trials_of_it_are_sequential_ones(kind: Callable[[], Model]) -> None:
    ours, theirs = (sweep(trainable(kind(), way)) for way in (True, False))
    assert ours.settings["lanes"] == "together"
    assert_same_curves(ours, theirs)


@pytest.mark.parametrize("way", [True, None])
@pytest.mark.parametrize("kind", NOT_BATCHED)
def test_what_cannot_be_batched_is_searched_sequentially(
    kind: Callable[[], Model], way: bool | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lrsearch.pytorch.vectorized.choose._FEWEST", 1)
    model = kind()
    before = look(model)
    ours, theirs = sweep(trainable(model, way)), sweep(trainable(kind(), False))
    assert str(ours.settings["lanes"]).startswith("in turn")
    if kind not in (
        HiddenNorm,
        RemembersInAHelper,
        CountsInAnArray,
    ):  # no restore knows of their state
        assert ours.curves == theirs.curves
        assert look(model) == before


def test_a_loss_that_remembers_is_searched_sequentially() -> None:
    class Smoothed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mean = 0.0

        def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
            loss = LOSS(outputs, labels)
            self.mean = 0.9 * self.mean + 0.1 * loss.detach()
            return loss + 0.0 * self.mean

    loss_fn = Smoothed()
    model = Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    subject = torch_trainable(model, optimizer, loss_fn, batches(), vectorise=True)
    found = sweep(subject)
    assert "mean" in str(found.settings["lanes"])
    assert float(loss_fn.mean) == 0.0


@pytest.mark.parametrize("place", ["closure", "object", "counter"])
def test_a_function_that_remembers_is_searched_sequentially(place: str) -> None:
    history: list[Tensor] = []
    numbers = itertools.count()
    calls = 0

    class Object:
        last: Tensor | None = None

        def compute_loss(self, model: nn.Module, batch: Any) -> Tensor:
            self.last = LOSS(model(batch[0]), batch[1])
            return self.last

    def closure(model: nn.Module, batch: Any) -> Tensor:
        history.append(LOSS(model(batch[0]), batch[1]))
        return history[-1]

    def counter(model: nn.Module, batch: Any) -> Tensor:
        nonlocal calls
        calls = next(numbers)
        return LOSS(model(batch[0]), batch[1])

    chosen = {"closure": closure, "object": Object().compute_loss, "counter": counter}[place]
    found = sweep(trainable(Model(), True, compute_loss=chosen))
    assert str(found.settings["lanes"]).startswith("in turn")
    assert all(type(loss.item()) is float for loss in history)


def test_an_error_while_choosing_leads_to_sequential_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise NotImplementedError("no such thing")

    monkeypatch.setattr("lrsearch.pytorch.vectorized.choose._of_model", broken)
    found = sweep(trainable(Model(), True))
    assert "NotImplementedError: no such thing" in str(found.settings["lanes"])
    assert found.curves == sweep(trainable(Model(), False)).curves


def test_an_error_late_in_a_trial_leads_to_sequential_trials() -> None:
    class Late(Model):
        def middle(self, h: Tensor) -> Tensor:
            if torch._C._functorch.is_batchedtensor(h) and not self.training:
                raise ZeroDivisionError("only when batched and evaluated")
            return h

    ours, theirs = (sweep(trainable(Late(), way)) for way in (True, False))
    assert ours.settings["lanes"] == "together"  # evaluated one by one
    assert_same_curves(ours, theirs)


def test_ctrl_c_while_trials_are_batched_is_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    model = Model()
    before = look(model)
    monkeypatch.setattr("lrsearch.pytorch.vectorized.state.StackedState.step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        sweep(trainable(model, True))
    assert look(model) == before
