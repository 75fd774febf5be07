"""A search inside ``trainer.fit``: at its start, in the middle, or both."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from lrsearch.core.one_search import one_search
from lrsearch.errors import InvalidArgument
from lrsearch.integrations.lightning.apply import apply_result
from lrsearch.integrations.lightning.checks import check_strategy
from lrsearch.integrations.lightning.package import installed
from lrsearch.integrations.lightning.session import Request, as_it_was, search_here
from lrsearch.result import Result

__all__ = ["LearningRateSearch"]

_log = logging.getLogger(__name__)


class LearningRateSearch(installed().Callback):  # type: ignore[misc]
    """Search the learning rate while ``fit`` is running, and go on as if nothing had been.

    Args:
        at_steps: updates before which to search.
        at_epochs: epochs before which to search.
        apply: whether to train on with what was found, see ``apply_result``.
        options: as in :func:`find_lr_for`: ``optimizer``, ``method``, ``train_steps``,
            ``schedule``, ``warmup_steps``, ``monitor``, ``validate``, ``seed``,
            ``progress``, ``throw``, which is false here: a search without an answer is no
            reason to end the training, and its result says why. The planned run is what is
            left of the run.

    Attributes:
        results: what was found before which update.

    Raises:
        InvalidArgument: an update or epoch is negative.

    Example:
        >>> search = LearningRateSearch(at_epochs=[0, 10], method="range", apply=True)
        >>> search.results
        {}
    """

    def __init__(
        self,
        at_steps: Iterable[int] = (),
        *,
        at_epochs: Iterable[int] = (0,),
        apply: bool = False,
        **options: Any,
    ) -> None:
        super().__init__()
        self._at_steps = frozenset(at_steps)
        self._at_epochs = frozenset(at_epochs)
        for name, values in (("at_steps", self._at_steps), ("at_epochs", self._at_epochs)):
            if any(value < 0 for value in values):
                raise InvalidArgument.of(name, sorted(values), "numbers from 0")
        self._apply = apply
        self._request = Request(**{"throw": False, **options})
        self.results: dict[int, Result] = {}

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        """Search when it is time; called by Lightning."""
        step = trainer.global_step
        now = step in self._at_steps or (
            batch_idx == 0 and trainer.current_epoch in self._at_epochs
        )
        if not now or step in self.results or batch_idx % trainer.accumulate_grad_batches:
            return
        check_strategy(trainer)
        with one_search(ready=False), as_it_was(trainer, pl_module, trained=False):
            found = search_here(trainer, self._request)
        self.results[step] = found
        if not found.status.found:
            _log.warning("no learning rate found before update %d: %s", step, found.why)
        elif self._apply:
            apply_result(found, pl_module)
