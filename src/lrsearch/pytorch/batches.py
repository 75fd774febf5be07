"""Batches without end from anything that can be read again, and from any point on."""

from __future__ import annotations

import dataclasses
import itertools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lrsearch.core.interrupt import uninterrupted
from lrsearch.errors import During, InvalidArgument, Words
from lrsearch.pytorch.epochs import loader_state, tell_epoch
from lrsearch.pytorch.object_state import ObjectState
from lrsearch.pytorch.prepared import inner_loader
from lrsearch.pytorch.random_state import generators_of, read_random_state, seed_everything
from lrsearch.pytorch.store import tried

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
        begun: what the loader held when the pass began; ``None``: what it held at first.
    """

    number: int
    index: int
    most: int | None = None
    begun: ObjectState | None = field(default=None, compare=False, repr=False)


class BatchStream:
    """Cycle through ``loader``; the order depends on ``seed`` alone and can be replayed.

    Every pass begins from random states derived from the seed and its number, so nothing
    needs to be stored to see the same batches again.

    Args:
        loader: an iterable of batches, a function that returns one, or a function that returns
            a single batch (``get_batch``), whose pass has no end: every batch is drawn from
            random states derived from the seed and its number.
        seed: seed of the order.
        name: how errors name the loader.
        may_be_empty: whether there may be no batches at all, for :meth:`one_pass`.
        choose: which batches :meth:`one_pass` yields, given all of them; all, when not given.

    Attributes:
        name: how errors name it.
        length: batches of a pass, ``None`` where that is not known.
        endless: whether the loader has turned out to be a function that returns one batch.

    Raises:
        InvalidArgument: the loader is empty, cannot be iterated, or can be read only once.
    """

    def __init__(
        self,
        loader: Iterable[Any] | Callable[[], Iterable[Any]],
        seed: int,
        name: str = "train_loader",
        may_be_empty: bool = False,
        choose: Callable[[Iterator[Any]], Iterator[Any]] = iter,
    ) -> None:
        self._loader = loader = inner_loader(loader)
        self._seed = seed
        self.name = name
        self._choose = choose
        self._reading = During(f"reading a batch from {name}")
        self._iterator: Iterator[Any] | None = None
        self._raw: Any = None  # the loader's own
        self._number = self._index = 0
        self._most: int | None = None
        self.generators = generators_of(loader)
        self._before = loader_state(loader)
        self._begun: ObjectState | None = self._before
        self.endless = False
        _check_loader(loader, name)
        self.length = _length(loader)
        # A length of 0 is no proof: some loaders do not know theirs.
        if self.length == 0 and not self._is_empty():
            self.length = None
        if self.length == 0 and not may_be_empty:
            raise _empty(name)

    @property
    def pass_length(self) -> int | None:
        """Batches of the pass that is being read, or ``None`` where its end is not known."""
        return self.length if self._most is None else self._most

    @property
    def position(self) -> Position:
        """The place of the batch that :meth:`next` returns next."""
        return Position(self._number, self._index, self._most, self._begun)

    def seek(self, position: Position) -> None:
        """Go to a position; the batches before it are read again only when needed."""
        self.close()
        self._number, self._index, self._most = position.number, position.index, position.most
        self._begun = position.begun or self._before
        self._begun.restore()

    def next(self) -> Any:
        """Return the next batch, beginning a new pass when the loader ends."""
        batch = self._next_of_pass()
        if batch is NOTHING:
            if self._index == 0:
                raise self.empty()
            self.close()
            self._index = 0
            if self._most is None:
                self._number, self._begun = self._number + 1, None
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
        """Yield one pass in the order of the first, whatever the position; or what is chosen."""
        yield from self._choose(self._all())

    def first(self) -> Any:
        """Return the batch that a pass begins with, or ``NOTHING``; the position stays."""
        position = self.position
        try:
            return next(self._all(), NOTHING)
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

    def _is_empty(self) -> bool:
        with self._reading:
            return next(self._all(), NOTHING) is NOTHING

    def _all(self) -> Iterator[Any]:
        now = loader_state(self._loader)  # what other streams share with this one goes on
        self.seek(Position(0, 0))
        try:
            yield from self._begin_pass(skip=0)
        finally:
            self.close()
            now.restore()

    def close(self) -> None:
        """Forget the iterator, and end its worker processes even where an error holds it."""
        iterator, self._raw, self._iterator = self._raw, None, None
        if isinstance(iterator, types.GeneratorType):
            tried(iterator.close)
        elif hasattr(iterator, "_shutdown_workers"):
            tried(iterator._shutdown_workers)

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
        if self._begun is None:
            self._begun = loader_state(self._loader)
        else:
            self._begun.restore()
        before = read_random_state(self.generators)
        seed_everything(_mix(self._seed, self._number), self.generators)
        try:
            with uninterrupted():  # or a worker would be left to itself
                iterable: Any = self._loader() if callable(self._loader) else self._loader
                if callable(self._loader) and is_one_batch(iterable):
                    return self._drawn(skip)
                if not hasattr(iterable, "__iter__") and not hasattr(iterable, "__getitem__"):
                    raise InvalidArgument.of(
                        self.name,
                        Words(f"a function that returns a {type(iterable).__name__}"),
                        "one that returns an iterable of batches, or one batch of tensors",
                    )
                self._raw = iterator = _own_iterator(iterable, self._number)
            for _ in range(skip):
                next(iterator)
            # Samplers draw their order when the first batch is asked for, so it is read here.
            first = next(iterator, NOTHING)
        finally:
            before.restore()
        return iterator if first is NOTHING else itertools.chain([first], iterator)

    def _drawn(self, start: int) -> Iterator[Any]:
        """Yield batches of a function that returns one, each from random states of its own."""
        if not self.endless:
            first, second = self._draw(0), self._draw(0)
            if not same_batch(first, second):
                raise InvalidArgument.of(
                    self.name,
                    Words("a function whose batches differ when all random states are the same"),
                    "one that draws a batch from the random states of torch, NumPy or Python",
                    "A search reads the same batches several times. Return an iterable of "
                    "batches from the function, or draw from torch's own random state.",
                )
            self.endless = True
        return map(self._draw, itertools.count(start))

    def _draw(self, index: int) -> Any:
        before = read_random_state(self.generators)
        seed_everything(_mix(_mix(self._seed, self._number), index), self.generators)
        try:
            return self._loader()
        finally:
            before.restore()


def is_one_batch(made: object) -> bool:
    """Whether a function returned a batch of tensors, in the place of an iterable of batches.

    A tuple or list of tensors is one batch, as what a loader collates is; a list of such is not.

    Example:
        >>> pair = (torch.ones(2, 3), torch.ones(2))
        >>> is_one_batch(pair), is_one_batch([pair, pair])
        (True, False)
    """
    if isinstance(made, (tuple, list)):
        return any(isinstance(item, Tensor) for item in made)
    fields = dataclasses.is_dataclass(made) and not hasattr(made, "__iter__")
    return isinstance(made, (Tensor, Mapping)) or fields


def same_batch(one: Any, other: Any) -> bool:
    """Whether two batches hold the same tensors, in containers of any depth."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and bool(torch.equal(one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same_batch(one[k], other[k]) for k in one)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return len(one) == len(other) and all(map(same_batch, one, other))
    if dataclasses.is_dataclass(one) and type(one) is type(other):
        return same_batch(vars(one), vars(other))
    return True  # of anything else it is not known


def _own_iterator(iterable: Any, epoch: int) -> Iterator[Any]:
    """Iterate anew, leaving alone the iterator that a loader keeps with its workers.

    A ``DataLoader`` with ``persistent_workers`` has one iterator for life and would start it
    again from the top: the user may be in the middle of it.
    """
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


def _check_loader(loader: object, name: str) -> None:
    scalar = getattr(loader, "shape", None) == ()
    if isinstance(loader, (str, bytes, bytearray, dict)) or not (
        (not scalar and (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")))
        or callable(loader)
    ):
        raise InvalidArgument.of(name, loader, "an iterable of batches, or a function making one")
    if hasattr(loader, "__next__"):
        resets = callable(getattr(loader, "reset", None))
        way_out = (
            "Pass a function that calls its reset() and returns it."
            if resets
            else "Pass the function that makes the generator, or a list of its batches."
        )
        expected = "something that can be iterated more than once"
        raise InvalidArgument.of(name, loader, expected, way_out)


def _length(loader: object) -> int | None:
    """Return the number of batches, ``None`` where it is not known."""
    try:
        return len(loader)  # type: ignore[arg-type]
    except Exception:  # streams say in many ways that they have no length
        return None


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
