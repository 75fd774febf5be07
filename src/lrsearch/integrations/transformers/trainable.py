"""A trainer whose training has begun, as something a search can train."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from transformers import Trainer

from lrsearch.core.trainable import HeldOut
from lrsearch.errors import InvalidArgument
from lrsearch.integrations.transformers.kept import unwrapped
from lrsearch.integrations.transformers.updates import Updates
from lrsearch.pytorch.batches import BatchStream
from lrsearch.pytorch.distributed import ALONE, Ranks
from lrsearch.pytorch.random_state import read_random_state, seed_everything
from lrsearch.pytorch.trainable import TorchTrainable

__all__ = ["EvaluatedTrainerTrainable", "TrainerTrainable", "trainer_trainable"]


class TrainerTrainable(TorchTrainable):
    """Make the updates of ``trainer.train()``, one at a time, at any learning rate.

    Every part of an update is the trainer's: gathering its micro-batches, ``training_step``,
    clipping, the step of its (wrapped) optimizer. The loss is the one it would log.

    Args:
        trainer: whose training has begun: model, optimizer and state are ready.
        seed: seed of data order and dropout.
        ranks: the processes that train together.
    """

    def __init__(
        self,
        trainer: Trainer,
        *,
        seed: int = 0,
        stateful: Sequence[Any] = (),
        ranks: Ranks = ALONE,
    ) -> None:
        args, accelerator = trainer.args, trainer.accelerator
        super().__init__(
            trainer.model_wrapped,
            unwrapped(trainer.optimizer),
            None,
            _seeded(seed, lambda: Updates(trainer)),
            clip_grad_norm=args.max_grad_norm or None,
            autocast=accelerator.autocast if accelerator.native_amp else None,
            grad_scaler=accelerator.scaler,
            seed=seed,
            stateful=stateful,
            vectorise=False,  # a trainer's own step trains one run at a time
            ranks=ranks,
        )
        # A subclass may hold a loss, centres, counters: whatever is not the trainer's own.
        self._beside = (*self._beside, trainer)
        data = (trainer.train_dataset, trainer.eval_dataset)
        self._apart = (*data, trainer.args, trainer.optimizer)
        self._trainer = trainer
        self._update = self._made_by_trainer

    def _made_by_trainer(self, updates: BatchStream) -> float:
        """Make the next update as the trainer's loop does; return the loss it would log."""
        trainer, model, accelerator = self._trainer, self._model, self._trainer.accelerator
        ((update, _),) = self._ranks.group(updates.group(1))
        model.zero_grad()
        trainer.current_gradient_accumulation_steps = len(update.batches)
        losses = []
        for left, inputs in zip(range(len(update.batches))[::-1], update.batches, strict=True):
            accelerator.sync_gradients = left == 0
            with self._ranks.micro_batch(left == 0), self._meeting_before_backward(left == 0):
                losses.append(trainer.training_step(model, inputs, update.items))
        if trainer.args.max_grad_norm:
            accelerator.clip_grad_norm_(model.parameters(), trainer.args.max_grad_norm)
        trainer.optimizer.step()
        model.zero_grad()
        return self._ranks.mean(float(sum(losses)))

    @contextmanager
    def _meeting_before_backward(self, last: bool) -> Iterator[None]:
        """Let all processes come to the backward pass before any begins it."""
        if not self._ranks.many:
            yield
            return
        backward = self._trainer.accelerator.backward

        def when_all_are_here(loss: Tensor, **options: Any) -> None:
            self._ranks.ready(last)
            backward(loss, **options)

        with _replaced_backward(self._trainer, when_all_are_here):
            yield


class EvaluatedTrainerTrainable(TrainerTrainable):
    """A :class:`TrainerTrainable` with an ``eval_dataset``."""

    def __init__(self, trainer: Trainer, *, seed: int = 0, **options: Any) -> None:
        super().__init__(trainer, seed=seed, **options)
        self._loaders = [trainer.get_eval_dataloader(name) for name in _eval_names(trainer)]

    def evaluate(self) -> HeldOut:
        """Return the trainer's own evaluation loss; of several data sets, per example."""
        return self._try_to_evaluate(self._measured)

    def _measured(self) -> HeldOut:
        trainer = self._trainer
        random = read_random_state()
        total = weight = 0.0
        try:
            with self._evaluating():
                for loader in self._loaders:
                    found = trainer.evaluation_loop(loader, "Evaluation", prediction_loss_only=True)
                    if "eval_loss" not in found.metrics:
                        raise InvalidArgument(
                            "eval_dataset: got no loss from it. Are its labels missing? Give "
                            "examples with labels, or search without eval_dataset."
                        )
                    total += found.metrics["eval_loss"] * found.num_samples
                    weight += found.num_samples
        finally:
            random.restore()
        return HeldOut(self._ranks.mean(total / weight if weight else math.nan))


def trainer_trainable(trainer: Trainer, **options: Any) -> TrainerTrainable:
    """Return a trainable that can evaluate when there is an ``eval_dataset``."""
    kind = TrainerTrainable if trainer.eval_dataset is None else EvaluatedTrainerTrainable
    return kind(trainer, **options)


@contextmanager
def _replaced_backward(trainer: Trainer, backward: Callable[..., None]) -> Iterator[None]:
    """Put a function in the place of ``accelerator.backward`` for a while."""
    own = vars(trainer.accelerator)
    before = own.get("backward")
    own["backward"] = backward
    try:
        yield
    finally:
        if before is None:
            del own["backward"]
        else:
            own["backward"] = before


def _seeded(seed: int, make: Callable[[], Updates]) -> Updates:
    """Make a loader, which may derive its order from the random state that it is made in."""
    before = read_random_state()
    seed_everything(seed)
    try:
        return make()
    finally:
        before.restore()


def _eval_names(trainer: Trainer) -> list[str | None]:
    return list(trainer.eval_dataset) if isinstance(trainer.eval_dataset, dict) else [None]
