"""What a loader and its parts know about the passes made over them: told, and put back."""

from __future__ import annotations

import functools
import random
import types
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data.dataloader import _BaseDataLoaderIter

from lrsearch.pytorch.object_state import ObjectState, capture
from lrsearch.pytorch.snapshot import of_foreign_package, of_trainer

__all__ = ["loader_state", "tell_epoch"]

# Where a loader keeps what decides on the order.
_PARTS = ("loader", "base_dataloader", "batch_sampler", "sampler", "dataset")
# Packages whose loaders and data sets are looked into as a user's own are.
_OF_DATA = ("torch.utils.data", "torchdata", "accelerate.data_loader", "datasets")
_DRAWING = (torch.Generator, random.Random, np.random.Generator, np.random.RandomState)
_SMALL = 2**24  # bytes: an order of some millions of examples; larger ones are data
_LONG = 1000  # items of a container that holds data


def loader_state(loader: object) -> ObjectState:
    """Remember positions, counters, orders and random generators; of the data only where they are.

    Example:
        >>> class Stream:
        ...     passes = 7
        ...     def __iter__(self):
        ...         self.passes += 1
        ...         return iter([self.passes])
        >>> stream = Stream()
        >>> before = loader_state(stream)
        >>> list(stream), list(stream)
        ([8], [9])
        >>> before.restore()
        >>> list(stream)
        [8]
    """
    roots = _used_by(loader) if callable(loader) else [loader]
    return capture(
        [("loader", root) for root in roots],
        follow=_of_data,
        copied=lambda values, attribute: attribute and values.nbytes <= _SMALL,
        longest=_LONG,
    )


def tell_epoch(loader: object, epoch: int) -> None:
    """Call ``set_epoch`` on the loader and every part of it that has one."""
    for part in _parts(loader):
        if callable(getattr(part, "set_epoch", None)):
            part.set_epoch(epoch)


def _of_data(value: Any) -> bool:
    home = type(value).__module__
    if isinstance(value, (nn.Module, Tensor, _BaseDataLoaderIter)):
        return False  # an iterator belongs to whoever reads it
    # Accelerate's loaders note in a state that all share which one is being read.
    if home.startswith(_OF_DATA) or home.endswith((".combined_loader", "accelerate.state")):
        return True
    return not (of_foreign_package(value) or of_trainer(value))


def _used_by(function: Any) -> list[object]:
    """The data and random generators that a function which makes batches finds around itself.

    Other objects may be the user's own records: they are left alone.
    """
    if isinstance(function, types.FunctionType):
        cells = [cell.cell_contents for cell in function.__closure__ or () if _is_full(cell)]
        names = [name for name in function.__code__.co_names if name in function.__globals__]
        around = [*cells, *map(function.__globals__.get, names)]
    elif isinstance(function, functools.partial):
        around = [*_used_by(function.func), *function.args, *function.keywords.values()]
    else:
        around = [function, getattr(function, "__self__", None)]
    found = [one for one in around if isinstance(one, _DRAWING) or _is_data(one)]
    functions = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, type)
    return found if isinstance(function, functions) else [function, *found]


def _is_data(value: object) -> bool:
    kinds = (dict, list, set, tuple, str, bytes, type, Tensor, np.ndarray, nn.Module)
    read = hasattr(value, "__iter__") or hasattr(value, "__getitem__")
    return read and not isinstance(value, kinds)


def _is_full(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _parts(loader: object) -> list[Any]:
    found: dict[int, Any] = {}
    pending = [loader]
    while pending:
        part = pending.pop()
        if id(part) not in found and hasattr(part, "__dict__"):
            found[id(part)] = part
            own = vars(part)
            pending += [own[inner] for inner in _PARTS if inner in own]
    return list(found.values())
