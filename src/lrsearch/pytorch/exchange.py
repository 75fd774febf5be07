"""A line between some processes for a few numbers and words, beside what the model exchanges."""

from __future__ import annotations

import itertools
import pickle
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["Exchange"]

_T = TypeVar("_T")
_LIMIT = timedelta(minutes=30)  # torch's own for such groups

# How often a line between the same ranks was opened: a store forgets nothing, so each needs a
# name of its own, and all of its ranks must arrive at the same one without asking.
_opened: defaultdict[tuple[int, ...], Iterator[int]] = defaultdict(itertools.count)


class Exchange:
    """A gloo connection of its own, on the CPU, that torch's list of groups does not know.

    Every rank makes the same calls in the same order. A rank that goes away makes the calls of
    the others fail.

    Args:
        ranks: those that take part, this one among them; each must open it.
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self._size = len(ranks)
        name = f"lrsearch/{','.join(map(str, ranks))}/{next(_opened[tuple(ranks)])}"
        store = dist.distributed_c10d.PrefixStore(name, dist.distributed_c10d._get_default_store())
        place = list(ranks).index(dist.get_rank())
        self._group: Any = dist.ProcessGroupGloo(store, place, self._size, _LIMIT)

    def numbers(self, *own: float, patience: timedelta = _LIMIT) -> list[list[float]]:
        """Return the numbers of every rank.

        Raises:
            RuntimeError: somebody has gone, or did not come in time.
        """
        gathered = self._gather(torch.tensor(own, dtype=torch.float64), patience)
        return [tensor.tolist() for tensor in gathered]

    def objects(self, own: _T) -> list[_T]:
        """Return the object of every rank; raises as :meth:`numbers` does."""
        data = pickle.dumps(own)
        sizes = [int(size) for (size,) in self.numbers(len(data))]
        padded = torch.zeros(max(sizes), dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        gathered = self._gather(padded, _LIMIT)
        return [
            pickle.loads(tensor[:size].numpy().tobytes())
            for tensor, size in zip(gathered, sizes, strict=True)
        ]

    def close(self) -> None:
        """Close the connections, which the others notice."""
        self._group = None

    def _gather(self, own: Tensor, patience: timedelta) -> list[Tensor]:
        gathered = [torch.empty_like(own) for _ in range(self._size)]
        options = dist.distributed_c10d.AllgatherOptions()  # type: ignore[attr-defined]
        options.timeout = patience  # of the work itself: closing waits for work in progress
        self._group.allgather([gathered], [own], options).wait()
        return gathered
