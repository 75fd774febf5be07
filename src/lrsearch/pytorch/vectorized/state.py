"""The state of batched trials: every trained tensor with the trials as its first axis."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.pytorch.vectorized.optimizers import RULES, Rule, Tensors

__all__ = ["Block", "StackedState", "stacked"]


@dataclass
class Block:
    """Parameters that are moved alike: one group of the optimizer, equally long trained.

    Attributes:
        rule: how the optimizer moves them.
        options: the group's options.
        ratio: their learning rate over that of the first group.
        age: steps that the optimizer has made on them.
        names: where they are in the model.
        parameters: their values, ``(trials, *shape)`` each.
        slots: what the optimizer remembers of them, by name, in the same order.
    """

    rule: Rule
    options: dict[str, Any]
    ratio: float
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

    def step(self, gradients: Sequence[Tensor | None], lrs: list[float]) -> None:
        """Move the parameters that have a gradient, each trial at its learning rate."""
        given = tuple(gradient is not None for gradient in gradients)
        if self._given not in (None, given):
            # Their ages would drift apart, as they do in torch's optimizers.
            raise RuntimeError("which parameters get a gradient changes from step to step")
        self._given = given
        if any(given):
            slots = {name: _those(tensors, given) for name, tensors in self.slots.items()}
            some = (_those(self.parameters, given), _those(gradients, given), slots)
            self.rule.step(self.options, self.age, *some, _those(self._rates_of(lrs), given))
        self.age += 1

    def _rates_of(self, lrs: list[float]) -> Tensors:
        if self._rates[0] != lrs:
            first = self.parameters[0]
            scaled = [lr * self.ratio for lr in lrs]
            rates = torch.tensor(scaled, dtype=first.dtype, device=first.device)
            views = {p.ndim: rates.view(-1, *[1] * (p.ndim - 1)) for p in self.parameters}
            self._rates = lrs, [views[p.ndim] for p in self.parameters]
        return self._rates[1]


@dataclass
class StackedState:
    """Everything that the trials' steps read and change.

    Attributes:
        count: how many trials.
        blocks: the trained parameters.
        buffers: buffers that training changes, by name, ``(trials, *shape)`` each.
        shared: the model's other tensors, by name: one for all trials.
    """

    count: int
    blocks: list[Block]
    buffers: dict[str, Tensor]
    shared: dict[str, Tensor]

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The trained parameters by name, ``(trials, *shape)`` each."""
        pairs = (zip(block.names, block.parameters, strict=True) for block in self.blocks)
        return {name: parameter for block in pairs for name, parameter in block}

    def step(self, gradients: Sequence[Tensor | None], lrs: list[float]) -> None:
        """Move every trial; gradients in the order of :attr:`parameters`."""
        start = 0
        for block in self.blocks:
            end = start + len(block.names)
            block.step(gradients[start:end], lrs)
            start = end

    def copy_(self, other: StackedState) -> None:
        """Take over the values of a state of the same trials, in the memory that is there."""
        with torch.no_grad():
            for ours, theirs in zip(self.blocks, other.blocks, strict=True):
                ours.age = theirs.age
                for mine, its in zip(ours.tensors, theirs.tensors, strict=True):
                    mine.copy_(its)
            for name, buffer in self.buffers.items():
                buffer.copy_(other.buffers[name])
            for name, tensor in self.shared.items():
                if tensor.data_ptr() != other.shared[name].data_ptr():
                    tensor.copy_(other.shared[name])

    def selected(self, trials: Sequence[int]) -> StackedState:
        """Return a state of its own for some of the trials, in the order given."""
        device = next(iter(self.parameters.values())).device
        index = torch.tensor(list(trials), dtype=torch.int64, device=device)

        def chosen(tensors: Tensors) -> Tensors:
            return [tensor.detach().index_select(0, index) for tensor in tensors]

        blocks = [
            replace(
                block,
                parameters=[p.requires_grad_() for p in chosen(block.parameters)],
                slots={name: chosen(tensors) for name, tensors in block.slots.items()},
                _rates=([], []),
            )
            for block in self.blocks
        ]
        buffers = dict(zip(self.buffers, chosen(list(self.buffers.values())), strict=True))
        return StackedState(len(trials), blocks, buffers, self.shared)


@torch.no_grad()
def stacked(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    ratios: Sequence[float],
    count: int,
    moving: Collection[str],
) -> StackedState:
    """Return ``count`` trials that all begin at the model's and the optimizer's present state.

    Args:
        model: not touched, nor is its memory shared.
        optimizer: one of :data:`~lrsearch.pytorch.vectorized.optimizers.RULES`.
        ratios: learning rate of each parameter group over that of the first.
        count: how many trials.
        moving: names of the buffers that training changes.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    blocks: list[Block] = []
    for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
        blocks += _blocks(group, ratio, optimizer, names, count)
    trained = {name for block in blocks for name in block.names}
    others = {n: p.detach() for n, p in model.named_parameters() if n not in trained}
    buffers = dict(model.named_buffers())
    still = {name: buffer.clone() for name, buffer in buffers.items() if name not in moving}
    moved = {name: _repeated(buffers[name], count) for name in buffers if name in moving}
    return StackedState(count, blocks, moved, {**others, **still})


def _blocks(
    group: dict[str, Any],
    ratio: float,
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
        fresh = Block(rule, options, ratio, age, [], [], {name: [] for name in slots})
        block = found.setdefault((age, parameter.dtype), fresh)
        block.names.append(names[id(parameter)])
        block.parameters.append(_repeated(parameter, count).requires_grad_())
        for name, fill in slots.items():
            value = kept.get(name)
            start = torch.full_like(parameter, fill) if value is None else value
            block.slots[name].append(_repeated(start, count))
    return list(found.values())


def _age(kept: dict[str, Any]) -> int:
    """Return the steps that an optimizer has made, as far as they matter to it."""
    if "step" in kept:
        return int(kept["step"])
    return int(any(value is not None for value in kept.values()))


def _repeated(value: Tensor, count: int) -> Tensor:
    return value.detach().expand(count, *value.shape).clone(memory_format=torch.contiguous_format)


def _those(tensors: Sequence[Tensor | None], given: Sequence[bool]) -> Tensors:
    return [t for t, chosen in zip(tensors, given, strict=True) if chosen and t is not None]
