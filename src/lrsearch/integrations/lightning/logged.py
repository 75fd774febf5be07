"""``self.log`` during a search: it works, logs nothing, and tells the held-out loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lrsearch.errors import InvalidArgument
from lrsearch.integrations.lightning.data import Item

__all__ = ["Logged"]


class Logged:
    """Takes what a module logs, so that no logger, progress bar or callback sees it.

    Args:
        monitor: under which name ``validation_step`` logs the loss; ``None``: what it returns,
            or else what it logs as ``val_loss``.
    """

    def __init__(self, monitor: str | None = None) -> None:
        self._monitor = monitor
        self._values: dict[str, Any] = {}

    @contextmanager
    def instead_of_logging(self, module: Any) -> Iterator[None]:
        """Take the place of ``log`` in the module and the modules of Lightning inside it."""
        modules = [one for one in module.modules() if callable(getattr(one, "log_dict", None))]
        before = [vars(one).get("log") for one in modules]
        for one in modules:
            vars(one)["log"] = self._log
        try:
            yield
        finally:
            for one, log in zip(modules, before, strict=True):
                vars(one).pop("log", None)
                if log is not None:
                    vars(one)["log"] = log

    def held_out_loss(self, trainer: Any, item: Item) -> Tensor:
        """Run ``validation_step`` on a batch and return its loss.

        Raises:
            InvalidArgument: the loss is neither returned nor logged.
        """
        self._values.clear()
        arguments = [item.batch, item.index] + ([] if item.loader is None else [item.loader])
        output = trainer.strategy.validation_step(*arguments)
        loss = output.get("loss") if isinstance(output, Mapping) else output
        if self._monitor is not None:
            loss = self._values.get(self._monitor)
        elif loss is None:
            loss = self._values.get("val_loss")
        if isinstance(loss, (int, float)):
            loss = torch.tensor(float(loss))
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise InvalidArgument.of(
                "monitor",
                self._monitor,
                f"a name that validation_step logs the loss under: {sorted(self._values)}",
                "Or return the loss from validation_step, or pass validate=False to rank by the "
                "training loss.",
            )
        return loss

    def _log(self, name: str, value: Any, *_: Any, **__: Any) -> None:
        self._values[name] = value
