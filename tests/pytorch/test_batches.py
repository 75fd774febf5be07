"""Any batch reaches the model, on its device, and any iterable of batches will do."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

import lrsearch
from lrsearch.pytorch.batches import BatchStream, Position
from lrsearch.pytorch.loss import batch_size, to_device
from tests.pytorch.fingerprint import fingerprint
from tests.pytorch.problems import CLASSES, FEATURES, data, loader, network

LOSS = nn.functional.cross_entropy
METHODS: dict[str, dict[str, Any]] = {
    "range": {"method": lrsearch.RangeTest(40)},
    "race": {"method": lrsearch.Race(), "train_steps": 60},
}
both = pytest.mark.parametrize("method", METHODS)


def find(model: nn.Module, loss_fn: Any, batches: Any, **options: Any) -> lrsearch.Result:
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    return lrsearch.find_lr(
        model, optimizer, loss_fn, batches, **{"progress": False, "throw": False, **options}
    )


def losses(result: lrsearch.Result) -> list[list[float]]:
    return [curve.loss.tolist() for curve in result.curves]


PAIRS = list(loader(shuffle=False))


class Named(NamedTuple):
    x: Tensor
    y: Tensor


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: Tensor
    y: Tensor
    size: int = dataclasses.field(init=False, default=0)


class Encoding(collections.UserDict):  # type: ignore[type-arg]
    """What tokenizers return: a mapping that moves itself."""

    def to(self, device: torch.device) -> Encoding:
        return Encoding({key: value.to(device) for key, value in self.data.items()})


# ------------------------------------------------------------------------- kinds of batches

KINDS: dict[str, Any] = {
    "tuple": (lambda x, y: (x, y), lambda b: (b[0], b[1])),
    "list": (lambda x, y: [x, y], lambda b: (b[0], b[1])),
    "named tuple": (Named, lambda b: (b.x, b.y)),
    "mapping": (lambda x, y: {"x": x, "y": y}, lambda b: (b["x"], b["y"])),
    "ordered mapping": (
        lambda x, y: collections.OrderedDict(x=x, y=y),
        lambda b: (b["x"], b["y"]),
    ),
    "dataclass": (Frozen, lambda b: (b.x, b.y)),
    "nested": (
        lambda x, y: {"in": [(x, "text")], "out": {"y": y}},
        lambda b: (b["in"][0][0], b["out"]["y"]),
    ),
    "encoding": (lambda x, y: Encoding(x=x, y=y), lambda b: (b["x"], b["y"])),
    "three inputs": (lambda x, y: (x, torch.zeros_like(x), y), lambda b: (b[0] + b[1], b[2])),
}


@both
@pytest.mark.parametrize("kind", KINDS)
def test_the_same_data_in_any_batch_give_the_same_search(kind: str, method: str) -> None:
    build, read = KINDS[kind]

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = read(batch)
        return LOSS(model(x), y)

    made = [build(x, y) for x, y in PAIRS]
    found = find(
        network(), None, made, compute_loss=compute_loss, val_loader=made[:3], **METHODS[method]
    )
    expected = find(network(), LOSS, PAIRS, val_loader=PAIRS[:3], **METHODS[method])
    assert losses(found) == losses(expected)
    assert [c.evaluations for c in found.curves] == [c.evaluations for c in expected.curves]


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_is_moved_to_the_models_device_and_keeps_its_type(kind: str) -> None:
    build, read = KINDS[kind]
    batch = build(torch.ones(5, 2), torch.zeros(5))
    moved = to_device(batch, torch.device("meta"))
    assert type(moved) is type(batch)
    assert [tensor.device.type for tensor in read(moved)] == ["meta", "meta"]
    assert [tensor.device.type for tensor in read(batch)] == ["cpu", "cpu"]  # not changed
    assert batch_size(batch) == 5


def test_what_moves_itself_is_asked_to_and_the_rest_is_left_alone() -> None:
    packed = nn.utils.rnn.pack_sequence([torch.ones(3, 2), torch.ones(1, 2)])
    assert type(to_device(packed, torch.device("cpu"))) is type(packed)
    assert to_device("text", torch.device("meta")) == "text"
    assert batch_size(["text", {"no": "tensor"}]) == 1


# --------------------------------------------------------------------------- kinds of losses


class OwnLoss(nn.Module):
    """The loss is computed inside ``forward``, as language models do it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = network(), kind

    def forward(self, x: Tensor, y: Tensor) -> Any:
        loss = LOSS(self.net(x), y)
        if self.kind == "tensor":
            return loss
        return {"loss": loss} if self.kind == "mapping" else Output(loss)


@dataclasses.dataclass
class Output:
    loss: Tensor


@both
@pytest.mark.parametrize("batch", ["tuple", "mapping", "encoding"])
@pytest.mark.parametrize("kind", ["attribute", "mapping", "tensor"])
def test_a_loss_inside_forward_is_used(kind: str, batch: str, method: str) -> None:
    batches = [KINDS[batch][0](x, y) for x, y in PAIRS]
    found = find(OwnLoss(kind), None, batches, **METHODS[method])
    assert losses(found) == losses(find(network(), LOSS, PAIRS, **METHODS[method]))


@both
def test_a_triplet_loss_of_three_inputs(method: str) -> None:
    triplet = nn.TripletMarginLoss()

    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        anchor, positive, negative = (model(part) for part in batch)
        return triplet(anchor, positive, negative)

    # The classes take turns: every fourth example is of the same one.
    batches = [(x, x.roll(CLASSES, 0), x.roll(1, 0)) for x, _ in loader(64, shuffle=False)]
    torch.manual_seed(0)
    model = nn.Linear(FEATURES, 3)
    result = find(model, None, batches, compute_loss=compute_loss, **METHODS[method])
    assert result.status.found


class Weighted(nn.Module):
    """Two tasks, weighed by what the loss learns itself (A. Kendall et al., arXiv 1705.07115)."""

    def __init__(self) -> None:
        super().__init__()
        self.log_variance = nn.Parameter(torch.zeros(2))
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.seen += 1
        first, second = LOSS(outputs, targets), outputs.square().mean()
        return (torch.stack([first, second]) * (-self.log_variance).exp()).sum() + (
            self.log_variance.sum()
        )


@both
def test_a_multi_task_loss_with_weights_of_its_own_is_trained_and_put_back(method: str) -> None:
    model, loss_fn = network(), Weighted()
    optimizer = torch.optim.Adam([*model.parameters(), *loss_fn.parameters()], lr=1e-3)
    trained: list[float] = []
    optimizer.register_step_post_hook(
        lambda *_: trained.append(loss_fn.log_variance.abs().sum().item())
    )
    before = fingerprint(model, optimizer, loss_fn)
    result = lrsearch.find_lr(
        model, optimizer, loss_fn, PAIRS, progress=False, throw=False, **METHODS[method]
    )
    assert result.status.found
    assert max(trained) > 0.0
    assert fingerprint(model, optimizer, loss_fn) == before


# -------------------------------------------------------------------------- kinds of loaders


class Stream(IterableDataset[Any]):
    """Examples one after the other, nobody knows how many; workers share them out."""

    def __iter__(self) -> Iterator[Any]:
        info = torch.utils.data.get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        dataset = data(64)
        return (dataset[index] for index in range(first, len(dataset), step))


def generate() -> Iterator[Any]:
    yield from PAIRS


LOADERS: dict[str, Any] = {
    "list": lambda: PAIRS,
    "generator function": lambda: generate,
    "workers": lambda: loader(num_workers=2),
    "workers that stay": lambda: loader(64, num_workers=1, persistent_workers=True),
    "no length": lambda: DataLoader(Stream(), 16),
    "no length, workers": lambda: DataLoader(Stream(), 16, num_workers=2),
    "1 batch": lambda: PAIRS[:1],
    "2 batches": lambda: PAIRS[:2],
    "5 batches": lambda: PAIRS[:5],
}


@both
@pytest.mark.parametrize("kind", LOADERS)
def test_any_loader_is_cycled_for_as_many_updates_as_asked(kind: str, method: str) -> None:
    options = METHODS[method]
    if method == "range":
        # Between bounds at which nothing diverges all updates are made.
        options = {"method": lrsearch.RangeTest(40, min_lr=1e-7, max_lr=1e-4)}
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    batches = LOADERS[kind]()
    before = fingerprint(model, optimizer)
    first = lrsearch.find_lr(
        model, optimizer, LOSS, batches, progress=False, throw=False, **options
    )
    assert fingerprint(model, optimizer) == before
    if method == "range":
        assert [len(curve) for curve in first.curves] == [40]
    again = lrsearch.find_lr(
        model, optimizer, LOSS, batches, progress=False, throw=False, **options
    )
    assert losses(again) == losses(first)


@pytest.mark.parametrize("persistent", [False, True])
def test_the_order_of_a_loader_with_workers_afterwards_is_that_without_a_search(
    persistent: bool,
) -> None:
    def order(search: bool) -> list[float]:
        torch.manual_seed(3)
        batches = loader(64, num_workers=1, persistent_workers=persistent)
        if search:
            find(network(), LOSS, batches, method=lrsearch.RangeTest(10, 1e-5, 1e-4))
            torch.manual_seed(3)
        return [x.sum().item() for _ in range(2) for x, _ in batches]

    assert order(search=True) == order(search=False)


def test_a_search_in_the_middle_of_an_epoch_does_not_disturb_its_workers() -> None:
    batches = loader(64, shuffle=False, num_workers=1, persistent_workers=True)
    expected = [x.sum().item() for x, _ in loader(64, shuffle=False)]
    seen = []
    for number, (x, _) in enumerate(batches):
        seen.append(x.sum().item())
        if number == 1:
            find(network(), LOSS, batches, method=lrsearch.RangeTest(10, 1e-5, 1e-4))
    assert seen == expected


# ------------------------------------------------------------------------- groups of batches


@pytest.mark.parametrize("known", [True, False], ids=["length", "no length"])
def test_the_micro_batches_left_over_at_the_end_of_a_pass_are_a_group_of_their_own(
    known: bool,
) -> None:
    def numbers() -> Iterator[int]:
        yield from range(5)

    stream = BatchStream(list(numbers()) if known else numbers, seed=0)
    groups = [list(stream.group(2)) for _ in range(4)]
    assert groups == [
        [(0, False), (1, True)],
        [(2, False), (3, True)],
        [(4, True)],
        [(0, False), (1, True)],
    ]
    stream.seek(Position(0, 4))
    assert [batch for batch, _ in stream.group(2)] == [4]
