"""Several processes that train one model: they measure together, decide alike, stop together.

Everything that a search decides follows from the losses it was told. So it is enough that every
process is told the same ones, and that a process that cannot go on says so where the others
wait for it. They *meet* at three places of every update: when its batches are read, before the
backward pass, and after it. A process that fails goes to the next meeting, whichever it is, and
from there all leave with an error. Meetings have a connection of their own, so that they never
mix with what the model exchanges.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from lrsearch.core.interrupt import interrupt_later
from lrsearch.errors import InvalidArgument, RankFailed, Words
from lrsearch.pytorch.exchange import Exchange
from lrsearch.pytorch.random_state import Generator
from lrsearch.pytorch.wrappers import Wrappers, WrapperState

__all__ = [
    "ALONE",
    "Alone",
    "Ranks",
    "Together",
    "name_of",
    "ranks_of",
    "settings_of",
]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")
_PATIENCE = timedelta(seconds=30)  # for the others to hear that this process has failed
_LENGTH, _VALUES = 60, 4  # of values that differ: characters that are shown, and how many
_NOTHING: AbstractContextManager[None] = nullcontext()
_NO_BATCH: Any = object()


class Alone:
    """A model in one process: there is nobody to agree with.

    Args:
        leads: whether this process shows progress.

    Attributes:
        why_no_lanes: why lanes cannot be trained together; empty: nothing speaks against it.
        many: whether there are other processes.
    """

    why_no_lanes = ""
    many = False

    def __init__(self, leads: bool = True) -> None:
        self.leads = leads

    def gather(self, value: _T) -> list[_T]:
        """Return everybody's value, in the order of the ranks."""
        return [value]

    def check_same(self, **settings: object) -> None:
        """Raise if a setting is not the same everywhere."""

    def seed(self, seed: int, _generators: Iterable[Generator] = ()) -> int:
        """Return the seed for this process."""
        return seed

    def group(self, group: Iterable[tuple[_T, bool]]) -> Iterable[tuple[_T, bool]]:
        """Return the micro-batches of an update, equally many everywhere."""
        return group

    def micro_batch(self, _last: bool) -> AbstractContextManager[None]:
        """Return a context for the forward and backward pass of a micro-batch."""
        return _NOTHING

    def ready(self, _last: bool) -> None:
        """Go on when all can make the backward pass."""

    def mean(self, loss: float) -> float:
        """Return the mean of everybody's loss."""
        return loss

    def rounds(self, batches: Iterable[_T], _spare: Callable[[], _T]) -> Iterator[tuple[_T, bool]]:
        """Yield the batches to evaluate, each with whether it counts."""
        for batch in batches:
            yield batch, True

    def weighted_mean(self, total: float, weight: float) -> float:
        """Return everybody's total over everybody's weight."""
        return _ratio(total, weight)

    def save(self) -> WrapperState | None:
        """Remember what wrappers keep besides tensors."""
        return None

    def restore(self, saved: WrapperState | None) -> None:
        """Return to what was saved."""


ALONE = Alone()


class Together:
    """A model that several processes train, each calling the same methods in the same order.

    Args:
        wrappers: what spreads the model.
        exchange: the line for the meetings.
        interrupt_now: raises a Ctrl-C that was held back.

    Attributes: see :class:`Alone`.
    """

    many = True

    def __init__(
        self,
        wrappers: Wrappers,
        exchange: Exchange,
        interrupt_now: Callable[[], None] = lambda: None,
    ) -> None:
        self._wrappers = wrappers
        self._exchange = exchange
        self._interrupt_now = interrupt_now
        self._rank = dist.get_rank()
        self._told = False  # whether the others know that this process stops
        self._updating = False
        self._exchanging = False  # whether the others may wait for gradients of this process
        self._spare: Any = _NO_BATCH
        self.leads = self._rank == wrappers.ranks[0]
        self.why_no_lanes = (
            f"the model is spread over {len(wrappers.ranks)} processes, which train one lane"
        )

    def gather(self, value: _T) -> list[_T]:
        """Return everybody's value, in the order of the ranks."""
        self._meet()
        return self._exchange.objects(value)

    def check_same(self, **settings: object) -> None:
        """Raise on every rank if a setting is not the same everywhere.

        Raises:
            InvalidArgument: with the values of all ranks.
        """
        # Functions differ by their address only.
        own = {name: re.sub(r" at 0x[0-9a-f]+", "", repr(v)) for name, v in settings.items()}
        everybody = self.gather(own)
        for name in own:
            values = [theirs.get(name, "nothing") for theirs in everybody]
            if len(set(values)) > 1:
                said = _where_they_differ(self._wrappers.ranks, values)
                raise InvalidArgument(f"{name}: got {said}, expected the same on every rank.")

    def seed(self, seed: int, generators: Iterable[Generator] = ()) -> int:
        """Return the seed for this process: random states alike stay so, others stay different.

        Without generators it is told by torch's own state. So processes that would draw the
        same batches or the same dropout in the planned run draw the same in the search.
        """
        own = [one.get_state() for one in generators if isinstance(one, torch.Generator)]
        states = own or [torch.get_rng_state()]
        digest = hashlib.sha256(b"".join(state.numpy().tobytes() for state in states)).hexdigest()
        if len(set(self.gather(digest))) == 1:
            return seed
        mixed = hashlib.sha256(f"{seed} {self._rank}".encode()).digest()
        return int.from_bytes(mixed[:4], "big")

    def group(self, group: Iterable[tuple[_T, bool]]) -> Iterable[tuple[_T, bool]]:
        """Yield the micro-batches of an update, as many as the process with the fewest has."""
        batches = [batch for batch, _ in group]
        fewest = int(min(self._meet(len(batches))))
        self._updating = True
        for number, batch in enumerate(batches[:fewest], start=1):
            yield batch, number == fewest

    @contextmanager
    def micro_batch(self, last: bool) -> Iterator[None]:
        """Return a context in which gradients are exchanged if this is the ``last`` of a group.

        The others wait for them in their backward pass: one that fails here gives them zeros, so
        that they come to the next meeting, and hear of it.
        """
        self._exchanging = False
        with self._wrappers.micro_batch(last):
            try:
                yield
            except BaseException:
                if self._exchanging:
                    self._wrappers.finish_exchange()
                raise

    def ready(self, last: bool) -> None:
        """Go on when all can make the backward pass, if they meet in it."""
        if last or self._wrappers.shards:
            self._meet()
        self._exchanging = last

    def mean(self, loss: float) -> float:
        """Return the mean of everybody's loss, bit for bit the same everywhere."""
        losses = self._meet(loss)
        self._updating = False
        return sum(losses) / len(losses)

    def rounds(self, batches: Iterable[_T], spare: Callable[[], _T]) -> Iterator[tuple[_T, bool]]:
        """Yield the batches to evaluate, each with whether it counts.

        Sharded models gather their weights in every forward pass, so all run equally many: who
        has no batch left runs the one before again, or ``spare()``, and does not count it.
        """
        with self._wrappers.evaluation():
            if not self._wrappers.shards:
                yield from ALONE.rounds(batches, spare)
                return
            rest = iter(batches)
            while True:
                batch = next(rest, _NO_BATCH)
                if not any(self._meet(batch is not _NO_BATCH)):
                    return
                if batch is not _NO_BATCH:
                    self._spare = batch
                elif self._spare is _NO_BATCH:
                    self._spare = spare()
                yield self._spare, batch is not _NO_BATCH

    def weighted_mean(self, total: float, weight: float) -> float:
        """Return everybody's total over everybody's weight."""
        self._spare = _NO_BATCH
        both = self.gather((total, weight))
        return _ratio(sum(total for total, _ in both), sum(weight for _, weight in both))

    def save(self) -> WrapperState | None:
        """Remember what wrappers keep besides tensors."""
        return self._wrappers.save()

    def restore(self, saved: WrapperState | None) -> None:
        """Return to what was saved. Nobody waits for anybody here."""
        failed, self._updating = self._updating, False
        if saved is not None:
            self._wrappers.restore(saved, failed)

    def finish(self) -> None:
        """Leave when all have come to the end."""
        self._meet()
        self._told = True

    def fail(self, error: BaseException) -> None:
        """Tell the others, at the next meeting, that this process stops and why."""
        if self._told:
            return
        self._told = True
        try:
            self._exchange.numbers(True, 0.0, patience=_PATIENCE)
            self._exchange.objects(f"{type(error).__name__}: {error}")
        except RuntimeError as loss:
            # Somebody is in the middle of an exchange of the model, or has gone.
            _log.warning("rank %d could not tell the others of its failure: %s", self._rank, loss)

    def _meet(self, value: float = 0.0) -> list[float]:
        """Wait until all are here and return everybody's value.

        Raises:
            KeyboardInterrupt: there was a Ctrl-C on this rank.
            RankFailed: another rank has failed.
        """
        self._interrupt_now()
        try:
            rows = self._exchange.numbers(False, value)
            if not any(failed for failed, _ in rows):
                return [value for _, value in rows]
            words = self._exchange.objects("")
        except RuntimeError as error:
            self._told = True  # nobody is left to tell
            raise RankFailed.lost(self._rank, error) from error
        self._told = True
        said = zip(self._wrappers.ranks, rows, words, strict=True)
        raise RankFailed.of(self._rank, {rank: text for rank, (failed, _), text in said if failed})


Ranks = Alone | Together


@contextmanager
def ranks_of(model: object) -> Iterator[Ranks]:
    """Find the processes that train ``model`` with this one, and keep them together.

    Every process that has a part of the model must enter. A model in
    ``DistributedDataParallel``, under ``fully_shard`` or with other distributed tensors
    belongs to several; any other is searched by each process on its own, also where
    ``torch.distributed`` is in use.

    Yields:
        The other processes, for :func:`lrsearch.pytorch.trainable.torch_trainable`.

    Raises:
        RankFailed: another process failed.
        InvalidArgument: the model is wrapped in a way that is not supported.

    Example:
        >>> with ranks_of(torch.nn.Linear(2, 1)) as ranks:
        ...     ranks.many
        False
    """
    if not (isinstance(model, nn.Module) and dist.is_available() and dist.is_initialized()):
        yield ALONE
        return
    wrappers = Wrappers.of(model)
    if not wrappers.ranks:
        _log.info("the model is not wrapped: every process searches on its own")
        yield Alone(leads=dist.get_rank() == 0)
        return
    exchange = Exchange(wrappers.ranks)
    try:
        with interrupt_later() as interrupt_now:
            together = Together(wrappers, exchange, interrupt_now)
            try:
                yield together
                together.finish()
            except BaseException as error:
                together.fail(error)
                raise
    finally:
        exchange.close()


def settings_of(*optimizers: torch.optim.Optimizer) -> dict[str, object]:
    """Describe one optimizer or several, by where each setting is found.

    Learning rates are left out, since the search sets them, and tensors, which lie on another
    device on every rank.
    """
    found: dict[str, object] = {}
    for number, optimizer in enumerate(optimizers):
        here = f"optimizer[{number}]" if len(optimizers) > 1 else "optimizer"
        sizes = ", ".join(str(len(group["params"])) for group in optimizer.param_groups)
        found[here] = Words(type(optimizer).__name__)
        found[f"{here}.param_groups"] = Words(f"groups of {sizes} tensors")
        for index, group in enumerate(optimizer.param_groups):
            for name, value in group.items():
                plain = value is None or isinstance(value, (bool, int, float, str, tuple))
                if plain and name not in ("lr", "initial_lr"):
                    found[f"{here}.param_groups[{index}][{name!r}]"] = value
    return found


def name_of(value: object) -> str:
    """Return the name of a function, or of the class of anything else that is no plain value."""
    if value is None or isinstance(value, torch.dtype):
        return str(value)
    return str(getattr(value, "__qualname__", type(value).__qualname__))


def _where_they_differ(ranks: Iterable[int], values: list[str]) -> str:
    """Name the values, each with the first rank that has it; long ones from where they differ."""
    places = enumerate(zip(*values, strict=False))
    alike = next((n for n, letters in places if len(set(letters)) > 1), min(map(len, values)))
    skip = max(0, alike - 20) if max(map(len, values)) > _LENGTH else 0
    first = dict(reversed([*zip(values, ranks, strict=True)]))
    return ", ".join(
        f"{'...' if skip else ''}{value[skip : skip + _LENGTH]} on rank {rank}"
        for value, rank in sorted(first.items(), key=lambda pair: pair[1])[:_VALUES]
    )


def _ratio(total: float, weight: float) -> float:
    if weight == 0.0:
        raise InvalidArgument("val_loader: got no batches, expected at least one.")
    return total / weight
