"""A copy of everything that training changes, put back in place, as often as asked.

Tensors are copied when taken and copied again at every restore, into the tensors that were
there: no restore can hand out the snapshot's own memory, and no reference held elsewhere
(by a scheduler, an averaged model, a hook) goes stale.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.pytorch.random_state import RandomState, read_random_state

__all__ = ["Snapshot", "restore", "take"]

_Value = Any  # anything that an optimizer or a scaler keeps


@dataclass(frozen=True)
class _Slot:
    """A parameter or buffer: where it is registered, the tensor there, and its values."""

    owner: dict[str, Tensor | None]
    name: str
    tensor: Tensor
    values: Tensor
    grad: Tensor | None
    requires_grad: bool


@dataclass(frozen=True)
class Snapshot:
    """What :func:`take` copied. The loss scaler is ``None`` when there is none."""

    slots: tuple[_Slot, ...]
    modes: tuple[tuple[nn.Module, bool], ...]
    extra: tuple[tuple[nn.Module, _Value], ...]
    groups: tuple[dict[str, _Value], ...]
    state: tuple[tuple[Tensor, dict[str, _Value]], ...]
    flags: dict[str, _Value]
    scaler: dict[str, _Value] | None
    random: RandomState


@torch.no_grad()
def take(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
    generators: Iterable[torch.Generator] = (),
) -> Snapshot:
    """Copy weights, buffers, modes, optimizer, loss scaler and random states.

    Gradients are kept by reference: training drops them before it makes new ones, so they
    need no copy.
    """
    return Snapshot(
        slots=tuple(_slots(model)),
        modes=tuple((module, module.training) for module in model.modules()),
        extra=tuple(
            (module, copy.deepcopy(module.get_extra_state()))
            for module in model.modules()
            if type(module).get_extra_state is not nn.Module.get_extra_state
        ),
        groups=tuple(
            {key: _copied(value) for key, value in group.items() if key != "params"}
            for group in optimizer.param_groups
        ),
        state=tuple((key, _copied(value)) for key, value in optimizer.state.items()),
        flags=_plain_attributes(optimizer),
        scaler=None if scaler is None else _copied(_scaler_attributes(scaler)),
        random=read_random_state(generators),
    )


@torch.no_grad()
def restore(
    snapshot: Snapshot,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None = None,
) -> None:
    """Put everything back; the snapshot can be restored again."""
    for slot in snapshot.slots:
        slot.owner[slot.name] = slot.tensor
        slot.tensor.copy_(slot.values)
        if slot.tensor.requires_grad != slot.requires_grad:
            slot.tensor.requires_grad_(slot.requires_grad)
        if slot.tensor.grad is not slot.grad:
            slot.tensor.grad = slot.grad
    for module, training in snapshot.modes:
        module.training = training
    for module, state in snapshot.extra:
        module.set_extra_state(copy.deepcopy(state))
    _restore_optimizer(snapshot, optimizer)
    if scaler is not None and snapshot.scaler is not None:
        _merge(vars(scaler), snapshot.scaler)
    snapshot.random.restore()


def _restore_optimizer(snapshot: Snapshot, optimizer: torch.optim.Optimizer) -> None:
    for group, saved in zip(optimizer.param_groups, snapshot.groups, strict=True):
        for option in [key for key in group if key != "params" and key not in saved]:
            del group[option]
        _merge(group, saved)
    kept = {id(key) for key, _ in snapshot.state}
    for key in [key for key in optimizer.state if id(key) not in kept]:
        del optimizer.state[key]
    for key, saved in snapshot.state:
        current = optimizer.state[key]
        for name in [name for name in current if name not in saved]:
            del current[name]
        _merge(current, saved)
    for name in _plain_attributes(optimizer):
        if name not in snapshot.flags:
            delattr(optimizer, name)
    vars(optimizer).update(snapshot.flags)


def _slots(model: nn.Module) -> Iterable[_Slot]:
    """Every place where a tensor is registered; tied tensors share one copy."""
    copies: dict[int, Tensor] = {}
    for module in model.modules():
        for owner in (module._parameters, module._buffers):
            for name, tensor in owner.items():
                if tensor is None:
                    continue
                if id(tensor) not in copies:
                    copies[id(tensor)] = tensor.detach().clone()
                yield _Slot(
                    owner=owner,  # type: ignore[arg-type]
                    name=name,
                    tensor=tensor,
                    values=copies[id(tensor)],
                    grad=tensor.grad if tensor.is_leaf else None,
                    requires_grad=tensor.requires_grad,
                )


def _copied(value: _Value) -> _Value:
    """Copy tensors and containers of any depth; parameters used as keys stay themselves."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) is dict:
        return {key: _copied(item) for key, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_copied(item) for item in value)
    return copy.deepcopy(value)


def _restored(current: _Value, saved: _Value) -> _Value:
    """Return what to put in place of ``current``: the same tensor refilled where it fits."""
    if (
        isinstance(saved, Tensor)
        and isinstance(current, Tensor)
        and current.shape == saved.shape
        and current.dtype == saved.dtype
        and current.device == saved.device
    ):
        return current.copy_(saved)
    return _copied(saved)


def _merge(current: dict[Any, _Value], saved: dict[Any, _Value]) -> None:
    for key, value in saved.items():
        current[key] = _restored(current.get(key), value)


def _plain_attributes(optimizer: torch.optim.Optimizer) -> dict[str, _Value]:
    """Flags that schedulers and optimizers keep on the object, such as "was stepped"."""
    plain = (bool, int, float, str, type(None))
    return {name: value for name, value in vars(optimizer).items() if isinstance(value, plain)}


def _scaler_attributes(scaler: torch.amp.GradScaler) -> dict[str, _Value]:
    """The scale, its growth counter and the per-optimizer stage of a loss scaler."""
    return {name: value for name, value in vars(scaler).items() if not callable(value)}
