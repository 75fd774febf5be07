"""What a forward pass keeps in Python objects: every trial would need it for itself."""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

__all__ = ["HiddenState", "HiddenStateChanged"]

_DEPTH = 4  # objects in objects in ... that are looked into
_LONGEST = 1000  # entries of a container that are looked into
_MOST = 5000  # objects and containers altogether
_CONTAINERS = (list, tuple, dict, set, deque)
_QUIET = frozenset(vars(nn.Module())) - {
    *("training", "_parameters", "_buffers", "_modules"),
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks"),
}  # attributes of every module that are not looked into
_SCALARS = (bool, int, float, complex, str, bytes)

_Entries = dict[Any, Any]


class HiddenStateChanged(RuntimeError):
    """A forward pass left something behind that is not a registered parameter or buffer."""


class HiddenState:
    """The attributes of some modules, functions and objects, and of what these hold.

    Args:
        roots: a model, its loss function, and whatever else a step uses.

    Example:
        >>> counter = nn.Identity()
        >>> counter.calls = 0
        >>> with HiddenState([counter]).unchanged():
        ...     counter.calls += 1
        Traceback (most recent call last):
        lrsearch.pytorch.vectorized.hidden_state.HiddenStateChanged: the forward pass changes 'calls' of Identity, which each trial would need for itself
        >>> counter.calls
        0
    """  # noqa: E501

    def __init__(self, roots: Iterable[object]) -> None:
        found: dict[int, object] = {}
        _collect(list(roots), _DEPTH, found)
        self._owners = list(found.values())

    @contextmanager
    def unchanged(self) -> Iterator[None]:
        """Let something run that may change nothing; put back what it replaces.

        Raises:
            HiddenStateChanged: it did change something.
        """
        before = [(owner, _entries(owner)) for owner in self._owners]
        contents = [_contents(entries) for _, entries in before]
        try:
            yield
        finally:
            changed = [_changed(*pair, was) for pair, was in zip(before, contents, strict=True)]
            for (owner, entries), name in zip(before, changed, strict=True):
                if name is not None:
                    _put_back(owner, entries)
        for (owner, _), name in zip(before, changed, strict=True):
            if name is not None:
                kind = type(owner).__name__
                raise HiddenStateChanged(
                    f"the forward pass changes {name} of {kind}, which each trial would need "
                    "for itself"
                )


def _collect(values: list[object], depth: int, found: dict[int, object]) -> None:
    """Add the values that can hold something that changes, and what they hold."""
    for value in values:
        if id(value) in found or len(found) >= _MOST or not _holds_state(value):
            continue
        found[id(value)] = value
        if depth:
            _collect(list(_entries(value).values()), depth - 1, found)


def _holds_state(value: object) -> bool:
    if isinstance(value, _CONTAINERS):
        return len(value) <= _LONGEST
    if isinstance(value, nn.Module) or inspect.ismethod(value):
        return True
    home = value if inspect.isfunction(value) else type(value)
    package = str(home.__module__).partition(".")[0]
    if isinstance(value, type) or package in ("builtins", "torch", "numpy"):
        return False
    return hasattr(value, "__dict__")


def _entries(owner: Any) -> _Entries:
    """Return what an owner holds by name or place."""
    if inspect.ismethod(owner):
        return {"__self__": owner.__self__, "__func__": owner.__func__}
    if inspect.isfunction(owner):
        names = owner.__code__.co_freevars
        cells = zip(names, owner.__closure__ or (), strict=True)
        inside = {name: cell.cell_contents for name, cell in cells if _filled(cell)}
        used = {n: owner.__globals__[n] for n in owner.__code__.co_names if n in owner.__globals__}
        return {**used, **inside}
    if isinstance(owner, dict):
        return dict(owner)
    if isinstance(owner, _CONTAINERS):
        return dict(enumerate(owner))
    return {name: value for name, value in vars(owner).items() if name not in _QUIET}


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018 - reading it is the question
    except ValueError:
        return False
    return True


def _contents(entries: _Entries) -> dict[Any, int]:
    """Return a number for each tensor and array that differs once it was written to."""
    found = {}
    for key, value in entries.items():
        if isinstance(value, Tensor) and not value.is_inference():
            found[key] = value._version
        elif isinstance(value, np.ndarray):
            found[key] = hash(value.tobytes())
    return found


def _changed(owner: object, before: _Entries, contents: dict[Any, int]) -> str | None:
    """Return the name of an entry that is not what it was."""
    now = _entries(owner)
    for key in (*before, *(key for key in now if key not in before)):
        if key not in now or key not in before or not _same(before[key], now[key]):
            return repr(key)
    after = _contents(before)
    return next((repr(key) for key, was in contents.items() if after[key] != was), None)


def _same(one: object, other: object) -> bool:
    return one is other or (type(one) is type(other) and isinstance(one, _SCALARS) and one == other)


def _put_back(owner: Any, entries: _Entries) -> None:
    """Give attributes and containers what they held; variables of functions stay."""
    if isinstance(owner, (list, deque)):
        owner.clear()
        owner.extend(entries.values())
    elif isinstance(owner, set):
        owner.clear()
        owner.update(entries.values())
    elif not (isinstance(owner, tuple) or inspect.isroutine(owner)):
        content = owner if isinstance(owner, dict) else vars(owner)
        for key in _entries(owner).keys() - entries.keys():
            del content[key]
        content.update(entries)
