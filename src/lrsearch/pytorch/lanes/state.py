"""The state of many lanes: every trained tensor with the lanes as its first axis."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.pytorch.lanes.updates import RULES, Rule, Tensors

__all__ = ["Block", "LaneState", "stacked"]


@dataclass
class Block:
    """Parameters that are updated alike: one group of the optimizer, equally long trained.

    Attributes:
        rule: how the optimizer moves them.
        options: the group's options.
        multiplier: their learning rate over that of the first group.
        age: updates that the optimizer has made to them.
        names: where they are in the model.
        parameters: their values, ``(lanes, *shape)`` each.
        slots: what the optimizer remembers of them, by name, in the same order.
    """

    rule: Rule
    options: dict[str, Any]
    multiplier: float
    age: int
    names: list[str]
    parameters: Tensors
    slots: dict[str, Tensors]
    _rates: tuple[list[float], Tensors] = field(default=([], []), repr=False)
    _given: tuple[bool, ...] | None = field(default=None, repr=False)

    @property
    def tensors(self) -> Tensors:
        """Parameters and slots, in a fixed order."""
        return [*self.parameters, *(t for kept in self.slots.values() for t in kept)]

    def update(self, gradients: Sequence[Tensor | None], lrs: list[float]) -> None:
        """Move the parameters that have a gradient, each lane at its learning rate."""
        given = tuple(gradient is not None for gradient in gradients)
        if self._given is None:
            self._given = given
        elif self._given != given:
            # Their ages would drift apart, as they do in torch's optimizers.
            raise RuntimeError("which parameters get a gradient changes from step to step")
        rates = self._rates_of(lrs)
        if all(given):
            everything = (self.parameters, gradients, self.slots, rates)
            self.rule.update(self.options, self.age, *everything)  # type: ignore[arg-type]
        elif any(given):
            slots = {name: _those(tensors, given) for name, tensors in self.slots.items()}
            some = (_those(self.parameters, given), _those(gradients, given), slots)
            self.rule.update(self.options, self.age, *some, _those(rates, given))
        self.age += 1

    def _rates_of(self, lrs: list[float]) -> Tensors:
        if self._rates[0] != lrs:
            first = self.parameters[0]
            scaled = [lr * self.multiplier for lr in lrs]
            rates = torch.tensor(scaled, dtype=first.dtype, device=first.device)
            views = {p.ndim: rates.view(-1, *[1] * (p.ndim - 1)) for p in self.parameters}
            self._rates = lrs, [views[p.ndim] for p in self.parameters]
        return self._rates[1]

    def selected(self, lanes: Tensor) -> Block:
        """Return the block of some of its lanes."""
        return replace(
            self,
            parameters=[_selected(p, lanes).requires_grad_() for p in self.parameters],
            slots={
                name: [_selected(tensor, lanes) for tensor in tensors]
                for name, tensors in self.slots.items()
            },
            _rates=([], []),
        )


@dataclass
class LaneState:
    """Everything that the lanes' steps read and change.

    Attributes:
        count: how many lanes.
        blocks: the trained parameters.
        buffers: buffers that training changes, by name, ``(lanes, *shape)`` each.
        shared: the model's other tensors, by name: one for all lanes, never changed.
    """

    count: int
    blocks: list[Block]
    buffers: dict[str, Tensor]
    shared: dict[str, Tensor]

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The trained parameters by name, ``(lanes, *shape)`` each."""
        return {
            name: parameter
            for block in self.blocks
            for name, parameter in zip(block.names, block.parameters, strict=True)
        }

    def update(self, gradients: Sequence[Tensor | None], lrs: list[float]) -> None:
        """Move every lane; gradients in the order of :attr:`parameters`."""
        start = 0
        for block in self.blocks:
            end = start + len(block.names)
            block.update(gradients[start:end], lrs)
            start = end

    @torch.no_grad()
    def copy_(self, other: LaneState) -> None:
        """Take over the values of a state of the same lanes, in the memory that is there."""
        for ours, theirs in zip(self.blocks, other.blocks, strict=True):
            ours.age = theirs.age
            pairs = zip(ours.tensors, theirs.tensors, strict=True)
            for mine, its in pairs:
                mine.copy_(its)
        for name, buffer in self.buffers.items():
            buffer.copy_(other.buffers[name])
        for name, tensor in self.shared.items():
            if tensor.data_ptr() != other.shared[name].data_ptr():
                tensor.copy_(other.shared[name])

    def selected(self, lanes: Sequence[int]) -> LaneState:
        """Return a state of its own for some of the lanes, in the order given."""
        device = next(iter(self.parameters.values())).device
        index = torch.tensor(list(lanes), dtype=torch.int64, device=device)
        return LaneState(
            len(lanes),
            [block.selected(index) for block in self.blocks],
            {name: _selected(buffer, index) for name, buffer in self.buffers.items()},
            self.shared,
        )


@torch.no_grad()
def stacked(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    multipliers: Sequence[float],
    count: int,
    moving: Collection[str],
) -> LaneState:
    """Return ``count`` lanes that all begin at the model's and the optimizer's present state.

    Args:
        model: not touched, nor is its memory shared.
        optimizer: one of :data:`~lrsearch.pytorch.lanes.updates.RULES`.
        multipliers: learning rate of each parameter group over that of the first.
        count: how many lanes.
        moving: names of the buffers that training changes.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    blocks: list[Block] = []
    for group, multiplier in zip(optimizer.param_groups, multipliers, strict=True):
        blocks += _blocks(group, multiplier, optimizer, names, count)
    trained = {name for block in blocks for name in block.names}
    buffers = dict(model.named_buffers())
    parameters = {
        name: parameter.detach()
        for name, parameter in model.named_parameters()
        if name not in trained
    }
    still = {name: buffer.clone() for name, buffer in buffers.items() if name not in moving}
    return LaneState(
        count,
        blocks,
        {name: _repeated(buffers[name], count) for name in buffers if name in moving},
        {**parameters, **still},
    )


def _blocks(
    group: dict[str, Any],
    multiplier: float,
    optimizer: torch.optim.Optimizer,
    names: dict[int, str],
    count: int,
) -> list[Block]:
    rule = RULES[type(optimizer)]
    options = {key: value for key, value in group.items() if key not in ("params", "lr")}
    slots = rule.slots(options)
    found: dict[tuple[Any, ...], Block] = {}
    for parameter in group["params"]:
        if not parameter.requires_grad:
            continue
        kept = optimizer.state.get(parameter, {})
        age = _age(kept)
        key = (age, parameter.dtype)
        block = found.setdefault(
            key, Block(rule, options, multiplier, age, [], [], {name: [] for name in slots})
        )
        block.names.append(names[id(parameter)])
        block.parameters.append(_repeated(parameter.detach(), count).requires_grad_())
        for name, fill in slots.items():
            value = kept.get(name)
            start = torch.full_like(parameter, fill) if value is None else value
            block.slots[name].append(_repeated(start, count))
    return list(found.values())


def _age(kept: dict[str, Any]) -> int:
    """Return the updates that an optimizer has made, as far as they matter to it."""
    if "step" in kept:
        return int(kept["step"])
    return int(any(value is not None for value in kept.values()))


def _repeated(value: Tensor, count: int) -> Tensor:
    return value.detach().expand(count, *value.shape).clone(memory_format=torch.contiguous_format)


def _those(tensors: Sequence[Tensor | None], given: Sequence[bool]) -> Tensors:
    return [t for t, chosen in zip(tensors, given, strict=True) if chosen and t is not None]


def _selected(value: Tensor, lanes: Tensor) -> Tensor:
    return value.detach().index_select(0, lanes)
