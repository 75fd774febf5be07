"""Whatever objects hold comes back into the very same objects; what cannot is named."""

from __future__ import annotations

import array
import collections
import dataclasses
import itertools
import logging
import random
import threading
from collections import OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import lrsearch
from lrsearch.errors import NotRestored
from lrsearch.pytorch.object_state import capture
from tests.pytorch.fingerprint import fingerprint, plain

LOSS = nn.functional.cross_entropy


class Box:
    def __init__(self, **values: Any) -> None:
        vars(self).update(values)


class Slotted:
    __slots__ = ("late", "number")

    def __init__(self) -> None:
        self.number = 1


@dataclasses.dataclass(frozen=True)
class Frozen:
    seen: list[int]
    count: int = 0


class Pair(collections.namedtuple("Pair", "left right")):
    pass


def everything(_: object) -> bool:
    return True


# ------------------------------------------------------------------------ values of common kinds

# How to make a value, how to change it, and how to look at it.
KINDS: dict[str, tuple[Any, Any, Any]] = {
    "list": (lambda: [1, 2], lambda v: v.append(3), list),
    "list of lists": (lambda: [[1], [2]], lambda v: v[1].append(3), repr),
    "dictionary": (lambda: {"a": 1, "b": 2}, lambda v: (v.pop("a"), v.update(c=3)), repr),
    "order of a dictionary": (lambda: {"a": 1, "b": 2}, lambda v: v.update(a=v.pop("a")), repr),
    "ordered dictionary": (lambda: OrderedDict(a=1, b=2), lambda v: v.move_to_end("a"), repr),
    "default dictionary": (lambda: defaultdict(list), lambda v: v["x"].append(1), repr),
    "counter": (lambda: collections.Counter("aab"), lambda v: v.update("bcd"), repr),
    "set": (lambda: {1, 2}, lambda v: (v.discard(1), v.add(7)), sorted),
    "deque": (lambda: deque([1, 2], maxlen=2), lambda v: v.append(3), repr),
    "tuple of lists": (lambda: ([1], [2]), lambda v: v[0].clear(), repr),
    "named tuple": (lambda: Pair([1], 2), lambda v: v.left.append(2), repr),
    "frozen dataclass": (lambda: Frozen([1]), lambda v: v.seen.append(2), repr),
    "forced dataclass": (lambda: Frozen([1]), lambda v: vars(v).update(count=5), repr),
    "slots": (
        Slotted,
        lambda v: (setattr(v, "number", 2), setattr(v, "late", 3)),
        lambda v: (v.number, hasattr(v, "late")),
    ),
    "array": (lambda: np.arange(3.0), lambda v: v.fill(np.nan), lambda v: v.tobytes()),
    "array of objects": (
        lambda: of_objects([1], [2]),
        lambda v: v[0].append(5),
        repr,
    ),
    "resized array": (
        lambda: np.arange(3),
        lambda v: v.resize(5, refcheck=False),
        lambda v: v.tolist(),
    ),
    "NumPy generator": (
        lambda: np.random.default_rng(1),
        lambda v: v.random(3),
        lambda v: repr(v.bit_generator.state),
    ),
    "NumPy's old generator": (
        lambda: np.random.RandomState(1),
        lambda v: v.rand(3),
        lambda v: repr(v.get_state()),
    ),
    "Python's generator": (lambda: random.Random(1), lambda v: v.random(), lambda v: v.getstate()),
    "torch generator": (
        lambda: torch.Generator().manual_seed(1),
        lambda v: torch.randn(3, generator=v),
        lambda v: v.get_state().tolist(),
    ),
    "bytes in place": (lambda: bytearray(b"ab"), lambda v: v.extend(b"c"), bytes),
    "array of the standard library": (
        lambda: array.array("d", [1.0]),
        lambda v: v.append(2.0),
        list,
    ),
    "tensor": (lambda: torch.ones(3), lambda v: v.zero_(), lambda v: v.tolist()),
    "tensor written through .data": (
        lambda: torch.ones(3),
        lambda v: v.data.zero_(),
        lambda v: v.tolist(),
    ),
    "tensor pointed away": (
        lambda: torch.ones(3),
        lambda v: setattr(v, "data", torch.zeros(5)),
        lambda v: v.tolist(),
    ),
    "tensor of another type": (
        lambda: torch.ones(3),
        lambda v: setattr(v, "data", v.double()),
        lambda v: (v.dtype, v.tolist()),
    ),
    "grown tensor": (
        lambda: torch.ones(3),
        lambda v: v.resize_(700).zero_(),
        lambda v: (v.tolist(), v.untyped_storage().nbytes()),
    ),
    "freed tensor": (
        lambda: torch.ones(3),
        lambda v: v.untyped_storage().resize_(0),
        lambda v: v.tolist(),
    ),
    "tensor that got a history": (
        lambda: torch.ones(3),
        lambda v: v.mul_(torch.ones(3, requires_grad=True)),
        lambda v: (v.requires_grad, v.is_leaf),
    ),
    "attribute of a tensor": (
        lambda: torch.ones(3),
        lambda v: setattr(v, "note", 1),
        lambda v: dict(vars(v)),
    ),
    "gradient added to": (
        lambda: with_gradient(),
        lambda v: v.grad.add_(1),
        lambda v: v.grad.tolist(),
    ),
    "gradient that is new": (
        lambda: torch.ones(3, requires_grad=True),
        lambda v: v.sum().backward(),
        lambda v: v.grad,
    ),
    "frozen parameter": (
        lambda: torch.ones(3, requires_grad=True),
        lambda v: v.requires_grad_(False),
        lambda v: v.requires_grad,
    ),
    "sparse tensor": (
        lambda: torch.eye(3).to_sparse(),
        lambda v: v.zero_(),
        lambda v: v.to_dense().tolist(),
    ),
    "bfloat16": (
        lambda: torch.full((3,), 0.1).bfloat16(),
        lambda v: v.zero_(),
        lambda v: v.tolist(),
    ),
    "complex": (
        lambda: torch.ones(3, dtype=torch.complex128),
        lambda v: v.zero_(),
        lambda v: v.tolist(),
    ),
    "negative zero": (
        lambda: torch.tensor([-0.0]),
        lambda v: v.data.abs_(),
        lambda v: torch.signbit(v).tolist(),
    ),
    "object in a list": (lambda: [Box(n=1)], lambda v: setattr(v[0], "n", 2), lambda v: vars(v[0])),
    "object behind a method": (
        lambda: Box(n=[1]).__init__,
        lambda v: v.__self__.n.append(2),
        lambda v: vars(v.__self__),
    ),
    "counting iterator": (
        lambda: Box(c=itertools.count(5)),
        lambda v: next(v.c),
        lambda v: repr(v.c),
    ),
}


def of_objects(*values: Any) -> Any:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


def with_gradient() -> torch.Tensor:
    tensor = torch.ones(3, requires_grad=True)
    tensor.sum().backward()
    return tensor


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_of_any_kind_comes_back_into_the_same_object_and_twice(kind: str) -> None:
    make, change, look = KINDS[kind]
    box = Box(value=make())
    inside, expected = box.value, look(make())
    before = capture([("box", box)], follow=everything)
    for _ in range(2):
        change(box.value)
        box.more = 1
        before.restore()
        assert look(box.value) == expected
        assert box.value is inside
        assert list(vars(box)) == ["value"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_was_replaced_is_there_again(kind: str) -> None:
    box = Box(value=KINDS[kind][0]())
    inside = box.value
    before = capture([("box", box)], follow=everything)
    box.value = None
    before.restore()
    assert box.value is inside


def test_chains_as_long_as_one_likes_are_followed() -> None:
    last = first = Box(next=None, n=0)
    for _ in range(5000):
        last.next = Box(next=None, n=0)
        last = last.next
    before = capture([("first", first)], follow=everything)
    last.n = 1
    before.restore()
    assert last.n == 0


def test_circles_come_to_an_end() -> None:
    box = Box(items=[])
    box.items.append(box)
    before = capture([("box", box)], follow=everything)
    box.items.clear()
    before.restore()
    assert box.items == [box]


def test_what_changed_is_said_by_name() -> None:
    box = Box(
        items=[1], table={"row": 1}, weight=torch.zeros(2), rng=random.Random(0), inner=Box(n=1)
    )
    before = capture([("box", box)], follow=everything)
    assert before.changed() == []
    box.items.append(2)
    box.table["row"] = 2
    box.weight.add_(1)
    box.rng.random()
    box.inner.n = 2
    assert sorted(before.changed()) == sorted(
        ["box.items", "box.table['row']", "box.weight", "box.rng", "box.inner.n"]
    )


# ----------------------------------------------------------------------- what cannot be put back


def test_what_cannot_be_put_back_keeps_nothing_else_from_it_and_is_named() -> None:
    locked = np.arange(3)
    box = Box(first=[1], locked=locked, last=torch.zeros(2), rng=random.Random(0))
    before = capture([("box", box)], follow=everything)
    state = box.rng.getstate()
    box.first.append(2)
    locked[0] = 7
    locked.flags.writeable = False
    box.last.add_(1)
    box.rng.random()
    with pytest.raises(NotRestored, match=r"^not put back: box\.locked \(ValueError: .*stateful"):
        before.restore()
    assert box.first == [1]
    assert box.last.tolist() == [0.0, 0.0]
    assert box.rng.getstate() == state


def test_a_tensor_that_cannot_be_written_is_named_and_the_others_are() -> None:
    inside = torch.zeros(2)
    box = Box(one=torch.zeros(3), two=inside)
    before = capture([("box", box)])
    box.one.add_(1)
    inside.add_(1)
    box.one.__class__ = Unwritable
    with pytest.raises(NotRestored, match=r"box\.one \(RuntimeError: not this one\)") as caught:
        before.restore()
    assert list(caught.value.failures) == ["box.one"]
    assert inside.tolist() == [0.0, 0.0]


class Unwritable(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.copy_:
            raise RuntimeError("not this one")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_tensors_in_read_only_memory_are_read_and_not_written(tmp_path: Path) -> None:
    np.save(tmp_path / "table.npy", np.array([1.0, np.nan, -0.0]))
    mapped = np.load(tmp_path / "table.npy", mmap_mode="r")
    with pytest.warns(UserWarning, match="not writable"):
        table = torch.from_numpy(mapped)
    before = capture([("box", Box(table=table))])
    before.restore()  # writing would end the process
    before.restore()


def test_a_tensor_of_inference_mode_comes_back() -> None:
    with torch.inference_mode():
        bank = torch.ones(3)
    before = capture([("box", Box(bank=bank))])
    with torch.inference_mode():
        bank.zero_()
    before.restore()
    assert bank.tolist() == [1.0, 1.0, 1.0]


def running() -> Any:
    yield from range(100)


def over() -> Any:
    iterator = running()
    list(iterator)
    return iterator


ITERATORS = {
    "generator": running,
    "map": lambda: map(abs, running()),
    "zip": lambda: zip(running(), [1], strict=False),
    "cycle": lambda: itertools.cycle([1, 2]),
    "loader": lambda: iter(torch.utils.data.DataLoader([1, 2])),
    "in a list": lambda: [running()],
    "in an object": lambda: Box(stream=running()),
}


class Holding(nn.Module):
    """A model with something in an attribute."""

    def __init__(self, thing: Any, use: Any = lambda _: None) -> None:
        super().__init__()
        self.head, self.thing, self.use = nn.Linear(4, 2), thing, use

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.use(self.thing)
        return self.head(x)  # type: ignore[no-any-return]


def batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(32, 4, generator=draw)
    return list(zip(x.split(8), (x.sum(1) > 0).long().split(8), strict=True))


def find(model: nn.Module, data: Any = None, **options: Any) -> lrsearch.Result:
    optimizer = options.pop("optimizer", None) or torch.optim.SGD(model.parameters(), lr=0.1)
    defaults = {"method": lrsearch.RangeTest(steps=10), "progress": False, "throw": False}
    return lrsearch.find_lr(
        model, optimizer, options.pop("loss", LOSS), data or batches(), **{**defaults, **options}
    )


@pytest.mark.parametrize("kind", ITERATORS)
def test_an_iterator_that_cannot_be_set_back_is_refused_by_name_before_training(kind: str) -> None:
    used: list[int] = []
    model = Holding(ITERATORS[kind](), lambda _: used.append(1))
    with pytest.raises(lrsearch.InvalidArgument, match=r"^model\.thing.*stateful=\[\.\.\.\]"):
        find(model)
    assert used == []


class SetsBack:
    """What the error asks for."""

    def __init__(self, model: Holding) -> None:
        self.model, self.at = model, 0

    def state_dict(self) -> dict[str, Any]:
        return {"at": self.model.at}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.model.at = state["at"]
        self.model.thing = iter(running())
        for _ in range(state["at"]):
            next(self.model.thing)


def test_the_way_out_of_the_refusal_works() -> None:
    def use(stream: Any) -> None:
        next(stream)
        model.at += 1

    model = Holding(running(), use)
    model.at = 0
    use(model.thing)
    find(model, stateful=[SetsBack(model)])
    assert next(model.thing) == 1


ORDINARY = {
    "lock": threading.Lock,
    "event": threading.Event,
    "logger": lambda: logging.getLogger("some"),
    "function": lambda: LOSS,
    "class": lambda: nn.Linear,
    "module": lambda: itertools,
    "path": lambda: Path("some"),
    "device": lambda: torch.device("cpu"),
    "type": lambda: torch.float32,
    "used iterator": over,
    "data set": lambda: torch.utils.data.TensorDataset(torch.ones(3)),
    "loader": lambda: torch.utils.data.DataLoader([1, 2]),
    "distribution": lambda: torch.distributions.Normal(torch.zeros(1), torch.ones(1)),
    "weak method": lambda: __import__("weakref").ref(Box),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_attributes_are_no_reason_to_refuse(kind: str) -> None:
    find(Holding(ORDINARY[kind]()))


# ------------------------------------------------------------------------ made in the forward pass


class Makes(nn.Module):
    """Makes something on itself in forward, at every call or at the first."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.head, self.make = nn.Linear(4, 2), make

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.make(self)
        return self.head(x)  # type: ignore[no-any-return]


MADE = {
    "buffer": lambda m: m.register_buffer("mask", torch.ones(4)),
    "parameter": lambda m: m.head.register_parameter("scale", nn.Parameter(torch.ones(1))),
    "submodule": lambda m: setattr(m, "extra", nn.Linear(2, 2)),
    "deleted buffer": lambda m: m._buffers.pop("old", None),
    "forward hook": lambda m: m.head.register_forward_hook(lambda *_: None),
    "hook of a tensor": lambda m: m.head.weight.register_hook(lambda _: None),
    "state hook": lambda m: m.register_state_dict_pre_hook(lambda *_: None),
    "frozen": lambda m: m.head.bias.requires_grad_(False),
    "mode of a part": lambda m: m.head.eval(),
    "forward replaced": lambda m: setattr(m.head, "forward", m.head.forward),
}


def parts(model: nn.Module) -> Any:
    containers = [
        (name, key, list(value))
        for name, module in model.named_modules()
        for key, value in vars(module).items()
        if isinstance(value, (dict, set))
    ]
    modes = [(name, module.training) for name, module in model.named_modules()]
    hooks = [len(p._backward_hooks or ()) for p in model.parameters()]
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    return containers, modes, hooks, frozen


@pytest.mark.parametrize("kind", MADE)
def test_what_forward_makes_is_gone_afterwards(kind: str) -> None:
    model = Makes(MADE[kind])
    model.register_buffer("old", torch.zeros(1))
    before = parts(model)
    find(model)
    assert parts(model) == before


class Teacher(nn.Module):
    """Averages its weights into a module that it keeps out of torch's sight."""

    def __init__(self, hide: Any) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.hidden = hide(nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = next(iter(self.hidden.values() if isinstance(self.hidden, dict) else self.hidden))
        with torch.no_grad():
            for one, other in zip(inner[0].parameters(), self.head.parameters(), strict=True):
                one.lerp_(other, 0.1)
        return self.head(x) + inner(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "hide", [lambda m: [m], lambda m: (m,), lambda m: {"ema": m}, lambda m: deque([m])]
)
def test_modules_in_plain_containers_come_back(hide: Any) -> None:
    model = Teacher(hide)
    inner = next(iter(model.hidden.values() if isinstance(model.hidden, dict) else model.hidden))
    for parameter in inner.parameters():
        parameter.grad = torch.ones_like(parameter)
    before = plain(inner.state_dict()), [plain(p.grad) for p in inner.parameters()]
    find(model)
    assert (plain(inner.state_dict()), [plain(p.grad) for p in inner.parameters()]) == before


class WithCentres(nn.Module):
    """A loss with a parameter of its own that no optimizer holds, and a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.centre, self.calls = nn.Parameter(torch.zeros(2)), 0

    def forward(self, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return LOSS(out, y) + (out - self.centre).square().mean()


def test_gradients_added_to_parameters_of_the_loss_are_as_before() -> None:
    loss = WithCentres()
    loss.centre.grad = torch.full((2,), 3.0)
    there = loss.centre.grad
    find(nn.Linear(4, 2), loss=loss)
    assert loss.centre.grad is there
    assert there.tolist() == [3.0, 3.0]
    assert loss.calls == 0


def test_a_loss_that_is_a_plain_object_comes_back() -> None:
    class Running:
        def __init__(self) -> None:
            self.mean, self.history = torch.zeros(1), deque(maxlen=3)

        def __call__(self, out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            loss = LOSS(out, y)
            self.mean.lerp_(loss.detach(), 0.1)
            self.history.append(loss.item())
            return loss

    loss = Running()
    find(nn.Linear(4, 2), loss=loss)
    assert loss.mean.tolist() == [0.0]
    assert list(loss.history) == []


# -------------------------------------------------------------------------------- optimizers inside


class Nested(torch.optim.Optimizer):
    """Several optimizers behind one object, with private containers of all sorts."""

    def __init__(self, parameters: Any) -> None:
        first, *rest = list(parameters)
        self.inner = [
            torch.optim.Adam([first], lr=0.1),
            torch.optim.SGD(rest, lr=0.1, momentum=0.9),
        ]
        super().__init__([first, *rest], {"lr": 0.1})
        self.param_groups = [group for one in self.inner for group in one.param_groups]
        self.past: deque[torch.Tensor] = deque(maxlen=3)
        self.slow: dict[int, torch.Tensor] = {}
        self.counts = collections.Counter[str]()

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        for one in self.inner:
            one.step()
        self.counts["steps"] += 1
        for place, parameter in enumerate(p for g in self.param_groups for p in g["params"]):
            slow = self.slow.setdefault(place, parameter.clone())
            slow.lerp_(parameter, 0.5)
            if self.counts["steps"] % 3 == 0:
                parameter.copy_(slow)
            self.past.append(parameter.clone())


def test_training_after_a_search_with_optimizers_inside_others_equals_training_without() -> None:
    def losses(search: bool) -> list[float]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
        optimizer = Nested(model.parameters())
        found = []
        for step in range(12):
            if step == 5 and search:
                find(model, optimizer=optimizer, method="ladder")
            for x, y in batches():
                optimizer.zero_grad()
                loss = LOSS(model(x), y)
                loss.backward()
                optimizer.step()
                found.append(loss.item())
        return found

    assert losses(True) == losses(False)


# -------------------------------------------------------------------------------------- evaluations


class Reader(nn.Module):
    """Carries a hidden state, a memory, counts and a frequency table from batch to batch."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.head = nn.GRUCell(4, 6), nn.Linear(6, 2)
        self.hidden: torch.Tensor | None = None
        self.memory: deque[torch.Tensor] = deque(maxlen=4)
        self.counts: collections.Counter[str] = collections.Counter()
        self.register_buffer("seen", torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.hidden
        if hidden is None or len(hidden) != len(x):
            hidden = torch.zeros(len(x), 6)
        self.seen += x.mean(0)
        self.counts[str(self.training)] += 1
        hidden = self.cell(x + 0.01 * self.seen, hidden.detach())
        self.hidden = hidden
        self.memory.append(hidden.detach().mean(0))
        return self.head(hidden + torch.stack(list(self.memory)).mean(0))  # type: ignore[no-any-return]


def test_a_lane_with_evaluations_equals_the_plain_loop_without() -> None:
    torch.manual_seed(0)
    model = Reader()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(batches()[0][0])
    before = fingerprint(model, optimizer), list(model.memory), dict(model.counts)
    held_out = [(x[:3], y[:3]) for x, y in batches()]
    options: dict[str, Any] = {"method": lrsearch.Sweep([0.1]), "train_steps": 8}
    with_it = find(model, optimizer=optimizer, val_loader=held_out, **options)
    assert (fingerprint(model, optimizer), list(model.memory), dict(model.counts)) == before
    losses = []
    for x, y in batches() * 2:
        optimizer.zero_grad()
        loss = LOSS(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_array_equal(with_it.curves[0].loss, losses)


def test_batches_that_a_model_changes_in_place_stay_the_users() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.sub_(1.0))  # type: ignore[no-any-return]

    data = batches()
    before = plain(data)
    kept = [x for x, _ in data]
    find(InPlace(), data, val_loader=data, method=lrsearch.Sweep([0.1]), train_steps=5)
    assert plain(data) == before
    assert all(x is one for (x, _), one in zip(data, kept, strict=True))


class Pops(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(4, 2)


def test_mappings_arrays_and_objects_in_batches_stay_the_users_too() -> None:
    @dataclasses.dataclass
    class Row:
        x: torch.Tensor
        y: torch.Tensor

        def to(self, device: torch.device) -> Row:
            self.x, self.y = self.x.to(device), self.y.to(device)
            return self

    def loss(model: Any, batch: Any) -> torch.Tensor:
        row = batch.pop("row")
        batch["weights"] += 1.0
        row.x = row.x.mul_(2.0)
        return LOSS(model.head(row.x), row.y)

    data = [{"row": Row(x, y), "weights": np.ones(3)} for x, y in batches()]
    find(Pops(), data, loss=None, compute_loss=loss)
    assert [sorted(batch) for batch in data] == [["row", "weights"]] * 4
    assert all(float(batch["weights"].sum()) == 3.0 for batch in data)  # type: ignore[attr-defined]
    for batch, (x, _) in zip(data, batches(), strict=True):
        assert torch.equal(batch["row"].x, x)  # type: ignore[attr-defined]
