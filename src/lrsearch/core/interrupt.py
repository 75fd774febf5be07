"""Ctrl-C that stops a search, is never lost, and never tears apart what must be whole."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

__all__ = ["close_for_good", "interrupt_later", "interruptible", "raise_held", "uninterrupted"]

_PAUSE = 1.0  # seconds in which a further Ctrl-C says nothing new


class _Watch:
    """What happens on a Ctrl-C while it is in force.

    Python raises it wherever the program is, and drops it where nothing can be raised: in the
    callbacks around the start of a process, in ``__del__``. So it is noted first.

    Args:
        waits: whether the first one waits for :meth:`raise_held`.
        theirs: the handler of the program.
    """

    def __init__(self, waits: bool, theirs: Callable[[int, FrameType | None], Any]) -> None:
        self.waits = waits
        self.closed = 0  # how many sections are open that must be whole
        self.held = False
        self._theirs = theirs
        self._raised = -_PAUSE
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a worker that was forked meanwhile
            self._theirs(number, frame)
            return
        first, self.held = not self.held, True
        if self.closed or (self.waits and first):
            return
        now = time.monotonic()
        default = self._theirs is signal.default_int_handler
        if default and now - self._raised < _PAUSE:  # it is on its way out
            return
        self._raised = now
        # A handler of the program's own decides by itself what is left to do.
        self.held = default
        self._theirs(number, frame)

    def raise_held(self) -> None:
        """Raise a Ctrl-C that was noted and has not come through."""
        if self.held:
            self.held = False
            self._theirs(signal.SIGINT, None)


_watch: _Watch | None = None  # the one in force


def interrupt_later() -> Any:
    """Hold the first Ctrl-C back until the function that is yielded is called, or the end.

    The second one interrupts at once. Outside the main thread, where there are no signals,
    nothing happens, and where the program has a handler of its own, that is called.

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
    return _in_force(waits=True)


def interruptible() -> Any:
    """Raise Ctrl-C at once, but for :func:`uninterrupted`, and again where it was dropped.

    Within :func:`interrupt_later` it changes nothing.
    """
    return _in_force(waits=False)


@contextmanager
def _in_force(waits: bool) -> Iterator[Callable[[], None]]:
    global _watch
    theirs = signal.getsignal(signal.SIGINT)
    ours = _here() and callable(theirs)
    if not ours or _watch is not None:
        before = 0 if _watch is None else _watch.closed
        try:
            yield (lambda: None) if not _here() or _watch is None else _watch.raise_held
        finally:
            if _here() and _watch is not None:
                _watch.closed = before
        return
    watch = _Watch(waits and theirs is signal.default_int_handler, theirs)  # type: ignore[arg-type]
    try:
        _watch = watch
        signal.signal(signal.SIGINT, watch)
        yield watch.raise_held
    except Exception as error:
        # What Ctrl-C did to others: workers end by it, and their loader fails.
        watch.closed += 1
        if watch.held:
            raise KeyboardInterrupt from error
        raise
    except BaseException:
        watch.held = False  # it is on its way out
        raise
    finally:
        watch.closed += 1
        _watch = None
        signal.signal(signal.SIGINT, theirs)
    watch.raise_held()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let no Ctrl-C in: what is done here is done whole, and the Ctrl-C comes right after.

    Example:
        >>> with interruptible(), uninterrupted():
        ...     pass
    """
    watch = _watch if _here() else None
    if watch is None:
        yield
        return
    watch.closed += 1
    try:
        yield
    finally:
        watch.closed -= 1
    raise_held()


def raise_held() -> None:
    """Raise a Ctrl-C that was held back or dropped, unless it waits for another place."""
    if _watch is not None and _here() and not _watch.waits and not _watch.closed:
        _watch.raise_held()


def close_for_good() -> None:
    """Let no Ctrl-C in until the end of :func:`interruptible`."""
    if _watch is not None and _here():
        _watch.closed += 1


def _here() -> bool:
    return threading.current_thread() is threading.main_thread()
