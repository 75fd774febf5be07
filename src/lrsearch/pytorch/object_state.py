"""What objects hold, remembered and put back: the one walker over everything that may change.

From some roots it goes through attributes, dictionaries, lists, tuples and sets. Containers
are remembered with the very objects that they hold, and put back in place; of tensors, arrays
and random generators the values are copied. So a reference held elsewhere (by a scheduler, an
averaged model, a hook) never goes stale. Every item is put back by itself: what cannot be does
not keep the others from it, and is named in the end.
"""

from __future__ import annotations

import array
import copy
import enum
import functools
import io
import itertools
import logging
import random
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lrsearch.errors import NotRestored
from lrsearch.pytorch.store import Place, TensorState, remember, tried

__all__ = ["Follow", "ObjectState", "capture"]

Follow = Callable[[Any], bool | Sequence[str]]
Copied = Callable[[Any, bool], bool]  # (tensor or array, whether it is an attribute)

_SCALARS = frozenset({bool, int, float, complex, str, bytes, type(None)})
# Nothing in them is changed by training, or they are not ours to change.
_CLOSED = (
    *(type, enum.Enum, types.FunctionType, types.BuiltinFunctionType, types.ModuleType),
    *(logging.Logger, io.IOBase, np.generic, np.dtype, torch.dtype, torch.device, torch.Size),
)
# Iterators that can be copied, though not set back.
_COPYABLE: tuple[type, ...] = (
    itertools.count,
    type(iter([])),
    type(iter(())),
    type(iter(range(0))),
)


_ITEM = object()  # of a list or a set: which one does not matter


@dataclass(frozen=True)
class _Name:
    """Where something was found; put into words only when somebody asks."""

    parent: _Name | None
    key: object
    attribute: bool = True

    def __str__(self) -> str:
        if self.parent is None:
            return str(self.key)
        if self.key is _ITEM:
            return str(self.parent)
        key = "a tensor" if isinstance(self.key, Tensor) else repr(self.key)
        return f"{self.parent}.{self.key}" if self.attribute else f"{self.parent}[{key}]"


@dataclass(frozen=True)
class _Dict:
    """A dictionary; also that of an object's attributes."""

    owner: dict[Any, Any]
    keys: tuple[Any, ...]
    values: tuple[Any, ...]
    name: _Name
    attributes: bool

    def changed(self) -> list[str]:
        now, before = dict(self.owner), dict(zip(self.keys, self.values, strict=True))
        both = {**before, **now}
        names = [key for key in both if now.get(key, _NONE) is not before.get(key, _NONE)]
        return [str(_Name(self.name, key, self.attributes)) for key in names]

    def put_back(self) -> None:
        owner, keys, values = self.owner, self.keys, self.values
        # What is there already stays untouched: compiled code watches these dictionaries.
        if not keys and not owner:
            return
        same = len(owner) == len(keys) and all(map(_is, owner.values(), values))
        if same and all(map(_is, owner, keys)):
            return
        kind, known = _base(owner, OrderedDict, dict), set(keys)
        for key in [key for key in owner if key not in known]:
            kind.__delitem__(owner, key)
        if tuple(owner) != keys:
            kind.clear(owner)
        for key, value in zip(keys, values, strict=True):
            if kind.get(owner, key, _NONE) is not value:
                new = copy.copy(value.kept) if type(value) is _Copy else value
                kind.__setitem__(owner, key, new)


@dataclass(frozen=True)
class _Items:
    """A list, a deque or a set."""

    owner: Any
    items: tuple[Any, ...]
    name: _Name

    def changed(self) -> list[str]:
        same = len(self.owner) == len(self.items) and all(map(_is, self.owner, self.items))
        return [] if same else [str(self.name)]

    def put_back(self) -> None:
        if not self.changed():
            return
        kind = _base(self.owner, list, deque, set)
        kind.clear(self.owner)
        (kind.update if kind is set else kind.extend)(self.owner, self.items)


@dataclass(frozen=True)
class _Value:
    """Something with a state that can be read and set: an array, a generator, slots."""

    owner: Any
    value: Any
    write: Callable[[Any, Any], object]
    name: _Name
    read: Callable[[Any], Any]

    def changed(self) -> list[str]:
        return [] if _equal(self.read(self.owner), self.value) else [str(self.name)]

    def put_back(self) -> None:
        if self.changed():
            self.write(self.owner, self.value)


@dataclass(frozen=True)
class _Copy:
    """In the place of an iterator: what it is to be copied from."""

    kept: Any


_Item = _Dict | _Items | _Value


@dataclass(frozen=True)
class ObjectState:
    """What :func:`capture` remembered. It can be put back any number of times.

    Attributes:
        tensors: the tensors that were found, each once, and what is known of them.
        unkept: names of what cannot be put back.
    """

    items: tuple[_Item, ...]
    tensors: TensorState
    unkept: tuple[str, ...]

    def restore(self) -> None:
        """Put back what has changed.

        Raises:
            NotRestored: something could not be put back; everything else was.
        """
        failed = [(item.name, error) for item in self.items if (error := tried(item.put_back))]
        failures = {str(name): error for name, error in (*failed, *self.tensors.restore())}
        if failures:
            raise NotRestored.of(failures)

    def changed(self) -> list[str]:
        """Return the names of attributes, keys and tensors that are not what they were."""
        return [
            *itertools.chain.from_iterable(item.changed() for item in self.items),
            *map(str, self.tensors.changed()),
        ]


def capture(
    roots: Iterable[tuple[str, object]],
    *,
    follow: Follow = lambda _: False,
    copied: Copied = lambda _value, _attribute: True,
    longest: float = float("inf"),
    dropped: Mapping[int, object] = types.MappingProxyType({}),
    apart: Iterable[object] = (),
    place: Place = "device",
) -> ObjectState:
    """Remember what can be reached from ``roots``.

    Args:
        roots: where to begin, with the names that they have in errors.
        follow: whether to look into the attributes of an object, or the names of those to look
            at. Roots are looked into anyway.
        copied: whether to copy the values of a tensor or array, and whether it is an
            attribute itself or an item of a container.
        longest: containers with more items are remembered and not looked into.
        dropped: parameters, by identity, whose gradients training drops before it makes new
            ones: they need no copy.
        apart: objects not to look at.
        place: where copies of tensors are kept.

    Raises:
        InvalidArgument: there is not enough room.

    Example:
        >>> class Box:
        ...     def __init__(self):
        ...         self.items = [1, {"two": 2}]
        >>> box = Box()
        >>> before = capture([("box", box)])
        >>> box.items[1]["two"] = 3
        >>> box.items.append(4)
        >>> box.lid = "open"
        >>> before.restore()
        >>> vars(box)
        {'items': [1, {'two': 2}]}
    """
    walk = _Walk(follow, copied, longest, dropped)
    walk.seen.update((id(one), one) for one in apart)
    walk.walk(list(roots))
    tensors = remember(walk.tensors, place)
    return ObjectState(tuple(walk.items), tensors, tuple(map(str, walk.unkept)))


class _Walk:
    """One way through a graph of objects, without recursion: chains of objects may be long."""

    def __init__(
        self, follow: Follow, copied: Copied, longest: float, dropped: Mapping[int, object]
    ) -> None:
        self._follow, self._copied, self._longest, self._dropped = follow, copied, longest, dropped
        self._pending: deque[tuple[Any, _Name]] = deque()
        self._roots: set[int] = set()
        self.seen: dict[int, object] = {}  # the objects too, so that no identity is used twice
        self.items: list[_Item] = []
        self.tensors: list[tuple[_Name, Tensor]] = []
        self.unkept: list[_Name] = []

    def walk(self, roots: Sequence[tuple[str, object]]) -> None:
        self._roots = {id(root) for _, root in roots}
        self._pending.extend((root, _Name(None, name)) for name, root in roots)
        while self._pending:
            value, name = self._pending.popleft()
            self._visit(value, name)

    def _visit(self, value: Any, name: _Name) -> None:
        if type(value) in _SCALARS or id(value) in self.seen or isinstance(value, _CLOSED):
            return
        self.seen[id(value)] = value
        if isinstance(value, Tensor):
            self._tensor(value, name)
        elif isinstance(value, dict):
            self._dict(value, name)
        elif isinstance(value, (list, deque, set)):
            self.items.append(_Items(value, tuple(value), name))
            self._several(value, name)
        elif isinstance(value, (tuple, frozenset)):
            self._several(value, name)
        elif isinstance(value, types.MethodType):
            self._pending.append((value.__self__, name))
        elif isinstance(value, functools.partial):
            self._several((value.func, *value.args, *value.keywords.values()), name)
        else:
            self._other(value, name)

    def _several(self, values: Any, name: _Name) -> None:
        if len(values) <= self._longest:
            item = _Name(name, _ITEM, attribute=False)
            self._pending.extend((v, item) for v in values if type(v) not in _SCALARS)
        if type(values) not in (list, tuple, dict, set) and _own(values):
            self._attributes(values, name)

    def _tensor(self, tensor: Tensor, name: _Name) -> None:
        if nn.parameter.is_lazy(tensor):
            return
        if self._copied(tensor, name.attribute):
            self.tensors.append((name, tensor))
        if tensor.is_leaf and tensor.grad is not None and id(tensor) not in self._dropped:
            self._pending.append((tensor.grad, _Name(name, "grad")))
        if tensor.is_leaf and tensor._backward_hooks is not None:
            self._pending.append((tensor._backward_hooks, _Name(name, "_backward_hooks")))
        self._attributes(tensor, name)

    def _dict(self, owner: dict[Any, Any], name: _Name, attribute: bool = False) -> None:
        copies = self._entries(owner, name, attribute)
        values = tuple(copies.get(key, value) for key, value in owner.items())
        self.items.append(_Dict(owner, tuple(owner), values, name, attribute))
        if type(owner) is not dict and _own(owner):
            self._attributes(owner, name)

    def _entries(self, owner: dict[Any, Any], name: _Name, attribute: bool) -> dict[Any, _Copy]:
        """Go on with the values; return what stands for those that are to be copied."""
        copies: dict[Any, _Copy] = {}
        if len(owner) > self._longest:
            return copies
        for key, value in owner.items():
            if type(value) in _SCALARS:
                continue
            if type(value) in _COPYABLE:
                with suppress(TypeError):
                    copies[key] = _Copy(copy.copy(value))
                    continue
            if isinstance(key, Tensor):
                self._pending.append((key, name))
            self._pending.append((value, _Name(name, key, attribute)))
        return copies

    def _other(self, value: Any, name: _Name) -> None:
        if isinstance(value, np.ndarray):
            if value.flags.writeable and self._copied(value, name.attribute):
                self.items.append(_Value(value, value.copy(), _fill, name, np.asarray))
                self._several(value.ravel().tolist() if value.dtype.hasobject else (), name)
            return
        for kind, read, write in _READABLE:
            if isinstance(value, kind):
                with suppress(NotImplementedError):  # the system's own random numbers
                    self.items.append(_Value(value, read(value), write, name, read))
                return
        if isinstance(value, torch.jit.ScriptModule):
            self._script(value, name)
        elif follow := self._follow(value) or id(value) in self._roots:
            self._look_into(value, name, () if follow is True else follow)
        elif isinstance(value, Iterator):
            self._iterator(value, name)

    def _iterator(self, value: Any, name: _Name) -> None:
        """One that is over cannot change any more; others cannot be set back."""
        if isinstance(value, types.GeneratorType):
            over = value.gi_frame is None
        else:
            built_in = type(value).__module__ in ("builtins", "itertools")
            over = built_in and type(value) not in _COPYABLE
            if over:  # if those are that it goes on with
                try:
                    self._several(value.__reduce__()[1], name)
                except (TypeError, IndexError):
                    over = False
        if not over:
            self.unkept.append(name)

    def _look_into(self, value: Any, name: _Name, only: Sequence[str]) -> None:
        slots = [slot for kind in type(value).__mro__ for slot in _tuple(kind, "__slots__")]
        if not only:
            self._attributes(value, name)
        names = [slot for slot in only or slots if slot not in ("__dict__", "__weakref__")]
        if names:
            values = _values(value, names)
            read = functools.partial(_values, names=names)
            write = functools.partial(_set_values, names=names)
            self.items.append(_Value(value, values, write, name, read))
            self._pending.extend((item, _Name(name, key)) for key, item in values.items())

    def _attributes(self, value: Any, name: _Name) -> None:
        own = _own(value)
        if own is not None and id(own) not in self.seen:
            self.seen[id(own)] = own
            self._dict(own, name, attribute=True)

    def _script(self, module: Any, name: _Name) -> None:
        """Compiled modules have tensors and modes, but no dictionaries to put back."""
        named = (*module.named_parameters(), *module.named_buffers())
        self._pending.extend((tensor, _Name(name, key)) for key, tensor in named)
        for part in module.modules():
            read, write = _attribute("training")
            self.items.append(_Value(part, part.training, write, _Name(name, "training"), read))


def _attribute(name: str) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
    """Return what reads and what writes an attribute."""
    return (lambda owner: getattr(owner, name)), (lambda owner, value: setattr(owner, name, value))


_NONE = object()

# Kinds of objects whose state can be read and set, with how.
_READABLE: tuple[tuple[Any, Callable[[Any], Any], Callable[[Any, Any], object]], ...] = (
    (torch.Generator, lambda g: g.get_state(), lambda g, state: g.set_state(state)),
    (random.Random, lambda g: g.getstate(), lambda g, state: g.setstate(state)),
    (np.random.RandomState, lambda g: g.get_state(legacy=False), lambda g, s: g.set_state(s)),
    (
        np.random.Generator,
        lambda g: g.bit_generator.state,
        lambda g, state: setattr(g.bit_generator, "state", state),
    ),
    (np.random.BitGenerator, *_attribute("state")),
    (
        (bytearray, array.array),
        lambda a: a[:],
        lambda a, values: a.__setitem__(slice(None), values),
    ),
)


def _is(one: object, other: object) -> bool:
    return one is other


def _base(value: object, *kinds: Any) -> Any:
    """The built-in type behind it: a subclass may guard its methods, or do more in them."""
    return next(kind for kind in kinds if isinstance(value, kind))


def _own(value: Any) -> dict[Any, Any] | None:
    own = getattr(value, "__dict__", None)
    return own if type(own) is dict else None


def _tuple(kind: type, name: str) -> tuple[str, ...]:
    names = vars(kind).get(name, ())
    return (names,) if isinstance(names, str) else tuple(names)


def _values(owner: Any, names: Sequence[str]) -> dict[str, Any]:
    own = _own(owner) or {}
    return {n: own[n] if n in own else getattr(owner, n) for n in names if hasattr(owner, n)}


def _set_values(owner: Any, values: dict[str, Any], names: Sequence[str]) -> None:
    for name in names:
        if name in values:
            object.__setattr__(owner, name, values[name])
        elif hasattr(owner, name):
            object.__delattr__(owner, name)


def _fill(owner: Any, values: Any) -> None:
    if owner.shape != values.shape:
        owner.resize(values.shape, refcheck=False)
    owner[...] = values


def _equal(now: Any, before: Any) -> bool:
    """Whether two states are the same, bit for bit in arrays."""
    if isinstance(now, np.ndarray):
        same = now.shape == before.shape and now.dtype == before.dtype
        if same and now.dtype.hasobject:
            return all(map(_is, now.flat, before.flat))
        return bool(same and now.tobytes() == before.tobytes())
    if isinstance(now, Tensor):
        return torch.equal(now, before)
    if isinstance(now, dict):
        return now.keys() == before.keys() and all(_equal(now[k], before[k]) for k in now)
    values = type(now) in _SCALARS or type(now) in (tuple, bytearray, array.array)
    return now is before or (values and bool(now == before))
