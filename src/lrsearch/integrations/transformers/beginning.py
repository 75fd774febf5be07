"""Everything that ``trainer.train()`` does before its first update, by the trainer itself."""

from __future__ import annotations

from typing import Any

from transformers import Trainer, TrainerCallback

from lrsearch.errors import InvalidArgument, Words

__all__ = ["begin_training"]


class _Begun(BaseException):
    """Leaves ``train()``; not an ``Exception``, so that nobody in between takes it for one."""


class _LeaveAtTheBeginning(TrainerCallback):  # type: ignore[misc]
    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        raise _Begun


def begin_training(trainer: Trainer) -> None:
    """Let the trainer prepare its training: model, optimizer, scheduler, and its state.

    Its callbacks are not called, now or later: they are taken off.

    Raises:
        InvalidArgument: the trainer's ``train`` does not train as transformers' does.
    """
    handler = trainer.callback_handler
    handler.callbacks = [_LeaveAtTheBeginning()]
    try:
        trainer.train()
    except _Begun:
        handler.callbacks = []
        return
    raise InvalidArgument.of(
        "trainer",
        Words(f"a {type(trainer).__name__} whose train() never calls on_train_begin"),
        "one whose train() calls that of transformers.Trainer",
        "Use lrsearch.find_lr with your own compute_loss instead.",
    )
