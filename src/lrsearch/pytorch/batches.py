"""Batches without end from anything that can be read again, and from any point on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from lrsearch.errors import During, InvalidArgument, Words
from lrsearch.pytorch.epochs import Epochs, tell_epoch
from lrsearch.pytorch.random_state import generators_of, read_random_state, seed_everything

__all__ = ["NOTHING", "BatchStream", "Position"]

NOTHING: Any = object()  # in the place of a batch where there is none


@dataclass(frozen=True)
class Position:
    """A place in the data.

    Attributes:
        number: of the pass over the data; another order for every one.
        index: of the batch within the pass.
        most: batches of the pass that are read, again and again; or ``None``: all of them,
            and then the next pass.
    """

    number: int
    index: int
    most: int | None = None


class BatchStream:
    """Cycle through ``loader``; the order depends on ``seed`` alone and can be replayed.

    Every pass begins from random states derived from the seed and its number, so nothing
    needs to be stored to see the same batches again.

    Args:
        loader: an iterable of batches, or a function that returns one.
        seed: seed of the order.
        name: how errors name the loader.
        may_be_empty: whether there may be no batches at all, for :meth:`one_pass`.

    Raises:
        InvalidArgument: the loader is empty, cannot be iterated, or can be read only once.
    """

    def __init__(
        self,
        loader: Iterable[Any] | Callable[[], Iterable[Any]],
        seed: int,
        name: str = "train_loader",
        may_be_empty: bool = False,
    ) -> None:
        self._loader = loader
        self._seed = seed
        self.name = name
        self._reading = During(f"reading a batch from {name}")
        self._iterator: Iterator[Any] | None = None
        self._number = self._index = 0
        self._most: int | None = None
        self.generators = generators_of(loader)
        self._epochs = Epochs(loader)
        self.length = _checked_length(loader, name, may_be_empty)

    @property
    def position(self) -> Position:
        """The place of the batch that :meth:`next` returns next."""
        return Position(self._number, self._index, self._most)

    def seek(self, position: Position) -> None:
        """Go to a position; the batches before it are read again only when needed."""
        if position != self.position or self._iterator is not None:
            self._iterator = None
            self._number, self._index, self._most = position.number, position.index, position.most
            self._epochs.restore()

    def next(self) -> Any:
        """Return the next batch, beginning a new pass when the loader ends."""
        batch = self._next_of_pass()
        if batch is NOTHING:
            if self._index == 0:
                raise self.empty()
            self._iterator, self._index = None, 0
            self._number += self._most is None
            batch = self._next_of_pass()
            if batch is NOTHING:
                raise _once(self.name)
        return batch

    def group(self, size: int) -> Iterator[tuple[Any, bool]]:
        """Yield the micro-batches of one update, each with whether it is the last one.

        There are ``size`` of them, fewer where the pass ends: no update mixes two passes. One
        is read ahead, never beyond the group.
        """
        batch = self.next()
        for _ in range(size - 1):
            following = self._next_of_pass()
            if following is NOTHING:
                break
            yield batch, False
            batch = following
        yield batch, True

    def one_pass(self) -> Iterator[Any]:
        """Yield one whole pass in the order of the first, whatever the position."""
        self.seek(Position(0, 0))
        try:
            yield from self._begin_pass(skip=0)
        finally:
            self._epochs.restore()

    def first(self) -> Any:
        """Return the batch that a pass begins with, or ``NOTHING``; the position stays."""
        position = self.position
        try:
            return next(self.one_pass(), NOTHING)
        finally:
            self.seek(position)

    def sample(self) -> Any:
        """Return the batch that a pass begins with; the position stays."""
        batch = self.first()
        if batch is NOTHING:
            raise self.empty()
        return batch

    def empty(self) -> InvalidArgument:
        """Return the error that there are no batches."""
        return _empty(self.name)

    def close(self) -> None:
        """Forget the iterator, so that worker processes end."""
        self._iterator = None

    def _next_of_pass(self) -> Any:
        """Return the next batch of this pass, ``NOTHING`` when it is over."""
        if self._index == self._most:
            return NOTHING
        with self._reading:
            if self._iterator is None:
                self._iterator = self._begin_pass(skip=self._index)
            batch = next(self._iterator, NOTHING)
        if batch is not NOTHING:
            self._index += 1
        return batch

    def _begin_pass(self, skip: int) -> Iterator[Any]:
        before = read_random_state(self.generators)
        seed_everything(_mix(self._seed, self._number), self.generators)
        try:
            iterator = _own_iterator(self._loader, self._number, self.name)
            for _ in range(skip):
                next(iterator)
            # Samplers draw their order when the first batch is asked for, so it is read here.
            first = next(iterator, NOTHING)
        finally:
            before.restore()
        return iterator if first is NOTHING else itertools.chain([first], iterator)


def _own_iterator(
    loader: Iterable[Any] | Callable[[], Iterable[Any]], epoch: int, name: str
) -> Iterator[Any]:
    """Iterate anew, leaving alone the iterator that a loader keeps with its workers.

    A ``DataLoader`` with ``persistent_workers`` has one iterator for life and would start it
    again from the top: the user may be in the middle of it.
    """
    iterable: Any = loader
    if callable(loader):
        iterable = loader()
        if not hasattr(iterable, "__iter__") and not hasattr(iterable, "__getitem__"):
            got = Words(f"a function that returns a {type(iterable).__name__}")
            raise InvalidArgument.of(name, got, "one that returns an iterable of batches")
    tell_epoch(iterable, epoch)
    if getattr(iterable, "persistent_workers", False) is not True:
        return iter(iterable)
    theirs, iterable._iterator = iterable._iterator, None
    try:
        return iter(iterable)
    finally:
        iterable._iterator = theirs


def _mix(seed: int, number: int) -> int:
    """Return a seed that differs for every pass (constants of Knuth's LCG, MMIX)."""
    return (seed * 6364136223846793005 + number * 1442695040888963407 + 1) % 2**63


def _checked_length(loader: object, name: str, may_be_empty: bool) -> int | None:
    scalar = getattr(loader, "shape", None) == ()
    if isinstance(loader, (str, bytes, bytearray, dict)) or not (
        (not scalar and (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")))
        or callable(loader)
    ):
        raise InvalidArgument.of(name, loader, "an iterable of batches, or a function making one")
    if hasattr(loader, "__next__"):
        raise InvalidArgument.of(
            name,
            loader,
            "something that can be iterated more than once",
            "Pass the function that makes the generator, or a list of its batches.",
        )
    try:
        length = len(loader)  # type: ignore[arg-type]
    except Exception:  # streams say in many ways that they have no length
        return None
    if length == 0 and not may_be_empty:
        raise _empty(name)
    return length


def _empty(name: str) -> InvalidArgument:
    return InvalidArgument(
        f"{name}: got no batches, expected at least one. Is the data set empty, or smaller than "
        "one batch with drop_last=True?"
    )


def _once(name: str) -> InvalidArgument:
    return InvalidArgument(
        f"{name}: gave batches once and none the second time. Pass something that can be "
        "iterated again."
    )
