"""A Lightning module in its trainer as something a search can train."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lrsearch.core.trainable import HeldOut
from lrsearch.integrations.lightning.data import Batches, Item, loaders_of
from lrsearch.integrations.lightning.logged import Logged
from lrsearch.integrations.lightning.package import progress_of
from lrsearch.integrations.lightning.steps import Steps
from lrsearch.pytorch.held_out import GradMode
from lrsearch.pytorch.random_state import read_random_state, seed_everything
from lrsearch.pytorch.trainable import EvaluatedTorchTrainable, TorchSnapshot, TorchTrainable

__all__ = ["EvaluatedLightningTrainable", "LightningTrainable", "lightning_trainable"]


class LightningTrainable(TorchTrainable):
    """Train a module one update at a time at any learning rate, as its trainer would.

    Args:
        trainer: set up for ``fit``, see :mod:`~lrsearch.integrations.lightning.session`.
        optimizer: one of the trainer's optimizers.
        batches: the training batches.
        logged: what ``self.log`` of the module is told meanwhile.
        seed: as in :func:`lrsearch.find_lr`.
    """

    def __init__(
        self,
        trainer: Any,
        optimizer: torch.optim.Optimizer,
        batches: Batches,
        logged: Logged,
        *,
        seed: int = 0,
        **options: Any,
    ) -> None:
        how = "value" if "value" in str(trainer.gradient_clip_algorithm).lower() else "norm"
        clipping: dict[str, Any] = {f"clip_grad_{how}": trainer.gradient_clip_val or None}
        super().__init__(
            trainer.lightning_module,
            optimizer,
            None,
            batches,
            compute_loss=self._loss_of_item,
            accumulate=trainer.accumulate_grad_batches,
            grad_scaler=getattr(trainer.precision_plugin, "scaler", None),
            seed=seed,
            vectorise=False,  # a trainer's own step trains one run at a time
            **clipping,
            **options,
        )
        self._batches.generators = batches.generators
        self._trainer = trainer
        self._logged = logged
        self._steps = Steps(trainer, optimizer, trainer.accumulate_grad_batches)
        # A step may change the module's other optimizers and its schedulers.
        others = (other for other in trainer.optimizers if other is not optimizer)
        schedulers = (config.scheduler for config in trainer.lr_scheduler_configs)
        self._beside = (*self._beside, *others, *schedulers)
        self._progress = progress_of(trainer)
        self._done_before = self._progress.completed

    def step(self, lr: float) -> float:
        """Make one update on the next batches at ``lr``; return their mean loss before it.

        With several processes it is the mean over them.
        """
        loss = super().step(lr)
        self._count(self._updates)
        return self._mean(loss)

    def _begin(self) -> None:
        """Start from known random states. The modes are the user's, as in Lightning."""
        seed_everything(self._seed, self._batches.generators)

    def _update_at(self, lr: float) -> float:
        self._set_lr(lr)
        self._clear_gradients()
        loss = self._steps(self._batches)
        self._clear_gradients()
        return loss

    def _is_divergence(self, *arguments: Any) -> bool:
        # One process alone cannot stop an exchange of several.
        return self._trainer.world_size == 1 and super()._is_divergence(*arguments)

    def restore(self, snapshot: TorchSnapshot) -> None:
        """Return to ``snapshot``, bit for bit; it can be restored again."""
        super().restore(snapshot)
        self._count(snapshot.updates)

    def _loss_of_item(self, model: nn.Module, item: Item) -> Tensor:
        """Return the loss of a held-out batch."""
        return self._logged.held_out_loss(self._trainer, item)

    def _count(self, updates: int) -> None:
        """Let ``trainer.global_step`` be what it would be in ``fit``."""
        self._updates = updates
        self._progress.completed = self._done_before + updates

    def _clear_gradients(self) -> None:
        # Not zeroed but dropped: those that the user holds stay as they are.
        for parameter in self._model.parameters():
            parameter.grad = None

    def _mean(self, loss: float) -> float:
        if self._trainer.world_size == 1:
            return loss
        strategy = self._trainer.strategy
        there = torch.tensor(loss, dtype=torch.float64, device=strategy.root_device)
        return float(strategy.reduce(there, reduce_op="mean"))


class EvaluatedLightningTrainable(LightningTrainable, EvaluatedTorchTrainable):
    """A :class:`LightningTrainable` with the trainer's validation as its held-out loss."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._grad_mode = GradMode("validation_step", of_training=False)

    def evaluate(self) -> HeldOut:
        """Return the held-out loss in eval mode, every example weighing the same."""
        with self._validating():
            found = super().evaluate()
        # The processes see different batches, and must all decide alike.
        parts = found.parts if self._trainer.world_size == 1 else ()
        return HeldOut(self._mean(found.loss), parts)

    def check(self) -> None:
        """Raise unless ``validation_step`` gives a loss, tried on one batch."""
        assert self._held_out is not None
        with self._validating(), self._evaluating():
            for item in itertools.islice(self._held_out.one_pass(), 1):
                self._loss_of_item(self._model, item)

    @contextmanager
    def _validating(self) -> Iterator[None]:
        random = read_random_state(self._batches.generators)
        self._trainer.validating = True
        try:
            with torch.no_grad():
                yield
        finally:
            self._trainer.training = True
            random.restore()


def lightning_trainable(
    trainer: Any,
    optimizer: torch.optim.Optimizer,
    logged: Logged,
    *,
    validate: bool = True,
    seed: int = 0,
    stateful: Sequence[Any] = (),
) -> LightningTrainable:
    """Return a trainable that can evaluate where ``fit`` would validate, else one that cannot.

    Raises:
        InvalidArgument: there are no training batches, or the validation has no loss.
    """
    train, held_out = loaders_of(trainer)
    options: dict[str, Any] = {"seed": seed, "stateful": stateful}
    if held_out is None or not validate:
        return LightningTrainable(trainer, optimizer, train, logged, **options)
    trainable = EvaluatedLightningTrainable(
        trainer, optimizer, train, logged, val_loader=held_out, **options
    )
    trainable.check()
    return trainable
