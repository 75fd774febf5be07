"""Loaders, samplers and data sets that count, shuffle or remember by themselves."""

from __future__ import annotations

import itertools
import random
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, TensorDataset

import lrsearch

torchdata = pytest.importorskip("torchdata.stateful_dataloader")
LOSS = nn.functional.cross_entropy
X = torch.randn(48, 4, generator=torch.Generator().manual_seed(0))
DATA = TensorDataset(X, (X.sum(1) > 0).long())
of_torchdata = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")


def find(loader: Any, **options: Any) -> lrsearch.Result:
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    defaults = {"method": lrsearch.Sweep([0.01, 0.1]), "train_steps": 15, "progress": False}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return lrsearch.find_lr(model, optimizer, LOSS, loader, throw=False, **{**defaults, **options})


class CountsItself(IterableDataset[Any]):
    """A stream whose order follows from how often it was read."""

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        order = list(range(48))
        random.Random(self.passes).shuffle(order)
        return (DATA[i] for i in order)


class ShufflesInPlace(Sampler[int]):
    """Shuffles a list, an array and a tensor of its own at every pass."""

    def __init__(self) -> None:
        self.random, self.numpy = random.Random(1), np.random.default_rng(1)
        self.drawn = torch.Generator().manual_seed(1)
        self.order, self.array = list(range(48)), np.arange(48)
        self.tensor = torch.arange(48)

    def __len__(self) -> int:
        return 48

    def __iter__(self) -> Iterator[int]:
        self.random.shuffle(self.order)
        self.numpy.shuffle(self.array)
        self.tensor[:] = self.tensor[torch.randperm(48, generator=self.drawn)]
        return iter([int(self.tensor[self.array[i]]) for i in self.order])


class ForgetsRows(Dataset[Any]):
    """Serves every row once, in a dictionary that it empties, then begins anew."""

    def __init__(self) -> None:
        self.served: dict[int, int] = {}

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> Any:
        self.served[index] = self.served.get(index, 0) + 1
        return DATA[(index + self.served[index]) % 48]


class Resumable:
    """A loader with a place of its own that can be saved and set."""

    def __init__(self) -> None:
        self.start = self.at = 0

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[Any]:
        start, self.start = self.start, 0
        for self.at in range(start + 1, 7):
            yield DATA[(self.at - 1) * 8 : self.at * 8]

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = self.at = state["at"]


class Inside:
    """Wraps a loader under a name that nobody knows."""

    def __init__(self, loader: Any) -> None:
        self.something = loader

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[Any]:
        return iter(self.something)


class Slots:
    """Counts in a slot."""

    __slots__ = ("passes",)

    def __init__(self) -> None:
        self.passes = 0

    def __iter__(self) -> Iterator[Any]:
        self.passes += 1
        rows = [(self.passes * 8 + i) % 48 for i in range(24)]
        return iter([DATA[rows[:8]], DATA[rows[8:16]], DATA[rows[16:]]])


def resumed() -> Any:
    loader = Resumable()
    loader.load_state_dict({"at": 2})
    return loader


def function_over_a_stream() -> Callable[[], Any]:
    stream = CountsItself()
    return lambda: DataLoader(stream, 8)


LOADERS: dict[str, Callable[[], Any]] = {
    "stream": lambda: DataLoader(CountsItself(), 8),
    "stream, workers": lambda: DataLoader(CountsItself(), 8, num_workers=1),
    "sampler": lambda: DataLoader(DATA, 8, sampler=ShufflesInPlace()),
    "data set": lambda: DataLoader(ForgetsRows(), 8),
    "resumed": resumed,
    "wrapped": lambda: Inside(Inside(DataLoader(CountsItself(), 8))),
    "slots": Slots,
    "method": lambda: types.MethodType(lambda self: DataLoader(self, 8), CountsItself()),
    "function": function_over_a_stream,
    "torchdata": lambda: torchdata.StatefulDataLoader(DATA, 8, shuffle=True),
    "torchdata, sampler": lambda: torchdata.StatefulDataLoader(DATA, 8, sampler=ShufflesInPlace()),
}


def rows(loader: Any, passes: int = 3) -> list[Any]:
    torch.manual_seed(3)
    return [
        [batch[0].tolist() for batch in (loader() if callable(loader) else loader)]
        for _ in range(passes)
    ]


@of_torchdata
@pytest.mark.parametrize("kind", LOADERS)
def test_the_data_come_in_the_same_order_as_without_a_search(kind: str) -> None:
    torch.manual_seed(0)
    plain = LOADERS[kind]()
    torch.manual_seed(0)
    searched = LOADERS[kind]()
    rows(plain, 1)
    rows(searched, 1)
    find(searched, val_loader=LOADERS["stream"]())
    assert rows(searched) == rows(plain)


@of_torchdata
@pytest.mark.parametrize("kind", LOADERS)
def test_all_lanes_see_the_same_batches(kind: str) -> None:
    result = find(LOADERS[kind](), method=lrsearch.Sweep([1e-9, 1.1e-9]))
    first, second, baseline = (curve.loss for curve in result.curves)
    np.testing.assert_allclose(first, second, rtol=1e-6)
    np.testing.assert_allclose(first, baseline, rtol=1e-6)
    assert np.ptp(first) > 1e-3  # and not one batch alone


@pytest.mark.parametrize("shared", ["loader", "data set"])
def test_an_evaluation_on_what_is_shared_with_training_changes_nothing(shared: str) -> None:
    stream = CountsItself()
    loader = DataLoader(stream, 8)
    held_out = loader if shared == "loader" else DataLoader(stream, 16)
    without = find(DataLoader(CountsItself(), 8))
    found = find(loader, val_loader=held_out)
    for one, other in zip(found.curves, without.curves, strict=True):
        np.testing.assert_array_equal(one.loss, other.loss)
    assert stream.passes == 0


@of_torchdata
@pytest.mark.parametrize("workers", [0, 2])
def test_a_resumed_loader_goes_on_where_it_was(workers: int) -> None:
    def loader() -> Any:
        return torchdata.StatefulDataLoader(DATA, 8, num_workers=workers)

    source = loader()
    reading = iter(source)
    for _ in range(3):
        next(reading)
    saved = source.state_dict()
    find(source)
    assert repr(source.state_dict()) == repr(saved)
    assert torch.equal(next(reading)[0], X[24:32])
    copy = loader()
    copy.load_state_dict(saved)
    find(copy)
    assert torch.equal(next(iter(copy))[0], X[24:32])


def test_a_stream_in_the_middle_of_which_the_user_is_goes_on_from_there() -> None:
    loader = DataLoader(CountsItself(), 8)
    reading = iter(loader)
    first = [next(reading)[0] for _ in range(2)]
    find(loader)
    rest = [batch[0] for batch in reading]
    again = [batch[0] for batch in DataLoader(CountsItself(), 8)]
    assert all(map(torch.equal, [*first, *rest], again))


def test_data_are_neither_copied_nor_looked_into() -> None:
    from lrsearch.pytorch.epochs import loader_state

    big = TensorDataset(torch.zeros(5000, 2**11), torch.zeros(5000, 2**11))
    many = [{"row": [i]} for i in range(5000)]
    state = loader_state(DataLoader(torch.utils.data.StackDataset(big, many), 8))  # type: ignore[arg-type]
    assert state.tensors.kept == ()
    assert len(state.items) < 50


def test_iterators_of_the_loader_are_ended_even_where_the_error_is_kept() -> None:
    ended: list[str] = []

    class Stream:
        def __iter__(self) -> Iterator[Any]:
            try:
                for start in itertools.count():
                    yield DATA[start % 5 * 8 : start % 5 * 8 + 8]
            finally:
                ended.append("closed")

    def loss(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        raise KeyboardInterrupt

    model = nn.Linear(4, 2)
    with pytest.raises(KeyboardInterrupt) as kept:
        lrsearch.find_lr(model, torch.optim.SGD(model.parameters(), lr=0.1), loss, Stream())
    assert ended == ["closed"]
    assert kept.tb is not None
