"""What a search needs from whatever it trains: step, snapshot, restore, perhaps evaluate."""

from __future__ import annotations

from typing import Protocol, TypeVar, runtime_checkable

__all__ = ["Evaluable", "Snapshot", "Trainable"]

Snapshot = TypeVar("Snapshot")


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


@runtime_checkable
class Evaluable(Protocol):
    """A trainable that can also measure a held-out loss, changing nothing."""

    def evaluate(self) -> float:
        """Return the held-out loss of the current state."""
        ...
