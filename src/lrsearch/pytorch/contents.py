"""What containers hold, remembered without copying tensors, and put back into the same ones.

A tensor is remembered as itself; the caller copies the values of all of them at once. So
after a restore every dictionary, list and tensor is the very object that it was: a reference
held elsewhere (by a scheduler, an averaged model, a hook) never goes stale.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

__all__ = ["Contents", "is_plain", "remember"]

Tensors = dict[int, Tensor]  # by identity, so that tied ones are copied once
Chosen = Callable[[Any, Any], bool]  # (key, value)

_SCALARS = (bool, int, float, complex, str, bytes, type(None))


@dataclass(frozen=True)
class Contents:
    """Chosen entries of a dictionary, and which entries are chosen."""

    owner: dict[Any, Any]
    entries: dict[Any, Any]
    chosen: Chosen

    @classmethod
    def of(cls, owner: dict[Any, Any], tensors: Tensors, chosen: Chosen) -> Contents:
        """Remember the chosen entries; add the tensors in them to ``tensors``."""
        entries = {
            key: remember(value, tensors) for key, value in owner.items() if chosen(key, value)
        }
        return cls(owner, entries, chosen)

    def put_back(self) -> dict[Any, Any]:
        """Give the dictionary its old entries, drop chosen ones that are new, and return it."""
        owner, entries = self.owner, self.entries
        for key in [k for k, v in owner.items() if k not in entries and self.chosen(k, v)]:
            del owner[key]
        for key, entry in entries.items():
            value = _back(entry)
            # What is there already stays untouched: compiled code watches these dictionaries.
            if key not in owner or owner[key] is not value:
                owner[key] = value
        return owner


@dataclass(frozen=True)
class _List:
    owner: list[Any]
    items: tuple[Any, ...]


@dataclass(frozen=True)
class _Tuple:
    owner: tuple[Any, ...]
    items: tuple[Any, ...]


@dataclass(frozen=True)
class _Other:
    value: Any


def remember(value: Any, tensors: Tensors) -> Any:
    """Return what :meth:`Contents.put_back` needs to bring ``value`` back."""
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, Tensor):
        tensors[id(value)] = value
        return value
    if isinstance(value, dict):
        return Contents.of(value, tensors, _everything)
    if type(value) is list:
        return _List(value, tuple(remember(item, tensors) for item in value))
    if type(value) is tuple:
        return _Tuple(value, tuple(remember(item, tensors) for item in value))
    return _Other(copy.deepcopy(value))


def is_plain(value: Any) -> bool:
    """Whether it is a number, a text, ``None``, a tensor, or a container of such alone."""
    if isinstance(value, (*_SCALARS, Tensor)):
        return True
    if type(value) is dict:
        return all(map(is_plain, value.values()))
    return type(value) in (list, tuple) and all(map(is_plain, value))


def _back(entry: Any) -> Any:
    if isinstance(entry, Contents):
        return entry.put_back()
    if isinstance(entry, _List):
        entry.owner[:] = [_back(item) for item in entry.items]
        return entry.owner
    if isinstance(entry, _Tuple):
        items = tuple(_back(item) for item in entry.items)
        same = all(new is old for new, old in zip(items, entry.owner, strict=True))
        return entry.owner if same else items
    if isinstance(entry, _Other):
        return copy.deepcopy(entry.value)
    return entry


def _everything(_key: Any, _value: Any) -> bool:
    return True
