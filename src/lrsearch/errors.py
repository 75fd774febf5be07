"""Every exception that lrsearch raises on its own account.

::

    LRSearchError
    ├── InvalidArgument        (also ValueError)   raised before any training
    ├── MissingDependency      (also ImportError)  an optional package is not installed
    ├── InvalidResultFile      (also ValueError)   a result JSON is damaged or too new
    └── NoLearningRateFound    carries the partial ``result``

Errors raised by the user's own model, loss or data are never wrapped: they reach the
caller as they are, after everything has been restored.
"""

from __future__ import annotations

from typing import Any

__all__ = [
    "InvalidArgument",
    "InvalidResultFile",
    "LRSearchError",
    "MissingDependency",
    "NoLearningRateFound",
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


def _short(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."
