"""Ctrl-C that waits for a place where stopping is safe."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interrupt_later"]


@contextmanager
def interrupt_later() -> Iterator[Callable[[], None]]:
    """Hold the first Ctrl-C back until the function that is yielded is called, or the end.

    The second one interrupts at once. Nothing is held back where the program has a handler of
    its own, and outside the main thread, where there are no signals.

    Yields:
        A function that raises ``KeyboardInterrupt`` if there was a Ctrl-C.

    Example:
        >>> import signal
        >>> steps = []
        >>> try:
        ...     with interrupt_later() as interrupt_now:
        ...         signal.raise_signal(signal.SIGINT)
        ...         steps.append("finished")
        ...         interrupt_now()
        ... except KeyboardInterrupt:
        ...     steps.append("stopped")
        >>> steps
        ['finished', 'stopped']
    """
    held = False

    def hold(number: int, frame: FrameType | None) -> None:
        nonlocal held
        if held:
            signal.default_int_handler(number, frame)
        held = True

    def raise_held() -> None:
        nonlocal held
        if held:
            held = False
            raise KeyboardInterrupt

    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield raise_held
        return
    signal.signal(signal.SIGINT, hold)
    try:
        yield raise_held
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    raise_held()
