"""What an argument may be: one check for every kind of value.

A check is called with the argument's name and with what came. It returns the value as the plain
Python type that the rest of the package works with, or raises ``InvalidArgument``, which names
the argument. Numbers of NumPy, PyTorch, ``decimal`` and ``fractions`` are numbers; text, booleans
and arrays are not.
"""

from __future__ import annotations

import inspect
import itertools
import math
import os
import re
from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from lrsearch.errors import InvalidArgument, Words

__all__ = [
    "MOST",
    "Check",
    "at_least",
    "can_take",
    "check_fields",
    "checked",
    "file_path",
    "flag",
    "function",
    "listed",
    "lr_bounds",
    "maybe",
    "number",
    "one_of",
    "positive",
    "seed",
    "text",
    "whole",
]

_T = TypeVar("_T")
Check = Callable[[str, object], Any]

MOST = 1_000_000  # of anything that is counted and kept in memory: rungs, candidates, updates
_STEPS = 1_000_000_000  # of anything else that is counted
_NEAR_ZERO, _NEAR_INFINITY = 1e-300, 1e300  # learning rates from which ranges are still computed


def number(name: str, value: object) -> float:
    """Return ``value`` as a float, or raise if it is not a finite number."""
    found = _converted(float, value)
    if found is None or not math.isfinite(found):
        raise InvalidArgument.of(name, value, "a finite number")
    return found


def positive(name: str, value: object, most: float = math.inf) -> float:
    """Return ``value`` as a float, or raise if it is not a positive, finite number."""
    found = _converted(float, value)
    if found is None or not 0.0 < found < math.inf:
        raise InvalidArgument.of(name, value, "a positive, finite number")
    if found > most:
        raise InvalidArgument.of(name, value, f"a positive number up to {most:g}")
    return found


def whole(name: str, value: object, least: int, most: int = _STEPS) -> int:
    """Return ``value`` as an int, or raise if it is not a whole number in a range.

    Example:
        >>> whole("steps", 100.0, 1)
        100
    """
    found = _converted(int, value)
    if found is None or found != value or found < least:
        raise InvalidArgument.of(name, value, f"a whole number from {least}")
    if found > most:
        raise InvalidArgument.of(name, value, f"a whole number from {least} to {most}")
    return found


def at_least(least: int, most: int = _STEPS) -> Check:
    """Return :func:`whole` for this range."""
    return partial(whole, least=least, most=most)


def seed(name: str, value: object) -> int:
    """Return ``value`` as an int, or raise if torch cannot be seeded with it."""
    return whole(name, value, -(2**63), 2**64 - 1)


def flag(name: str, value: object) -> bool:
    """Return ``value`` as a bool, or raise if it is neither true nor false."""
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise InvalidArgument.of(name, value, "True or False")


def text(name: str, value: object) -> str:
    """Return ``value`` if it is text."""
    if not isinstance(value, str):
        raise InvalidArgument.of(name, value, "text")
    return value


def one_of(words: Collection[str], otherwise: str = "") -> Check:
    """Return a check for one of some words; ``otherwise`` says what else there is."""

    def check(name: str, value: object) -> str:
        if isinstance(value, str) and value in words:
            return value
        raise InvalidArgument.of(name, value, f"one of {', '.join(map(repr, words))}{otherwise}")

    return check


def function(name: str, value: object) -> Any:
    """Return ``value`` if it can be called and is no class."""
    if isinstance(value, type):
        hint = f"Make one first: {name}={value.__name__}(...)."
        raise InvalidArgument.of(name, Words(f"the class {value.__name__}"), "a function", hint)
    if not callable(value):
        raise InvalidArgument.of(name, value, "a function")
    return value


def listed(name: str, value: object, expected: str) -> tuple[Any, ...]:
    """Return the items of ``value``, or raise if it has none to give, or gives them without end."""
    try:
        if not isinstance(value, (str, bytes)):
            items = tuple(itertools.islice(iter(value), MOST + 1))  # type: ignore[call-overload]
            if len(items) <= MOST:
                return items
    except Exception:  # whatever the iteration of a stranger's class may raise
        pass
    raise InvalidArgument.of(name, value, expected)


def file_path(name: str, value: object) -> Path:
    """Return ``value`` as a path, or raise if no file can have that name."""
    expected = "a path as text or pathlib.Path"
    if not isinstance(value, (str, os.PathLike)):
        raise InvalidArgument.of(name, value, expected)
    try:
        path = os.fspath(value)
        usable = isinstance(path, str) and path != "" and b"\0" not in os.fsencode(path)
    except (TypeError, ValueError):
        usable = False
    if not usable:
        raise InvalidArgument.of(name, value, expected)
    return Path(path)


def can_take(call: Callable[..., Any], *given: object, **named: object) -> bool:
    """Whether ``call`` has places for these arguments; true where that cannot be known."""
    try:
        inspect.signature(call).bind(*given, **named)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def maybe(check: Callable[[str, object], _T]) -> Callable[[str, object], _T | None]:
    """Return ``check`` for an argument that may be ``None``."""
    return lambda name, value: None if value is None else check(name, value)


def lr_bounds(
    min_lr: object, max_lr: object, default: tuple[float | None, float | None] = (None, None)
) -> tuple[float | None, float | None]:
    """Return both bounds as floats, each ``None`` where it was; raise if they are no range.

    Args:
        min_lr, max_lr: what came.
        default: what holds for a bound that did not come.
    """
    low, high = maybe(positive)("min_lr", min_lr), maybe(positive)("max_lr", max_lr)
    if low is not None and low > _NEAR_INFINITY:
        raise InvalidArgument.of("min_lr", min_lr, f"at most {_NEAR_INFINITY:g}")
    if high is not None and high < _NEAR_ZERO:
        raise InvalidArgument.of("max_lr", max_lr, f"at least {_NEAR_ZERO:g}")
    least, most = (default[0] if low is None else low), (default[1] if high is None else high)
    if least is not None and most is not None and most <= least:
        raise InvalidArgument.of("max_lr", most, f"more than min_lr={least!r}")
    return low, high


def checked(checks: Mapping[str, Check], **given: object) -> dict[str, Any]:
    """Return the arguments that were given, each as its check returns it.

    Example:
        >>> checked({"seed": seed, "throw": flag}, seed=3.0, throw=True)
        {'seed': 3, 'throw': True}
    """
    return {name: checks[name](name, value) for name, value in given.items()}


def check_fields(settings: object, prefix: str = "", **checks: Check) -> None:
    """Replace fields of a frozen dataclass by what their checks return."""
    for name, check in checks.items():
        object.__setattr__(settings, name, check(prefix + name, getattr(settings, name)))


def _converted(kind: Callable[[Any], _T], value: object) -> _T | None:
    """Return ``kind(value)`` if the value is one real number, else ``None``."""
    try:
        if isinstance(value, (str, bytes, bytearray, bool)):
            return None
        dtype = getattr(value, "dtype", None)
        if dtype is not None and (
            getattr(value, "shape", None) != () or not re.search("int|float", str(dtype))
        ):
            return None  # an array, or a scalar of truth values, complex numbers, times
        return kind(value)
    except Exception:  # whatever the conversion of a stranger's class may raise
        return None
