"""From a program to a Python function that makes its calls and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from lrsearch.pytorch.lanes.tape import Call, Program, Ref, mapped, memory_of

__all__ = ["Replay", "compiled"]

Replay = Callable[..., tuple[Tensor, ...]]

_LARGEST_TRIED = 1_000_000  # elements; above it the overhead of a binding no longer matters
_SMALLEST_REUSED = 2_048  # elements; below it fresh memory costs as little as reused memory


def compiled(program: Program) -> Replay:
    """Return a function of the program's inputs that makes its calls.

    The calls are written out as lines of a function, since a loop over them would take about
    as long as the small kernels themselves. The text holds only names made up here and
    literals; everything else is bound by name.
    """
    writer = _Writer(program)
    text = writer.text()
    exec(compile(text, "<lanes>", "exec"), writer.scope)
    replay: Replay = writer.scope["replay"]
    return replay


@dataclass
class _Writer:
    program: Program
    scope: dict[str, Any] = field(default_factory=dict)

    def text(self) -> str:
        parameters = ", ".join(f"t{index}" for index in self.program.inputs)
        lines = [f"def replay({parameters}):"]
        free = _freed_memory(self.program)
        for position, (call, dying) in enumerate(
            zip(self.program.calls, _dying(self.program), strict=True)
        ):
            lines.append(f"    {self._line(position, call, free[position])}")
            if dying:
                lines.append(f"    del {', '.join(f't{index}' for index in dying)}")
        results = "".join(f"{self._literal(Ref(index))}, " for index in self.program.outputs)
        return "\n".join([*lines, f"    return ({results})", ""])

    def _line(self, position: int, call: Call, free: frozenset[int]) -> str:
        name = f"f{position}"
        self.scope[name], into = _binding(call, self.program.values, free)
        arguments = [self._literal(value) for value in call.args]
        named = {**call.kwargs, **into}
        arguments += [f"{key}={self._literal(value)}" for key, value in named.items()]
        names = ["_" if index is None else f"t{index}" for index in call.outputs]
        left = names[0] if call.single else f"({', '.join(names)},)"
        return f"{left} = {name}({', '.join(arguments)})"

    def _literal(self, value: Any) -> str:
        if isinstance(value, Ref):
            if value.index not in self.program.fixed:
                return f"t{value.index}"
            return self._named(f"c{value.index}", self.program.values[value.index])
        if type(value) in (list, tuple):
            inside = "".join(f"{self._literal(item)}, " for item in value)
            return f"[{inside}]" if type(value) is list else f"({inside})"
        if value is None or type(value) in (bool, int, str):
            return repr(value)
        return self._named(f"v{len(self.scope)}", value)

    def _named(self, name: str, value: Any) -> str:
        self.scope[name] = value
        return name


def _dying(program: Program) -> list[list[int]]:
    """Return, for every call, the tensors that nobody reads after it."""
    seen = {*program.fixed, *program.outputs}
    dying: list[list[int]] = []
    for call in reversed(program.calls):
        last = [index for index in {*call.reads, *call.outputs} - seen if index is not None]
        seen.update(last)
        dying.append(sorted(last))
    return dying[::-1]


def _freed_memory(program: Program) -> list[frozenset[int]]:
    """Return, for every call, the memory made by earlier calls that only it still reads."""
    taken = {memory_of(program.values[index]) for index in {*program.inputs, *program.fixed}}
    taken |= {memory_of(program.values[index]) for index in program.outputs}
    freed: list[frozenset[int]] = []
    for call in reversed(program.calls):
        read = {memory_of(program.values[index]) for index in call.reads}
        freed.append(frozenset(read - taken))
        taken |= read
    return freed[::-1]


def _binding(
    call: Call, values: tuple[Tensor, ...], free: frozenset[int]
) -> tuple[Callable[..., Any], dict[str, Ref]]:
    """Return the fastest function for the call, and what to write its result into.

    The functions that people call take half the time of the generic ones that a recording
    holds, and writing into memory that is about to be freed spares the caches. Each is tried
    on the recorded tensors and used where it gives the same bits; calls that write or draw
    stay as they are.
    """
    generic: Callable[..., Any] = call.function
    if call.writes or call.random or not call.single or call.outputs[0] is None:
        return generic, {}
    recorded = values[call.outputs[0]]
    if recorded.numel() > _LARGEST_TRIED:
        return generic, {}
    for function, into in (*_reusing(call, values, free, recorded), *_allocating(call)):
        if _gives(function, call, values, recorded, into):
            return function, into
    return generic, {}


def _allocating(call: Call) -> Iterator[tuple[Callable[..., Any], dict[str, Ref]]]:
    yield from ((function, {}) for function in _bindings(call.name))


def _reusing(
    call: Call, values: tuple[Tensor, ...], free: frozenset[int], recorded: Tensor
) -> Iterator[tuple[Callable[..., Any], dict[str, Ref]]]:
    """Yield ways to write the result of an elementwise call over one of its operands."""
    for target in _targets(call, values, free, recorded)[:1]:
        if call.args and call.args[0] == Ref(target):
            yield from ((function, {}) for function in _bindings(f"{call.name}_"))
        yield from ((function, {"out": Ref(target)}) for function in _bindings(call.name))
        packet = call.function.overloadpacket
        for name in packet.overloads():
            if name in ("out", "grad_input"):
                yield getattr(packet, name), {name: Ref(target)}


def _targets(
    call: Call, values: tuple[Tensor, ...], free: frozenset[int], recorded: Tensor
) -> list[int]:
    """Return the operands of an elementwise call whose memory the result may take."""
    if torch.Tag.pointwise not in call.function.tags or recorded.numel() < _SMALLEST_REUSED:
        return []
    readers: dict[int, set[int]] = {}
    for index in call.reads:
        readers.setdefault(memory_of(values[index]), set()).add(index)
    return [
        index
        for index in call.reads
        if memory_of(values[index]) in free
        and len(readers[memory_of(values[index])]) == 1  # nor read turned in the same call
        and (values[index].shape, values[index].stride(), values[index].dtype)
        == (recorded.shape, recorded.stride(), recorded.dtype)
    ]


def _gives(
    function: Callable[..., Any],
    call: Call,
    values: tuple[Tensor, ...],
    recorded: Tensor,
    into: dict[str, Ref],
) -> bool:
    """Try a function on the recorded tensors: does it return the recorded result?"""
    copies: dict[int, Tensor] = {}
    spoils = bool(into) or function.__name__.endswith("_")

    def tensor(value: Any) -> Any:
        if not isinstance(value, Ref):
            return value
        original = values[value.index]
        return copies.setdefault(value.index, original.clone()) if spoils else original

    args, kwargs = mapped(tensor, (call.args, {**call.kwargs, **into}))
    try:
        result = function(*args, **kwargs)
    except (TypeError, RuntimeError, ValueError, IndexError):
        return False
    return _identical(result, recorded)


def _bindings(name: str) -> Iterator[Callable[..., Any]]:
    name = {"_unsafe_view": "view", "_to_copy": "to"}.get(name, name)
    for owner in (torch, Tensor, torch._C._VariableFunctions, torch._C._nn):
        function = getattr(owner, name, None)
        if callable(function):
            yield function


def _identical(one: Any, other: Tensor) -> bool:
    if not isinstance(one, Tensor) or one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.stride() != other.stride():
        return False
    return torch.equal(one, other) or bool(((one == other) | (one != one) & (other != other)).all())
