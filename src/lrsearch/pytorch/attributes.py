"""Attributes of objects, remembered and put back: what wrapping and iterating leave on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

__all__ = ["Attributes"]


@dataclass(frozen=True)
class Attributes:
    """The attributes of some objects, and what is in those that are lists, dicts or sets.

    Only references are kept: what an attribute's value holds itself is the business of
    whoever changes it.

    Example:
        >>> class Box:
        ...     def __init__(self):
        ...         self.items = [1]
        >>> box = Box()
        >>> before = Attributes.of([box])
        >>> box.items.append(2)
        >>> box.lid = "open"
        >>> before.restore()
        >>> vars(box)
        {'items': [1]}
    """

    containers: tuple[tuple[Any, Any], ...]

    @classmethod
    def of(cls, owners: Iterable[object]) -> Attributes:
        """Remember objects with a ``__dict__``, and dicts and lists themselves."""
        kept: dict[int, tuple[Any, Any]] = {}
        for owner in owners:
            own = owner if _is_container(owner) else vars(owner)
            values = own.values() if isinstance(own, dict) else ()
            for container in (own, *filter(_is_container, values)):
                kept.setdefault(id(container), (container, _copy(container)))
        return cls(tuple(kept.values()))

    def restore(self) -> None:
        """Put everything back; this can be done again."""
        for container, content in self.containers:
            if isinstance(container, list):
                container[:] = content
                continue
            container.clear()
            container.update(content)


def _is_container(value: object) -> bool:
    return isinstance(value, (dict, list, set))


def _copy(container: Any) -> Any:
    return dict(container) if isinstance(container, dict) else list(container)
