"""Loaders that do not say what they are: lengths of 0, functions of one batch, generators apart."""

from __future__ import annotations

import dataclasses
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import lrsearch
from lrsearch.pytorch.batches import BatchStream, Position
from lrsearch.pytorch.random_state import generators_of
from tests.pytorch.problems import data, loader, network

LOSS = nn.functional.cross_entropy
BATCHES = list(loader(shuffle=False))
METHODS: dict[str, dict[str, Any]] = {
    "range": {"method": lrsearch.RangeTest(40)},
    "race": {"method": lrsearch.Race(), "train_steps": 60},
}
both = pytest.mark.parametrize("method", METHODS)


def find(batches: Any, loss_fn: Any = LOSS, **options: Any) -> lrsearch.Result:
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    given = {"progress": False, "throw": False, **options}
    return lrsearch.find_lr(model, optimizer, loss_fn, batches, **given)


def losses(result: lrsearch.Result) -> list[list[float]]:
    return [curve.loss.tolist() for curve in result.curves]


# -------------------------------------------------------------------------------- their length


class Pipe:
    """Gives batches; ``length`` is what it says of how many."""

    def __init__(self, length: Callable[[], Any], batches: Any = BATCHES) -> None:
        self._length, self._batches = length, batches

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)

    def __len__(self) -> Any:
        return self._length()


def raising(error: Exception) -> Callable[[], Any]:
    def length() -> Any:
        raise error

    return length


LENGTHS: dict[str, Callable[[], Any]] = {
    "zero": lambda: 0,
    "negative": lambda: -1,
    "infinite": lambda: float("inf"),
    "not implemented": raising(NotImplementedError()),
    "not known": raising(RuntimeError("the length is not known")),
    "missing attribute": raising(AttributeError("dataset")),
    "beyond an index": lambda: 2**70,
}


@both
@pytest.mark.parametrize("length", LENGTHS)
def test_what_a_loader_says_of_its_length_is_no_proof(length: str, method: str) -> None:
    options = METHODS[method]
    found = find(Pipe(LENGTHS[length]), val_loader=Pipe(LENGTHS[length]), **options)
    unknown = find(lambda: iter(BATCHES), val_loader=lambda: iter(BATCHES), **options)
    assert losses(found) == losses(unknown)
    assert [c.evaluations for c in found.curves] == [c.evaluations for c in unknown.curves]


@pytest.mark.parametrize("length", LENGTHS)
def test_a_loader_without_batches_is_refused_whatever_its_length(length: str) -> None:
    with pytest.raises(lrsearch.InvalidArgument, match="train_loader: got no batches"):
        find(Pipe(LENGTHS[length], ()))


def test_an_iterator_with_a_reset_is_told_to_be_reset() -> None:
    class Pipeline:
        def __iter__(self) -> Any:
            return self

        def __next__(self) -> Any:
            return BATCHES[0]

        def reset(self) -> None:
            pass

    with pytest.raises(lrsearch.InvalidArgument, match=r"a function that calls its reset\(\)"):
        find(Pipeline())


# ------------------------------------------------------------------- functions of one batch

X, Y = data().tensors


def of_torch() -> tuple[Tensor, Tensor]:
    rows = torch.randint(len(X), (16,))
    return X[rows], Y[rows]


def of_numpy() -> list[Tensor]:
    rows = np.random.randint(len(X), size=16)  # noqa: NPY002
    return [X[rows], Y[rows]]


def of_python() -> tuple[Tensor, Tensor]:
    rows = random.sample(range(len(X)), 16)
    return X[rows], Y[rows]


def of_a_loader() -> Any:
    return next(iter(loader()))


def of_own_generator() -> Callable[[], Any]:
    rng = np.random.default_rng(3)

    def get_batch() -> tuple[Tensor, Tensor]:
        rows = rng.integers(len(X), size=16)
        return X[rows], Y[rows]

    return get_batch


class Source:
    def __init__(self) -> None:
        self.rng = random.Random(3)

    def get_batch(self, size: int = 16) -> tuple[Tensor, Tensor]:
        rows = self.rng.sample(range(len(X)), size)
        return X[rows], Y[rows]


FUNCTIONS: dict[str, Callable[[], Callable[..., Any]]] = {
    "torch": lambda: of_torch,
    "NumPy": lambda: of_numpy,
    "Python": lambda: of_python,
    "a loader": lambda: of_a_loader,
    "a generator of its own": of_own_generator,
    "a method": lambda: Source().get_batch,
    "partial": lambda: functools.partial(Source().get_batch, 32),
}


def states_of(function: Any) -> list[Any]:
    return [str(generator.get_state()) for generator in generators_of(function)]


@both
@pytest.mark.parametrize("kind", FUNCTIONS)
def test_a_function_that_returns_one_batch_is_a_loader(kind: str, method: str) -> None:
    get_batch = FUNCTIONS[kind]()
    network()  # seeds torch, as the search's own model does
    around = states_of(get_batch), torch.get_rng_state().tolist(), random.getstate()
    first = find(get_batch, **METHODS[method])
    assert (states_of(get_batch), torch.get_rng_state().tolist(), random.getstate()) == around
    assert first.status.found
    assert losses(first) == losses(find(get_batch, **METHODS[method]))


def test_its_batches_differ_and_come_again_from_any_position() -> None:
    stream = BatchStream(of_torch, seed=1)
    batches = [stream.next()[0] for _ in range(5)]
    assert len({batch.sum().item() for batch in batches}) == 5
    stream.seek(Position(0, 3))
    torch.rand(7)  # what training draws in between does not matter
    assert torch.equal(stream.next()[0], batches[3])
    assert stream.length is None


@dataclasses.dataclass
class Pair:
    x: Tensor
    y: Tensor


@pytest.mark.parametrize("kind", [lambda x, y: {"x": x, "y": y}, Pair], ids=["mapping", "fields"])
def test_its_batch_may_be_of_any_kind(kind: Any) -> None:
    def compute_loss(model: nn.Module, batch: Any) -> Tensor:
        x, y = (batch.x, batch.y) if isinstance(batch, Pair) else (batch["x"], batch["y"])
        return LOSS(model(x), y)

    result = find(lambda: kind(*of_torch()), None, compute_loss=compute_loss, train_steps=40)
    assert losses(result) == losses(find(of_torch, train_steps=40))


def test_a_function_whose_batches_cannot_come_again_is_refused() -> None:
    calls = iter(range(1000))

    def next_batch() -> Any:
        return BATCHES[next(calls)]

    with pytest.raises(lrsearch.InvalidArgument, match="batches differ when all random states"):
        find(next_batch)


# --------------------------------------------------------------------------- generators apart


def test_the_order_of_a_loader_inside_a_function_is_as_before() -> None:
    generator = torch.Generator().manual_seed(5)
    inside = DataLoader(data(), 16, shuffle=True, generator=generator)
    before = generator.get_state()
    first = find(lambda: inside, train_steps=40)
    assert torch.equal(generator.get_state(), before)
    assert losses(first) == losses(find(lambda: inside, train_steps=40))


@pytest.mark.parametrize(
    "make", [np.random.default_rng, np.random.RandomState, random.Random, torch.Generator]
)
def test_a_sampler_with_a_generator_of_its_own_is_as_before(make: Any) -> None:
    class Sampler:
        def __init__(self) -> None:
            self.rng = make() if make is torch.Generator else make(3)

        def __iter__(self) -> Iterator[int]:
            order = list(range(256))
            if make is torch.Generator:
                return iter(torch.randperm(256, generator=self.rng).tolist())
            self.rng.shuffle(order)
            return iter(order)

        def __len__(self) -> int:
            return 256

    batches = DataLoader(data(), 16, sampler=Sampler())
    before = states_of(batches)
    assert len(before) == 1
    first = find(batches, train_steps=40)
    assert states_of(batches) == before
    assert losses(first) == losses(find(batches, train_steps=40))
