"""A recorded computation: the tensor operations of one step, to be run again without Python's help.

``torch.vmap`` and autograd decide anew at every step which kernels to call, which takes longer
than the kernels of a small net. A tape writes the calls down once, below both, and repeats
them on new batches: same kernels, same order, same random draws.

Source of the idea: tracing to a list of primitive calls, R. Frostig, M. Johnson, C. Leary,
"Compiling machine learning programs via high-level tracing", SysML 2018.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

__all__ = ["Call", "NotRecordable", "Program", "Ref", "mapped", "memory_of", "record"]

Run = Callable[..., tuple[Tensor, ...]]


class NotRecordable(Exception):
    """The computation reads a number out of a tensor, so its next course is not known."""


@dataclass(frozen=True, slots=True)
class Ref:
    """A tensor of the tape, by its number."""

    index: int

    def __repr__(self) -> str:
        return f"%{self.index}"


@dataclass(frozen=True)
class Call:
    """One operation: ``outputs = function(*args, **kwargs)``, tensors replaced by references.

    ``outputs`` numbers the results in order (``None`` for a result that is no tensor);
    ``single`` says that the function returns its one result bare, not in a tuple.
    """

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: tuple[int | None, ...]
    single: bool

    @cached_property
    def reads(self) -> tuple[int, ...]:
        """The numbers of the tensors among its arguments, in order."""
        return tuple(_references((self.args, self.kwargs)))

    @cached_property
    def name(self) -> str:
        """Name of the operation without its namespace and overload, such as ``mul``."""
        return str(self.function._schema.name).split("::")[-1]

    @cached_property
    def random(self) -> bool:
        """Whether it draws from a random state."""
        return torch.Tag.nondeterministic_seeded in self.function.tags

    @cached_property
    def writes(self) -> bool:
        """Whether it changes one of its arguments."""
        return bool(self.function._schema.is_mutable) or self.name in _WRITES_UNDECLARED

    @property
    def written(self) -> list[int]:
        """The numbers of the tensors that it changes."""
        if not self.writes or self.name in _WRITES_UNDECLARED:
            return list(self.reads) if self.writes else []
        declared = self.function._schema.arguments
        named = zip(declared, self.args, strict=False)
        values = [value for argument, value in named if _is_written(argument)]
        values += [self.kwargs.get(a.name) for a in declared if _is_written(a)]
        return list(_references(values))


# They update running statistics that their schema declares as read only.
_WRITES_UNDECLARED = ("native_batch_norm", "cudnn_batch_norm", "miopen_batch_norm")


@dataclass(frozen=True)
class Program:
    """The calls of one step, and every tensor that was seen while they were recorded.

    Attributes:
        calls: in the order in which they ran.
        inputs: numbers of the tensors that differ at every replay, in order.
        outputs: numbers of the results, in order.
        values: the tensors as they were when recorded, by number, without their gradients.
        fixed: numbers of tensors that every replay meets again, at the same place in memory,
            with whatever they then contain: the state of the lanes, and captured tensors.
        constant: those of ``fixed`` whose contents never change.
    """

    calls: tuple[Call, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    values: tuple[Tensor, ...]
    fixed: frozenset[int]
    constant: frozenset[int]


def record(
    function: Callable[[], Sequence[Tensor]],
    inputs: Sequence[Tensor],
    constants: Iterable[Tensor] = (),
) -> tuple[tuple[Tensor, ...], Program]:
    """Run ``function`` and write down what it did.

    Args:
        function: the computation; it must do all its work with tensor operations.
        inputs: the tensors that will differ when the program is run again. Whatever else the
            computation touches is met again as it then is.
        constants: tensors whose contents will never change.

    Returns:
        The results of ``function``, and the program that computes them.

    Raises:
        NotRecordable: a tensor was turned into a number (``item``, ``if tensor:``, ...).
    """
    recorder = _Recorder()
    numbers = tuple(recorder.number(tensor) for tensor in inputs)
    constant = frozenset(recorder.number(tensor) for tensor in constants)
    with recorder:
        results = tuple(function())
    outputs = tuple(recorder.number(result) for result in results)
    program = Program(
        calls=tuple(recorder.calls),
        inputs=numbers,
        outputs=outputs,
        values=tuple(value.detach() for value in recorder.values),
        fixed=frozenset(recorder.met) - set(numbers) | constant,
        constant=constant,
    )
    return results, program


class _Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: list[Call] = []
        # Kept alive, so that neither an id nor an address is used twice while recording.
        self.values: list[Tensor] = []
        self.met: set[int] = set()  # read before any call here could have made them
        self._numbers: dict[int, int] = {}

    def number(self, tensor: Tensor) -> int:
        if id(tensor) not in self._numbers:
            self._numbers[id(tensor)] = len(self.values)
            self.values.append(tensor)
        return self._numbers[id(tensor)]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        call_args, call_kwargs = mapped(self._reference, (args, kwargs))
        result = func(*args, **kwargs)
        single = not isinstance(result, (tuple, list))
        results = (result,) if single else tuple(result)
        if any(isinstance(item, (bool, int, float, complex)) for item in results):
            raise NotRecordable(f"{func} turns a tensor into a number")
        outputs = tuple(self.number(item) if isinstance(item, Tensor) else None for item in results)
        self.calls.append(Call(func, call_args, call_kwargs, outputs, single))
        return result

    def _reference(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self._numbers:
            self.met.add(self.number(value))
        return Ref(self.number(value))


def mapped(function: Callable[[Any], Any], value: Any) -> Any:
    """Return ``value`` with ``function`` applied to everything inside its containers."""
    kind = type(value)
    if kind is list:
        return [mapped(function, item) for item in value]
    if kind is tuple:
        return tuple([mapped(function, item) for item in value])
    if kind is dict:
        return {key: mapped(function, item) for key, item in value.items()}
    return function(value)


def _references(value: Any) -> Iterator[int]:
    if type(value) is Ref:
        yield value.index
    elif type(value) in (list, tuple):
        for item in value:
            yield from _references(item)
    elif type(value) is dict:
        yield from _references(list(value.values()))


def _is_written(argument: Any) -> bool:
    return argument.alias_info is not None and bool(argument.alias_info.is_write)


def memory_of(value: Tensor) -> int:
    """Return the address of the memory that a tensor and all its views share."""
    return value.untyped_storage().data_ptr()
