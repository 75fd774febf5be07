"""Put a learning rate into a trainer: its arguments, and what was made from them already."""

from __future__ import annotations

import math
from typing import Any

from transformers import Trainer

from lrsearch.errors import InvalidArgument, NoLearningRateFound
from lrsearch.integrations.source import line_that_sets
from lrsearch.integrations.transformers.beginning import begin_training
from lrsearch.integrations.transformers.checks import check_trainer
from lrsearch.integrations.transformers.kept import left_as_it_was
from lrsearch.integrations.transformers.planned import planned_run
from lrsearch.pytorch.schedulers import Move, applied, follows
from lrsearch.result import Result

__all__ = ["apply_result"]


def apply_result(result: Result, trainer: Trainer) -> None:
    """Set ``args.learning_rate``, and the optimizer and scheduler where they exist already.

    ``result.apply(trainer)`` calls this. Outside of a training the trainer then begins one, as
    for a search, and leaves it again, to see that its run peaks at the answer.

    Raises:
        InvalidArgument: ``trainer`` is no ``transformers.Trainer``, or its run would not use the
            learning rate; the message names the line that sets it. Nothing was set.
        NoLearningRateFound: there is no learning rate to apply.
    """
    if not isinstance(trainer, Trainer):
        raise InvalidArgument.of("trainer", trainer, "a transformers.Trainer")
    if not result.status.found:
        raise NoLearningRateFound(f"There is no learning rate to use: {result.why}", result)
    over_base = result.settings.get("peak_over_base")
    rate = result.lr / over_base if isinstance(over_base, float) else result.lr
    move = Move(())
    if trainer.optimizer is not None:
        schedulers = [] if trainer.lr_scheduler is None else [trainer.lr_scheduler]
        move = applied(
            result.group_lrs,
            trainer.optimizer,
            schedulers,
            searched=result.settings,
            all_given=False,
        )
    if not trainer.is_in_train:
        _check_run(result.lr, rate, move, trainer)
    move.do()
    trainer.args.learning_rate = rate


def _check_run(lr: float, rate: float, move: Move, trainer: Trainer) -> None:
    """Raise if the training that begins with these settings would peak at another rate."""
    try:
        check_trainer(trainer)
    except InvalidArgument:
        return  # cannot be begun here, so it was not searched here either
    with left_as_it_was(trainer):
        move.do()
        try:
            trainer.args.learning_rate = rate
            begin_training(trainer)
            peak = planned_run(trainer).peak
            if math.isclose(peak, lr, rel_tol=1e-3):
                return
            own = () if follows(trainer.lr_scheduler) else (trainer.lr_scheduler,)
        finally:
            move.undo()
    raise InvalidArgument(
        f"apply: the training would peak at a learning rate of {peak:.3g}, not at the {lr:.3g} "
        "that was found, since it does not come from args.learning_rate. It is set in "
        f"{line_that_sets(_maker(trainer), own)}. Let it use args.learning_rate, or write "
        "result.lr there. Nothing was set."
    )


def _maker(trainer: Trainer) -> Any:
    """Return the method of the user's that makes the optimizer, or else the scheduler."""
    kind = type(trainer)
    for name in ("create_optimizer", "create_scheduler", "create_optimizer_and_scheduler"):
        if getattr(kind, name) is not getattr(Trainer, name):
            return getattr(kind, name)
    return kind.create_optimizer
