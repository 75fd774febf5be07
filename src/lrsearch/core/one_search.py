"""One search at a time: the random states and torch's switches belong to the whole process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lrsearch.errors import InvalidArgument

__all__ = ["one_search"]

_lock = threading.Lock()
_door = threading.local()


@contextmanager
def one_search(ready: bool = True) -> Iterator[None]:
    """Refuse a search while another one runs in this process.

    Args:
        ready: whether this is the search itself; else something is made ready for it, and one
            search within belongs to it.

    Raises:
        InvalidArgument: another thread searches, or this is called within a search.

    Example:
        >>> with one_search(ready=False), one_search():
        ...     pass
        >>> with one_search(), one_search():
        ...     pass
        Traceback (most recent call last):
            ...
        lrsearch.errors.InvalidArgument: search: got a second one while one runs in this \
process, expected one at a time. Both would change the process's random states: wait for the \
first, or use another process.
    """
    if ready and getattr(_door, "open", False):
        _door.open = False
        yield
        return
    if not _lock.acquire(blocking=False):
        raise InvalidArgument(
            "search: got a second one while one runs in this process, expected one at a time. "
            "Both would change the process's random states: wait for the first, or use another "
            "process."
        )
    try:
        _door.open = not ready
        yield
    finally:
        _door.open = False
        _lock.release()
