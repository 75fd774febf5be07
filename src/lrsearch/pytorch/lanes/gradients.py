"""Gradients of all lanes, step after step: from a tape once there is one that can be trusted."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from lrsearch.pytorch.lanes.compiled import Replay, compiled
from lrsearch.pytorch.lanes.cuda_graph import captured
from lrsearch.pytorch.lanes.objective import Gradients, Objective
from lrsearch.pytorch.lanes.simplify import simplified
from lrsearch.pytorch.lanes.state import LaneState
from lrsearch.pytorch.lanes.tape import record
from lrsearch.pytorch.random_state import read_random_state

__all__ = ["GradientSource"]

_log = logging.getLogger(__name__)

_TAPES = 4  # shapes of batches that get a tape of their own
_CLOSE = 2e-4  # of the largest entry of a lane: far above rounding, far below a wrong batch


@dataclass
class _Tape:
    replay: Replay
    places: tuple[int, ...]  # which parameters its gradients belong to
    parameters: int
    trusted: bool = False
    captured: bool = False

    def __call__(self, leaves: Sequence[Tensor]) -> Gradients:
        with torch.inference_mode():
            losses, *found = self.replay(*leaves)
        if len(found) == self.parameters:
            return Gradients(losses, tuple(found))
        gradients: list[Tensor | None] = [None] * self.parameters
        for place, gradient in zip(self.places, found, strict=True):
            gradients[place] = gradient
        return Gradients(losses, tuple(gradients))


class GradientSource:
    """Losses and gradients of the lanes in ``state`` on any batch.

    On the first batch of a shape a tape is recorded. There and on the next batch, tape and
    ``vmap`` are compared; only a tape that agrees is used from then on. Code that a tape
    cannot hold (numbers read out of tensors, Python's or NumPy's random numbers, attributes
    of modules that change) is computed by ``vmap`` throughout.

    Args:
        model: whose code runs.
        objective: its loss.
        state: the lanes.
        cuda_graphs: turn tapes into CUDA graphs; results then last until the next batch.

    Attributes:
        settled: whether every shape of batch seen so far has found the way it will go on.
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        state: LaneState,
        cuda_graphs: bool = False,
    ) -> None:
        self._model = model
        self._objective = objective
        self._state = state
        first = next(iter(state.parameters.values()))
        self._ones = torch.ones(state.count, dtype=first.dtype, device=first.device)
        self._tapes: dict[Hashable, _Tape | None] = {}
        self._seen: set[Hashable] = set()
        self._cuda_graphs = cuda_graphs and first.is_cuda
        self.settled = True

    def __call__(self, batch: Any) -> Gradients:
        """Return losses and gradients on ``batch``, changing buffers as training does."""
        leaves, signature = _signature(batch)
        if signature is None:
            return self.by_vmap(batch)
        tape = self._tapes.get(signature)
        if tape is not None and tape.trusted:
            return tape(leaves)
        found = self._without_tape(tape, signature, batch, leaves)
        self.settled = all(tape is None or tape.trusted for tape in self._tapes.values())
        return found

    def _without_tape(
        self, tape: _Tape | None, signature: Hashable, batch: Any, leaves: list[Tensor]
    ) -> Gradients:
        if tape is not None:
            return self._tried(tape, signature, batch, leaves)
        if signature in self._tapes or len(self._tapes) >= _TAPES:
            return self.by_vmap(batch)
        if self._tapes and signature not in self._seen:
            self._seen.add(signature)  # a shape that comes once is not worth a tape
            return self.by_vmap(batch)
        return self._recorded(signature, batch, leaves)

    def by_vmap(self, batch: Any) -> Gradients:
        """Return what ``vmap`` finds, without a tape."""
        return self._objective.gradients(self._state, batch, self._ones)

    def _recorded(self, signature: Hashable, batch: Any, leaves: list[Tensor]) -> Gradients:
        """Record a tape of this batch, and return what ``vmap`` says of it."""
        self._tapes[signature] = None
        before = _habits(self._model)
        again = self._rewinder()
        try:
            ours, tape = self._record(batch, leaves)
        except Exception as error:
            # Whatever stops a recording, vmap alone decides whether lanes can be trained.
            _log.debug("no tape: %s", error)
            again()
            return self.by_vmap(batch)
        if _habits(self._model) != before:
            _log.debug("no tape: Python's state changes with every step")
            again()
            return self.by_vmap(batch)
        found, same = self._compared(ours, again, batch)
        self._tapes[signature] = tape if same else None
        return found

    def _tried(
        self, tape: _Tape, signature: Hashable, batch: Any, leaves: list[Tensor]
    ) -> Gradients:
        """Try a tape on a batch that it was not recorded on."""
        again = self._rewinder()
        found, tape.trusted = self._compared(tape(leaves), again, batch)
        if not tape.trusted:
            self._tapes[signature] = None
        elif self._cuda_graphs and not tape.captured:
            tape.captured, tape.trusted = True, False  # to be tried once more
            tape.replay = captured(tape.replay, leaves, self._rewinder())
        return found

    def _record(self, batch: Any, leaves: list[Tensor]) -> tuple[Gradients, _Tape]:
        found: list[Gradients] = []

        def computation() -> list[Tensor]:
            result = self._objective.gradients(self._state, batch, self._ones, lowered=True)
            found.append(result)
            return [result.losses, *_given(result.gradients)]

        _, program = record(computation, leaves, constants=[self._ones])
        gradients = found[0].gradients
        places = tuple(index for index, g in enumerate(gradients) if g is not None)
        with torch.inference_mode():
            replay = compiled(simplified(program))
        return found[0], _Tape(replay, places, len(gradients))

    def _compared(
        self, ours: Gradients, again: Callable[[], None], batch: Any
    ) -> tuple[Gradients, bool]:
        """Return what ``vmap`` finds on a batch, and whether ``ours`` is the same."""
        after = [buffer.clone() for buffer in self._state.buffers.values()]
        again()
        found = self.by_vmap(batch)
        finite = torch.isfinite(found.losses)
        same = (
            [g is None for g in ours.gradients] == [g is None for g in found.gradients]
            and _agree([ours.losses], [found.losses], finite)
            and _agree(_given(ours.gradients), _given(found.gradients), finite)
            and all(
                _agree([one], [other], finite)
                for one, other in zip(after, self._state.buffers.values(), strict=True)
            )
        )
        if not same:
            _log.debug("the tape disagrees with vmap and is not used")
        return found, same

    def _rewinder(self) -> Callable[[], None]:
        """Return a function that takes back what a step does to buffers and random states."""
        buffers = [(buffer, buffer.clone()) for buffer in self._state.buffers.values()]
        states = read_random_state()

        def again() -> None:
            for buffer, before in buffers:
                buffer.copy_(before)
            states.restore()

        return again


def _given(gradients: Sequence[Tensor | None]) -> list[Tensor]:
    return [gradient for gradient in gradients if gradient is not None]


def _signature(batch: Any) -> tuple[list[Tensor], Hashable | None]:
    """Return the distinct tensors of a batch, and what must be the same for a tape to fit."""
    if type(batch) in (tuple, list) and all(type(item) is Tensor for item in batch):
        items, structure = batch, type(batch).__name__  # the usual batch, without a tree
    else:
        items, tree = pytree.tree_flatten(batch)
        structure = str(tree)
    tensors: dict[int, Tensor] = {}
    key: list[Hashable] = [structure]
    for item in items:
        if isinstance(item, Tensor):
            tensors.setdefault(id(item), item)
            place = list(tensors).index(id(item))
            key += (place, item.shape, item.stride(), item.dtype, item.device)
        elif isinstance(item, (bool, int, float, str, bytes, type(None))):
            key.append(repr(item))
        else:
            return list(tensors.values()), None
    return list(tensors.values()), tuple(key)


def _habits(model: nn.Module) -> tuple[Any, ...]:
    """Return the Python state that a forward pass may change, to see whether it does."""
    plain = (bool, int, float, str, type(None))
    attributes = [
        (name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, plain)
    ]
    numpy = np.random.get_state(legacy=True)  # noqa: NPY002
    return attributes, random.getstate(), [np.asarray(part).tobytes() for part in numpy]


def _agree(ours: Sequence[Tensor], theirs: Sequence[Tensor], lanes: Tensor) -> bool:
    """Compare tensors ``(lanes, ...)`` by the largest entry that a lane has in any of them.

    Only the given lanes count (a mask), and only entries that are finite in ``theirs``.
    """
    apart = torch.zeros(int(lanes.sum()), dtype=torch.float64, device=lanes.device)
    largest = torch.zeros_like(apart)
    for one, other in zip(ours, theirs, strict=True):
        one, other = (tensor[lanes].double().unsqueeze(1).flatten(1) for tensor in (one, other))
        if other.numel():
            usable = torch.isfinite(other)
            gap = torch.where(usable, (one - other).abs(), 0.0)
            apart = torch.maximum(apart, gap.amax(1))
            largest = torch.maximum(largest, torch.where(usable, other.abs(), 0.0).amax(1))
    return bool((apart <= _CLOSE * largest).all())
