"""A PyTorch model, its optimizer and its data as something a search can train."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.errors import InvalidArgument
from lrsearch.pytorch import snapshot as state
from lrsearch.pytorch.batches import BatchStream
from lrsearch.pytorch.checks import check_model_and_optimizer, multipliers_of
from lrsearch.pytorch.lanes import Choice, LaneRecipe, TorchLanes
from lrsearch.pytorch.loss import (
    ComputeLoss,
    batch_size,
    checked_loss,
    default_loss,
    to_device,
)
from lrsearch.pytorch.random_state import read_random_state, seed_everything

__all__ = ["EvaluatedTorchTrainable", "TorchSnapshot", "TorchTrainable", "torch_trainable"]


@dataclass(frozen=True)
class TorchSnapshot:
    """The training state, the updates made so far and the place in the data."""

    state: state.Snapshot
    updates: int
    position: tuple[int, int]


class TorchTrainable:
    """Train ``model`` one update at a time at any learning rate, and take it all back.

    Building one changes nothing. Arguments are those of :func:`lrsearch.find_lr`, and
    ``vectorise``: whether lanes are trained together (``None``: when measured to be faster).

    Attributes:
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
        autocast: torch.dtype | Callable[[], AbstractContextManager[Any]] | None = None,
        grad_scaler: torch.amp.GradScaler | None = None,
        seed: int = 0,
        vectorise: bool | None = None,
    ) -> None:
        check_model_and_optimizer(model, optimizer)
        if isinstance(accumulate, bool) or accumulate != int(accumulate) or accumulate < 1:
            raise InvalidArgument.of("accumulate", accumulate, "a whole number from 1")
        if clip_grad_norm is not None and not clip_grad_norm > 0:
            raise InvalidArgument.of("clip_grad_norm", clip_grad_norm, "a positive number or None")
        self._model = model
        self._optimizer = optimizer
        self._compute_loss = compute_loss or default_loss(loss_fn)
        self._accumulate = int(accumulate)
        self._clip = clip_grad_norm
        self._scaler = grad_scaler
        self._seed = seed
        self._updates = 0
        self._batches = BatchStream(train_loader, seed)
        self._held_out: BatchStream | None = None
        self._vectorise = vectorise
        self._choice = Choice(self._recipe, self._trial, always=vectorise is True)
        self._parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self._device = self._parameters[0].device
        self._autocast = _autocast(autocast, self._device)
        self.multipliers = multipliers_of(optimizer)
        length = self._batches.length
        self.updates_per_epoch = None if length is None else max(1, length // self._accumulate)

    def step(self, lr: float) -> float:
        """Make one update on the next batches at ``lr``; return their mean loss before it."""
        if self._updates == 0:
            self._begin()
        self._set_lr(lr)
        with torch.enable_grad():
            self._drop_gradients()
            loss = self._backward()
        self._update()
        # Dropped at once: a snapshot taken now should not hold gradients.
        self._drop_gradients()
        self._updates += 1
        return loss

    def snapshot(self) -> TorchSnapshot:
        """Copy everything that ``restore`` brings back."""
        generators = self._batches.generators
        taken = state.take(self._model, self._optimizer, self._scaler, generators)
        return TorchSnapshot(taken, self._updates, self._batches.position)

    def restore(self, snapshot: TorchSnapshot) -> None:
        """Return to ``snapshot``, bit for bit; it can be restored again."""
        state.restore(snapshot.state, self._optimizer, self._scaler)
        self._updates = snapshot.updates
        self._batches.seek(snapshot.position)

    @property
    def why_not(self) -> str:
        """Why the last call of :meth:`lanes` returned ``None``."""
        return self._choice.why_not if self._vectorise is not False else "vectorise=False"

    def lanes(self, count: int, steps: int) -> TorchLanes | None:
        """Return lanes from the present state if they train faster together than in turn."""
        return None if self._vectorise is False else self._choice.lanes(count, steps)

    def _recipe(self) -> LaneRecipe:
        return LaneRecipe(
            model=self._model,
            optimizer=self._optimizer,
            compute_loss=self._loss,
            multipliers=self.multipliers,
            batches=self._batches,
            held_out=self._held_out,
            accumulate=self._accumulate,
            clip_grad_norm=self._clip,
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

    def _begin(self) -> None:
        """Start from known random states, and in training mode as any training loop would."""
        seed_everything(self._seed, self._batches.generators)
        if not self._model.training:
            self._model.train()

    def _set_lr(self, lr: float) -> None:
        for group, multiplier in zip(self._optimizer.param_groups, self.multipliers, strict=True):
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr * multiplier)
            else:
                group["lr"] = lr * multiplier

    def _backward(self) -> float:
        """Add up the gradients of one update; return the mean loss of its batches."""
        total = 0.0
        for _ in range(self._accumulate):
            loss = checked_loss(self._loss_of(self._batches.next()))
            scaled = loss / self._accumulate if self._accumulate > 1 else loss
            (scaled if self._scaler is None else self._scaler.scale(scaled)).backward()  # type: ignore[no-untyped-call]
            total += loss.item()
        return total / self._accumulate

    def _loss_of(self, batch: Any) -> Tensor:
        return self._loss(self._model, to_device(batch, self._device))

    def _loss(self, model: nn.Module, batch: Any) -> Tensor:
        with self._autocast():
            return self._compute_loss(model, batch)

    def _update(self) -> None:
        if self._clip is not None:
            if self._scaler is not None:
                self._scaler.unscale_(self._optimizer)
            nn.utils.clip_grad_norm_(self._parameters, self._clip)
        if self._scaler is None:
            self._optimizer.step()
        else:
            self._scaler.step(self._optimizer)
            self._scaler.update()

    def _drop_gradients(self) -> None:
        for parameter in self._parameters:
            parameter.grad = None


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
        self._held_out: BatchStream = BatchStream(val_loader, seed, name="val_loader")

    def evaluate(self) -> float:
        """Return the held-out loss in eval mode, every example weighing the same."""
        modes = [(module, module.training) for module in self._model.modules()]
        random = read_random_state(self._held_out.generators)
        total = weight = 0.0
        try:
            self._model.eval()
            with torch.no_grad():
                for batch in self._held_out.one_pass():
                    size = batch_size(batch)
                    total += float(self._loss_of(batch)) * size
                    weight += size
        finally:
            for module, training in modes:
                module.training = training
            random.restore()
        if weight == 0.0:
            raise InvalidArgument("val_loader: got no batches, expected at least one.")
        return total / weight


def torch_trainable(*args: Any, val_loader: Any = None, **options: Any) -> TorchTrainable:
    """Return a trainable that can evaluate when there is a ``val_loader``, else one that cannot."""
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
