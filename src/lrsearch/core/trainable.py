"""What a search needs from whatever it trains: step, snapshot, restore, perhaps evaluate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

__all__ = [
    "Evaluable",
    "HeldOut",
    "LaneGroup",
    "LanesFailed",
    "ManyLanes",
    "ShortensEpochs",
    "Shuffles",
    "Snapshot",
    "TooManyLanes",
    "Trainable",
]

Snapshot = TypeVar("Snapshot")
_MOST_PARTS = 16


class Trainable(Protocol[Snapshot]):
    """Anything that learns by updates at a given learning rate.

    ``restore(snapshot())`` brings back everything that influences later losses: weights,
    optimizer state, random state and the position in the data. The same snapshot can be
    restored any number of times, so both directions must copy.

    Example:
        A quadratic ``0.5 * w**2`` as a trainable:

        >>> class Bowl:
        ...     w = 1.0
        ...     def step(self, lr):
        ...         loss = 0.5 * self.w**2
        ...         self.w -= lr * self.w
        ...         return loss
        ...     def snapshot(self):
        ...         return self.w
        ...     def restore(self, snapshot):
        ...         self.w = snapshot
        >>> bowl = Bowl()
        >>> before = bowl.snapshot()
        >>> bowl.step(0.5), bowl.step(0.5)
        (0.5, 0.125)
        >>> bowl.restore(before)
        >>> bowl.step(0.5)
        0.5
    """

    def step(self, lr: float) -> float:
        """Make one update at ``lr``; return the loss that it was computed from.

        The loss is the one *before* the update, on the update's own batch.
        """
        ...

    def snapshot(self) -> Snapshot:
        """Return a copy of everything that ``restore`` must bring back."""
        ...

    def restore(self, snapshot: Snapshot, /) -> None:
        """Return to the state of ``snapshot``, leaving the snapshot itself untouched."""
        ...


@dataclass(frozen=True)
class HeldOut:
    """A held-out loss, and the losses of equal parts of the held-out data.

    How far the parts scatter tells how sure a difference between two held-out losses is.

    Attributes:
        loss: the loss of all held-out data.
        parts: mean losses of equally large parts, always the same parts; at least two, or none.
    """

    loss: float
    parts: tuple[float, ...] = ()

    @classmethod
    def of(cls, pieces: Sequence[tuple[float, float]], loss: float | None = None) -> HeldOut:
        """Return the mean of ``(loss, weight)`` pieces, and up to 16 parts made of them.

        Args:
            pieces: in an order that is the same every time, such as that of the batches.
            loss: the loss of all, where it is known better than from the pieces.
        """
        weight = sum(weight for _, weight in pieces)
        if loss is None:
            loss = sum(loss * weight for loss, weight in pieces) / weight if weight else math.nan
        # A smaller last batch counts as much as a whole one: as a part it does no harm.
        count = min(len(pieces), _MOST_PARTS)
        groups = [[loss for loss, _ in pieces[first::count]] for first in range(count)]
        parts = tuple(sum(group) / len(group) for group in groups)
        return cls(loss, parts if count > 1 else ())


@runtime_checkable
class Evaluable(Protocol):
    """A trainable that can also measure a held-out loss, changing nothing."""

    def evaluate(self) -> float | HeldOut:
        """Return the held-out loss of the current state, in parts where they are known."""
        ...


@runtime_checkable
class Shuffles(Protocol):
    """A trainable that can train on its data in other orders."""

    def reshuffle(self, number: int) -> None:
        """Go on with the data in order ``number``, until the next ``restore``.

        Order 0 is the one that the trainable has anyway.
        """
        ...


@runtime_checkable
class ShortensEpochs(Protocol):
    """A trainable that can train on a part of its data."""

    def shorten_epochs(self, updates: int) -> None:
        """Go on with the next ``updates`` updates' data, again and again, until ``restore``.

        Only where a pass over the data begins.
        """
        ...


class LanesFailed(Exception):
    """Lanes cannot be trained together any further; one at a time they still may."""


class TooManyLanes(LanesFailed):
    """There is no memory for so many lanes at a time; for fewer there may be."""


class LaneGroup(Protocol):
    """Copies of one training that make every update together, each at its own learning rate.

    All lanes see the same batches and the same random draws. The trainable that they came
    from stays as it was.
    """

    def step(self, lrs: Sequence[float]) -> list[float]:
        """Update every live lane at its learning rate; return their losses before it.

        Raises:
            LanesFailed: the lanes cannot go on together.
            TooManyLanes: not so many of them.
        """
        ...

    def drop(self, lanes: Sequence[int]) -> None:
        """Take lanes out, by their places among the live ones."""
        ...

    def evaluate(self, lanes: Sequence[int] | None = None) -> list[float]:
        """Return the held-out losses of live lanes, by their places; of all when not given.

        Raises:
            LanesFailed: they cannot be evaluated together.
        """
        ...

    def close(self) -> None:
        """Put the trainable back into the state it had when the lanes began."""
        ...


@runtime_checkable
class ManyLanes(Protocol):
    """A trainable that can train several lanes faster together than one after the other.

    Attributes:
        why_not: why the last call of :meth:`lanes` returned ``None``.
    """

    why_not: str

    def lanes(self, count: int, steps: int) -> LaneGroup | None:
        """Return lanes that begin at the present state.

        Args:
            count: how many lanes.
            steps: updates that each is going to make at most.

        Returns:
            The lanes, or ``None`` when training them together is impossible or no faster.

        Raises:
            TooManyLanes: there is no memory for so many; fewer may be asked for.
        """
        ...
