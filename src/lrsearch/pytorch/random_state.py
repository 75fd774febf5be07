"""Every random state that training can touch: saved, put back, and seeded together."""

from __future__ import annotations

import copy
import functools
import inspect
import random
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

__all__ = [
    "Generator",
    "RandomState",
    "SeparateGenerator",
    "generators_of",
    "read_random_state",
    "seed_everything",
]


@dataclass(frozen=True)
class RandomState:
    """Python's, NumPy's and torch's random states, and those of separate generators."""

    python: object
    numpy: dict[str, Any]
    torch_cpu: torch.Tensor
    torch_cuda: tuple[torch.Tensor, ...]
    generators: tuple[tuple[Generator, Any], ...]

    def restore(self) -> None:
        """Put every state back."""
        random.setstate(self.python)  # type: ignore[arg-type]
        np.random.set_state(self.numpy)  # noqa: NPY002 - users' code draws from the global state
        torch.set_rng_state(self.torch_cpu)
        if self.torch_cuda:
            torch.cuda.set_rng_state_all(list(self.torch_cuda))
        for generator, state in self.generators:
            generator.set_state(state)


def read_random_state(generators: Iterable[Generator] = ()) -> RandomState:
    """Return a copy of every random state. CUDA's are read only where CUDA is in use."""
    return RandomState(
        python=random.getstate(),
        numpy=np.random.get_state(legacy=False),  # noqa: NPY002
        torch_cpu=torch.get_rng_state(),
        torch_cuda=_cuda_states(),
        generators=tuple((generator, generator.get_state()) for generator in generators),
    )


def seed_everything(seed: int, generators: Iterable[Generator] = ()) -> None:
    """Seed Python, NumPy, torch and the separate generators: what :class:`RandomState` holds.

    ``torch.manual_seed`` would also leave the seed waiting for devices that are not in use yet,
    where nothing takes it back, and it takes a millisecond.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    if _cuda_in_use():
        torch.cuda.manual_seed_all(seed)
    for generator in generators:
        generator.manual_seed(seed)


class SeparateGenerator:
    """A generator of NumPy's or Python's, used as torch's are.

    Example:
        >>> own = SeparateGenerator(np.random.default_rng(0))
        >>> state = own.get_state()
        >>> first = own.generator.random()
        >>> own.set_state(state)
        >>> first == own.generator.random()
        True
    """

    def __init__(self, generator: Any) -> None:
        self.generator = generator

    def get_state(self) -> Any:
        """Return a copy of its state."""
        if isinstance(self.generator, random.Random):
            return self.generator.getstate()
        if isinstance(self.generator, np.random.RandomState):
            return self.generator.get_state(legacy=False)
        return copy.deepcopy(self.generator.bit_generator.state)

    def set_state(self, state: Any) -> None:
        """Put a state back."""
        if isinstance(self.generator, random.Random):
            self.generator.setstate(state)
        elif isinstance(self.generator, np.random.RandomState):
            self.generator.set_state(state)
        else:
            self.generator.bit_generator.state = state

    def manual_seed(self, seed: int) -> None:
        """Begin anew from ``seed``."""
        if isinstance(self.generator, np.random.Generator):
            self.set_state(type(self.generator.bit_generator)(seed).state)
        else:
            self.generator.seed(seed % 2**32)


def generators_of(loader: object) -> tuple[Generator, ...]:
    """Return the generators that a loader, its samplers, its data set or its function hold."""
    found: dict[int, Generator] = {}
    pending, seen = [loader], set()
    while pending:
        owner = pending.pop()
        if owner is None or id(owner) in seen:
            continue
        seen.add(id(owner))
        for name, value in _held_by(owner):
            if isinstance(value, torch.Generator):
                found[id(value)] = value
            elif isinstance(value, _SEPARATE):
                found[id(value)] = SeparateGenerator(value)
            elif name in _PARTS:
                pending.append(value)
    return tuple(found.values())


_PARTS = ("loader", "base_dataloader", "_dataloader", "sampler", "batch_sampler", "dataset", "")
_SEPARATE = (np.random.Generator, np.random.RandomState, random.Random)


def _held_by(owner: object) -> Iterator[tuple[str, Any]]:
    """Yield what an object holds by name; what a function uses has the empty name."""
    yield from getattr(owner, "__dict__", {}).items()
    if isinstance(owner, functools.partial):
        used = (owner.func, *owner.args, *owner.keywords.values())
        yield from (("", value) for value in used)
    if isinstance(owner, types.MethodType):
        yield from (("", value) for value in (owner.__self__, owner.__func__))
    if isinstance(owner, types.FunctionType):
        yield from (("", value) for value in owner.__defaults__ or ())
        try:
            used_names = inspect.getclosurevars(owner)
        except ValueError:  # a name that has no value yet
            return
        yield from (("", value) for value in used_names.nonlocals.values())
        for value in used_names.globals.values():
            # Of a module's names, loaders and generators only: anything may stand there.
            yield ("" if isinstance(value, DataLoader) else "global", value)


#: A random generator besides the global ones.
Generator = torch.Generator | SeparateGenerator


def _cuda_states() -> tuple[torch.Tensor, ...]:
    return tuple(torch.cuda.get_rng_state_all()) if _cuda_in_use() else ()


def _cuda_in_use() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
