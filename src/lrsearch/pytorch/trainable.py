"""A PyTorch model, its optimizer and its data as something a search can train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.core.grid import whole
from lrsearch.core.interrupt import uninterrupted
from lrsearch.core.trainable import HeldOut
from lrsearch.errors import InvalidArgument, Words
from lrsearch.pytorch import snapshot as state
from lrsearch.pytorch.batches import BatchStream, Position
from lrsearch.pytorch.checks import check_model_and_optimizer, check_stateful, multipliers_of
from lrsearch.pytorch.distributed import ALONE, Ranks
from lrsearch.pytorch.lanes import Choice, LaneRecipe, TorchLanes
from lrsearch.pytorch.loss import ComputeLoss, batch_size, default_loss, to_device
from lrsearch.pytorch.modes import evaluating, start_training
from lrsearch.pytorch.object_state import ObjectState
from lrsearch.pytorch.random_state import generators_of, read_random_state, seed_everything
from lrsearch.pytorch.store import Place, check_place
from lrsearch.pytorch.update import Clipping, Updater
from lrsearch.pytorch.wrappers import WrapperState

__all__ = ["EvaluatedTorchTrainable", "TorchSnapshot", "TorchTrainable", "torch_trainable"]

_PASSES = 1_000_000  # more passes over the data than a search makes in one order


@dataclass(frozen=True)
class TorchSnapshot:
    """The training state, the updates made so far and the place in the data."""

    state: state.Snapshot
    wrappers: WrapperState | None
    updates: int
    position: Position


class TorchTrainable:
    """Train ``model`` one update at a time at any learning rate, and take it all back.

    Building one changes nothing. Arguments are those of :func:`lrsearch.find_lr`, and
    ``vectorise``: whether lanes are trained together (``None``: when measured to be faster);
    ``ranks``: the processes that train together, from
    :func:`lrsearch.pytorch.distributed.ranks_of`.

    Attributes:
        leads: whether this process is the one of them that shows progress.
        multipliers: learning rate of each parameter group over that of the first.
        updates_per_epoch: updates in one pass over the data, or ``None`` if it has no length.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_fn: Callable[[Any, Any], Tensor] | None,
        train_loader: Iterable[Any] | Callable[[], Iterable[Any]],
        *,
        compute_loss: ComputeLoss | None = None,
        accumulate: int = 1,
        clip_grad_norm: float | None = None,
        clip_grad_value: float | None = None,
        autocast: torch.dtype | Callable[[], AbstractContextManager[Any]] | None = None,
        grad_scaler: torch.amp.GradScaler | None = None,
        stateful: Sequence[state.Stateful] = (),
        snapshot_to: Place = "device",
        seed: int = 0,
        vectorise: bool | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        check_model_and_optimizer(model, optimizer)
        check_stateful(stateful)
        check_place(snapshot_to)
        self._model = model
        self._optimizer = optimizer
        self._compute_loss = compute_loss or default_loss(loss_fn)
        self._clipping = Clipping(value=clip_grad_value, norm=clip_grad_norm)
        self._scaler = grad_scaler
        # A loss may have weights, statistics and modes of its own.
        self._beside = (loss_fn, compute_loss, *stateful)
        self._apart: Sequence[object] = ()  # what is not to be looked at
        self._snapshot_to = snapshot_to
        self._ranks = ranks
        self.leads = ranks.leads
        self._seed = ranks.seed(seed)
        self._updates = 0
        self._batches = BatchStream(train_loader, ranks.seed(seed, generators_of(train_loader)))
        self._held_out: BatchStream | None = None
        self._no_lanes = "vectorise=False" if vectorise is False else ranks.why_no_lanes
        self._choice = Choice(self._recipe, self._trial, self._watch, vectorise is True)
        self._device = next(p for group in optimizer.param_groups for p in group["params"]).device
        self._autocast = _autocast(autocast, self._device)
        self.multipliers = multipliers_of(optimizer)
        self._update: Callable[[BatchStream], float] = Updater(
            optimizer,
            self._loss_of,
            beside=model.parameters(),
            accumulate=accumulate,
            clipping=self._clipping,
            scaler=grad_scaler,
            ranks=ranks,
        )
        self._accumulate = int(accumulate)
        ranks.check_same(accumulate=self._accumulate, clipping=self._clipping)
        lengths = (n for n in ranks.gather(self._batches.length) if n is not None)
        length = min(lengths, default=None)
        # Batches left over at the end of a pass make an update too.
        self.updates_per_epoch = None if length is None else -(-length // self._accumulate)

    def owns(self, model: object, optimizer: object) -> bool:
        """Whether these are the model and the optimizer that are trained here."""
        return model is self._model and optimizer is self._optimizer

    def step(self, lr: float) -> float:
        """Make one update on the next batches at ``lr``; return their mean loss before it."""
        if self._updates == 0:
            self._begin()
        self._set_lr(lr)
        loss = self._update(self._batches)
        self._updates += 1
        return loss

    def snapshot(self) -> TorchSnapshot:
        """Copy everything that ``restore`` brings back."""
        held_out = () if self._held_out is None else self._held_out.generators
        with uninterrupted():
            wrappers = self._ranks.save()
            taken = state.take(
                self._model,
                self._optimizer,
                self._scaler,
                (*self._batches.generators, *held_out),
                others=self._beside,
                apart=self._apart,
                place=self._snapshot_to,
            )
        return TorchSnapshot(taken, wrappers, self._updates, self._batches.position)

    def restore(self, snapshot: TorchSnapshot) -> None:
        """Return to ``snapshot``, bit for bit; it can be restored again."""
        with uninterrupted(), ExitStack() as last_first:
            # Each by itself: the rest is put back even if one of them cannot be.
            last_first.callback(state.restore, snapshot.state)
            last_first.callback(self._batches.seek, snapshot.position)
            if self._held_out is not None:
                last_first.callback(self._held_out.close)
            last_first.callback(self._ranks.restore, snapshot.wrappers)
            self._updates = snapshot.updates

    def reshuffle(self, number: int) -> None:
        """Go on with passes over the data that no order with a lower number has come to."""
        self._batches.seek(Position(number * _PASSES, 0))

    def shorten_epochs(self, updates: int) -> None:
        """Go on with the first updates' batches of this pass, again and again."""
        most = whole("updates", updates, 1) * self._accumulate
        self._batches.seek(replace(self._batches.position, most=most))

    @property
    def why_not(self) -> str:
        """Why the last call of :meth:`lanes` returned ``None``."""
        return self._no_lanes or self._choice.why_not

    def lanes(self, count: int, steps: int) -> TorchLanes | None:
        """Return lanes from the present state if they train faster together than in turn."""
        return None if self._no_lanes else self._choice.lanes(count, steps)

    def _watch(self) -> ObjectState:
        """Remember what a step may change beside weights, buffers and the optimizer."""
        return state.attributes(self._model, self._beside, (*self._apart, self._optimizer))

    def _recipe(self) -> LaneRecipe:
        return LaneRecipe(
            model=self._model,
            optimizer=self._optimizer,
            compute_loss=self._loss,
            multipliers=self.multipliers,
            batches=self._batches,
            held_out=self._held_out,
            accumulate=self._accumulate,
            clip_grad_norm=self._clipping.norm,
            clip_grad_value=self._clipping.value,
            seed=self._seed,
            updates=self._updates,
            autocast=self._autocast is not nullcontext,
            grad_scaler=self._scaler,
        )

    @contextmanager
    def _trial(self) -> Iterator[Callable[[float], float]]:
        before = self.snapshot()
        try:
            yield self.step
        finally:
            self.restore(before)
            del before  # even where a traceback is kept

    def _evaluating(self) -> AbstractContextManager[None]:
        return evaluating(self._model, self._optimizer, others=self._beside, apart=self._apart)

    def _begin(self) -> None:
        """Start from known random states, and in training mode as any training loop would."""
        seed_everything(self._seed, self._batches.generators)
        start_training(self._model, self._optimizer)
        for group in self._optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None  # dropped, not zeroed: the user may hold it

    def _set_lr(self, lr: float) -> None:
        for group, multiplier in zip(self._optimizer.param_groups, self.multipliers, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * multiplier)
            else:
                group["lr"] = lr * multiplier

    def _loss_of(self, batch: Any) -> Tensor:
        return self._loss(self._model, to_device(batch, self._device))

    def _loss(self, model: nn.Module, batch: Any) -> Tensor:
        with self._autocast():
            return self._compute_loss(model, batch)


class EvaluatedTorchTrainable(TorchTrainable):
    """A :class:`TorchTrainable` with held-out batches."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_fn: Callable[[Any, Any], Tensor] | None,
        train_loader: Iterable[Any] | Callable[[], Iterable[Any]],
        *,
        val_loader: Iterable[Any] | Callable[[], Iterable[Any]],
        seed: int = 0,
        **options: Any,
    ) -> None:
        super().__init__(model, optimizer, loss_fn, train_loader, seed=seed, **options)
        ranks: Ranks = options.get("ranks", ALONE)
        self._held_out: BatchStream = BatchStream(
            val_loader, ranks.seed(seed, generators_of(val_loader)), "val_loader", ranks.many
        )

    def evaluate(self) -> HeldOut:
        """Return the held-out loss in eval mode, every example weighing the same."""
        random = read_random_state(self._held_out.generators)
        pieces: list[tuple[float, int]] = []
        try:
            with self._evaluating(), torch.no_grad():
                for batch, counts in self._ranks.rounds(
                    self._held_out.one_pass(), self._batches.sample
                ):
                    loss, size = float(self._loss_of(batch)), batch_size(batch)
                    if counts:
                        pieces.append((loss, size))
        finally:
            random.restore()
        total, weight = sum(loss * size for loss, size in pieces), sum(size for _, size in pieces)
        mean = self._ranks.weighted_mean(total, weight)
        return HeldOut(mean) if self._ranks.many else HeldOut.of(pieces, mean)


def torch_trainable(*args: Any, val_loader: Any = None, **options: Any) -> TorchTrainable:
    """Return a trainable that can evaluate when there is a ``val_loader``, else one that cannot."""
    given = Words("None" if val_loader is None else "held-out batches")
    options.get("ranks", ALONE).check_same(val_loader=given)
    if val_loader is None:
        return TorchTrainable(*args, **options)
    return EvaluatedTorchTrainable(*args, val_loader=val_loader, **options)


def _autocast(
    autocast: torch.dtype | Callable[[], AbstractContextManager[Any]] | None, device: torch.device
) -> Callable[[], AbstractContextManager[Any]]:
    if autocast is None:
        return nullcontext
    if isinstance(autocast, torch.dtype):
        return lambda: torch.autocast(device.type, dtype=autocast)
    if callable(autocast):
        return autocast
    raise InvalidArgument.of(
        "autocast", autocast, "a dtype such as torch.bfloat16, or a function making a context"
    )
