"""Every exception that lrsearch raises on its own account.

::

    LRSearchError
    ├── InvalidArgument        (also ValueError)   raised before any training
    ├── MissingDependency      (also ImportError)  an optional package is not installed
    ├── InvalidResultFile      (also ValueError)   a result JSON is damaged or too new
    ├── NoLearningRateFound    carries the partial ``result``
    ├── NotRestored            something could not be put back after a search
    └── RankFailed             another process of a distributed search failed

Errors raised by the user's own model, loss or data are never wrapped: they reach the
caller as they are, after everything has been restored, with notes that say where in the
search they came up.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any

__all__ = [
    "InvalidArgument",
    "InvalidResultFile",
    "LRSearchError",
    "MissingDependency",
    "NoLearningRateFound",
    "NotRestored",
    "RankFailed",
]


class Words(str):
    """A description of what came, for errors where the value itself says little.

    Example:
        >>> print(InvalidArgument.of("loss", Words("a tensor of shape (2,)"), "a scalar"))
        loss: got a tensor of shape (2,), expected a scalar.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class LRSearchError(Exception):
    """Base class: catch this to catch everything that lrsearch raises by itself."""


class InvalidArgument(LRSearchError, ValueError):
    """An argument cannot be used. Nothing has been trained when this is raised."""

    @classmethod
    def of(cls, name: str, got: object, expected: str, hint: str = "") -> InvalidArgument:
        """Build the message every argument error shares: name, what came, what was expected.

        Example:
            >>> print(InvalidArgument.of("min_lr", -1, "a positive number"))
            min_lr: got -1, expected a positive number.
        """
        message = f"{name}: got {_short(got)}, expected {expected}."
        return cls(f"{message} {hint}" if hint else message)


class MissingDependency(LRSearchError, ImportError):
    """An optional package is needed for what was asked and is not installed."""


class InvalidResultFile(LRSearchError, ValueError):
    """A file is not a result that this version of lrsearch can read."""


class NoLearningRateFound(LRSearchError):
    """The search ran and has no answer; ``result`` holds what was measured and why."""

    def __init__(self, message: str, result: Any) -> None:
        super().__init__(message)
        self.result = result


class NotRestored(LRSearchError):
    """Something could not be put back after a search; everything else was.

    Attributes:
        failures: what is not as it was before, by name, and the error that kept it from being
            put back.
    """

    def __init__(self, message: str, failures: Mapping[str, Exception]) -> None:
        super().__init__(message)
        self.failures = dict(failures)

    @classmethod
    def of(cls, failures: Mapping[str, Exception]) -> NotRestored:
        """Build the message from what failed, by name.

        Example:
            >>> print(NotRestored.of({"model.table": RuntimeError("read-only memory")}))
            not put back: model.table (RuntimeError: read-only memory). Everything else is as it \
was. Give what can put it back, with state_dict and load_state_dict, in stateful=[...].
        """
        said = (f"{name} ({type(e).__name__}: {_first_line(e)})" for name, e in failures.items())
        return cls(
            f"not put back: {'; '.join(said)}. Everything else is as it was. Give what can put it "
            "back, with state_dict and load_state_dict, in stateful=[...].",
            failures,
        )


class RankFailed(LRSearchError):
    """Another process of a distributed search failed; this one has restored everything.

    Attributes:
        ranks: the processes that failed, where that is known.
    """

    def __init__(self, message: str, ranks: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.ranks = ranks

    @classmethod
    def of(cls, rank: int, said: dict[int, str]) -> RankFailed:
        """Build the error of ``rank`` from what the ranks that failed have said.

        Example:
            >>> print(RankFailed.of(0, {3: "OSError: disk on fire"}))
            rank 3 failed with OSError: disk on fire. Rank 0 stopped too and restored everything.
        """
        all_said = "; ".join(f"rank {other} failed with {text}" for other, text in said.items())
        ending = f"Rank {rank} stopped too and restored everything."
        return cls(f"{all_said}. {ending}", tuple(said))

    @classmethod
    def lost(cls, rank: int, error: BaseException) -> RankFailed:
        """Build the error of ``rank`` when others do not answer any more."""
        return cls(
            f"rank {rank} lost the other processes during the search and restored everything. "
            f"Their own output says why they ended. Torch says: {error}"
        )


class During:
    """Tell every error that passes through what was being done.

    Holds no state, so that one object serves every update.

    Example:
        >>> with During("loading a batch"):
        ...     raise OSError("disk on fire")
        Traceback (most recent call last):
            ...
        OSError: disk on fire
        lrsearch: while loading a batch
    """

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        """Do nothing."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Add the note."""
        if error is not None:
            add_note(error, f"lrsearch: while {self._doing}")


def add_note(error: BaseException, text: str) -> None:
    """Add a line that is printed below the error, in the way of PEP 678.

    Before Python 3.11 only tools that know the attribute, such as pytest, print it.
    """
    if hasattr(error, "add_note"):
        error.add_note(text)
    else:
        error.__dict__.setdefault("__notes__", []).append(text)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "")


def _short(value: object, limit: int = 80) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:  # whatever a stranger's class, or a number of too many digits, may raise
        text = f"a {type(value).__name__}"
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
