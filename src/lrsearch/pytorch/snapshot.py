"""A copy of everything that training changes, put back in place, as often as asked.

The values of tensors are copied when taken and written back at every restore into the very
tensors that they came from; everything else is remembered by
:mod:`lrsearch.pytorch.contents`. So no restore can hand out the snapshot's own memory.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from lrsearch.pytorch.contents import Contents, is_plain
from lrsearch.pytorch.random_state import Generator, RandomState, read_random_state
from lrsearch.pytorch.store import Place, copies, put_back

__all__ = ["Snapshot", "Stateful", "restore", "take"]


@runtime_checkable
class Stateful(Protocol):
    """Anything whose state can be read and written, as PyTorch's checkpoints expect it."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any], /) -> Any:
        """Take over a state."""
        ...


@dataclass(frozen=True)
class _Parameter:
    """What a parameter or buffer is besides its values."""

    tensor: Tensor
    grad: Tensor | None
    requires_grad: bool


@dataclass(frozen=True)
class Snapshot:
    """What :func:`take` copied.

    Attributes:
        tensors: the tensors that training may change, each once.
        values: their copies.
    """

    tensors: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    contents: tuple[Contents, ...]
    parameters: tuple[_Parameter, ...]
    modes: tuple[tuple[nn.Module, bool], ...]
    states: tuple[tuple[Callable[[Any], Any], Any], ...]
    random: RandomState


def take(
    model: nn.Module,
    optimizer: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    scaler: torch.amp.GradScaler | None = None,
    generators: Iterable[Generator] = (),
    others: Iterable[object] = (),
    place: Place = "device",
) -> Snapshot:
    """Copy weights, buffers, modes, optimizer, loss scaler and random states.

    Gradients are kept by reference: training drops them before it makes new ones, so they
    need no copy.

    Args:
        model: what is trained.
        optimizer: its optimizer, or several; parameters that only they know are copied too.
        scaler: the loss scaler, if there is one.
        generators: random generators besides the global ones.
        others: modules, and objects with ``state_dict`` and ``load_state_dict``, that change
            with it; anything else is ignored.
        place: where the copies are kept, see :func:`lrsearch.pytorch.store.copies`.

    Raises:
        InvalidArgument: there is not enough room.
    """
    others = list(others)
    optimizers = list(optimizer) if isinstance(optimizer, Sequence) else [optimizer]
    roots = [model, *(other for other in others if isinstance(other, nn.Module))]
    modules = list({id(m): m for root in roots for m in root.modules()}.values())
    tensors: dict[int, Tensor] = {}
    contents = [
        *_of_modules(modules, tensors),
        *(kept for one in optimizers for kept in _of_optimizer(one, tensors)),
        *(() if scaler is None else [Contents.of(vars(scaler), tensors, _not_callable)]),
    ]
    held = [p for one in optimizers for group in one.param_groups for p in group["params"]]
    parameters = {id(p): p for p in (*_registered_in(modules), *held)}
    tensors.update(parameters)
    return Snapshot(
        tensors=tuple(tensors.values()),
        values=tuple(copies(list(tensors.values()), place)),
        contents=tuple(contents),
        parameters=tuple(
            _Parameter(p, p.grad if p.is_leaf else None, p.requires_grad)
            for p in parameters.values()
        ),
        modes=tuple((module, module.training) for module in modules),
        states=tuple(_states(modules, others)),
        random=read_random_state(generators),
    )


@torch.no_grad()
def restore(snapshot: Snapshot) -> None:
    """Put everything back; the snapshot can be restored again."""
    for contents in snapshot.contents:
        contents.put_back()
    put_back(snapshot.tensors, snapshot.values)
    for parameter in snapshot.parameters:
        tensor = parameter.tensor
        if tensor.requires_grad != parameter.requires_grad:
            tensor.requires_grad_(parameter.requires_grad)
        if tensor.grad is not parameter.grad:
            tensor.grad = parameter.grad
    for module, training in snapshot.modes:
        module.training = training
    for load, state in snapshot.states:
        load(copy.deepcopy(state))
    snapshot.random.restore()


def _of_modules(modules: Iterable[nn.Module], tensors: dict[int, Tensor]) -> Iterator[Contents]:
    """Parameters and buffers, and what the model's own code keeps in plain attributes."""
    for module in modules:
        for registered in (module._parameters, module._buffers):
            if registered:
                yield Contents.of(registered, tensors, _any)
        # Flags of torch's own modules belong to objects that are not put back.
        of_torch = type(module).__module__.partition(".")[0] == "torch"
        attributes = Contents.of(vars(module), tensors, _tensor if of_torch else _attribute)
        if attributes.entries or not of_torch:
            yield attributes


def _of_optimizer(
    optimizer: torch.optim.Optimizer, tensors: dict[int, Tensor]
) -> Iterator[Contents]:
    yield from (Contents.of(group, tensors, _option) for group in optimizer.param_groups)
    yield Contents.of(optimizer.state, tensors, _any)
    # Flags that schedulers and optimizers keep on the object, such as "was stepped".
    yield Contents.of(vars(optimizer), tensors, _flag)


def _states(
    modules: Iterable[nn.Module], others: Iterable[object]
) -> Iterator[tuple[Callable[[Any], Any], Any]]:
    for module in modules:
        if type(module).get_extra_state is not nn.Module.get_extra_state:
            yield module.set_extra_state, copy.deepcopy(module.get_extra_state())
    for other in others:
        if isinstance(other, Stateful) and not isinstance(
            other, (nn.Module, torch.optim.Optimizer)
        ):
            yield other.load_state_dict, copy.deepcopy(other.state_dict())


def _registered_in(modules: Iterable[nn.Module]) -> Iterator[Tensor]:
    for module in modules:
        for registered in (module._parameters, module._buffers):
            yield from (tensor for tensor in registered.values() if tensor is not None)


_OF_EVERY_MODULE = frozenset(vars(nn.Module()))


def _any(_key: object, _value: object) -> bool:
    return True


def _tensor(_key: object, value: object) -> bool:
    return isinstance(value, Tensor)


def _attribute(key: object, value: object) -> bool:
    return key not in _OF_EVERY_MODULE and is_plain(value)


def _option(key: object, _value: object) -> bool:
    return key != "params"


def _flag(key: object, value: object) -> bool:
    return key not in ("state", "param_groups") and is_plain(value)


def _not_callable(_key: object, value: object) -> bool:
    return not callable(value)
