"""Trainables that fail on purpose: an error, or Ctrl-C, at a chosen update."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lrsearch.core.trainable import Trainable

__all__ = ["FailsAt", "OnPurpose", "ctrl_c", "interrupted"]


class OnPurpose(RuntimeError):
    """What a trainable that fails on purpose raises."""


class FailsAt:
    """Another trainable, whose ``step`` fails at one update.

    Args:
        trainable: what is trained.
        at: the update that fails, counted from 0 over everything that is ever stepped.
        error: called to make the error that is raised; it may also raise by itself.
        after: fail when the update has been made, instead of before it.

    Example:
        >>> from lrsearch.demos.two_layer_net import TwoLayerNet, noisy_sine
        >>> FailsAt(TwoLayerNet(noisy_sine(20)), 0, OnPurpose).step(0.1)
        Traceback (most recent call last):
            ...
        lrsearch.testing.failing.OnPurpose: on purpose, at update 0
    """

    def __init__(
        self,
        trainable: Trainable[Any],
        at: int,
        error: Callable[[str], BaseException],
        after: bool = True,
    ) -> None:
        self._trainable = trainable
        self._at = at
        self._error = error
        self._after = after
        self._made = 0

    def step(self, lr: float) -> float:
        """Make one update, or fail."""
        made, self._made = self._made, self._made + 1
        if made == self._at and not self._after:
            raise self._error(f"on purpose, at update {made}")
        loss = self._trainable.step(lr)
        if made == self._at:
            raise self._error(f"on purpose, at update {made}")
        return loss

    def snapshot(self) -> Any:
        """Return the trainable's own snapshot."""
        return self._trainable.snapshot()

    def restore(self, snapshot: Any, /) -> None:
        """Restore the trainable."""
        self._trainable.restore(snapshot)


def interrupted(message: str) -> BaseException:
    """Send this process what Ctrl-C sends; Python raises ``KeyboardInterrupt`` here."""
    signal.raise_signal(signal.SIGINT)
    return AssertionError(f"SIGINT was ignored ({message})")


@contextmanager
def ctrl_c() -> Iterator[None]:
    """Let SIGINT raise ``KeyboardInterrupt``, also in a job that was started to ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
