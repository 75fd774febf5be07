"""Fewer calls for the same results: what a recorded step does in vain, or could do once.

Batched code is written for the general case: it reshapes to the shape that is already there,
multiplies by one, looks at the same thing twice and makes the same constants at every step.
Every rule here keeps all results bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from lrsearch.pytorch.lanes.tape import Call, Program, Ref, mapped, memory_of

__all__ = ["simplified"]


def simplified(program: Program) -> Program:
    """Return a shorter program with the same results and the same random draws."""
    return _joined_views(_pruned(_rewritten(program)))


@dataclass
class _Known:
    """What one pass over the calls has learned so far."""

    values: list[Tensor]
    written: frozenset[int]  # addresses of memory that some call writes to
    same: dict[int, int] = field(default_factory=dict)  # a number, and the earlier one it equals
    fixed: set[int] = field(default_factory=set)
    constant: set[int] = field(default_factory=set)
    calls: dict[Any, tuple[int | None, ...]] = field(default_factory=dict)
    places: dict[Any, int] = field(default_factory=dict)
    roots: dict[int, int] = field(default_factory=dict)  # a view, and the tensor it looks at

    def value(self, index: int) -> Tensor:
        return self.values[index]

    def stable(self, index: int) -> bool:
        """Whether nothing writes to this tensor's memory."""
        return memory_of(self.value(index)) not in self.written


def _rewritten(program: Program) -> Program:
    """Drop calls whose results are already there, or are the same at every replay."""
    written = frozenset(
        memory_of(program.values[index]) for call in program.calls for index in call.written
    )
    known = _Known(
        list(program.values), written, fixed=set(program.fixed), constant=set(program.constant)
    )
    for index in (*program.inputs, *program.fixed):
        known.places[index, _place(program.values[index])] = index
    kept = []
    for original in program.calls:
        call = _redirected(original, known.same)
        if not call.writes and _looks_into(original, program):
            _look_again(call, known)
        needed = call.writes or call.random
        if needed or not (_already_there(call, known) or _never_changes(call, known)):
            kept.append(call)
    return replace(
        program,
        calls=tuple(kept),
        values=tuple(known.values),
        outputs=tuple(known.same.get(index, index) for index in program.outputs),
        fixed=frozenset(known.fixed),
        constant=frozenset(known.constant),
    )


def _looks_into(call: Call, program: Program) -> bool:
    """Whether a result shares memory with something that the call reads."""
    read = {memory_of(program.values[index]) for index in call.reads}
    return any(memory_of(program.values[i]) in read for i in call.outputs if i is not None)


def _look_again(call: Call, known: _Known) -> None:
    """Take a view anew: what it looks at may have been found to be another tensor."""

    def value(item: Any) -> Any:
        return known.value(item.index) if isinstance(item, Ref) else item

    args, kwargs = mapped(value, (call.args, call.kwargs))
    results = call.function(*args, **kwargs)
    for index, result in zip(call.outputs, (results,) if call.single else results, strict=True):
        if index is not None:
            known.values[index] = result


def _already_there(call: Call, known: _Known) -> bool:
    """Find the results among the tensors that exist when the call would run."""
    read, output = call.reads, call.outputs[0]
    if all(known.stable(index) for index in (*read, *call.outputs) if index is not None):
        key = (call.function, repr(call.args), repr(call.kwargs))
        before = known.calls.setdefault(key, call.outputs)
        if before is not call.outputs:
            _equate(call.outputs, before, known)
            return True
    if not call.single or output is None or not read:
        return False
    # Two inputs may share memory in one batch and not in the next: only views of the same
    # tensor are compared.
    root = known.roots.get(read[0], read[0])
    if memory_of(known.value(root)) == memory_of(known.value(output)):
        known.roots[output] = root
    place = (known.roots.get(output, output), _place(known.value(output)))
    source = known.places.setdefault(place, output)
    if source == output:
        source = _neutral(call, output, known)
    if source == output:
        return False
    _equate(call.outputs, (source,), known)
    return True


def _neutral(call: Call, output: int, known: _Known) -> int:
    """Return the operand that multiplying by one, or raising to one, leaves as it is."""
    if call.name not in ("mul", "pow", "div") or not isinstance(call.args[0], Ref):
        return output
    first, second = call.args[:2]
    pairs = [(first, second)]
    if call.name == "mul" and isinstance(second, Ref):
        pairs.append((second, first))
    for operand, factor in pairs:
        index = int(operand.index)
        if not (known.stable(index) and known.stable(output) and _is_one(factor, known)):
            continue
        if _alike(known.value(index), known.value(output)):
            return index
    return output


def _is_one(factor: Any, known: _Known) -> bool:
    if isinstance(factor, Ref):
        return factor.index in known.constant and bool((known.value(factor.index) == 1).all())
    return isinstance(factor, (int, float)) and factor == 1


def _never_changes(call: Call, known: _Known) -> bool:
    """Note results that need no replay: constants, and views of memory that stays."""
    read = set(call.reads)
    made = [index for index in call.outputs if index is not None]
    constant = read <= known.constant and all(known.stable(index) for index in made)
    if not constant and not (call.function.is_view and read and read <= known.fixed):
        return False
    known.fixed.update(made)
    if constant:
        known.constant.update(made)
    return True


def _pruned(program: Program) -> Program:
    """Drop calls whose results nobody reads; random draws stay, for those that follow."""
    needed, kept = set(program.outputs), []
    for call in reversed(program.calls):
        if call.writes or call.random or needed.intersection(call.outputs):
            kept.append(call)
            needed.update(call.reads)
    return replace(program, calls=tuple(reversed(kept)))


def _joined_views(program: Program) -> Program:
    """Take a view of a view in one call, straight from the tensor that owns the memory."""
    root: dict[int, int] = {}
    calls = []
    for call in program.calls:
        output = call.outputs[0]
        if output is not None and _plain_view(call, program):
            source = call.reads[0]
            root[output] = root.get(source, source)
            if source in root and _same_start(program, root[output], output):
                call = _strided(program, root[output], output)
        calls.append(call)
    return _pruned(replace(program, calls=tuple(calls)))


def _plain_view(call: Call, program: Program) -> bool:
    """Whether the result is nothing but other sizes and strides on the same memory."""
    read = call.reads
    output = call.outputs[0]
    if not call.single or output is None or len(read) != 1:
        return False
    if not (call.function.is_view or call.name == "_unsafe_view"):
        return False
    source, result = program.values[read[0]], program.values[output]
    return source.dtype == result.dtype and memory_of(source) == memory_of(result)


def _same_start(program: Program, source: int, result: int) -> bool:
    offset = program.values[source].storage_offset()
    return offset == program.values[result].storage_offset()


def _strided(program: Program, source: int, result: int) -> Call:
    value = program.values[result]
    args = (Ref(source), list(value.shape), list(value.stride()))
    return Call(torch.ops.aten.as_strided.default, args, {}, (result,), single=True)


def _redirected(call: Call, same: dict[int, int]) -> Call:
    if same.keys().isdisjoint(call.reads):
        return call

    def follow(value: Any) -> Any:
        return Ref(same.get(value.index, value.index)) if isinstance(value, Ref) else value

    return replace(call, args=mapped(follow, call.args), kwargs=mapped(follow, call.kwargs))


def _equate(
    outputs: tuple[int | None, ...], earlier: tuple[int | None, ...], known: _Known
) -> None:
    for output, index in zip(outputs, earlier, strict=True):
        if output is not None and index is not None:
            known.same[output] = known.same.get(index, index)


def _alike(one: Tensor, other: Tensor) -> bool:
    return _place(one)[1:] == _place(other)[1:]


def _place(value: Tensor) -> tuple[Any, ...]:
    # Strides of axes of length one count too: they decide which kernel a product takes.
    return (value.data_ptr(), value.shape, value.stride(), value.dtype, value.device)
