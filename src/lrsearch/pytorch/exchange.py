"""A line between some processes for a few numbers and words, beside what the model exchanges.

Who waits for long says for whom, on standard error, and for how much longer: a process that
ended, or never called, cannot say it.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from lrsearch.errors import RankFailed

__all__ = ["Exchange"]

_T = TypeVar("_T")
_LIMIT = timedelta(minutes=30)  # for an answer; torch's own for such groups
_COMING = timedelta(minutes=10)  # for all to come; torch's own for groups of GPUs
_CONNECTING = timedelta(minutes=1)  # for those who have come
_LATE = timedelta(seconds=5)  # of waiting for some to come, before the first word about it
_NOTICE = timedelta(seconds=15)  # ... and for an answer
_ANSWER = timedelta(seconds=1)  # for the others who wait to say so too
_LOOK = 0.05  # seconds between two looks at who has come

# How often a line between the same ranks was opened: a store forgets nothing, so each needs a
# name of its own, and all of its ranks must arrive at the same one without asking.
_opened: defaultdict[tuple[int, ...], Iterator[int]] = defaultdict(itertools.count)


class Exchange:
    """A gloo connection of its own, on the CPU, that torch's list of groups does not know.

    Every rank makes the same calls in the same order. A rank that goes away makes the calls of
    the others fail.

    Args:
        ranks: those that take part, this one among them; each must open it.

    Raises:
        RankFailed: some did not come in time.
    """

    def __init__(self, ranks: Sequence[int]) -> None:
        self._ranks = tuple(ranks)
        self._rank = dist.get_rank()
        self._calls = 0
        name = f"lrsearch/{','.join(map(str, ranks))}/{next(_opened[self._ranks])}"
        store = dist.distributed_c10d.PrefixStore(name, dist.distributed_c10d._get_default_store())
        self._store: Any = store
        try:
            self._come_together()
            self._group: Any = dist.ProcessGroupGloo(
                store, self._ranks.index(self._rank), len(ranks), _CONNECTING
            )
        except BaseException as error:
            self._note("left")
            if isinstance(error, RuntimeError):
                raise RankFailed.lost(self._rank, error) from error
            raise

    def numbers(self, *own: float, patience: timedelta | None = None) -> list[list[float]]:
        """Return the numbers of every rank; wait no longer than ``patience``, half an hour.

        Raises:
            RuntimeError: somebody has gone, or did not come in time.
        """
        gathered = self._gather(torch.tensor(own, dtype=torch.float64), patience or _LIMIT)
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

    def _come_together(self) -> None:
        """Wait until every rank has opened the line."""
        self._note("came")
        began, said = time.monotonic(), False
        while missing := self._without("came"):
            waited = timedelta(seconds=time.monotonic() - began)
            if waited > _COMING:
                raise RankFailed(
                    f"rank {self._rank} has waited {_minutes(_COMING)} for {_names(missing)}, "
                    "which did not come to search with it.",
                    tuple(missing),
                )
            self._check_nobody_left()
            if waited > _LATE and not said:
                said = True
                _say(
                    f"lrsearch: rank {self._rank} waits for {_names(missing)} to search with it. "
                    "Every rank must call find_lr, as often as the others and with the model "
                    "wrapped alike; one that has failed says so in its own output. "
                    f"Rank {self._rank} gives up after {_minutes(_COMING)}."
                )
            time.sleep(_LOOK)
        self._check_nobody_left()

    def _check_nobody_left(self) -> None:
        left = sorted({*self._ranks} - {*self._without("left")})
        if left:
            raise RankFailed(f"{_names(left)} stopped before rank {self._rank} came.", tuple(left))

    def _note(self, what: str, value: str = "") -> None:
        with contextlib.suppress(RuntimeError):  # the store may have gone with its process
            self._store.set(f"{what}/{self._rank}", value)

    def _without(self, what: str) -> list[int]:
        """The ranks that have not noted it."""
        return [rank for rank in self._ranks if not self._store.check([f"{what}/{rank}"])]

    def _gather(self, own: Tensor, patience: timedelta) -> list[Tensor]:
        gathered = [torch.empty_like(own) for _ in self._ranks]
        options = dist.distributed_c10d.AllgatherOptions()  # type: ignore[attr-defined]
        options.timeout = patience  # of the work itself: closing waits for work in progress
        self._calls += 1
        work = self._group.allgather([gathered], [own], options)
        try:
            work.wait(min(_NOTICE, patience))
        except RuntimeError:
            if work.is_completed():
                raise
            self._say_who_is_missing(patience)
            work.wait(patience)
        return gathered

    def _say_who_is_missing(self, patience: timedelta) -> None:
        here = f"waits for {self._calls}"
        self._note(here)
        time.sleep(_ANSWER.total_seconds())
        missing = self._without(here)
        if missing:  # else all have come in this moment
            _say(
                f"lrsearch: rank {self._rank} waits for {_names(missing)} in the middle of the "
                f"search, and gives up after {_minutes(patience)}."
            )


def _names(ranks: Sequence[int]) -> str:
    return f"rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def _minutes(time: timedelta) -> str:
    return f"{time.total_seconds() / 60:g} minutes"


def _say(text: str) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
