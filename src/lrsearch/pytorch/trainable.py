"""A PyTorch model, its optimizer and its data as something a search can train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.core.validation import whole
from lrsearch.errors import InvalidArgument, Words
from lrsearch.pytorch import snapshot as state
from lrsearch.pytorch.batches import NOTHING, BatchStream, Position
from lrsearch.pytorch.checks import (
    check_loader,
    check_loss,
    check_model_and_optimizer,
    check_scaler,
    check_stateful,
    multipliers_of,
)
from lrsearch.pytorch.distributed import ALONE, Ranks, name_of, settings_of
from lrsearch.pytorch.lanes import Choice, LaneRecipe, TorchLanes
from lrsearch.pytorch.loss import ComputeLoss, PairLoss, batch_size, default_loss, to_device
from lrsearch.pytorch.modes import evaluating, start_training
from lrsearch.pytorch.random_state import generators_of, read_random_state, seed_everything
from lrsearch.pytorch.store import Place, check_place
from lrsearch.pytorch.update import Clipping, Updater
from lrsearch.pytorch.wrappers import WrapperState

__all__ = ["EvaluatedTorchTrainable", "TorchSnapshot", "TorchTrainable", "torch_trainable"]

_AUTOCAST = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
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
        check_loss(loss_fn, compute_loss, train_loader)
        check_loader("train_loader", train_loader)
        check_scaler(grad_scaler)
        check_stateful(stateful)
        check_place(snapshot_to)
        self._model = model
        self._optimizer = optimizer
        self._compute_loss = compute_loss or default_loss(loss_fn)
        self._clipping = Clipping(value=clip_grad_value, norm=clip_grad_norm)
        self._scaler = grad_scaler
        # A loss may have weights, statistics and modes of its own.
        self._beside = (loss_fn, compute_loss, *stateful)
        self._snapshot_to = snapshot_to
        self._ranks = ranks
        self.leads = ranks.leads
        self._seed = ranks.seed(seed)
        self._updates = 0
        self._batches = BatchStream(train_loader, ranks.seed(seed, generators_of(train_loader)))
        self._held_out: BatchStream | None = None
        self._unseen: BatchStream | None = None  # held-out batches, until one was looked at
        self._no_lanes = "vectorise=False" if vectorise is False else ranks.why_no_lanes
        self._choice = Choice(self._recipe, self._trial, always=vectorise is True)
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
        self._accumulate = whole("accumulate", accumulate, 1)
        ranks.check_same(
            **settings_of(optimizer),
            loss_fn=Words(name_of(loss_fn)),
            compute_loss=Words(name_of(compute_loss)),
            accumulate=self._accumulate,
            clipping=self._clipping,
            autocast=Words(name_of(autocast)),
            grad_scaler=Words(name_of(grad_scaler)),
        )
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
        wrappers = self._ranks.save()
        generators = self._batches.generators
        taken = state.take(
            self._model,
            self._optimizer,
            self._scaler,
            generators,
            others=self._beside,
            place=self._snapshot_to,
        )
        return TorchSnapshot(taken, wrappers, self._updates, self._batches.position)

    def restore(self, snapshot: TorchSnapshot) -> None:
        """Return to ``snapshot``, bit for bit; it can be restored again."""
        self._ranks.restore(snapshot.wrappers)
        state.restore(snapshot.state)
        self._updates = snapshot.updates
        self._batches.seek(snapshot.position)

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

    def _begin(self) -> None:
        """Start from known random states, and in training mode as any training loop would."""
        self._check_held_out()
        seed_everything(self._seed, self._batches.generators)
        start_training(self._model, self._optimizer)

    def _check_held_out(self) -> None:
        """Look at the first held-out batch: an hour of training later is too late to refuse it."""
        held_out, self._unseen = self._unseen, None
        if held_out is None:
            return
        first = held_out.first()
        if not any(self._ranks.gather(first is not NOTHING)):
            raise held_out.empty()
        if first is not NOTHING and isinstance(self._compute_loss, PairLoss):
            self._compute_loss.check(first, held_out.name)

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
        check_loader("val_loader", val_loader)
        ranks: Ranks = options.get("ranks", ALONE)
        self._held_out: BatchStream = BatchStream(
            val_loader, ranks.seed(seed, generators_of(val_loader)), "val_loader", ranks.many
        )
        self._unseen = self._held_out

    def evaluate(self) -> float:
        """Return the held-out loss in eval mode, every example weighing the same."""
        self._check_held_out()
        random = read_random_state(self._held_out.generators)
        total = weight = 0.0
        try:
            with evaluating(self._model, self._optimizer), torch.no_grad():
                for batch, counts in self._ranks.rounds(
                    self._held_out.one_pass(), self._batches.sample
                ):
                    loss, size = float(self._loss_of(batch)), batch_size(batch)
                    if counts:
                        total += loss * size
                        weight += size
        finally:
            random.restore()
        return self._ranks.weighted_mean(total, weight)


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
    if isinstance(autocast, torch.dtype) and autocast in _AUTOCAST:
        return lambda: torch.autocast(device.type, dtype=autocast)
    try:
        if hasattr(autocast(), "__enter__"):  # type: ignore[operator]
            return autocast  # type: ignore[return-value]
    except TypeError:  # not to be called like this
        pass
    raise InvalidArgument.of(
        "autocast",
        autocast,
        "a dtype such as torch.bfloat16, or a function making a context",
        "For example: lambda: torch.autocast('cuda', torch.bfloat16).",
    )
