"""The search as a callback: ``trainer.train()`` begins by looking for its learning rate."""

from __future__ import annotations

import logging
from typing import Any

from transformers import Trainer, TrainerCallback

from lrsearch.integrations.transformers.find import find_lr_for
from lrsearch.result import Result

__all__ = ["LearningRateSearchCallback"]

_log = logging.getLogger(__name__)


class LearningRateSearchCallback(TrainerCallback):  # type: ignore[misc]
    """Search when training begins, apply the answer, and go on with it.

    The training is then the one that ``args.learning_rate = result.lr`` would have given. Where
    there is no answer, the error ends ``train()``; with ``throw=False`` training goes on with the
    learning rate it had, and ``result.status`` says why.

    Args:
        trainer: the trainer it is added to.
        options: those of :func:`~lrsearch.integrations.transformers.find_lr_for`.

    Attributes:
        result: what was found by the last training, ``None`` before the first.

    Example:
        >>> trainer.add_callback(LearningRateSearchCallback(trainer))  # doctest: +SKIP
        >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(self, trainer: Trainer, **options: Any) -> None:
        self.result: Result | None = None
        self._trainer = trainer
        self._options = options

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Search, and apply what was found."""
        self.result = find_lr_for(self._trainer, **self._options)
        if self.result.status.found:
            self.result.apply(self._trainer)
            _log.info("learning rate %.3g: %s", self.result.lr, self.result.why)
