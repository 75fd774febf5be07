"""Put a learning rate into a trainer: its arguments, and what was made from them already."""

from __future__ import annotations

from transformers import Trainer

from lrsearch.errors import InvalidArgument, NoLearningRateFound
from lrsearch.result import Result

__all__ = ["apply_result"]


def apply_result(result: Result, trainer: Trainer) -> None:
    """Set ``args.learning_rate``, and the optimizer and scheduler where they exist already.

    ``result.apply(trainer)`` calls this.

    Raises:
        InvalidArgument: ``trainer`` is no ``transformers.Trainer``.
        NoLearningRateFound: there is no learning rate to apply.
    """
    if not isinstance(trainer, Trainer):
        raise InvalidArgument.of("trainer", trainer, "a transformers.Trainer")
    if not result.status.found:
        raise NoLearningRateFound(f"There is no learning rate to use: {result.why}", result)
    if trainer.optimizer is not None:
        result.apply(trainer.optimizer, trainer.lr_scheduler)
    trainer.args.learning_rate = result.lr
