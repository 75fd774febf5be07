"""Batches without end from anything that can be read again, and from any point on."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from lrsearch.errors import InvalidArgument
from lrsearch.pytorch.random_state import generators_of, read_random_state, seed_everything

__all__ = ["BatchStream"]


class BatchStream:
    """Cycle through ``loader``; the order depends on ``seed`` alone and can be replayed.

    A position is two numbers, the pass and the batch within it: every pass begins from
    random states derived from the seed and the pass, so nothing needs to be stored to see
    the same batches again.

    Args:
        loader: an iterable of batches, or a function that returns one.
        seed: seed of the order.
        name: how errors name the loader.

    Raises:
        InvalidArgument: the loader is empty, cannot be iterated, or can be read only once.
    """

    def __init__(
        self,
        loader: Iterable[Any] | Callable[[], Iterable[Any]],
        seed: int,
        name: str = "train_loader",
    ) -> None:
        self._loader = loader
        self._seed = seed
        self._name = name
        self._iterator: Iterator[Any] | None = None
        self._pass = 0
        self._index = 0
        self.generators = generators_of(loader)
        self.length = _checked_length(loader, name)

    @property
    def position(self) -> tuple[int, int]:
        """The pass and the batch within it that :meth:`next` returns next."""
        return self._pass, self._index

    def seek(self, position: tuple[int, int]) -> None:
        """Go to a position; the batches before it are read again only when needed."""
        if position != self.position or self._iterator is not None:
            self._iterator = None
            self._pass, self._index = position

    def next(self) -> Any:
        """Return the next batch, beginning a new pass when the loader ends."""
        if self._iterator is None:
            self._iterator = self._begin_pass(skip=self._index)
        try:
            batch = next(self._iterator)
        except StopIteration:
            if self._index == 0:
                raise _empty(self._name) from None
            self._pass, self._index = self._pass + 1, 0
            self._iterator = self._begin_pass(skip=0)
            batch = next(self._iterator, _NOTHING)
            if batch is _NOTHING:
                raise _once(self._name) from None
        self._index += 1
        return batch

    def one_pass(self) -> Iterator[Any]:
        """Yield one whole pass in the order of the first, whatever the position."""
        self.seek((0, 0))
        yield from self._begin_pass(skip=0)

    def close(self) -> None:
        """Forget the iterator, so that worker processes end."""
        self._iterator = None

    def _begin_pass(self, skip: int) -> Iterator[Any]:
        before = read_random_state(self.generators)
        seed_everything(_mix(self._seed, self._pass), self.generators)
        try:
            iterator = iter(self._loader() if callable(self._loader) else self._loader)
            for _ in range(skip):
                next(iterator)
            # Samplers draw their order when the first batch is asked for, so it is read here.
            first = next(iterator, _NOTHING)
        finally:
            before.restore()
        return iterator if first is _NOTHING else itertools.chain([first], iterator)


_NOTHING = object()


def _mix(seed: int, number: int) -> int:
    """Return a seed that differs for every pass (constants of Knuth's LCG, MMIX)."""
    return (seed * 6364136223846793005 + number * 1442695040888963407 + 1) % 2**63


def _checked_length(loader: object, name: str) -> int | None:
    if isinstance(loader, (str, bytes, dict)) or not (
        hasattr(loader, "__iter__") or hasattr(loader, "__getitem__") or callable(loader)
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
    except TypeError:
        return None
    if length == 0:
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
