"""Every random state that training can touch: saved, put back, and seeded together."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

__all__ = ["RandomState", "generators_of", "read_random_state", "seed_everything"]


@dataclass(frozen=True)
class RandomState:
    """Python's, NumPy's and torch's random states, and those of separate generators."""

    python: object
    numpy: dict[str, Any]
    torch_cpu: torch.Tensor
    torch_cuda: tuple[torch.Tensor, ...]
    generators: tuple[tuple[torch.Generator, torch.Tensor], ...]

    def restore(self) -> None:
        """Put every state back."""
        random.setstate(self.python)  # type: ignore[arg-type]
        np.random.set_state(self.numpy)  # noqa: NPY002 - users' code draws from the global state
        torch.set_rng_state(self.torch_cpu)
        if self.torch_cuda:
            torch.cuda.set_rng_state_all(list(self.torch_cuda))
        for generator, state in self.generators:
            generator.set_state(state)


def read_random_state(generators: Iterable[torch.Generator] = ()) -> RandomState:
    """Return a copy of every random state. CUDA's are read only where CUDA is in use."""
    return RandomState(
        python=random.getstate(),
        numpy=np.random.get_state(legacy=False),  # noqa: NPY002
        torch_cpu=torch.get_rng_state(),
        torch_cuda=_cuda_states(),
        generators=tuple((generator, generator.get_state()) for generator in generators),
    )


def seed_everything(seed: int, generators: Iterable[torch.Generator] = ()) -> None:
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


def generators_of(loader: object) -> tuple[torch.Generator, ...]:
    """Return the generators that a loader, its samplers and its data set hold."""
    found: dict[int, torch.Generator] = {}
    pending, seen = [loader], set()
    while pending:
        owner = pending.pop()
        if owner is None or id(owner) in seen:
            continue
        seen.add(id(owner))
        for name, value in getattr(owner, "__dict__", {}).items():
            if isinstance(value, torch.Generator):
                found[id(value)] = value
            elif name in ("loader", "base_dataloader", "sampler", "batch_sampler", "dataset"):
                pending.append(value)
    return tuple(found.values())


def _cuda_states() -> tuple[torch.Tensor, ...]:
    return tuple(torch.cuda.get_rng_state_all()) if _cuda_in_use() else ()


def _cuda_in_use() -> bool:
    return torch.cuda.is_available() and torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
