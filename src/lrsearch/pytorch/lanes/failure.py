"""What an error in a step of all lanes means for them."""

from __future__ import annotations

from types import TracebackType

from lrsearch.core.trainable import LanesFailed, TooManyLanes

__all__ = ["TogetherOnly", "failure"]

_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


class TogetherOnly:
    """Turn errors that separate runs may not have into :class:`LanesFailed`.

    Args:
        memory: only those about too little memory; others are the user's and pass.
    """

    __slots__ = ("_memory",)

    def __init__(self, memory: bool = False) -> None:
        self._memory = memory

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Raise the other error."""
        if not isinstance(error, Exception) or isinstance(error, LanesFailed):
            return
        found = failure(error)
        if isinstance(found, TooManyLanes) or not self._memory:
            raise found from error


def failure(error: Exception) -> LanesFailed:
    """Return what to raise for ``error``: fewer lanes may fit, or none can be trained together.

    Example:
        >>> failure(RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB."))
        TooManyLanes('RuntimeError: CUDA out of memory. Tried to allocate 2.00 GiB.')
    """
    text = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {text[0]}" if text else type(error).__name__
    # CUDA's own error is a RuntimeError with these words; the CPU's allocator has only words.
    told = isinstance(error, RuntimeError) and any(w in str(error) for w in _OUT_OF_MEMORY)
    return TooManyLanes(reason) if told or isinstance(error, MemoryError) else LanesFailed(reason)
