"""Objects as they were: the attributes of a graph of objects, kept and put back in place.

Lightning keeps the state of a run in the attributes of many objects. Which ones they are is
its own affair: here every attribute of every object that can be reached is kept, so that
nothing needs to be known about them.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Sampler

from lrsearch.pytorch.random_state import Generator, generators_of

__all__ = ["Photograph", "photograph"]

_LIGHTNING = ("pytorch_lightning", "lightning", "lightning_fabric")
# Processes and their addresses go on existing, whatever is put back.
_OUTSIDE = (".launchers", ".environments")
# Optimizers, data sets and the wrapper that holds process groups are not ours to look into.
_CLOSED = (
    type,
    enum.Enum,
    torch.optim.Optimizer,
    Dataset,
    Sampler,
    torch.jit.ScriptModule,
    nn.parallel.DistributedDataParallel,
)
_PLAIN = (str, bytes, int, float, complex, type(None), torch.dtype, torch.device)
_TENSORS = frozenset({"_parameters", "_buffers"})  # where a module keeps what it trains


@dataclass(frozen=True)
class _Kept:
    """A tensor, its values, and what else belongs to it."""

    tensor: Tensor
    values: Tensor
    grad: Tensor | None
    requires_grad: bool

    @classmethod
    def of(cls, tensor: Tensor) -> _Kept:
        grad = tensor.grad if tensor.is_leaf else None
        return cls(tensor, tensor.detach().clone(), grad, tensor.requires_grad)

    def restore(self) -> None:
        tensor, values = self.tensor, self.values
        if (tensor.dtype, tensor.device, tensor.shape) == (
            values.dtype,
            values.device,
            values.shape,
        ):
            tensor.detach().copy_(values)
        else:  # moved or converted by the trainer
            tensor.data = values.clone()
        if tensor.is_leaf:
            tensor.requires_grad_(self.requires_grad)
            tensor.grad = self.grad


@dataclass(frozen=True)
class Photograph:
    """What :func:`photograph` kept. It can be put back any number of times."""

    containers: tuple[tuple[Any, Any], ...]
    tensors: tuple[_Kept, ...]
    generators: tuple[tuple[Generator, Any], ...]

    @torch.no_grad()
    def restore(self) -> None:
        """Put every attribute, container, tensor and generator back as it was."""
        for container, kept in self.containers:
            _refill(container, kept)
        for tensor in self.tensors:
            tensor.restore()
        for generator, state in self.generators:
            generator.set_state(state)

    def changed(self) -> list[str]:
        """Return the names of attributes and keys that are not what they were."""
        names = [
            str(key)
            for container, kept in self.containers
            if isinstance(container, Mapping)
            for key in {*container, *kept}
            if container.get(key, _ABSENT) is not kept.get(key, _ABSENT)
        ]
        lists = [
            f"a {type(container).__name__}"
            for container, kept in self.containers
            if not isinstance(container, Mapping) and list(map(id, container)) != [*map(id, kept)]
        ]
        values = [
            f"a tensor of shape {tuple(kept.values.shape)}"
            for kept in self.tensors
            if not torch.equal(kept.tensor.detach(), kept.values)
        ]
        return [*names, *lists, *values]


def photograph(
    roots: Iterable[object], *, trained: bool = True, apart: Iterable[object] = ()
) -> Photograph:
    """Keep what can be reached from ``roots`` through attributes and plain containers.

    Followed are modules, Lightning's own objects, and anything with a ``state_dict``; not the
    inside of optimizers, data sets and other people's objects.

    Args:
        roots: where to begin.
        trained: whether to copy the parameters and buffers of modules too.
        apart: objects not to look at.
    """
    containers: list[tuple[Any, Any]] = []
    tensors: list[_Kept] = []
    generators: dict[int, Generator] = {}
    seen = {id(one) for one in apart}
    pending: deque[object] = deque(roots)
    while pending:
        value = pending.popleft()
        if isinstance(value, _PLAIN) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            if not (value.is_inference() or nn.parameter.is_lazy(value)):
                tensors.append(_Kept.of(value))
        elif isinstance(value, torch.Generator):
            generators[id(value)] = value
        elif isinstance(value, tuple):
            pending.extend(value)
        elif isinstance(value, (list, set, deque, dict)):
            containers.append((value, _copied(value)))
            pending.extend(value.values() if isinstance(value, dict) else value)
            if _is_followed(value):  # a dict with attributes of its own
                pending.append(vars(value))
        elif isinstance(value, DataLoader):
            generators.update({id(one): one for one in generators_of(value)})
        elif _is_followed(value):
            seen.add(id(vars(value)))
            containers.append((vars(value), dict(vars(value))))
            pending.extend(
                item
                for name, item in vars(value).items()
                if trained or not (isinstance(value, nn.Module) and name in _TENSORS)
            )
    states = tuple((generator, generator.get_state()) for generator in generators.values())
    return Photograph(tuple(containers), tuple(tensors), states)


_ABSENT = object()


def _is_followed(value: object) -> bool:
    if isinstance(value, _CLOSED) or not hasattr(value, "__dict__"):
        return False
    home = type(value).__module__
    if home.partition(".")[0] in _LIGHTNING:
        return not any(part in home for part in _OUTSIDE)
    return isinstance(value, nn.Module) or callable(getattr(type(value), "state_dict", None))


def _copied(container: Any) -> Any:
    if isinstance(container, dict):
        return dict(container)
    return set(container) if isinstance(container, set) else list(container)


def _refill(container: Any, kept: Any) -> None:
    if isinstance(container, list):
        container[:] = kept
    elif isinstance(container, deque):
        container.clear()
        container.extend(kept)
    else:
        container.clear()
        container.update(kept)
